//! LayerNorm with the residual sum and dropout that precede it, a row at a time while it is in the cache.

use super::colsum::{CHUNK, Partials, finish};
use super::dropout::Mask;
use super::pointwise::add;
use super::share::Shared;
use super::simd::{dispatch, fma, lane_sum, lane_sum2};
use super::x_hat::{XHats, value};
use rayon::prelude::*;

dispatch! {
    /// `row = (row - mean)·rstd`; returns `rstd = 1/sqrt(var + eps)`. The variance is that of the centred row:
    /// `E[x²] - mean²` would cancel.
    pub fn normalise(row: &mut [f32], eps: f32) -> f32 = normalise_body;
    /// `row = row·gamma + beta`.
    pub fn affine(row: &mut [f32], gamma: &[f32], beta: &[f32]) = affine_body;
    /// Gradient through [`normalise`] and the gain: `dy` becomes `rstd·(g - mean(g) - x̂·mean(g·x̂))`, g = dy·γ.
    pub fn normalise_backward(dy: &mut [f32], x_hat: &[f32], gamma: &[f32], rstd: f32) = backward_body;
    /// The same from the codes of x̂.
    pub fn normalise_backward8(dy: &mut [f32], codes: &[i8], unit: f32, gamma: &[f32], rstd: f32) = backward8_body;
}

#[inline(always)]
fn normalise_body<const FMA: bool>(row: &mut [f32], eps: f32) -> f32 {
    let n = row.len() as f32;
    let mean = lane_sum(row, |x| x) / n;
    let variance = lane_sum(row, |x| (x - mean) * (x - mean)) / n;
    let rstd = 1.0 / (variance + eps).sqrt();
    for x in row {
        *x = (*x - mean) * rstd;
    }
    rstd
}

#[inline(always)]
fn affine_body<const FMA: bool>(row: &mut [f32], gamma: &[f32], beta: &[f32]) {
    for ((x, g), b) in row.iter_mut().zip(gamma).zip(beta) {
        *x = fma::<FMA>(*x, *g, *b);
    }
}

#[inline(always)]
fn backward_body<const FMA: bool>(dy: &mut [f32], x_hat: &[f32], gamma: &[f32], rstd: f32) {
    through::<FMA, _>(dy, x_hat, |x| x, gamma, rstd);
}

#[inline(always)]
fn backward8_body<const FMA: bool>(
    dy: &mut [f32],
    codes: &[i8],
    unit: f32,
    gamma: &[f32],
    rstd: f32,
) {
    through::<FMA, _>(dy, codes, |code| value(code, unit), gamma, rstd);
}

#[inline(always)]
fn through<const FMA: bool, T: Copy>(
    dy: &mut [f32],
    x_hat: &[T],
    value: impl Fn(T) -> f32,
    gamma: &[f32],
    rstd: f32,
) {
    let n = dy.len() as f32;
    for (g, gain) in dy.iter_mut().zip(gamma) {
        *g *= gain;
    }
    let mean = lane_sum(dy, |g| g) / n;
    let along = lane_sum2(dy, x_hat, |g, x| g * value(x)) / n;
    for (g, x) in dy.iter_mut().zip(x_hat) {
        *g = rstd * fma::<FMA>(-along, value(*x), *g - mean);
    }
}

/// Gain, shift and ε of one LayerNorm.
#[derive(Clone, Copy)]
pub struct Affine<'a> {
    pub gamma: &'a [f32],
    pub beta: &'a [f32],
    pub eps: f32,
}

/// `x = LN(residual + dropout(x))`; `saved` is x̂ and rstd, where backward will need them.
pub fn residual_forward(
    x: &mut [f32],
    residual: &[f32],
    mask: Option<Mask>,
    norm: Affine<'_>,
    saved: Option<(XHats<'_>, &mut [f32])>,
) {
    let hidden = norm.gamma.len();
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

/// Backward of [`residual_forward`]: `dx` becomes the gradient of the sum, `d_branch` (may be empty) the same
/// under the mask.
#[allow(clippy::too_many_arguments)]
pub fn residual_backward(
    dx: &mut [f32],
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
