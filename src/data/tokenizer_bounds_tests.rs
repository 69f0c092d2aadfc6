//! Limits on a tokenizer's cost: steps that grow a text, long texts, long words.

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
    assert!(growth.most(1 << 20).is_ok());
    let error = growth.most(20 << 20).unwrap_err();
    assert!(error.contains("20971520 bytes") && error.contains("Replace"), "{error}");
}

#[test]
fn texts_are_held_to_a_length_before_and_after_the_normalizer() {
    let mut tokenizer = Tokenizer::new(tokenizers::models::wordpiece::WordPiece::default());
    let growth = bounds(&tokenizer).unwrap();
    assert!(growth.admit("a novel", &tokenizer).unwrap().is_none());
    assert!(growth.admit(&"a ".repeat(1 << 20), &tokenizer).unwrap().is_some());
    let error = growth.admit(&"a ".repeat(3 << 20), &tokenizer).unwrap_err();
    assert!(error.contains("6291456 bytes; the limit is 4 MiB"), "{error}");
    // Each letter becomes eighteen.
    let step: NormalizerWrapper = serde_json::from_value(json!({"type": "NFKC"})).unwrap();
    tokenizer.with_normalizer(Some(step)).unwrap();
    let growth = bounds(&tokenizer).unwrap();
    let error = growth.admit(&"\u{fdfa}".repeat(1 << 20), &tokenizer).unwrap_err();
    assert!(error.contains("the text has 3145728 bytes") && error.contains("turn into"), "{error}");
    assert!(growth.admit(&"\u{fdfa}".repeat(1 << 16), &tokenizer).is_ok());
}

#[test]
fn pieces_of_any_length_are_refused() {
    let model = json!({"type": "Unigram", "vocab": [["<unk>", 0.0], ["a".repeat(2000), -1.0]]});
    let error = pieces(&model).unwrap_err();
    assert!(error.contains("a piece of 2000 bytes (\"aaaa"), "{error}");
}

#[test]
fn words_without_a_limit_are_refused() {
    let model =
        tokenizers::models::wordpiece::WordPiece::builder().max_input_chars_per_word(usize::MAX);
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
