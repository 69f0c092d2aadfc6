//! The columns that training data were read by, as a delta records them: a task on pairs stays one on pairs.

use crate::words::list;
use serde::{Deserialize, Serialize};

/// The columns that a file was read by. What a task was trained on is kept with it, in this form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    pub text: String,
    /// The task is one on pairs.
    pub text_pair: Option<String>,
    pub label: Option<String>,
}

impl std::fmt::Display for Columns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.text_pair {
            None => write!(f, "text from column {:?}", self.text)?,
            Some(pair) => write!(f, "pairs of texts from columns {:?} and {pair:?}", self.text)?,
        }
        match &self.label {
            None => Ok(()),
            Some(label) => write!(f, ", label from {label:?}"),
        }
    }
}

/// The names of a file that were not read, as they are said behind the columns that were; nothing where all were.
pub fn not_read<S: AsRef<str>>(names: &[S]) -> String {
    match names {
        [] => String::new(),
        _ => format!("; not read: {}", list(names)),
    }
}
