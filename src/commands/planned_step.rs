//! The step that `plan` and `profile` are given: model, head, device and batch size.

use super::base::not_mistaken;
use super::planned_head::task_spec;
use super::{fetching, max_len};
use crate::backend::DeviceKind;
use crate::cli::StepArgs;
use crate::error::UsageError;
use crate::formats::sentence::LongestText;
use crate::model::config::ModelConfig;
use crate::model::load::TaskSpec;
use crate::program::Limits;
use crate::ranks::Share;
use crate::session::gpu;
use anyhow::Result;
use std::path::PathBuf;

/// See the module documentation.
pub struct PlannedStep {
    pub folder: PathBuf,
    pub config: ModelConfig,
    /// All biases train.
    pub spec: TaskSpec,
    /// The largest batch, or one rank's share of it.
    pub limits: Limits,
}

impl PlannedStep {
    /// Reads `config.json`, and the makers' settings for texts.
    ///
    /// # Errors
    /// A folder without a model of a supported family, options that cannot be combined.
    pub fn of(step: &StepArgs, ranks: usize) -> Result<Self> {
        let folder = fetching::model_folder(&step.model, true)?;
        not_mistaken(&folder)?;
        let config = ModelConfig::read(&folder)?;
        let makers = LongestText::of(&folder)?.map(|said| said.tokens.min(config.max_len()));
        let longest = max_len(step.max_length.or(makers), config.max_len())?;
        let tokens = step
            .batch_tokens
            .unwrap_or(usize::MAX)
            .min(step.batch_size.saturating_mul(longest))
            .max(longest);
        if step.batch_size < ranks {
            return Err(UsageError::new(format!(
                "--ranks {ranks}: a batch of --batch-size {} leaves some of them without texts",
                step.batch_size
            ))
            .into());
        }
        let sequences = step.batch_size.div_ceil(ranks);
        let tokens = tokens.min(sequences.saturating_mul(longest));
        let limits = Limits { tokens, sequences, max_len: longest };
        let spec = task_spec(step, &config, &folder)?;
        Ok(Self { folder, config, spec, limits })
    }
}

/// The chosen device, as far as memory depends on it.
///
/// # Errors
/// A precision that it does not support.
pub fn device_of(step: &StepArgs, matrices_train: bool) -> Result<DeviceKind, UsageError> {
    let weights = step.weights.into();
    let cuda = gpu(step.device, Share::WHOLE).is_some();
    if cuda {
        step.precision.on_gpu()?;
        return Ok(DeviceKind::Cuda { weights });
    }
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let arithmetic = step.precision.on_cpu(matrices_train)?;
    Ok(DeviceKind::Cpu { weights, threads: step.threads.unwrap_or_else(cores), arithmetic })
}
