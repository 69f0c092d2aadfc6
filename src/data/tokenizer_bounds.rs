//! Limits on what a tokenizer may cost. A few hundred bytes of `tokenizer.json` can ask for work that never ends:
//! replacements that double a text forty times, or unlimited word lengths for a cubic search. And tokenizing a long
//! text takes some hundred times its length in memory. Here both are bounded before any text is read.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokenizers::{
    ModelWrapper, NormalizedString, Normalizer, NormalizerWrapper, PreTokenizerWrapper, Tokenizer,
};

/// Longest text: more than any novel.
const LONGEST_TEXT: usize = 4 << 20;
/// Largest factor by which texts may grow, and their maximum resulting size: checked for what the steps could do, and
/// for what they did.
const MOST_GROWTH: f64 = 65_536.0;
const MOST_BYTES: f64 = (64 << 20) as f64;
const MOST_NORMAL: usize = 8 << 20;
/// Texts from this size on are tokenized one at a time, so that the memory of one is enough.
const LARGE: f64 = (256 << 10) as f64;
/// Longest word that WordPiece may search, and longest piece that Unigram may try at each position of a text. BERT's
/// own limit is 100; pieces have a few tens.
const LONGEST_WORD: usize = 1000;

/// How long a text can become before it is split into tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Growth {
    /// Bytes prepended to it.
    added: f64,
    factor: f64,
    /// The step with the most growth, for messages.
    by: String,
}

/// Reads a tokenizer's steps; refuses those that are unsafe for any text.
///
/// # Errors
/// Steps that can make a text more than 65,536 times as long, or words without a limit; names the step.
pub fn bounds(tokenizer: &Tokenizer) -> Result<Growth, String> {
    if let ModelWrapper::WordPiece(model) = tokenizer.get_model()
        && model.max_input_chars_per_word > LONGEST_WORD
    {
        return Err(format!(
            "its model's max_input_chars_per_word is {}; the limit is {LONGEST_WORD}, and BERT has 100",
            model.max_input_chars_per_word
        ));
    }
    Growth::of(tokenizer.get_normalizer(), tokenizer.get_pre_tokenizer())
}

/// Checks that a model's pieces can be searched for at each position of a text. Runs before the model is built: the
/// crate stores pieces letter by letter in a tree, and one that is too deep crashes the process.
///
/// # Errors
/// A longer piece, or a longer affix that marks pieces at the start or end of a word; says how long.
pub fn pieces(model: &Value) -> Result<(), String> {
    // Unigram's, with their scores; other models look theirs up.
    let listed = model["vocab"].as_array().into_iter().flatten();
    let listed = listed.filter_map(|entry| entry[0].as_str()).map(|piece| ("piece", piece));
    let marks = ["continuing_subword_prefix", "end_of_word_suffix"];
    let marks = marks.into_iter().filter_map(|key| Some((key, model[key].as_str()?)));
    match listed.chain(marks).find(|(_, piece)| piece.len() > LONGEST_WORD) {
        None => Ok(()),
        Some((what, piece)) => Err(format!(
            "its model has a {what} of {} bytes ({}); the limit is {LONGEST_WORD}",
            piece.len(),
            shortened(piece)
        )),
    }
}

impl Growth {
    /// What these steps do.
    ///
    /// # Errors
    /// They can make a text more than 65,536 times as long; names one of them.
    pub fn of(
        normalizer: Option<&NormalizerWrapper>,
        pre_tokenizer: Option<&PreTokenizerWrapper>,
    ) -> Result<Self, String> {
        let value =
            |step: Result<Value, serde_json::Error>| step.map_err(|error| error.to_string());
        let mut sum = Sum {
            growth: Self { added: 0.0, factor: 1.0, by: String::new() },
            largest: 1.0,
            seen: BTreeSet::new(),
        };
        sum.add(&value(serde_json::to_value(normalizer))?);
        sum.add(&value(serde_json::to_value(pre_tokenizer))?);
        let growth = sum.growth;
        if growth.factor > MOST_GROWTH || growth.added > MOST_BYTES {
            return Err(format!(
                "its normalizers can make a text {:.1e} times as long (including {})",
                growth.factor, growth.by
            ));
        }
        Ok(growth)
    }

    /// The most that this many bytes can become.
    ///
    /// # Errors
    /// A text that is too long; says how long.
    pub fn most(&self, bytes: usize) -> Result<f64, String> {
        let most = (bytes as f64 + self.added) * self.factor;
        if most <= MOST_BYTES {
            return Ok(most);
        }
        Err(format!(
            "{bytes} bytes, which the tokenizer's normalizers (including {}) could turn into {most:.1e}",
            self.by
        ))
    }

    /// Checks that `text` can be tokenized. For a large one the caller keeps the returned guard until that is done.
    ///
    /// # Errors
    /// A text that is too long, or that the tokenizer makes too long; says how long.
    pub fn admit(
        &self,
        text: &str,
        tokenizer: &Tokenizer,
    ) -> Result<Option<MutexGuard<'static, ()>>, String> {
        static ONE_LARGE: Mutex<()> = Mutex::new(());
        if text.len() > LONGEST_TEXT {
            return Err(format!(
                "the text has {} bytes; the limit is {} MiB: cut it",
                text.len(),
                LONGEST_TEXT >> 20
            ));
        }
        let most = self.most(text.len()).map_err(|e| format!("the text has {e}; cut it"))?;
        if most <= LARGE {
            return Ok(None);
        }
        let alone = ONE_LARGE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(normalizer) = tokenizer.get_normalizer() {
            let mut normal = NormalizedString::from(text);
            normalizer.normalize(&mut normal).map_err(|e| e.to_string())?;
            let bytes = normal.get().len();
            if bytes > MOST_NORMAL {
                return Err(format!(
                    "the text has {} bytes, which the tokenizer's normalizers turn into {bytes}; the limit is {} MiB: \
                     cut it",
                    text.len(),
                    MOST_NORMAL >> 20
                ));
            }
        }
        Ok(Some(alone))
    }
}

struct Sum {
    growth: Growth,
    /// Largest factor so far, of the step that messages name.
    largest: f64,
    /// Kinds of steps seen. The first of a kind that any model may have does not count: by itself it is bounded.
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
                    // A pattern may match the empty string between any two letters.
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
            // Most bytes that one byte of UTF-8 can become.
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

    /// A factor of up to `usual` does not count for the first step of its kind.
    fn once(&mut self, kind: &str, factor: f64, usual: f64) -> f64 {
        let first = self.seen.insert(kind.to_string());
        if first && factor <= usual { 1.0 } else { factor }
    }
}

fn shortened(text: &str) -> String {
    let start: String = text.chars().take(20).collect();
    format!("{start:?}")
}

/// Checks a SentencePiece character map against its length: its table is as long as its first bytes claim, and is
/// allocated before it is read.
///
/// # Errors
/// The table is longer than the map.
pub(super) fn check_character_map(base64: &str) -> Result<(), String> {
    let bytes = decoded(base64);
    let said = bytes.first_chunk::<4>().map(|length| u32::from_le_bytes(*length) as usize);
    match said {
        Some(table) if table <= bytes.len() - 4 => Ok(()),
        Some(table) => Err(format!(
            "its precompiled_charsmap claims that {table} bytes of table follow, but {} do",
            bytes.len() - 4
        )),
        None => Err("its precompiled_charsmap is truncated".to_string()),
    }
}

/// Bytes of the longest replacement in a SentencePiece character map: the zero-separated pieces after a table preceded
/// by its length. The whole map if it cannot be read.
fn longest_entry(base64: &str) -> usize {
    let bytes = decoded(base64);
    let table = bytes.first_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length) as usize);
    let texts = bytes.get(table.saturating_add(4)..).unwrap_or(&bytes);
    texts.split(|&byte| byte == 0).map(<[u8]>::len).max().unwrap_or(0)
}

/// Decoded base64, up to the padding.
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
#[path = "tokenizer_bounds_tests.rs"]
mod tests;
