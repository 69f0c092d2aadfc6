//! Linear layers: products whose bias, activation, slope and column sums are applied to each tile of the output while
//! it is in the cache.

use super::gemm::{self, Output};
use super::operands::Operands;
use super::params::{bias_gradients, read};
use super::share::Shared;
use super::slopes::Slopes;
use super::weights::Matrix;
use super::{CpuBackend, colsum, pointwise};
use crate::program::{Dest, In, Linear, LinearBack, Out, ParamRange, Program, Storage};
use anyhow::{Result, bail, ensure};

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

/// Whether a matrix takes `inputs` columns to `outputs`.
fn fits(matrix: Matrix<'_>, inputs: usize, outputs: usize) -> Result<()> {
    ensure!(
        (matrix.rows, matrix.cols) == (outputs, inputs),
        "a [{}, {}] matrix between {inputs} inputs and {outputs} outputs",
        matrix.rows,
        matrix.cols
    );
    Ok(())
}

/// See [`Linear`].
pub fn forward(cpu: &mut CpuBackend, program: &Program, op: &Linear) -> Result<()> {
    let at = Operands::new(program, &cpu.batch);
    let Some(output) = op.out.0.or(op.slope.0) else {
        bail!("a product of nothing");
    };
    ensure!(op.slope.0.is_none() || op.act.is_some(), "a slope without an activation");
    let (x, shape) = (at.shape(op.x.0)?, at.shape(output)?);
    let (inputs, outputs) = (x.1, shape.1);
    let matrix = cpu.weights.get(op.weight, &cpu.params.value)?;
    fits(matrix, inputs, outputs)?;
    if cpu.bias.len() < outputs {
        cpu.bias.resize(outputs, 0.0);
    }
    let bias = &mut cpu.bias[..outputs];
    gather(&cpu.params.value, &op.bias, bias)?;
    let bias = &*bias;
    let slope = op.slope.0.map(|slope| at.stored(slope, shape)).transpose()?;
    let [x, out, slopes] = cpu.arena.regions([
        at.whole(op.x.0, (shape.0, inputs))?,
        at.aside(op.out.0, shape)?,
        slope.map_or((None, 0), |(words, _)| words),
    ])?;
    let rows = x.len() / inputs;
    // Of a slope alone that is stored whole, the product lies where the slope will.
    let (out, slopes, alone) = match slope {
        Some((_, Storage::Activation)) if op.out.0.is_none() => (slopes, None, true),
        Some((_, storage)) => (out, Some(Slopes::new(storage, slopes, outputs)?), false),
        None => (out, None, false),
    };
    let mut output = Output::new(out);
    output.to = output.to.filter(|_| op.out.0.is_some() || alone);
    let factors = gemm::forward(x, matrix.view(), (rows, outputs));
    gemm::product(factors, output, &cpu.scratch, |row, cols, values| {
        let from = cols.start;
        let bias = &bias[cols];
        match (op.act, &slopes) {
            (None, _) => pointwise::add(values, bias),
            (Some(act), _) if alone => pointwise::slope(act, values, bias),
            // SAFETY: tiles do not overlap and begin on even columns, and this tensor has the output's shape.
            (Some(act), Some(slopes)) => unsafe { slopes.activate(act, values, bias, row, from) },
            (Some(act), None) => pointwise::activate(act, values, bias, None),
        }
    });
    Ok(())
}

/// See [`LinearBack`].
pub fn backward(cpu: &mut CpuBackend, program: &Program, op: &LinearBack) -> Result<()> {
    let at = Operands::new(program, &cpu.batch);
    let (shape, outputs) = (at.shape(op.dx.now())?, at.shape(op.dy.0)?.1);
    let inputs = shape.1;
    let matrix = cpu.weights.get(op.weight, &cpu.params.value)?;
    fits(matrix, inputs, outputs)?;
    let [grad] = bias_gradients(&mut cpu.params.gradient, [op.dbias], inputs)?;
    let place = match op.dx {
        Dest::New(Out(dx)) => at.whole(dx, shape)?,
        Dest::Onto(over) => at.over(over, shape)?,
    };
    let slope = match op.slope {
        Some(In(slope)) => Some(at.stored(slope, shape)?),
        None => None,
    };
    // In place: the gradient takes the place of the slope, which the epilogue reads from there.
    let in_place = slope.is_some_and(|(words, _)| words.0 == place.0);
    ensure!(
        !in_place || slope.is_some_and(|(_, storage)| storage == Storage::Activation),
        "only a slope that is stored whole can give its place to the gradient"
    );
    let adds = matches!(op.dx, Dest::Onto(_));
    ensure!(!adds || slope.is_none(), "a product that both adds and multiplies");
    let apart = slope.filter(|_| !in_place);
    let [dy, dx, slopes] = cpu.arena.regions([
        at.whole(op.dy.0, (shape.0, outputs))?,
        place,
        apart.map_or((None, 0), |(words, _)| words),
    ])?;
    let rows = dy.len() / outputs;
    let output = Output { adds, staged: in_place, ..Output::new(dx) };
    let slopes = match (apart, output.to) {
        (Some((_, storage)), _) => Some(Slopes::new(storage, slopes, inputs)?),
        (None, Some(place)) if in_place => Some(Slopes::Full(place, inputs)),
        _ => None,
    };
    let sum = grad.is_some();
    let height = gemm::row_chunk(rows);
    let (lines, _) = cpu.partials.lines(if sum { rows.div_ceil(height) } else { 0 }, inputs);
    let partial = Shared::new(lines);
    let factors = gemm::backward(dy, matrix.view(), (rows, inputs));
    gemm::product(factors, output, &cpu.scratch, |row, cols, values| {
        if let Some(slopes) = &slopes {
            // SAFETY: as in forward; where the slope lies in the output's place, that is written after this.
            unsafe { slopes.multiply(values, row, cols.start) };
        }
        if sum {
            let line = row / height * inputs + cols.start;
            // SAFETY: a line belongs to one chunk of rows and these columns to one of its tiles.
            pointwise::add(unsafe { partial.slice(line, cols.len()) }, values);
        }
    });
    if let Some(grad) = grad {
        colsum::finish(lines, grad);
    }
    Ok(())
}
