//! Some columns of a tensor: taken, and added to.

use super::CpuBackend;
use super::colsum::CHUNK;
use super::dropout::Mask;
use super::elements::{Elements, Source};
use super::operands::Operands;
use super::pointwise::{add, scale};
use crate::program::{AddColumns, Program, TakeColumns};
use anyhow::{Result, ensure};

/// See [`TakeColumns`].
pub fn take(cpu: &mut CpuBackend, program: &Program, op: &TakeColumns) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let (shape, taken) = (at.shape(op.x.0)?, at.shape(op.out.0)?.1);
    within(shape.1, op.from, taken)?;
    let (x, x_stored) = at.stored(op.x.0, shape)?;
    let (out, out_stored) = at.stored(op.out.0, (shape.0, taken))?;
    let mask = Mask::new(op.dropout, cpu.key, (shape.0, 1));
    let [x, out] = cpu.arena.regions([x, out])?;
    let (x, out) = (Source::new(x_stored, x)?, Elements::new(out_stored, out)?);
    let (rows, width) = (cpu.batch.limits().rows(shape.0), shape.1);
    cpu.workers.run_with(rows.div_ceil(CHUNK), taken, |chunk, values| {
        for row in chunk * CHUNK..rows.min((chunk + 1) * CHUNK) {
            x.copy(row * width + op.from, values);
            if let Some(mask) = mask {
                mask.apply(row as u32, values);
            }
            scale(values, op.times.0);
            // SAFETY: every row belongs to one task.
            unsafe { out.write(row * taken, values) };
        }
    });
    Ok(())
}

/// See [`AddColumns`].
pub fn add_to(cpu: &mut CpuBackend, program: &Program, op: &AddColumns) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let (shape, taken) = (at.shape(op.y.now)?, at.shape(op.x.0)?.1);
    within(shape.1, op.from, taken)?;
    at.together(op.y)?;
    let (x, x_stored) = at.stored(op.x.0, (shape.0, taken))?;
    let (y, y_stored) = at.stored(op.y.now, shape)?;
    let mask = Mask::new(op.dropout, cpu.key, (shape.0, 1));
    let [x, y] = cpu.arena.regions([x, y])?;
    let (x, y) = (Source::new(x_stored, x)?, Elements::new(y_stored, y)?);
    let (rows, width) = (cpu.batch.limits().rows(shape.0), shape.1);
    cpu.workers.run_with(rows.div_ceil(CHUNK), 2 * taken, |chunk, room| {
        let (values, sums) = room.split_at_mut(taken);
        for row in chunk * CHUNK..rows.min((chunk + 1) * CHUNK) {
            x.copy(row * taken, values);
            if let Some(mask) = mask {
                mask.apply(row as u32, values);
            }
            scale(values, op.times.0);
            let start = row * width + op.from;
            // SAFETY: every row belongs to one task.
            unsafe {
                y.read(start, sums);
                add(sums, values);
                y.write(start, sums);
            }
        }
    });
    Ok(())
}

fn within(width: usize, from: usize, taken: usize) -> Result<()> {
    ensure!(from <= width && taken <= width - from, "{taken} columns from {from} on, of {width}");
    Ok(())
}
