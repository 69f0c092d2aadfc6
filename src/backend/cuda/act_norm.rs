//! The activation and the LayerNorm between the two products of a masked-words head.

use super::args::*;
use super::linear::activation_kind;
use super::operands::LaunchOperands;
use super::{check_width, row_kind, to_u32};
use crate::program::{ActNorm, ActNormBack, Activation, Norm, Sum, Value};
use anyhow::Result;
use bytemuck::Zeroable;

/// See [`ActNorm`].
pub fn forward(at: &LaunchOperands<'_>, op: &ActNorm) -> Result<()> {
    at.expect(op.y.0, at.rows(op.x.0), op.norm.gamma.len)?;
    let args = ActNormArgs { y: at.at(op.y.0)?, ..arguments(at, op.x.0, op.act, op.norm)? };
    at.lane.act_norm(at.count(op.x.0), args)
}

/// See [`ActNormBack`].
pub fn backward(at: &LaunchOperands<'_>, op: &ActNormBack) -> Result<()> {
    at.expect(op.dx.now, at.rows(op.x.0), op.norm.gamma.len)?;
    let args = ActNormArgs { dx: at.at(op.dx.now)?, ..arguments(at, op.x.0, op.act, op.norm)? };
    let kernels = at.lane;
    // Before dx overwrites what it sums.
    if let Sum(Some(beta)) = op.dbeta {
        kernels.dense_backward_bias(DenseArgs {
            batch: args.batch,
            dy: args.dx,
            dbias: at.memory.params.gradient(beta)?,
            outputs: args.width,
            rows: args.rows,
            ..Zeroable::zeroed()
        })?;
    }
    kernels.act_norm_backward(at.count(op.x.0), args)
}

/// What both directions need.
fn arguments(
    at: &LaunchOperands<'_>,
    x: Value,
    act: Activation,
    norm: Norm,
) -> Result<ActNormArgs> {
    let width = norm.gamma.len;
    check_width(width, "a LayerNorm width")?;
    at.expect(x, at.rows(x), width)?;
    Ok(ActNormArgs {
        batch: at.memory.batch.header()?,
        x: at.at(x)?,
        gamma: at.memory.params.value(norm.gamma, width)?,
        beta: at.memory.params.value(norm.beta, width)?,
        width: to_u32(width)?,
        eps: norm.eps,
        activation: activation_kind(act),
        rows: row_kind(at.rows(x)),
        ..Zeroable::zeroed()
    })
}
