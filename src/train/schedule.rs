//! The learning rate of each step: constant or linear decay, after a linear warm-up.
//!
//! The definitions are those of `get_constant_schedule_with_warmup` and `get_linear_schedule_with_warmup` in Hugging
//! Face `transformers`, so runs can be compared step by step.

use crate::settings::schedule::{ScheduleKind, Warmup};
use crate::settings::train::TrainConfig;
use crate::words::{count, short};

/// The learning rate as a function of the step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    kind: ScheduleKind,
    base: f64,
    warmup: u64,
    total: u64,
}

impl Schedule {
    /// A schedule over `total` optimizer steps with peak rate `base`.
    pub fn new(kind: ScheduleKind, base: f64, warmup: Warmup, total: u64) -> Self {
        Self { kind, base, warmup: warmup.steps(total), total }
    }

    /// The schedule of a run of `total` steps with peak rate `lr`.
    pub fn of(config: &TrainConfig, lr: f64, total: u64) -> Self {
        Self::new(config.schedule, lr, config.warmup, total)
    }

    /// Warns if the warm-up outlasts the run, so that no step reaches the requested rate.
    pub fn never_reached(&self) -> Option<String> {
        let last = self.total.checked_sub(1)?;
        let steps = |number: u64| count(number as usize, "step");
        (self.warmup > last).then(|| {
            format!(
                "the warm-up takes {} but the run has {}: the rate rises to {} and never reaches --lr {:?}",
                steps(self.warmup),
                steps(self.total),
                short(self.lr(last)),
                self.base
            )
        })
    }

    /// The rate of optimizer step `step`, counted from 0.
    ///
    /// The first step of a warm-up has rate 0, as in `transformers`, whose scheduler is asked before the first step.
    /// From step `total` on, a linear schedule stays at 0.
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
    fn a_warm_up_that_outlasts_the_run_is_said() {
        let said = |warmup| {
            Schedule::new(ScheduleKind::Linear, 0.1, Warmup::Steps(warmup), 4).never_reached()
        };
        assert!(
            said(10).unwrap().contains("rises to 0.03 and never reaches --lr 0.1"),
            "{:?}",
            said(10)
        );
        assert!(said(4).is_some());
        assert_eq!((said(3), said(0)), (None, None));
    }

    #[test]
    fn a_rate_is_said_in_few_digits() {
        let said = |base, warmup, total| {
            Schedule::new(ScheduleKind::Linear, base, Warmup::Steps(warmup), total).never_reached()
        };
        assert!(
            said(1e-3, 3, 3).unwrap().contains("rises to 0.000667 and never reaches --lr 0.001")
        );
        assert!(said(1e-3, 3, 1).unwrap().contains("rises to 0 and never"));
        assert!(said(2e-30, 4, 2).unwrap().contains("rises to 5e-31 and never reaches --lr 2e-30"));
    }

    #[test]
    fn linear_rises_over_the_warm_up_and_falls_to_zero_at_the_end() {
        // transformers documents exactly this case: 2 warm-up steps of 10, rate 10.
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
    fn a_warm_up_longer_than_the_run_never_divides_by_zero() {
        let schedule = Schedule::new(ScheduleKind::Linear, 1.0, Warmup::Steps(10), 5);
        assert_eq!(schedule.lr(4), 0.4);
        let empty = Schedule::new(ScheduleKind::Linear, 1.0, Warmup::Steps(0), 0);
        assert_eq!(empty.lr(0), 0.0);
    }
}
