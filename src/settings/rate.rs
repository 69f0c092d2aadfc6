//! `--lr`: a learning rate, or a request for a trial to choose one.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// How to request a trial.
const AUTO: &str = "auto";

/// The peak learning rate of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    Is(f64),
    /// Chosen by a trial of a few rates before the run.
    Auto,
}

impl Rate {
    /// The number, if known.
    pub fn number(self) -> Option<f64> {
        match self {
            Self::Is(rate) => Some(rate),
            Self::Auto => None,
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(rate) => rate.fmt(f),
            Self::Auto => f.write_str(AUTO),
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            AUTO => Ok(Self::Auto),
            number => number
                .parse()
                .map(Self::Is)
                .map_err(|_| format!("write a number (0.001, 1e-3), or {AUTO}")),
        }
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Is(rate) => serializer.serialize_f64(*rate),
            Self::Auto => serializer.serialize_str(AUTO),
        }
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(f64),
            Word(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(rate) => Ok(Self::Is(rate)),
            Written::Word(word) => word.parse().map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_or_auto_wherever_it_is_written() {
        #[derive(Serialize, Deserialize)]
        struct File {
            lr: Rate,
        }
        for (text, rate) in
            [("0.001", Rate::Is(1e-3)), ("1e-3", Rate::Is(1e-3)), ("auto", Rate::Auto)]
        {
            assert_eq!(text.parse(), Ok(rate));
            let file = toml::to_string(&File { lr: rate }).unwrap();
            assert_eq!(toml::from_str::<File>(&file).unwrap().lr, rate, "{file}");
        }
        assert_eq!(toml::to_string(&File { lr: Rate::Auto }).unwrap(), "lr = \"auto\"\n");
        for wrong in ["", "fast", "Auto", "1,5"] {
            assert!(wrong.parse::<Rate>().unwrap_err().contains("auto"), "{wrong}");
        }
    }
}
