//! When to leave a question unanswered, if a task's texts do not answer every question.

use std::fmt;
use std::str::FromStr;

/// A question gets no answer if the score of no answer exceeds that of the best answer by more than this.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NoAnswer {
    /// Every question has an answer, as in SQuAD 1.1.
    Never,
    /// A difference of logits, like `null_score_diff_threshold` in transformers' scripts.
    Above(f64),
}

impl NoAnswer {
    /// The threshold, if there is one.
    pub fn threshold(self) -> Option<f64> {
        match self {
            Self::Never => None,
            Self::Above(threshold) => Some(threshold),
        }
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Above(threshold) => write!(f, "{threshold}"),
        }
    }
}

impl FromStr for NoAnswer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse::<f64>()) {
            ("never", _) => Ok(Self::Never),
            (_, Ok(threshold)) if threshold.is_finite() => Ok(Self::Above(threshold)),
            _ => Err(format!("a finite number or never is expected, got {text:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_keeps_its_bits_as_text() {
        for none in [NoAnswer::Never, NoAnswer::Above(0.1f64.next_down()), NoAnswer::Above(-0.0)] {
            assert_eq!(none.to_string().parse(), Ok(none));
        }
        for text in ["", "nan", "inf", "none"] {
            assert!(text.parse::<NoAnswer>().is_err(), "{text}");
        }
    }
}
