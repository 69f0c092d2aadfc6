//! Linear layers: products whose bias, activation, slope and column sums are applied to each tile of the output while
//! it is in the cache.

use super::elements::{Arithmetic, Elements, Source, Stored};
use super::finish_bf16::{Finish, With};
use super::gemm::{self, Output};
use super::operands::{Operands, Words};
use super::params::{bias_gradients, read};
use super::share::Shared;
use super::slopes::Slopes;
use super::weights::Matrix;
use super::{CpuBackend, colsum, pointwise};
use crate::program::{Dest, In, Linear, LinearBack, ParamRange, Program};
use anyhow::{Result, bail, ensure};

/// Joins the parts of a bias into `out`.
fn gather(values: &[f32], parts: &[ParamRange], out: &mut [f32]) -> Result<()> {
    let total: usize = parts.iter().map(|p| p.len).sum();
    ensure!(total == out.len(), "the parts of a bias have {total} elements, not {}", out.len());
    let mut at = 0;
    for part in parts {
        out[at..at + part.len].copy_from_slice(read(values, *part)?);
        at += part.len;
    }
    Ok(())
}

/// Whether a matrix maps `inputs` columns to `outputs`.
fn fits(matrix: Matrix<'_>, inputs: usize, outputs: usize) -> Result<()> {
    ensure!(
        (matrix.rows, matrix.cols) == (outputs, inputs),
        "a [{}, {}] matrix between {inputs} inputs and {outputs} outputs",
        matrix.rows,
        matrix.cols
    );
    Ok(())
}

/// What f32 arithmetic reads.
fn f32s(stored: Stored, memory: &[f32]) -> Result<&[f32]> {
    match Source::new(stored, memory)? {
        Source::F32(x) => Ok(x),
        Source::Bf16(_) => bail!("a product in f32 of elements that are stored as {stored:?}"),
    }
}

/// What f32 arithmetic writes.
fn whole(to: Option<Elements<'_>>) -> Result<Option<Shared<'_>>> {
    match to {
        Some(Elements::F32(to)) => Ok(Some(to)),
        None => Ok(None),
        Some(Elements::Bf16(_)) => bail!("a product in f32 to elements of bf16"),
    }
}

/// See [`Linear`].
pub fn forward(cpu: &mut CpuBackend, program: &Program, op: &Linear) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
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
    let (x, x_stored) = at.stored(op.x.0, (shape.0, inputs))?;
    let out = op.out.0.map(|out| at.stored(out, shape)).transpose()?;
    let slope = op.slope.0.map(|slope| at.stored(slope, shape)).transpose()?;
    let words = |tensor: Option<(Words, Stored)>| tensor.map_or((None, 0), |(words, _)| words);
    let [x, to, slopes] = cpu.arena.regions([x, words(out), words(slope)])?;
    let rows = cpu.batch.rows(shape.0);
    // If only a slope is wanted, in elements rather than codes, the product is written where the slope will be.
    let alone = |stored| out.is_none() && matches!(stored, Stored::F32 | Stored::Bf16);
    let (to, slopes, alone) = match (out, slope) {
        (_, Some((_, stored))) if alone(stored) => {
            (Some(Elements::new(stored, slopes)?), None, true)
        }
        (out, slope) => {
            let to = out.map(|(_, stored)| Elements::new(stored, to)).transpose()?;
            let slopes =
                slope.map(|(_, stored)| Slopes::new(stored, slopes, outputs)).transpose()?;
            (to, slopes, false)
        }
    };
    let factors = gemm::forward(matrix.view(), (rows, outputs, inputs));
    if cpu.arithmetic == Arithmetic::Bf16 {
        let with = With::Forward { bias, act: op.act, slopes, derivative: alone };
        let finish = Finish { to, width: outputs, with };
        gemm::product_bf16(Source::new(x_stored, x)?, factors, &finish, &cpu.workers);
        return Ok(());
    }
    let output = Output { to: whole(to)?, adds: false, staged: false };
    gemm::product(f32s(x_stored, x)?, factors, output, &cpu.workers, |row, cols, values| {
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
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let (shape, outputs) = (at.shape(op.dx.now())?, at.shape(op.dy.0)?.1);
    let inputs = shape.1;
    let matrix = cpu.weights.get(op.weight, &cpu.params.value)?;
    fits(matrix, inputs, outputs)?;
    let [grad] = bias_gradients(&mut cpu.params.gradient, [op.dbias], inputs)?;
    if let Dest::Onto(over) = op.dx {
        at.together(over)?;
    }
    let (place, place_stored) = at.stored(op.dx.now(), shape)?;
    let slope = match op.slope {
        Some(In(slope)) => Some(at.stored(slope, shape)?),
        None => None,
    };
    // In place: the gradient overwrites the slope, which the epilogue reads from there.
    let in_place = slope.is_some_and(|(words, _)| words.0 == place.0);
    ensure!(
        !in_place || slope.is_some_and(|(_, stored)| stored == place_stored),
        "only a slope that is stored whole can give its place to the gradient"
    );
    let adds = matches!(op.dx, Dest::Onto(_));
    ensure!(!adds || slope.is_none(), "a product that both adds and multiplies");
    let apart = slope.filter(|_| !in_place);
    let (dy, dy_stored) = at.stored(op.dy.0, (shape.0, outputs))?;
    let [dy, dx, slopes] =
        cpu.arena.regions([dy, place, apart.map_or((None, 0), |(words, _)| words)])?;
    let rows = cpu.batch.rows(shape.0);
    let to = Elements::new(place_stored, dx)?;
    let slopes = match apart {
        Some((_, stored)) => Some(Slopes::new(stored, slopes, inputs)?),
        None => in_place.then_some(Slopes::Whole(to, inputs)),
    };
    let sum = grad.is_some();
    let height = gemm::row_chunk(rows);
    let (lines, _) = cpu.partials.lines(if sum { rows.div_ceil(height) } else { 0 }, inputs);
    let partial = Shared::new(lines);
    let factors = gemm::backward(matrix.view(), (rows, outputs, inputs));
    if cpu.arithmetic == Arithmetic::Bf16 {
        let with = With::Backward { slopes, adds, sums: sum.then_some((partial, height)) };
        let finish = Finish { to: Some(to), width: inputs, with };
        gemm::product_bf16(Source::new(dy_stored, dy)?, factors, &finish, &cpu.workers);
        if let Some(grad) = grad {
            colsum::finish(lines, grad);
        }
        return Ok(());
    }
    let output = Output { to: whole(Some(to))?, adds, staged: in_place };
    gemm::product(f32s(dy_stored, dy)?, factors, output, &cpu.workers, |row, cols, values| {
        if let Some(slopes) = &slopes {
            // SAFETY: as in forward; if the slope lies in the output's place, that is written after this.
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
