//! Issues one optimizer step to the device: a trial of rates and the run share this code, so they do the same.

use super::steps::{MicroBatch, Step};
use crate::backend::DropoutKey;
use crate::data::Dataset;
use crate::program::AdamW;
use crate::session::{Given, Session};
use crate::settings::train::TrainConfig;
use anyhow::Result;

/// Issues `step` of `epoch` to the device at the rate `lr`; `stop` says whether this rank wants to stop after it.
///
/// # Errors
/// As [`Session::step`].
pub fn give(
    session: &mut Session,
    (config, train): (&TrainConfig, &Dataset),
    (step, epoch): (&Step, u64),
    lr: f64,
    stop: bool,
) -> Result<Given> {
    let class_weights = session.model().head.weights_of_classes();
    let weights = step.batches.iter().map(|rows| train.weight(rows, epoch, class_weights));
    let targets: f64 = weights.sum();
    let update = AdamW {
        lr: lr as f32,
        beta1: config.betas[0] as f32,
        beta2: config.betas[1] as f32,
        eps: config.eps as f32,
        weight_decay: config.weight_decay as f32,
        clip_norm: config.clip_norm as f32,
        step: step.after.step,
    };
    let batches = step.parts.iter().map(|MicroBatch { rows, batch, first }| {
        (
            train.batch_of_epoch(rows, epoch),
            DropoutKey { seed: config.seed, step: *batch, first: *first },
        )
    });
    session.step(batches, targets, update, stop)
}
