//! Column sums in two stages. An operation's kernel leaves one row of partial sums per tile of its rows. The next
//! LayerNorm's backward adds these up in extra blocks, and the gradient's norm adds up what is left. If none of them
//! comes before the room for partial sums is full, an operation reads a gradient, or the span ends, a single launch
//! finishes the pending sums of all operations.

use super::args::{ColumnFinishArgs, FINISH_COLUMNS, FinishSum};
use super::launch::Lane;
use super::memory::Address;
use super::{Allocated, row_kind, to_u32};
use crate::program::{Rows, Sum};
use anyhow::{Result, ensure};
use bytemuck::Zeroable;
use std::ops::Range;

/// Numbers on the device that column sums are added to: a gradient, or the step's loss.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub at: Address,
    pub width: usize,
}

impl Target {
    pub fn of(memory: &Allocated, sum: Sum) -> Result<Option<Self>> {
        let target = |grad| Ok(Self { at: memory.params.gradient(grad)?, width: grad.len });
        sum.0.map(target).transpose()
    }

    fn overlaps(self, sum: &FinishSum) -> bool {
        let range = |at: Address, width: usize| {
            let start = at.bits() as usize;
            start..start + width * size_of::<f32>()
        };
        let (own, other) = (range(self.at, self.width), range(sum.grad, sum.width as usize));
        own.start < other.end && other.start < own.end
    }
}

/// Partial column sums, and what they are added to.
pub type Partial = (Address, Target);

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
    waiting: Vec<FinishSum>,
    /// The f32 elements of the room that hold them: all others are free.
    used: Range<usize>,
}

impl ColumnSums {
    /// Room for the partial sums of one operation, `tiles` rows of `width`, for those of its sums that are requested.
    pub fn room<const N: usize>(
        &mut self,
        memory: &Allocated,
        lane: Lane<'_>,
        sums: [Sum; N],
        tiles: usize,
        width: usize,
    ) -> Result<[Option<Partial>; N]> {
        let mut targets = [None; N];
        for (target, sum) in targets.iter_mut().zip(sums) {
            *target = Target::of(memory, sum)?;
            if let Some(Target { width: len, .. }) = *target {
                ensure!(len == width, "a bias gradient of {len} elements for {width} columns");
            }
        }
        self.room_for(memory, lane, targets, tiles)
    }

    /// The same for sums of different widths. Handles all of an operation's sums at once, since finishing frees what
    /// others have.
    pub fn room_for<const N: usize>(
        &mut self,
        memory: &Allocated,
        lane: Lane<'_>,
        targets: [Option<Target>; N],
        tiles: usize,
    ) -> Result<[Option<Partial>; N]> {
        let wanted = targets.iter().flatten();
        let len: usize = wanted.clone().map(|target| row_len(tiles, target.width)).sum();
        let twice = |target: &Target| self.waiting.iter().any(|other| target.overlaps(other));
        let table = ColumnFinishArgs::zeroed().sums.len();
        // Two sums for one gradient are added one after the other.
        if self.used.end + len > memory.partial_len()
            || self.waiting.len() + wanted.clone().count() > table
            || wanted.clone().any(twice)
        {
            self.finish(memory, lane)?;
        }
        let mut room = [None; N];
        for (room, target) in room.iter_mut().zip(targets) {
            let Some(target) = target else { continue };
            let len = row_len(tiles, target.width);
            *room = Some((memory.partial(self.used.end, len)?, target));
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
        partials: impl IntoIterator<Item = Option<Partial>>,
        tiles: Tiles,
    ) -> Result<()> {
        for (partial, target) in partials.into_iter().flatten() {
            self.waiting.push(FinishSum {
                partial,
                grad: target.at,
                width: to_u32(target.width)?,
                tile_rows: to_u32(tiles.height)?,
                rows: row_kind(tiles.rows),
                by_sequence: u32::from(tiles.by_sequence),
                most: to_u32(tiles.most)?,
                padding: 0,
            });
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
        let widest = self.waiting.iter().map(|sum| sum.width as usize).max().unwrap_or(0);
        let mut args = ColumnFinishArgs {
            batch: memory.batch.header()?,
            cu_seqlens: memory.batch.bounds()?,
            state: memory.state()?,
            blocks: to_u32(widest.div_ceil(FINISH_COLUMNS))?,
            ..Zeroable::zeroed()
        };
        for (to, sum) in args.sums.iter_mut().zip(&self.waiting) {
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

/// The address of partial sums, if any.
pub fn address(partial: Option<Partial>) -> Address {
    partial.map_or(Address::NULL, |(address, _)| address)
}
