//! What both backends check: whether a batch is well formed and fits the memory that was planned for it, and which rows
//! are pooled.

use crate::batch::Batch;
use crate::program::{Limits, Placed, PoolKind, Rows};
use anyhow::{Result, ensure};

/// # Errors
/// When it is not or does not; the message says by how much.
pub fn batch(batch: &Batch, limits: Limits) -> Result<()> {
    ensure!(
        batch.cu_seqlens.first() == Some(&0)
            && batch.cu_seqlens.last().map(|&n| n as usize) == Some(batch.tokens())
            && batch.cu_seqlens.windows(2).all(|w| w[0] < w[1]),
        "the batch's sequence bounds must rise from 0 to its {} tokens, with no empty sequence",
        batch.tokens()
    );
    ensure!(
        batch.type_ids.len() == batch.tokens() && batch.positions.len() == batch.tokens(),
        "the batch has {} ids, {} token types and {} positions",
        batch.tokens(),
        batch.type_ids.len(),
        batch.positions.len()
    );
    let labels = batch.labels.len();
    ensure!(
        labels.is_none_or(|n| n == batch.sequences()),
        "the batch has {} sequences but {} labels",
        batch.sequences(),
        labels.unwrap_or(0)
    );
    fits(batch, limits)
}

/// # Errors
/// When the batch is larger than that; the message says by how much.
pub fn fits(batch: &Batch, limits: Limits) -> Result<()> {
    for (what, have, limit) in [
        ("tokens", batch.tokens(), limits.tokens),
        ("sequences", batch.sequences(), limits.sequences),
        ("tokens in one sequence", batch.max_len(), limits.max_len),
    ] {
        ensure!(have <= limit, "a batch of {have} {what} exceeds the {limit} allocated for");
    }
    Ok(())
}

/// # Errors
/// When the pooled rows are not there.
pub fn pool(kind: PoolKind, hidden: &Placed) -> Result<()> {
    ensure!(hidden.width > 0, "pooling over no columns");
    ensure!(
        hidden.rows == Rows::Tokens || kind == PoolKind::Cls,
        "the mean over all tokens, of which the first alone are there"
    );
    Ok(())
}
