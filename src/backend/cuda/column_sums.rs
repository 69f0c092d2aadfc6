//! Column sums in two stages. An operation's kernel leaves one row of partial sums per tile of its rows. The next
//! LayerNorm's backward adds these up in extra blocks, and the gradient's norm adds up what is left. If none of them
//! comes before the room for partial sums is full, an operation reads a gradient, or the span ends, a single launch
//! finishes the pending sums of all operations.

use super::args::{ColumnFinishArgs, FINISH_COLUMNS, FinishSum};
use super::launch::Lane;
use super::memory::Address;
use super::{Allocated, row_kind, to_u32};
use crate::program::{ParamRange, Rows, Sum};
use anyhow::{Result, ensure};
use bytemuck::Zeroable;
use std::ops::Range;

/// Partial column sums, and the gradient they are added to.
pub type Partial = (Address, ParamRange);

/// How a tensor was cut into tiles with partial sums.
#[derive(Clone, Copy, Debug)]
pub struct Tiles {
    pub rows: Rows,
    /// Rows per tile.
    pub height: usize,
    /// Tiles do not cross sequences.
    pub by_sequence: bool,
    /// The most rows of partial sums if they do.
    pub most: usize,
}

impl Tiles {
    pub fn of(rows: Rows, height: usize) -> Self {
        Self { rows, height, by_sequence: false, most: u32::MAX as usize }
    }
}

/// Sums to be finished by extra blocks of one kernel.
#[derive(Clone, Copy, Debug)]
pub struct Riders {
    pub count: usize,
    pub args: ColumnFinishArgs,
}

/// The pending sums of a span.
#[derive(Debug, Default)]
pub struct ColumnSums {
    waiting: Vec<(FinishSum, ParamRange)>,
    /// The f32 elements of the room that hold them: all others are free.
    used: Range<usize>,
}

impl ColumnSums {
    /// Room for the partial sums of one operation, `tiles` rows of `width`, for those of its sums that are requested.
    /// Handles all of its sums at once, since finishing frees what others have.
    pub fn room<const N: usize>(
        &mut self,
        memory: &Allocated,
        lane: Lane<'_>,
        sums: [Sum; N],
        tiles: usize,
        width: usize,
    ) -> Result<[Option<Partial>; N]> {
        let len = row_len(tiles, width);
        let wanted = sums.iter().flat_map(|sum| sum.0);
        let count = wanted.clone().count();
        let twice = |grad: ParamRange| self.waiting.iter().any(|(_, other)| overlap(grad, *other));
        let table = ColumnFinishArgs::zeroed().sums.len();
        // Two sums for one gradient are added one after the other.
        if self.used.end + count * len > memory.partial_len()
            || self.waiting.len() + count > table
            || wanted.clone().any(twice)
        {
            self.finish(memory, lane)?;
        }
        let mut room = [None; N];
        for (room, sum) in room.iter_mut().zip(sums) {
            let Some(grad) = sum.0 else { continue };
            ensure!(
                grad.len == width,
                "a bias gradient of {} elements for {width} columns",
                grad.len
            );
            *room = Some((memory.partial(self.used.end, len)?, grad));
            self.used.end += len;
        }
        Ok(room)
    }

    /// The same for an operation whose kernel also finishes pending sums. It fills its own room meanwhile, so that lies
    /// before or after the room of the others.
    pub fn room_beside<const N: usize>(
        &mut self,
        memory: &Allocated,
        lane: Lane<'_>,
        sums: [Sum; N],
        tiles: usize,
        width: usize,
    ) -> Result<(Riders, [Option<Partial>; N])> {
        let own = sums.iter().filter(|sum| sum.0.is_some()).count() * row_len(tiles, width);
        let Range { start, end } = self.used;
        let free = if start >= own { 0 } else { end };
        if free + own > memory.partial_len() {
            self.finish(memory, lane)?;
        }
        let riders = self.riders(memory)?;
        if riders.count > 0 {
            *self = Self { waiting: Vec::new(), used: free..free };
        }
        Ok((riders, self.room(memory, lane, sums, tiles, width)?))
    }

    /// Records sums whose partial sums have been made.
    pub fn add(
        &mut self,
        memory: &Allocated,
        partials: impl IntoIterator<Item = Option<Partial>>,
        tiles: Tiles,
    ) -> Result<()> {
        for (partial, grad) in partials.into_iter().flatten() {
            let sum = FinishSum {
                partial,
                grad: memory.params.gradient(grad)?,
                width: to_u32(grad.len)?,
                tile_rows: to_u32(tiles.height)?,
                rows: row_kind(tiles.rows),
                by_sequence: u32::from(tiles.by_sequence),
                most: to_u32(tiles.most)?,
                padding: 0,
            };
            self.waiting.push((sum, grad));
        }
        Ok(())
    }

    /// Adds up all pending sums.
    pub fn finish(&mut self, memory: &Allocated, lane: Lane<'_>) -> Result<()> {
        let Riders { count, args } = self.take(memory)?;
        match count {
            0 => Ok(()),
            _ => lane.column_finish(count, args),
        }
    }

    /// All pending sums, for a kernel that finishes them and leaves no partial sums of its own.
    pub fn take(&mut self, memory: &Allocated) -> Result<Riders> {
        let riders = self.riders(memory)?;
        *self = Self::default();
        Ok(riders)
    }

    /// All pending sums.
    fn riders(&self, memory: &Allocated) -> Result<Riders> {
        let widest = self.waiting.iter().map(|(_, grad)| grad.len).max().unwrap_or(0);
        let mut args = ColumnFinishArgs {
            batch: memory.batch.header()?,
            cu_seqlens: memory.batch.bounds()?,
            state: memory.state()?,
            blocks: to_u32(widest.div_ceil(FINISH_COLUMNS))?,
            ..Zeroable::zeroed()
        };
        for (to, (sum, _)) in args.sums.iter_mut().zip(&self.waiting) {
            *to = *sum;
        }
        Ok(Riders { count: self.waiting.len(), args })
    }
}

/// The most blocks that finish pending sums of up to `widest` columns.
pub fn most_blocks(widest: usize) -> usize {
    ColumnFinishArgs::zeroed().sums.len() * widest.div_ceil(FINISH_COLUMNS)
}

/// The f32 elements that the partial sums of one sum need.
fn row_len(tiles: usize, width: usize) -> usize {
    (tiles * width).next_multiple_of(4)
}

fn overlap(a: ParamRange, b: ParamRange) -> bool {
    a.offset < b.offset + b.len && b.offset < a.offset + a.len
}

/// The address of partial sums, if any.
pub fn address(partial: Option<Partial>) -> Address {
    partial.map_or(Address::NULL, |(address, _)| address)
}
