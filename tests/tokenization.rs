//! Tokenization against `transformers`: the parity fixtures hold its result for each text, whole and truncated.

use std::path::{Path, PathBuf};

use bitfit::batch::Labels;
use bitfit::data::{
    ColumnNames, Dataset, Document, LabelUse, Positions, ReadOptions, Row, Table, TextTokenizer,
    TokenizerOptions, WordPlace, word_places,
};
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity").join(name)
}

/// The fixture folders; positions of RoBERTa start at 2.
const FOLDERS: [(&str, u32); 4] = [("bert", 0), ("bert-mean", 0), ("bert-mlm", 0), ("roberta", 2)];

fn tokenizer(folder: &Path, offset: u32, max_len: usize) -> TextTokenizer {
    let config: Value =
        serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let number = |key: &str| config[key].as_u64().unwrap() as usize;
    let positions = Positions { offset };
    let (vocab_size, type_rows) = (number("vocab_size"), number("type_vocab_size"));
    TextTokenizer::load(folder, TokenizerOptions { vocab_size, type_rows, max_len, positions })
        .unwrap()
}

fn numbers(case: &Value, key: &str) -> Vec<u32> {
    serde_json::from_value(case[key].clone()).unwrap()
}

#[test]
fn ids_and_types_are_those_of_transformers() {
    for (name, offset) in FOLDERS {
        let folder = fixture(name);
        let cases: Vec<Value> =
            serde_json::from_slice(&std::fs::read(folder.join("tokenization.json")).unwrap())
                .unwrap();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let rows: Vec<Row> = cases
            .iter()
            .map(|case| Row {
                line: 1,
                text: text(&case["text"]).unwrap(),
                text_pair: text(&case["text_pair"]),
                label: None,
            })
            .collect();
        assert!(rows.len() > 20, "{name}");
        for (max_len, ids, types) in [(10_000, "ids", "type_ids"), (16, "ids_16", "type_ids_16")] {
            let tokenizer = tokenizer(&folder, offset, max_len);
            let (data, counts) = Dataset::build(&rows, Labels::None, &tokenizer, &|_| ()).unwrap();
            let mut cut = 0;
            for (row, case) in cases.iter().enumerate() {
                let batch = data.batch(&[row]);
                assert_eq!(batch.ids, numbers(case, ids), "{name} {max_len}: {case}");
                assert_eq!(batch.type_ids, numbers(case, types), "{name} {max_len}: {case}");
                assert_eq!(batch.positions[0], offset);
                cut += usize::from(numbers(case, "ids").len() > max_len);
            }
            assert_eq!(counts.truncated.texts, cut, "{name} {max_len}");
        }
    }
}

#[test]
fn the_texts_file_of_a_fixture_reads_as_the_tokenized_rows() {
    for (name, _) in FOLDERS {
        let folder = fixture(name);
        let options = ReadOptions {
            label_lists: false,
            format: None,
            columns: ColumnNames::default(),
            label_use: LabelUse::Required,
            trained: None,
        };
        let table = Table::read(&folder.join("texts.tsv"), &options).unwrap();
        let cases: Vec<Value> =
            serde_json::from_slice(&std::fs::read(folder.join("tokenization.json")).unwrap())
                .unwrap();
        let mut seen = 0;
        for case in &cases {
            let Some(row) = case["row"].as_u64() else {
                continue;
            };
            let row = &table.rows[row as usize];
            assert_eq!(Some(row.text.as_str()), case["text"].as_str(), "{name}");
            assert_eq!(
                row.text_pair.as_deref().unwrap_or(""),
                case["text_pair"].as_str().unwrap_or(""),
                "{name}"
            );
            seen += 1;
        }
        assert_eq!(seen, table.rows.len(), "{name}");
    }
}

/// Lists of words, as transformers tokenizes them with `is_split_into_words`.
#[test]
fn words_have_the_ids_and_first_tokens_that_transformers_gives_them() {
    for (name, offset) in [("bert", 0), ("roberta", 2)] {
        let folder = fixture(name);
        let file = std::fs::read(folder.join("words.json")).unwrap();
        let cases: Vec<Value> = serde_json::from_slice(&file).unwrap();
        let tokenizer = tokenizer(&folder, offset, 10_000);
        let words = |case: &Value| serde_json::from_value::<Vec<String>>(case["words"].clone());
        let documents: Vec<Document> =
            cases.iter().map(|case| Document::of_words(&words(case).unwrap())).collect();
        let mut windows = tokenizer.windows(&documents, 0, &|_| ()).unwrap();
        let data = Dataset::of_windows(&mut windows, Labels::None, &tokenizer).unwrap();
        let places = word_places(&documents, &windows);
        assert_eq!(data.len(), cases.len());
        for (i, case) in cases.iter().enumerate() {
            assert_eq!(data.ids(i), numbers(case, "ids"), "{name}: {case}");
            let place = |place: &Option<WordPlace>| place.map(|p| windows.list[i].first + p.token);
            let first: Vec<Option<usize>> = places[i].iter().map(place).collect();
            let expected: Vec<Option<usize>> =
                serde_json::from_value(case["first"].clone()).unwrap();
            assert_eq!(first, expected, "{name}: {case}");
        }
    }
}
