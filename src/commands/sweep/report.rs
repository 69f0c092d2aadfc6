//! What a sweep that has ended leaves for people: its table, on the terminal and as Markdown.

use super::ANSWERS;
use crate::commands::show;
use crate::files::{read_bounded, write_bytes_atomic};
use crate::results::bootstrap::DevAnswers;
use crate::results::groups::{AnswersByRun, Groups};
use crate::results::rows::{RunEnd, RunRow};
use crate::results::table::ResultTable;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The table's file.
pub const TABLE_FILE: &str = "sweep.md";

/// Rows of dev data in their millions.
const MOST_ANSWERS: u64 = 1 << 30;

/// Where a run's answers to the dev rows are.
pub fn answers_file(output: &Path, run: &str) -> PathBuf {
    output.join(ANSWERS).join(format!("{run}.json"))
}

/// # Errors
/// Answers that are broken; a file that cannot be written.
pub fn make(output: &Path, rows: &[RunRow]) -> Result<()> {
    let answers = answers(output, rows)?;
    let groups = Groups::of(rows);
    let table = ResultTable::of(&groups, &answers);
    write_bytes_atomic(&output.join(TABLE_FILE), table.markdown().as_bytes())?;
    show(table.text())
}

/// Of the runs that are done, where the measure comes from rows.
fn answers(output: &Path, rows: &[RunRow]) -> Result<AnswersByRun> {
    let mut found = AnswersByRun::new();
    for row in rows.iter().filter(|row| row.outcome == RunEnd::Done) {
        let path = answers_file(output, &row.run);
        if !path.exists() {
            continue;
        }
        let answers: DevAnswers = serde_json::from_slice(&read_bounded(&path, MOST_ANSWERS)?)
            .with_context(|| format!("{} is broken", path.display()))?;
        found.insert(row.run.clone(), answers);
    }
    Ok(found)
}
