//! The folder that a run writes: its file names, and the rule of one run per folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::files::{no_links, only_files};
use crate::formats::model_files::{
    ADAPTER, ADAPTER_WEIGHTS, CONFIG, HEAD, READ_BESIDES, SENTENCE_ENCODER_FILES, TOKENIZER_FILES,
    WEIGHTS, WEIGHTS_INDEX, holds_model,
};
use crate::settings::method::Leaves;
use crate::temporary::remove_leftovers;
use crate::train::lock::{FolderLock, LOCK_FILE};

/// The effective settings, as a file for `--config`.
pub const SETTINGS_FILE: &str = "settings.toml";
/// The trained delta.
pub const DELTA_FILE: &str = "bias.safetensors";
/// One JSON object per line, for every step and every evaluation.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// What a killed run resumes from.
pub const CHECKPOINT_FILE: &str = "checkpoint.safetensors";

/// How a finished run ended, as one JSON object.
pub const RESULT_FILE: &str = "result.json";

/// Event files for TensorBoard.
const EVENTS_FOLDER: &str = "tensorboard";

/// The files whose presence means that a run has used a folder.
pub const OF_A_RUN: [&str; 7] =
    [SETTINGS_FILE, DELTA_FILE, WEIGHTS, HEAD, METRICS_FILE, CHECKPOINT_FILE, RESULT_FILE];

/// Files other than [`OF_A_RUN`] that are written into a model's folder, or read with a model from anywhere.
const OF_A_MODEL: [&[&str]; 4] =
    [&TOKENIZER_FILES, &SENTENCE_ENCODER_FILES, &READ_BESIDES, &[HEAD, WEIGHTS, WEIGHTS_INDEX]];

/// A run's output folder, locked while this lives.
#[derive(Debug)]
pub struct OutputFolder {
    path: PathBuf,
    lock: FolderLock,
    /// The folders that did not exist before, innermost first.
    made: Vec<PathBuf>,
}

impl OutputFolder {
    /// Makes the folder for a new run, or takes one without another run. Writes nothing into it except the lock.
    ///
    /// # Errors
    /// A path that is a file, a folder that cannot be made, one that another run is writing or has written; for a run
    /// that leaves a model, a folder with files that would be read with it.
    pub fn for_new_run(path: &Path, leaves: Leaves) -> Result<Self> {
        if leaves == Leaves::Model {
            no_foreign_files(path)?;
        }
        let output = Self::made(path)?;
        if let Some(found) = OF_A_RUN.iter().find(|name| path.join(name).exists()) {
            let hint = match output.is_imported() {
                true => "",
                false => ", or continue that run with --resume",
            };
            bail!(
                "--output {}: the folder has another run (it has {found}); use a new folder{hint}",
                path.display()
            );
        }
        Ok(output)
    }

    /// Makes the folder for a merged model, or takes one without a model.
    ///
    /// # Errors
    /// As [`for_new_run`](Self::for_new_run).
    pub fn for_merge(path: &Path) -> Result<Self> {
        no_foreign_files(path)?;
        let output = Self::made(path)?;
        if holds_model(path) {
            bail!("--output {}: the folder already has a model; use another", path.display());
        }
        Ok(output)
    }

    /// Makes the folder for an adapter, or takes one without an adapter, model or run.
    ///
    /// # Errors
    /// As [`for_new_run`](Self::for_new_run).
    pub fn for_adapter(path: &Path) -> Result<Self> {
        let there = |name: &&str| path.join(name).symlink_metadata().is_ok();
        // Left by a writer that was killed while it held the lock.
        let left = there(&LOCK_FILE) && !there(&ADAPTER);
        let own: &[&str] = if left { &[] } else { &[ADAPTER, ADAPTER_WEIGHTS, HEAD] };
        let of_others = OF_A_RUN.into_iter().filter(|name| *name != HEAD).chain([CONFIG]);
        let option = "--peft";
        let output = Self::made_for(path, option)?;
        match of_others.chain(own.iter().copied()).find(there) {
            None => Ok(output),
            Some(found) => bail!(
                "{option} {}: the folder has a run, a model or another adapter (it has {found}); use a new folder",
                path.display()
            ),
        }
    }

    fn made(path: &Path) -> Result<Self> {
        Self::made_for(path, "--output")
    }

    /// An existing, locked folder: a live writer is found before anything is examined.
    fn made_for(path: &Path, option: &str) -> Result<Self> {
        if path.exists() && !path.is_dir() {
            bail!("{option} {}: this is a file; name a folder", path.display());
        }
        let missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let made: Vec<_> = path.ancestors().take_while(missing).map(Path::to_owned).collect();
        let lock = fs::create_dir_all(path)
            .with_context(|| format!("{option} {}: cannot make the folder", path.display()))
            .and_then(|()| FolderLock::take(path).context(option.to_owned()))
            .inspect_err(|_| remove_empty(&made))?;
        only_files(path, &OF_A_RUN).context(option.to_owned())?;
        no_links(path, &[EVENTS_FOLDER]).context(option.to_owned())?;
        Ok(Self { path: path.to_path_buf(), lock, made })
    }

    /// Takes the folder of a run to resume. A run killed before its first checkpoint has none and starts from the
    /// beginning: see [`checkpoint`](Self::checkpoint). Removes half-written files left by the kill.
    ///
    /// # Errors
    /// No such folder, one without a run, or one whose run is still alive.
    pub fn for_resumed_run(path: &Path) -> Result<Self> {
        let lock = match path.is_dir() {
            true => Some(FolderLock::take(path).context("--resume")?),
            false => None,
        };
        match lock {
            Some(lock) if OF_A_RUN.iter().any(|name| path.join(name).exists()) => {
                only_files(path, &OF_A_RUN).context("--resume")?;
                no_links(path, &[EVENTS_FOLDER]).context("--resume")?;
                remove_leftovers(path, &OF_A_RUN)?;
                Ok(Self { path: path.to_path_buf(), lock, made: Vec::new() })
            }
            _ => bail!(
                "--resume: {} has no run; leave out --resume to start one there",
                path.display()
            ),
        }
    }

    /// Undoes what [`for_new_run`](Self::for_new_run) made, as far as it is empty: a run that failed before it wrote
    /// anything leaves no trace.
    pub fn remove_if_unused(self) {
        let Self { made, lock, .. } = self;
        drop(lock);
        remove_empty(&made);
    }

    /// The same for a process that exits at once, from any thread.
    pub fn undo(&self) -> impl FnOnce() + Send + 'static {
        let (lock, made) = (self.lock.file().to_path_buf(), self.made.clone());
        move || {
            let _ = fs::remove_file(lock);
            remove_empty(&made);
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn settings(&self) -> PathBuf {
        self.path.join(SETTINGS_FILE)
    }

    pub fn result_file(&self, leaves: Leaves) -> PathBuf {
        self.path.join(result_file(leaves))
    }

    /// Whether the delta is not of a run here: `bitfit import` writes no log, which every run begins with.
    pub fn is_imported(&self) -> bool {
        self.result_file(Leaves::Delta).exists() && !self.metrics().exists()
    }

    pub fn metrics(&self) -> PathBuf {
        self.path.join(METRICS_FILE)
    }

    /// The folder of the event files.
    pub fn events(&self) -> PathBuf {
        self.path.join(EVENTS_FOLDER)
    }

    pub fn result(&self) -> PathBuf {
        self.path.join(RESULT_FILE)
    }

    pub fn checkpoint(&self) -> PathBuf {
        self.path.join(CHECKPOINT_FILE)
    }
}

/// Refuses a folder with somebody's own files under the names of a model's: they would be overwritten, or read with the
/// model. If a lock is left, its holder was killed in a folder that had no such files, so they are the holder's.
fn no_foreign_files(folder: &Path) -> Result<()> {
    let there = |name: &str| folder.join(name).symlink_metadata().is_ok();
    if there(LOCK_FILE) || holds_model(folder) {
        // The caller reports what the folder holds.
        return Ok(());
    }
    let names: Vec<_> = OF_A_MODEL.into_iter().flatten().copied().filter(|n| there(n)).collect();
    if names.is_empty() {
        return Ok(());
    }
    bail!(
        "--output {}: the folder has {}, which the model would replace or be loaded with; move them away, or use \
         another folder",
        folder.display(),
        names.join(", ")
    )
}

fn remove_empty(folders: &[PathBuf]) {
    for folder in folders {
        // The system refuses if the folder is not empty, and then for its parents too.
        let _ = fs::remove_dir(folder);
    }
}

/// Whether a folder holds an unfinished run.
pub fn is_unfinished(folder: &Path) -> bool {
    let has = |name: &&str| folder.join(name).exists();
    [METRICS_FILE, CHECKPOINT_FILE].iter().any(has) && !has(&RESULT_FILE)
}

/// The file of a run's folder that holds the run's result.
pub fn result_file(leaves: Leaves) -> &'static str {
    match leaves {
        Leaves::Delta => DELTA_FILE,
        Leaves::Model => WEIGHTS,
    }
}

/// What `path` refers to: the file of a delta or model, or the output folder of a run, which has one of them. Also
/// returns where it is: a delta's file, a model's folder.
pub fn left_at(path: &Path) -> (Leaves, PathBuf) {
    if path.is_dir() {
        let delta = path.join(DELTA_FILE);
        return if !delta.exists() && path.join(WEIGHTS).exists() {
            (Leaves::Model, path.to_path_buf())
        } else {
            (Leaves::Delta, delta)
        };
    }
    match path.parent() {
        Some(folder) if path.file_name().is_some_and(|name| name == WEIGHTS) => {
            (Leaves::Model, folder.to_path_buf())
        }
        _ => (Leaves::Delta, path.to_path_buf()),
    }
}

/// The delta file that `path` refers to.
///
/// # Errors
/// If it refers to a whole model.
pub fn delta_path(path: &Path) -> Result<PathBuf> {
    match left_at(path) {
        (Leaves::Delta, path) => Ok(path),
        (Leaves::Model, folder) => bail!(
            "{} has a whole model, merged or from --method full, not a delta: give the output folder of a run that wrote a \
             delta (`bitfit eval` and `predict` take a model from --method full, and `transformers` takes both)",
            folder.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_run_makes_its_folder_and_takes_one_with_other_things() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        drop(OutputFolder::for_new_run(&path, Leaves::Delta).unwrap());
        assert!(path.is_dir());
        fs::write(path.join("notes.txt"), "x").unwrap();
        let output = OutputFolder::for_new_run(&path, Leaves::Delta).unwrap();
        let delta = output.result_file(Leaves::Delta);
        assert_eq!(delta_path(&path).unwrap(), delta);
        assert_eq!(delta_path(&delta).unwrap(), delta);
    }

    #[test]
    fn the_folder_of_a_full_run_is_a_model_and_no_delta() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::write(path.join(WEIGHTS), "").unwrap();
        for path in [path.to_path_buf(), path.join(WEIGHTS)] {
            let found = (Leaves::Model, folder.path().to_path_buf());
            assert_eq!(left_at(&path), found);
            let error = delta_path(&path).unwrap_err().to_string();
            assert!(error.contains("--method full"), "{error}");
        }
        assert!(OutputFolder::for_new_run(path, Leaves::Delta).is_err());
        fs::write(path.join(DELTA_FILE), "").unwrap();
        assert_eq!(left_at(path), (Leaves::Delta, path.join(DELTA_FILE)));
    }

    #[test]
    fn an_unused_folder_goes_with_the_parents_that_were_made_for_it_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        OutputFolder::for_new_run(&path, Leaves::Delta).unwrap().remove_if_unused();
        assert!(!folder.path().join("a").exists() && folder.path().exists());

        fs::create_dir_all(&path).unwrap();
        OutputFolder::for_new_run(&path, Leaves::Delta).unwrap().remove_if_unused();
        assert!(path.exists(), "it was there before");

        let inner = path.join("c");
        let output = OutputFolder::for_new_run(&inner, Leaves::Delta).unwrap();
        fs::write(output.metrics(), "").unwrap();
        let metrics = output.metrics();
        output.remove_if_unused();
        assert!(metrics.exists());
    }

    #[test]
    fn the_folder_of_a_living_run_is_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let run = OutputFolder::for_new_run(folder.path(), Leaves::Delta).unwrap();
        fs::write(run.settings(), "").unwrap();
        for taken in [
            OutputFolder::for_new_run(folder.path(), Leaves::Delta),
            OutputFolder::for_resumed_run(folder.path()),
        ] {
            let error = crate::error::one_line(&taken.unwrap_err());
            assert!(error.contains("another run is writing"), "{error}");
            assert!(error.contains(&std::process::id().to_string()), "{error}");
        }
        drop(run);
        assert!(OutputFolder::for_resumed_run(folder.path()).is_ok());
    }

    #[test]
    fn the_folder_of_another_run_is_refused_with_two_ways_out() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(METRICS_FILE), "").unwrap();
        let error =
            OutputFolder::for_new_run(folder.path(), Leaves::Delta).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl") && error.contains("--resume"), "{error}");
        assert!(OutputFolder::for_resumed_run(folder.path()).is_ok());
    }

    #[test]
    fn a_file_is_no_folder_and_an_empty_folder_no_run() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x");
        fs::write(&file, "").unwrap();
        assert!(
            OutputFolder::for_new_run(&file, Leaves::Delta)
                .unwrap_err()
                .to_string()
                .contains("this is a file")
        );
        let error = OutputFolder::for_resumed_run(folder.path()).unwrap_err().to_string();
        assert!(error.contains("has no run"), "{error}");
    }
}
