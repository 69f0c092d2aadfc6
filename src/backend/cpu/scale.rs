//! Columns multiplied by factors that train, and back.

use super::CpuBackend;
use super::colsum::{CHUNK, finish};
use super::elements::{Elements, Source};
use super::operands::Operands;
use super::params::{bias_gradients, read};
use super::pointwise::{add_product, multiply};
use super::share::Shared;
use super::slopes::Slopes;
use crate::program::{In, Program, Scale, ScaleBack};
use anyhow::{Result, ensure};

/// See [`Scale`].
pub fn forward(cpu: &mut CpuBackend, program: &Program, op: &Scale) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let shape = at.shape(op.out.0)?;
    let factor = read(&cpu.params.value, op.factor)?;
    let from = unscaled(shape.1, factor)?;
    let (x, x_stored) = at.stored(op.x.0, shape)?;
    let (out, out_stored) = at.stored(op.out.0, shape)?;
    let [x, out] = cpu.arena.regions([x, out])?;
    let (x, out) = (Source::new(x_stored, x)?, Elements::new(out_stored, out)?);
    let (rows, width) = (cpu.batch.limits().rows(shape.0), shape.1);
    cpu.workers.run_with(rows.div_ceil(CHUNK), width, |chunk, values| {
        for row in chunk * CHUNK..rows.min((chunk + 1) * CHUNK) {
            x.copy(row * width, values);
            multiply(&mut values[from..], factor);
            // SAFETY: every row belongs to one task.
            unsafe { out.write(row * width, values) };
        }
    });
    Ok(())
}

/// See [`ScaleBack`].
pub fn backward(cpu: &mut CpuBackend, program: &Program, op: &ScaleBack) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let shape = at.shape(op.dx.now)?;
    at.together(op.dx)?;
    let factor = read(&cpu.params.value, op.factor)?;
    let from = unscaled(shape.1, factor)?;
    ensure!(op.slope.is_none() || from == 0, "a slope beside columns without a factor");
    let scaled = factor.len();
    let [dfactor] = bias_gradients(&mut cpu.params.gradient, [op.dfactor], scaled)?;
    let (dx, dx_stored) = at.stored(op.dx.now, shape)?;
    let (x, x_stored) = at.stored(op.x.0, shape)?;
    let slope = op.slope.map(|In(slope)| at.stored(slope, shape)).transpose()?;
    let of_slope = slope.map_or((None, 0), |(words, _)| words);
    let [dx, x, kept] = cpu.arena.regions([dx, x, of_slope])?;
    let (rows, width) = (cpu.batch.limits().rows(shape.0), shape.1);
    let (dx, x) = (Elements::new(dx_stored, dx)?, Source::new(x_stored, x)?);
    let slopes = slope.map(|(_, stored)| Slopes::new(stored, kept, width)).transpose()?;
    let chunks = rows.div_ceil(CHUNK);
    let (lines, _) = cpu.partials.lines(chunks, scaled);
    let sums = Shared::new(lines);
    cpu.workers.run_with(chunks, 2 * width, |chunk, room| {
        let (dy, room) = room.split_at_mut(width);
        // SAFETY: each chunk has its own line.
        let line = unsafe { sums.slice(chunk * scaled, scaled) };
        for row in chunk * CHUNK..rows.min((chunk + 1) * CHUNK) {
            let start = row * width;
            // SAFETY: every row belongs to one task, which has the whole of it.
            unsafe {
                dx.read(start, dy);
                add_product(line, &dy[from..], x.get(start + from..start + width, room));
                multiply(&mut dy[from..], factor);
                if let Some(slopes) = &slopes {
                    slopes.multiply(dy, row, 0);
                }
                dx.write(start, dy);
            }
        }
    });
    if let Some(grad) = dfactor {
        finish(lines, grad);
    }
    Ok(())
}

/// The number of leading columns without a factor.
fn unscaled(width: usize, factor: &[f32]) -> Result<usize> {
    ensure!(factor.len() <= width, "{} factors of {width} columns", factor.len());
    Ok(width - factor.len())
}
