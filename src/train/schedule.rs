//! The learning rate of each step: constant or linear decay, after a linear warm-up.
//!
//! The definitions are those of `get_constant_schedule_with_warmup` and `get_linear_schedule_with_warmup` of
//! Hugging Face `transformers`, so that runs compare step by step.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the learning rate does after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// Stays at --lr
    Constant,
    /// Falls in a straight line to 0 at the last step
    #[default]
    Linear,
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
    /// Number of warm-up steps in a run of `total` steps; a fraction is rounded up, as `transformers` does.
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
            // `{:?}` keeps the ".0" that tells a fraction from a number of steps.
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

/// The learning rate as a function of the step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    kind: ScheduleKind,
    base: f64,
    warmup: u64,
    total: u64,
}

impl Schedule {
    /// A schedule over `total` optimizer steps whose highest rate is `base`.
    pub fn new(kind: ScheduleKind, base: f64, warmup: Warmup, total: u64) -> Self {
        Self {
            kind,
            base,
            warmup: warmup.steps(total),
            total,
        }
    }

    /// The rate of optimizer step `step`, counted from 0.
    ///
    /// The first step of a warm-up has rate 0, as in `transformers`: a scheduler there is asked before its first
    /// step. From step `total` on a linear schedule stays at 0.
    pub fn lr(&self, step: u64) -> f64 {
        self.base * self.factor(step)
    }

    fn factor(&self, step: u64) -> f64 {
        if step < self.warmup {
            return step as f64 / self.warmup as f64;
        }
        match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Linear => {
                let left = self.total.saturating_sub(step) as f64;
                let decay = self.total.saturating_sub(self.warmup).max(1) as f64;
                left / decay
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(schedule: &Schedule, steps: u64) -> Vec<f64> {
        (0..steps).map(|step| schedule.lr(step)).collect()
    }

    #[test]
    fn linear_rises_over_the_warm_up_and_falls_to_zero_at_the_end() {
        // transformers documents this very case: 2 warm-up steps of 10, rate 10.
        let schedule = Schedule::new(ScheduleKind::Linear, 10.0, Warmup::Steps(2), 10);
        let expected = [0.0, 5.0, 10.0, 8.75, 7.5, 6.25, 5.0, 3.75, 2.5, 1.25];
        assert_eq!(rates(&schedule, 10), expected);
        assert_eq!(schedule.lr(10), 0.0);
        assert_eq!(schedule.lr(1000), 0.0);
    }

    #[test]
    fn constant_rises_over_the_warm_up_and_stays() {
        let schedule = Schedule::new(ScheduleKind::Constant, 10.0, Warmup::Steps(4), 8);
        assert_eq!(rates(&schedule, 6), [0.0, 2.5, 5.0, 7.5, 10.0, 10.0]);
    }

    #[test]
    fn without_warm_up_the_first_step_has_the_full_rate() {
        let linear = Schedule::new(ScheduleKind::Linear, 4.0, Warmup::default(), 4);
        assert_eq!(rates(&linear, 5), [4.0, 3.0, 2.0, 1.0, 0.0]);
        let constant = Schedule::new(ScheduleKind::Constant, 4.0, Warmup::default(), 4);
        assert_eq!(rates(&constant, 2), [4.0, 4.0]);
    }

    #[test]
    fn a_fraction_of_the_steps_is_rounded_up() {
        assert_eq!(Warmup::Fraction(0.06).steps(850), 51);
        assert_eq!(Warmup::Fraction(0.06).steps(851), 52);
        assert_eq!(Warmup::Fraction(0.0).steps(10), 0);
        assert_eq!(Warmup::Fraction(1.0).steps(10), 10);
    }

    #[test]
    fn a_warm_up_longer_than_the_run_never_divides_by_zero() {
        let schedule = Schedule::new(ScheduleKind::Linear, 1.0, Warmup::Steps(10), 5);
        assert_eq!(schedule.lr(4), 0.4);
        let empty = Schedule::new(ScheduleKind::Linear, 1.0, Warmup::Steps(0), 0);
        assert_eq!(empty.lr(0), 0.0);
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
        for warmup in [
            Warmup::Steps(1),
            Warmup::Fraction(1.0),
            Warmup::Fraction(0.06),
        ] {
            assert_eq!(warmup.to_string().parse(), Ok(warmup));
        }
    }
}
