//! The task head's operations that are not matrix products: pooling and the first tokens.

use super::CpuBackend;
use super::operands::Operands;
use crate::program::{AddFirst, First, Pool, PoolBack, PoolKind, Program, Rows};
use anyhow::Result;

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
    let shape = (Rows::Tokens, at.shape(op.x.0)?.1);
    let rows = op.kind.rows();
    op.kind.check(rows)?;
    let pooled = at.whole(op.out.0, (rows, shape.1))?;
    let [x, pooled] = cpu.arena.regions([at.whole(op.x.0, shape)?, pooled])?;
    if let Rows::Labelled(_) = rows {
        for (row, &token) in pooled.chunks_exact_mut(shape.1).zip(&cpu.batch.labelled) {
            row.copy_from_slice(&x[token as usize * shape.1..][..shape.1]);
        }
    } else {
        pool_forward(op.kind, &cpu.batch.cu_seqlens, shape.1, x, pooled);
    }
    Ok(())
}

/// See [`PoolBack`].
pub fn pool_back(cpu: &mut CpuBackend, program: &Program, op: &PoolBack) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let shape = (Rows::Tokens, at.shape(op.dx.0)?.1);
    let rows = op.kind.rows();
    op.kind.check(rows)?;
    let pooled = at.whole(op.dy.0, (rows, shape.1))?;
    let [dx, dy] = cpu.arena.regions([at.whole(op.dx.0, shape)?, pooled])?;
    if let Rows::Labelled(_) = rows {
        dx.fill(0.0);
        for (row, &token) in dy.chunks_exact(shape.1).zip(&cpu.batch.labelled) {
            dx[token as usize * shape.1..][..shape.1].copy_from_slice(row);
        }
    } else {
        pool_backward(op.kind, &cpu.batch.cu_seqlens, shape.1, dx, dy);
    }
    Ok(())
}

/// `pooled[s] = pool(x[tokens of s])`.
fn pool_forward(kind: PoolKind, cu_seqlens: &[u32], hidden: usize, x: &[f32], pooled: &mut [f32]) {
    for (pooled, window) in pooled.chunks_exact_mut(hidden).zip(cu_seqlens.windows(2)) {
        let rows = &x[window[0] as usize * hidden..window[1] as usize * hidden];
        if kind == PoolKind::Mean {
            pooled.fill(0.0);
            for row in rows.chunks_exact(hidden) {
                super::pointwise::add(pooled, row);
            }
            super::pointwise::scale(pooled, 1.0 / (window[1] - window[0]) as f32);
        } else {
            pooled.copy_from_slice(&rows[..hidden]);
        }
    }
}

/// Spreads the gradient of the pooled vectors over all token rows, writing every row.
fn pool_backward(
    kind: PoolKind,
    cu_seqlens: &[u32],
    hidden: usize,
    dx: &mut [f32],
    d_pooled: &[f32],
) {
    for (d_pooled, window) in d_pooled.chunks_exact(hidden).zip(cu_seqlens.windows(2)) {
        let rows = &mut dx[window[0] as usize * hidden..window[1] as usize * hidden];
        if kind == PoolKind::Mean {
            let share = 1.0 / (window[1] - window[0]) as f32;
            for row in rows.chunks_exact_mut(hidden) {
                row.copy_from_slice(d_pooled);
                super::pointwise::scale(row, share);
            }
        } else {
            let (first, rest) = rows.split_at_mut(hidden);
            first.copy_from_slice(d_pooled);
            rest.fill(0.0);
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
