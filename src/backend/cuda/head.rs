//! The task head: pooling, dense layers and the loss.

use super::args::*;
use super::batch::LabelNeed;
use super::memory::Address;
use super::{CudaBackend, check_width, row_kind, to_u32};
use crate::backend::{
    Dense, DenseBackward, HeadWeight, Loss, LossKind, MatrixKind, Pool, PoolKind, check,
};
use anyhow::{Context, Result, ensure};
use bytemuck::Zeroable;

pub fn pool_forward(cuda: &CudaBackend, op: Pool) -> Result<()> {
    let args = pool_arguments(cuda, op)?;
    let sequences = cuda.memory()?.batch.grid.sequences;
    cuda.kernels
        .pool_forward(sequences, args)
        .context("pooling, forward")
}

pub fn pool_backward(cuda: &CudaBackend, op: Pool) -> Result<()> {
    let args = pool_arguments(cuda, op)?;
    let rows = cuda.memory()?.rows(op.rows);
    cuda.kernels
        .pool_backward(rows, args)
        .context("pooling, backward")
}

pub fn dense_forward(cuda: &CudaBackend, op: Dense) -> Result<()> {
    let args = dense_arguments(cuda, op)?;
    let sequences = cuda.memory()?.batch.grid.sequences;
    cuda.kernels
        .dense_forward(sequences, args)
        .context("dense layer of the head, forward")
}

pub fn dense_backward(
    cuda: &CudaBackend,
    DenseBackward { layer, dy, dx }: DenseBackward,
) -> Result<()> {
    let memory = cuda.memory()?;
    let sequences = memory.batch.grid.sequences;
    let mut args = DenseArgs {
        dy: memory.f32(dy, sequences, layer.outputs)?,
        ..dense_arguments(cuda, layer)?
    };
    if let Some(dx) = dx {
        args.dx = memory.f32(dx, sequences, layer.inputs)?;
    }
    if memory.params.trains(layer.bias) {
        args.dbias = memory.params.gradient(layer.bias)?;
    }
    let failed = "dense layer of the head, backward";
    cuda.kernels.dense_backward_bias(args).context(failed)?;
    if let HeadWeight::Param(range) = layer.weight {
        args.dweight = memory.params.gradient(range)?;
        cuda.kernels.dense_backward_weight(args).context(failed)?;
    }
    if dx.is_some() {
        cuda.kernels
            .dense_backward_input(sequences, args)
            .context(failed)?;
    }
    Ok(())
}

pub fn loss(cuda: &mut CudaBackend, op: Loss) -> Result<()> {
    let memory = cuda.memory_mut()?;
    let sequences = memory.batch.grid.sequences;
    let need = LabelNeed {
        kind: op.kind,
        outputs: op.outputs,
    };
    need.check(memory.batch.labels)?;
    memory.graphs.note_labels(need);
    let numbers = memory.numbers.current().with_weight(op.weight);
    let args = LossArgs {
        numbers: memory.numbers.at(numbers)?,
        batch: memory.batch.header()?,
        logits: memory.f32(op.logits, sequences, op.outputs)?,
        labels: memory.batch.labels()?,
        dlogits: match op.dlogits {
            Some(region) => memory.f32(region, sequences, op.outputs)?,
            None => Address::NULL,
        },
        state: memory.state()?,
        outputs: to_u32(op.outputs)?,
        squared: u32::from(op.kind == LossKind::MeanSquared),
    };
    cuda.kernels.loss(args).context("loss")
}

fn pool_arguments(cuda: &CudaBackend, op: Pool) -> Result<PoolArgs> {
    let memory = cuda.memory()?;
    check::pool(op)?;
    check_width(op.hidden, "a hidden size")?;
    let shape = memory.batch.grid;
    Ok(PoolArgs {
        batch: memory.batch.header()?,
        cu_seqlens: memory.batch.bounds()?,
        state: memory.state()?,
        x: memory.activation(op.x, memory.rows(op.rows), op.hidden)?,
        pooled: memory.f32(op.pooled, shape.sequences, op.hidden)?,
        width: to_u32(op.hidden)?,
        mean: u32::from(op.kind == PoolKind::Mean),
        rows: row_kind(op.rows),
        padding: 0,
    })
}

fn dense_arguments(cuda: &CudaBackend, op: Dense) -> Result<DenseArgs> {
    let memory = cuda.memory()?;
    let sequences = memory.batch.grid.sequences;
    let count = op.inputs * op.outputs;
    let (weight, frozen) = match op.weight {
        HeadWeight::Param(range) => (memory.params.value(range, count)?, Zeroable::zeroed()),
        HeadWeight::Frozen(id) => {
            let weight = cuda.weights.get(id)?;
            ensure!(
                (weight.rows, weight.cols) == (op.outputs, op.inputs),
                "a head matrix of {}×{} for a layer of {}×{}",
                weight.rows,
                weight.cols,
                op.outputs,
                op.inputs
            );
            (Address::NULL, weight.matrix(MatrixKind::Linear)?)
        }
    };
    Ok(DenseArgs {
        batch: memory.batch.header()?,
        x: memory.f32(op.x, sequences, op.inputs)?,
        weight,
        frozen,
        bias: memory.params.value(op.bias, op.outputs)?,
        y: memory.f32(op.y, sequences, op.outputs)?,
        dropout: op.dropout.into(),
        inputs: to_u32(op.inputs)?,
        outputs: to_u32(op.outputs)?,
        tanh: u32::from(op.tanh),
        ..Zeroable::zeroed()
    })
}
