//! What a finished sweep leaves for people: its table, on the terminal and as Markdown, its pictures, and a page with
//! everything.

use super::ANSWERS;
use crate::cli::sweep_file;
use crate::commands::show;
use crate::commands::train::{Inputs, OpenBase};
use crate::files::read_bounded;
use crate::formats::model_tensors::ModelTensors;
use crate::results::bootstrap::DevAnswers;
use crate::results::groups::AnswersByRun;
use crate::results::report::{BaseOfRuns, write};
use crate::results::rows::{RunEnd, RunRow};
use crate::settings::sweep_run::SweepRun;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// Enough for millions of dev rows.
const MOST_ANSWERS: u64 = 1 << 30;

/// The file with a run's answers to the dev rows: `null` if its measure does not come from rows. Runs that were not
/// measured have none.
pub fn answers_file(output: &Path, run: &str) -> PathBuf {
    output.join(ANSWERS).join(format!("{run}.json"))
}

/// # Errors
/// Broken answers; a base that can no longer be read; a file that cannot be written.
pub fn make(output: &Path, runs: &[SweepRun], rows: &[RunRow], inputs: &Inputs) -> Result<()> {
    let answers = answers(output, rows)?;
    let settings = sweep_file::to_text(runs)?;
    // All runs have the same base.
    let base = runs.first().map(|run| inputs.base(&run.config, true)).transpose()?;
    let base = base.as_deref().map(|OpenBase { base, .. }| {
        let prefix = base.config.family.prefix();
        ModelTensors::open(&base.folder, prefix).map(|tensors| (tensors, prefix))
    });
    let base = base.transpose()?;
    let base = base.as_ref().map(|(tensors, prefix)| BaseOfRuns { tensors, prefix });
    let table = write(output, rows, &answers, base.as_ref(), &settings)?;
    show(table.text())
}

/// Whether answers give the value that the run reports.
fn fits(DevAnswers { answers, .. }: &DevAnswers, row: &RunRow) -> bool {
    let all = answers.rows().map(|count| answers.value(&(0..count).collect::<Vec<_>>()));
    let close = |(own, said): (f64, f64)| (own - said).abs() < 1e-5 || own.is_nan();
    all.zip(row.dev).is_some_and(close)
}

/// For the finished runs, if the measure comes from rows.
fn answers(output: &Path, rows: &[RunRow]) -> Result<AnswersByRun> {
    let mut found = AnswersByRun::new();
    for row in rows.iter().filter(|row| row.outcome == RunEnd::Done) {
        let path = answers_file(output, &row.run);
        if !path.exists() {
            continue;
        }
        let answers: Option<DevAnswers> =
            serde_json::from_slice(&read_bounded(&path, MOST_ANSWERS)?).with_context(|| {
                format!(
                    "{} is damaged: remove it, and continue with --resume, which rebuilds it",
                    path.display()
                )
            })?;
        let Some(answers) = answers else { continue };
        ensure!(
            fits(&answers, row),
            "{} does not match the answers that {} was measured by: remove it, and continue with --resume, which rebuilds it",
            path.display(),
            row.run
        );
        found.insert(row.run.clone(), answers);
    }
    Ok(found)
}
