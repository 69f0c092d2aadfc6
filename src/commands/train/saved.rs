//! What a stopped run continues from, and whether it should exist.

use crate::ranks::Ranks;
use crate::settings::method::Leaves;
use crate::settings::train::TrainConfig;
use crate::train::log::records;
use crate::train::output::OutputFolder;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs;

/// The bytes of the checkpoint from which a run continues, read by the first rank; `None` if there is none yet.
///
/// # Errors
/// A checkpoint that cannot be read, is empty, or is missing although the run's other files say that steps were saved.
pub fn checkpoint(
    output: Option<&OutputFolder>,
    config: &TrainConfig,
    ranks: &dyn Ranks,
) -> Result<Option<Vec<u8>>> {
    let mine = match output {
        Some(output) => saved(output, config)?,
        None => Vec::new(),
    };
    // A checkpoint is never empty.
    let bytes = if ranks.several() { ranks.broadcast(&mine)? } else { mine };
    Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
}

/// Whether the log has steps after one that always writes a checkpoint.
fn went_on_after_a_checkpoint(output: &OutputFolder, config: &TrainConfig) -> Result<bool> {
    let path = output.metrics();
    if !path.exists() {
        return Ok(false);
    }
    let records = records(&path)?.map_while(Result::ok);
    let mut steps = records.filter(|record| record.get("loss").is_some());
    let is_saved = |record: &Value| {
        let step = record["step"].as_u64();
        let every = |steps: u64| step.is_some_and(|step| step.is_multiple_of(steps));
        let evaluated = config.has_dev() && config.eval_steps.is_some_and(every);
        match config.save_steps {
            Some(steps) => every(steps),
            None => evaluated || record["epoch"].as_f64().is_some_and(|epoch| epoch >= 1.0),
        }
    };
    Ok(steps.any(|record| is_saved(&record)) && steps.next().is_some())
}

/// The first rank's part of this; empty before the first step was saved.
fn saved(output: &OutputFolder, config: &TrainConfig) -> Result<Vec<u8>> {
    let path = output.checkpoint();
    let shown = path.display();
    if path.exists() {
        let bytes = fs::read(&path).with_context(|| format!("checkpoint {shown}"))?;
        ensure!(
            !bytes.is_empty(),
            "checkpoint {shown}: the file is empty, so this run's saved state is lost: restore it from a copy, or \
             start again \
             in another folder"
        );
        return Ok(bytes);
    }
    let leaves = [Leaves::Delta, Leaves::Model].map(|leaves| output.result_file(leaves));
    if output.is_imported() {
        bail!(
            "{}: not from a run in this folder, which has no {} (`bitfit import` leaves one without): start a run in another \
             folder, with --init-delta to go on from it",
            leaves[0].display(),
            output.metrics().display()
        );
    }
    let kept = leaves.iter().chain([&output.result()]).find(|path| path.exists()).cloned();
    // The first result is written before the first checkpoint.
    let kept = match output.result().exists() || went_on_after_a_checkpoint(output, config)? {
        true => kept,
        false => None,
    };
    if let Some(kept) = kept {
        bail!(
            "checkpoint {shown}: missing, although {} says that steps were saved; restore it, or start again in another \
             folder",
            kept.display()
        );
    }
    Ok(Vec::new())
}
