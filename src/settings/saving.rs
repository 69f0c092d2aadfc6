//! `--saving`: a way of saving by name, or a choice by memory limit. This is the only list of the ways.

use crate::error::UsageError;
use crate::program::{Saving, Storage};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const KEEP: Saving = Saving::KEEP;
const GELU8: Saving = Saving { slope: Storage::Slope8, ..KEEP };
const GELU4: Saving = Saving { slope: Storage::Slope4, ..KEEP };

/// Every way with its names: the exact ones, fastest first, then the lossy ones. The activation's derivative is either
/// recomputed or kept in fewer bits, never both; and recomputing from an 8-bit x̂ would not give forward's values.
pub const WAYS: [(&str, Saving); 12] = [
    ("keep", KEEP),
    ("recompute-qkv", Saving { attention_again: true, ..KEEP }),
    ("recompute-ffn", Saving { slope_again: true, ..KEEP }),
    ("recompute", Saving::RECOMPUTE),
    ("checkpoint", Saving::CHECKPOINT),
    ("gelu8", GELU8),
    ("gelu4", GELU4),
    ("xhat8", Saving { x_hat: Storage::XHat8, ..KEEP }),
    ("gelu8,xhat8", Saving { x_hat: Storage::XHat8, ..GELU8 }),
    ("gelu4,xhat8", Saving { x_hat: Storage::XHat8, ..GELU4 }),
    ("recompute-qkv,gelu8", Saving { attention_again: true, ..GELU8 }),
    ("recompute-qkv,gelu4", Saving { attention_again: true, ..GELU4 }),
];

/// The names in a text, in any order.
fn names(text: &str) -> Vec<&str> {
    let mut names: Vec<&str> = text.split(',').map(str::trim).collect();
    names.sort_unstable();
    names.dedup();
    match names[..] {
        ["recompute-ffn", "recompute-qkv"] => vec!["recompute"],
        _ => names,
    }
}

impl FromStr for Saving {
    type Err = UsageError;

    /// Names joined by commas: `recompute-qkv,gelu8`.
    fn from_str(text: &str) -> Result<Self, UsageError> {
        let asked = names(text);
        let ways = WAYS.map(|(way, _)| way);
        if let Some((_, saving)) = WAYS.iter().find(|(way, _)| names(way) == asked) {
            return Ok(*saving);
        }
        let unknown = asked.iter().find(|name| !ways.contains(name));
        let wrong = match unknown {
            Some(name) => format!("unknown saving `{name}`"),
            None => format!("`{text}` cannot be combined"),
        };
        Err(UsageError::new(format!("{wrong}; choose one of {}", ways.join("; "))))
    }
}

impl fmt::Display for Saving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match WAYS.iter().find(|(_, saving)| saving == self) {
            Some((way, _)) => f.pad(way),
            None => write!(f, "{self:?}"),
        }
    }
}

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

#[cfg(test)]
#[path = "saving_tests.rs"]
mod tests;
