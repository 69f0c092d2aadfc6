//! What a run keeps as its result, and how a resumed run checks it: values that somebody has changed meanwhile are not
//! this run's result.

use crate::files::sha256_file;
use crate::formats::run_state::{Best, Checkpoint};
use crate::settings::no_answer::NoAnswer;
use crate::train::run::{Run, Writer, position};
use crate::train::steps::Steps;
use crate::words::count;
use anyhow::{Context, Result, bail, ensure};
use std::path::PathBuf;

impl Run<'_> {
    /// Checks the state of a checkpoint against the run.
    ///
    /// # Errors
    /// A position that the run never reaches, a best evaluation from later on, or one whose values are gone.
    pub(super) fn comes_by(&self, steps: &Steps<'_>, from: &Checkpoint) -> Result<()> {
        let Some(writer) = &self.writer else {
            return Ok(());
        };
        let output = writer.output;
        let checkpoint = output.checkpoint();
        let best = from.best.as_ref().map_or(0, |best| best.step);
        if !steps.passes(position(from))
            || best > from.step
            || from.evaluations_without_gain > from.step
        {
            bail!(
                "checkpoint {}: it is at step {} in epoch {}, batch {}, with its best at step {best}, which this run of \
                 {} never reaches; it is damaged or from another run",
                checkpoint.display(),
                from.step,
                from.epoch,
                from.batches_in_epoch,
                count(steps.total as usize, "step")
            );
        }
        let kept = self.kept(writer);
        if from.best.is_some() && !kept.exists() {
            bail!(
                "--resume: the best values of this run, from step {best}, should be in {}, which is missing; restore \
                 the file, or start again in another folder",
                kept.display()
            );
        }
        if from.best.is_some() {
            let changed = self.hold_kept(from.best.as_ref()).err();
            // Values of a later evaluation are rewritten when the run gets there, and checked at its end.
            (writer.is_kept)(changed.is_some()).with_context(|| match changed {
                Some(changed) => format!("--resume: {changed:#}"),
                None => "--resume: what this run kept is damaged".to_owned(),
            })?;
        }
        Ok(())
    }

    /// Writes the run's result; returns the file's sha256.
    pub(super) fn keep(&self, chosen: Option<NoAnswer>) -> Result<Option<String>> {
        let Some(writer) = &self.writer else {
            return Ok(None);
        };
        (writer.keep)(self.session, chosen)?;
        sha256_file(&self.kept(writer)).map(Some)
    }

    /// The file with the run's result.
    fn kept(&self, writer: &Writer<'_>) -> PathBuf {
        writer.output.result_file(self.config.method.facts().leaves)
    }

    /// Whether the values of the best evaluation are still those that were kept.
    ///
    /// # Errors
    /// Their file holds other values, or cannot be read.
    pub(super) fn hold_kept(&self, best: Option<&Best>) -> Result<()> {
        let (Some(writer), Some(Best { step, sha256: Some(sha256), .. })) = (&self.writer, best)
        else {
            return Ok(());
        };
        let path = self.kept(writer);
        ensure!(
            sha256_file(&path)? == *sha256,
            "{} has changed since this run wrote it after step {step}; restore it from a copy, or start again in another \
             folder",
            path.display()
        );
        Ok(())
    }
}
