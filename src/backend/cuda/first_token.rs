//! The first token of each sequence: its row among all tokens, and its attention.

use super::args::*;
use super::column_sums::{Tiles, address};
use super::operands::{LaunchOperands, head_dim};
use super::{check_width, to_u32};
use crate::program::{AddFirst, Dropout, First, FirstAttention, FirstAttentionBack, Rows, Value};
use anyhow::Result;
use bytemuck::Zeroable;

/// See [`First`].
pub fn gather(at: &LaunchOperands<'_>, op: &First) -> Result<()> {
    let sequences = at.memory.batch.grid.sequences;
    at.lane.gather_first(sequences, rows(at, op.tokens.0, op.out.0)?)
}

/// See [`AddFirst`].
pub fn add(at: &LaunchOperands<'_>, op: &AddFirst) -> Result<()> {
    let sequences = at.memory.batch.grid.sequences;
    at.lane.add_first(sequences, rows(at, op.tokens.now, op.first.0)?)
}

/// See [`FirstAttention`].
pub fn attend(at: &LaunchOperands<'_>, op: &FirstAttention) -> Result<()> {
    let args = FirstAttentionArgs {
        out: at.at(op.out.0)?,
        lse: at.aside(op.lse.0)?,
        ..arguments(at, op.query.0, op.key_value.0, op.heads, op.dropout)?
    };
    let shape = at.memory.batch.grid;
    at.lane.first_attention(false, shape.max_len, shape.sequences, args)
}

/// See [`FirstAttentionBack`].
pub fn attend_back(at: &LaunchOperands<'_>, op: &FirstAttentionBack) -> Result<()> {
    let shape = at.memory.batch.grid;
    let hidden = at.width(op.query.0);
    // A row of partial sums per sequence.
    let [query, value] = at.room([op.dquery, op.dvalue], shape.sequences, hidden)?;
    let args = FirstAttentionArgs {
        lse: at.at(op.lse.0)?,
        dout: at.at(op.dout.0)?,
        d_query: at.at(op.d_query.0)?,
        d_key_value: at.at(op.d_key_value.0)?,
        partial_query: address(query),
        partial_value: address(value),
        ..arguments(at, op.query.0, op.key_value.0, op.heads, op.dropout)?
    };
    at.lane.first_attention(true, shape.max_len, shape.sequences, args)?;
    at.finish([query, value], Tiles::of(Rows::Sequences, 1))
}

fn rows(at: &LaunchOperands<'_>, tokens: Value, first: Value) -> Result<FirstTokenArgs> {
    let width = at.width(tokens);
    check_width(width, "a hidden size")?;
    Ok(FirstTokenArgs {
        batch: at.memory.batch.header()?,
        cu_seqlens: at.memory.batch.bounds()?,
        tokens: at.at(tokens)?,
        first: at.at(first)?,
        width: to_u32(width)?,
        padding: 0,
    })
}

fn arguments(
    at: &LaunchOperands<'_>,
    query: Value,
    key_value: Value,
    heads: usize,
    dropout: Dropout,
) -> Result<FirstAttentionArgs> {
    let head_dim = head_dim(at.width(query), heads)?;
    Ok(FirstAttentionArgs {
        batch: at.memory.batch.header()?,
        cu_seqlens: at.memory.batch.bounds()?,
        query: at.at(query)?,
        key_value: at.at(key_value)?,
        dropout: dropout.into(),
        heads: to_u32(heads)?,
        head_dim: to_u32(head_dim)?,
        scale: 1.0 / (head_dim as f32).sqrt(),
        ..Zeroable::zeroed()
    })
}
