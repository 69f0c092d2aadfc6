//! `--schedule` and `--warmup`: how they are written. `train::schedule` computes the resulting learning rates.

use super::choice::choices;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

choices! {
    /// What the learning rate does after the warm-up.
    pub enum ScheduleKind {
        Constant = "constant", "Stays at --lr";
        #[default]
        Linear = "linear", "Falls linearly to 0 at the last step";
    }
}

/// Length of the warm-up: a number of steps, or a fraction of all steps.
///
/// Written as an integer for steps and with a decimal point, an exponent or a percent sign for a fraction: `100`,
/// `0.06`, `6%`. `0` is no warm-up; `1` is one step, `1.0` the whole run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Warmup {
    Steps(u64),
    Fraction(f64),
}

impl Warmup {
    /// Number of warm-up steps in a run of `total` steps; a fraction is rounded up, as in `transformers`.
    pub fn steps(self, total: u64) -> u64 {
        match self {
            Warmup::Steps(steps) => steps,
            Warmup::Fraction(fraction) => (fraction * total as f64).ceil() as u64,
        }
    }
}

impl Default for Warmup {
    fn default() -> Self {
        Warmup::Steps(0)
    }
}

impl fmt::Display for Warmup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warmup::Steps(steps) => write!(f, "{steps}"),
            // `{:?}` keeps the ".0" that distinguishes a fraction from a number of steps.
            Warmup::Fraction(fraction) => write!(f, "{fraction:?}"),
        }
    }
}

impl FromStr for Warmup {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || "write a number of steps (100) or a fraction of all steps (0.06 or 6%)".to_string();
        if let Ok(steps) = text.parse() {
            return Ok(Warmup::Steps(steps));
        }
        let (digits, scale) = match text.strip_suffix('%') {
            Some(percent) => (percent.trim(), 0.01),
            None => (text, 1.0),
        };
        let fraction = digits.parse::<f64>().map_err(|_| wrong())? * scale;
        if (0.0..=1.0).contains(&fraction) {
            Ok(Warmup::Fraction(fraction))
        } else {
            Err(format!("a fraction must lie between 0 and 1; {}", wrong()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_of_the_steps_is_rounded_up() {
        assert_eq!(Warmup::Fraction(0.06).steps(850), 51);
        assert_eq!(Warmup::Fraction(0.06).steps(851), 52);
        assert_eq!(Warmup::Fraction(0.0).steps(10), 0);
        assert_eq!(Warmup::Fraction(1.0).steps(10), 10);
    }

    #[test]
    fn a_warm_up_is_steps_when_whole_and_a_fraction_otherwise() {
        assert_eq!("100".parse(), Ok(Warmup::Steps(100)));
        assert_eq!("1".parse(), Ok(Warmup::Steps(1)));
        assert_eq!("1.0".parse(), Ok(Warmup::Fraction(1.0)));
        assert_eq!("0.06".parse(), Ok(Warmup::Fraction(0.06)));
        assert_eq!("6%".parse(), Ok(Warmup::Fraction(0.06)));
        for wrong in ["1.5", "-1", "nan", "ten", "", "120%"] {
            assert!(wrong.parse::<Warmup>().is_err(), "{wrong}");
        }
        for warmup in [Warmup::Steps(1), Warmup::Fraction(1.0), Warmup::Fraction(0.06)] {
            assert_eq!(warmup.to_string().parse(), Ok(warmup));
        }
    }
}
