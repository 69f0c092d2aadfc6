//! `--saving`: a way of saving by name, or the choice left to the memory limit. The ways themselves are the model's.

use crate::error::UsageError;
use crate::model::saving::Saving;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What is kept of the forward pass for backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum SavingChoice {
    /// The fastest exact way that fits `--memory`; without that, everything is kept.
    #[default]
    Auto,
    Only(Saving),
}

impl FromStr for SavingChoice {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<Self, UsageError> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text.parse().map(Self::Only),
        }
    }
}

impl TryFrom<String> for SavingChoice {
    type Error = UsageError;

    fn try_from(text: String) -> Result<Self, UsageError> {
        text.parse()
    }
}

impl From<SavingChoice> for String {
    fn from(choice: SavingChoice) -> Self {
        choice.to_string()
    }
}

impl fmt::Display for SavingChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Only(saving) => saving.fmt(f),
        }
    }
}
