//! The training checkpoint: everything that a killed run needs to continue as if nothing had happened.
//!
//! One safetensors file, replaced atomically. All randomness of a run is a function of its seed and of counters, so the
//! step and the position in the epoch are its entire random state. Frozen values are not stored: they never change. The
//! vectors go from the backend to the file piece by piece: in full fine-tuning each is as large as the model.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::backend::{LossScaling, Slot};
use crate::files::{hex, write_atomic};
use crate::formats::container::{self, Container, ContainerError};
use crate::formats::fingerprint::{Changed, Fingerprint};

const FORMAT: &str = "bitfit-checkpoint";
/// Up to version 2 a CPU run was recorded as bf16 but computed in f32; up to version 3 dropout drew other masks.
const FORMAT_VERSION: u32 = 4;
/// The prefix of metadata keys that belong to the fingerprint.
const FINGERPRINT: &str = "run.";
/// Metadata key of the sha256 over everything else in the file.
const CHECKSUM: &str = "checksum";

/// The best evaluation so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    /// Value of the run's `--metric`.
    pub value: f64,
    /// Optimizer steps done when it was measured.
    pub step: u64,
    /// Of the file with its values; `None` in checkpoints of an earlier version.
    pub sha256: Option<String>,
}

/// The state of a run between two optimizer steps, except for its [`Vectors`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Checkpoint {
    /// Optimizer steps done.
    pub step: u64,
    /// Optimizer steps of the whole run, for information; 0 in files of an earlier version.
    pub total: u64,
    /// Epochs done.
    pub epoch: u64,
    /// Finished batches of the current epoch.
    pub batches_in_epoch: u64,
    /// Tokens seen in training.
    pub tokens: u64,
    /// Their time in seconds, without evaluation and saving.
    pub seconds: f64,
    /// Evaluations since the best one.
    pub evaluations_without_gain: u64,
    /// Length in bytes of `metrics.jsonl` with exactly the lines up to here.
    pub metrics_len: u64,
    /// On devices that scale the loss: the state for the next step.
    pub loss_scaling: Option<LossScaling>,
    /// Its values are in the run's output.
    pub best: Option<Best>,
}

/// What trains and AdamW's moments, each `[trainables]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Vectors {
    pub trainables: Vec<f32>,
    pub first_moment: Vec<f32>,
    pub second_moment: Vec<f32>,
}

/// The tensors of the file by name, and the source of their values.
const VECTORS: [(&str, Slot); 3] = [
    ("first_moment", Slot::Moment1),
    ("second_moment", Slot::Moment2),
    ("trainables", Slot::Value),
];

/// Possible problems of a checkpoint. The messages do not name the file; [`Checkpoint::load`] adds it.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error(transparent)]
    File(#[from] ContainerError),
    #[error("it is not a checkpoint: its metadata lack `format = {FORMAT}`")]
    NotACheckpoint,
    #[error(
        "its format has version {found}, but this bitfit reads version {FORMAT_VERSION}: use the bitfit that wrote it"
    )]
    OtherVersion { found: u32 },
    #[error("its metadata lack `{0}`")]
    MissingMetadata(&'static str),
    #[error("its metadata have a wrong `{key}`: `{value}`")]
    WrongMetadata { key: &'static str, value: String },
    #[error("its values do not match their checksum; the file is damaged")]
    Damaged,
    #[error("tensor `{0}` is missing")]
    MissingTensor(&'static str),
    #[error("tensor `{tensor}` has length {found}, but this run trains {expected} values")]
    WrongLength { tensor: &'static str, found: usize, expected: usize },
    #[error(transparent)]
    Changed(#[from] Changed),
}

impl Checkpoint {
    /// Writes the file atomically; `read` returns a part of one of the vectors of `trainables` values.
    ///
    /// # Errors
    /// The file cannot be written (disk full, say): the error names it, and the previous checkpoint is unchanged.
    pub fn save(
        &self,
        path: &Path,
        fingerprint: &Fingerprint,
        trainables: usize,
        read: impl Fn(Slot, Range<usize>) -> Result<Vec<f32>>,
    ) -> Result<()> {
        let tensors = VECTORS.map(|(name, _)| (name.to_owned(), vec![trainables]));
        let mut metadata = self.metadata(fingerprint);
        let mut checksum = Checksum::of(&metadata);
        for (_, slot) in VECTORS {
            for start in (0..trainables).step_by(PIECE) {
                checksum.add(&read(slot, start..trainables.min(start + PIECE))?);
            }
        }
        metadata.insert(CHECKSUM.to_string(), checksum.end());
        write_atomic(path, |out| {
            container::write(out, &metadata, &tensors, &BTreeMap::new(), |i, range| {
                read(VECTORS[i].1, range)
            })
        })
    }

    /// Reads the checkpoint of the run with this fingerprint, which trains `trainables` values.
    ///
    /// # Errors
    /// See [`CheckpointError`]; for a run with other settings, data or base model the error says what differs.
    pub fn load(
        path: &Path,
        fingerprint: &Fingerprint,
        trainables: usize,
    ) -> Result<(Self, Vectors)> {
        Container::read(path)
            .map_err(CheckpointError::from)
            .and_then(|container| Self::from_container(container, fingerprint, trainables))
            .with_context(|| format!("checkpoint {}", path.display()))
    }

    /// The same for the file's bytes.
    ///
    /// # Errors
    /// As [`Checkpoint::load`].
    pub fn from_bytes(
        bytes: &[u8],
        fingerprint: &Fingerprint,
        trainables: usize,
    ) -> Result<(Self, Vectors)> {
        let container = Container::from_bytes(bytes).map_err(CheckpointError::from)?;
        Ok(Self::from_container(container, fingerprint, trainables)?)
    }

    fn metadata(&self, fingerprint: &Fingerprint) -> BTreeMap<String, String> {
        let mut metadata = BTreeMap::new();
        let mut put =
            |key: &str, value: &dyn Display| metadata.insert(key.to_string(), value.to_string());
        put("format", &FORMAT);
        put("format_version", &FORMAT_VERSION);
        put("step", &self.step);
        put("total", &self.total);
        put("epoch", &self.epoch);
        put("batches_in_epoch", &self.batches_in_epoch);
        put("tokens", &self.tokens);
        put("seconds", &self.seconds);
        put("evaluations_without_gain", &self.evaluations_without_gain);
        put("metrics_len", &self.metrics_len);
        if let Some(LossScaling { scale, good_steps }) = &self.loss_scaling {
            put("loss_scale", scale);
            put("loss_scale_good_steps", good_steps);
        }
        for (key, value) in fingerprint.entries() {
            put(&format!("{FINGERPRINT}{key}"), &value);
        }
        if let Some(best) = &self.best {
            // The bits, so that no value is lost in decimals; the decimals are for people.
            put("best_bits", &best.value.to_bits());
            put("best_value", &best.value);
            put("best_step", &best.step);
            if let Some(sha256) = &best.sha256 {
                put("best_sha256", sha256);
            }
        }
        metadata
    }

    fn from_container(
        mut container: Container,
        fingerprint: &Fingerprint,
        trainables: usize,
    ) -> Result<(Self, Vectors), CheckpointError> {
        let mut metadata = std::mem::take(&mut container.metadata);
        if metadata.get("format").is_none_or(|format| format != FORMAT) {
            return Err(CheckpointError::NotACheckpoint);
        }
        let found = number(&metadata, "format_version")?;
        if found != FORMAT_VERSION {
            return Err(CheckpointError::OtherVersion { found });
        }
        // Before the lengths: "--biases was all and is query" is more informative than two numbers.
        fingerprint.check(&fingerprint_in(&metadata))?;

        let written =
            metadata.remove(CHECKSUM).ok_or(CheckpointError::MissingMetadata(CHECKSUM))?;
        let mut checksum = Checksum::of(&metadata);
        for (name, _) in VECTORS {
            let tensor = container.tensors.get(name).ok_or(CheckpointError::MissingTensor(name))?;
            checksum.add(&tensor.data);
        }

        let mut vector = |name: &'static str| {
            let tensor =
                container.tensors.remove(name).ok_or(CheckpointError::MissingTensor(name))?;
            match tensor.data.len() {
                found if found != trainables => {
                    Err(CheckpointError::WrongLength { tensor: name, found, expected: trainables })
                }
                _ => Ok(tensor.data),
            }
        };
        let vectors = Vectors {
            trainables: vector("trainables")?,
            first_moment: vector("first_moment")?,
            second_moment: vector("second_moment")?,
        };
        let best = if metadata.contains_key("best_step") {
            Some(Best {
                value: f64::from_bits(number(&metadata, "best_bits")?),
                step: number(&metadata, "best_step")?,
                sha256: metadata.get("best_sha256").cloned(),
            })
        } else {
            None
        };
        let loss_scaling = if metadata.contains_key("loss_scale") {
            Some(LossScaling {
                scale: number(&metadata, "loss_scale")?,
                good_steps: number(&metadata, "loss_scale_good_steps")?,
            })
        } else {
            None
        };
        let state = Self {
            step: number(&metadata, "step")?,
            total: total(&metadata)?,
            epoch: number(&metadata, "epoch")?,
            batches_in_epoch: number(&metadata, "batches_in_epoch")?,
            tokens: number(&metadata, "tokens")?,
            seconds: number(&metadata, "seconds")?,
            evaluations_without_gain: number(&metadata, "evaluations_without_gain")?,
            metrics_len: number(&metadata, "metrics_len")?,
            loss_scaling,
            best,
        };
        if !(state.seconds.is_finite() && state.seconds >= 0.0) {
            let value = state.seconds.to_string();
            return Err(CheckpointError::WrongMetadata { key: "seconds", value });
        }
        // Last: any other problem is more informative.
        if checksum.end() != written {
            return Err(CheckpointError::Damaged);
        }
        Ok((state, vectors))
    }
}

/// The progress of a checkpoint's run: "step 3 of 10".
///
/// # Errors
/// No checkpoint can be read there.
pub fn how_far(path: &Path) -> Result<String, CheckpointError> {
    let metadata = container::read_metadata(path)?;
    let step: u64 = number(&metadata, "step")?;
    Ok(match total(&metadata)? {
        0 => format!("step {step}"),
        total => format!("step {step} of {total}"),
    })
}

/// What determined the results of a checkpoint's run.
///
/// # Errors
/// No checkpoint can be read there.
pub fn recorded(path: &Path) -> Result<Fingerprint, CheckpointError> {
    Ok(fingerprint_in(&container::read_metadata(path)?))
}

fn fingerprint_in(metadata: &BTreeMap<String, String>) -> Fingerprint {
    Fingerprint::from_entries(metadata.iter().filter_map(|(key, value)| {
        Some((key.strip_prefix(FINGERPRINT)?.to_string(), value.clone()))
    }))
}

fn total(metadata: &BTreeMap<String, String>) -> Result<u64, CheckpointError> {
    match metadata.contains_key("total") {
        true => number(metadata, "total"),
        false => Ok(0),
    }
}

/// Values read from a device at a time.
const PIECE: usize = 1 << 18;

/// The sha256 over a file's metadata and vectors, so that a run never continues from changed bits.
struct Checksum(Sha256);

impl Checksum {
    fn of(metadata: &BTreeMap<String, String>) -> Self {
        let mut hasher = Sha256::new();
        for text in metadata.iter().flat_map(|(key, value)| [key, value]) {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        }
        Self(hasher)
    }

    fn add(&mut self, values: &[f32]) {
        let mut bytes = [0; 4096];
        for some in values.chunks(bytes.len() / 4) {
            for (four, value) in bytes.chunks_exact_mut(4).zip(some) {
                four.copy_from_slice(&value.to_le_bytes());
            }
            self.0.update(&bytes[..4 * some.len()]);
        }
    }

    fn end(self) -> String {
        hex(&self.0.finalize())
    }
}

fn number<T: FromStr>(
    metadata: &BTreeMap<String, String>,
    key: &'static str,
) -> Result<T, CheckpointError> {
    let value = metadata.get(key).ok_or(CheckpointError::MissingMetadata(key))?;
    value.parse().map_err(|_| CheckpointError::WrongMetadata { key, value: value.clone() })
}

#[cfg(test)]
#[path = "run_state_tests.rs"]
mod tests;
