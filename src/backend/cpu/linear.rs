//! Linear layers: products whose bias, activation, derivative and column sums are applied to each tile of the
//! output while it is in the cache.

use super::derivative::Derivatives;
use super::params::{gradients, read, wide};
use super::run::{aside, at};
use super::share::Shared;
use super::{CpuBackend, colsum, gemm, pointwise};
use crate::program::{Dest, In, Linear, LinearBack, ParamRange, Program, Storage};
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

/// See [`Linear`].
pub fn forward(cpu: &mut CpuBackend, program: &Program, op: &Linear) -> Result<()> {
    let matrix = cpu.weights.get(op.weight, &cpu.params.value)?;
    let outputs = matrix.rows;
    if cpu.bias.len() < outputs {
        cpu.bias.resize(outputs, 0.0);
    }
    let bias = &mut cpu.bias[..outputs];
    gather(&cpu.params.value, &op.bias, bias)?;
    let bias = &*bias;
    // Where nobody reads the value, its derivative is made in the product's place.
    let alone = op.out.0.is_none();
    let kept = op.slope.0.filter(|_| !alone);
    let batch = &cpu.batch;
    let rows = batch.rows(program.tensor(op.x.0).rows);
    let [x, out, room] = cpu.arena.regions([
        at(program, batch, op.x.0),
        aside(program, batch, op.out.0.or(op.slope.0)),
        aside(program, batch, kept),
    ])?;
    let derivative =
        kept.map(|slope| Derivatives::new(program.tensor(slope).storage, room, outputs));
    gemm::forward(x, matrix.view(), out, rows, &cpu.scratch, |mut tile| {
        for row in tile.rows.clone() {
            let cols = tile.cols.clone();
            let bias = &bias[cols.clone()];
            let values = tile.row(row);
            let Some(act) = op.act else {
                pointwise::add(values, bias);
                continue;
            };
            match &derivative {
                _ if alone => pointwise::slope(act, values, bias),
                // SAFETY: tiles do not overlap and begin on even columns, and this tensor has the output's shape.
                Some(derivative) => unsafe {
                    derivative.activate(act, values, bias, row, cols.start);
                },
                None => pointwise::activate(act, values, bias, None),
            }
        }
    });
    Ok(())
}

/// See [`LinearBack`].
pub fn backward(cpu: &mut CpuBackend, program: &Program, op: &LinearBack) -> Result<()> {
    let matrix = cpu.weights.get(op.weight, &cpu.params.value)?;
    let inputs = matrix.cols;
    let dbias = op
        .dbias
        .0
        .map(|range| wide(range, inputs, "a bias gradient"))
        .transpose()?;
    let [grad] = gradients(&mut cpu.params.gradient, [dbias])?;
    let dx = op.dx.now();
    let slope = op.slope.map(|In(slope)| slope);
    // In place: tiles are made in scratch, and the gradient takes the place of the slope.
    let in_place = slope.is_some_and(|slope| program.region(slope) == program.region(dx));
    ensure!(
        !in_place || slope.is_some_and(|s| program.tensor(s).storage == Storage::Activation),
        "only a slope that is stored whole can give its place to the gradient"
    );
    let apart = slope.filter(|_| !in_place);
    let batch = &cpu.batch;
    let rows = batch.rows(program.tensor(op.dy.0).rows);
    let output = match (op.dx, in_place) {
        (Dest::Onto(_), _) => gemm::Output::Accumulate,
        (Dest::New(_), true) => gemm::Output::Staged,
        (Dest::New(_), false) => gemm::Output::Overwrite,
    };
    let [dy, dx, derivative] = cpu.arena.regions([
        at(program, batch, op.dy.0),
        at(program, batch, dx),
        aside(program, batch, apart),
    ])?;
    let derivative =
        apart.map(|slope| Derivatives::new(program.tensor(slope).storage, derivative, inputs));
    let sum = grad.is_some();
    let height = gemm::row_chunk(rows);
    let (lines, _) = cpu
        .partials
        .lines(if sum { rows.div_ceil(height) } else { 0 }, inputs);
    let partial = Shared::new(lines);
    gemm::backward(
        dy,
        matrix.view(),
        dx,
        output,
        rows,
        &cpu.scratch,
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
