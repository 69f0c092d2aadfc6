//! Answers to questions as parts of a text (`…ForQuestionAnswering` of transformers): two logits per token say where
//! the answer starts and where it ends; the first token of the sequence stands for no answer. Training uses the first
//! of several right answers; the answer to a question is the best over its windows.

use super::answer_measures::{Doubt, Measured, best_threshold, measured};
use super::classification::log_softmax;
use super::examples::TokenLogits;
use super::metrics::Scores;
use super::targets::Prediction;
use crate::batch::Labels;
use crate::data::{Document, Documents, Gold, Mark, Window, Windows, longest_question, place};
use crate::settings::metric::Metric;
use crate::settings::no_answer::NoAnswer;
use crate::words;
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// Logits per token.
pub const OUTPUTS: usize = 2;
/// Special tokens around a question and a text: RoBERTa's.
const MOST_SPECIALS: usize = 4;
/// Default for the most tokens of an answer.
pub const LONGEST: usize = 30;
/// The number of a question's best answers over which its probabilities are normalised, as in transformers' scripts.
const BEST: usize = 20;
/// Tokens shared by consecutive windows, if there is room for twice as many.
const STRIDE: usize = 128;

/// How answers are decoded from the logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answering {
    /// Most tokens of an answer.
    pub longest: usize,
    pub none: NoAnswer,
}

impl Default for Answering {
    fn default() -> Self {
        Self { longest: LONGEST, none: NoAnswer::Above(0.0) }
    }
}

impl Answering {
    /// The default for documents to train on: if all have an answer, one is always given.
    pub fn of(documents: &Documents) -> Self {
        match some_unanswered(documents) {
            true => Self::default(),
            false => Self { none: NoAnswer::Never, ..Self::default() },
        }
    }
}

/// The overlap of windows of `max_len` tokens: each must advance by more than it repeats.
pub fn stride(max_len: usize) -> usize {
    let room = max_len.saturating_sub(longest_question(max_len) + MOST_SPECIALS);
    if room >= 2 * STRIDE { STRIDE } else { room / 4 }
}

/// The right answers to a question.
fn right(document: &Document) -> &[Mark] {
    match &document.gold {
        Gold::Answers(marks) => marks,
        _ => &[],
    }
}

/// Whether a question has no answer.
pub fn is_unanswered(document: &Document) -> bool {
    right(document).is_empty()
}

/// Whether documents include questions without an answer.
pub fn some_unanswered(documents: &Documents) -> bool {
    documents.list.iter().any(is_unanswered)
}

/// The tokens of a window for a part of a text, counted in the sequence; none if it extends beyond the window.
fn tokens_of(window: &Window, text: &str, part: &Range<usize>) -> Option<[u32; 2]> {
    let inside = text.get(part.clone())?;
    let start = part.start + (inside.len() - inside.trim_start().len());
    let end = start + inside.trim().len();
    let seen = || window.bytes.iter().enumerate().filter(|(_, bytes)| !bytes.is_empty());
    let whole = seen().next()?.1.start <= start && end <= seen().next_back()?.1.end;
    let first = seen().find(|(_, bytes)| bytes.end > start).filter(|_| whole)?.0;
    let last = seen().rfind(|(_, bytes)| bytes.start < end)?.0;
    (first <= last).then_some([(window.first + first) as u32, (window.first + last) as u32])
}

/// Where the first right answer is in each window; at the sequence's first token if it is not there.
pub fn read(documents: &Documents, windows: &Windows) -> Labels {
    let span = |window: &Window| {
        let document = &documents.list[window.document];
        let mark = right(document).first();
        mark.and_then(|mark| tokens_of(window, &document.text, &mark.span)).unwrap_or_default()
    };
    Labels::Spans(windows.list.iter().map(span).collect())
}

/// What the questions are, as a line for people.
pub fn summary(rule: Answering, documents: &Documents, windows: &Windows) -> String {
    let all = documents.list.len();
    let without = documents.list.iter().filter(|document| right(document).is_empty()).count();
    let mut found = HashSet::new();
    if let Labels::Spans(spans) = read(documents, windows) {
        let inside = windows.list.iter().zip(spans).filter(|(_, span)| *span != [0, 0]);
        found.extend(inside.map(|(window, _)| window.document));
    }
    let cut = match all - without - found.len() {
        0 => String::new(),
        cut => format!(
            "; {} {} whole in no window and count as unanswered there (a larger --stride keeps more of them whole, \
             except those that the tokenizer \
             drops)",
            words::count(cut, "answer"),
            words::are(cut)
        ),
    };
    let unanswered = match without {
        0 => String::new(),
        without => format!(", {without} of them without an answer"),
    };
    let long = match too_long(rule, documents, windows) {
        0 => String::new(),
        long => format!(
            "; the answers to {} are longer than the {} tokens of --max-answer-length and cannot be given in full",
            words::count(long, "question"),
            rule.longest
        ),
    };
    format!("{}{unanswered}{cut}{long}", words::count(all, "question"))
}

/// How many questions have no right answer short enough to be given, among those fully inside a window.
fn too_long(rule: Answering, documents: &Documents, windows: &Windows) -> usize {
    let mut shortest: HashMap<usize, usize> = HashMap::new();
    for window in &windows.list {
        let document = &documents.list[window.document];
        for mark in right(document) {
            if let Some([start, end]) = tokens_of(window, &document.text, &mark.span) {
                let length = (end - start) as usize + 1;
                let least = shortest.entry(window.document).or_insert(length);
                *least = length.min(*least);
            }
        }
    }
    shortest.into_values().filter(|&length| length > rule.longest).count()
}

/// How many documents repeat an earlier document's id, and the first such id.
pub fn repeated_ids(documents: &Documents) -> Option<(usize, String)> {
    let mut seen = HashSet::new();
    let ids =
        documents.list.iter().filter_map(|document| Some((document, document.id.as_deref()?)));
    let again: Vec<_> = ids.filter(|(_, id)| !seen.insert(*id)).collect();
    let (first, id) = again.first()?;
    Some((again.len(), format!("{id:?} at {}", place(&documents.name, first.line))))
}

/// A part of a text and the sum of its ends' logits.
#[derive(Clone, Debug, PartialEq)]
struct Candidate {
    /// The first and the last token, counted in the document.
    tokens: [usize; 2],
    bytes: Range<usize>,
    score: f64,
}

/// What was found for one question.
struct Decoded {
    /// Best first.
    best: Vec<Candidate>,
    /// The lowest score of no answer in any window.
    none: f64,
}

impl Decoded {
    /// By how much the score of no answer exceeds that of the best answer.
    fn doubt(&self) -> f64 {
        self.best.first().map_or(f64::INFINITY, |best| self.none - best.score)
    }

    fn answer(&self, rule: Answering) -> Option<&Candidate> {
        let best = self.best.first()?;
        match rule.none {
            NoAnswer::Above(threshold) if self.doubt() > threshold => None,
            _ => Some(best),
        }
    }

    fn text<'t>(&self, rule: Answering, document: &'t Document) -> &'t str {
        self.answer(rule).map_or("", |answer| &document.text[answer.bytes.clone()])
    }

    /// The share of a score among the best answers and, if no answer is allowed, that option.
    fn probability(&self, score: f64, rule: Answering) -> f64 {
        let none = rule.none.threshold().map(|_| self.none);
        let all = self.best.iter().map(|candidate| candidate.score).chain(none);
        1.0 / all.map(|other| (other - score).exp()).sum::<f64>()
    }
}

/// Merges the best answers of a window into those of earlier windows.
fn collect(best: &mut Vec<Candidate>, window: &Window, logits: &[(f64, f64)], longest: usize) {
    let seen: Vec<bool> = window.bytes.iter().map(|bytes| !bytes.is_empty()).collect();
    for (i, &(start, _)) in logits.iter().enumerate().filter(|&(i, _)| seen[i]) {
        for (j, &(_, end)) in
            logits.iter().enumerate().skip(i).take(longest).filter(|&(j, _)| seen[j])
        {
            let score = start + end;
            if best.len() == BEST && best.last().is_some_and(|last| score <= last.score) {
                continue;
            }
            let tokens = [window.tokens.start + i, window.tokens.start + j];
            // A part seen by two windows counts once.
            if let Some(at) = best.iter().position(|other| other.tokens == tokens) {
                if best[at].score >= score {
                    continue;
                }
                best.remove(at);
            }
            let bytes = window.bytes[i].start..window.bytes[j].end;
            if bytes.is_empty() {
                continue;
            }
            let at = best.partition_point(|other| other.score >= score);
            best.insert(at, Candidate { tokens, bytes, score });
            best.truncate(BEST);
        }
    }
}

fn decode(
    longest: usize,
    documents: &[Document],
    windows: &Windows,
    logits: &TokenLogits<'_>,
) -> Vec<Decoded> {
    let blank = || Decoded { best: Vec::new(), none: f64::INFINITY };
    let mut all: Vec<Decoded> = documents.iter().map(|_| blank()).collect();
    for (index, window) in windows.list.iter().enumerate() {
        let decoded = &mut all[window.document];
        let pair = |of: &[f32]| (f64::from(of[0]), f64::from(of[1]));
        let (start, end) = pair(logits.at(index, 0));
        decoded.none = decoded.none.min(start + end);
        let of_text: Vec<_> =
            (0..window.bytes.len()).map(|i| pair(logits.of(index, window, i))).collect();
        collect(&mut decoded.best, window, &of_text, longest);
    }
    all
}

fn labels_of(document: &Document) -> impl Iterator<Item = &str> {
    right(document).iter().map(|mark| mark.label.as_str())
}

/// The rule with the best threshold for these documents, if it has one and they determine it.
pub fn tuned(
    rule: Answering,
    documents: &Documents,
    windows: &Windows,
    logits: &TokenLogits<'_>,
) -> Answering {
    if rule.none == NoAnswer::Never || !some_unanswered(documents) {
        return rule;
    }
    let always = Answering { none: NoAnswer::Never, ..rule };
    let decoded = decode(rule.longest, &documents.list, windows, logits);
    let doubts: Vec<Doubt> = (documents.list.iter().zip(&decoded))
        .map(|(document, decoded)| Doubt {
            score: decoded.doubt(),
            worth: measured(decoded.text(always, document), labels_of(document)).f1,
            answered: !right(document).is_empty(),
        })
        .collect();
    Answering { none: NoAnswer::Above(best_threshold(&doubts)), ..rule }
}

/// Mean loss of the windows, and exact match and F1 of the questions.
pub fn score(
    rule: Answering,
    documents: &Documents,
    windows: &Windows,
    logits: &TokenLogits<'_>,
) -> Scores {
    let mut loss = 0.0;
    if let Labels::Spans(spans) = read(documents, windows) {
        for (index, span) in spans.iter().enumerate() {
            let of = logits.sequence(index);
            for (column, &token) in span.iter().enumerate() {
                let one: Vec<f32> = of.iter().skip(column).step_by(2).copied().collect();
                loss -= log_softmax(&one)[token as usize];
            }
        }
    }
    let decoded = decode(rule.longest, &documents.list, windows, logits);
    let of = |answered: Option<bool>| -> Measured {
        let (mut count, mut sum) = (0.0, Measured::default());
        for (document, decoded) in documents.list.iter().zip(&decoded) {
            if answered.is_none_or(|answered| answered != right(document).is_empty()) {
                let of = measured(decoded.text(rule, document), labels_of(document));
                count += 1.0;
                sum = Measured { exact: sum.exact + of.exact, f1: sum.f1 + of.f1 };
            }
        }
        let share = |sum: f64| if count > 0.0 { sum / count } else { 0.0 };
        Measured { exact: share(sum.exact), f1: share(sum.f1) }
    };
    let (all, has, none) = (of(None), of(Some(true)), of(Some(false)));
    let value = |metric| match metric {
        Metric::F1 => all.f1,
        Metric::ExactMatch => all.exact,
        Metric::HasAnswerF1 => has.f1,
        Metric::HasAnswerExact => has.exact,
        _ => none.exact,
    };
    let loss = (Metric::Loss, loss / (2 * windows.list.len()) as f64);
    let rest = measures(documents).into_iter().map(|metric| (metric, value(metric)));
    std::iter::once(loss).chain(rest).collect()
}

/// The measures for these questions: also separately for those with and without an answer, if some have none.
pub fn measures(documents: &Documents) -> Vec<Metric> {
    let mut measures = vec![Metric::F1, Metric::ExactMatch];
    if some_unanswered(documents) {
        if documents.list.iter().any(|document| !right(document).is_empty()) {
            measures.extend([Metric::HasAnswerF1, Metric::HasAnswerExact]);
        }
        measures.push(Metric::NoAnswerExact);
    }
    measures
}

/// The columns of [`answers`] in a table.
pub fn columns(rule: Answering) -> Vec<String> {
    let none = rule.none.threshold().map(|_| ["null_score", "null_probability"]);
    let names = ["id", "answer", "score", "start", "end"];
    names.into_iter().chain(none.into_iter().flatten()).map(str::to_owned).collect()
}

/// The answer to each question: its text, the probability, its position in characters, and the score of no answer.
pub fn answers(
    rule: Answering,
    documents: &[Document],
    windows: &Windows,
    logits: &TokenLogits<'_>,
) -> Vec<Prediction> {
    let decoded = decode(rule.longest, documents, windows, logits);
    documents
        .iter()
        .zip(&decoded)
        .map(|(document, decoded)| answer(rule, document, decoded))
        .collect()
}

fn answer(rule: Answering, document: &Document, decoded: &Decoded) -> Prediction {
    let given = decoded.answer(rule);
    let characters = |end: usize| document.text[..end].chars().count();
    let [start, end] = match given {
        Some(given) => [given.bytes.start, given.bytes.end].map(|byte| json!(characters(byte))),
        None => [Value::Null, Value::Null],
    };
    let score = given.map_or(decoded.none, |given| given.score);
    // Without a token in the text there is nothing to choose from.
    let probability = match decoded.best.is_empty() {
        true => json!(1.0),
        false => json!(decoded.probability(score, rule)),
    };
    let mut record = Map::new();
    record.insert("id".into(), json!(document.id));
    record.insert("answer".into(), json!(decoded.text(rule, document)));
    record.insert("score".into(), probability);
    record.insert("start".into(), start);
    record.insert("end".into(), end);
    if rule.none != NoAnswer::Never {
        let doubt = decoded.doubt();
        record.insert(
            "null_score".into(),
            if doubt.is_finite() { json!(doubt) } else { Value::Null },
        );
        let none = if doubt.is_finite() { decoded.probability(decoded.none, rule) } else { 1.0 };
        record.insert("null_probability".into(), json!(none));
    }
    let field = |column: &String| match &record[column.as_str()] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Number(number) if column == "score" || column == "null_probability" => {
            format!("{:.7}", number.as_f64().unwrap_or_default())
        }
        other => other.to_string(),
    };
    let line = columns(rule).iter().map(field).collect();
    Prediction { record: record.into(), lines: vec![line] }
}

#[cfg(test)]
#[path = "answers_tests.rs"]
mod tests;
