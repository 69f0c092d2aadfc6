//! `bitfit sweep`: the runs of a grid in one process, several at a time, sharing one copy of the frozen weights.
//!
//! Each run leaves in its folder what `bitfit train` leaves. The sweep adds a line per run to `sweep.jsonl`, and the
//! answers of each run's best state.

mod board;
mod held;
mod ledger;
mod measure;
mod one;
mod report;
mod room;
mod row;
mod work;

use super::stop;
use super::train::Inputs;
use super::{outputs, say, set_threads, warn};
use crate::cli::sweep_file::{self, RUNS_FILE};
use crate::cli::{SweepCommand, TrainArgs};
use crate::error::nearest;
use crate::files::{no_links, only_files, write_bytes_atomic};
use crate::ranks::Alone;
use crate::results::report::{PICTURES, files as files_of_report};
use crate::results::rows::{RunEnd, RunRow};
use crate::rss;
use crate::settings::choice::Choice;
use crate::settings::method::Method;
use crate::settings::sweep_run::SweepRun;
use crate::table::grouped;
use crate::temporary;
use crate::train::lock::{FolderLock, LOCK_FILE};
use anyhow::{Context, Result, bail, ensure};
use held::FilesNow;
use ledger::{LEDGER_FILE, Ledger, lock};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use work::Work;

/// The folder for the runs' answers, row by row.
pub const ANSWERS: &str = "answers";

/// `name` is the command to continue with.
pub fn run(name: &str, command: &SweepCommand) -> Result<()> {
    let SweepCommand { runs, output, resume, .. } = command;
    let models: Vec<&Path> = runs.iter().map(|run| Path::new(&run.config.model)).collect();
    outputs::no_input_folder(output, &models)?;
    ensure!(
        *resume || !is_used(output),
        "--output {}: the folder is not empty; use a new one, or continue a sweep with --resume",
        output.display()
    );
    let made = !output.exists();
    std::fs::create_dir_all(output)
        .with_context(|| format!("--output {}: cannot make the folder", output.display()))?;
    let lock = FolderLock::take(output).context("--output")?;
    let ended = in_folder(name, command);
    drop(lock);
    if made && ended.is_err() {
        // The system refuses if something was written.
        let _ = std::fs::remove_dir(output);
    }
    ended
}

fn is_used(output: &Path) -> bool {
    std::fs::read_dir(output).is_ok_and(|mut entries| {
        entries.any(|entry| {
            entry.is_ok_and(|entry| {
                let name = entry.file_name();
                // A sweep that was killed before its list of runs existed has not begun anything.
                name != LOCK_FILE && !temporary::is_of(&name.to_string_lossy(), RUNS_FILE)
            })
        })
    })
}

fn in_folder(name: &str, command: &SweepCommand) -> Result<()> {
    let SweepCommand { runs, output, resume, quiet, .. } = command;
    let folders = runs.iter().map(|run| run.name.as_str()).chain([ANSWERS, PICTURES]);
    no_links(output, &folders.collect::<Vec<_>>())?;
    only_files(output, &files(runs))?;
    odd_names(runs).iter().for_each(warn);
    if *resume
        && let Some(before) = sweep_file::recorded(output, &TrainArgs::default())?
        && let Some(difference) = sweep_file::difference(&before, runs)?
    {
        bail!(
            "--output {}: the folder has another sweep: {difference}; leave the grid out to continue that one, or use a new \
             folder",
            output.display()
        );
    }
    // Before anything computes, which would start as many threads as there are.
    if let Some(first) = runs.first() {
        set_threads(first.config.threads, &Alone)?;
    }
    let inputs = Inputs::default();
    let mut ledger = Ledger::read(output, runs)?;
    let begun: Vec<&SweepRun> = runs.iter().filter(|run| run.config.output.exists()).collect();
    for run in &begun {
        held::same_settings(run)?;
        held::hold_result(run)?;
    }
    let mut files = FilesNow::new(&inputs);
    held::same_files(&begun, &mut files)?;
    if runs.iter().any(|run| !ledger.has(&run.name)) {
        held::same_precision(&begun)?;
    }
    let work = Work::planned(command, &inputs, &mut files, |name| ledger.has(name))?;
    // Before the first run, so that a stopped sweep knows what is left to do.
    write_bytes_atomic(&sweep_file::runs_file(output), sweep_file::to_text(runs)?.as_bytes())?;
    let answers = output.join(ANSWERS);
    std::fs::create_dir_all(&answers)
        .with_context(|| format!("cannot make the folder {}", answers.display()))?;
    ledger.begin()?;

    let stop = stop::when_asked()?;
    // Active runs finish their step.
    let asked = stop.after_the_step();
    let ledger = Mutex::new(ledger);
    work.make(&stop, &ledger)?;
    let all_made = || lock(&ledger).ended() == runs.len();
    let whole =
        (!asked.load(Ordering::Relaxed) || all_made()) && work.measure_best(&stop, &ledger)?;
    let ledger = ledger.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !whole {
        bail!(
            "stopped on request with {} of {} runs done; everything is saved: continue with `bitfit {name} --resume \
             --output {}`",
            ledger.ended(),
            runs.len(),
            output.display()
        );
    }
    held::all_on_the_same_files(runs)?;
    let rows = ledger.in_order()?;
    report::make(output, runs, &rows, &inputs)?;
    let most = work.most();
    if let Some(peak) = rss::peak().filter(|_| most.all > 0) {
        say(
            *quiet,
            format_args!(
                "memory: {} bytes planned for the active runs, including {} of shared frozen weights; the process's \
                 peak was {}",
                grouped(most.all),
                grouped(most.frozen),
                grouped(peak as usize)
            ),
        );
    }
    ended_well(&rows)
}

/// # Errors
/// Runs that failed other than by diverging, or no run that finished.
fn ended_well(rows: &[RunRow]) -> Result<()> {
    let of = |end: RunEnd| rows.iter().filter(move |row| row.outcome == end);
    let why = |row: &RunRow| format!("{}: {}", row.run, row.why.as_deref().unwrap_or_default());
    if let Some(first) = of(RunEnd::Failed).next() {
        bail!(
            "{} of {} runs failed; the first: {}",
            of(RunEnd::Failed).count(),
            rows.len(),
            why(first)
        );
    }
    match of(RunEnd::Diverged).next() {
        Some(first) if of(RunEnd::Done).next().is_none() => {
            bail!("all runs diverged; the first: {}", why(first))
        }
        _ => Ok(()),
    }
}

/// Remarks on variants whose names resemble a method that they do not use.
fn odd_names(runs: &[SweepRun]) -> BTreeSet<String> {
    let odd = |SweepRun { variant, config, .. }: &SweepRun| {
        let trains = config.method.name();
        let meant = nearest(variant, Method::ALL.iter().map(|method| method.name()))?;
        (Method::from_name(variant).is_err() && meant != trains).then(|| {
            format!("{variant}: this is not a method's name (did you mean `{meant}`?), so it trains {trains}")
        })
    };
    runs.iter().filter_map(odd).collect()
}

/// The names of all files that a sweep itself writes into its folder.
fn files(runs: &[SweepRun]) -> Vec<String> {
    let logs = runs.iter().map(|run| format!("{}.log", run.name));
    logs.chain([RUNS_FILE, LEDGER_FILE].map(str::to_owned)).chain(files_of_report()).collect()
}
