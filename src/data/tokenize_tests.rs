//! Behaviour of the tokenizer around tiny vocabularies. The expected ids are those of transformers' `BertTokenizerFast`
//! and `RobertaTokenizerFast` for the same files (4.57 and 5.23; if a mask follows a space, 5.23).

use super::*;
use crate::data::TextTally;
use serde_json::json;
use tempfile::TempDir;

const BERT: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nfilm\nwas\ngreat\nun\n##believ\n##able\ne\n##t\n##e\n\
    cafe\ncafé\n!\n,\n映\n画\nThe\nbad\n";

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

fn options(max_len: usize) -> TokenizerOptions {
    TokenizerOptions { vocab_size: 300, type_rows: 2, max_len, positions: Positions { offset: 0 } }
}

fn bert(config: &str, max_len: usize) -> TextTokenizer {
    let files = [("vocab.txt", BERT), ("tokenizer_config.json", config)];
    TextTokenizer::load(folder(&files).path(), options(max_len)).unwrap()
}

fn roberta(config: &str) -> TextTokenizer {
    let merged = ["Ġf", "il", "ilm", "Ġfilm", "th", "the", "Ġthe", "gr", "gre", "Ġgre"];
    let mut letters: Vec<char> =
        tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
    letters.sort_unstable();
    let tokens = ["<s>", "<pad>", "</s>", "<unk>"]
        .map(str::to_owned)
        .into_iter()
        .chain(letters.iter().map(char::to_string))
        .chain(merged.map(str::to_owned))
        .chain(["<mask>".to_owned()]);
    let vocab: std::collections::BTreeMap<String, usize> =
        tokens.enumerate().map(|(id, t)| (t, id)).collect();
    let files = [
        ("vocab.json", serde_json::to_string(&vocab).unwrap()),
        (
            "merges.txt",
            "#version: 0.2\nĠ f\ni l\nil m\nĠf ilm\nt h\nth e\nĠ the\ng r\ngr e\nĠ gre\n"
                .to_owned(),
        ),
        ("tokenizer_config.json", config.to_owned()),
    ];
    let files: Vec<(&str, &str)> =
        files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    TextTokenizer::load(folder(&files).path(), options(512)).unwrap()
}

fn row(text: &str, pair: Option<&str>) -> Row {
    Row { line: 1, text: text.to_owned(), text_pair: pair.map(str::to_owned), label: None }
}

fn encode(tokenizer: &TextTokenizer, text: &str, pair: Option<&str>) -> Encoded {
    tokenizer.encode(&[row(text, pair)], &|_| ()).unwrap()
}

fn ids(tokenizer: &TextTokenizer, text: &str) -> Vec<u32> {
    encode(tokenizer, text, None).ids
}

fn error(files: &[(&str, &str)], options: TokenizerOptions) -> String {
    let refused = TextTokenizer::load(folder(files).path(), options).err();
    format!("{:#}", refused.expect("must be refused"))
}

#[test]
fn a_bert_vocabulary_gives_the_ids_of_transformers() {
    let tokenizer = bert("{}", 512);
    assert_eq!(ids(&tokenizer, "The film was unbelievable!"), [2, 5, 6, 7, 9, 10, 11, 17, 3]);
    assert_eq!(ids(&tokenizer, "Café été"), [2, 15, 12, 13, 14, 3]);
    assert_eq!(ids(&tokenizer, "映画 great"), [2, 19, 20, 8, 3]);
    assert_eq!(ids(&tokenizer, "a [SEP] b [MASK]"), [2, 1, 3, 1, 4, 3]);
    assert_eq!(ids(&tokenizer, "the\u{a0}film,\tbad\u{200b}"), [2, 5, 6, 18, 22, 3]);
}

#[test]
fn the_bert_settings_of_tokenizer_config_are_honoured() {
    let cased = bert(r#"{"do_lower_case": false}"#, 512);
    assert_eq!(ids(&cased, "The film was unbelievable!"), [2, 21, 6, 7, 9, 10, 11, 17, 3]);
    assert_eq!(ids(&cased, "Café été"), [2, 1, 1, 3]);
    let accents = bert(r#"{"do_lower_case": true, "strip_accents": false}"#, 512);
    assert_eq!(ids(&accents, "Café été"), [2, 16, 1, 3]);
    let joined =
        bert(r#"{"tokenize_chinese_chars": false, "unk_token": {"content": "[UNK]"}}"#, 512);
    assert_eq!(ids(&joined, "映画 great"), [2, 1, 8, 3]);
}

#[test]
fn a_roberta_vocabulary_gives_the_ids_of_transformers() {
    let plain = roberta("{}");
    assert_eq!(ids(&plain, "the film great"), [0, 265, 263, 269, 68, 87, 2]);
    assert_eq!(ids(&plain, "film é"), [0, 73, 262, 224, 131, 106, 2]);
    assert_eq!(ids(&plain, "a <mask> </s>"), [0, 68, 224, 270, 224, 2, 2]);
    let spaced = roberta(r#"{"add_prefix_space": true}"#);
    assert_eq!(ids(&spaced, "the film great"), [0, 266, 263, 269, 68, 87, 2]);
    assert_eq!(ids(&spaced, "a <mask> </s>"), [0, 224, 68, 224, 270, 224, 2, 2]);
}

#[test]
fn pairs_take_the_form_and_types_of_their_family() {
    let out = encode(&bert("{}", 512), "the film", Some("bad"));
    assert_eq!(out.ids, [2, 5, 6, 3, 22, 3]);
    assert_eq!(out.type_zero, [4]);
    let out = encode(&roberta("{}"), "the film", Some("great"));
    assert_eq!(out.ids, [0, 265, 263, 2, 2, 268, 68, 87, 2]);
    assert_eq!(out.type_zero, [9]);
}

#[test]
fn a_model_with_one_token_type_gets_type_zero_only() {
    let files = [("vocab.txt", BERT)];
    let tokenizer = TextTokenizer::load(
        folder(&files).path(),
        TokenizerOptions { type_rows: 1, ..options(64) },
    );
    assert_eq!(encode(&tokenizer.unwrap(), "the film", Some("bad")).type_zero, [6]);
}

#[test]
fn pairs_are_cut_longest_first_as_transformers_does() {
    // "the film was great" is 5 6 7 8, "bad" is 22; the cut lengths are those of BertTokenizerFast.
    for (max_len, a, b) in [
        (4, 0, 1),
        (5, 1, 1),
        (6, 1, 2),
        (7, 2, 2),
        (8, 2, 3),
        (9, 3, 3),
        (10, 3, 4),
        (11, 4, 4),
        (12, 4, 5),
        (13, 4, 6),
    ] {
        let out =
            encode(&bert("{}", max_len), "the film was great", Some("bad bad bad bad bad bad"));
        let expected = [&[2], &[5, 6, 7, 8][..a], &[3], &vec![22; b][..], &[3]].concat();
        assert_eq!(out.ids, expected, "max_len {max_len}");
        assert_eq!(out.counts.truncated.texts, usize::from(max_len < 13));
    }
}

#[test]
fn own_truncation_agrees_with_the_tokenizers_crate() {
    use tokenizers::utils::truncation::{TruncationParams, truncate_encodings};
    let text =
        |n: usize| Encoding::from_tokens(vec![tokenizers::Token::new(9, "x".into(), (0, 1)); n], 0);
    for room in 1..12 {
        for a in 0..10 {
            for b in 0..10 {
                let params = TruncationParams { max_length: room, ..Default::default() };
                let (cut_a, cut_b) = truncate_encodings(text(a), Some(text(b)), &params).unwrap();
                let theirs = (cut_a.len(), cut_b.unwrap().len());
                assert_eq!(longest_first(a, b, room), theirs, "{a} and {b} in {room}");
            }
        }
    }
}

#[test]
fn texts_are_cut_at_the_side_that_the_config_names() {
    assert_eq!(ids(&bert("{}", 4), "the film was great"), [2, 5, 6, 3]);
    assert_eq!(ids(&bert(r#"{"truncation_side": "left"}"#, 4), "the film was great"), [2, 7, 8, 3]);
}

#[test]
fn empty_texts_are_counted_and_keep_their_special_tokens() {
    let tokenizer = bert("{}", 512);
    let rows = [
        row("", None),
        row(" \t", None),
        row("film", None),
        row("film", Some(" ")),
        row("", Some("film")),
    ];
    let out = tokenizer.encode(&rows, &|_| ()).unwrap();
    assert_eq!((out.counts.empty, out.counts.tokens), (TextTally { texts: 4, first: 1 }, 3));
    assert_eq!(out.counts.unknown.texts, 0);
    assert_eq!(out.ends, [2, 4, 7, 11, 15]);
    assert_eq!(out.ids[..4], [2, 3, 2, 3]);
}

#[test]
fn an_empty_partner_makes_a_single_text() {
    let out = encode(&bert("{}", 512), "film", Some(""));
    assert_eq!(out.ids, [2, 6, 3]);
    assert_eq!(out.counts, TextCounts { tokens: 1, ..TextCounts::default() });
}

#[test]
fn padding_and_truncation_of_tokenizer_json_are_turned_off() {
    use tokenizers::{PaddingParams, PaddingStrategy, TruncationParams};
    let mut inner = bert("{}", 512).inner;
    inner.with_padding(Some(PaddingParams {
        strategy: PaddingStrategy::Fixed(16),
        ..Default::default()
    }));
    inner.with_truncation(Some(TruncationParams { max_length: 3, ..Default::default() })).unwrap();
    let json = inner.to_string(false).unwrap();
    // The vocabulary next to it must be ignored.
    let files = [("tokenizer.json", json.as_str()), ("vocab.txt", "broken")];
    let tokenizer = TextTokenizer::load(folder(&files).path(), options(512)).unwrap();
    assert_eq!(ids(&tokenizer, "The film was great"), [2, 5, 6, 7, 8, 3]);
}

#[test]
fn many_rows_in_parallel_equal_one_at_a_time_and_progress_counts_them_all() {
    let tokenizer = bert("{}", 6);
    let words = ["the film", "", "was great great great great", "bad!"];
    let rows: Vec<Row> =
        (0..1000).map(|i| row(words[i % 4], (i % 3 == 0).then_some("bad film"))).collect();
    let done = std::sync::atomic::AtomicUsize::new(0);
    let count = |n| {
        done.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    };
    let together = tokenizer.encode(&rows, &count).unwrap();
    assert_eq!(done.into_inner(), 1000);
    let mut apart = Encoded::default();
    rows.iter().for_each(|row| tokenizer.encode_row(row, &mut apart).unwrap());
    assert_eq!((together.ids, together.ends), (apart.ids, apart.ends));
    assert_eq!((together.type_zero, together.counts), (apart.type_zero, apart.counts));
}

#[test]
fn a_vocabulary_larger_than_the_model_is_refused_with_both_sizes() {
    let message = error(&[("vocab.txt", BERT)], TokenizerOptions { vocab_size: 22, ..options(64) });
    assert!(message.contains("has 23 tokens") && message.contains("table has 22"), "{message}");
    let files = [("vocab.txt", BERT), ("added_tokens.json", r#"{"<new>": 23}"#)];
    let message = error(&files, TokenizerOptions { vocab_size: 23, ..options(64) });
    assert!(message.contains("has 24 tokens") && message.contains("table has 23"), "{message}");
    assert!(
        TextTokenizer::load(
            folder(&files).path(),
            TokenizerOptions { vocab_size: 24, ..options(64) }
        )
        .is_ok()
    );
}

/// The form that puts special tokens around texts has ids of its own, which no vocabulary lists.
#[test]
fn a_special_token_beyond_the_model_is_refused_by_name() {
    let json = |single: u32, pair: u32| {
        let special = |id: &str, number: u32| json!({"id": id, "ids": [number], "tokens": [id]});
        json!({
            "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null, "decoder": null,
            "truncation": null, "padding": null,
            "model": {"type": "WordPiece", "vocab": {"[UNK]": 0, "[CLS]": 1, "a": 2}, "unk_token": "[UNK]",
                "continuing_subword_prefix": "##", "max_input_chars_per_word": 100},
            "post_processor": {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"SpecialToken": {"id": "[P]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                    {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"[CLS]": special("[CLS]", single), "[P]": special("[P]", pair)}},
        })
        .to_string()
    };
    let options = TokenizerOptions { vocab_size: 3, ..options(8) };
    let load =
        |json: String| TextTokenizer::load(folder(&[("tokenizer.json", &json)]).path(), options);
    assert!(load(json(1, 2)).is_ok());
    for (single, pair, said) in [
        (
            3,
            1,
            "the special token \"[CLS]\" has the id 3, but the model's embedding table has only 3 rows",
        ),
        (99_999, 1, "\"[CLS]\" has the id 99999"),
        (1, 3, "\"[P]\" has the id 3"),
    ] {
        let error = load(json(single, pair)).err().unwrap().to_string();
        assert!(error.contains(said), "{error}");
    }
    // The ids that stand for the texts themselves.
    assert!(load(json(u32::MAX, 1)).is_err() && load(json(u32::MAX - 1, 1)).is_err());
}

/// The library panics if the value of "decoder" is cut off.
#[test]
fn a_damaged_tokenizer_json_is_an_error_with_its_place() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity/bert/tokenizer.json");
    let whole = std::fs::read_to_string(path).unwrap();
    let load = |text: &str| {
        TextTokenizer::load(folder(&[("tokenizer.json", text)]).path(), options(32)).err()
    };
    assert!(load(&whole).is_none());
    let decoder = whole.find("\"decoder\":").unwrap() + "\"decoder\":".len();
    for cut in [decoder, decoder + 3, decoder + 30, whole.len() / 2, whole.len() - 1] {
        let error = format!("{:#}", load(&whole[..cut]).unwrap());
        let said = ["tokenizer.json: not a usable tokenizer", "EOF", "line"];
        assert!(said.iter().all(|said| error.contains(said)), "{error}");
    }
    let mut value: serde_json::Value = serde_json::from_str(&whole).unwrap();
    for wrong in [
        json!(3),
        json!({"type": 3}),
        json!({"type": "Nothing"}),
        json!([[]]),
        json!({"type": "WordPiece"}),
    ] {
        for key in
            ["decoder", "normalizer", "pre_tokenizer", "post_processor", "model", "added_tokens"]
        {
            let right = std::mem::replace(&mut value[key], wrong.clone());
            // Some of these are optional for a tokenizer; none may bring down the program.
            let _ = load(&value.to_string());
            value[key] = right;
        }
    }
}

#[test]
fn a_text_that_its_tokenizer_would_blow_up_is_refused_with_its_line() {
    let replace =
        json!({"type": "Replace", "pattern": {"String": "o"}, "content": "oooooooooooooooo"});
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity/bert/tokenizer.json");
    let mut value: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut with = |count: usize| {
        value["normalizer"] =
            json!({"type": "Sequence", "normalizers": vec![replace.clone(); count]});
        let text = value.to_string();
        TextTokenizer::load(folder(&[("tokenizer.json", &text)]).path(), options(32))
    };
    let error = with(10).err().unwrap().to_string();
    assert!(error.contains("exceeds a limit") && error.contains("Replace"), "{error}");
    let tokenizer = with(3).unwrap();
    assert!(tokenizer.encode(&[row("foo", None)], &|_| ()).is_ok());
    let error =
        tokenizer.encode(&[row(&"o".repeat(100_000), None)], &|_| ()).err().unwrap().to_string();
    assert!(error.contains("line 1") && error.contains("100000 bytes"), "{error}");
}

#[test]
fn added_tokens_keep_their_id_or_are_refused() {
    let files = [("vocab.txt", BERT), ("added_tokens.json", r#"{"<new>": 23}"#)];
    let tokenizer = TextTokenizer::load(folder(&files).path(), options(64)).unwrap();
    assert_eq!(ids(&tokenizer, "the <new> film"), [2, 5, 23, 6, 3]);
    let files = [("vocab.txt", BERT), ("added_tokens.json", r#"{"<new>": 40}"#)];
    assert!(error(&files, options(64)).contains("does not follow the vocabulary"));
}

#[test]
fn unusable_folders_are_refused_with_what_is_needed() {
    assert!(
        error(&[], options(64))
            .contains("tokenizer.json, vocab.txt, or vocab.json with merges.txt")
    );
    assert!(
        error(&[("tokenizer.json", "{\"version\"")], options(64))
            .contains("not a usable tokenizer")
    );
    assert!(error(&[("vocab.txt", "the\nfilm\n")], options(64)).contains("\"[CLS]\" is not in it"));
    let files = [("vocab.txt", BERT), ("tokenizer_config.json", "{")];
    assert!(error(&files, options(64)).contains("tokenizer_config.json"));
    let vocab = r#"{"<s>": 0, "</s>": 1, "a": 2}"#;
    let message = error(&[("vocab.json", vocab), ("merges.txt", "a b\n")], options(64));
    assert!(message.contains("vocab.json with merges.txt: "), "{message}");
}

#[test]
fn a_tokenizer_without_special_tokens_is_refused() {
    let json = r###"{"version":"1.0","added_tokens":[],"model":{"type":"WordPiece","unk_token":"[UNK]",
        "continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"[UNK]":0}}}"###;
    assert!(error(&[("tokenizer.json", json)], options(64)).contains("adds no special tokens"));
}

#[test]
fn a_length_without_room_for_text_is_refused() {
    assert!(error(&[("vocab.txt", BERT)], options(2)).contains("special tokens take 2"));
}

#[test]
fn positions_start_at_the_offset_and_take_room() {
    assert_eq!(Positions { offset: 0 }.room(512), 512);
    assert_eq!(Positions { offset: 2 }.room(514), 512);
    assert_eq!(Positions { offset: 2 }.room(1), 0);
}

fn json_of(normalizer: &str, config: &str) -> TextTokenizer {
    let vocab: std::collections::BTreeMap<&str, usize> =
        BERT.lines().enumerate().map(|(id, token)| (token, id)).collect();
    let json = format!(
        r###"{{"version":"1.0","added_tokens":[],"normalizer":{normalizer},"pre_tokenizer":{{"type":"BertPreTokenizer"}},
            "post_processor":{{"type":"BertProcessing","sep":["[SEP]",3],"cls":["[CLS]",2]}},
            "model":{{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##",
            "max_input_chars_per_word":100,"vocab":{}}}}}"###,
        serde_json::to_string(&vocab).unwrap()
    );
    let files = [
        ("tokenizer.json", json.as_str()),
        ("tokenizer_config.json", config),
        ("config.json", r#"{"model_type": "bert"}"#),
    ];
    TextTokenizer::load(folder(&files).path(), options(64)).unwrap()
}

const LOWERS: &str = r#"{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,
    "lowercase":true}"#;

#[test]
fn the_class_counts_before_tokenizer_json_and_a_difference_is_said() {
    let agreed = json_of(LOWERS, r#"{"do_lower_case": true}"#);
    assert_eq!(ids(&agreed, "The film"), [2, 5, 6, 3]);
    assert_eq!(agreed.notes(), [] as [&str; 0]);
    let cased = json_of(LOWERS, r#"{"do_lower_case": false}"#);
    assert_eq!(ids(&cased, "The film"), [2, 21, 6, 3]);
    assert!(cased.notes()[0].contains("another normalizer than transformers' BertTokenizer"));
    let written = json_of("null", r#"{"tokenizer_class": "PreTrainedTokenizerFast"}"#);
    assert_eq!(ids(&written, "The film"), [2, 21, 6, 3]);
    let unknown = json_of("null", r#"{"tokenizer_class": "MyTokenizer"}"#);
    assert_eq!(ids(&unknown, "The film"), [2, 21, 6, 3]);
    assert!(unknown.notes()[0].contains("MyTokenizer is unknown"));
    let other = json_of(LOWERS, r#"{"tokenizer_class": "RobertaTokenizer"}"#);
    assert_eq!(ids(&other, "The film"), [2, 5, 6, 3]);
    assert!(other.notes()[0].contains("WordPiece model, which transformers' RobertaTokenizer"));
}

#[test]
fn a_class_that_splits_texts_itself_is_refused() {
    for class in ["BertJapaneseTokenizer", "PhobertTokenizer", "BertweetTokenizer"] {
        let config = format!(r#"{{"tokenizer_class": "{class}"}}"#);
        let files = [("vocab.txt", BERT), ("tokenizer_config.json", config.as_str())];
        assert!(error(&files, options(64)).contains(class));
    }
    let files = [
        ("vocab.txt", BERT),
        ("tokenizer_config.json", r#"{"tokenizer_class": "XLMRobertaTokenizer"}"#),
    ];
    assert!(error(&files, options(64)).contains("XLMRobertaTokenizer"));
}

#[test]
fn a_setting_of_the_wrong_type_is_refused_by_name() {
    for (key, value) in [
        ("do_lower_case", "\"false\""),
        ("do_lower_case", "null"),
        ("strip_accents", "1"),
        ("tokenize_chinese_chars", "0"),
    ] {
        let config = format!(r#"{{"{key}": {value}}}"#);
        let files = [("vocab.txt", BERT), ("tokenizer_config.json", config.as_str())];
        assert!(error(&files, options(64)).contains(&format!("`{key}` is {value}")));
    }
}

/// The library drops merges at random while it encodes: the same text would get different ids each time.
#[test]
fn dropout_of_merges_is_switched_off_and_said() {
    let token = |id: u32, content: &str| {
        json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false})
    };
    let tokenizer = |dropout: f64| {
        let json = json!({
            "version": "1.0",
            "added_tokens": [token(0, "<s>"), token(1, "</s>")],
            "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": {"type": "BertProcessing", "cls": ["<s>", 0], "sep": ["</s>", 1]},
            "model": {"type": "BPE", "dropout": dropout, "merges": ["f i"],
                      "vocab": {"<s>": 0, "</s>": 1, "f": 2, "i": 3, "fi": 4}},
        });
        let files = [
            ("tokenizer.json", json.to_string()),
            ("tokenizer_config.json", r#"{"tokenizer_class": "PreTrainedTokenizerFast"}"#.into()),
        ];
        let files: Vec<(&str, &str)> =
            files.iter().map(|(name, text): &(_, String)| (*name, text.as_str())).collect();
        TextTokenizer::load(folder(&files).path(), options(20)).unwrap()
    };
    // All merges are dropped at 1.
    for dropout in [0.0, 0.5, 1.0] {
        let tokenizer = tokenizer(dropout);
        assert_eq!(encode(&tokenizer, "fi fi", None).ids, [0, 4, 4, 1], "{dropout}");
        let said = tokenizer.notes().iter().any(|note| note.contains("BPE dropout"));
        assert_eq!(said, dropout > 0.0);
    }
}
