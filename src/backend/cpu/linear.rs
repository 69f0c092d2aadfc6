//! Linear layers: products whose bias, activation, derivative and column sums are applied to each tile of the
//! output while it is in the cache.

use super::derivative::Derivatives;
use super::params::{gradients, read, wide};
use super::share::Shared;
use super::{CpuBackend, colsum, gemm, pointwise};
use crate::backend::{
    ActivationOutput, DerivativeType, LinearActivation, LinearBackward, LinearForward, ParamRange,
};
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
    let rows = op.rows.of(&backend.batch);
    let matrix = backend.weights.get(op.weight, &backend.params.value)?;
    let (inputs, outputs) = (matrix.cols, matrix.rows);
    if backend.bias.len() < outputs {
        backend.bias.resize(outputs, 0.0);
    }
    let bias = &mut backend.bias[..outputs];
    gather(&backend.params.value, op.bias, bias)?;
    let bias = &*bias;
    let kept = op.activation.and_then(|a| match a.output {
        ActivationOutput::Both(derivative) => Some(derivative),
        ActivationOutput::Value | ActivationOutput::Derivative => None,
    });
    let [x, out, room] = backend.arena.regions([
        (Some(op.x), rows * inputs),
        (Some(op.out), rows * outputs),
        (
            kept.map(|d| d.region),
            kept.map_or(0, |d| d.stored.bytes(rows, outputs, 4) / 4),
        ),
    ])?;
    let derivative = kept.map(|d| Derivatives::new(d.stored, room, outputs));
    gemm::forward(x, matrix.view(), out, rows, &backend.scratch, |mut tile| {
        for row in tile.rows.clone() {
            let cols = tile.cols.clone();
            let bias = &bias[cols.clone()];
            let values = tile.row(row);
            let Some(LinearActivation { kind, output }) = op.activation else {
                pointwise::add(values, bias);
                continue;
            };
            match (output, &derivative) {
                (ActivationOutput::Derivative, _) => pointwise::slope(kind, values, bias),
                // SAFETY: tiles do not overlap and begin on even columns, and this tensor has the output's shape.
                (_, Some(derivative)) => unsafe {
                    derivative.activate(kind, values, bias, row, cols.start);
                },
                (_, None) => pointwise::activate(kind, values, bias, None),
            }
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
    let rows = op.rows.of(&backend.batch);
    let matrix = backend.weights.get(op.weight, &backend.params.value)?;
    let (inputs, outputs) = (matrix.cols, matrix.rows);
    let dbias = op
        .dbias
        .map(|range| wide(range, inputs, "a bias gradient"))
        .transpose()?;
    let [grad] = gradients(&mut backend.params.gradient, [dbias])?;
    // In place: tiles are made in scratch, and the gradient takes the place of the derivative.
    let in_place = op.derivative.is_some_and(|d| d.region == op.dx);
    ensure!(
        !in_place
            || op
                .derivative
                .is_some_and(|d| d.stored == DerivativeType::Full),
        "only a derivative that is stored in full can give its place to the gradient"
    );
    let apart = op.derivative.filter(|_| !in_place);
    let [dy, dx, derivative] = backend.arena.regions([
        (Some(op.dy), rows * outputs),
        (Some(op.dx), rows * inputs),
        (
            apart.map(|d| d.region),
            apart.map_or(0, |d| d.stored.bytes(rows, inputs, 4) / 4),
        ),
    ])?;
    let derivative = apart.map(|d| Derivatives::new(d.stored, derivative, inputs));
    let sum = grad.is_some();
    let height = gemm::row_chunk(rows);
    let (lines, _) = backend
        .partials
        .lines(if sum { rows.div_ceil(height) } else { 0 }, inputs);
    let partial = Shared::new(lines);
    let output = match (op.accumulate, in_place) {
        (true, _) => gemm::Output::Accumulate,
        (false, true) => gemm::Output::Staged,
        (false, false) => gemm::Output::Overwrite,
    };
    gemm::backward(
        dy,
        matrix.view(),
        dx,
        output,
        rows,
        &backend.scratch,
        |mut tile| {
            let cols = tile.cols.clone();
            let line = tile.rows.start / height * inputs + cols.start;
            for row in tile.rows.clone() {
                let values = match tile.staged_row(row) {
                    (product, Some(slopes)) => {
                        pointwise::multiply(slopes, product);
                        slopes
                    }
                    (product, None) => product,
                };
                if let Some(derivative) = &derivative {
                    // SAFETY: as in forward.
                    unsafe { derivative.multiply(values, row, cols.start) };
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
