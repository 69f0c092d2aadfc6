//! Ids and offsets of two thousand hard lines, and ids and types of pairs, in every configuration of the fixtures that
//! `scripts/checkpoints.py` generates with transformers. A digest per line shows which line differs.

use super::*;
use crate::formats::model_files::{MERGES, TOKENIZER, TOKENIZER_CONFIG, VOCAB_JSON, VOCAB_TXT};
use safetensors::SafeTensors;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::PathBuf;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints")
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn write(path: &Path, value: &Value) {
    fs::write(path, value.to_string()).unwrap();
}

/// A model folder of a configuration.
fn lay_out(entry: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let base = root().join(entry["base"].as_str().unwrap());
    let mut written = read(&base.join(TOKENIZER));
    for (key, value) in entry["tokenizer"].as_object().unwrap() {
        written[key] = value.clone();
    }
    let vocab = &written["model"]["vocab"];
    match entry["instead"].as_str() {
        Some(VOCAB_TXT) => {
            let mut tokens: Vec<(&String, u64)> = vocab
                .as_object()
                .unwrap()
                .iter()
                .map(|(token, id)| (token, id.as_u64().unwrap()))
                .collect();
            tokens.sort_by_key(|(_, id)| *id);
            let lines = tokens.iter().map(|(token, _)| format!("{token}\n"));
            fs::write(at(VOCAB_TXT), lines.collect::<String>()).unwrap();
        }
        Some(_) => {
            write(&at(VOCAB_JSON), vocab);
            let mut merges = "#version: 0.2\n".to_owned();
            for pair in written["model"]["merges"].as_array().unwrap() {
                let part = |i: usize| pair[i].as_str().unwrap();
                merges += &format!("{} {}\n", part(0), part(1));
            }
            fs::write(at(MERGES), merges).unwrap();
        }
        None => write(&at(TOKENIZER), &written),
    }
    if !entry["tokenizer_config"].is_null() {
        write(&at(TOKENIZER_CONFIG), &entry["tokenizer_config"]);
    }
    write(&at("config.json"), &json!({"model_type": entry["model_type"]}));
    folder
}

fn tokenizer(entry: &Value) -> TextTokenizer {
    let vocab_size = entry["vocab_size"].as_u64().unwrap() as usize;
    let type_rows = if entry["model_type"] == "bert" { 2 } else { 1 };
    let options = TokenizerOptions {
        vocab_size,
        type_rows,
        max_len: 10_000,
        positions: Positions { offset: 0 },
    };
    TextTokenizer::load(lay_out(entry).path(), options).unwrap()
}

fn fnv(numbers: impl IntoIterator<Item = u32>) -> u32 {
    numbers
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn digests(file: &SafeTensors<'_>, name: &str) -> Vec<u32> {
    let tensor = file.tensor(name).unwrap();
    let (words, _) = tensor.data().as_chunks::<4>();
    words.iter().map(|word| u32::from_le_bytes(*word)).collect()
}

fn encode_row(tokenizer: &TextTokenizer, text: &str, pair: Option<&str>) -> Encoded {
    let row =
        Row { line: 1, text: text.to_owned(), text_pair: pair.map(str::to_owned), label: None };
    tokenizer.encode(&[row], &|_| ()).unwrap()
}

#[test]
fn every_configuration_gives_the_ids_offsets_and_types_of_transformers() {
    let texts = fs::read_to_string(root().join("texts.jsonl")).unwrap();
    // Not `lines()`: a text may contain other line-ending characters.
    let texts: Vec<String> =
        texts.split_terminator('\n').map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(texts.len(), 2000);
    let bytes = fs::read(root().join("digests.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let entries = read(&root().join("configurations.json"));
    let entries = entries.as_array().unwrap();
    assert!(entries.len() >= 26);
    let mut wrong: Map<String, Value> = Map::new();
    for entry in entries {
        let name = entry["name"].as_str().unwrap();
        let tokenizer = tokenizer(entry);
        let mut lines = Vec::new();
        for (i, (text, theirs)) in
            texts.iter().zip(digests(&file, &format!("{name}.texts"))).enumerate()
        {
            let ours = tokenizer.inner.encode_char_offsets(text.as_str(), true).unwrap();
            let spans = ours.get_ids().iter().zip(ours.get_offsets());
            let numbers = spans.flat_map(|(&id, &(start, end))| [id, start as u32, end as u32]);
            if let Some(whole) = entry["ids"].get(i.to_string()) {
                let whole: Vec<u32> = serde_json::from_value(whole.clone()).unwrap();
                assert_eq!(ours.get_ids(), whole, "{name}, line {i}: {text:?}");
            }
            // What training reads: the same ids.
            let read = encode_row(&tokenizer, text, None).ids;
            if fnv(numbers) != theirs || read != ours.get_ids() {
                lines.push(json!([i, text]));
            }
        }
        for (i, theirs) in digests(&file, &format!("{name}.pairs")).into_iter().enumerate() {
            let ours = encode_row(&tokenizer, &texts[i], Some(&texts[i + 1]));
            let type_of = |at: usize| u32::from(at >= ours.type_zero[0] as usize);
            let ids = ours.ids.iter().enumerate();
            if fnv(ids.flat_map(|(at, &id)| [id, type_of(at)])) != theirs {
                lines.push(json!(["pair", i, texts[i], texts[i + 1]]));
            }
        }
        if !lines.is_empty() {
            let count = lines.len();
            lines.truncate(3);
            wrong.insert(name.to_owned(), json!({"count": count, "first": lines}));
        }
    }
    assert!(wrong.is_empty(), "{:#}", Value::from(wrong));
}

/// A configuration is only worth having if it differs from the others of its vocabulary somewhere.
#[test]
fn the_configurations_differ() {
    let bytes = fs::read(root().join("digests.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let of = |name: &str| digests(&file, &format!("{name}.texts"));
    for (a, b) in [
        ("bert-uncased", "bert-cased-by-config"),
        ("bert-uncased", "bert-keeps-accents"),
        ("bert-cased-by-config", "bert-cased-strips-accents"),
        ("bert-uncased", "bert-joins-chinese"),
        ("bert-uncased", "bert-as-written"),
        ("bert-uncased", "bert-splits-specials"),
        ("roberta", "roberta-prefix-space"),
        ("xlm-roberta", "xlm-roberta-no-space"),
        ("xlm-roberta", "camembert"),
    ] {
        assert_ne!(of(a), of(b), "{a} and {b}");
    }
    for (a, b) in [
        ("bert-uncased", "bert-uncased-by-default"),
        ("bert-uncased", "bert-own-normalizer"),
        ("roberta", "roberta-no-space-by-config"),
    ] {
        assert_eq!(of(a), of(b), "{a} and {b}");
    }
}

/// A reading that another file of the folder, or another version of transformers, would not share is reported; no other
/// is.
#[test]
fn what_was_decided_between_files_is_said() {
    let entries = read(&root().join("configurations.json"));
    let said = |name: &str| {
        let entry = entries.as_array().unwrap().iter();
        let entry = entry.clone().find(|entry| entry["name"] == name).unwrap();
        tokenizer(entry).notes().join("\n")
    };
    for name in [
        "bert-uncased",
        "bert-splits-specials",
        "bert-vocab-txt-cased",
        "bert-added-token",
        "roberta",
        "roberta-vocab-json",
        "xlm-roberta",
        "xlm-roberta-converted",
        "bert-with-xlm-roberta",
        "camembert",
    ] {
        assert_eq!(said(name), "", "{name}");
    }
    for (name, part) in [
        ("bert-cased-by-config", "another normalizer than transformers' BertTokenizer"),
        ("bert-uncased-by-default", "another normalizer than transformers' BertTokenizer"),
        ("bert-own-normalizer", "another normalizer than transformers' BertTokenizer"),
        ("bert-without-types", "no token types"),
        ("bert-as-written", "no token types"),
        ("roberta-prefix-space", "another pre-tokenizer than transformers' RobertaTokenizer"),
        ("roberta-as-written", "version 4 used that of"),
        ("xlm-roberta-no-space", "another pre-tokenizer than transformers' XLMRobertaTokenizer"),
    ] {
        assert!(said(name).contains(part), "{name}: {}", said(name));
    }
}
