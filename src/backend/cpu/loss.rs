//! The losses: what the logits are compared with, and the gradient that starts backward. They handle a few numbers per
//! row, so f64 costs nothing here and keeps small losses exact.

use super::CpuBackend;
use super::operands::Operands;
use super::params::{read, wide};
use super::wide_loss;
use crate::backend::labels::LabelNeed;
use crate::batch::Labels;
use crate::program::{Loss, LossKind, Op, Program, Rows};
use anyhow::Result;
use std::ops::Range;

/// See [`Loss`].
pub fn loss(cpu: &mut CpuBackend, program: &Program, op: &Loss, weight: f32) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let shape = at.shape(op.logits.0)?;
    let outputs = shape.1;
    op.kind.check(program.list().info(op.logits.0), op.class_weights.is_some())?;
    if let Some(need) = LabelNeed::of(program.list(), &[Op::Loss(op.clone())]) {
        need.check(cpu.batch.label_kind)?;
    }
    let class_weights = match op.class_weights {
        Some(range) => read(&cpu.params.value, wide(range, outputs, "weights of classes")?)?,
        None => &[],
    };
    let [logits, dlogits] =
        cpu.arena.regions([at.whole(op.logits.0, shape)?, at.aside(op.dlogits.0, shape)?])?;
    let labels = cpu.batch.labels.as_slice();
    let sum = match op.kind {
        LossKind::CrossEntropy if matches!(shape.0, Rows::Labelled(_)) => wide_loss::cross_entropy(
            logits,
            &cpu.batch,
            outputs,
            weight,
            dlogits,
            &mut cpu.partials,
            &cpu.workers,
        ),
        LossKind::CrossEntropy => {
            cross_entropy(logits, labels, outputs, class_weights, weight, dlogits)
        }
        LossKind::MeanSquared => each(logits, labels, weight, dlogits, squared),
        LossKind::Binary => each(logits, labels, weight, dlogits, binary),
        LossKind::Span => {
            let bounds = cpu.batch.cu_seqlens.windows(2).map(|w| w[0] as usize..w[1] as usize);
            let mut total = 0.0;
            for (tokens, ends) in bounds.zip(labels.chunks_exact(2)) {
                total += span(logits, tokens, ends, weight, dlogits);
            }
            total
        }
    };
    cpu.loss += f64::from(weight) * sum;
    Ok(())
}

/// Softmax cross-entropy of one row, `x(0) .. x(count)`; calls `d` with each index and its gradient.
fn softmax(
    count: usize,
    x: impl Fn(usize) -> f32,
    label: usize,
    mut d: impl FnMut(usize, f64),
) -> f64 {
    let most = (0..count).fold(f32::NEG_INFINITY, |a, i| a.max(x(i)));
    let exps = |x: f32| f64::from(x - most).exp();
    let sum: f64 = (0..count).map(|i| exps(x(i))).sum();
    for i in 0..count {
        let target = if i == label { 1.0 } else { 0.0 };
        d(i, exps(x(i)) / sum - target);
    }
    sum.ln() - f64::from(x(label) - most)
}

/// Sum over the rows of softmax cross-entropy, weighted by class; `dlogits` (may be empty) gets
/// `weight · class weight · (softmax - onehot)`. Rows without a label do not count.
fn cross_entropy(
    logits: &[f32],
    labels: &[u32],
    outputs: usize,
    class_weights: &[f32],
    weight: f32,
    dlogits: &mut [f32],
) -> f64 {
    let mut total = 0.0;
    for (row, (logits, &class)) in logits.chunks_exact(outputs).zip(labels).enumerate() {
        let d = dlogits.get_mut(row * outputs..(row + 1) * outputs).unwrap_or_default();
        if class == Labels::IGNORED {
            d.fill(0.0);
            continue;
        }
        let class = class as usize;
        let of_class = class_weights.get(class).map_or(1.0, |&weight| f64::from(weight));
        let factor = f64::from(weight) * of_class;
        let loss = softmax(
            outputs,
            |i| logits[i],
            class,
            |i, gradient| {
                if let Some(d) = d.get_mut(i) {
                    *d = (factor * gradient) as f32;
                }
            },
        );
        total += of_class * loss;
    }
    total
}

/// Sum of a loss per element; `dlogits` (may be empty) gets `weight` times its gradient.
fn each(
    logits: &[f32],
    labels: &[u32],
    weight: f32,
    dlogits: &mut [f32],
    loss: impl Fn(f64, f64) -> (f64, f64),
) -> f64 {
    let mut total = 0.0;
    for (i, (&logit, &label)) in logits.iter().zip(labels).enumerate() {
        let (of_element, gradient) = loss(f64::from(logit), f64::from(f32::from_bits(label)));
        total += of_element;
        if let Some(d) = dlogits.get_mut(i) {
            *d = (f64::from(weight) * gradient) as f32;
        }
    }
    total
}

fn squared(logit: f64, value: f64) -> (f64, f64) {
    let difference = logit - value;
    (difference * difference, 2.0 * difference)
}

/// `-y·ln σ(x) - (1 - y)·ln(1 - σ(x))`, in a form that does not overflow for any logit.
fn binary(logit: f64, target: f64) -> (f64, f64) {
    let small = (-logit.abs()).exp();
    let sigmoid = if logit < 0.0 { small / (1.0 + small) } else { 1.0 / (1.0 + small) };
    (logit.max(0.0) - logit * target + small.ln_1p(), sigmoid - target)
}

/// Loss of one sequence: of its start, then of its end. `logits` and `dlogits` are those of the whole batch.
fn span(
    logits: &[f32],
    tokens: Range<usize>,
    ends: &[u32],
    weight: f32,
    dlogits: &mut [f32],
) -> f64 {
    let mut total = 0.0;
    for (column, &label) in ends.iter().enumerate() {
        let at = |i: usize| (tokens.start + i) * 2 + column;
        total += softmax(
            tokens.len(),
            |i| logits[at(i)],
            label as usize,
            |i, gradient| {
                if let Some(d) = dlogits.get_mut(at(i)) {
                    *d = (f64::from(weight) * gradient) as f32;
                }
            },
        );
    }
    total
}
