//! The tasks. Each says once what its loss is, where its head sits, how it is measured and which class of transformers
//! loads it; whatever depends on the task asks for these facts. What a task makes of labels and logits is in
//! [`crate::tasks`], a file each.

use super::choice::choices;
use super::metric::Metric;
use crate::program::LossKind;

choices! {
    /// What the labels are.
    pub enum Task {
        #[default]
        Classification = "classification",
            "A class per text, a word or an integer; cross-entropy loss";
        MultiLabel = "multi-label",
            "Any number of labels per text, joined by --label-separator or a JSON list; binary cross-entropy loss";
        Regression = "regression",
            "A number per text, or several joined by --label-separator or a JSON list; mean squared error";
    }
}

/// What a task is, beside its name.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
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

    pub const fn facts(self) -> Facts {
        match self {
            Self::Classification => Facts {
                loss: LossKind::CrossEntropy,
                each_token: false,
                named: true,
                least_outputs: 2,
                measures: &[Metric::Accuracy, Metric::MacroF1, Metric::Matthews],
                class: "ForSequenceClassification",
                problem_type: Some("single_label_classification"),
            },
            Self::MultiLabel => Facts {
                loss: LossKind::Binary,
                each_token: false,
                named: true,
                least_outputs: 1,
                measures: &[Metric::MicroF1, Metric::MacroF1, Metric::Accuracy],
                class: "ForSequenceClassification",
                problem_type: Some("multi_label_classification"),
            },
            Self::Regression => Facts {
                loss: LossKind::MeanSquared,
                each_token: false,
                named: false,
                least_outputs: 1,
                measures: &[Metric::Pearson, Metric::Spearman],
                class: "ForSequenceClassification",
                problem_type: Some("regression"),
            },
        }
    }
}
