//! The operations of attention: of all tokens, and of the first of each sequence. Their arithmetic is in
//! [`attention`] and [`first_attention`].

use super::attention::{self, Heads};
use super::colsum::column_sums;
use super::dropout::Mask;
use super::operands::Operands;
use super::params::bias_gradients;
use super::{CpuBackend, first_attention};
use crate::backend::DropoutKey;
use crate::batch::Batch;
use crate::program::{
    Attention, AttentionBack, Dropout, FirstAttention, FirstAttentionBack, Program, Rows,
};
use anyhow::{Result, ensure};

/// Of heads which together are `hidden` columns.
fn shape_of(
    batch: &Batch,
    hidden: usize,
    heads: usize,
    dropout: Dropout,
    key: DropoutKey,
) -> Result<Heads<'_>> {
    ensure!(
        heads > 0 && hidden.is_multiple_of(heads),
        "{hidden} columns do not make {heads} heads"
    );
    Ok(Heads {
        cu_seqlens: &batch.cu_seqlens,
        heads,
        head_dim: hidden / heads,
        mask: Mask::new(dropout, key),
    })
}

/// See [`Attention`].
pub fn forward(cpu: &mut CpuBackend, program: &Program, op: &Attention) -> Result<()> {
    let at = Operands::new(program, &cpu.batch);
    let hidden = at.shape(op.out.0)?.1;
    let shape = shape_of(&cpu.batch, hidden, op.heads, op.dropout, cpu.key)?;
    let [qkv, out, lse] = cpu.arena.regions([
        at.whole(op.qkv.0, (Rows::Tokens, 3 * hidden))?,
        at.whole(op.out.0, (Rows::Tokens, hidden))?,
        at.aside(op.lse.0, (Rows::Tokens, op.heads))?,
    ])?;
    attention::forward(shape, qkv, out, lse, &cpu.scratch);
    Ok(())
}

/// See [`AttentionBack`].
pub fn backward(cpu: &mut CpuBackend, program: &Program, op: &AttentionBack) -> Result<()> {
    let at = Operands::new(program, &cpu.batch);
    let hidden = at.shape(op.out.0)?.1;
    let shape = shape_of(&cpu.batch, hidden, op.heads, op.dropout, cpu.key)?;
    let sums = [op.dquery, op.dvalue];
    let [query, value] = bias_gradients(&mut cpu.params.gradient, sums, hidden)?;
    let (one, three) = ((Rows::Tokens, hidden), (Rows::Tokens, 3 * hidden));
    let [qkv, out, lse, dout, dqkv] = cpu.arena.regions([
        at.whole(op.qkv.0, three)?,
        at.whole(op.out.0, one)?,
        at.whole(op.lse.0, (Rows::Tokens, op.heads))?,
        at.whole(op.dout.0, one)?,
        at.whole(op.dqkv.0, three)?,
    ])?;
    let saved = attention::SavedAttention { qkv, out, lse };
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
    let at = Operands::new(program, &cpu.batch);
    let hidden = at.shape(op.out.0)?.1;
    let shape = shape_of(&cpu.batch, hidden, op.heads, op.dropout, cpu.key)?;
    let first = (Rows::Sequences, hidden);
    let [query, key_value, out, lse] = cpu.arena.regions([
        at.whole(op.query.0, first)?,
        at.whole(op.key_value.0, (Rows::Tokens, 2 * hidden))?,
        at.whole(op.out.0, first)?,
        at.aside(op.lse.0, (Rows::Sequences, op.heads))?,
    ])?;
    first_attention::forward(shape, query, key_value, out, lse, &cpu.scratch);
    Ok(())
}

/// See [`FirstAttentionBack`].
pub fn first_backward(
    cpu: &mut CpuBackend,
    program: &Program,
    op: &FirstAttentionBack,
) -> Result<()> {
    let at = Operands::new(program, &cpu.batch);
    let hidden = at.shape(op.query.0)?.1;
    let shape = shape_of(&cpu.batch, hidden, op.heads, op.dropout, cpu.key)?;
    let sums = [op.dquery, op.dvalue];
    let [query_grad, value_grad] = bias_gradients(&mut cpu.params.gradient, sums, hidden)?;
    let (first, two) = ((Rows::Sequences, hidden), (Rows::Tokens, 2 * hidden));
    let [query, key_value, lse, dout, d_query, d_key_value] = cpu.arena.regions([
        at.whole(op.query.0, first)?,
        at.whole(op.key_value.0, two)?,
        at.whole(op.lse.0, (Rows::Sequences, op.heads))?,
        at.whole(op.dout.0, first)?,
        at.whole(op.d_query.0, first)?,
        at.whole(op.d_key_value.0, two)?,
    ])?;
    let saved = first_attention::SavedFirst { query, key_value, lse };
    first_attention::backward(shape, saved, dout, d_query, d_key_value, &cpu.scratch);
    if let Some(grad) = query_grad {
        column_sums(d_query, hidden, 0, None, grad, &mut cpu.partials);
    }
    if let Some(grad) = value_grad {
        let (width, first) = (2 * hidden, hidden);
        column_sums(d_key_value, width, first, None, grad, &mut cpu.partials);
    }
    Ok(())
}
