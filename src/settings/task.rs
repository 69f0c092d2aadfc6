//! The tasks. Each says once what its loss is, where its head sits, how it is measured and which class of transformers
//! loads it; whatever depends on the task asks for these facts. What a task makes of labels and logits is in
//! [`crate::tasks`], a file each.

use super::choice::choices;
use super::metric::Metric;
use crate::program::{LossKind, PoolKind, Portion};

choices! {
    /// What the labels are.
    pub enum Task {
        #[default]
        Classification = "classification",
            "One class per text, a word or an integer; cross-entropy loss";
        MultiLabel = "multi-label",
            "Any number of labels per text, joined by --label-separator or as a JSON list; binary cross-entropy loss";
        Regression = "regression",
            "One number per text, or several joined by --label-separator or as a JSON list; mean squared error";
        TokenClassification = "token-classification",
            "One tag per word (names, parts of speech); cross-entropy loss on the first token of each word";
        QuestionAnswering = "question-answering",
            "The part of a text that answers a question, or no answer; cross-entropy loss on its first and last token";
        MaskedLm = "masked-lm",
            "Hidden words of running text, with the checkpoint's pre-training head; cross-entropy loss";
    }
}

/// The share of a text's tokens that are hidden, where nothing is said.
pub const MASK_PROBABILITY: f64 = 0.15;

/// What an example of a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// A text or a pair, a row of a table.
    Texts,
    /// Words with a tag each.
    Words,
    /// A question and a text that may answer it.
    Questions,
    /// A text as it is: a line, or a column of a table.
    Running,
}

/// What a task is, beside its name.
#[derive(Debug, Clone, Copy)]
pub struct TaskFacts {
    pub reads: Reads,
    pub loss: LossKind,
    /// Whether the head answers for each token, and not for the text.
    pub each_token: bool,
    /// Whether its outputs have names.
    pub named: bool,
    /// The fewest outputs.
    pub least_outputs: usize,
    /// The measures that an evaluation reports besides the loss, the default choice first.
    pub measures: &'static [Metric],
    /// The end of the transformers class, after the model's name.
    pub class: &'static str,
    /// `problem_type` of a `…ForSequenceClassification`.
    pub problem_type: Option<&'static str>,
}

impl Task {
    /// Whether a label may be a list.
    pub fn takes_lists(self) -> bool {
        matches!(self.facts().loss, LossKind::Binary | LossKind::MeanSquared)
    }

    /// How the head reads the tokens of a task on them. `mask_probability` is the share of a text's tokens that are hidden,
    /// where words are to be found again.
    pub fn pooling_of_tokens(self, mask_probability: f64) -> PoolKind {
        match self {
            Self::MaskedLm => PoolKind::Labelled(Portion::of(mask_probability)),
            _ => PoolKind::Each,
        }
    }

    pub const fn facts(self) -> TaskFacts {
        match self {
            Self::Classification => TaskFacts {
                reads: Reads::Texts,
                loss: LossKind::CrossEntropy,
                each_token: false,
                named: true,
                least_outputs: 2,
                measures: &[Metric::Accuracy, Metric::MacroF1, Metric::Matthews],
                class: "ForSequenceClassification",
                problem_type: Some("single_label_classification"),
            },
            Self::MultiLabel => TaskFacts {
                reads: Reads::Texts,
                loss: LossKind::Binary,
                each_token: false,
                named: true,
                least_outputs: 1,
                measures: &[Metric::MicroF1, Metric::MacroF1, Metric::Accuracy],
                class: "ForSequenceClassification",
                problem_type: Some("multi_label_classification"),
            },
            Self::Regression => TaskFacts {
                reads: Reads::Texts,
                loss: LossKind::MeanSquared,
                each_token: false,
                named: false,
                least_outputs: 1,
                measures: &[Metric::Pearson, Metric::Spearman],
                class: "ForSequenceClassification",
                problem_type: Some("regression"),
            },
            Self::TokenClassification => TaskFacts {
                reads: Reads::Words,
                loss: LossKind::CrossEntropy,
                each_token: true,
                named: true,
                least_outputs: 2,
                measures: &[
                    Metric::EntityF1,
                    Metric::Precision,
                    Metric::Recall,
                    Metric::Accuracy,
                    Metric::MacroF1,
                ],
                class: "ForTokenClassification",
                problem_type: None,
            },
            Self::QuestionAnswering => TaskFacts {
                reads: Reads::Questions,
                loss: LossKind::Span,
                each_token: true,
                named: false,
                least_outputs: 2,
                measures: &[
                    Metric::F1,
                    Metric::ExactMatch,
                    Metric::HasAnswerF1,
                    Metric::HasAnswerExact,
                    Metric::NoAnswerExact,
                ],
                class: "ForQuestionAnswering",
                problem_type: None,
            },
            Self::MaskedLm => TaskFacts {
                reads: Reads::Running,
                loss: LossKind::CrossEntropy,
                each_token: true,
                named: false,
                least_outputs: 2,
                measures: &[Metric::Perplexity, Metric::Accuracy],
                class: "ForMaskedLM",
                problem_type: None,
            },
        }
    }
}
