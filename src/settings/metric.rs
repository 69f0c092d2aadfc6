//! `--metric`: the names of the measures, and which of two values is better. `tasks::metrics` computes them.

use super::task_choice::TaskChoice;
use crate::error::{UsageError, suggestion};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A measure that an evaluation reports and that can choose the best checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    Accuracy,
    /// Of the positive class, if a named task has one; for answers word by word, as in SQuAD.
    F1,
    MacroF1,
    MicroF1,
    Matthews,
    Pearson,
    Spearman,
    /// Of entities, over all types together; precision and recall likewise.
    EntityF1,
    Precision,
    Recall,
    /// The share of questions whose answer matches exactly.
    ExactMatch,
    /// Over the questions that have an answer.
    HasAnswerF1,
    HasAnswerExact,
    /// The share of the questions without an answer that get none.
    NoAnswerExact,
    /// `e` to the mean loss of hidden words: lower is better, as for the loss.
    Perplexity,
    /// The mean loss on the development set.
    Loss,
}

impl Metric {
    pub const ALL: [Metric; 16] = [
        Metric::Accuracy,
        Metric::F1,
        Metric::MacroF1,
        Metric::MicroF1,
        Metric::Matthews,
        Metric::Pearson,
        Metric::Spearman,
        Metric::EntityF1,
        Metric::Precision,
        Metric::Recall,
        Metric::ExactMatch,
        Metric::HasAnswerF1,
        Metric::HasAnswerExact,
        Metric::NoAnswerExact,
        Metric::Perplexity,
        Metric::Loss,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Accuracy => "accuracy",
            Metric::F1 => "f1",
            Metric::MacroF1 => "macro-f1",
            Metric::MicroF1 => "micro-f1",
            Metric::Matthews => "matthews",
            Metric::Pearson => "pearson",
            Metric::Spearman => "spearman",
            Metric::EntityF1 => "entity-f1",
            Metric::Precision => "precision",
            Metric::Recall => "recall",
            Metric::ExactMatch => "exact-match",
            Metric::HasAnswerF1 => "has-answer-f1",
            Metric::HasAnswerExact => "has-answer-exact",
            Metric::NoAnswerExact => "no-answer-exact",
            Metric::Perplexity => "perplexity",
            Metric::Loss => "loss",
        }
    }

    /// The key in `metrics.jsonl` and other JSON: the name with an underscore, as in the step records.
    pub fn key(self) -> &'static str {
        match self {
            Metric::MacroF1 => "macro_f1",
            Metric::MicroF1 => "micro_f1",
            Metric::EntityF1 => "entity_f1",
            Metric::ExactMatch => "exact_match",
            Metric::HasAnswerF1 => "has_answer_f1",
            Metric::HasAnswerExact => "has_answer_exact",
            Metric::NoAnswerExact => "no_answer_exact",
            other => other.name(),
        }
    }

    /// True if an evaluation of `task` has this measure.
    pub fn fits(self, task: TaskChoice) -> bool {
        self == Metric::Loss || task.measures().contains(&self)
    }

    pub fn higher_is_better(self) -> bool {
        !matches!(self, Metric::Loss | Metric::Perplexity)
    }

    /// True if `value` is strictly better than `best`; any number is better than NaN, NaN better than nothing.
    pub fn improves(self, value: f64, best: Option<f64>) -> bool {
        match best {
            None => true,
            Some(best) if best.is_nan() => !value.is_nan(),
            Some(best) if self.higher_is_better() => value > best,
            Some(best) => value < best,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Metric {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<Self, UsageError> {
        let text = text.replace('_', "-");
        Self::ALL.into_iter().find(|metric| metric.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Metric::name);
            UsageError::new(format!(
                "unknown metric `{text}`{}; known: {}",
                suggestion(&text, names),
                names.join(", ")
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::task::Task;

    #[test]
    fn the_best_is_the_first_of_equals_and_never_nan() {
        assert!(Metric::Accuracy.improves(0.5, None));
        assert!(Metric::Accuracy.improves(0.6, Some(0.5)));
        assert!(!Metric::Accuracy.improves(0.5, Some(0.5)));
        assert!(Metric::Loss.improves(0.4, Some(0.5)));
        assert!(!Metric::Loss.improves(0.6, Some(0.5)));
        assert!(!Metric::Loss.improves(f64::NAN, Some(0.5)));
        assert!(Metric::Loss.improves(0.5, Some(f64::NAN)));
    }

    #[test]
    fn names_parse_with_either_separator_and_mistakes_are_helped() {
        for metric in Metric::ALL {
            assert_eq!(metric.name().parse::<Metric>(), Ok(metric));
            assert_eq!(metric.key().parse::<Metric>(), Ok(metric));
        }
        let error = "acuracy".parse::<Metric>().unwrap_err().to_string();
        assert!(error.contains("did you mean `accuracy`?"), "{error}");
        let kind = TaskChoice::Kind;
        assert!(!Metric::Pearson.fits(kind(Task::Classification)));
        assert!(Metric::Loss.fits(kind(Task::Regression)));
        let mrpc: TaskChoice = "mrpc".parse().unwrap();
        assert!(Metric::F1.fits(mrpc) && !Metric::F1.fits(kind(Task::Classification)));
        assert_eq!(mrpc.measures()[0], Metric::F1);
    }
}
