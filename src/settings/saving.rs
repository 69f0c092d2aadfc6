//! `--saving`: a way of saving by name, or the choice left to the memory limit. The names are listed once, here.

use crate::error::UsageError;
use crate::program::{Saving, Storage};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A name, and what it asks for.
struct Mode {
    name: &'static str,
    /// What it does to what the names before it asked for.
    apply: fn(&mut Saving),
}

const fn mode(name: &'static str, apply: fn(&mut Saving)) -> Mode {
    Mode { name, apply }
}

#[rustfmt::skip]
const MODES: [Mode; 8] = [
    mode("keep", |_| {}),
    mode("recompute-qkv", |s| s.attention_again = true),
    mode("recompute-ffn", |s| s.slope_again = true),
    mode("recompute", |s| (s.attention_again, s.slope_again) = (true, true)),
    mode("checkpoint", |s| s.checkpoint = true),
    mode("gelu8", |s| s.slope = Storage::Slope8),
    mode("gelu4", |s| s.slope = Storage::Slope4),
    mode("xhat8", |s| s.x_hat = Storage::XHat8),
];

/// Every combination worth a line of a table: the exact ones, fastest first, then those that lose something.
pub fn worth_showing() -> impl Iterator<Item = Saving> {
    let lossy = [
        "gelu8",
        "gelu4",
        "xhat8",
        "gelu8,xhat8",
        "gelu4,xhat8",
        "recompute-qkv,gelu8",
        "recompute-qkv,gelu4",
    ];
    let lossy = lossy.into_iter().filter_map(|text| text.parse().ok());
    Saving::EXACT.into_iter().chain(lossy)
}

impl FromStr for Saving {
    type Err = UsageError;

    /// Names joined by commas: `recompute-qkv,gelu8`.
    fn from_str(text: &str) -> std::result::Result<Self, UsageError> {
        let mut saving = Self::KEEP;
        let names: Vec<&str> = text.split(',').map(str::trim).collect();
        for &name in &names {
            let Some(mode) = MODES.iter().find(|mode| mode.name == name) else {
                let (last, others) = (MODES[MODES.len() - 1].name, &MODES[..MODES.len() - 1]);
                let others: Vec<_> = others.iter().map(|mode| mode.name).collect();
                return Err(UsageError::new(format!(
                    "`{name}` is no way of saving: there are {} and {last}",
                    others.join(", ")
                )));
            };
            (mode.apply)(&mut saving);
        }
        let alone = saving.checkpoint || names.contains(&"keep");
        if alone && names.len() > 1 {
            return Err(UsageError::new(format!("`{text}`: keep and checkpoint stand alone")));
        }
        let gelu = names.iter().filter(|name| name.starts_with("gelu")).count();
        if gelu > 1 || (gelu == 1 && saving.slope_again) {
            return Err(UsageError::new(format!(
                "`{text}`: the activation's derivative is either made again (recompute, recompute-ffn) or kept as \
                 gelu8 or as gelu4"
            )));
        }
        if saving.x_hat == Storage::XHat8 && (saving.attention_again || saving.slope_again) {
            return Err(UsageError::new(format!(
                "`{text}`: what recompute-qkv, recompute-ffn and recompute make again would come from an x̂ of 8 bits and \
                 not be what forward had; xhat8 joins gelu8 or gelu4 alone"
            )));
        }
        Ok(saving)
    }
}

impl fmt::Display for Saving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.checkpoint, "checkpoint"),
            (self.attention_again && self.slope_again, "recompute"),
            (self.attention_again && !self.slope_again, "recompute-qkv"),
            (self.slope_again && !self.attention_again, "recompute-ffn"),
            (self.slope == Storage::Slope8, "gelu8"),
            (self.slope == Storage::Slope4, "gelu4"),
            (self.x_hat == Storage::XHat8, "xhat8"),
        ];
        let names: Vec<&str> = parts.iter().filter(|p| p.0).map(|p| p.1).collect();
        f.pad(&match names.is_empty() {
            true => "keep".to_owned(),
            false => names.join(","),
        })
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
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_they_are_written() {
        for text in [
            "keep",
            "recompute-qkv",
            "recompute-ffn",
            "recompute",
            "checkpoint",
            "gelu8",
            "gelu4",
            "recompute-qkv,gelu8",
            "xhat8",
            "gelu8,xhat8",
            "gelu4,xhat8",
        ] {
            assert_eq!(text.parse::<Saving>().unwrap().to_string(), text);
        }
        assert_eq!("recompute-ffn, recompute-qkv".parse::<Saving>().unwrap(), Saving::RECOMPUTE);
        assert_eq!(Saving::default().to_string(), "keep");
    }

    #[test]
    fn modes_that_exclude_each_other_and_unknown_ones_are_refused() {
        for (text, said) in [
            ("", "there are keep"),
            ("gelu2", "`gelu2`"),
            ("keep,gelu8", "stand alone"),
            ("checkpoint,recompute", "stand alone"),
            ("recompute,gelu4", "made again"),
            ("gelu4,gelu8", "made again"),
            ("keep,xhat8", "stand alone"),
            ("checkpoint,xhat8", "stand alone"),
            ("recompute-qkv,xhat8", "x̂ of 8 bits"),
            ("xhat8,recompute-ffn", "x̂ of 8 bits"),
            ("recompute,xhat8", "x̂ of 8 bits"),
        ] {
            let message = text.parse::<Saving>().unwrap_err().to_string();
            assert!(message.contains(said), "{text}: {message}");
        }
    }
}
