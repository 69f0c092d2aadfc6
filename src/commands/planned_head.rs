//! The head that `bitfit plan` assumes, since there is no data to determine it.

use super::no_use;
use crate::cli::StepArgs;
use crate::error::UsageError;
use crate::formats::model_tensors::ModelTensors;
use crate::formats::sentence::Makers;
use crate::methods::Trains;
use crate::model::config::ModelConfig;
use crate::model::load::{TaskSpec, trains_pooler};
use crate::settings::choice::{PoolerInit, Pooling};
use crate::settings::task::{MASK_PROBABILITY, Reads, Task};
use crate::settings::validate;
use crate::tasks::answers;
use anyhow::Result;
use std::path::Path;

/// A model with that head, with all biases trained.
///
/// # Errors
/// Options that the task cannot use, or values that they cannot have.
pub fn task_spec(args: &StepArgs, config: &ModelConfig, folder: &Path) -> Result<TaskSpec> {
    let (task, facts) = (args.task, args.task.facts());
    no_use(facts.each_token && args.pooling != Pooling::Auto, "--pooling", task)?;
    let asks_for_pooler = args.pooler == PoolerInit::Reinit;
    no_use(facts.each_token && asks_for_pooler, "--pooler", task)?;
    validate::pooler(args.pooling, args.pooler).map_err(UsageError::from)?;
    let running = facts.reads == Reads::Running;
    no_use(!running && args.mask_probability.is_some(), "--mask-probability", task)?;
    let hidden = args.mask_probability.unwrap_or(MASK_PROBABILITY);
    if !(hidden > 0.0 && hidden <= 1.0) {
        let said = format!("--mask-probability must be above 0 and at most 1, got {hidden:?}");
        return Err(UsageError::new(said).into());
    }
    // For these heads the task determines the width.
    let known = match facts.reads {
        Reads::Questions => Some(answers::OUTPUTS),
        Reads::Running => Some(config.vocab),
        Reads::Texts | Reads::Words => None,
    };
    no_use(known.is_some() && args.outputs.is_some(), "--outputs", task)?;
    let usual = if task == Task::Regression { 1 } else { 2 };
    let outputs = known.or(args.outputs).unwrap_or(usual);
    let spec = TaskSpec {
        outputs,
        pooling: match (facts.each_token, args.pooling.kind()) {
            (true, _) => task.pooling_of_tokens(hidden),
            (false, Some(kind)) => kind,
            (false, None) => Makers::of(folder)?.kind()?,
        },
        reinit_pooler: asks_for_pooler,
        loss: facts.loss,
        class_weights: Vec::new(),
        trains: Trains::all_biases(),
        dropout: dropout(args.dropout)?,
        seed: 0,
    };
    let lacks_pooler = trains_pooler(config, &spec) && !has_pooler(config, folder)?;
    Ok(TaskSpec { reinit_pooler: asks_for_pooler || lacks_pooler, ..spec })
}

/// Whether the pooler is the checkpoint's own; assumed if there are no weights.
fn has_pooler(config: &ModelConfig, folder: &Path) -> Result<bool> {
    if ModelTensors::files(folder).is_err() {
        return Ok(true);
    }
    let weights = ModelTensors::open(folder, config.family.prefix())?;
    Ok(weights.has("pooler.dense.weight"))
}

fn dropout(p: Option<f64>) -> Result<Option<f32>, UsageError> {
    p.map(validate::dropout).transpose()?;
    Ok(p.map(|p| p as f32))
}
