//! What a tokenizer may cost. A few hundred bytes of `tokenizer.json` can ask for work that never ends: replacements that
//! double a text forty times, words of any length for a search that takes the cube of it. Here its length is bounded
//! before any text is read.

use std::collections::BTreeSet;

use serde_json::Value;
use tokenizers::{ModelWrapper, Tokenizer};

/// Largest factor by which texts may grow, and largest text that may come of it.
const MOST_GROWTH: f64 = 65_536.0;
const MOST_BYTES: f64 = (64 << 20) as f64;
/// Longest word that WordPiece searches. BERT's own limit is 100.
const LONGEST_WORD: usize = 1000;

/// How long a text can become before it is cut into tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Growth {
    /// Bytes that are put before it.
    added: f64,
    factor: f64,
    /// What grows it most, for messages.
    by: String,
}

/// Reads a tokenizer's steps; refuses what no text could be given to.
///
/// # Errors
/// Steps that can make a text more than 65,536 times as long, or words without a limit; names the step.
pub fn bounds(tokenizer: &Tokenizer) -> Result<Growth, String> {
    if let ModelWrapper::WordPiece(model) = tokenizer.get_model()
        && model.max_input_chars_per_word > LONGEST_WORD
    {
        return Err(format!(
            "its model's max_input_chars_per_word is {}, and up to {LONGEST_WORD} can be served; BERT has 100",
            model.max_input_chars_per_word
        ));
    }
    let value = |step: Result<Value, serde_json::Error>| step.map_err(|error| error.to_string());
    let mut sum = Sum {
        growth: Growth { added: 0.0, factor: 1.0, by: String::new() },
        largest: 1.0,
        seen: BTreeSet::new(),
    };
    sum.add(&value(serde_json::to_value(tokenizer.get_normalizer()))?);
    sum.add(&value(serde_json::to_value(tokenizer.get_pre_tokenizer()))?);
    let growth = sum.growth;
    if growth.factor > MOST_GROWTH || growth.added > MOST_BYTES {
        return Err(format!(
            "its normalizers can make a text {:.1e} times as long ({} among them)",
            growth.factor, growth.by
        ));
    }
    Ok(growth)
}

impl Growth {
    /// # Errors
    /// When `text` could become too long; says how long.
    pub fn check(&self, text: &str) -> Result<(), String> {
        let most = (text.len() as f64 + self.added) * self.factor;
        // A text that no step makes longer is as long as its file made it.
        if most <= MOST_BYTES || (self.factor == 1.0 && self.added == 0.0) {
            return Ok(());
        }
        Err(format!(
            "the text has {} bytes, of which the tokenizer's normalizers ({} among them) could make {most:.1e}; cut it",
            text.len(),
            self.by
        ))
    }
}

struct Sum {
    growth: Growth,
    /// Largest factor so far, of the step that messages name.
    largest: f64,
    /// Kinds of steps that were met. The first of a kind that every model may have counts nothing: alone it is bounded.
    seen: BTreeSet<String>,
}

impl Sum {
    fn add(&mut self, step: &Value) {
        for list in ["normalizers", "pretokenizers"] {
            if let Some(steps) = step.get(list).and_then(Value::as_array) {
                return steps.iter().for_each(|step| self.add(step));
            }
        }
        let kind = step.get("type").and_then(Value::as_str).unwrap_or("");
        let text = |key: &str| step.get(key).and_then(Value::as_str);
        let (factor, name) = match kind {
            "Replace" => {
                let content = text("content").unwrap_or("");
                let pattern = step.get("pattern");
                let found = pattern.and_then(|pattern| pattern.get("String")?.as_str());
                let factor = match found {
                    Some(found) if !found.is_empty() => {
                        (content.len() as f64 / found.len() as f64).max(1.0)
                    }
                    // A pattern may match nothing, between any two letters.
                    _ => 1.0 + content.len() as f64,
                };
                (factor, format!("Replace by {}", shortened(content)))
            }
            "Prepend" => {
                let before = text("prepend").unwrap_or("").len() as f64;
                self.growth.added += before;
                (1.0, kind.to_string())
            }
            "Precompiled" => {
                let longest = longest_entry(text("precompiled_charsmap").unwrap_or(""));
                (self.once(kind, longest as f64, 64.0), kind.to_string())
            }
            // Most bytes that one byte of UTF-8 becomes.
            "NFKC" | "NFKD" => (self.once(kind, 11.0, 11.0), kind.to_string()),
            "NFC" | "NFD" | "BertNormalizer" | "Metaspace" => {
                (self.once(kind, 4.0, 4.0), kind.to_string())
            }
            "Lowercase" | "ByteLevel" => (self.once(kind, 2.0, 2.0), kind.to_string()),
            _ => (1.0, kind.to_string()),
        };
        self.growth.factor *= factor;
        if factor > self.largest || (self.growth.by.is_empty() && !kind.is_empty()) {
            (self.largest, self.growth.by) = (factor, name);
        }
    }

    /// A factor of up to `usual` is nothing where it is the first of its kind.
    fn once(&mut self, kind: &str, factor: f64, usual: f64) -> f64 {
        let first = self.seen.insert(kind.to_string());
        if first && factor <= usual { 1.0 } else { factor }
    }
}

fn shortened(text: &str) -> String {
    let start: String = text.chars().take(20).collect();
    format!("{start:?}")
}

/// Bytes of the longest replacement in a character map of SentencePiece: the pieces between zeros, behind a table whose
/// length comes first. All of a map that cannot be read.
fn longest_entry(base64: &str) -> usize {
    let bytes = decoded(base64);
    let table = bytes.first_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length) as usize);
    let texts = bytes.get(table.saturating_add(4)..).unwrap_or(&bytes);
    texts.split(|&byte| byte == 0).map(<[u8]>::len).max().unwrap_or(0)
}

/// The bytes that base64 stands for, up to the padding.
fn decoded(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits: Vec<u8> = text.bytes().map_while(digit).collect();
    let word = |four: &[u8]| {
        four.iter().fold(0u32, |word, &digit| word << 6 | u32::from(digit))
            << (6 * (4 - four.len()))
    };
    digits.chunks(4).flat_map(|four| word(four).to_be_bytes()[1..four.len()].to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokenizers::NormalizerWrapper;

    fn growth(normalizer: Value) -> Result<Growth, String> {
        let normalizer: NormalizerWrapper = serde_json::from_value(normalizer).unwrap();
        let mut tokenizer = Tokenizer::new(tokenizers::models::wordpiece::WordPiece::default());
        tokenizer.with_normalizer(Some(normalizer)).unwrap();
        bounds(&tokenizer)
    }

    fn chain(step: Value, count: usize) -> Value {
        json!({"type": "Sequence", "normalizers": vec![step; count]})
    }

    fn replace(pattern: Value, content: &str) -> Value {
        json!({"type": "Replace", "pattern": pattern, "content": content})
    }

    #[test]
    fn chains_that_grow_a_text_without_bound_are_refused_by_name() {
        for (step, name) in [
            (replace(json!({"String": "o"}), "oo"), "Replace by \"oo\""),
            (replace(json!({"Regex": "o"}), "oo"), "Replace by \"oo\""),
            (replace(json!({"Regex": ""}), "o"), "Replace by \"o\""),
            (json!({"type": "ByteLevel"}), "ByteLevel"),
            (chain(replace(json!({"String": "ab"}), "abab"), 3), "Replace by \"abab\""),
        ] {
            let error = growth(chain(step, 40)).unwrap_err();
            assert!(error.contains(name) && error.contains("times as long"), "{error}");
        }
    }

    #[test]
    fn what_models_have_costs_nothing() {
        let bert = json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true});
        let albert = json!({"type": "Sequence", "normalizers": [
            replace(json!({"String": "``"}), "\""), replace(json!({"String": "''"}), "\""),
            {"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"},
        ]});
        for normalizer in [bert, albert, json!({"type": "NFC"})] {
            assert_eq!(growth(normalizer.clone()).unwrap().factor, 1.0, "{normalizer}");
        }
        let spaces = json!({"type": "Sequence", "normalizers": [
            {"type": "NFKC"}, replace(json!({"Regex": " {2,}"}), " "), {"type": "Prepend", "prepend": "▁"},
            replace(json!({"String": " "}), "▁"),
        ]});
        let growth = growth(spaces).unwrap();
        assert_eq!(growth.factor, 6.0);
        assert!(growth.check(&"x".repeat(1 << 20)).is_ok());
        let error = growth.check(&"x".repeat(20 << 20)).unwrap_err();
        assert!(error.contains("20971520 bytes") && error.contains("Replace"), "{error}");
    }

    #[test]
    fn words_without_a_limit_are_refused() {
        let model = tokenizers::models::wordpiece::WordPiece::builder()
            .max_input_chars_per_word(usize::MAX);
        let error = bounds(&Tokenizer::new(model.build().unwrap())).unwrap_err();
        assert!(error.contains("max_input_chars_per_word is 18446744073709551615"), "{error}");
    }

    #[test]
    fn the_longest_entry_of_a_character_map_is_found() {
        // A table of four bytes; then "ab", "c" and "defg".
        assert_eq!(decoded("BAAAAAAAAABhYgBjAGRlZmcA"), b"\x04\0\0\0\0\0\0\0ab\0c\0defg\0");
        assert_eq!(longest_entry("BAAAAAAAAABhYgBjAGRlZmcA"), 4);
        assert_eq!(longest_entry(""), 0);
        assert_eq!(decoded("YWI="), b"ab");
        assert_eq!(decoded("YQ=="), b"a");
    }
}
