//! A task with known labels: the only place that dispatches on the task. How each one handles labels and logits is in
//! its own file.

use super::answers::{self, Answering};
use super::classification::{self, argmax};
use super::confusion::{Confusion, Tally};
use super::entities::EntityTally;
use super::examples::{Examples, Prepared, TokenLogits};
use super::labels::ClassNames;
use super::masked_words;
use super::metrics::Scores;
use super::multi_label;
use super::regression;
use super::splitting::Splitting;
use super::tags;
use crate::batch::Labels;
use crate::data::{Document, Documents, MaskRules, Table, Windows};
use crate::settings::benchmark::{Answers, NamedTask};
use crate::settings::metric::Metric;
use crate::settings::no_answer::NoAnswer;
use crate::settings::task::Task;
use crate::settings::train::TrainConfig;
use anyhow::{Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;

/// What a task's labels are.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// Prediction.
    None,
    /// One class per text.
    Classes(ClassNames),
    /// Any number of labels per text.
    Several(ClassNames, Splitting),
    /// This many numbers per text.
    Values { outputs: usize, splitting: Splitting },
    /// One class per word.
    Tags(ClassNames),
    /// The part of a text that answers a question.
    Spans(Answering),
    /// Hidden words, from a vocabulary of this size.
    Words { vocabulary: usize, rules: MaskRules },
}

/// The answer for one document.
pub struct Prediction {
    /// For JSON lines.
    pub record: Value,
    /// For a table: lines of fields.
    pub lines: Vec<Vec<String>>,
}

impl Targets {
    /// What examples say about a task's labels.
    ///
    /// # Errors
    /// Labels that the task cannot have, by file and line.
    pub fn of(task: Task, splitting: Splitting, examples: &Examples) -> Result<Self> {
        Ok(match (task, examples) {
            (Task::Classification, Examples::Texts(table)) => {
                Self::Classes(ClassNames::from_table(table)?)
            }
            (Task::MultiLabel, Examples::Texts(table)) => {
                Self::Several(multi_label::names(table, &splitting)?, splitting)
            }
            (Task::Regression, Examples::Texts(table)) => {
                let outputs = regression::outputs(table, &splitting)?;
                Self::Values { outputs, splitting }
            }
            (Task::TokenClassification, Examples::Documents(documents)) => {
                Self::Tags(tags::names(documents)?)
            }
            (Task::QuestionAnswering, Examples::Documents(documents)) => {
                Self::Spans(Answering::of(documents))
            }
            (_, examples) => {
                bail!("{}: --task {task} does not read such examples", examples.name())
            }
        })
    }

    /// For a named task, whose classes have a fixed order.
    ///
    /// # Errors
    /// No existing task gives one.
    pub fn of_named(task: &NamedTask) -> Result<Self> {
        match task.answers {
            Answers::Classes(classes) => {
                let names = classes.iter().map(|class| class.name.to_owned()).collect();
                Ok(Self::Classes(ClassNames::from_names(names, 2)?))
            }
            Answers::Scores(..) => Ok(Self::Values { outputs: 1, splitting: Splitting::LISTS }),
        }
    }

    /// For a trained task: the names of its outputs, and their number.
    ///
    /// # Errors
    /// Names that cannot be distinguished.
    pub fn trained(
        task: Task,
        splitting: Splitting,
        names: Vec<String>,
        outputs: usize,
    ) -> Result<Self> {
        Ok(match task {
            Task::Classification => Self::Classes(ClassNames::from_names(names, 2)?),
            Task::MultiLabel => Self::Several(ClassNames::from_names(names, 1)?, splitting),
            Task::Regression => Self::Values { outputs, splitting },
            Task::TokenClassification => Self::Tags(ClassNames::from_names(names, 2)?),
            Task::QuestionAnswering => Self::Spans(Answering::default()),
            Task::MaskedLm => bail!("hidden words have rules of their own"),
        })
    }

    /// Hidden words, by these rules.
    pub fn words(vocabulary: usize, settings: &TrainConfig) -> Self {
        let rules = MaskRules {
            probability: settings.mask_probability(),
            whole_words: settings.whole_word_masking,
            seed: settings.seed,
        };
        Self::Words { vocabulary, rules }
    }

    /// The same with another longest answer, and another rule for when a question has none, if given.
    #[must_use]
    pub fn reading_answers(self, longest: Option<usize>, none: Option<NoAnswer>) -> Self {
        match self {
            Self::Spans(rule) => Self::Spans(Answering {
                longest: longest.unwrap_or(rule.longest),
                none: none.unwrap_or(rule.none),
            }),
            other => other,
        }
    }

    /// The same with another separator for several labels or numbers.
    #[must_use]
    pub fn split_at(self, separator: &str) -> Self {
        let splitting = Splitting::at(separator);
        match self {
            Self::Several(names, _) => Self::Several(names, splitting),
            Self::Values { outputs, .. } => Self::Values { outputs, splitting },
            other => other,
        }
    }

    /// When a question has no answer, if the task answers questions.
    pub fn no_answer(&self) -> Option<NoAnswer> {
        match self {
            Self::Spans(rule) => Some(rule.none),
            _ => None,
        }
    }

    /// The same, tuned on these documents.
    #[must_use]
    pub fn tuned(
        &self,
        documents: &Documents,
        windows: &Windows,
        logits: &TokenLogits<'_>,
    ) -> Self {
        match self {
            Self::Spans(rule) => Self::Spans(answers::tuned(*rule, documents, windows, logits)),
            other => other.clone(),
        }
    }

    /// The classes or labels, if outputs have names.
    pub fn names(&self) -> &[String] {
        match self {
            Self::Classes(names) | Self::Several(names, _) | Self::Tags(names) => names.names(),
            Self::None | Self::Values { .. } | Self::Spans(_) | Self::Words { .. } => &[],
        }
    }

    /// The classes, if a text has one.
    pub fn classes(&self) -> Option<&ClassNames> {
        match self {
            Self::Classes(classes) => Some(classes),
            _ => None,
        }
    }

    /// The classes or labels, if outputs have names.
    pub fn named(&self) -> Option<&ClassNames> {
        match self {
            Self::Classes(names) | Self::Several(names, _) | Self::Tags(names) => Some(names),
            _ => None,
        }
    }

    /// Logits per text or token.
    pub fn outputs(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Classes(names) | Self::Several(names, _) | Self::Tags(names) => {
                names.names().len()
            }
            Self::Values { outputs, .. } => *outputs,
            Self::Spans(_) => answers::OUTPUTS,
            Self::Words { vocabulary, .. } => *vocabulary,
        }
    }

    /// Default overlap of windows on a long text, in tokens.
    pub fn stride(&self, max_len: usize) -> usize {
        match self {
            // So that a word at an edge has as much context in one of two windows.
            Self::Tags(_) => max_len / 4,
            Self::Spans(_) => answers::stride(max_len),
            _ => 0,
        }
    }

    /// The measures of an evaluation of these rows other than the loss; the first is the one that chooses.
    pub fn measures(&self, task: Task, rows: Option<&Prepared>) -> Vec<Metric> {
        match (self, rows.and_then(|rows| rows.documents.as_ref())) {
            (Self::Tags(names), _) => tags::measures(names).to_vec(),
            (Self::Spans(_), Some(rows)) => answers::measures(&rows.documents),
            _ => task.facts().measures.to_vec(),
        }
    }

    /// The targets of every row of a table.
    ///
    /// # Errors
    /// With file and line: a label that the task does not have, that is not a finite number, or that is empty.
    pub fn read(&self, table: &Table) -> Result<Labels> {
        match self {
            Self::None => Ok(Labels::None),
            Self::Classes(classes) => classification::read(classes, table),
            Self::Several(names, splitting) => multi_label::read(names, splitting, table),
            Self::Values { outputs, splitting } => regression::read(*outputs, splitting, table),
            Self::Tags(_) => bail!("{}: expected words with tags, not texts", table.name),
            Self::Spans(_) => bail!("{}: expected questions, not texts", table.name),
            Self::Words { .. } => bail!("{}: expected running text, not rows", table.name),
        }
    }

    /// Mean loss and the task's measures of logits `[rows, outputs]` against labels.
    pub fn score(&self, logits: &[f32], labels: &Labels) -> Scores {
        match (self, labels) {
            (Self::Classes(_), Labels::Classes(gold)) => {
                classification::score(logits, self.outputs(), gold)
            }
            (Self::Several(..), Labels::Values(gold)) => {
                multi_label::score(logits, self.outputs(), gold)
            }
            (Self::Values { outputs, .. }, Labels::Values(gold)) => {
                regression::score(logits, *outputs, gold)
            }
            (Self::Words { .. }, _) => masked_words::score(logits),
            _ => Scores::new(),
        }
    }

    /// Whether all of two or more texts got the same answer, for which no correlation is defined.
    pub fn one_answer(&self, logits: &[f32]) -> bool {
        let rows: Vec<&[f32]> = logits.chunks_exact(self.outputs().max(1)).collect();
        rows.len() > 1
            && rows.windows(2).all(|pair| match self {
                Self::Classes(_) => argmax(pair[0]) == argmax(pair[1]),
                Self::Several(..) => {
                    pair[0].iter().zip(pair[1]).all(|(&a, &b)| (a > 0.0) == (b > 0.0))
                }
                Self::Values { .. } => pair[0] == pair[1],
                Self::None | Self::Tags(_) | Self::Spans(_) | Self::Words { .. } => false,
            })
    }

    /// The labels of windows on documents, as used by the loss.
    ///
    /// # Errors
    /// With file and line: a label that the task does not have, or that does not fit its text.
    pub fn of_windows(&self, documents: &Documents, windows: &Windows) -> Result<Labels> {
        match self {
            Self::Tags(names) => tags::read(names, documents, windows),
            Self::Spans(_) => Ok(answers::read(documents, windows)),
            _ => Ok(Labels::None),
        }
    }

    /// Mean loss and the task's measures of the logits of windows on documents.
    pub fn score_windows(
        &self,
        documents: &Documents,
        windows: &Windows,
        logits: &TokenLogits<'_>,
    ) -> Scores {
        match self {
            Self::Tags(names) => tags::score(names, &documents.list, windows, logits),
            Self::Spans(rule) => answers::score(*rule, documents, windows, logits),
            _ => Scores::new(),
        }
    }

    /// How often each of several labels is right, gold and predicted; empty for other targets.
    pub fn tallies(&self, logits: &[f32], labels: &Labels) -> Vec<Tally> {
        match (self, labels) {
            (Self::Several(..), Labels::Values(gold)) => {
                multi_label::tallies(logits, self.outputs(), gold)
            }
            _ => Vec::new(),
        }
    }

    /// The confusion of tags, if tags are measured word by word.
    pub fn confusion_of_words(
        &self,
        documents: &[Document],
        windows: &Windows,
        logits: &TokenLogits<'_>,
    ) -> Option<Confusion> {
        match self {
            Self::Tags(names) => tags::confusion(names, documents, windows, logits),
            _ => None,
        }
    }

    /// How well each type of entity is found, if there are types.
    pub fn types(
        &self,
        documents: &[Document],
        windows: &Windows,
        logits: &TokenLogits<'_>,
    ) -> BTreeMap<String, EntityTally> {
        match self {
            Self::Tags(names) => tags::types(names, documents, windows, logits),
            _ => BTreeMap::new(),
        }
    }

    /// The answer for each document.
    pub fn answers(
        &self,
        documents: &[Document],
        windows: &Windows,
        logits: &TokenLogits<'_>,
    ) -> Vec<Prediction> {
        match self {
            Self::Tags(names) => tags::answers(names, documents, windows, logits),
            Self::Spans(rule) => answers::answers(*rule, documents, windows, logits),
            _ => Vec::new(),
        }
    }

    /// The columns of predictions in a table; empty if it has no header.
    pub fn columns(&self) -> Vec<String> {
        match self {
            Self::None | Self::Tags(_) | Self::Words { .. } => Vec::new(),
            Self::Spans(rule) => answers::columns(*rule),
            Self::Classes(classes) => classification::columns(classes),
            Self::Several(names, _) => multi_label::columns(names),
            Self::Values { outputs, .. } => regression::columns(*outputs),
        }
    }

    /// The prediction of one text, for [`columns`](Self::columns).
    pub fn fields(&self, logits: &[f32]) -> Vec<String> {
        match self {
            Self::None | Self::Tags(_) | Self::Spans(_) | Self::Words { .. } => Vec::new(),
            Self::Classes(classes) => classification::fields(classes, logits),
            Self::Several(names, splitting) => multi_label::fields(names, splitting, logits),
            Self::Values { .. } => logits.iter().map(f32::to_string).collect(),
        }
    }

    /// The prediction of one text, as JSON.
    pub fn record(&self, logits: &[f32]) -> Value {
        match self {
            Self::None | Self::Tags(_) | Self::Spans(_) | Self::Words { .. } => Value::Null,
            Self::Classes(classes) => classification::record(classes, logits),
            Self::Several(names, _) => multi_label::record(names, logits),
            Self::Values { .. } => regression::record(logits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_for_all_is_seen_by_the_answers_and_not_by_the_logits() {
        let names = || ClassNames::from_names(vec!["a".into(), "b".into()], 2).unwrap();
        let classes = Targets::Classes(names());
        assert!(classes.one_answer(&[2.0, 1.0, 5.0, 0.0]));
        assert!(!classes.one_answer(&[2.0, 1.0, 0.0, 5.0]));
        let several = Targets::Several(names(), Splitting::LISTS);
        assert!(several.one_answer(&[2.0, -1.0, 5.0, -3.0]));
        assert!(!several.one_answer(&[2.0, 1.0, 5.0, -3.0]));
        let values = Targets::Values { outputs: 1, splitting: Splitting::LISTS };
        assert!(values.one_answer(&[0.5, 0.5]) && !values.one_answer(&[0.5, 0.6]));
        assert!(!values.one_answer(&[0.5]), "one row is one answer");
    }
}
