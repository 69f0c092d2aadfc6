//! LayerNorm with the residual sum and dropout that precede it, a row at a time while it is in the cache.

use super::CpuBackend;
use super::colsum::{CHUNK, Partials, column_sums, finish};
use super::dropout::Mask;
use super::norm_row::{affine, normalise};
use super::params::{gradients, read};
use super::pointwise::add;
use super::run::{Affine, aside, at, bias_gradients};
use super::share::Shared;
use super::x_hat::XHats;
use crate::program::{ColumnSum, In, NormBack, Out, Program, ResidualNorm, Restore, Storage};
use anyhow::{Result, ensure};
use rayon::prelude::*;

/// See [`ResidualNorm`].
pub fn forward(cpu: &mut CpuBackend, program: &Program, op: &ResidualNorm) -> Result<()> {
    let norm = Affine::of(&cpu.params.value, op.norm)?;
    let batch = &cpu.batch;
    let [x, residual, sum, x_hat, rstd] = cpu.arena.regions([
        at(program, batch, op.x.now),
        at(program, batch, op.residual.0),
        aside(program, batch, op.sum.0),
        aside(program, batch, op.x_hat.0),
        aside(program, batch, op.rstd.0),
    ])?;
    let stored = op.x_hat.0.map(|value| program.tensor(value).storage);
    let saved = stored.map(|stored| (XHats::new(stored, x_hat), rstd));
    let mask = Mask::new(op.dropout, cpu.key);
    residual_forward(x, residual, mask, norm, sum, saved);
    Ok(())
}

/// See [`Restore`].
pub fn restored(cpu: &mut CpuBackend, program: &Program, op: &Restore) -> Result<()> {
    ensure!(
        program.tensor(op.x_hat.0).storage == Storage::Activation,
        "an x̂ in fewer bits gives another output"
    );
    let norm = Affine::of(&cpu.params.value, op.norm)?;
    let batch = &cpu.batch;
    let [x_hat, out] = cpu
        .arena
        .regions([at(program, batch, op.x_hat.0), at(program, batch, op.out.0)])?;
    restore(x_hat, norm, out);
    Ok(())
}

/// See [`NormBack`].
pub fn backward(cpu: &mut CpuBackend, program: &Program, op: &NormBack) -> Result<()> {
    let mask = Mask::new(op.dropout, cpu.key);
    ensure!(
        mask.is_none() || op.branch.is_some(),
        "with dropout the branch's gradient needs a tensor of its own"
    );
    let hidden = op.gamma.len;
    ensure!(hidden > 0, "LayerNorm over no columns");
    let sums = [op.dbeta, op.dbias];
    let [dbeta, dbias] = bias_gradients(&mut cpu.params.gradient, sums, hidden)?;
    let gamma = read(&cpu.params.value, op.gamma)?;
    let batch = &cpu.batch;
    let [dx, beside, x_hat, rstd, d_branch] = cpu.arena.regions([
        at(program, batch, op.dx.now),
        aside(program, batch, op.beside.map(|In(beside)| beside)),
        at(program, batch, op.x_hat.0),
        at(program, batch, op.rstd.0),
        aside(program, batch, op.branch.map(|Out(branch)| branch)),
    ])?;
    residual_backward(
        dx,
        beside,
        XHats::new(program.tensor(op.x_hat.0).storage, x_hat),
        rstd,
        gamma,
        mask,
        d_branch,
        Sums { dbeta, dbias },
        &mut cpu.partials,
    );
    Ok(())
}

/// See [`ColumnSum`].
pub fn column_sum(cpu: &mut CpuBackend, program: &Program, op: &ColumnSum) -> Result<()> {
    let [grad] = gradients(&mut cpu.params.gradient, [op.grad.0])?;
    let [dy] = cpu.arena.regions([at(program, &cpu.batch, op.dy.0)])?;
    if let Some(grad) = grad.filter(|grad| !grad.is_empty()) {
        let (width, mask) = (grad.len(), Mask::new(op.dropout, cpu.key));
        column_sums(dy, width, 0, mask, grad, &mut cpu.partials);
    }
    Ok(())
}

/// `x = LN(residual + dropout(x))`; `sum` (may be empty) gets what is normalised, `saved` is x̂ and rstd, where backward
/// will need them.
pub fn residual_forward(
    x: &mut [f32],
    residual: &[f32],
    mask: Option<Mask>,
    norm: Affine<'_>,
    sum: &mut [f32],
    saved: Option<(XHats<'_>, &mut [f32])>,
) {
    let hidden = norm.gamma.len();
    let sum = (!sum.is_empty()).then(|| Shared::new(sum));
    let saved = saved.map(|(x_hat, rstd)| (x_hat, Shared::new(rstd)));
    x.par_chunks_mut(CHUNK * hidden)
        .zip(residual.par_chunks(CHUNK * hidden))
        .enumerate()
        .for_each(|(chunk, (x, residual))| {
            let rows = x
                .chunks_exact_mut(hidden)
                .zip(residual.chunks_exact(hidden));
            for (row, (x, residual)) in (chunk * CHUNK..).zip(rows) {
                if let Some(mask) = mask {
                    mask.apply(row as u32, x);
                }
                add(x, residual);
                if let Some(sum) = &sum {
                    // SAFETY: every row belongs to one task.
                    unsafe { sum.slice(row * hidden, hidden) }.copy_from_slice(x);
                }
                let r = normalise(x, norm.eps);
                if let Some((x_hat, rstd)) = &saved {
                    // SAFETY: every row belongs to one task.
                    unsafe {
                        x_hat.keep(row, x);
                        rstd.slice(row, 1)[0] = r;
                    }
                }
                affine(x, norm.gamma, norm.beta);
            }
        });
}

/// `out = γ·x̂ + β`: the bits that [`residual_forward`] wrote.
pub fn restore(x_hat: &[f32], norm: Affine<'_>, out: &mut [f32]) {
    let hidden = norm.gamma.len();
    out.par_chunks_mut(CHUNK * hidden)
        .zip(x_hat.par_chunks(CHUNK * hidden))
        .for_each(|(out, x_hat)| {
            out.copy_from_slice(x_hat);
            for row in out.chunks_exact_mut(hidden) {
                affine(row, norm.gamma, norm.beta);
            }
        });
}

/// Where [`residual_backward`] leaves its column sums.
pub struct Sums<'a> {
    /// Of the incoming gradient.
    pub dbeta: Option<&'a mut [f32]>,
    /// Of the branch's gradient.
    pub dbias: Option<&'a mut [f32]>,
}

/// Backward of [`residual_forward`]: `dx` becomes the gradient of the sum, to which `beside` (may be empty) adds;
/// `d_branch` (may be empty) gets the same under the mask.
#[allow(clippy::too_many_arguments)]
pub fn residual_backward(
    dx: &mut [f32],
    beside: &[f32],
    x_hat: XHats<'_>,
    rstd: &[f32],
    gamma: &[f32],
    mask: Option<Mask>,
    d_branch: &mut [f32],
    sums: Sums<'_>,
    partials: &mut Partials,
) {
    let hidden = gamma.len();
    let chunks = dx.len().div_ceil(CHUNK * hidden);
    let (beta_lines, bias_lines) = partials.lines(chunks, hidden);
    let (want_beta, want_bias) = (sums.dbeta.is_some(), sums.dbias.is_some());
    let branch = (!d_branch.is_empty()).then(|| Shared::new(d_branch));
    dx.par_chunks_mut(CHUNK * hidden)
        .zip(beta_lines.par_chunks_exact_mut(hidden))
        .zip(bias_lines.par_chunks_exact_mut(hidden))
        .enumerate()
        .for_each(|(chunk, ((dx, beta_line), bias_line))| {
            for (row, dx) in (chunk * CHUNK..).zip(dx.chunks_exact_mut(hidden)) {
                if want_beta {
                    add(beta_line, dx);
                }
                // SAFETY: every row belongs to one task.
                unsafe { x_hat.back(row, dx, gamma, rstd[row]) };
                if let Some(beside) = beside.get(row * hidden..(row + 1) * hidden) {
                    add(dx, beside);
                }
                let mut branch_row: &[f32] = dx;
                if let Some(branch) = &branch {
                    // SAFETY: every row belongs to one task.
                    let out = unsafe { branch.slice(row * hidden, hidden) };
                    out.copy_from_slice(dx);
                    if let Some(mask) = mask {
                        mask.apply(row as u32, out);
                    }
                    branch_row = out;
                }
                if want_bias {
                    add(bias_line, branch_row);
                }
            }
        });
    if let Some(grad) = sums.dbeta {
        finish(beta_lines, grad);
    }
    if let Some(grad) = sums.dbias {
        finish(bias_lines, grad);
    }
}
