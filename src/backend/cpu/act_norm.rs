//! The activation and the LayerNorm between the two products of a masked-words head, row by row.

use super::CpuBackend;
use super::colsum::column_sums;
use super::norm::Affine;
use super::normalise::{affine, normalise, normalise_backward};
use super::operands::Operands;
use super::params::bias_gradients;
use super::pointwise::{activated, multiply};
use super::share::Shared;
use crate::program::{ActNorm, ActNormBack, Program};
use anyhow::Result;

/// See [`ActNorm`].
pub fn forward(cpu: &mut CpuBackend, program: &Program, op: &ActNorm) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let shape = at.shape(op.y.0)?;
    let norm = Affine::read(&cpu.params.value, op.norm, shape.1)?;
    let [x, y] = cpu.arena.regions([at.whole(op.x.0, shape)?, at.whole(op.y.0, shape)?])?;
    cpu.workers.chunks(y, shape.1, |row, y| {
        y.copy_from_slice(&x[row * shape.1..][..shape.1]);
        activated(op.act, y, None);
        normalise(y, norm.eps);
        affine(y, norm.gamma, norm.beta);
    });
    Ok(())
}

/// See [`ActNormBack`].
pub fn backward(cpu: &mut CpuBackend, program: &Program, op: &ActNormBack) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let shape = at.shape(op.dx.now)?;
    let width = shape.1;
    let norm = Affine::read(&cpu.params.value, op.norm, width)?;
    let [dbeta] = bias_gradients(&mut cpu.params.gradient, [op.dbeta], width)?;
    let [x, dx] = cpu.arena.regions([at.whole(op.x.0, shape)?, at.over(op.dx, shape)?])?;
    if let Some(dbeta) = dbeta {
        column_sums(dx, width, 0, None, dbeta, &mut cpu.partials, &cpu.workers);
    }
    let (rows, dx) = (dx.len() / width, Shared::new(dx));
    cpu.workers.run_with(rows, 2 * width, |row, room| {
        // SAFETY: each task has its own row.
        let dx = unsafe { dx.slice(row * width, width) };
        let (x_hat, slope) = room.split_at_mut(width);
        x_hat.copy_from_slice(&x[row * width..][..width]);
        activated(op.act, x_hat, Some(slope));
        let rstd = normalise(x_hat, norm.eps);
        normalise_backward(dx, x_hat, norm.gamma, rstd);
        multiply(dx, slope);
    });
    Ok(())
}
