//! What a resumed sweep checks about the runs in its folder: their settings, the files they used, and their results.

use crate::commands::base::settings_beside;
use crate::commands::train::{Inputs, identity, rate, texts_key};
use crate::commands::warn;
use crate::files::{read_bounded, sha256_file};
use crate::formats::fingerprint::Fingerprint;
use crate::formats::run_state::recorded;
use crate::settings::rate::Rate;
use crate::settings::sweep_run::SweepRun;
use crate::settings::train::{DevSource, TrainConfig};
use crate::train::output::{CHECKPOINT_FILE, RESULT_FILE, SETTINGS_FILE, result_file};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The confusion of a few thousand classes takes a tenth of this.
const MOST_RESULT: u64 = 256 << 20;

pub fn is_done(config: &TrainConfig) -> bool {
    config.output.join(RESULT_FILE).exists()
}

/// A finished run's own result.
///
/// # Errors
/// A missing or broken result.
pub fn result_of(config: &TrainConfig) -> Result<Value> {
    let path = config.output.join(RESULT_FILE);
    serde_json::from_slice(&read_bounded(&path, MOST_RESULT)?)
        .with_context(|| format!("{} is broken", path.display()))
}

/// Checks a run against what the folder has of it. A finished run is not repeated, so it must match the request; a
/// continued one may change settings that do not affect results.
///
/// # Errors
/// The difference.
pub fn same_settings(SweepRun { name, config, .. }: &SweepRun) -> Result<()> {
    let Some(recorded) = settings_beside(&config.output.join(SETTINGS_FILE))? else {
        return Ok(());
    };
    // A run records which rate its trial chose.
    let lr = match config.lr {
        Rate::Auto if !is_done(config) || chosen_rate(&result_of(config)?).is_some() => Rate::Auto,
        _ => recorded.lr,
    };
    // The folder may have moved.
    let recorded = TrainConfig { output: config.output.clone(), lr, ..recorded };
    let differences = Fingerprint::of(config)?.differences(&Fingerprint::of(&recorded)?);
    ensure!(
        differences.is_none(),
        "{name}: the run in {} has different settings{}; remove its folder or use a new --output",
        config.output.display(),
        differences.map_or(String::new(), |differences| format!(": {differences}"))
    );
    Ok(())
}

/// Checks the files of a finished run against its result.
///
/// # Errors
/// They differ, or are gone.
pub fn hold_result(SweepRun { name, config, .. }: &SweepRun) -> Result<()> {
    if !is_done(config) {
        return Ok(());
    }
    let left = config.output.join(result_file(config.method.facts().leaves));
    let result = result_of(config)?;
    let Some(sha256) = result["sha256"].as_str() else {
        warn(format_args!(
            "{name}: its {RESULT_FILE} does not record its {}, so it is not known whether that has changed",
            left.display()
        ));
        return Ok(());
    };
    ensure!(
        sha256_file(&left)? == sha256,
        "{name}: {} has changed since the run; restore it, or remove the run's folder to run it again",
        left.display()
    );
    Ok(())
}

/// The contents of the files that runs read, each read once.
pub struct FilesNow<'a> {
    inputs: &'a Inputs,
    found: HashMap<String, Fingerprint>,
}

impl<'a> FilesNow<'a> {
    pub fn new(inputs: &'a Inputs) -> Self {
        Self { inputs, found: HashMap::new() }
    }

    /// Of those that a run with these settings reads.
    ///
    /// # Errors
    /// A file that cannot be read, or has nothing to train on.
    pub fn of(&mut self, config: &TrainConfig) -> Result<&Fingerprint> {
        Ok(match self.found.entry(files_read(config)?) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(place) => place.insert(identity::of_files_now(config, self.inputs)?),
        })
    }
}

/// Checks runs that have begun against the current files: their rows are compared with runs that read these.
///
/// # Errors
/// A file that has changed since, or can no longer be read.
pub fn same_files(runs: &[&SweepRun], files: &mut FilesNow<'_>) -> Result<()> {
    for SweepRun { name, config, .. } in runs {
        let begun = if is_done(config) { "is done" } else { "has begun" };
        let Some(recorded) = fingerprint_of(config)? else {
            if is_done(config) {
                warn(format_args!(
                    "{name}: {CHECKPOINT_FILE} is missing from {}, so it is not known whether the run had the same \
                     data and base",
                    config.output.display()
                ));
            }
            continue;
        };
        let now = files.of(config).with_context(|| format!("{name}, which {begun}"))?;
        if let Some(differences) = now.differences(&identity::files_in(&recorded, config)) {
            bail!(
                "{name}: the run in {} {begun}, with other files: {differences}; restore these, remove its folder \
                 to run it on \
                 the new ones, or use a new --output",
                config.output.display()
            );
        }
    }
    Ok(())
}

/// Checks the precision of runs that have begun against those still to be run: the meaning of `auto` depends on the
/// device.
///
/// # Errors
/// A different one; a missing device.
pub fn same_precision(runs: &[&SweepRun]) -> Result<()> {
    let mut here = HashMap::new();
    for SweepRun { name, config, .. } in runs {
        let Some(recorded) = fingerprint_of(config)? else { continue };
        // Matrices train in f32 on any device.
        let TrainConfig { device, precision, method, .. } = config;
        let now = match here.entry(format!("{device} {precision} {}", method.trains_matrices())) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(place) => place.insert(identity::precision_now(config)?),
        };
        if let Some(differences) = now.differences(&identity::precision_in(&recorded)) {
            bail!(
                "{name}: the run in {} began on another device: {differences}, so the remaining runs would not be \
                 comparable; \
                 continue on that device, or use a new --output",
                config.output.display()
            );
        }
    }
    Ok(())
}

/// Files may also change between one run and the next.
///
/// # Errors
/// Two runs that should have read the same files, but did not.
pub fn all_on_the_same_files(runs: &[SweepRun]) -> Result<()> {
    let mut first: HashMap<String, (&str, Fingerprint)> = HashMap::new();
    for SweepRun { name, config, .. } in runs {
        let Some(recorded) = fingerprint_of(config)? else { continue };
        let files = identity::files_in(&recorded, config);
        let key = files_read(config)?;
        let Some((other, before)) = first.get(&key) else {
            first.insert(key, (name, files));
            continue;
        };
        if let Some(differences) = files.differences(before) {
            bail!(
                "{name}: it used other files than {other}: {differences}; the files changed during the sweep, and its runs \
                 are not comparable: remove the folders of the runs on the wrong files, and continue with --resume"
            );
        }
    }
    Ok(())
}

/// Identifies the files that a run reads, and how they are read.
fn files_read(config: &TrainConfig) -> Result<String> {
    let TrainConfig { init_head, init_delta, class_weights, pooling, .. } = config;
    // However many rows are drawn from a file and however long its texts may be, it is the same file. If no maximum
    // length is given, the makers' files decide it.
    let dev = match &config.dev {
        Some(DevSource::Fraction(_)) => Some(DevSource::Fraction(0.5)),
        other => other.clone(),
    };
    let read = TrainConfig {
        dev,
        train_rows: None,
        seed: 0,
        max_length: config.max_length.map(|_| 1),
        stride: None,
        ..config.clone()
    };
    Ok(format!("{} {init_head:?} {init_delta:?} {class_weights:?} {pooling:?}", texts_key(&read)?))
}

/// What decided a run's results; `None` if it has no checkpoint.
fn fingerprint_of(config: &TrainConfig) -> Result<Option<Fingerprint>> {
    let path = config.output.join(CHECKPOINT_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let found = recorded(&path).with_context(|| format!("checkpoint {}", path.display()))?;
    Ok(Some(found))
}

/// The learning rate of a finished run, if a trial chose it.
pub fn chosen_rate(result: &Value) -> Option<f64> {
    result[rate::KEY]["chosen"].as_f64()
}
