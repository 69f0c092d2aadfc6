//! One run of a sweep: trained in its folder like `bitfit train`, measured, and recorded whatever the outcome.

use super::board::{Board, Log};
use super::held::is_done;
use super::measure::{self, FinishedRun};
use super::room::{Need, Room};
use super::row;
use crate::backend::Cores;
use crate::commands::notes::heard_by;
use crate::commands::stop::Stop;
use crate::commands::train::{Ended, Inputs, Job, plan, train};
use crate::error::one_line;
use crate::ranks::{Alone, Ranks};
use crate::results::rows::{RunEnd, RunRow};
use crate::rss;
use crate::settings::sweep_run::SweepRun;
use crate::settings::train::TrainConfig;
use crate::train::output::{OF_A_RUN, OutputFolder};
use crate::train::run::has_diverged;
use anyhow::{Result, anyhow};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the runs of a sweep share.
pub struct Surroundings<'a> {
    /// The sweep's folder.
    pub output: &'a Path,
    pub inputs: &'a Inputs,
    pub memory: &'a Room,
    pub cores: &'a Cores,
    pub stop: &'a Stop,
    /// Whether somebody asked to stop.
    pub asked: &'a AtomicBool,
    pub board: &'a Arc<Board>,
}

/// Starts a run or continues it, and returns the outcome; `None` if it was asked to stop.
///
/// # Errors
/// Anything that concerns the sweep as a whole: its log cannot be written.
pub fn make(run: &SweepRun, shared: &Surroundings<'_>) -> Result<Option<RunRow>> {
    let log = Log::open(shared.board, shared.output, &run.name)?;
    let attempt = || catch_unwind(AssertUnwindSafe(|| attempt(run, shared)));
    let made = heard_by(Rc::clone(&log) as Rc<dyn crate::commands::notes::Hearer>, attempt);
    // The panic message has been printed above.
    let made = made.unwrap_or_else(|_| Err(anyhow!("it panicked, which is a bug in bitfit")));
    let error = match made {
        Ok(row) => return Ok(row),
        Err(error) => error,
    };
    let outcome = if has_diverged(&error) { RunEnd::Diverged } else { RunEnd::Failed };
    let why = one_line(&error);
    log.line(&format!("error: {why}"));
    if outcome == RunEnd::Failed && shared.asked.load(Ordering::Relaxed) {
        // Most likely because of the request to stop; if not, it fails again.
        return Ok(None);
    }
    Ok(Some(row::without_result(run, outcome, why)))
}

fn attempt(run: &SweepRun, shared: &Surroundings<'_>) -> Result<Option<RunRow>> {
    let config = &run.config;
    let texts = shared.inputs.of(config, false)?;
    let _place = {
        let need = Need::of(config, plan(config, &texts)?.planned);
        shared.memory.take(&need, |frozen| shared.inputs.release(frozen))
    };
    // Memory left over from reading the texts and earlier runs.
    rss::give_back();
    let seat = shared.cores.seat();
    let mut answers = None;
    if !is_done(config) {
        if shared.asked.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let (output, resume) = folder(config)?;
        let cores = seat.share().clone();
        let job = Job { config, cores, output: Some(&output), resume, quiet: false };
        let alone: Rc<dyn Ranks> = Rc::new(Alone);
        let ended = train(&job, &texts, shared.stop, &alone);
        if ended.is_err() {
            output.remove_if_unused();
        }
        match ended? {
            Ended::Stopped { .. } => return Ok(None),
            Ended::Done(found) => answers = found,
        }
    }
    let anew = |metric| {
        let run = FinishedRun { config, texts: &texts, cores: seat.share().clone() };
        measure::answers(&run, metric)
    };
    let answers = |metric| answers.map_or_else(|| anew(metric), |answers| Ok(Some(answers)));
    row::of_result(run, &texts, shared.output, answers).map(Some)
}

/// The folder of a run, and whether it has begun.
fn folder(config: &TrainConfig) -> Result<(OutputFolder, bool)> {
    let begun = OF_A_RUN.iter().any(|name| config.output.join(name).exists());
    let output = match begun {
        true => OutputFolder::for_resumed_run(&config.output)?,
        false => OutputFolder::for_new_run(&config.output, config.method.facts().leaves)?,
    };
    Ok((output, begun))
}
