//! The first token of each sequence: its row among all tokens, and its attention.

use super::args::*;
use super::memory::Address;
use super::{CudaBackend, check_width, to_u32};
use crate::backend::{
    Dropout, FirstAttentionBackward, FirstAttentionForward, FirstTokens, ParamRange, Region, Rows,
};
use anyhow::{Context, Result};
use bytemuck::Zeroable;

pub fn gather(cuda: &CudaBackend, op: FirstTokens) -> Result<()> {
    let sequences = cuda.memory()?.batch.grid.sequences;
    cuda.kernels
        .gather_first(sequences, rows(cuda, op)?)
        .context("rows of the first tokens")
}

pub fn add(cuda: &CudaBackend, op: FirstTokens) -> Result<()> {
    let sequences = cuda.memory()?.batch.grid.sequences;
    cuda.kernels
        .add_first(sequences, rows(cuda, op)?)
        .context("gradient of the first tokens")
}

pub fn attention_forward(cuda: &CudaBackend, op: FirstAttentionForward) -> Result<()> {
    let memory = cuda.memory()?;
    let shape = memory.batch.grid;
    let inputs = (op.query, op.key_value);
    let args = FirstAttentionArgs {
        out: memory.activation(op.out, shape.sequences, op.heads * op.head_dim)?,
        lse: match op.lse {
            Some(region) => memory.f32(region, shape.sequences, op.heads)?,
            None => Address::NULL,
        },
        ..arguments(cuda, inputs, op.heads, op.head_dim, op.dropout)?
    };
    cuda.kernels
        .first_attention(false, shape.max_len, shape.sequences, args)
        .context("attention of the first tokens, forward")
}

pub fn attention_backward(cuda: &CudaBackend, op: FirstAttentionBackward) -> Result<()> {
    let memory = cuda.memory()?;
    let shape = memory.batch.grid;
    let hidden = op.heads * op.head_dim;
    // A row of partial sums for each sequence.
    let partial = |which, wanted: Option<ParamRange>| {
        wanted
            .map(|grad| anyhow::Ok((memory.partial(which, shape.sequences * hidden)?, grad)))
            .transpose()
    };
    let query: Option<(Address, ParamRange)> = partial(0, op.dbias_query)?;
    let value = partial(1, op.dbias_value)?;
    let address = |sums: Option<(Address, ParamRange)>| sums.map_or(Address::NULL, |s| s.0);
    let inputs = (op.query, op.key_value);
    let args = FirstAttentionArgs {
        lse: memory.f32(op.lse, shape.sequences, op.heads)?,
        dout: memory.activation(op.dout, shape.sequences, hidden)?,
        d_query: memory.activation(op.d_query, shape.sequences, hidden)?,
        d_key_value: memory.activation(op.d_key_value, shape.tokens, 2 * hidden)?,
        partial_query: address(query),
        partial_value: address(value),
        ..arguments(cuda, inputs, op.heads, op.head_dim, op.dropout)?
    };
    cuda.kernels
        .first_attention(true, shape.max_len, shape.sequences, args)
        .context("attention of the first tokens, backward")?;
    if query.is_none() && value.is_none() {
        return Ok(());
    }
    memory
        .finish_columns(
            &cuda.kernels,
            [query, value],
            hidden,
            1,
            Rows::Sequences,
            false,
        )
        .context("bias gradients of the first tokens' attention")
}

fn rows(cuda: &CudaBackend, op: FirstTokens) -> Result<FirstTokenArgs> {
    let memory = cuda.memory()?;
    check_width(op.hidden, "a hidden size")?;
    let shape = memory.batch.grid;
    Ok(FirstTokenArgs {
        batch: memory.batch.header()?,
        cu_seqlens: memory.batch.bounds()?,
        tokens: memory.activation(op.tokens, shape.tokens, op.hidden)?,
        first: memory.activation(op.first, shape.sequences, op.hidden)?,
        width: to_u32(op.hidden)?,
        padding: 0,
    })
}

fn arguments(
    cuda: &CudaBackend,
    (query, key_value): (Region, Region),
    heads: usize,
    head_dim: usize,
    dropout: Dropout,
) -> Result<FirstAttentionArgs> {
    let memory = cuda.memory()?;
    check_width(head_dim, "a head dimension")?;
    let (shape, hidden) = (memory.batch.grid, heads * head_dim);
    Ok(FirstAttentionArgs {
        batch: memory.batch.header()?,
        cu_seqlens: memory.batch.bounds()?,
        query: memory.activation(query, shape.sequences, hidden)?,
        key_value: memory.activation(key_value, shape.tokens, 2 * hidden)?,
        dropout: dropout.into(),
        heads: to_u32(heads)?,
        head_dim: to_u32(head_dim)?,
        scale: 1.0 / (head_dim as f32).sqrt(),
        ..Zeroable::zeroed()
    })
}
