use super::*;
use crate::data::{Dataset, Positions, TextTokenizer, TokenizerOptions};

const SPECIAL: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";

/// Letters are tokens; a one-letter question leaves five tokens for the text.
fn tokenizer() -> TextTokenizer {
    let folder = tempfile::tempdir().unwrap();
    let letters: String = ('a'..='z').map(|c| format!("{c}\n")).collect();
    std::fs::write(folder.path().join("vocab.txt"), SPECIAL.to_owned() + &letters).unwrap();
    let positions = Positions { offset: 0 };
    let options = TokenizerOptions { vocab_size: 31, type_rows: 2, max_len: 9, positions };
    TextTokenizer::load(folder.path(), options).unwrap()
}

fn document(text: &str, answers: &[[usize; 2]]) -> Document {
    let mark =
        |&[start, end]: &[usize; 2]| Mark { span: start..end, label: text[start..end].to_owned() };
    Document {
        id: Some(text.to_owned()),
        question: Some("q".to_owned()),
        text: text.to_owned(),
        gold: Gold::Answers(answers.iter().map(mark).collect()),
        ..Document::default()
    }
}

/// Questions, their windows, which overlap by two tokens, and logits for each token.
struct Rig {
    documents: Documents,
    windows: Windows,
    dataset: Dataset,
    logits: Vec<f32>,
}

impl Rig {
    fn new(list: Vec<Document>) -> Self {
        let (tokenizer, documents) = (tokenizer(), Documents { name: "d".to_owned(), list });
        let mut windows = tokenizer.windows(&documents.list, 2, &|_| ()).unwrap();
        let dataset = Dataset::of_windows(&mut windows, Labels::None, &tokenizer).unwrap();
        let logits = vec![0.0; 2 * dataset.tokens()];
        Self { documents, windows, dataset, logits }
    }

    /// Sets a token of a window's sequence: 0 starts, 1 ends.
    fn set(&mut self, window: usize, token: usize, column: usize, value: f32) {
        let before: u32 = self.dataset.lengths()[..window].iter().sum();
        self.logits[2 * (before as usize + token) + column] = value;
    }

    fn logits(&self) -> TokenLogits<'_> {
        TokenLogits::new(&self.logits, &self.dataset, 2)
    }

    fn records(&self, rule: Answering) -> Vec<Value> {
        let answers = answers(rule, &self.documents.list, &self.windows, &self.logits());
        answers.into_iter().map(|answer| answer.record).collect()
    }

    fn scores(&self, rule: Answering) -> Scores {
        score(rule, &self.documents, &self.windows, &self.logits())
    }
}

fn value(scores: &Scores, metric: Metric) -> Option<f64> {
    scores.iter().find(|(m, _)| *m == metric).map(|(_, value)| *value)
}

const ALWAYS: Answering = Answering { longest: LONGEST, none: NoAnswer::Never };
const OR_NONE: Answering = Answering { longest: LONGEST, none: NoAnswer::Above(0.0) };

#[test]
fn a_window_with_part_of_the_answer_has_none() {
    // Windows of tokens 0 to 5, 3 to 8 and 6 to 9, after [CLS] q [SEP].
    let text = "a b c d e f g h i";
    let of = |span: Range<usize>| {
        let rig = Rig::new(vec![document(text, &[[span.start, span.end]])]);
        read(&rig.documents, &rig.windows)
    };
    assert_eq!(of(8..11), Labels::Spans(vec![[0, 0], [4, 5], [0, 0]]));
    assert_eq!(of(6..9), Labels::Spans(vec![[6, 7], [3, 4], [0, 0]]));
    assert_eq!(of(0..1), Labels::Spans(vec![[3, 3], [0, 0], [0, 0]]));
    assert_eq!(of(16..17), Labels::Spans(vec![[0, 0], [0, 0], [5, 5]]));
    // Spaces around an answer are not part of it.
    assert_eq!(of(5..10), Labels::Spans(vec![[6, 7], [3, 4], [0, 0]]));
    // The first of several is learned.
    let rig = Rig::new(vec![document("a b", &[[2, 3], [0, 1]]), document("a b", &[])]);
    assert_eq!(read(&rig.documents, &rig.windows), Labels::Spans(vec![[4, 4], [0, 0]]));
}

#[test]
fn an_answer_within_a_token_takes_the_whole_token() {
    // "zz" is one unknown token.
    let rig = Rig::new(vec![document("a zz b", &[[3, 4]])]);
    assert_eq!(read(&rig.documents, &rig.windows), Labels::Spans(vec![[4, 4]]));
}

#[test]
fn the_summary_counts_what_cannot_be_answered() {
    let text = "a b c d e f g h i";
    let rig =
        Rig::new(vec![document(text, &[[0, 13]]), document("a", &[]), document("b", &[[0, 1]])]);
    let said = summary(Answering::default(), &rig.documents, &rig.windows);
    assert!(
        said.starts_with(
            "3 questions, 1 of them without an answer; 1 answer is whole in no window"
        ),
        "{said}"
    );
}

#[test]
fn the_summary_counts_what_is_too_long_to_be_given() {
    // Among several right answers the shortest can be given.
    let rig = Rig::new(vec![
        document("a b c", &[[0, 5]]),
        document("a b c", &[[0, 5], [0, 1]]),
        document("a b c", &[]),
    ]);
    let said = |longest| {
        summary(Answering { longest, ..Answering::default() }, &rig.documents, &rig.windows)
    };
    assert!(
        said(2).ends_with(
            "the answers to 1 question are longer than the 2 tokens of --max-answer-length and \
        cannot be given in full"
        ),
        "{}",
        said(2)
    );
    assert!(!said(3).contains("--max-answer-length"));
}

#[test]
fn the_best_answer_over_windows_is_cut_from_the_text() {
    let mut rig = Rig::new(vec![document("é  B, c d e f g h", &[])]);
    // The comma is an unknown token: é B , c d | c d e f g | …; é is the letter e, without its accent.
    rig.set(0, 4, 0, 2.0);
    rig.set(0, 6, 1, 2.0);
    rig.set(1, 5, 0, 3.0);
    rig.set(1, 4, 0, 1.0);
    rig.set(1, 4, 1, 9.0);
    let [record] = rig.records(ALWAYS).try_into().unwrap();
    // An end before its start is invalid, however high.
    assert_eq!(
        (&record["answer"], &record["start"], &record["end"]),
        (&json!("d"), &json!(8), &json!(9))
    );
    rig.set(1, 4, 1, 0.0);
    let [record] = rig.records(ALWAYS).try_into().unwrap();
    assert_eq!(record["answer"], "B, c");
    assert_eq!((record["start"].as_u64(), record["end"].as_u64()), (Some(3), Some(7)));
    assert_eq!(record.get("null_score"), None);
    // With at most two tokens, the start and the end are too far apart.
    let [record] = rig.records(Answering { longest: 2, ..ALWAYS }).try_into().unwrap();
    assert_ne!(record["answer"], "B, c");
}

#[test]
fn a_part_in_two_windows_counts_once() {
    let mut rig = Rig::new(vec![document("a b c d e f", &[])]);
    // "d" is the fourth token of the first window and the first of the second.
    for (window, token, logit) in [(0, 6, 4.0), (1, 3, 5.0)] {
        rig.set(window, token, 0, logit);
        rig.set(window, token, 1, logit);
    }
    let decoded = decode(1, &rig.documents.list, &rig.windows, &rig.logits());
    let best = &decoded[0].best;
    assert_eq!(best.len(), 6, "{best:?}");
    assert_eq!((best[0].tokens, best[0].score), ([3, 3], 10.0));
    let all = 1.0 + 5.0 * (-10.0f64).exp();
    let record = &rig.records(Answering { longest: 1, ..ALWAYS })[0];
    assert!((record["score"].as_f64().unwrap() - 1.0 / all).abs() < 1e-12);
}

#[test]
fn no_answer_is_given_where_its_lowest_score_exceeds_the_best_answer_by_the_threshold() {
    let mut rig = Rig::new(vec![document("a b c d e f", &[]), document("a", &[])]);
    for window in [0, 1] {
        rig.set(window, 0, 0, 2.0 + window as f32);
        rig.set(window, 0, 1, 2.0);
    }
    rig.set(1, 4, 0, 1.0);
    let rule = |threshold| Answering { none: NoAnswer::Above(threshold), ..OR_NONE };
    let answer = |rule| rig.records(rule)[0].clone();
    // 2 + 2 in the first window is lower, compared with 1 + 0.
    let none = answer(rule(2.9));
    assert_eq!(
        (&none["answer"], &none["start"], &none["null_score"]),
        (&json!(""), &Value::Null, &json!(3.0))
    );
    assert_eq!(none["score"], none["null_probability"]);
    assert_eq!(answer(rule(3.0))["answer"], "e");
    assert_eq!(answer(ALWAYS)["answer"], "e");
    assert_eq!(columns(ALWAYS).len() + 2, columns(OR_NONE).len());
}

#[test]
fn a_text_without_a_token_has_no_answer() {
    let rig = Rig::new(vec![document("", &[])]);
    for rule in [ALWAYS, OR_NONE] {
        let record = &rig.records(rule)[0];
        assert_eq!((&record["answer"], &record["score"]), (&json!(""), &json!(1.0)));
    }
}

#[test]
fn scores_tell_questions_with_and_without_an_answer_apart() {
    let mut rig = Rig::new(vec![
        document("a b c", &[[2, 5]]),
        document("d e", &[]),
        document("f g", &[[0, 1]]),
    ]);
    // Right, wrongly answered, half right.
    rig.set(0, 4, 0, 5.0);
    rig.set(0, 5, 1, 5.0);
    rig.set(1, 3, 0, 5.0);
    rig.set(2, 3, 0, 6.0);
    rig.set(2, 4, 1, 6.0);
    let scores = rig.scores(OR_NONE);
    let near = |metric, wanted: f64| {
        let found = value(&scores, metric).unwrap();
        assert!((found - wanted).abs() < 1e-12, "{metric}: {found}");
    };
    near(Metric::ExactMatch, 1.0 / 3.0);
    near(Metric::F1, (1.0 + 0.0 + 2.0 / 3.0) / 3.0);
    near(Metric::HasAnswerF1, (1.0 + 2.0 / 3.0) / 2.0);
    near(Metric::HasAnswerExact, 0.5);
    near(Metric::NoAnswerExact, 0.0);
    // Halfway from the doubts -12 and -10 of the answers with a value to -5.
    let tuned = tuned(OR_NONE, &rig.documents, &rig.windows, &rig.logits());
    assert_eq!(tuned.none, NoAnswer::Above(-7.5));
    let scores = rig.scores(tuned);
    assert_eq!(value(&scores, Metric::NoAnswerExact), Some(1.0));
    assert_eq!(value(&rig.scores(ALWAYS), Metric::NoAnswerExact), Some(0.0));
}

#[test]
fn where_every_question_has_an_answer_there_is_no_threshold_to_choose() {
    let rig = Rig::new(vec![document("a b", &[[0, 1]])]);
    for rule in [ALWAYS, OR_NONE] {
        assert_eq!(tuned(rule, &rig.documents, &rig.windows, &rig.logits()), rule);
    }
    let scores = rig.scores(ALWAYS);
    let names: Vec<Metric> = scores.iter().map(|(metric, _)| *metric).collect();
    assert_eq!(names, [Metric::Loss, Metric::F1, Metric::ExactMatch]);
    // The six tokens of [CLS] q [SEP] a b [SEP], all the same.
    assert!((scores[0].1 - 6f64.ln()).abs() < 1e-6);
}

#[test]
fn overlap_is_as_asked_where_windows_get_on() {
    // Of 324 tokens, 64 are for the question and 4 for special tokens.
    assert_eq!([512, 324, 323, 256, 64, 6].map(stride), [128, 128, 63, 47, 7, 0]);
}

#[test]
fn ids_that_come_again_are_named() {
    let mut list = vec![document("a", &[]), document("b", &[]), document("a", &[])];
    list[2].line = 9;
    let documents = Documents { name: "d".to_owned(), list };
    assert_eq!(repeated_ids(&documents), Some((1, "\"a\" at d:9".to_owned())));
    assert_eq!(repeated_ids(&documents.select(&[0, 1])), None);
}
