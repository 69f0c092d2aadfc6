//! Checks what a `tokenizer.json` asks the `tokenizers` crate to do before the crate sees it: while reading, the crate
//! allocates sizes that the file names, and runs the normalizers on added tokens.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokenizers::{NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper};

use super::tokenizer_bounds::{Growth, check_character_map, pieces};

/// Most bytes of all added tokens: checkpoints have up to a few thousand short ones.
const MOST_ADDED: usize = 4 << 20;
/// Most values in the description of a step around the model. A character map is one value.
const MOST_PARTS: usize = 50_000;
/// Most special tokens around a text or pair.
const MOST_SPECIALS: usize = 1000;
/// Longest pattern: those of checkpoints have a few hundred letters.
const LONGEST_PATTERN: usize = 2000;
/// What a step other than a template puts around a pair.
const SPECIALS_OF_A_CLASS: usize = 4;

/// Removes the padding and truncation settings, which we never ask the crate to apply; says whether texts are cut at
/// their start.
pub(super) fn take_lengths(written: &mut Map<String, Value>) -> bool {
    written.remove("padding");
    let truncation = written.remove("truncation");
    truncation.is_some_and(|truncation| truncation["direction"] == "Left")
}

/// # Errors
/// More than the file's size explains; says what.
pub(super) fn check(written: &Map<String, Value>, more_tokens: usize) -> Result<(), String> {
    let part = |name: &str| written.get(name).unwrap_or(&Value::Null);
    parts_of_steps(written)?;
    pieces(part("model"))?;
    character_maps(part("normalizer"))?;
    patterns(part("normalizer"))?;
    patterns(part("pre_tokenizer"))?;
    // Unreadable parts are refused, or ignored, elsewhere.
    let normalizer: Option<NormalizerWrapper> = read(part("normalizer"));
    let pre_tokenizer: Option<PreTokenizerWrapper> = read(part("pre_tokenizer"));
    let growth = Growth::of(normalizer.as_ref(), pre_tokenizer.as_ref())?;
    let listed = part("added_tokens").as_array().into_iter().flatten();
    let listed: usize =
        listed.filter_map(|token| token["content"].as_str()).map(str::len).sum::<usize>();
    if listed > MOST_ADDED {
        return Err(format!(
            "the added tokens have {listed} bytes; the limit is {} MiB",
            MOST_ADDED >> 20
        ));
    }
    growth.most(listed + more_tokens).map_err(|e| format!("the added tokens have {e}"))?;
    let Some(form) = read::<PostProcessorWrapper>(part("post_processor")) else {
        return Ok(());
    };
    let form = serde_json::to_value(form).map_err(|e| e.to_string())?;
    for form_of in ["single", "pair"] {
        let specials = specials(&form, form_of)?;
        if specials > MOST_SPECIALS {
            return Err(format!(
                "its post_processor puts {specials} special tokens around a text ({form_of}); the limit is \
                 {MOST_SPECIALS}"
            ));
        }
    }
    Ok(())
}

fn read<T: DeserializeOwned>(part: &Value) -> Option<T> {
    serde_json::from_value(part.clone()).ok()
}

/// Limits the steps around the model to what a person would write.
fn parts_of_steps(written: &Map<String, Value>) -> Result<(), String> {
    for name in ["normalizer", "pre_tokenizer", "post_processor", "decoder"] {
        let parts = written.get(name).map_or(0, parts);
        if parts > MOST_PARTS {
            return Err(format!("its {name} has {parts} parts; the limit is {MOST_PARTS}"));
        }
    }
    Ok(())
}

fn parts(value: &Value) -> usize {
    match value {
        Value::Object(map) => map.values().map(parts).sum::<usize>() + 1,
        Value::Array(list) => list.iter().map(parts).sum::<usize>() + 1,
        _ => 1,
    }
}

/// Refuses patterns with unlimited look-around or backreferences: at each position of a text they may scan all of it.
fn patterns(part: &Value) -> Result<(), String> {
    match part {
        Value::Object(map) => map.iter().try_for_each(|(key, value)| match value.as_str() {
            Some(pattern) if key == "Regex" && pattern.len() > LONGEST_PATTERN => Err(format!(
                "it has a pattern of {} bytes; the limit is {LONGEST_PATTERN}",
                pattern.len()
            )),
            Some(pattern) if key == "Regex" && looks_through_all(pattern) => Err(format!(
                "the pattern {pattern:?} has a lookbehind, an unbounded lookahead or a backreference, whose time \
                 grows with the \
                 square of a text's length"
            )),
            _ => patterns(value),
        }),
        Value::Array(list) => list.iter().try_for_each(patterns),
        _ => Ok(()),
    }
}

fn looks_through_all(pattern: &str) -> bool {
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '\\' {
            continue;
        }
        // A number or a name of a group; any other escape is a letter or a class.
        if rest.next().is_some_and(|c| c.is_ascii_digit() && c != '0' || c == 'k' || c == 'g') {
            return true;
        }
    }
    ["(?<=", "(?<!", "(?P="].into_iter().any(|part| pattern.contains(part))
        || repeats_ahead(pattern)
}

/// Whether a look-ahead contains a repetition.
fn repeats_ahead(pattern: &str) -> bool {
    let (mut groups, mut in_class, mut escaped) = (Vec::new(), false, false);
    for (at, c) in pattern.char_indices() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        let ahead = groups.last() == Some(&true);
        match c {
            '\\' => escaped = true,
            ']' => in_class = false,
            _ if in_class => {}
            '[' => in_class = true,
            '(' => {
                let begins = ["(?=", "(?!"].into_iter().any(|part| pattern[at..].starts_with(part));
                groups.push(ahead || begins);
            }
            ')' => drop(groups.pop()),
            '*' | '+' | '{' if ahead => return true,
            _ => {}
        }
    }
    false
}

fn character_maps(part: &Value) -> Result<(), String> {
    match part {
        Value::Object(map) => map.iter().try_for_each(|(key, value)| match value.as_str() {
            Some(base64) if key == "precompiled_charsmap" => check_character_map(base64),
            _ => character_maps(value),
        }),
        Value::Array(list) => list.iter().try_for_each(character_maps),
        _ => Ok(()),
    }
}

/// How many special tokens a post-processor puts around one text, or a pair.
///
/// # Errors
/// A template that contains a text twice: a sequence of such templates doubles it each time.
fn specials(form: &Value, form_of: &str) -> Result<usize, String> {
    if let Some(steps) = form.get("processors").and_then(Value::as_array) {
        let mut sum = 0usize;
        for step in steps {
            sum = sum.saturating_add(specials(step, form_of)?);
        }
        return Ok(sum);
    }
    let Some(pieces) = form.get(form_of).and_then(Value::as_array) else {
        return Ok(SPECIALS_OF_A_CLASS);
    };
    let (mut sum, mut texts) = (0usize, Vec::new());
    for piece in pieces {
        if let Some(text) = piece.pointer("/Sequence/id") {
            if texts.contains(&text) {
                return Err("its post_processor has a template with a text twice".to_owned());
            }
            texts.push(text);
        }
        let special = piece.pointer("/SpecialToken/id").and_then(Value::as_str);
        let ids = special.and_then(|name| form["special_tokens"].get(name)?.get("ids")?.as_array());
        sum = sum.saturating_add(ids.map_or(0, Vec::len));
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(written: Value) -> String {
        check(written.as_object().unwrap(), 0).unwrap_err()
    }

    #[test]
    fn a_pattern_that_may_look_through_all_of_a_text_at_each_place_is_refused() {
        let of = |pattern: &str| {
            let step = json!({"type": "Replace", "pattern": {"Regex": pattern}, "content": "x"});
            check(json!({"normalizer": step}).as_object().unwrap(), 0)
        };
        let ahead = ["(?=a*b)a", "(?=(a+)+b)c", "x(?!(b|c{2,}))", "(?=[(]a+)"];
        let hostile = ["(?<=a.*)b", "(?<!a+)b", r"(?=(a+))\1+b", r"(?<n>a+)\k<n>b"];
        for hostile in hostile.into_iter().chain(ahead) {
            assert!(of(hostile).unwrap_err().contains("a lookbehind"), "{hostile}");
        }
        // From GPT-2 and its successors.
        for usual in [
            r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\\1",
            " {2,}",
            r"(?=[a+*]\+)b+|(?!a)(b)+",
        ] {
            of(usual).unwrap();
        }
    }

    #[test]
    fn pieces_and_patterns_are_held_to_a_length_before_they_are_read() {
        let unigram = |piece: &str| json!({"model": {"type": "Unigram", "vocab": [[piece, 0.0]]}});
        assert!(refused(unigram(&"a".repeat(200_000))).contains("a piece of 200000 bytes"));
        check(unigram(&"a".repeat(1000)).as_object().unwrap(), 0).unwrap();
        let prefix = json!({"type": "WordPiece", "continuing_subword_prefix": "#".repeat(1001)});
        let error = refused(json!({"model": prefix}));
        assert!(error.contains("continuing_subword_prefix of 1001 bytes"), "{error}");
        let split = json!({"type": "Split", "pattern": {"Regex": "(?=a)".repeat(5000)},
            "behavior": "Isolated", "invert": false});
        assert!(refused(json!({"pre_tokenizer": split})).contains("a pattern of 25000 bytes"));
    }

    #[test]
    fn steps_of_many_parts_and_megabytes_of_added_tokens_are_refused_unread() {
        let steps: Vec<Value> = (0..8000).map(|_| template(2, 1)).collect();
        let form = json!({"type": "Sequence", "processors": steps});
        let error = refused(json!({"post_processor": form}));
        assert!(error.contains("parts"), "{error}");
        let added = json!([{"content": "x".repeat(5 << 20)}]);
        assert!(refused(json!({"added_tokens": added})).contains("4 MiB"));
    }

    fn template(pieces: usize, ids: usize) -> Value {
        let special = json!({"SpecialToken": {"id": "[X]", "type_id": 0}});
        let mut single = vec![special; pieces];
        single.push(json!({"Sequence": {"id": "A", "type_id": 0}}));
        let pair = [single.clone(), vec![json!({"Sequence": {"id": "B", "type_id": 0}})]].concat();
        json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": {
            "[X]": {"id": "[X]", "ids": vec![2; ids], "tokens": vec!["[X]"; ids]}}})
    }

    #[test]
    fn a_short_template_that_asks_for_many_tokens_is_refused() {
        assert_eq!(
            check(json!({"post_processor": template(2, 1)}).as_object().unwrap(), 0),
            Ok(())
        );
        let error = refused(json!({"post_processor": template(1000, 10_000)}));
        assert!(error.contains("puts 10000000 special tokens around a text (single)"), "{error}");
        let step = template(400, 1);
        let row = json!({"type": "Sequence", "processors": [step, step, step]});
        assert!(refused(json!({"post_processor": row})).contains("1200 special tokens"));
        let roberta = json!({"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0],
            "trim_offsets": true, "add_prefix_space": false});
        let row = json!({"type": "Sequence", "processors": vec![roberta; 1000]});
        assert!(refused(json!({"post_processor": row})).contains("4000 special tokens"));
    }

    #[test]
    fn a_template_with_a_text_twice_is_refused() {
        let mut twice = template(1, 1);
        let single = twice["single"].as_array_mut().unwrap();
        single.push(single[1].clone());
        assert!(refused(json!({"post_processor": twice})).contains("a text twice"));
    }

    #[test]
    fn added_tokens_are_held_to_what_normalizers_make_of_them() {
        let double = json!({"type": "Replace", "pattern": {"String": "o"}, "content": "oo"});
        let chain = json!({"type": "Sequence", "normalizers": vec![double; 12]});
        let token = json!({"id": 9, "content": "o".repeat(1 << 15), "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": true, "special": false});
        let written = json!({"normalizer": chain, "added_tokens": [token]});
        assert!(refused(written).contains("the added tokens have 32768 bytes"));
    }

    #[test]
    fn a_character_map_is_held_to_its_length() {
        let map = |base64: &str| {
            let map = json!({"type": "Precompiled", "precompiled_charsmap": base64});
            json!({"normalizer": {"type": "Sequence", "normalizers": [map]}})
        };
        // Four bytes that announce 4 GiB.
        let error = refused(map("/////w=="));
        assert!(error.contains("4294967295 bytes of table follow, but 0 do"), "{error}");
        assert!(refused(map("AAA=")).contains("is truncated"));
        assert_eq!(check(map("BAAAAAAAAABhYgA=").as_object().unwrap(), 0), Ok(()));
    }

    #[test]
    fn padding_and_truncation_never_reach_the_crate() {
        let mut written = json!({"padding": {"strategy": {"Fixed": 1_000_000_000_000_u64}},
            "truncation": {"direction": "Left", "max_length": 8}, "model": {}});
        let written = written.as_object_mut().unwrap();
        assert!(take_lengths(written));
        assert_eq!(written.keys().collect::<Vec<_>>(), ["model"]);
        assert!(!take_lengths(written));
    }
}
