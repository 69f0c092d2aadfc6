//! Everything that decides a run's result: a resumed run is checked against all of it, a sweep's runs against the
//! files.

use super::core::{device_of, pooling};
use super::data::{Data, RunRows};
use super::inputs::Inputs;
use super::start;
use crate::commands::base::Base;
use crate::commands::notes::unheard;
use crate::files::sha256_file;
use crate::formats::delta::{DataHashes, DeltaInfo};
use crate::formats::fingerprint::Fingerprint;
use crate::ranks::Share;
use crate::session::open;
use crate::settings::choice::{Pooling, Precision};
use crate::settings::train::TrainConfig;
use crate::settings::weighting::Weighting;
use anyhow::{Context, Result};

/// The names for the contents of files.
const FILES: [&str; 6] = [
    "base weights",
    "training data",
    "dev data",
    "initial head",
    "initial delta",
    "file of class weights",
];
const PRECISION: &str = "precision";
/// How far a limit splits a batch; threads matter too, since each has its own memory.
const AT_A_TIME: &str = "tokens at a time (--memory, --threads)";
/// The settings may leave this to the makers' files.
const POOLING: &str = "pooling in use";
const LONGEST_TEXT: &str = "longest text";
/// The prefixes of the names for other files next to the weights.
const BESIDE_WEIGHTS: [&str; 2] = ["tokenizer.", "config.json."];

/// Of a whole run.
///
/// # Errors
/// A file that cannot be read; settings that cannot be serialised.
pub fn of_run(
    config: &TrainConfig,
    precision: Precision,
    base: &Base,
    info: &DeltaInfo,
    data: &Data,
) -> Result<Fingerprint> {
    let fingerprint = Fingerprint::of(config)?
        // The meaning of `auto` may differ where the run is resumed.
        .with(PRECISION, &format!("\"{precision}\""))
        .with(POOLING, &info.pooling.to_string())
        .with(LONGEST_TEXT, &info.max_length.unwrap_or_default().to_string())
        .with_all(&base.config.dropout())
        .with_all(&of_files(config, base, &data.hashes)?);
    Ok(match &info.base_files {
        Some(files) => fingerprint.with_all(files),
        None => fingerprint,
    })
}

/// The same for a run whose batches a memory limit has split into micro-batches of this many tokens: another split
/// rounds differently.
pub fn of_cut_run(run: Fingerprint, tokens: usize) -> Fingerprint {
    run.with(AT_A_TIME, &tokens.to_string())
}

/// For the files that a run with these settings would read now.
///
/// # Errors
/// A file that cannot be read.
pub fn of_files_now(config: &TrainConfig, inputs: &Inputs) -> Result<Fingerprint> {
    let base = &inputs.base(config, true)?.base;
    // Messages about it go to the runs.
    let tokenizer = unheard(|| inputs.tokenizer(config, false))?;
    let hashes = RunRows::read(config, base.config.vocab, true)?.hashes;
    let now = of_files(config, base, &hashes)?
        .with(POOLING, &Pooling::from(pooling(config, base)?).to_string())
        .with(LONGEST_TEXT, &tokenizer.options().max_len.to_string())
        .with_all(&base.config.dropout())
        .with_all(&base.files(&tokenizer)?);
    Ok(files_in(&now, config))
}

/// The precision that a run with these settings would have here.
///
/// # Errors
/// A missing device, or one without this precision.
pub fn precision_now(config: &TrainConfig) -> Result<Fingerprint> {
    let precision = config.precision.on(open(device_of(config, Share::WHOLE))?.kind())?;
    Ok(Fingerprint::default().with(PRECISION, &format!("\"{precision}\"")))
}

/// The precision in a run's fingerprint.
pub fn precision_in(run: &Fingerprint) -> Fingerprint {
    run.only(|name| name == PRECISION)
}

/// The part of a run's fingerprint that files decide.
pub fn files_in(run: &Fingerprint, config: &TrainConfig) -> Fingerprint {
    run.only(|name| match name {
        // Otherwise it is a setting, and may differ between runs.
        LONGEST_TEXT => config.max_length.is_none(),
        POOLING => true,
        name => FILES.contains(&name) || BESIDE_WEIGHTS.iter().any(|start| name.starts_with(start)),
    })
}

fn of_files(config: &TrainConfig, base: &Base, data: &DataHashes) -> Result<Fingerprint> {
    let [weights, train, dev, head, biases, classes] = FILES;
    let mut files = Fingerprint::default().with(weights, base.sha256()?).with(train, &data.train);
    if let Some(sha256) = &data.dev {
        files = files.with(dev, sha256);
    }
    if let Some(path) = &config.init_head {
        files = files.with(head, &sha256_file(path).context("--init-head")?);
    }
    if let Some(path) = &config.init_delta {
        files = files.with(biases, &sha256_file(&start::file_of(path)?).context("--init-delta")?);
    }
    if let Some(Weighting::File(path)) = &config.class_weights {
        files = files.with(classes, &sha256_file(path).context("--class-weights")?);
    }
    Ok(files)
}
