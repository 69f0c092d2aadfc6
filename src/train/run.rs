//! The training loop: steps, evaluations, the best checkpoint, and stopping at any moment without losing work.

use super::applied::hold_applied;
use crate::backend::{PendingReport, Slot, StepReport};
use crate::data::Dataset;
use crate::error::OfAllRanks;
use crate::formats::fingerprint::Fingerprint;
use crate::formats::run_state::{Best, Checkpoint, Vectors};
use crate::formats::tensorboard::EventFile;
use crate::program::ParamRange;
use crate::session::{Given, Session};
use crate::settings::no_answer::NoAnswer;
use crate::settings::train::TrainConfig;
use crate::tasks::evaluation::{Evaluation, key_of};
use crate::tasks::remarks::same_answer;
use crate::tasks::row_answers::RowAnswers;
use crate::tasks::targets::Targets;
use crate::train::evaluate::{Dev, NotFinite, ON_DEV_ROWS, measured};
use crate::train::give::give;
use crate::train::log::JsonLines;
use crate::train::output::OutputFolder;
use crate::train::schedule::Schedule;
use crate::train::steps::{Position, Step, Steps};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Without --save-steps or --save-minutes, an epoch longer than this is saved midway: a kill then costs minutes.
const SAVE_AFTER_MINUTES: f64 = 5.0;

/// Everything a run works with; made by the `train` command.
pub struct Run<'a> {
    /// With memory for training and, if there are dev rows, for prediction.
    pub session: &'a mut Session,
    pub config: &'a TrainConfig,
    /// The peak rate: as requested, or as chosen by a trial.
    pub lr: f64,
    pub train: &'a Dataset,
    pub targets: &'a Targets,
    /// The first chooses the best state.
    pub dev: Vec<Dev<'a>>,
    /// Only the first of several ranks has it; the others compute the same and write nothing.
    pub writer: Option<Writer<'a>>,
    /// Set from outside (Ctrl-C): finish the step, save, return. If one of several ranks sets it, all stop.
    pub stop: &'a AtomicBool,
}

/// What a run leaves behind.
pub struct Writer<'a> {
    pub output: &'a OutputFolder,
    pub fingerprint: &'a Fingerprint,
    /// Writes the run's result, a delta or a model, from the current values and what an evaluation has chosen.
    pub keep: &'a dyn Fn(&Session, Option<NoAnswer>) -> Result<()>,
    /// Checks that the file there can be what `keep` wrote. The argument says whether its values have `changed` since
    /// the checkpoint, as they do after a later evaluation.
    pub is_kept: &'a dyn Fn(bool) -> Result<()>,
}

/// Follows the progress of a run. `()` ignores it.
pub trait Watch {
    /// Step `step`, counted from 1, has finished.
    fn step(&mut self, step: u64, loss: f64, tokens_per_s: f64);

    /// A line for people: an evaluation.
    fn note(&mut self, text: &str);

    /// Something that may be wrong but is not an error.
    fn warn(&mut self, text: &str);
}

impl Watch for () {
    fn step(&mut self, _: u64, _: f64, _: f64) {}

    fn note(&mut self, _: &str) {}

    fn warn(&mut self, _: &str) {}
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    pub end: End,
    pub step: u64,
    /// Last evaluation; empty without dev rows.
    pub last: Vec<Evaluation>,
    /// Step and measures of the evaluation whose biases were kept.
    pub best: Option<(u64, f64)>,
    /// Its answer to each row; `None` if its measure does not come from rows, or it predates what this process trained.
    pub answers: Option<RowAnswers>,
    /// sha256 of the result file as written.
    pub sha256: Option<String>,
    /// Training tokens of the whole run, and the seconds they took (without evaluation and saving).
    pub tokens: u64,
    pub seconds: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Finished,
    /// `--patience` evaluations without a better value.
    OutOfPatience,
    /// Asked to stop; the checkpoint has been saved.
    Interrupted,
}

/// The loss, or one of its inputs, is no longer finite: only the requested settings are at fault.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Diverged(#[source] OfAllRanks);

impl Diverged {
    pub fn new(message: String) -> Self {
        Self(OfAllRanks::new(message))
    }
}

/// Whether a run ended because it diverged, in a step or in an evaluation on dev rows.
pub fn has_diverged(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<Diverged>() || cause.is::<NotFinite>())
}

/// A line of `metrics.jsonl` for an optimizer step.
#[derive(Serialize)]
struct StepRecord {
    step: u64,
    /// Epochs done, fractions included.
    epoch: f64,
    /// Mean loss over the sequences of the step, before its update.
    loss: f32,
    lr: f64,
    /// Global norm before clipping.
    grad_norm: f32,
    /// Training tokens since the run's start.
    tokens: u64,
    tokens_per_s: f64,
}

impl StepRecord {
    /// What changes from step to step, by its names in event files.
    fn scalars(&self) -> [(String, f64); 4] {
        [
            ("loss", f64::from(self.loss)),
            ("lr", self.lr),
            ("grad_norm", f64::from(self.grad_norm)),
            ("tokens_per_s", self.tokens_per_s),
        ]
        .map(|(name, value)| (format!("train/{name}"), value))
    }
}

/// A step that the device has been given.
struct Issued {
    step: Step,
    lr: f64,
    /// On all ranks.
    tokens: usize,
    given: Given,
}

/// What is known of the finished steps.
struct Ledger {
    state: Checkpoint,
    log: Option<JsonLines>,
    /// If requested.
    events: Option<EventFile>,
    outcome: Outcome,
    /// Whether a step of this process changed anything.
    applied: bool,
    /// When the previous step, or an evaluation or save since, finished.
    since: Instant,
}

impl Run<'_> {
    /// Trains from `from` to the end, to `stop`, or to the first loss that is not finite. A new run starts from the
    /// default state, a resumed one from what [`Run::restore`] was given.
    ///
    /// On an asynchronous device, a step is issued before the report of the previous one is read, so that the device
    /// never waits for the host. A loss that is not finite is therefore seen one step late. That extra step has no
    /// effect: the one before it changed nothing, and neither is logged.
    ///
    /// # Errors
    /// A loss or gradient that is not finite; a file that cannot be written. The last good checkpoint stays.
    pub fn train(
        &mut self,
        steps: &mut Steps<'_>,
        from: Checkpoint,
        watch: &mut dyn Watch,
    ) -> Result<Outcome> {
        self.comes_by(steps, &from)?;
        let total = steps.total;
        let schedule = Schedule::of(self.config, self.lr, total);
        let mut ledger = Ledger {
            log: match &self.writer {
                Some(writer) => {
                    Some(JsonLines::resume(&writer.output.metrics(), from.metrics_len)?)
                }
                None => None,
            },
            events: match &self.writer {
                Some(writer) if self.config.tensorboard => {
                    Some(EventFile::begin(&writer.output.events(), from.step + 1)?)
                }
                _ => None,
            },
            outcome: Outcome {
                end: End::Finished,
                step: from.step,
                last: Vec::new(),
                best: None,
                answers: None,
                sha256: None,
                tokens: 0,
                seconds: 0.0,
            },
            state: Checkpoint { total, ..from },
            applied: false,
            since: Instant::now(),
        };

        if let Some(lost) = ledger.log.as_ref().and_then(JsonLines::lost) {
            watch.warn(lost);
        }
        let mut next = position(&ledger.state);
        let mut before: Option<Issued> = None;
        let mut saved = Instant::now();
        while let Some(step) = steps.at(next) {
            if self.out_of_patience(&ledger.state) {
                ledger.outcome.end = End::OutOfPatience;
                break;
            }
            let tokens = step.batches.iter().map(|rows| steps.tokens(rows)).sum();
            let issued = self.issue(step, next.epoch, (schedule.lr(next.step), tokens))?;
            let step = &issued.step;
            next = step.after;
            if let Some(before) = before.take() {
                self.settle(&mut ledger, &before, watch)?;
            }
            let done = next.step == total;
            let due = |every: Option<u64>| match every {
                Some(every) => step.after.step.is_multiple_of(every) || done,
                None => step.ends_epoch || done,
            };
            let evaluate = !self.dev.is_empty() && due(self.config.eval_steps);
            let regular = match self.config.save_steps {
                Some(_) => due(self.config.save_steps),
                None => evaluate || step.ends_epoch || done,
            };
            let save = regular || long_unsaved(self.config, saved.elapsed());
            let ready = matches!(issued.given.report, PendingReport::Ready(_));
            if !(ready || evaluate || save || self.stopped(&issued)) {
                before = Some(issued);
                continue;
            }
            self.settle(&mut ledger, &issued, watch)?;
            if evaluate {
                self.evaluate(&mut ledger, watch)?;
            }
            let stopped = self.stopped(&issued);
            if save || stopped || self.out_of_patience(&ledger.state) {
                self.save(&mut ledger)?;
                saved = Instant::now();
            }
            if stopped && !done {
                ledger.outcome.end = End::Interrupted;
                break;
            }
            ledger.since = Instant::now();
        }
        self.finish(ledger)
    }

    /// What remains after the last step.
    fn finish(&mut self, ledger: Ledger) -> Result<Outcome> {
        let Ledger { state, mut outcome, applied, .. } = ledger;
        if outcome.end != End::Interrupted {
            hold_applied(self.session, applied, state.step)?;
        }
        (outcome.tokens, outcome.seconds) = (state.tokens, state.seconds);
        outcome.best = state.best.as_ref().map(|best| (best.step, best.value));
        if outcome.end != End::Interrupted && outcome.last.is_empty() {
            // Resumed after the last evaluation: the log has it, the result needs it.
            (outcome.last, _) = self.measure()?;
        }
        if outcome.end != End::Interrupted {
            outcome.sha256 = match &state.best {
                None => self.keep(None)?,
                Some(best) => best.sha256.clone(),
            };
            self.hold_kept(state.best.as_ref())?;
        }
        Ok(outcome)
    }

    /// Issues one optimizer step of an epoch to the device.
    fn issue(&mut self, step: Step, epoch: u64, (lr, tokens): (f64, usize)) -> Result<Issued> {
        let stop = self.stop.load(Ordering::Relaxed);
        let given = give(self.session, (self.config, self.train), (&step, epoch), lr, stop)?;
        Ok(Issued { step, lr, tokens, given })
    }

    /// Waits for an issued step and records it.
    fn settle(
        &mut self,
        ledger: &mut Ledger,
        issued: &Issued,
        watch: &mut dyn Watch,
    ) -> Result<()> {
        let Issued { step, lr, tokens, .. } = issued;
        let report = self.session.wait(issued.given.report)?;
        // An overflow of 16-bit gradients is expected while the loss scale settles.
        if report.is_hopeless() {
            bail!(Diverged::new(self.diverged(step, &report)?));
        }
        ledger.applied |= report.is_finite();
        let took = ledger.since.elapsed();
        ledger.since = Instant::now();
        ledger.outcome.step = step.after.step;
        let state = &mut ledger.state;
        if step.after.step == state.total {
            hold_applied(self.session, ledger.applied, step.after.step)?;
        }
        state.tokens = state.tokens.saturating_add(*tokens as u64);
        state.seconds += took.as_secs_f64();
        (state.step, state.epoch, state.batches_in_epoch) =
            (step.after.step, step.after.epoch, step.after.batch);
        let tokens_per_s = *tokens as f64 / took.as_secs_f64().max(1e-9);
        let record = StepRecord {
            step: state.step,
            epoch: step.epochs,
            loss: report.loss,
            lr: *lr,
            grad_norm: report.grad_norm,
            tokens: state.tokens,
            tokens_per_s,
        };
        ledger.log.as_mut().map_or(Ok(()), |log| log.append(&record))?;
        if let Some(events) = &mut ledger.events {
            events.scalars(record.step, &record.scalars())?;
        }
        watch.step(state.step, f64::from(report.loss), tokens_per_s);
        Ok(())
    }

    /// Whether the run stops after a step. Several ranks decide this together when they exchange gradients.
    fn stopped(&self, issued: &Issued) -> bool {
        match self.session.ranks().several() {
            true => issued.given.stop,
            false => self.stop.load(Ordering::Relaxed),
        }
    }

    fn evaluate(&mut self, ledger: &mut Ledger, watch: &mut dyn Watch) -> Result<()> {
        let (found, answers) = self.measure()?;
        let state = &mut ledger.state;
        let mut record = Map::from_iter([("step".to_owned(), Value::from(state.step))]);
        for (place, evaluation) in found.iter().enumerate() {
            record.insert(key_of("eval", place, evaluation.part), evaluation.record());
        }
        ledger.log.as_mut().map_or(Ok(()), |log| log.append(&record))?;
        if let Some(events) = &mut ledger.events {
            let measured = found.iter().enumerate().flat_map(|(place, evaluation)| {
                let key = key_of("dev", place, evaluation.part);
                let scores = evaluation.scores.iter();
                scores.map(move |(metric, value)| (format!("{key}/{}", metric.key()), *value))
            });
            events.scalars(state.step, &measured.collect::<Vec<_>>())?;
        }

        let metric = self.config.metric();
        let value = found.first().and_then(|evaluation| evaluation.value(metric));
        let value = value.with_context(|| format!("no {metric} was measured"))?;
        let improved = metric.improves(value, state.best.as_ref().map(|best| best.value));
        for (place, evaluation) in found.iter().enumerate() {
            let Evaluation { part, scores, no_answer, one_answer, .. } = evaluation;
            let figures = scores.iter().map(|(m, value)| format!("{m} {value:.4}"));
            let threshold = no_answer.and_then(NoAnswer::threshold);
            let threshold = threshold.map(|value| format!("no-answer-threshold {value:.4}"));
            let figures: Vec<_> = figures.chain(threshold).collect();
            let mark = if improved && place == 0 { "  (best so far)" } else { "" };
            let part = if part.is_empty() { String::new() } else { format!(" {part}") };
            let doubt = match one_answer {
                true => format!("  ({})", same_answer(self.config.task.kind())),
                false => String::new(),
            };
            let figures = figures.join("  ");
            watch.note(&format!("step {}: dev{part} {figures}{mark}{doubt}", state.step));
        }
        if improved {
            let sha256 = self.keep(found.first().and_then(|found| found.no_answer))?;
            state.best = Some(Best { value, step: state.step, sha256 });
            ledger.outcome.answers = answers;
            state.evaluations_without_gain = 0;
        } else {
            state.evaluations_without_gain += 1;
        }
        ledger.outcome.last = found;
        Ok(())
    }

    /// Measures of the dev rows under the current values, and the answers to those that choose; empty without dev rows.
    fn measure(&mut self) -> Result<(Vec<Evaluation>, Option<RowAnswers>)> {
        let (mut found, mut of_first) = (Vec::new(), None);
        for (place, dev) in self.dev.iter().enumerate() {
            let (evaluation, answers) =
                measured(self.session, self.targets, self.config, dev).context(ON_DEV_ROWS)?;
            found.push(evaluation);
            if place == 0 {
                of_first = answers;
            }
        }
        Ok((found, of_first))
    }

    fn out_of_patience(&self, state: &Checkpoint) -> bool {
        self.config.patience.is_some_and(|patience| state.evaluations_without_gain >= patience)
    }

    fn save(&self, ledger: &mut Ledger) -> Result<()> {
        let (Some(writer), Some(log)) = (&self.writer, &mut ledger.log) else {
            return Ok(());
        };
        let state = &mut ledger.state;
        state.loss_scaling = self.session.loss_scaling()?;
        // The log first: a checkpoint must never point past it.
        state.metrics_len = log.sync()?;
        save_state(writer, self.session, state)
    }

    /// Restores the device's state from a checkpoint.
    pub fn restore(&mut self, state: &Checkpoint, vectors: &Vectors) -> Result<()> {
        let range = self.session.model().params.trained_range();
        for (slot, values) in [
            (Slot::Value, &vectors.trainables),
            (Slot::Moment1, &vectors.first_moment),
            (Slot::Moment2, &vectors.second_moment),
        ] {
            self.session.write(slot, range, values)?;
        }
        state.loss_scaling.map_or(Ok(()), |scaling| self.session.set_loss_scaling(scaling))
    }

    fn diverged(&self, step: &Step, report: &StepReport) -> Result<String> {
        let what = if report.loss.is_finite() { "gradient" } else { "loss" };
        let kept = match &self.writer {
            Some(Writer { output, .. }) if output.checkpoint().exists() => {
                format!("the last good checkpoint is in {}", output.path().display())
            }
            _ => "no checkpoint was saved yet".to_owned(),
        };
        let or_clip = match self.config.clip_norm {
            0.0 => ", or --clip-norm 1",
            _ => "",
        };
        let or_bf16 = match self.session.loss_scaling()? {
            Some(_) => "; numbers in f16 end at 65504: --precision bf16 has a larger range",
            None => "",
        };
        Ok(format!(
            "the {what} is not finite at step {} (loss {}, gradient norm {}); {kept}; try a lower --lr (now {}) or a \
             longer --warmup{or_clip}{or_bf16}",
            step.after.step, report.loss, report.grad_norm, self.lr
        ))
    }
}

/// Writes the checkpoint of `state` with the device's current values.
///
/// # Errors
/// A file that cannot be written, a device that failed.
pub fn save_state(writer: &Writer<'_>, session: &Session, state: &Checkpoint) -> Result<()> {
    let trainables = session.model().params.trainable();
    let path = writer.output.checkpoint();
    state.save(&path, writer.fingerprint, trainables, |slot, range| {
        session.read(slot, ParamRange { offset: range.start, len: range.len() })
    })
}

/// Whether it is time for a checkpoint between the regular ones.
fn long_unsaved(config: &TrainConfig, since_saved: Duration) -> bool {
    let usual = if config.save_steps.is_some() { 0.0 } else { SAVE_AFTER_MINUTES };
    let minutes = config.save_minutes.unwrap_or(usual);
    minutes > 0.0 && since_saved.as_secs_f64() >= 60.0 * minutes
}

pub(super) fn position(state: &Checkpoint) -> Position {
    Position { step: state.step, epoch: state.epoch, batch: state.batches_in_epoch }
}
