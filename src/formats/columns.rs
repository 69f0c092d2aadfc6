//! The columns from which training data were read, as recorded in a delta: a task on pairs stays one on pairs.

use crate::words::list;
use serde::{Deserialize, Serialize};

/// The columns from which a file was read. A trained task stores its own in this form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    pub text: String,
    /// Set for a task on pairs.
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

/// The names of a file's ignored columns, in a form to follow those that were read; empty if there are none.
pub fn not_read<S: AsRef<str>>(names: &[S]) -> String {
    match names {
        [] => String::new(),
        _ => format!("; not read: {}", list(names)),
    }
}
