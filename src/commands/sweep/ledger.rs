//! `sweep.jsonl`: a line for each run that has ended. Lines are added as runs end, so that a sweep that was killed knows of
//! them, and stand in the order of the grid when all have.

use super::held::is_done;
use crate::files::{open_own, read_bounded, write_bytes_atomic};
use crate::results::rows::{RunEnd, RunRow, read_rows};
use crate::settings::sweep_run::SweepRun;
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

pub const LEDGER_FILE: &str = "sweep.jsonl";

/// Ten thousand runs come to some MiB.
const MOST_BYTES: u64 = 256 << 20;

pub struct Ledger {
    path: PathBuf,
    /// Open from [`begin`](Ledger::begin) on.
    file: Option<File>,
    /// In the order of the grid.
    names: Vec<String>,
    rows: HashMap<String, RunRow>,
}

impl Ledger {
    /// Reads the lines that a folder has of these runs. Those of runs that failed, or whose folders are gone, are dropped: they are
    /// made again.
    ///
    /// # Errors
    /// A file that cannot be read, or a line that is broken; a last one that was cut off is none.
    pub fn read(output: &Path, runs: &[SweepRun]) -> Result<Self> {
        let path = output.join(LEDGER_FILE);
        let mut rows = HashMap::new();
        if path.exists() {
            let text = String::from_utf8(read_bounded(&path, MOST_BYTES)?);
            let found = text.map_err(Into::into).and_then(|text| read_rows(&text));
            let (found, _) = found.with_context(|| {
                format!(
                    "{}: remove what is wrong there, and its run is looked at anew",
                    path.display()
                )
            })?;
            for row in found {
                let run = runs.iter().find(|run| run.name == row.run);
                let stands = run.is_some_and(|run| match row.outcome {
                    RunEnd::Done => is_done(&run.config),
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

    /// Puts the file in order and opens it for further lines.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn begin(&mut self) -> Result<()> {
        write_bytes_atomic(&self.path, &text(&self.names, &self.rows)?)?;
        let file = open_own(&self.path, File::options().append(true));
        self.file = Some(file.with_context(|| format!("cannot write {}", self.path.display()))?);
        Ok(())
    }

    /// Whether a run has ended.
    pub fn has(&self, name: &str) -> bool {
        self.rows.contains_key(name)
    }

    /// How many have.
    pub fn ended(&self) -> usize {
        self.rows.len()
    }

    /// # Errors
    /// A line that cannot be written.
    pub fn add(&mut self, row: RunRow) -> Result<()> {
        let line = row.to_line()?;
        let file = self.file.as_mut().context("a ledger that was not begun")?;
        file.write_all(line.as_bytes())
            .and_then(|()| file.sync_data())
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.rows.insert(row.run.clone(), row);
        Ok(())
    }

    /// All rows in the order of the grid, as the file has them from then on.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn in_order(&self) -> Result<Vec<RunRow>> {
        write_bytes_atomic(&self.path, &text(&self.names, &self.rows)?)?;
        Ok(self.names.iter().filter_map(|name| self.rows.get(name)).cloned().collect())
    }
}

fn text(names: &[String], rows: &HashMap<String, RunRow>) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for row in names.iter().filter_map(|name| rows.get(name)) {
        text.extend(row.to_line()?.into_bytes());
    }
    Ok(text)
}
