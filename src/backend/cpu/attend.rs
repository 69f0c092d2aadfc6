//! Attention as operations of a program: over all tokens, and of the first tokens alone.

use super::CpuBackend;
use super::attention::{self, Shape};
use super::colsum::column_sums;
use super::dropout::Mask;
use super::first_attention;
use super::run::{aside, at, bias_gradients};
use crate::program::{
    Attention, AttentionBack, Dropout, FirstAttention, FirstAttentionBack, Program, Value,
};
use anyhow::{Result, ensure};

/// Columns of a value that is as wide as all heads.
fn hidden(program: &Program, value: Value, heads: usize) -> Result<usize> {
    let width = program.tensor(value).width;
    ensure!(
        heads > 0 && width > 0 && width.is_multiple_of(heads),
        "{heads} heads of {width} columns together"
    );
    Ok(width)
}

fn mask(cpu: &CpuBackend, dropout: Dropout) -> Option<Mask> {
    Mask::new(dropout, cpu.key)
}

/// See [`Attention`].
pub fn forward(cpu: &mut CpuBackend, program: &Program, op: &Attention) -> Result<()> {
    let hidden = hidden(program, op.out.0, op.heads)?;
    let mask = mask(cpu, op.dropout);
    let batch = &cpu.batch;
    let [qkv, out, lse] = cpu.arena.regions([
        at(program, batch, op.qkv.0),
        at(program, batch, op.out.0),
        aside(program, batch, op.lse.0),
    ])?;
    let shape = Shape {
        cu_seqlens: &batch.cu_seqlens,
        heads: op.heads,
        head_dim: hidden / op.heads,
        mask,
    };
    attention::forward(shape, qkv, out, lse, &cpu.scratch);
    Ok(())
}

/// See [`AttentionBack`].
pub fn backward(cpu: &mut CpuBackend, program: &Program, op: &AttentionBack) -> Result<()> {
    let hidden = hidden(program, op.out.0, op.heads)?;
    let mask = mask(cpu, op.dropout);
    let sums = [op.dquery, op.dvalue];
    let [query, value] = bias_gradients(&mut cpu.params.gradient, sums, hidden)?;
    let batch = &cpu.batch;
    let [qkv, out, lse, dout, dqkv] = cpu.arena.regions([
        at(program, batch, op.qkv.0),
        at(program, batch, op.out.0),
        at(program, batch, op.lse.0),
        at(program, batch, op.dout.0),
        at(program, batch, op.dqkv.0),
    ])?;
    let shape = Shape {
        cu_seqlens: &batch.cu_seqlens,
        heads: op.heads,
        head_dim: hidden / op.heads,
        mask,
    };
    let saved = attention::Saved { qkv, out, lse };
    attention::backward(shape, saved, dout, dqkv, &cpu.scratch);
    for (part, grad) in [(0, query), (2, value)] {
        if let Some(grad) = grad {
            let (width, first) = (3 * hidden, part * hidden);
            column_sums(dqkv, width, first, None, grad, &mut cpu.partials);
        }
    }
    Ok(())
}

/// See [`FirstAttention`].
pub fn first_forward(cpu: &mut CpuBackend, program: &Program, op: &FirstAttention) -> Result<()> {
    let hidden = hidden(program, op.query.0, op.heads)?;
    let mask = mask(cpu, op.dropout);
    let batch = &cpu.batch;
    let [query, key_value, out, lse] = cpu.arena.regions([
        at(program, batch, op.query.0),
        at(program, batch, op.key_value.0),
        at(program, batch, op.out.0),
        aside(program, batch, op.lse.0),
    ])?;
    let shape = Shape {
        cu_seqlens: &batch.cu_seqlens,
        heads: op.heads,
        head_dim: hidden / op.heads,
        mask,
    };
    first_attention::forward(shape, query, key_value, out, lse, &cpu.scratch);
    Ok(())
}

/// See [`FirstAttentionBack`].
pub fn first_backward(
    cpu: &mut CpuBackend,
    program: &Program,
    op: &FirstAttentionBack,
) -> Result<()> {
    let hidden = hidden(program, op.query.0, op.heads)?;
    let mask = mask(cpu, op.dropout);
    let sums = [op.dquery, op.dvalue];
    let [dquery, dvalue] = bias_gradients(&mut cpu.params.gradient, sums, hidden)?;
    let batch = &cpu.batch;
    let [query, key_value, lse, dout, d_query, d_key_value] = cpu.arena.regions([
        at(program, batch, op.query.0),
        at(program, batch, op.key_value.0),
        at(program, batch, op.lse.0),
        at(program, batch, op.dout.0),
        at(program, batch, op.d_query.0),
        at(program, batch, op.d_key_value.0),
    ])?;
    let shape = Shape {
        cu_seqlens: &batch.cu_seqlens,
        heads: op.heads,
        head_dim: hidden / op.heads,
        mask,
    };
    let saved = first_attention::Saved {
        query,
        key_value,
        lse,
    };
    first_attention::backward(shape, saved, dout, d_query, d_key_value, &cpu.scratch);
    if let Some(grad) = dquery {
        column_sums(d_query, hidden, 0, None, grad, &mut cpu.partials);
    }
    if let Some(grad) = dvalue {
        let (width, first) = (2 * hidden, hidden);
        column_sums(d_key_value, width, first, None, grad, &mut cpu.partials);
    }
    Ok(())
}
