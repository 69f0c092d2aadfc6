//! `--class-weights`: how much the loss of each class counts.

use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The source of the factors on the losses of the classes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Weighting {
    /// `rows / (classes · rows of the class)`, as in scikit-learn: every class has the same total weight.
    Balanced,
    /// The square root of that.
    InverseSqrt,
    /// A JSON object with a number for each class.
    File(PathBuf),
}

impl From<String> for Weighting {
    fn from(text: String) -> Self {
        match text.as_str() {
            "balanced" => Self::Balanced,
            "inverse-sqrt" => Self::InverseSqrt,
            _ => Self::File(text.into()),
        }
    }
}

impl From<Weighting> for String {
    fn from(weighting: Weighting) -> Self {
        weighting.to_string()
    }
}

impl FromStr for Weighting {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.to_owned().into())
    }
}

impl fmt::Display for Weighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Balanced => f.write_str("balanced"),
            Self::InverseSqrt => f.write_str("inverse-sqrt"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}
