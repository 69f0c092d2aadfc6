use super::*;

fn all(text: &str, answered: bool) -> Result<Vec<Document>> {
    SquadReader::new(text.as_bytes(), "q.json", answered).collect()
}

fn read(text: &str) -> Vec<Document> {
    all(text, true).unwrap()
}

#[track_caller]
fn refused(text: &str) -> String {
    format!("{:#}", all(text, true).unwrap_err())
}

fn marks(document: &Document) -> &[Mark] {
    match &document.gold {
        Gold::Answers(marks) => marks,
        other => panic!("{other:?}"),
    }
}

const FILE: &str = r#"{
  "version": "v2.0",
  "data": [
    {"title": "A", "paragraphs": [
      {"context": "naïve 😀 cats sit", "qas": [
        {"id": "a", "question": "who?", "answers": [
          {"text": "cats", "answer_start": 8}, {"text": "😀 cats", "answer_start": 6}]},
        {"id": 7, "question": "why?", "is_impossible": true, "answers": [],
         "plausible_answers": [{"text": "sit", "answer_start": 999}]}
      ]}
    ]},
    {"title": "B", "paragraphs": []}
  ]
}
"#;

#[test]
fn offsets_count_characters_and_become_bytes() {
    let documents = read(FILE);
    assert_eq!(documents.len(), 2);
    let [cats, both] = marks(&documents[0]) else { panic!("{documents:?}") };
    let text = &documents[0].text;
    assert_eq!((&text[cats.span.clone()], &text[both.span.clone()]), ("cats", "😀 cats"));
    assert_eq!(documents[0].question.as_deref(), Some("who?"));
    assert_eq!((documents[0].line, documents[1].line), (6, 8));
    // A number is a valid id too; plausible answers do not count as answers.
    assert_eq!(documents[1].id.as_deref(), Some("7"));
    assert_eq!(marks(&documents[1]), []);
}

#[test]
fn a_file_on_one_line_and_one_with_other_line_ends_are_the_same_questions() {
    let strip = |mut documents: Vec<Document>| {
        documents.iter_mut().for_each(|document| document.line = 0);
        documents
    };
    let whole = strip(read(FILE));
    assert_eq!(strip(read(&FILE.replace('\n', " "))), whole);
    assert_eq!(strip(read(&format!("\u{feff}{}", FILE.replace('\n', "\r\n")))), whole);
}

#[test]
fn json_lines_have_answers_as_the_hub_or_as_squad() {
    let documents = read(
        "{\"id\": \"1\", \"question\": \"q\", \"context\": \"a b\", \"answers\": {\"text\": [\"b\"], \"answer_start\": [2]}}\n\
         \n\
         {\"question\": \"q\", \"context\": \"a b\", \"answers\": [{\"text\": \"a\", \"answer_start\": 0}]}\n\
         {\"question\": \"q\", \"context\": \"a b\", \"answers\": {\"text\": [], \"answer_start\": []}}\n",
    );
    let spans: Vec<Vec<_>> = documents
        .iter()
        .map(|d| marks(d).iter().map(|m| (m.span.start, m.span.end)).collect())
        .collect();
    assert_eq!(spans, [vec![(2, 3)], vec![(0, 1)], vec![]]);
    assert_eq!(documents.iter().map(|d| d.line).collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!(documents[1].id, None);
}

#[test]
fn without_answers_nothing_of_them_is_read() {
    let documents =
        all("{\"question\": \"q\", \"context\": \"\", \"answers\": 7}\n", false).unwrap();
    assert_eq!(documents[0].gold, Gold::None);
    assert!(all(FILE, false).unwrap().iter().all(|document| document.gold == Gold::None));
}

/// A SQuAD file with one question, with these keys in addition to `id` and `question`.
fn one(context: &str, keys: &str) -> String {
    format!(
        "{{\"data\": [{{\"paragraphs\": [{{\"context\": {context:?}, \"qas\": [{{\"id\": \"x\", \"question\": \"q\", {keys}}}]}}]}}]}}"
    )
}

#[test]
fn an_answer_that_is_not_where_it_is_said_to_be_is_refused_with_what_stands_there() {
    let at = |start: i64| {
        refused(&one(
            "über den Wolken",
            &format!("\"answers\": [{{\"text\": \"Wolken\", \"answer_start\": {start}}}]"),
        ))
    };
    assert_eq!(
        at(10),
        "q.json:1: data[0].paragraphs[0].qas[0] (id \"x\"): the answer \"Wolken\" should begin at character 10, where the \
         text is \"olken\"; it is at 9, counted in characters from 0"
    );
    assert!(at(8).contains("where the text is \" Wolke\""));
    assert!(at(15).contains("where the text is \"\""));
    assert!(at(16).contains("but the context has 15"));
    assert!(at(-1).contains("at character -1, but the context has 15"));
    let message = refused(&one("a b", "\"answers\": [{\"text\": \"c\", \"answer_start\": 0}]"));
    assert!(message.contains("where the text is \"a\"; it is not in the context"), "{message}");
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    let answer = "\"answers\": [{\"text\": \"a\", \"answer_start\": 0}]";
    for (keys, part) in [
        ("\"answers\": [], \"is_impossible\": false", "no answer, but \"is_impossible\" is false"),
        (
            &format!("{answer}, \"is_impossible\": true"),
            "has answers, but \"is_impossible\" is true",
        ),
        ("\"answers\": [{\"text\": \" \", \"answer_start\": 1}]", "an answer has no text"),
        ("\"answers\": {\"text\": [\"a\"], \"answer_start\": []}", "1 texts and 0 offsets"),
        ("\"answers\": \"a\"", "neither a list of answers"),
        ("\"answers\": [{\"text\": \"a\"}]", "missing field `answer_start`"),
        ("\"answers\": [{\"text\": \"a\", \"answer_start\": 0.5}]", "expected i64"),
        ("\"title\": 1", "the key \"answers\" is missing or null"),
        ("\"answers\": null", "the key \"answers\" is missing or null"),
        ("\"answers\": [], \"is_impossible\": \"no\"", "expected a boolean"),
        (&format!("{answer}, \"question\": \"r\""), "duplicate field `question`"),
    ] {
        let message = refused(&one("a b", keys));
        let place = "q.json:1: data[0].paragraphs[0].qas[0]";
        assert!(message.starts_with(place) && message.contains(part), "{message}");
    }
}

#[test]
fn what_is_no_question_is_refused_by_line_column_or_path() {
    for (text, parts) in [
        ("", &["q.json: the file has no questions"][..]),
        ("{\"data\": []}", &["q.json: the file has no questions"]),
        (
            "\n{\"data\": [\n  {\"paragraphs\": 1}]}",
            &["q.json:3: data[0]: invalid type: integer `1`"],
        ),
        ("{\"data\": [{\"title\": \"t\"}]}", &["data[0]: missing field `paragraphs`"]),
        ("{\n\"data\": [\n", &["q.json:2:9: no SQuAD file: EOF"]),
        ("{\n\"version\": 1\n}", &["no SQuAD file: missing field `data`"]),
        ("[\n{\"question\": 1}]", &["a JSON array; write each question on its own line"]),
        ("[{\"question\": 1}]", &["q.json:1: a JSON array; write each question on its own line"]),
        ("{\"data\": [[\"t\"]]}", &["q.json:1: data[0]: an array, not an object"]),
        ("{\"question\": \"q\"}", &["q.json:1: the key \"context\" is missing"]),
        ("{\"context\": \"c\", \"answers\": []}", &["q.json:1: the key \"question\" is missing"]),
        (
            "{\"question\": \" \", \"context\": \"c\", \"answers\": []}",
            &["q.json:1: the question is empty"],
        ),
        (
            "{\"question\": \"q\", \"context\": \" \", \"answers\": []}",
            &["q.json:1: the context is empty"],
        ),
        (
            "{\"question\": \"q\", \"context\": 3}",
            &["q.json:1:", "invalid type: integer `3`, expected a string"],
        ),
        (
            "{\"id\": [1], \"question\": \"q\", \"context\": \"c\"}",
            &["q.json:1:10:", "the id is neither a string nor a number"],
        ),
        ("text\tlabel\n", &["q.json:1:2: not a question as a JSON object on one line"]),
    ] {
        let message = refused(text);
        for part in parts {
            assert!(message.contains(part), "no {part} in {message}");
        }
    }
    let good = "{\"question\": \"q\", \"context\": \"c\", \"answers\": []}\n";
    let message = refused(&format!("{good}{{\"question\": \"q\", \"context\": \"c\""));
    assert!(message.starts_with("q.json:2:"), "{message}");
    let message = refused(&format!("{FILE}{good}"));
    assert!(message.contains("q.json:15:1: no SQuAD file: trailing characters"), "{message}");
}

#[test]
fn questions_ahead_of_a_bad_one_are_given_out() {
    let bad = FILE.replace("\"why?\"", "\"\"");
    let mut reader = SquadReader::new(bad.as_bytes(), "q.json", false);
    assert!(reader.next().unwrap().is_ok());
    let message = format!("{:#}", reader.next().unwrap().unwrap_err());
    assert!(message.contains("qas[1] (id \"7\"): the question is empty"), "{message}");
    assert!(reader.next().is_none());
}
