//! The tasks. Each states once what its loss is, where its head sits, how it is measured and which transformers class
//! loads it; code that depends on the task asks for these facts. How a task handles labels and logits is in
//! [`crate::tasks`], one file each.

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

/// The default share of a text's tokens that are hidden.
pub const MASK_PROBABILITY: f64 = 0.15;

/// What a task's examples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// A text or a pair, a row of a table.
    Texts,
    /// Words with one tag each.
    Words,
    /// A question and a text that may answer it.
    Questions,
    /// Plain text: a line, or a column of a table.
    Running,
}

/// What a task is, apart from its name.
#[derive(Debug, Clone, Copy)]
pub struct TaskFacts {
    pub reads: Reads,
    pub loss: LossKind,
    /// Whether the head answers for each token rather than for the text.
    pub each_token: bool,
    /// Whether its outputs have names.
    pub named: bool,
    /// The fewest outputs.
    pub least_outputs: usize,
    /// The measures that an evaluation reports in addition to the loss, the default choice first.
    pub measures: &'static [Metric],
    /// The suffix of the transformers class, after the model's name.
    pub class: &'static str,
    /// `problem_type` of a `…ForSequenceClassification`.
    pub problem_type: Option<&'static str>,
}

impl Task {
    /// Whether a label may be a list.
    pub fn takes_lists(self) -> bool {
        matches!(self.facts().loss, LossKind::Binary | LossKind::MeanSquared)
    }

    /// How the head reads the tokens, for a task on tokens. `mask_probability` is the share of a text's tokens that are
    /// hidden, if the task is to predict them.
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
