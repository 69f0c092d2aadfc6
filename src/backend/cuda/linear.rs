//! Linear layers: which product, which tile, and the column sums of a gradient.

use super::args::*;
use super::launch::{GemmKind, ROW_TILE};
use super::memory::Address;
use super::{CudaBackend, check_width, norm, row_kind, to_u32};
use crate::backend::{
    Activation, ActivationOutput, DerivativeType, Dropout, LinearBackward, LinearForward,
    MatrixKind,
};
use anyhow::{Context, Result, bail, ensure};
use bytemuck::Zeroable;

pub fn forward(cuda: &CudaBackend, op: LinearForward<'_>) -> Result<()> {
    let memory = cuda.memory()?;
    let weight = cuda.weights.get(op.weight)?;
    let (rows, n, k) = (memory.rows(op.rows), weight.rows, weight.cols);
    check_width(n, "a linear layer's output width")?;
    check_width(k, "a linear layer's input width")?;
    ensure!(
        (1..=3).contains(&op.bias.len()) && n % op.bias.len() == 0,
        "a bias of {} parts for {n} outputs",
        op.bias.len()
    );
    let part = n / op.bias.len();
    check_width(part, "a bias part")?;
    let mut bias = [Address::NULL; 3];
    for (to, &range) in bias.iter_mut().zip(op.bias) {
        *to = memory.params.value(range, part)?;
    }
    let out = memory.activation(op.out, rows, n)?;
    let mut stored = DerivativeType::Full;
    let (out, derivative) = match op.activation.map(|a| a.output) {
        None | Some(ActivationOutput::Value) => (out, Address::NULL),
        Some(ActivationOutput::Both(derivative)) => {
            stored = derivative.stored;
            (out, memory.derivative(derivative, rows, n)?)
        }
        Some(ActivationOutput::Derivative) => (Address::NULL, out),
    };
    let kind = match op.activation {
        Some(_) => GemmKind::Activation,
        None => GemmKind::Bias,
    };
    let args = GemmArgs {
        batch: memory.batch.header()?,
        x: memory.activation(op.x, rows, k)?,
        w: weight.matrix(MatrixKind::Linear)?,
        out,
        bias,
        derivative,
        partial: Address::NULL,
        n: to_u32(n)?,
        k: to_u32(k)?,
        bias_part: to_u32(part)?,
        rows: row_kind(op.rows),
        activation: op.activation.map_or(0, |a| activation_kind(a.kind)),
        derivative_kind: derivative_kind(stored),
    };
    cuda.kernels
        .gemm(kind, cuda.tile(rows, n), rows, args)
        .context("linear layer, forward")
}

pub fn backward(cuda: &CudaBackend, op: LinearBackward) -> Result<()> {
    let memory = cuda.memory()?;
    let weight = cuda.weights.get(op.weight)?;
    let (rows, n, k) = (memory.rows(op.rows), weight.cols, weight.rows);
    check_width(n, "a linear layer's input width")?;
    check_width(k, "a linear layer's output width")?;
    let tile = cuda.tile(rows, n);
    let dx = memory.activation(op.dx, rows, n)?;
    let derivative = match op.derivative {
        Some(derivative) => memory.derivative(derivative, rows, n)?,
        None => Address::NULL,
    };
    let kind = match (op.accumulate, op.derivative) {
        (true, Some(_)) => bail!("a backward product that both accumulates and multiplies"),
        (true, None) => GemmKind::BackAdd,
        (false, Some(_)) => GemmKind::BackSlope,
        (false, None) => GemmKind::Back,
    };
    // Only the product with the activation's slope has fused column sums: no other layer needs them.
    let fused = match (op.dbias, kind) {
        (Some(_), GemmKind::BackSlope) => Some(memory.partial(0, rows.div_ceil(tile.side()) * n)?),
        _ => None,
    };
    let args = GemmArgs {
        batch: memory.batch.header()?,
        x: memory.activation(op.dy, rows, k)?,
        w: weight.matrix(MatrixKind::Linear)?,
        out: dx,
        derivative,
        derivative_kind: op.derivative.map_or(0, |d| derivative_kind(d.stored)),
        partial: fused.unwrap_or(Address::NULL),
        n: to_u32(n)?,
        k: to_u32(k)?,
        rows: row_kind(op.rows),
        ..Zeroable::zeroed()
    };
    cuda.kernels
        .gemm(kind, tile, rows, args)
        .context("linear layer, backward")?;
    let Some(grad) = op.dbias else { return Ok(()) };
    let (partial, tile_rows) = match fused {
        Some(partial) => (partial, tile.side()),
        None => (
            norm::partial_columns(cuda, dx, None, n, Dropout::NONE, op.rows)?,
            ROW_TILE,
        ),
    };
    memory
        .finish_columns(
            &cuda.kernels,
            [Some((partial, grad)), None],
            n,
            tile_rows,
            op.rows,
            false,
        )
        .context("bias gradient of a linear layer")
}

fn activation_kind(kind: Activation) -> u32 {
    match kind {
        Activation::GeluErf => 0,
        Activation::GeluTanh => 1,
        Activation::Relu => 2,
    }
}

fn derivative_kind(stored: DerivativeType) -> u32 {
    match stored {
        DerivativeType::Full => 0,
        DerivativeType::Bits8 => 1,
        DerivativeType::Bits4 => 2,
    }
}
