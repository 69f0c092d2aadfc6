use super::*;
use crate::data::ColumnNames;

fn read_by(input: &str, columns: ColumnNames) -> Result<Vec<Document>> {
    let options = ReadOptions {
        format: None,
        columns,
        label_use: LabelUse::Required,
        label_lists: false,
        trained: None,
    };
    TaggedJsonReader::new(input.as_bytes(), "d.jsonl", &options).collect()
}

fn read(input: &str) -> Result<Vec<Document>> {
    read_by(input, ColumnNames::default())
}

fn tags(document: &Document) -> Vec<&str> {
    match &document.gold {
        Gold::Tags(tags) => tags.iter().map(String::as_str).collect(),
        _ => panic!("no tags"),
    }
}

#[test]
fn words_with_tags_are_joined_by_spaces() {
    let line =
        r#"{"id": 7, "tokens": ["Ann", "", "in", "Rome"], "tags": ["B-PER", "O", "O", "B-LOC"]}"#;
    let all = read(&format!("{line}\n\n{line}\n")).unwrap();
    assert_eq!((all.len(), all[1].line, all[0].id.as_deref()), (2, 3, Some("7")));
    assert_eq!(all[0].text, "Ann in Rome");
    assert_eq!(all[0].words, [0..3, 3..3, 4..6, 7..11]);
    assert_eq!(tags(&all[0]), ["B-PER", "O", "O", "B-LOC"]);
}

#[test]
fn spans_count_characters_and_become_tags_of_words() {
    // Two bytes, four bytes, a letter with a combining mark.
    let text = "Zoë 😀 met Jose\u{301} Paz.";
    let line = format!(
        r#"{{"text": "{text}", "spans": [{{"start": 10, "end": 19, "label": "PER"}}, {{"start": 0, "end": 3, "label": "PER"}}]}}"#
    );
    let all = read(&line).unwrap();
    assert_eq!(tags(&all[0]), ["B-PER", "O", "O", "B-PER", "I-PER", "O"]);
    assert_eq!(all[0].text, text);
    let short = r#"{"text": "a b", "label": [[2, 3, "X"]]}"#;
    assert_eq!(tags(&read(short).unwrap()[0]), ["O", "B-X"], "a span may be a list of the three");
    let said =
        r#"{"text": "a b", "entities": [{"start": 2, "end": 3, "text": "b", "label": "X"}]}"#;
    assert_eq!(tags(&read(said).unwrap()[0]), ["O", "B-X"], "and say what it is on");
}

#[test]
fn the_key_of_the_tags_is_the_only_one_or_chosen() {
    let one = r#"{"tokens": ["a", "b"], "ner_tags": ["O", "B"]}"#;
    assert_eq!(tags(&read(one).unwrap()[0]), ["O", "B"]);
    let two = r#"{"tokens": ["a", "b"], "ner_tags": ["O", "B"], "pos_tags": ["X", "Y"]}"#;
    let error = read(two).unwrap_err().to_string();
    assert_eq!(
        error,
        "d.jsonl:1: \"ner_tags\", \"pos_tags\" could be the tags; choose with --label-column"
    );
    let chosen = ColumnNames { label: Some("pos_tags".into()), ..ColumnNames::default() };
    assert_eq!(tags(&read_by(two, chosen).unwrap()[0]), ["X", "Y"]);
}

#[test]
fn what_does_not_fit_is_refused_by_line() {
    let good = r#"{"tokens": ["a", "b"], "tags": ["O", "B"]}"#;
    for (line, problem) in [
        (r#"{"tokens": ["a", "b"], "tags": ["O"]}"#, "2 words in \"tokens\" and 1 tag in \"tags\""),
        (
            r#"{"tokens": ["a", "b"], "tags": [0, 3]}"#,
            "element 1 of \"tags\" is a number, not a string; this file",
        ),
        (r#"{"tokens": ["a", null], "tags": ["O", "O"]}"#, "element 2 of \"tokens\" is null"),
        (r#"{"tokens": ["a", "b"], "tags": ["O", " "]}"#, "the tag of word 2 (\"b\") is empty"),
        (r#"{"tokens": ["a"], "tags": "O"}"#, "the value of \"tags\" is a string"),
        (
            r#"{"tokens": "a b", "tags": ["O"]}"#,
            "the value of \"tokens\" is a string, but on the first line",
        ),
        (r#"{"tokens": ["a"]}"#, "the key \"tags\" is missing"),
        (r#"{"tokens": ["a"], "tags": ["O"]"#, "not a JSON object on one line"),
        (r#"[1]"#, "not a JSON object"),
    ] {
        let error = read(&format!("{good}\n{line}\n")).unwrap_err().to_string();
        assert!(error.starts_with("d.jsonl:2:") && error.contains(problem), "{error}");
    }
    let spans = |spans: &str| {
        let line = format!(r#"{{"text": "Ann Lee's in Rome.", "spans": {spans}}}"#);
        read(&line).unwrap_err().to_string()
    };
    for (given, problem) in [
        (r#"[{"start": 0, "end": 5, "label": "x"}]"#, "it cuts the word \"Lee\""),
        (r#"[{"start": 1, "end": 3, "label": "x"}]"#, "it cuts the word \"Ann\""),
        (r#"[{"start": 3, "end": 4, "label": "x"}]"#, "it contains no word"),
        (r#"[{"start": 4, "end": 4, "label": "x"}]"#, "it is empty"),
        (r#"[{"start": 13, "end": 19, "label": "x"}]"#, "the text has 18 characters"),
        (r#"[{"start": 0, "end": 3, "label": ""}]"#, "its label is empty"),
        (
            r#"[{"start": 0, "end": 7, "label": "x"}, {"start": 4, "end": 7, "label": "y"}]"#,
            "span 2 (4 to 7, \"y\"): it overlaps another span",
        ),
        (r#"[{"start": -1, "end": 3, "label": "x"}]"#, "is not a list of spans"),
        (r#"[{"start": 0, "end": 3}]"#, "missing field `label`"),
        (
            r#"[{"start": 0, "end": 3, "text": "Rome", "label": "x"}]"#,
            "its \"text\" is \"Rome\", but the text there is \"Ann\"; \"Rome\" is at 13",
        ),
    ] {
        let error = spans(given);
        assert!(error.starts_with("d.jsonl:1: ") && error.contains(problem), "{error}");
    }
    assert!(read("").unwrap_err().to_string().contains("the file has no examples"));
}
