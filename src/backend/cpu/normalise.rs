//! The arithmetic of LayerNorm on one row.

use super::simd::{dispatch, fma, lane_sum, lane_sum2};

dispatch! {
    /// `row = (row - mean)·rstd`; returns `rstd = 1/sqrt(var + eps)`. The variance is that of the centred row:
    /// `E[x²] - mean²` would cancel.
    pub fn normalise(row: &mut [f32], eps: f32) -> f32 = normalise_body;
    /// `row = row·gamma + beta`.
    pub fn affine(row: &mut [f32], gamma: &[f32], beta: &[f32]) = affine_body;
    /// Gradient through [`normalise`] and the gain: `dy` becomes `rstd·(g - mean(g) - x̂·mean(g·x̂))`, g = dy·γ.
    pub fn normalise_backward(dy: &mut [f32], x_hat: &[f32], gamma: &[f32], rstd: f32) = backward_body;
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

/// [`normalise_backward`] with x̂ given by `value`.
#[inline(always)]
pub fn through<const FMA: bool, T: Copy>(
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
