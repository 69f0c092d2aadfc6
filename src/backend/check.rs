//! What both backends check: that a batch is well formed and fits the memory planned for it.

use super::{Memory, labels};
use crate::batch::{Batch, Labels};
use crate::program::{Limits, List};
use anyhow::{Result, ensure};

/// # Errors
/// If not; the message says by how much.
pub fn batch(batch: &Batch, memory: &Memory) -> Result<()> {
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
    ensure!(
        batch.labels.fit(batch.sequences(), batch.tokens()),
        "the batch has {} sequences of {} tokens but {}",
        batch.sequences(),
        batch.tokens(),
        batch.labels.count()
    );
    if let Labels::Spans(spans) = &batch.labels {
        let lengths = batch.cu_seqlens.windows(2).map(|w| w[1] - w[0]);
        for (s, ([start, end], len)) in spans.iter().zip(lengths).enumerate() {
            ensure!(
                *start.max(end) < len,
                "sequence {s} has {len} tokens and a span from {start} to {end}"
            );
        }
    }
    fits(batch, memory.limits)?;
    let (words, room) = (labels::words(&batch.labels).len(), memory.labels);
    ensure!(words <= room, "a batch with labels of {words} words exceeds the {room} allocated for");
    let (labelled, room) = (labels::labelled(batch, memory).count(), memory.labelled[0]);
    ensure!(
        labelled <= room,
        "a batch with {labelled} labelled tokens exceeds the {room} allocated for"
    );
    Ok(())
}

/// # Errors
/// If a batch has more labelled tokens than a list has rows for in batches of up to `limits`.
pub fn labelled(list: &List, limits: Limits, labelled: usize) -> Result<()> {
    let room = list.labelled(limits).map_or(usize::MAX, |[rows, _]| rows);
    ensure!(labelled <= room, "{labelled} tokens of the batch have a label, with room for {room}");
    Ok(())
}

/// # Errors
/// If the batch is larger than that; the message says by how much.
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
