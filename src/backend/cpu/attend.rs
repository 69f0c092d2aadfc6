//! The attention operations: of all tokens, and of the first token of each sequence. Their arithmetic is in
//! [`attention`] and [`first_attention`].

use super::attention_bf16::{Forward, Saved};
use super::colsum::{self, column_sums};
use super::dropout::Mask;
use super::elements::{Arithmetic, Elements, Source, Stored};
use super::heads::{Heads, SequenceSums};
use super::operands::Operands;
use super::params::bias_gradients;
use super::share::Shared;
use super::{CpuBackend, attention, attention_bf16, first_attention};
use crate::backend::DropoutKey;
use crate::batch::Batch;
use crate::program::{
    Attention, AttentionBack, Dropout, FirstAttention, FirstAttentionBack, Program, Rows,
};
use anyhow::{Result, bail, ensure};
use bytemuck::{cast_slice, cast_slice_mut};

/// For heads that are `hidden` columns together; `queries` are the tokens, or the first of each sequence.
fn shape_of(
    batch: &Batch,
    hidden: usize,
    heads: usize,
    dropout: Dropout,
    key: DropoutKey,
    queries: Rows,
) -> Result<Heads<'_>> {
    ensure!(
        heads > 0 && hidden.is_multiple_of(heads),
        "{hidden} columns do not make {heads} heads"
    );
    Ok(Heads {
        cu_seqlens: &batch.cu_seqlens,
        heads,
        head_dim: hidden / heads,
        mask: Mask::new(dropout, key, (queries, heads)),
    })
}

/// `grad += sum of the lines`, if requested.
fn finish(lines: &mut [f32], grad: Option<&mut [f32]>) {
    if let Some(grad) = grad {
        colsum::finish(lines, grad);
    }
}

/// See [`Attention`].
pub fn forward(cpu: &mut CpuBackend, program: &Program, op: &Attention) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let hidden = at.shape(op.out.0)?.1;
    let shape = shape_of(&cpu.batch, hidden, op.heads, op.dropout, cpu.key, Rows::Tokens)?;
    let (qkv, stored) = at.stored(op.qkv.0, (Rows::Tokens, 3 * hidden))?;
    let (out, out_stored) = at.stored(op.out.0, (Rows::Tokens, hidden))?;
    let lse = at.aside(op.lse.0, (Rows::Tokens, op.heads))?;
    let [qkv, out, lse] = cpu.arena.regions([qkv, out, lse])?;
    match (Source::new(stored, qkv)?, Elements::new(out_stored, out)?) {
        (Source::F32(qkv), Elements::F32(_)) => {
            attention::forward(shape, qkv, out, lse, &cpu.workers);
        }
        (Source::Bf16(qkv), Elements::Bf16(out)) => {
            let lse = (!lse.is_empty()).then(|| Shared::new(lse));
            attention_bf16::forward(shape, Forward { qkv, out, lse }, &cpu.workers);
        }
        _ => bail!("q, k and v are stored as {stored:?}, and attention's output as {out_stored:?}"),
    }
    Ok(())
}

/// See [`AttentionBack`].
pub fn backward(cpu: &mut CpuBackend, program: &Program, op: &AttentionBack) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let hidden = at.shape(op.out.0)?.1;
    let shape = shape_of(&cpu.batch, hidden, op.heads, op.dropout, cpu.key, Rows::Tokens)?;
    let sums = [op.dquery, op.dvalue];
    let [query, value] = bias_gradients(&mut cpu.params.gradient, sums, hidden)?;
    let (one, three) = ((Rows::Tokens, hidden), (Rows::Tokens, 3 * hidden));
    let (qkv, qkv_stored) = at.stored(op.qkv.0, three)?;
    let (out, out_stored) = at.stored(op.out.0, one)?;
    let lse = at.whole(op.lse.0, (Rows::Tokens, op.heads))?;
    let (dout, dout_stored) = at.stored(op.dout.0, one)?;
    let (dqkv, dqkv_stored) = at.stored(op.dqkv.0, three)?;
    let [qkv, out, lse, dout, dqkv] = cpu.arena.regions([qkv, out, lse, dout, dqkv])?;
    let stored = [qkv_stored, out_stored, dout_stored, dqkv_stored];
    match stored {
        [Stored::F32, Stored::F32, Stored::F32, Stored::F32] => {
            let saved = attention::SavedAttention { qkv, out, lse };
            attention::backward(shape, saved, dout, dqkv, &cpu.workers);
            for (part, grad) in [(0, query), (2, value)] {
                if let Some(grad) = grad {
                    let (width, first) = (3 * hidden, part * hidden);
                    column_sums(dqkv, width, first, None, grad, &mut cpu.partials, &cpu.workers);
                }
            }
        }
        [Stored::Bf16, _, Stored::Bf16, Stored::Bf16] => {
            let (query_lines, value_lines) = cpu.partials.lines(cpu.batch.sequences(), hidden);
            let gradients = attention_bf16::Gradients {
                dqkv: Shared::new(cast_slice_mut(dqkv)),
                query: SequenceSums::new(query_lines),
                value: SequenceSums::new(value_lines),
            };
            let saved = Saved { qkv: cast_slice(qkv), lse, dout: cast_slice(dout) };
            attention_bf16::backward(shape, saved, gradients, &cpu.workers);
            finish(query_lines, query);
            finish(value_lines, value);
        }
        _ => bail!("q, k, v, attention's output and their gradients are stored as {stored:?}"),
    }
    Ok(())
}

/// See [`FirstAttention`].
pub fn first_forward(cpu: &mut CpuBackend, program: &Program, op: &FirstAttention) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let hidden = at.shape(op.out.0)?.1;
    let shape = shape_of(&cpu.batch, hidden, op.heads, op.dropout, cpu.key, Rows::Sequences)?;
    let first = (Rows::Sequences, hidden);
    let (query, query_stored) = at.stored(op.query.0, first)?;
    let (key_value, stored) = at.stored(op.key_value.0, (Rows::Tokens, 2 * hidden))?;
    let (out, out_stored) = at.stored(op.out.0, first)?;
    let lse = at.aside(op.lse.0, (Rows::Sequences, op.heads))?;
    let [query, key_value, out, lse] = cpu.arena.regions([query, key_value, out, lse])?;
    let (query, key_value) = (Source::new(query_stored, query)?, Source::new(stored, key_value)?);
    let out = Elements::new(out_stored, out)?;
    first_attention::forward(shape, query, key_value, out, lse, &cpu.workers);
    Ok(())
}

/// See [`FirstAttentionBack`].
pub fn first_backward(
    cpu: &mut CpuBackend,
    program: &Program,
    op: &FirstAttentionBack,
) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let hidden = at.shape(op.query.0)?.1;
    let shape = shape_of(&cpu.batch, hidden, op.heads, op.dropout, cpu.key, Rows::Sequences)?;
    let sums = [op.dquery, op.dvalue];
    let [query_grad, value_grad] = bias_gradients(&mut cpu.params.gradient, sums, hidden)?;
    let (first, two) = ((Rows::Sequences, hidden), (Rows::Tokens, 2 * hidden));
    let (query, query_stored) = at.stored(op.query.0, first)?;
    let (key_value, stored) = at.stored(op.key_value.0, two)?;
    let lse = at.whole(op.lse.0, (Rows::Sequences, op.heads))?;
    let (dout, dout_stored) = at.stored(op.dout.0, first)?;
    let (d_query, d_query_stored) = at.stored(op.d_query.0, first)?;
    let (d_key_value, d_stored) = at.stored(op.d_key_value.0, two)?;
    let [query, key_value, lse, dout, d_query, d_key_value] =
        cpu.arena.regions([query, key_value, lse, dout, d_query, d_key_value])?;
    let (query, key_value) = (Source::new(query_stored, query)?, Source::new(stored, key_value)?);
    let in_bf16 = cpu.arithmetic == Arithmetic::Bf16;
    let sequences = if in_bf16 { cpu.batch.sequences() } else { 0 };
    let (query_lines, value_lines) = cpu.partials.lines(sequences, hidden);
    let saved = first_attention::SavedFirst { query, key_value, lse };
    let gradients = first_attention::FirstGradients {
        d_query: Elements::new(d_query_stored, d_query)?,
        d_key_value: Elements::new(d_stored, d_key_value)?,
        query: SequenceSums::new(query_lines),
        value: SequenceSums::new(value_lines),
    };
    let dout = Source::new(dout_stored, dout)?;
    first_attention::backward(shape, saved, dout, gradients, &cpu.workers);
    if in_bf16 {
        finish(query_lines, query_grad);
        finish(value_lines, value_grad);
        return Ok(());
    }
    if let Some(grad) = query_grad {
        column_sums(d_query, hidden, 0, None, grad, &mut cpu.partials, &cpu.workers);
    }
    if let Some(grad) = value_grad {
        let (width, first) = (2 * hidden, hidden);
        column_sums(d_key_value, width, first, None, grad, &mut cpu.partials, &cpu.workers);
    }
    Ok(())
}
