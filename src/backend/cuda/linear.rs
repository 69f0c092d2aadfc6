//! Linear layers: which product, which tile, and a gradient's column sums.

use super::args::*;
use super::column_sums::{Tiles, address};
use super::launch::GemmKind;
use super::memory::Address;
use super::norm::Summed;
use super::operands::LaunchOperands;
use super::{check_width, norm, row_kind, to_u32};
use crate::backend::MatrixKind;
use crate::program::{Activation, Dest, In, Linear, LinearBack, Storage};
use anyhow::{Result, bail, ensure};
use bytemuck::Zeroable;

/// See [`Linear`].
pub fn forward(at: &LaunchOperands<'_>, op: &Linear) -> Result<()> {
    let weight = at.cuda.weights.get(op.weight)?;
    let (rows, n, k) = (at.count(op.x.0), weight.rows, weight.cols);
    check_width(n, "a linear layer's output width")?;
    check_width(k, "a linear layer's input width")?;
    let of = at.rows(op.x.0);
    at.expect(op.x.0, of, k)?;
    for output in [op.out.0, op.slope.0].into_iter().flatten() {
        at.expect(output, of, n)?;
    }
    ensure!(
        (1..=3).contains(&op.bias.len()) && n % op.bias.len() == 0,
        "a bias of {} parts for {n} outputs",
        op.bias.len()
    );
    let part = n / op.bias.len();
    check_width(part, "a bias part")?;
    let mut bias = [Address::NULL; 3];
    for (to, &range) in bias.iter_mut().zip(&op.bias) {
        *to = at.memory.params.value(range, part)?;
    }
    let kind = match op.act {
        Some(_) => GemmKind::Activation,
        None => GemmKind::Bias,
    };
    let args = GemmArgs {
        batch: at.memory.batch.header()?,
        x: at.at(op.x.0)?,
        w: weight.matrix(MatrixKind::Linear)?,
        out: at.aside(op.out.0)?,
        bias,
        derivative: at.aside(op.slope.0)?,
        partial: Address::NULL,
        n: to_u32(n)?,
        k: to_u32(k)?,
        bias_part: to_u32(part)?,
        rows: row_kind(at.rows(op.x.0)),
        activation: op.act.map_or(0, activation_kind),
        derivative_kind: op.slope.0.map_or(0, |slope| slope_kind(at.tensor(slope).info.storage)),
    };
    let (product, tile) = at.cuda.linear(kind, args.w.format, [rows, n, k]);
    at.lane.gemm(kind, &product, tile, args)
}

/// See [`LinearBack`].
pub fn backward(at: &LaunchOperands<'_>, op: &LinearBack) -> Result<()> {
    let weight = at.cuda.weights.get(op.weight)?;
    let (rows, n, k) = (at.count(op.dy.0), weight.cols, weight.rows);
    check_width(n, "a linear layer's input width")?;
    check_width(k, "a linear layer's output width")?;
    let of = at.rows(op.dy.0);
    at.expect(op.dy.0, of, k)?;
    at.expect(op.dx.now(), of, n)?;
    let dx = at.at(op.dx.now())?;
    let slope = op.slope.map(|In(slope)| slope);
    slope.map_or(Ok(()), |slope| at.expect(slope, of, n))?;
    let kind = match (op.dx, slope) {
        (Dest::Onto(_), Some(_)) => bail!("a product that both adds and multiplies"),
        (Dest::Onto(_), None) => GemmKind::BackAdd,
        (Dest::New(_), Some(_)) => GemmKind::BackSlope,
        (Dest::New(_), None) => GemmKind::Back,
    };
    let w = weight.matrix(MatrixKind::Linear)?;
    let (product, tile) = at.cuda.linear(kind, w.format, [rows, n, k]);
    // Only the product with the activation's slope has fused column sums: no other layer needs them.
    let fused = match slope {
        Some(_) => at.room([op.dbias], rows.div_ceil(tile.rows()), n)?,
        None => [None],
    };
    let args = GemmArgs {
        batch: at.memory.batch.header()?,
        x: at.at(op.dy.0)?,
        w,
        out: dx,
        derivative: at.aside(slope)?,
        derivative_kind: slope.map_or(0, |slope| slope_kind(at.tensor(slope).info.storage)),
        partial: address(fused[0]),
        n: to_u32(n)?,
        k: to_u32(k)?,
        rows: row_kind(at.rows(op.dy.0)),
        ..Zeroable::zeroed()
    };
    at.lane.gemm(kind, &product, tile, args)?;
    match slope {
        Some(_) => at.finish(fused, Tiles::of(of, tile.rows())),
        None => norm::sum_columns(at, op.dbias, Summed::all(dx, of)),
    }
}

pub fn activation_kind(kind: Activation) -> u32 {
    match kind {
        Activation::GeluErf => GELU_ERF,
        Activation::GeluTanh => GELU_TANH,
        Activation::Relu => RELU,
    }
}

pub fn slope_kind(stored: Storage) -> u32 {
    match stored {
        Storage::Slope8 => DERIVATIVE_BITS8,
        Storage::Slope4 => DERIVATIVE_BITS4,
        _ => DERIVATIVE_FULL,
    }
}
