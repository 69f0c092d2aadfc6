//! The optimizer over the flat vector: gradient norm, clipping and AdamW.

use super::CpuBackend;
use super::share::Shared;
use super::simd::dispatch;
use super::workers::Workers;
use crate::program::AdamW;
use anyhow::{Context, Result, ensure};

/// See [`Zero`](crate::program::Zero).
pub fn zero(cpu: &mut CpuBackend) {
    cpu.params.gradient.fill(0.0);
    cpu.loss = 0.0;
    cpu.grad_norm = 0.0;
}

/// See [`Update`](crate::program::Update).
pub fn update(cpu: &mut CpuBackend, numbers: Option<AdamW>) -> Result<()> {
    let op = numbers.context("the step ends without the numbers of its update")?;
    ensure!(op.step > 0, "the optimizer's steps count from 1");
    let params = &mut cpu.params;
    // What follows it has a gradient but does not train.
    let trainable = params.moment1.len();
    let gradient = &params.gradient[..trainable];
    cpu.grad_norm = norm(gradient, &mut cpu.norm_partials, &cpu.workers);
    if cpu.grad_norm.is_finite() {
        let vectors = Vectors {
            value: &mut params.value[..trainable],
            gradient,
            moment1: &mut params.moment1,
            moment2: &mut params.moment2,
        };
        adamw(vectors, op, cpu.grad_norm, &cpu.workers);
    }
    Ok(())
}

/// Elements of one task and of one partial sum of the norm; fixed, so that the order of summation is fixed.
const CHUNK: usize = 16_384;

/// The trainable vectors, of equal lengths.
struct Vectors<'a> {
    value: &'a mut [f32],
    gradient: &'a [f32],
    moment1: &'a mut [f32],
    moment2: &'a mut [f32],
}

/// Euclidean norm, accumulated in f64. `partial` holds one number per chunk: see [`partials`].
fn norm(gradient: &[f32], partial: &mut [f64], workers: &Workers) -> f32 {
    let partial = &mut partial[..gradient.len().div_ceil(CHUNK)];
    workers.chunks(partial, 1, |i, sum| {
        sum[0] = square_sum(&gradient[i * CHUNK..gradient.len().min((i + 1) * CHUNK)]);
    });
    partial.iter().sum::<f64>().sqrt() as f32
}

/// Partial sums that [`norm`] needs for `count` elements.
pub fn partials(count: usize) -> usize {
    count.div_ceil(CHUNK)
}

/// One step with the gradient scaled by `op.clip_norm / norm` if the norm exceeds it.
fn adamw(vectors: Vectors<'_>, op: AdamW, norm: f32, workers: &Workers) {
    // Like torch.nn.utils.clip_grad_norm_, with its 1e-6.
    let clip = if op.clip_norm > 0.0 {
        (f64::from(op.clip_norm) / (f64::from(norm) + 1e-6)).min(1.0)
    } else {
        1.0
    };
    // 0.999 is not an f32, and 1 - β would magnify its rounding a thousandfold. Seven decimals recover the number that
    // was asked for.
    let asked = |beta: f32| (f64::from(beta) * 1e7).round() / 1e7;
    let (beta1, beta2) = (asked(op.beta1), asked(op.beta2));
    let correction = |beta: f64| 1.0 - beta.powf(op.step as f64);
    let update = Update {
        clip: clip as f32,
        decay: (1.0 - f64::from(op.lr) * f64::from(op.weight_decay)) as f32,
        beta1: op.beta1,
        beta2: op.beta2,
        one_minus_beta1: (1.0 - beta1) as f32,
        one_minus_beta2: (1.0 - beta2) as f32,
        step_size: (f64::from(op.lr) / correction(beta1)) as f32,
        root_correction: (1.0 / correction(beta2).sqrt()) as f32,
        eps: op.eps,
    };
    let gradient = vectors.gradient;
    let (m, v) = (Shared::new(vectors.moment1), Shared::new(vectors.moment2));
    workers.chunks(vectors.value, CHUNK, |i, value| {
        let (at, len) = (i * CHUNK, value.len());
        // SAFETY: pieces do not overlap.
        let (m, v) = unsafe { (m.slice(at, len), v.slice(at, len)) };
        apply(value, &gradient[at..at + len], m, v, &update);
    });
}

struct Update {
    clip: f32,
    decay: f32,
    beta1: f32,
    beta2: f32,
    one_minus_beta1: f32,
    one_minus_beta2: f32,
    /// Learning rate divided by the first moment's bias correction.
    step_size: f32,
    /// One over the root of the second moment's bias correction.
    root_correction: f32,
    eps: f32,
}

dispatch! {
    fn square_sum(x: &[f32]) -> f64 = square_sum_body;
    fn apply(value: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32], u: &Update) = apply_body;
}

#[inline(always)]
fn square_sum_body<const FMA: bool>(x: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 8];
    let (whole, rest) = x.as_chunks::<8>();
    for x in whole {
        for l in 0..8 {
            lanes[l] += f64::from(x[l]) * f64::from(x[l]);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += f64::from(*x) * f64::from(*x);
    }
    lanes.iter().sum()
}

#[inline(always)]
fn apply_body<const FMA: bool>(
    value: &mut [f32],
    gradient: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    u: &Update,
) {
    for (((value, gradient), m), v) in value.iter_mut().zip(gradient).zip(m).zip(v) {
        let g = gradient * u.clip;
        *m = u.beta1 * *m + u.one_minus_beta1 * g;
        *v = u.beta2 * *v + u.one_minus_beta2 * g * g;
        let denominator = v.sqrt() * u.root_correction + u.eps;
        *value = *value * u.decay - u.step_size * *m / denominator;
    }
}
