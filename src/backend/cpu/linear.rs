//! Linear layers: products whose bias, activation, derivative and column sums are applied to each tile of the
//! output while it is in the cache.

use super::params::{gradients, read, wide};
use super::share::Shared;
use super::{CpuBackend, colsum, gemm, pointwise};
use crate::backend::{LinearBackward, LinearForward, ParamRange};
use anyhow::{Result, ensure};

/// Joins the parts of a bias into `out`.
fn gather(values: &[f32], parts: &[ParamRange], out: &mut [f32]) -> Result<()> {
    let total: usize = parts.iter().map(|p| p.len).sum();
    ensure!(
        total == out.len(),
        "the parts of a bias have {total} elements where {} are needed",
        out.len()
    );
    let mut at = 0;
    for part in parts {
        out[at..at + part.len].copy_from_slice(read(values, *part)?);
        at += part.len;
    }
    Ok(())
}

/// See [`LinearForward`].
pub fn forward(backend: &mut CpuBackend, op: LinearForward<'_>) -> Result<()> {
    let rows = backend.rows(op.rows);
    let matrix = backend.weights.get(op.weight, &backend.params.value)?;
    let (inputs, outputs) = (matrix.cols, matrix.rows);
    if backend.bias.len() < outputs {
        backend.bias.resize(outputs, 0.0);
    }
    let bias = &mut backend.bias[..outputs];
    gather(&backend.params.value, op.bias, bias)?;
    let bias = &*bias;
    let derivative = op.activation.and_then(|a| a.derivative);
    let [x, out, derivative] = backend.arena.regions([
        (Some(op.x), rows * inputs),
        (Some(op.out), rows * outputs),
        (derivative, rows * outputs),
    ])?;
    let keep = !derivative.is_empty();
    let derivative = Shared::new(derivative);
    gemm::forward(x, matrix.view(), out, rows, &backend.scratch, |mut tile| {
        for row in tile.rows.clone() {
            let cols = tile.cols.clone();
            let bias = &bias[cols.clone()];
            let values = tile.row(row);
            let Some(activation) = op.activation else {
                pointwise::add(values, bias);
                continue;
            };
            // SAFETY: tiles do not overlap, and this tensor has the output's shape.
            let kept =
                keep.then(|| unsafe { derivative.slice(row * outputs + cols.start, cols.len()) });
            pointwise::activate(activation.kind, values, bias, kept);
        }
    });
    Ok(())
}

/// See [`LinearBackward`].
pub fn backward(backend: &mut CpuBackend, op: LinearBackward) -> Result<()> {
    ensure!(
        !(op.accumulate && op.derivative.is_some()),
        "a product that accumulates cannot be multiplied by a derivative"
    );
    let rows = backend.rows(op.rows);
    let matrix = backend.weights.get(op.weight, &backend.params.value)?;
    let (inputs, outputs) = (matrix.cols, matrix.rows);
    let dbias = op
        .dbias
        .map(|range| wide(range, inputs, "a bias gradient"))
        .transpose()?;
    let [grad] = gradients(&mut backend.params.gradient, [dbias])?;
    let [dy, dx, derivative] = backend.arena.regions([
        (Some(op.dy), rows * outputs),
        (Some(op.dx), rows * inputs),
        (op.derivative, rows * inputs),
    ])?;
    let (multiply, sum) = (op.derivative.is_some(), grad.is_some());
    let height = gemm::row_chunk(rows);
    let (lines, _) = backend
        .partials
        .lines(if sum { rows.div_ceil(height) } else { 0 }, inputs);
    let partial = Shared::new(lines);
    let view = matrix.view();
    gemm::backward(
        dy,
        view,
        dx,
        op.accumulate,
        rows,
        &backend.scratch,
        |mut tile| {
            if !multiply && !sum {
                return;
            }
            let cols = tile.cols.clone();
            let line = tile.rows.start / height * inputs + cols.start;
            for row in tile.rows.clone() {
                let values = tile.row(row);
                if multiply {
                    let at = row * inputs + cols.start;
                    pointwise::multiply(values, &derivative[at..at + cols.len()]);
                }
                if sum {
                    // SAFETY: a line belongs to one chunk of rows and these columns to one of its tiles.
                    pointwise::add(unsafe { partial.slice(line, cols.len()) }, values);
                }
            }
        },
    );
    if let Some(grad) = grad {
        colsum::finish(lines, grad);
    }
    Ok(())
}
