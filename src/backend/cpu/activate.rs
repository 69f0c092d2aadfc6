//! An activation function, forward and backward, if something is added between its product and it.

use super::CpuBackend;
use super::colsum::{CHUNK, finish};
use super::elements::{Elements, Source};
use super::operands::Operands;
use super::params::bias_gradients;
use super::pointwise::{activated, add};
use super::share::Shared;
use super::slopes::Slopes;
use crate::program::{Activate, ActivateBack, Program};
use anyhow::{Context, Result};

/// See [`Activate`].
pub fn forward(cpu: &mut CpuBackend, program: &Program, op: &Activate) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let some = op.out.0.or(op.slope.0).context("an activation of which nothing is asked for")?;
    let shape = at.shape(some)?;
    let (x, x_stored) = at.stored(op.x.0, shape)?;
    let out = op.out.0.map(|out| at.stored(out, shape)).transpose()?;
    let slope = op.slope.0.map(|slope| at.stored(slope, shape)).transpose()?;
    let none = (None, 0);
    let words = [out, slope].map(|tensor| tensor.map_or(none, |(words, _)| words));
    let [x, to, kept] = cpu.arena.regions([x, words[0], words[1]])?;
    let (rows, width) = (cpu.batch.rows(shape.0), shape.1);
    let x = Source::new(x_stored, x)?;
    let to = out.map(|(_, stored)| Elements::new(stored, to)).transpose()?;
    let slopes = slope.map(|(_, stored)| Slopes::new(stored, kept, width)).transpose()?;
    if cpu.bias.len() < width {
        cpu.bias.resize(width, 0.0);
    }
    let zeros = &mut cpu.bias[..width];
    zeros.fill(0.0);
    let zeros = &*zeros;
    cpu.workers.run_with(rows.div_ceil(CHUNK), width, |chunk, values| {
        for row in chunk * CHUNK..rows.min((chunk + 1) * CHUNK) {
            x.copy(row * width, values);
            // SAFETY: every row belongs to one task, which has the whole of it.
            unsafe {
                match &slopes {
                    Some(slopes) => slopes.activate(op.act, values, zeros, row, 0),
                    None => activated(op.act, values, None),
                }
                if let Some(to) = &to {
                    to.write(row * width, values);
                }
            }
        }
    });
    Ok(())
}

/// See [`ActivateBack`].
pub fn backward(cpu: &mut CpuBackend, program: &Program, op: &ActivateBack) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let shape = at.shape(op.dx.now)?;
    at.together(op.dx)?;
    let [dbias] = bias_gradients(&mut cpu.params.gradient, [op.dbias], shape.1)?;
    let (dx, dx_stored) = at.stored(op.dx.now, shape)?;
    let (slope, slope_stored) = at.stored(op.slope.0, shape)?;
    let [dx, kept] = cpu.arena.regions([dx, slope])?;
    let (rows, width) = (cpu.batch.rows(shape.0), shape.1);
    let dx = Elements::new(dx_stored, dx)?;
    let slopes = Slopes::new(slope_stored, kept, width)?;
    let chunks = rows.div_ceil(CHUNK);
    let (lines, _) = cpu.partials.lines(chunks, width);
    let sums = Shared::new(lines);
    cpu.workers.run_with(chunks, width, |chunk, dy| {
        // SAFETY: each chunk has its own line.
        let line = unsafe { sums.slice(chunk * width, width) };
        for row in chunk * CHUNK..rows.min((chunk + 1) * CHUNK) {
            // SAFETY: every row belongs to one task, which has the whole of it.
            unsafe {
                dx.read(row * width, dy);
                slopes.multiply(dy, row, 0);
                add(line, dy);
                dx.write(row * width, dy);
            }
        }
    });
    if let Some(grad) = dbias {
        finish(lines, grad);
    }
    Ok(())
}
