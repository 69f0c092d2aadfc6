//! LayerNorm with the preceding residual sum and dropout, one row at a time while it is in the cache.

use super::CpuBackend;
use super::colsum::{CHUNK, Partials, finish};
use super::dropout::Mask;
use super::elements::Source;
use super::normalise::{affine, normalise};
use super::operands::Operands;
use super::params::{bias_gradients, read, wide};
use super::pointwise::add;
use super::share::Shared;
use super::workers::Workers;
use super::x_hat::XHats;
use crate::program::{Norm, NormBack, Program, ResidualNorm, Restore};
use anyhow::{Result, ensure};

/// See [`ResidualNorm`].
pub fn forward(cpu: &mut CpuBackend, program: &Program, op: &ResidualNorm) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let shape = at.shape(op.x.now)?;
    let norm = Affine::read(&cpu.params.value, op.norm, shape.1)?;
    ensure!(op.x_hat.0.is_some() == op.rstd.0.is_some(), "x̂ and rstd are kept together");
    let x_hat = op.x_hat.0.map(|x_hat| at.stored(x_hat, shape)).transpose()?;
    let [x, residual, sum, kept, rstd] = cpu.arena.regions([
        at.over(op.x, shape)?,
        at.whole(op.residual.0, shape)?,
        at.aside(op.sum.0, shape)?,
        x_hat.map_or((None, 0), |(words, _)| words),
        at.aside(op.rstd.0, (shape.0, 1))?,
    ])?;
    let saved = match x_hat {
        Some((_, storage)) => Some((XHats::new(storage, kept)?, rstd)),
        None => None,
    };
    let mask = Mask::new(op.dropout, cpu.key, (shape.0, 1));
    residual_forward(x, residual, mask, norm, sum, saved, &cpu.workers);
    Ok(())
}

/// See [`Restore`].
pub fn restore(cpu: &mut CpuBackend, program: &Program, op: &Restore) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let shape = at.shape(op.out.0)?;
    let norm = Affine::read(&cpu.params.value, op.norm, shape.1)?;
    let (x_hat, stored) = at.stored(op.x_hat.0, shape)?;
    let [x_hat, out] = cpu.arena.regions([x_hat, at.whole(op.out.0, shape)?])?;
    restored(Source::new(stored, x_hat)?, norm, out, &cpu.workers);
    Ok(())
}

/// See [`NormBack`].
pub fn backward(cpu: &mut CpuBackend, program: &Program, op: &NormBack) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let shape = at.shape(op.dx.now)?;
    let mask = Mask::new(op.dropout, cpu.key, (shape.0, 1));
    ensure!(
        mask.is_none() || op.branch.is_some(),
        "with dropout the branch's gradient needs a tensor of its own"
    );
    let gamma = wide(op.gamma, shape.1, "LayerNorm's gain")?;
    let gamma = read(&cpu.params.value, gamma)?;
    let sums = [op.dbeta, op.dbias];
    let [dbeta, dbias] = bias_gradients(&mut cpu.params.gradient, sums, shape.1)?;
    let (x_hat, storage) = at.stored(op.x_hat.0, shape)?;
    let [dx, beside, x_hat, rstd, branch] = cpu.arena.regions([
        at.over(op.dx, shape)?,
        at.aside(op.beside.map(|beside| beside.0), shape)?,
        x_hat,
        at.whole(op.rstd.0, (shape.0, 1))?,
        at.aside(op.branch.map(|branch| branch.0), shape)?,
    ])?;
    residual_backward(
        dx,
        beside,
        XHats::new(storage, x_hat)?,
        rstd,
        gamma,
        mask,
        branch,
        Sums { dbeta, dbias },
        &mut cpu.partials,
        &cpu.workers,
    );
    Ok(())
}

/// Gain, shift and ε of one LayerNorm.
#[derive(Clone, Copy)]
pub struct Affine<'a> {
    pub gamma: &'a [f32],
    pub beta: &'a [f32],
    pub eps: f32,
}

impl<'a> Affine<'a> {
    /// For a LayerNorm over `width` columns.
    pub fn read(values: &'a [f32], norm: Norm, width: usize) -> Result<Self> {
        Ok(Self {
            gamma: read(values, wide(norm.gamma, width, "LayerNorm's gain")?)?,
            beta: read(values, wide(norm.beta, width, "LayerNorm's bias")?)?,
            eps: norm.eps,
        })
    }
}

/// `x = LN(residual + dropout(x))`; `sum` (may be empty) gets the LayerNorm's input, `saved` gets x̂ and rstd if
/// backward will need them.
fn residual_forward(
    x: &mut [f32],
    residual: &[f32],
    mask: Option<Mask>,
    norm: Affine<'_>,
    sum: &mut [f32],
    saved: Option<(XHats<'_>, &mut [f32])>,
    workers: &Workers,
) {
    let hidden = norm.gamma.len();
    let sum = (!sum.is_empty()).then(|| Shared::new(sum));
    let saved = saved.map(|(x_hat, rstd)| (x_hat, Shared::new(rstd)));
    workers.chunks(x, CHUNK * hidden, |chunk, x| {
        let residual = &residual[chunk * CHUNK * hidden..];
        let rows = x.chunks_exact_mut(hidden).zip(residual.chunks_exact(hidden));
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

/// `out = γ·x̂ + β`: in f32, the same bits that [`residual_forward`] wrote.
fn restored(x_hat: Source<'_>, norm: Affine<'_>, out: &mut [f32], workers: &Workers) {
    let hidden = norm.gamma.len();
    workers.chunks(out, CHUNK * hidden, |chunk, out| {
        x_hat.copy(chunk * CHUNK * hidden, out);
        for row in out.chunks_exact_mut(hidden) {
            affine(row, norm.gamma, norm.beta);
        }
    });
}

/// Where [`residual_backward`] writes its column sums.
struct Sums<'a> {
    /// Of the incoming gradient.
    dbeta: Option<&'a mut [f32]>,
    /// Of the branch's gradient.
    dbias: Option<&'a mut [f32]>,
}

/// Backward of [`residual_forward`]: `dx` becomes the gradient of the sum, `d_branch` (may be empty) the same under the
/// mask.
#[allow(clippy::too_many_arguments)]
fn residual_backward(
    dx: &mut [f32],
    beside: &[f32],
    x_hat: XHats<'_>,
    rstd: &[f32],
    gamma: &[f32],
    mask: Option<Mask>,
    d_branch: &mut [f32],
    sums: Sums<'_>,
    partials: &mut Partials,
    workers: &Workers,
) {
    let hidden = gamma.len();
    let chunks = dx.len().div_ceil(CHUNK * hidden);
    let (beta_lines, bias_lines) = partials.lines(chunks, hidden);
    let (want_beta, want_bias) = (sums.dbeta.is_some(), sums.dbias.is_some());
    let branch = (!d_branch.is_empty()).then(|| Shared::new(d_branch));
    let (beta, bias) = (Shared::new(beta_lines), Shared::new(bias_lines));
    workers.chunks(dx, CHUNK * hidden, |chunk, dx| {
        // SAFETY: each chunk has its own lines.
        let (beta_line, bias_line) =
            unsafe { (beta.slice(chunk * hidden, hidden), bias.slice(chunk * hidden, hidden)) };
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
