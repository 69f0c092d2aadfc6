//! The results of one evaluation: the measures, and for classes the confusion.

use serde_json::{Map, Value};

use super::classification::argmax;
use super::confusion::{Confusion, Tally};
use super::examples::Prepared;
use super::metrics::{Scores, f1_of};
use super::targets::Targets;
use crate::batch::Labels;
use crate::settings::metric::Metric;
use crate::settings::no_answer::NoAnswer;

/// The key of the threshold from which on a question is left unanswered.
pub const THRESHOLD: &str = "no_answer_threshold";

/// The evaluation of one set of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Distinguishes several sets of rows; empty if there is only one.
    pub part: &'static str,
    pub scores: Scores,
    /// When a question was left unanswered; only for question answering.
    pub no_answer: Option<NoAnswer>,
    /// `None` if neither texts nor words have one class each.
    pub confusion: Option<Confusion>,
    /// How often each class or label is right, gold and predicted; empty if there are none.
    pub each: Vec<Tally>,
    /// Whether all of two or more rows got the same answer.
    pub one_answer: bool,
}

impl Evaluation {
    /// From the logits of prepared rows; `positive` is the class whose F1 counts, if the task has one.
    pub fn of(
        part: &'static str,
        prepared: &Prepared,
        targets: &Targets,
        logits: &[f32],
        positive: Option<u32>,
    ) -> Self {
        let mut scores = prepared.score(targets, logits);
        let (outputs, labels) = (targets.outputs(), prepared.labels());
        if let (Some(positive), Labels::Classes(gold)) = (positive, labels) {
            let predicted: Vec<u32> = logits.chunks_exact(outputs).map(argmax).collect();
            scores.push((Metric::F1, f1_of(positive, &predicted, gold)));
        }
        let confusion = prepared.confusion(targets, logits);
        Self {
            part,
            scores,
            no_answer: targets.no_answer(),
            each: match &confusion {
                Some(confusion) => confusion.tallies(),
                None => targets.tallies(logits, labels),
            },
            confusion,
            one_answer: prepared.one_answer(targets, logits),
        }
    }

    /// One of its measures.
    pub fn value(&self, metric: Metric) -> Option<f64> {
        self.scores.iter().find(|(m, _)| *m == metric).map(|&(_, value)| value)
    }

    /// The measures by key, and the threshold that they hold for.
    pub fn scores_json(&self) -> Map<String, Value> {
        let scores = self.scores.iter().map(|&(metric, value)| (metric.key(), value));
        let threshold = self.no_answer.and_then(NoAnswer::threshold);
        let threshold = threshold.map(|threshold| (THRESHOLD, threshold));
        let all = scores.chain(threshold);
        all.map(|(key, value)| (key.to_owned(), value.into())).collect()
    }

    /// In the form of a log line: with the cells of the confusion.
    pub fn record(&self) -> Value {
        let mut record = self.scores_json();
        if let Some(confusion) = &self.confusion {
            record.insert("confusion".to_owned(), confusion.cells_json());
        }
        Value::Object(record)
    }
}

/// `eval` for the first of several evaluations, `eval_mismatched` for a further one.
pub fn key_of(key: &str, place: usize, part: &str) -> String {
    if place == 0 { key.to_owned() } else { format!("{key}_{part}") }
}
