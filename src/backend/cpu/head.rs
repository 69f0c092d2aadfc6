//! The task head's operations that are not matrix products: pooling, the first tokens, and the losses.

use super::CpuBackend;
use super::operands::Operands;
use crate::backend::check;
use crate::batch::Labels;
use crate::program::{AddFirst, First, Loss, LossKind, Pool, PoolBack, PoolKind, Program, Rows};
use anyhow::{Result, bail, ensure};

/// See [`First`].
pub fn first(cpu: &mut CpuBackend, program: &Program, op: &First) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let hidden = at.shape(op.out.0)?.1;
    let [tokens, first] = cpu.arena.regions([
        at.whole(op.tokens.0, (Rows::Tokens, hidden))?,
        at.whole(op.out.0, (Rows::Sequences, hidden))?,
    ])?;
    each_first(&cpu.batch.cu_seqlens, hidden, tokens, first, |token, first| {
        first.copy_from_slice(token);
    });
    Ok(())
}

/// See [`AddFirst`].
pub fn add_first(cpu: &mut CpuBackend, program: &Program, op: &AddFirst) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let hidden = at.shape(op.first.0)?.1;
    let [tokens, first] = cpu.arena.regions([
        at.over(op.tokens, (Rows::Tokens, hidden))?,
        at.whole(op.first.0, (Rows::Sequences, hidden))?,
    ])?;
    each_first(&cpu.batch.cu_seqlens, hidden, tokens, first, |token, first| {
        super::pointwise::add(token, first);
    });
    Ok(())
}

/// See [`Pool`].
pub fn pool(cpu: &mut CpuBackend, program: &Program, op: &Pool) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let shape = at.shape(op.x.0)?;
    check::pool(op.kind, &program.tensor(op.x.0))?;
    let pooled = at.whole(op.out.0, (Rows::Sequences, shape.1))?;
    let [x, pooled] = cpu.arena.regions([at.whole(op.x.0, shape)?, pooled])?;
    match shape.0 {
        Rows::Tokens => pool_forward(op.kind, &cpu.batch.cu_seqlens, shape.1, x, pooled),
        Rows::Sequences => pooled.copy_from_slice(x),
    }
    Ok(())
}

/// See [`PoolBack`].
pub fn pool_back(cpu: &mut CpuBackend, program: &Program, op: &PoolBack) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let shape = at.shape(op.dx.0)?;
    check::pool(op.kind, &program.tensor(op.dx.0))?;
    let pooled = at.whole(op.dy.0, (Rows::Sequences, shape.1))?;
    let [dx, dy] = cpu.arena.regions([at.whole(op.dx.0, shape)?, pooled])?;
    match shape.0 {
        Rows::Tokens => pool_backward(op.kind, &cpu.batch.cu_seqlens, shape.1, dx, dy),
        Rows::Sequences => dx.copy_from_slice(dy),
    }
    Ok(())
}

/// See [`Loss`].
pub fn loss(cpu: &mut CpuBackend, program: &Program, op: &Loss, weight: f32) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let outputs = at.shape(op.logits.0)?.1;
    ensure!(
        op.kind == LossKind::CrossEntropy || outputs == 1,
        "a squared error of {outputs} outputs"
    );
    let shape = (Rows::Sequences, outputs);
    let [logits, dlogits] =
        cpu.arena.regions([at.whole(op.logits.0, shape)?, at.aside(op.dlogits.0, shape)?])?;
    let labels = &cpu.batch.labels;
    let sum = match op.kind {
        LossKind::CrossEntropy => cross_entropy(logits, outputs, labels, weight, dlogits)?,
        LossKind::MeanSquared => mean_squared(logits, labels, weight, dlogits)?,
    };
    cpu.loss += f64::from(weight) * sum;
    Ok(())
}

/// `pooled[s] = pool(x[tokens of s])`.
fn pool_forward(kind: PoolKind, cu_seqlens: &[u32], hidden: usize, x: &[f32], pooled: &mut [f32]) {
    for (pooled, window) in pooled.chunks_exact_mut(hidden).zip(cu_seqlens.windows(2)) {
        let rows = &x[window[0] as usize * hidden..window[1] as usize * hidden];
        match kind {
            PoolKind::Cls => pooled.copy_from_slice(&rows[..hidden]),
            PoolKind::Mean => {
                pooled.fill(0.0);
                for row in rows.chunks_exact(hidden) {
                    super::pointwise::add(pooled, row);
                }
                super::pointwise::scale(pooled, 1.0 / (window[1] - window[0]) as f32);
            }
        }
    }
}

/// Spreads the gradient of the pooled vectors over all token rows; every row is written.
fn pool_backward(
    kind: PoolKind,
    cu_seqlens: &[u32],
    hidden: usize,
    dx: &mut [f32],
    d_pooled: &[f32],
) {
    for (d_pooled, window) in d_pooled.chunks_exact(hidden).zip(cu_seqlens.windows(2)) {
        let rows = &mut dx[window[0] as usize * hidden..window[1] as usize * hidden];
        match kind {
            PoolKind::Cls => {
                let (first, rest) = rows.split_at_mut(hidden);
                first.copy_from_slice(d_pooled);
                rest.fill(0.0);
            }
            PoolKind::Mean => {
                let share = 1.0 / (window[1] - window[0]) as f32;
                for row in rows.chunks_exact_mut(hidden) {
                    row.copy_from_slice(d_pooled);
                    super::pointwise::scale(row, share);
                }
            }
        }
    }
}

/// Pairs the first token's row of each sequence with its row of `first`.
fn each_first<'a>(
    cu_seqlens: &'a [u32],
    hidden: usize,
    tokens: &'a mut [f32],
    first: &'a mut [f32],
    mut work: impl FnMut(&mut [f32], &mut [f32]),
) {
    for (first, start) in first.chunks_exact_mut(hidden).zip(cu_seqlens) {
        work(&mut tokens[*start as usize * hidden..][..hidden], first);
    }
}

/// Sum over the sequences of softmax cross-entropy; `dlogits` (may be empty) gets `weight · (softmax - onehot)`.
///
/// # Errors
/// When the batch has no class labels, or one that the head has no output for.
fn cross_entropy(
    logits: &[f32],
    outputs: usize,
    labels: &Labels,
    weight: f32,
    dlogits: &mut [f32],
) -> Result<f64> {
    let Labels::Classes(classes) = labels else {
        bail!("cross-entropy needs class labels");
    };
    ensure!(
        classes.len() * outputs == logits.len(),
        "the batch has {} class labels for {} sequences",
        classes.len(),
        logits.len() / outputs
    );
    let mut total = 0.0;
    for (s, (logits, &class)) in logits.chunks_exact(outputs).zip(classes).enumerate() {
        let class = class as usize;
        ensure!(class < outputs, "label {class} of sequence {s}: the head has {outputs} outputs");
        // A few numbers per sequence: f64 costs nothing here and keeps small losses exact.
        let most = logits.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        let exps = |x: f32| f64::from(x - most).exp();
        let sum: f64 = logits.iter().map(|&x| exps(x)).sum();
        total += sum.ln() - f64::from(logits[class] - most);
        if let Some(d) = dlogits.get_mut(s * outputs..(s + 1) * outputs) {
            for (j, (d, &x)) in d.iter_mut().zip(logits).enumerate() {
                let target = if j == class { 1.0 } else { 0.0 };
                *d = (f64::from(weight) * (exps(x) / sum - target)) as f32;
            }
        }
    }
    Ok(total)
}

/// Sum over the sequences of `(logit - label)²`; `dlogits` (may be empty) gets `2 · weight · (logit - label)`.
///
/// # Errors
/// When the batch has no values for labels.
fn mean_squared(logits: &[f32], labels: &Labels, weight: f32, dlogits: &mut [f32]) -> Result<f64> {
    let Labels::Values(values) = labels else {
        bail!("the squared error needs numbers for labels");
    };
    ensure!(
        values.len() == logits.len(),
        "the batch has {} values for labels and {} sequences",
        values.len(),
        logits.len()
    );
    let mut total = 0.0;
    for (s, (&logit, &value)) in logits.iter().zip(values).enumerate() {
        let difference = f64::from(logit) - f64::from(value);
        total += difference * difference;
        if let Some(d) = dlogits.get_mut(s) {
            *d = (2.0 * f64::from(weight) * difference) as f32;
        }
    }
    Ok(total)
}
