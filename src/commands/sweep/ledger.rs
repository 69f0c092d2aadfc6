//! `sweep.jsonl`: a line for each run that has ended. Lines are added as runs end, so that a killed sweep knows of
//! them, and are sorted in grid order once all have ended.

use super::held::{is_done, result_of};
use super::report::answers_file;
use crate::files::{read_bounded, write_bytes_atomic};
use crate::results::rows::{RunEnd, RunRow, read_rows};
use crate::settings::sweep_run::SweepRun;
use crate::settings::train::TrainConfig;
use crate::train::log::JsonLines;
use anyhow::{Context, Result};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub const LEDGER_FILE: &str = "sweep.jsonl";

/// Ten thousand runs take a few MiB.
const MOST_BYTES: u64 = 256 << 20;

pub struct Ledger {
    path: PathBuf,
    /// Open from [`begin`](Ledger::begin) on.
    file: Option<JsonLines>,
    /// In grid order.
    names: Vec<String>,
    rows: HashMap<String, RunRow>,
}

impl Ledger {
    /// Reads a folder's lines about these runs. Drops those of runs that failed, whose folders or answers are gone, or
    /// whose results disagree: these are run again.
    ///
    /// # Errors
    /// A file that cannot be read, or a line that is broken; a truncated last line is ignored.
    pub fn read(output: &Path, runs: &[SweepRun]) -> Result<Self> {
        let path = output.join(LEDGER_FILE);
        let mut rows = HashMap::new();
        if path.exists() {
            let text = String::from_utf8(read_bounded(&path, MOST_BYTES)?);
            let found = text.map_err(Into::into).and_then(|text| read_rows(&text));
            let (found, _) = found.with_context(|| {
                format!("{}: remove the wrong line; its run is then checked again", path.display())
            })?;
            for row in found {
                let run = runs.iter().find(|run| run.name == row.run);
                let stands = run.is_some_and(|run| match row.outcome {
                    RunEnd::Done => says(&run.config, &row) && has_answers(output, &row),
                    RunEnd::Diverged => run.config.output.exists(),
                    RunEnd::Failed => false,
                });
                if stands {
                    rows.insert(row.run.clone(), row);
                }
            }
        }
        let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
        Ok(Self { path, file: None, names, rows })
    }

    /// Cleans up the file and opens it for further lines.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn begin(&mut self) -> Result<()> {
        let text = text(&self.names, &self.rows)?;
        write_bytes_atomic(&self.path, &text)?;
        self.file = Some(JsonLines::resume(&self.path, text.len() as u64)?);
        Ok(())
    }

    /// Whether a run has ended.
    pub fn has(&self, name: &str) -> bool {
        self.rows.contains_key(name)
    }

    /// How many have ended.
    pub fn ended(&self) -> usize {
        self.rows.len()
    }

    /// # Errors
    /// A line that cannot be written; no part of it stays, so another run's line is still separate.
    pub fn add(&mut self, row: RunRow) -> Result<()> {
        let file = self.file.as_mut().context("a ledger that was not begun")?;
        file.append(&row)?;
        file.sync()?;
        self.rows.insert(row.run.clone(), row);
        Ok(())
    }

    /// Records the measure of a run on rows that it was trained on.
    pub fn measured_on_trained_rows(&mut self, name: &str, value: f64) {
        if let Some(row) = self.rows.get_mut(name) {
            row.train = Some(value);
        }
    }

    /// Removes that measure from all other runs: they got it while some failed runs were still to be repeated.
    pub fn measured_no_others(&mut self, names: &HashSet<&str>) {
        let others = self.rows.values_mut().filter(|row| !names.contains(row.run.as_str()));
        others.for_each(|row| row.train = None);
    }

    /// All rows in grid order, and rewrites the file in that order.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn in_order(&self) -> Result<Vec<RunRow>> {
        write_bytes_atomic(&self.path, &text(&self.names, &self.rows)?)?;
        Ok(self.names.iter().filter_map(|name| self.rows.get(name)).cloned().collect())
    }
}

/// Whether a run's own result exists and agrees.
fn says(config: &TrainConfig, row: &RunRow) -> bool {
    is_done(config)
        && result_of(config).is_ok_and(|result| {
            result["best"]["value"].as_f64() == row.dev && result["steps"].as_u64() == row.steps
        })
}

/// Locks it for one of the threads that share it.
pub fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a run's answers exist, if it was measured.
fn has_answers(output: &Path, row: &RunRow) -> bool {
    row.metric.is_none() || answers_file(output, &row.run).exists()
}

fn text(names: &[String], rows: &HashMap<String, RunRow>) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for row in names.iter().filter_map(|name| rows.get(name)) {
        text.extend(row.to_line()?.into_bytes());
    }
    Ok(text)
}
