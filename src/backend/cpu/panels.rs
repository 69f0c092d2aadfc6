//! Products by our own kernels ([`Kernel`]).
//!
//! A tile of the output is one task. It packs its columns of the matrix into panels of a few dozen columns in this
//! thread's scratch, from the one stored copy for either direction, converting them on the way; the left operand is
//! read in place. A kernel computes a few rows of a panel's columns with their sums in registers through the whole
//! depth, so each element is one sum in depth order, whatever the tiling and the number of threads. A block of finished
//! rows passes through the epilogue while it is in the first-level cache.

use super::gemm::row_chunk;
use super::weights::View;
use super::workers::Workers;
use bytemuck::cast_slice_mut;
use std::ops::Range;

/// Maximum columns of a tile: whole panels of every kernel.
const MAX_COLS: usize = 192;
/// Rows that pass through the epilogue together: whole register tiles of every kernel.
const BLOCK: usize = 24;
/// Maximum cells of a tile's panels: with other data in use, they fit a second-level cache of 1 MiB.
const PANELS: usize = 96 * 1536;
/// Columns of the widest panel.
const WIDEST: usize = 64;

/// How a register tile is multiplied. Operands are 32-bit cells; a panel has a row of [`COLS`](Self::COLS) cells per
/// cell of depth.
pub trait Kernel {
    /// `[rows, depth]`
    type Left<'a>: Copy + Sync;
    /// Rows of a register tile.
    const ROWS: usize;
    /// Columns of a register tile, and of a panel.
    const COLS: usize;

    /// Cells for this many elements of depth.
    fn cells(depth: usize) -> usize;

    /// Packs columns `cols` of the right operand: panels one after another, zero beyond the columns.
    fn pack(factors: Factors<'_>, cols: Range<usize>, panels: &mut [u32]);

    /// Rows `rows` of the left operand in cells, and the distance between rows; uses `room` if they must be converted.
    fn left<'a, 'b: 'a>(
        left: Self::Left<'b>,
        depth: usize,
        rows: Range<usize>,
        room: &'a mut [u32],
    ) -> CellRows<'a>;

    /// `out = left·panel` for up to [`ROWS`](Self::ROWS) rows, `stride` apart in `out`.
    fn multiply(left: CellRows<'_>, rows: usize, panel: &[u32], out: &mut [f32], stride: usize);
}

/// Rows of cells.
#[derive(Clone, Copy)]
pub struct CellRows<'a> {
    pub cells: &'a [u32],
    pub stride: usize,
}

impl<'a> CellRows<'a> {
    fn from(self, row: usize) -> Self {
        Self { cells: &self.cells[row * self.stride..], stride: self.stride }
    }
}

/// In which direction a matrix `[outputs, inputs]` is multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `x·Wᵀ`
    Forward,
    /// `dy·W`
    Backward,
}

/// The right operand for a left operand `[rows, depth]`.
#[derive(Clone, Copy)]
pub struct Factors<'a> {
    pub weight: View<'a>,
    pub direction: Direction,
    pub rows: usize,
    pub cols: usize,
    pub depth: usize,
}

/// Scratch elements for products of up to `widest` columns on either side.
pub fn scratch_for(widest: usize) -> usize {
    PANELS.max(WIDEST * widest) + BLOCK * (WIDEST + widest)
}

/// Columns per tile: among those that fit the panels' room, the most that leave no thread idle for long.
fn tile_cols<K: Kernel>(threads: usize, rows: usize, cols: usize, cells: usize) -> usize {
    let chunks = rows.div_ceil(row_chunk(rows));
    let all = cols.next_multiple_of(K::COLS);
    let most = (PANELS / cells.max(1)).clamp(K::COLS, MAX_COLS.min(all)) / K::COLS;
    let width = |panels: usize| panels * K::COLS;
    // The columns of the busiest thread, plus an eighth of a tile's first panel for reading the rows.
    let cost = |panels: usize| {
        let tiles = chunks * cols.div_ceil(width(panels));
        tiles.div_ceil(threads) * (8 * width(panels) + K::COLS)
    };
    width((1..=most).rev().min_by_key(|&panels| cost(panels)).unwrap_or(1))
}

/// The product of `left` and `factors`. `finish` takes each block of finished sums (rows, columns, values, and the
/// distance between rows) while it is in the first-level cache. All rows of a block lie in one [`row_chunk`].
pub fn product<K: Kernel>(
    left: K::Left<'_>,
    factors: Factors<'_>,
    workers: &Workers,
    finish: &(impl Fn(Range<usize>, Range<usize>, &mut [f32], usize) + Sync),
) {
    let Factors { rows, cols, depth, .. } = factors;
    if rows == 0 || cols == 0 {
        return;
    }
    let cells = K::cells(depth);
    let (height, width) = (row_chunk(rows), tile_cols::<K>(workers.threads(), rows, cols, cells));
    let (down, across) = (rows.div_ceil(height), cols.div_ceil(width));
    let most = width.min(cols.next_multiple_of(K::COLS)) * cells + BLOCK * (K::COLS + cells);
    workers.run_with(down * across, most, |task, room| {
        // A thread's own tasks are neighbours, with rows that are already in its caches.
        let (down_at, across_at) = (task / across, task % across);
        let rows = down_at * height..((down_at + 1) * height).min(rows);
        let cols = across_at * width..((across_at + 1) * width).min(cols);
        let packed = cols.len().next_multiple_of(K::COLS) * cells;
        let (panels, room) = room.split_at_mut(packed);
        let (stage, room) = room.split_at_mut(BLOCK * K::COLS);
        let panels: &mut [u32] = cast_slice_mut(panels);
        K::pack(factors, cols.clone(), panels);
        for first in rows.clone().step_by(BLOCK) {
            let block = first..(first + BLOCK).min(rows.end);
            let left = K::left(left, depth, block.clone(), cast_slice_mut(room));
            for (p, from) in cols.clone().step_by(K::COLS).enumerate() {
                let panel = &panels[p * K::COLS * cells..][..K::COLS * cells];
                for row in (0..block.len()).step_by(K::ROWS) {
                    let count = K::ROWS.min(block.len() - row);
                    let out = &mut stage[row * K::COLS..];
                    K::multiply(left.from(row), count, panel, out, K::COLS);
                }
                let of_panel = from..(from + K::COLS).min(cols.end);
                finish(block.clone(), of_panel, stage, K::COLS);
            }
        }
    });
}
