//! `--lr auto`: a short trial of a few rates before the run, to choose one.
//!
//! Each trial is a small version of the run: the same initial values, the run's first batches, and its warm-up and
//! schedule compressed to the trial's length. Without the decay to the end, a rate that is only good early would look
//! too good. Rates are compared by loss, which says more on few rows than accuracy does; among about equally good
//! rates, the one nearest to the usual rate wins. Afterwards everything is restored, so the run is the same as one
//! given the chosen rate.

use super::evaluate::{Dev, NotFinite, ON_DEV_ROWS, measured};
use super::give::give;
use super::run::{Diverged, Watch};
use super::schedule::Schedule;
use super::steps::{Position, Steps};
use crate::backend::{LossScaling, Slot};
use crate::data::Dataset;
use crate::error::OfAllRanks;
use crate::program::ParamRange;
use crate::session::Session;
use crate::settings::metric::Metric;
use crate::settings::schedule::Warmup;
use crate::settings::train::TrainConfig;
use crate::tasks::evaluation::Evaluation;
use crate::tasks::targets::Targets;
use crate::words::count;
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The rates tried, as multiples of the default rate.
const MULTIPLES: [f64; 5] = [0.1, 0.3, 1.0, 3.0, 10.0];
/// A trial of a rate takes this share of the run's steps, within bounds.
const SHARE: u64 = 10;
const LEAST_STEPS: u64 = 20;
const MOST_STEPS: u64 = 100;
/// Losses up to this factor above the lowest count as equally good: a short trial flatters high rates, and if it
/// learned nothing yet, all rates are alike.
const AS_GOOD: f64 = 1.05;
/// Values written at once.
const PIECE: usize = 1 << 16;

/// What a trial works with.
pub struct Trial<'a> {
    /// With memory for training and, if there are dev rows, for prediction; holds the initial values.
    pub session: &'a mut Session,
    pub config: &'a TrainConfig,
    pub train: &'a Dataset,
    pub targets: &'a Targets,
    /// The rows that choose. Without them, the batches of the trial's second half do, each before it is trained on.
    pub dev: Option<&'a Dev<'a>>,
    /// Set from outside (Ctrl-C).
    pub stop: &'a AtomicBool,
}

/// What a trial found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChosenRate {
    pub chosen: f64,
    /// Optimizer steps of each rate.
    pub steps: u64,
    /// Which rows the losses are on.
    pub rows: LossRows,
    pub tried: Vec<Tried>,
    pub seconds: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossRows {
    Dev,
    Training,
}

/// The result of one rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    pub lr: f64,
    /// `None` if it is not finite.
    pub loss: Option<f64>,
    /// The step with a loss or gradient that was not finite; one past the last step means the dev rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diverged_at: Option<u64>,
    /// Other measures on the dev rows.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub measures: Map<String, Value>,
}

/// The state before the trial, from which each rate starts.
struct Start {
    values: Vec<f32>,
    scaling: Option<LossScaling>,
}

impl Trial<'_> {
    /// Steps per rate, in a run of `total`.
    pub fn steps(&self, total: u64) -> u64 {
        length(total)
    }

    /// Tries each rate, then restores everything.
    ///
    /// # Errors
    /// Every rate diverged; somebody asked to stop; the device failed.
    pub fn choose(mut self, steps: &mut Steps<'_>, watch: &mut dyn Watch) -> Result<ChosenRate> {
        let since = Instant::now();
        let start =
            Start { values: self.session.trained_values()?, scaling: self.session.loss_scaling()? };
        let length = length(steps.total);
        let rates = rates(self.config);
        watch.note(&format!(
            "--lr auto: trying {} learning rates for {} each",
            rates.len(),
            count(length as usize, "step")
        ));
        let mut tried = Vec::new();
        for lr in rates {
            let found = self.try_one(steps, (lr, length), watch)?;
            start.put_back(self.session)?;
            watch.note(&format!("--lr {lr}: {}", found.said()));
            tried.push(found);
        }
        let usual = TrainConfig::usual_lr(self.config.method, self.config.task);
        let Some(best) = best(&tried, usual) else {
            bail!(Diverged::new(format!(
                "--lr auto: all rates tried, {} to {}, diverge; use a lower --lr, a longer --warmup, or --clip-norm \
                 1",
                tried[0].lr,
                tried[tried.len() - 1].lr
            )));
        };
        Ok(ChosenRate {
            chosen: best.lr,
            steps: length,
            rows: if self.dev.is_some() { LossRows::Dev } else { LossRows::Training },
            tried,
            seconds: since.elapsed().as_secs_f64(),
        })
    }

    fn try_one(
        &mut self,
        steps: &mut Steps<'_>,
        (lr, length): (f64, u64),
        watch: &mut dyn Watch,
    ) -> Result<Tried> {
        let diverged =
            |step| Tried { lr, loss: None, diverged_at: Some(step), measures: Map::new() };
        let schedule = in_small(self.config, lr, steps.total, length);
        let mut position = Position::default();
        let mut losses = Vec::new();
        while position.step < length
            && let Some(step) = steps.at(position)
        {
            let since = Instant::now();
            let rate = schedule.lr(position.step);
            let stop = self.stop.load(Ordering::Relaxed);
            let given =
                give(self.session, (self.config, self.train), (&step, position.epoch), rate, stop)?;
            let report = self.session.wait(given.report)?;
            position = step.after;
            let stop = if self.session.ranks().several() { given.stop } else { stop };
            if stop {
                bail!(OfAllRanks::new(format!(
                    "stopped on request in the trial of --lr auto; `bitfit train --resume --output {}` starts the \
                     trial again",
                    self.config.output.display()
                )));
            }
            if report.is_hopeless() {
                return Ok(diverged(position.step));
            }
            if report.is_finite() {
                losses.push(f64::from(report.loss));
            }
            let tokens: usize = step.batches.iter().map(|rows| steps.tokens(rows)).sum();
            let tokens_per_s = tokens as f64 / since.elapsed().as_secs_f64().max(1e-9);
            watch.step(position.step, f64::from(report.loss), tokens_per_s);
        }
        // Where no step could be applied, the dev rows show nothing of this rate.
        let Some(loss) = mean(&losses[losses.len() / 2..]) else {
            return Ok(diverged(length));
        };
        let Some(dev) = self.dev else {
            return Ok(Tried { lr, loss: Some(loss), diverged_at: None, measures: Map::new() });
        };
        match measured(self.session, self.targets, self.config, dev) {
            Ok((found, _)) => Ok(Tried {
                lr,
                loss: found.value(Metric::Loss),
                diverged_at: None,
                measures: besides_loss(&found),
            }),
            Err(error) if error.is::<NotFinite>() => Ok(diverged(length)),
            Err(error) => Err(error.context(ON_DEV_ROWS)),
        }
    }
}

impl Start {
    fn put_back(&self, session: &mut Session) -> Result<()> {
        let range = session.model().params.trained_range();
        session.write(Slot::Value, range, &self.values)?;
        let zeros = [0.0; PIECE];
        for from in (0..range.len).step_by(PIECE) {
            let len = PIECE.min(range.len - from);
            let piece = ParamRange { offset: range.offset + from, len };
            for moment in [Slot::Moment1, Slot::Moment2] {
                session.write(moment, piece, &zeros[..len])?;
            }
        }
        self.scaling.map_or(Ok(()), |scaling| session.set_loss_scaling(scaling))
    }
}

impl Tried {
    /// For people.
    pub fn said(&self) -> String {
        match (self.loss, self.diverged_at) {
            (Some(loss), _) => {
                let measure = |(key, value): (&String, &Value)| {
                    format!("  {key} {:.4}", value.as_f64().unwrap_or(f64::NAN))
                };
                format!("loss {loss:.4}{}", self.measures.iter().map(measure).collect::<String>())
            }
            (None, Some(step)) => format!("diverged at step {step}"),
            (None, None) => "no loss".to_owned(),
        }
    }
}

impl ChosenRate {
    /// Warns if a better rate may lie outside those tried.
    pub fn at_the_edge(&self) -> Option<String> {
        let side = match self.tried.iter().position(|tried| tried.lr == self.chosen)? {
            0 => "lower",
            last if last + 1 == self.tried.len() => "higher",
            _ => return None,
        };
        Some(format!(
            "--lr auto: no {side} rate than {} was tried; one might be better",
            self.chosen
        ))
    }

    /// What was done, for people.
    pub fn said(&self) -> String {
        let rows = match self.rows {
            LossRows::Dev => "the loss on the dev rows",
            LossRows::Training => "the training loss of their last half (there are no dev rows)",
        };
        format!("{} per rate, then {rows}", count(self.steps as usize, "step"))
    }
}

/// The rates to try, lowest first, rounded to the few digits people write.
fn rates(config: &TrainConfig) -> [f64; MULTIPLES.len()] {
    let usual = TrainConfig::usual_lr(config.method, config.task);
    MULTIPLES.map(|multiple| {
        let rate = usual * multiple;
        format!("{rate:.2e}").parse().unwrap_or(rate)
    })
}

/// Steps of a trial in a run of `total`.
fn length(total: u64) -> u64 {
    (total / SHARE).clamp(LEAST_STEPS, MOST_STEPS).min(total)
}

/// The schedule of the run, compressed from `total` steps to `length`.
fn in_small(config: &TrainConfig, lr: f64, total: u64, length: u64) -> Schedule {
    let warmup = config.warmup.steps(total).min(total) as f64 * length as f64 / total.max(1) as f64;
    Schedule::new(config.schedule, lr, Warmup::Steps(warmup.ceil() as u64), length)
}

/// Among rates whose loss is as good as the lowest, the one nearest to `usual`; on a tie, the lower.
fn best(tried: &[Tried], usual: f64) -> Option<&Tried> {
    let lowest = tried.iter().filter_map(|tried| tried.loss).min_by(f64::total_cmp)?;
    let as_good = |tried: &&Tried| tried.loss.is_some_and(|loss| loss <= lowest * AS_GOOD);
    let far = |tried: &&Tried| (tried.lr / usual).ln().abs();
    tried.iter().filter(as_good).min_by(|one, other| far(one).total_cmp(&far(other)))
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn besides_loss(found: &Evaluation) -> Map<String, Value> {
    let mut measures = found.scores_json();
    measures.remove(Metric::Loss.key());
    measures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::method::Method;
    use std::path::PathBuf;

    fn config() -> TrainConfig {
        TrainConfig::with_defaults("m".into(), Some("a.tsv".into()), PathBuf::from("out"))
    }

    fn tried(lr: f64, loss: Option<f64>) -> Tried {
        Tried { lr, loss, diverged_at: loss.is_none().then_some(3), measures: Map::new() }
    }

    #[test]
    fn the_rates_stand_around_the_methods_own_in_few_digits() {
        assert_eq!(rates(&config()), [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]);
        let full = TrainConfig { method: Method::Full, ..config() };
        assert_eq!(rates(&full), [5e-6, 1.5e-5, 5e-5, 1.5e-4, 5e-4]);
    }

    #[test]
    fn a_trial_is_a_tenth_of_the_run_within_bounds_and_never_longer_than_it() {
        assert_eq!([5, 60, 500, 1700, 1 << 40].map(length), [5, 20, 50, 100, 100]);
    }

    #[test]
    fn a_trial_has_the_runs_warm_up_and_fall_in_small() {
        let config = TrainConfig { warmup: Warmup::Fraction(0.1), ..config() };
        let small = in_small(&config, 1.0, 1000, 50);
        let rates: Vec<f64> = (0..50).map(|step| small.lr(step)).collect();
        assert_eq!((rates[0], rates[5]), (0.0, 1.0));
        assert!(rates[49] < 0.05, "{rates:?}");
        // If the trial's minimum exceeds the run, the trial takes the whole run.
        let config = TrainConfig { warmup: Warmup::Steps(9000), ..config };
        assert_eq!(in_small(&config, 1.0, 1000, 50).lr(25), 0.5);
    }

    #[test]
    fn of_the_losses_that_are_as_good_as_the_lowest_the_usual_rates_neighbour_is_best() {
        let of = |losses: [Option<f64>; 5]| {
            let rates = rates(&config()).into_iter().zip(losses);
            let list: Vec<_> = rates.map(|(lr, loss)| tried(lr, loss)).collect();
            best(&list, 1e-3).map(|tried| tried.lr)
        };
        let some = |losses: [f64; 5]| of(losses.map(Some));
        assert_eq!(some([1.0, 0.9, 0.7, 0.51, 0.5]), Some(3e-3));
        assert_eq!(some([1.0, 0.9, 0.7, 0.6, 0.5]), Some(1e-2));
        assert_eq!(some([0.5, 0.6, 0.7, 0.8, 0.9]), Some(1e-4));
        assert_eq!(some([1.09, 1.1, 1.1, 1.11, 1.1]), Some(1e-3), "nothing was learned");
        assert_eq!(of([Some(1.0), Some(0.9), None, None, None]), Some(3e-4));
        assert_eq!(of([None; 5]), None);
        assert_eq!(tried(1.0, None).said(), "diverged at step 3");
    }

    #[test]
    fn a_choice_at_the_edge_is_said() {
        let choice = |chosen| ChosenRate {
            chosen,
            steps: 20,
            rows: LossRows::Dev,
            tried: [1.0, 2.0, 3.0].map(|lr| tried(lr, Some(0.5))).to_vec(),
            seconds: 0.0,
        };
        assert!(choice(1.0).at_the_edge().unwrap().contains("no lower rate than 1"));
        assert!(choice(3.0).at_the_edge().unwrap().contains("no higher rate than 3"));
        assert_eq!(choice(2.0).at_the_edge(), None);
    }
}
