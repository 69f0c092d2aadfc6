//! Self-attention within each sequence.

use super::args::*;
use super::launch::{ATTENTION_SHORT, ATTENTION_TILE, AttentionKind};
use super::memory::Address;
use super::{CudaBackend, check_width, to_u32};
use crate::backend::{AttentionBackward, AttentionForward, Dropout, ParamRange, Region, Rows};
use anyhow::{Context, Result};
use bytemuck::Zeroable;

pub fn forward(cuda: &CudaBackend, op: AttentionForward) -> Result<()> {
    let memory = cuda.memory()?;
    let args = AttentionArgs {
        lse: match op.lse {
            Some(region) => memory.f32(region, op.heads, memory.batch.grid.tokens)?,
            None => Address::NULL,
        },
        ..arguments(cuda, op.qkv, op.out, op.heads, op.head_dim, op.dropout)?
    };
    let shape = memory.batch.grid;
    cuda.kernels
        .attention(AttentionKind::Forward, shape.max_len, shape.sequences, args)
        .context("attention, forward")
}

pub fn backward(cuda: &CudaBackend, op: AttentionBackward) -> Result<()> {
    let memory = cuda.memory()?;
    let shape = memory.batch.grid;
    let hidden = op.heads * op.head_dim;
    // By what a recording's bucket says, too, so that each of its batches takes the same way.
    let (kinds, tile): (&[AttentionKind], _) = if shape.max_len <= ATTENTION_SHORT {
        (&[AttentionKind::BackwardShort], ATTENTION_SHORT)
    } else {
        let both = &[AttentionKind::BackwardQ, AttentionKind::BackwardKv];
        (both, ATTENTION_TILE)
    };
    // One row of partial sums for each tile; tiles do not cross sequences.
    let slots = shape.tokens / tile + shape.sequences + 1;
    let partial = |which, wanted: Option<ParamRange>| {
        wanted
            .map(|grad| anyhow::Ok((memory.partial(which, slots * hidden)?, grad)))
            .transpose()
    };
    let query = partial(0, op.dbias_query)?;
    let value: Option<(Address, ParamRange)> = partial(1, op.dbias_value)?;
    let address = |sums: Option<(Address, ParamRange)>| sums.map_or(Address::NULL, |s| s.0);
    let args = AttentionArgs {
        lse: memory.f32(op.lse, op.heads, shape.tokens)?,
        dout: memory.activation(op.dout, shape.tokens, hidden)?,
        dqkv: memory.activation(op.dqkv, shape.tokens, 3 * hidden)?,
        delta: memory.delta.at(0, op.heads * shape.tokens * 4)?,
        partial_query: address(query),
        partial_value: address(value),
        ..arguments(cuda, op.qkv, op.out, op.heads, op.head_dim, op.dropout)?
    };
    for &kind in kinds {
        cuda.kernels
            .attention(kind, shape.max_len, shape.sequences, args)
            .with_context(|| format!("attention, {kind:?}"))?;
    }
    if query.is_none() && value.is_none() {
        return Ok(());
    }
    memory
        .finish_columns(
            &cuda.kernels,
            [query, value],
            hidden,
            tile,
            Rows::Tokens,
            true,
        )
        .context("bias gradients of q and v")
}

fn arguments(
    cuda: &CudaBackend,
    qkv: Region,
    out: Region,
    heads: usize,
    head_dim: usize,
    dropout: Dropout,
) -> Result<AttentionArgs> {
    let memory = cuda.memory()?;
    check_width(head_dim, "a head dimension")?;
    let (tokens, hidden) = (memory.batch.grid.tokens, heads * head_dim);
    Ok(AttentionArgs {
        batch: memory.batch.header()?,
        cu_seqlens: memory.batch.bounds()?,
        qkv: memory.activation(qkv, tokens, 3 * hidden)?,
        out: memory.activation(out, tokens, hidden)?,
        dropout: dropout.into(),
        heads: to_u32(heads)?,
        head_dim: to_u32(head_dim)?,
        scale: 1.0 / (head_dim as f32).sqrt(),
        ..Zeroable::zeroed()
    })
}
