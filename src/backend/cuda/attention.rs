//! Self-attention within each sequence.

use super::args::*;
use super::column_sums::{Tiles, address};
use super::launch::AttentionKind;
use super::operands::{LaunchOperands, head_dim};
use super::to_u32;
use crate::program::{Attention, AttentionBack, Dropout, Rows, Value};
use anyhow::{Context, Result};
use bytemuck::Zeroable;

/// See [`Attention`].
pub fn forward(at: &LaunchOperands<'_>, op: &Attention) -> Result<()> {
    let args = AttentionArgs {
        lse: at.aside(op.lse.0)?,
        ..arguments(at, op.qkv.0, op.out.0, op.heads, op.dropout)?
    };
    let shape = at.memory.batch.grid;
    at.lane.attention(AttentionKind::Forward, shape.max_len, shape.sequences, args)
}

/// See [`AttentionBack`].
pub fn backward(at: &LaunchOperands<'_>, op: &AttentionBack) -> Result<()> {
    let shape = at.memory.batch.grid;
    let hidden = at.width(op.out.0);
    // Decided by the recording's bucket too, so that each of its batches goes the same way.
    let (kinds, tile): (&[AttentionKind], _) = if shape.max_len <= SHORT_KEYS {
        (&[AttentionKind::BackwardShort], SHORT_KEYS)
    } else {
        let both = &[AttentionKind::BackwardQ, AttentionKind::BackwardKv];
        (both, ATTENTION_ROWS)
    };
    // One row of partial sums per tile; tiles do not cross sequences.
    let slots = shape.tokens / tile + shape.sequences + 1;
    let [query, value] = at.room([op.dquery, op.dvalue], slots, hidden)?;
    let args = AttentionArgs {
        lse: at.at(op.lse.0)?,
        dout: at.at(op.dout.0)?,
        dqkv: at.at(op.dqkv.0)?,
        delta: at.memory.delta.at(0, op.heads * shape.tokens * 4)?,
        partial_query: address(query),
        partial_value: address(value),
        ..arguments(at, op.qkv.0, op.out.0, op.heads, op.dropout)?
    };
    for &kind in kinds {
        at.lane
            .attention(kind, shape.max_len, shape.sequences, args)
            .with_context(|| format!("{kind:?}"))?;
    }
    let tiles = Tiles { by_sequence: true, ..Tiles::of(Rows::Tokens, tile) };
    at.finish([query, value], tiles)
}

fn arguments(
    at: &LaunchOperands<'_>,
    qkv: Value,
    out: Value,
    heads: usize,
    dropout: Dropout,
) -> Result<AttentionArgs> {
    let head_dim = head_dim(at.width(out), heads)?;
    Ok(AttentionArgs {
        batch: at.memory.batch.header()?,
        cu_seqlens: at.memory.batch.bounds()?,
        qkv: at.at(qkv)?,
        out: at.at(out)?,
        dropout: dropout.into(),
        heads: to_u32(heads)?,
        head_dim: to_u32(head_dim)?,
        scale: 1.0 / (head_dim as f32).sqrt(),
        ..Zeroable::zeroed()
    })
}
