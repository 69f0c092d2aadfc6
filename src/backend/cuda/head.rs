//! The task head: pooling, dense layers and the loss.

use super::args::*;
use super::memory::Address;
use super::operands::LaunchOperands;
use super::{check_width, row_kind, to_u32};
use crate::backend::MatrixKind;
use crate::program::{
    Dense, DenseBack, Dropout, HeadWeight, Loss, LossKind, ParamRange, Pool, PoolBack, PoolKind,
    Rows, Storage, Value,
};
use anyhow::{Result, ensure};
use bytemuck::Zeroable;

/// See [`Pool`].
pub fn pool(at: &LaunchOperands<'_>, op: &Pool) -> Result<()> {
    let args = pool_arguments(at, op.kind, op.x.0, op.out.0)?;
    at.lane.pool_forward(at.count(op.out.0), args)
}

/// See [`PoolBack`].
pub fn pool_back(at: &LaunchOperands<'_>, op: &PoolBack) -> Result<()> {
    let args = pool_arguments(at, op.kind, op.dx.0, op.dy.0)?;
    at.lane.pool_backward(at.count(op.dx.0), args)
}

/// See [`Dense`].
pub fn dense(at: &LaunchOperands<'_>, op: &Dense) -> Result<()> {
    let args = forward_arguments(at, op)?;
    let (kernels, rows) = (at.lane, at.count(op.x.0));
    match at.rows(op.x.0) {
        Rows::Labelled(_) => kernels.wide_forward(rows, args),
        Rows::Tokens | Rows::Sequences => kernels.dense_forward(rows, args),
    }
}

pub fn forward_arguments(at: &LaunchOperands<'_>, op: &Dense) -> Result<DenseArgs> {
    Ok(DenseArgs {
        bias: at.memory.params.value(op.bias, at.width(op.y.0))?,
        y: at.at(op.y.0)?,
        ..dense_arguments(at, [op.x.0, op.y.0], op.weight, op.dropout, op.tanh)?
    })
}

/// See [`DenseBack`].
pub fn dense_back(at: &LaunchOperands<'_>, op: &DenseBack) -> Result<()> {
    let args = backward_arguments(at, op)?;
    let (kernels, rows) = (at.lane, at.count(op.x.0));
    match at.rows(op.x.0) {
        Rows::Labelled(_) => {
            if op.dbias.0.is_some() {
                kernels.dense_backward_bias(args)?;
            }
            op.dx.0.map_or(Ok(()), |_| kernels.wide_backward(rows, args))
        }
        Rows::Tokens | Rows::Sequences => kernels.dense_backward(rows, args),
    }
}

pub fn backward_arguments(at: &LaunchOperands<'_>, op: &DenseBack) -> Result<DenseArgs> {
    let gradient = |range: Option<ParamRange>| match range {
        Some(range) => at.memory.params.gradient(range),
        None => Ok(Address::NULL),
    };
    if let Some(dx) = op.dx.0 {
        at.expect(dx, at.rows(op.x.0), at.width(op.x.0))?;
        let stored = [dx, op.x.0].map(|value| at.tensor(value).info.storage);
        ensure!(stored[0] == stored[1], "an input and its gradient in {stored:?}");
    }
    Ok(DenseArgs {
        dy: at.at(op.dy.0)?,
        dx: at.aside(op.dx.0)?,
        dbias: gradient(op.dbias.0)?,
        dweight: gradient(op.dweight.0)?,
        ..dense_arguments(at, [op.x.0, op.dy.0], op.weight, op.dropout, op.tanh)?
    })
}

/// See [`Loss`].
pub fn loss(at: &LaunchOperands<'_>, op: &Loss) -> Result<()> {
    let rows = at.rows(op.logits.0);
    let losses = match rows {
        Rows::Labelled(_) => {
            // It uses the room for pending sums, which come after a loss.
            at.finish_all()?;
            at.memory.partial(0, at.count(op.logits.0))?
        }
        Rows::Tokens | Rows::Sequences => Address::NULL,
    };
    let args = LossArgs { losses, ..loss_arguments(at, op)? };
    let kernels = at.lane;
    match (op.kind, rows) {
        (LossKind::Span, _) => kernels.loss_spans(args),
        (_, Rows::Labelled(_)) => kernels.loss_labelled(at.count(op.logits.0), args),
        (_, Rows::Tokens) => kernels.loss_tokens(args),
        (_, Rows::Sequences) => kernels.loss(args),
    }
}

/// All but the place for losses of labelled tokens.
pub fn loss_arguments(at: &LaunchOperands<'_>, op: &Loss) -> Result<LossArgs> {
    let outputs = at.width(op.logits.0);
    op.kind.check(&at.tensor(op.logits.0).info, op.class_weights.is_some())?;
    Ok(LossArgs {
        numbers: at.memory.batch.step_numbers()?,
        batch: at.memory.batch.header()?,
        cu_seqlens: at.memory.batch.bounds()?,
        logits: at.at(op.logits.0)?,
        labels: at.memory.batch.labels()?,
        class_weights: match op.class_weights {
            Some(range) => at.memory.params.value(range, outputs)?,
            None => Address::NULL,
        },
        dlogits: at.aside(op.dlogits.0)?,
        labelled: at.memory.batch.labelled()?,
        losses: Address::NULL,
        state: at.memory.state()?,
        outputs: to_u32(outputs)?,
        kind: match op.kind {
            LossKind::CrossEntropy | LossKind::Span => LOSS_CROSS_ENTROPY,
            LossKind::MeanSquared => LOSS_SQUARED,
            LossKind::Binary => LOSS_BINARY,
        },
    })
}

fn pool_arguments(
    at: &LaunchOperands<'_>,
    kind: PoolKind,
    x: Value,
    pooled: Value,
) -> Result<PoolArgs> {
    let hidden = at.tensor(x);
    kind.check(at.rows(pooled))?;
    at.expect(x, Rows::Tokens, hidden.info.width)?;
    check_width(hidden.info.width, "a hidden size")?;
    Ok(PoolArgs {
        batch: at.memory.batch.header()?,
        cu_seqlens: at.memory.batch.bounds()?,
        labelled: at.memory.batch.labelled()?,
        state: at.memory.state()?,
        x: at.at(x)?,
        pooled: at.at(pooled)?,
        width: to_u32(hidden.info.width)?,
        mean: u32::from(kind == PoolKind::Mean),
        pooled_rows: row_kind(at.rows(pooled)),
        padding: 0,
    })
}

/// What both directions need.
fn dense_arguments(
    at: &LaunchOperands<'_>,
    [x, of_outputs]: [Value; 2],
    weight: HeadWeight,
    dropout: Dropout,
    tanh: bool,
) -> Result<DenseArgs> {
    let (inputs, outputs) = (at.width(x), at.width(of_outputs));
    let of_labelled = matches!(at.rows(x), Rows::Labelled(_));
    let stream = at.tensor(x).info.storage == Storage::Stream;
    if of_labelled {
        check_width(inputs, "an input of a head on masked words")?;
        let plain = !tanh && dropout.p == 0.0 && !stream;
        ensure!(plain, "a layer of a head on masked words is in f32, without tanh or dropout");
    }
    let (weight, frozen, kind) = match weight {
        HeadWeight::Param(range) => {
            ensure!(!of_labelled, "the matrices of a head on masked words are frozen");
            let weight = at.memory.params.value(range, inputs * outputs)?;
            (weight, Zeroable::zeroed(), MatrixKind::Linear)
        }
        HeadWeight::Frozen(id) => {
            let weight = at.cuda.weights.get(id)?;
            ensure!(
                (weight.rows, weight.cols) == (outputs, inputs),
                "a head matrix of {}×{} for a layer of {outputs}×{inputs}",
                weight.rows,
                weight.cols,
            );
            // Only the layout of products allows single elements to be read.
            let kind = if of_labelled { weight.kind } else { MatrixKind::Linear };
            (Address::NULL, weight.matrix(kind)?, kind)
        }
    };
    Ok(DenseArgs {
        batch: at.memory.batch.header()?,
        state: at.memory.state()?,
        x: at.at(x)?,
        weight,
        frozen,
        dropout: dropout.into(),
        inputs: to_u32(inputs)?,
        outputs: to_u32(outputs)?,
        tanh: u32::from(tanh),
        rows: row_kind(at.rows(x)),
        table: u32::from(kind == MatrixKind::Table),
        stream: u32::from(stream),
        ..Zeroable::zeroed()
    })
}
