//! The optimizer step and its report.

use super::allocated::Allocated;
use super::args::*;
use super::column_sums::Riders;
use super::operands::LaunchOperands;
use super::sizes::NORM_ARRIVED;
use super::{CudaBackend, LossScale, to_u32, weight_gradients};
use crate::backend::{LossScaling, PendingReport, StepReport};
use anyhow::{Context, Result, ensure};
use std::mem::offset_of;

/// See [`Update`](crate::program::Update).
pub fn update(at: &LaunchOperands<'_>) -> Result<()> {
    let memory = at.memory;
    let Riders { count: sums, args: finish } = at.take_sums()?;
    let numbers = memory.batch.step_numbers()?;
    let state = memory.state()?;
    let (gradient, count) = memory.params.whole_gradient()?;
    let blocks = sums * finish.blocks as usize + count.div_ceil(NORM_CHUNK);
    let update = memory.params.adamw_args(numbers)?;
    let kernels = at.lane;
    kernels.grad_norm(
        blocks,
        GradNormArgs {
            gradient,
            partial: memory.norm.at(NORM_ARRIVED, blocks * size_of::<f64>())?,
            arrived: memory.norm.at(0, size_of::<u32>())?,
            state,
            numbers,
            count: count as u64,
            sums: to_u32(sums)?,
            padding: 0,
            finish,
        },
    )?;
    kernels.adamw(update)?;
    weight_gradients::refresh(at.cuda)
}

/// See [`Backend::exchange`](crate::backend::Backend::exchange).
pub fn exchange(
    cuda: &mut CudaBackend,
    beside: f32,
    sum: &mut dyn FnMut(&mut [f32]) -> Result<()>,
) -> Result<f32> {
    let Allocated { exchange, params, .. } = cuda.memory_mut()?;
    let exchange = exchange.as_mut().context("no memory was allocated for an exchange")?;
    let mut left = beside;
    let (buffer, parts) = params.exchanged();
    exchange.pass(buffer, parts, |numbers| {
        let last = numbers.len() - 1;
        numbers[last] = beside;
        sum(numbers)?;
        left = numbers[last];
        Ok(())
    })?;
    Ok(left)
}

/// Starts the copy of the step's result.
pub fn report_later(cuda: &mut CudaBackend) -> Result<PendingReport> {
    let Allocated { reports, params, ended, .. } = cuda.memory_mut()?;
    // The outcome of a step that ended stays in place while the next step runs; an unfinished step's is cleared by the
    // next.
    let at = match (*ended, reports.next()) {
        (false, _) => offset_of!(StepState, now),
        (true, turn) => offset_of!(StepState, ended) + turn * size_of::<StepOutcome>(),
    };
    Ok(PendingReport::Slot(reports.fetch(params.state_buffer(), at, *ended)?))
}

/// Waits for a step's result.
pub fn wait_report(cuda: &CudaBackend, pending: PendingReport) -> Result<StepReport> {
    let slot = match pending {
        PendingReport::Ready(report) => return Ok(report),
        PendingReport::Slot(slot) => slot,
    };
    let StepOutcome { loss, grad_norm, skip, .. } = cuda.memory()?.reports.read(slot)?;
    Ok(StepReport { loss, grad_norm, overflow: skip == SKIP_OVERFLOW })
}

/// The loss scale and its counter, if dynamic.
pub fn loss_scaling(cuda: &CudaBackend) -> Result<Option<LossScaling>> {
    if matches!(cuda.options.loss_scale, LossScale::Fixed(_)) {
        return Ok(None);
    }
    let state = cuda.memory()?.params.read_state()?;
    Ok(Some(LossScaling { scale: state.scale, good_steps: state.good_steps }))
}

pub fn set_loss_scaling(cuda: &mut CudaBackend, scaling: LossScaling) -> Result<()> {
    ensure!(scaling.scale.is_finite() && scaling.scale > 0.0, "a loss scale of {}", scaling.scale);
    if matches!(cuda.options.loss_scale, LossScale::Fixed(_)) {
        return Ok(());
    }
    let params = &mut cuda.memory_mut()?.params;
    let state = StepState {
        scale: scaling.scale,
        inverse_scale: 1.0 / scaling.scale,
        good_steps: scaling.good_steps,
        ..params.read_state()?
    };
    params.write_state(state)
}
