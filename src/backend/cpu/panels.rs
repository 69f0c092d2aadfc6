//! Products by kernels of our own ([`Kernel`]).
//!
//! A tile of the output is one task. It packs its columns of the matrix into panels of a few dozen columns in this
//! thread's scratch, from the one stored copy for either direction, converting them on the way; the left operand is
//! read as it lies. A kernel makes a few rows of a panel's columns with their sums in registers through the whole depth,
//! so each element is one sum in the order of the depth, whatever the tiling and the number of threads. A block of
//! finished rows passes through the epilogue while it is in the first-level cache.

use super::elements::{Arithmetic, Source};
use super::gemm::{Output, row_chunk};
use super::scratch::Scratch;
use super::transpose::transpose;
use super::weights::View;
use bytemuck::cast_slice_mut;
use rayon::prelude::*;
use std::ops::Range;

/// Columns of a tile at most: whole panels of every kernel.
const MAX_COLS: usize = 192;
/// Rows that pass through the epilogue together: whole register tiles of every kernel.
const BLOCK: usize = 24;
/// Cells of the panels of a tile at most: with what else is in use, what a second-level cache of 1 MiB holds.
const PANELS: usize = 96 * 1536;
/// Columns of the widest panel.
const WIDEST: usize = 64;

/// How a register tile is multiplied. Operands are 32-bit cells; a panel has a row of [`COLS`](Self::COLS) cells for each
/// cell of the depth.
pub trait Kernel {
    /// Rows of a register tile.
    const ROWS: usize;
    /// Columns of a register tile, and of a panel.
    const COLS: usize;

    /// Cells of so many elements of the depth.
    fn cells(depth: usize) -> usize;

    /// Cells `cells` of a row of a matrix of `width` columns.
    fn along(weight: View<'_>, row: usize, width: usize, cells: Range<usize>, out: &mut [u32]);

    /// Cell `cell` of these columns of a matrix `[depth, width]`.
    fn across(
        weight: View<'_>,
        cell: usize,
        shape: (usize, usize),
        cols: Range<usize>,
        out: &mut [u32],
    );

    /// Rows `rows` of the left operand in cells, and how far apart these rows are; in `room`, where they must be
    /// converted.
    fn left<'a>(left: Left<'a>, depth: usize, rows: Range<usize>, room: &'a mut [u32]) -> Rows<'a>;

    /// `out = left·panel` of up to [`ROWS`](Self::ROWS) rows, which in `out` are `stride` apart.
    fn multiply(left: Rows<'_>, rows: usize, panel: &[u32], out: &mut [f32], stride: usize);
}

/// Rows of cells.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub cells: &'a [u32],
    pub stride: usize,
}

impl<'a> Rows<'a> {
    fn from(self, row: usize) -> Self {
        Self { cells: &self.cells[row * self.stride..], stride: self.stride }
    }
}

/// Which way a matrix `[outputs, inputs]` is multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `x·Wᵀ`
    Forward,
    /// `dy·W`
    Backward,
}

/// A left operand, and the arithmetic in which it is multiplied.
#[derive(Clone, Copy)]
pub enum Left<'a> {
    /// In f32.
    F32(&'a [f32]),
    /// In bf16, to which f32 elements are rounded first.
    Rounded(Source<'a>),
}

impl<'a> Left<'a> {
    pub fn new(arithmetic: Arithmetic, elements: Source<'a>) -> Self {
        match (arithmetic, elements) {
            (Arithmetic::F32, Source::F32(x)) => Self::F32(x),
            (_, elements) => Self::Rounded(elements),
        }
    }
}

/// What is multiplied.
#[derive(Clone, Copy)]
pub struct Factors<'a> {
    /// `[rows, depth]`
    pub left: Left<'a>,
    pub weight: View<'a>,
    pub direction: Direction,
    pub rows: usize,
    pub cols: usize,
    pub depth: usize,
}

/// Scratch elements for products of up to `widest` columns on either side.
pub fn scratch_for(widest: usize) -> usize {
    PANELS.max(WIDEST * widest) + BLOCK * (MAX_COLS + widest)
}

/// Columns of a tile: of those that the panels' room allows, the most that leave no thread long without work.
fn tile_cols<K: Kernel>(rows: usize, cols: usize, cells: usize) -> usize {
    let threads = rayon::current_num_threads();
    let chunks = rows.div_ceil(row_chunk(rows));
    let all = cols.next_multiple_of(K::COLS);
    let most = (PANELS / cells.max(1)).clamp(K::COLS, MAX_COLS.min(all)) / K::COLS;
    let width = |panels: usize| panels * K::COLS;
    // The columns that the busiest thread works on, and an eighth of a tile's first panel for reading the rows.
    let cost = |panels: usize| {
        let tiles = chunks * cols.div_ceil(width(panels));
        tiles.div_ceil(threads) * (8 * width(panels) + K::COLS)
    };
    width((1..=most).rev().min_by_key(|&panels| cost(panels)).unwrap_or(1))
}

/// The product of `factors`, with `epilogue` (row, columns, values) run on each row of a tile before it is written.
pub fn product<K: Kernel>(
    factors: Factors<'_>,
    output: Output<'_>,
    scratch: &Scratch,
    epilogue: &(impl Fn(usize, Range<usize>, &mut [f32]) + Sync),
) {
    let Factors { rows, cols, depth, .. } = factors;
    if rows == 0 || cols == 0 {
        return;
    }
    let cells = K::cells(depth);
    let (height, width) = (row_chunk(rows), tile_cols::<K>(rows, cols, cells));
    let (down, across) = (rows.div_ceil(height), cols.div_ceil(width));
    (0..down * across).into_par_iter().with_max_len(1).for_each(|task| {
        let (down_at, across_at) = (task % down, task / down);
        let rows = down_at * height..((down_at + 1) * height).min(rows);
        let cols_here = across_at * width..((across_at + 1) * width).min(cols);
        let staged = cols_here.len().next_multiple_of(K::COLS);
        scratch.with(staged * cells + BLOCK * (staged + cells), |room| {
            let (panels, room) = room.split_at_mut(staged * cells);
            let (stage, room) = room.split_at_mut(BLOCK * staged);
            let panels: &mut [u32] = cast_slice_mut(panels);
            match factors.direction {
                Direction::Forward => pack_rows::<K>(factors, cols_here.clone(), panels),
                Direction::Backward => pack_columns::<K>(factors, cols_here.clone(), panels),
            }
            for first in rows.clone().step_by(BLOCK) {
                let block = first..(first + BLOCK).min(rows.end);
                let left = K::left(factors.left, depth, block.clone(), cast_slice_mut(room));
                if cells == 0 {
                    stage.fill(0.0);
                }
                for (p, panel) in panels.chunks_exact((K::COLS * cells).max(1)).enumerate() {
                    for row in (0..block.len()).step_by(K::ROWS) {
                        let count = K::ROWS.min(block.len() - row);
                        let out = &mut stage[row * staged + p * K::COLS..];
                        K::multiply(left.from(row), count, panel, out, staged);
                    }
                }
                for (row, values) in block.zip(stage.chunks_exact_mut(staged)) {
                    let values = &mut values[..cols_here.len()];
                    let at = row * cols + cols_here.start;
                    let epilogue = |values: &mut [f32]| epilogue(row, cols_here.clone(), values);
                    // SAFETY: these columns of this row belong to this task alone.
                    unsafe { output.pass(at, values, epilogue) };
                }
            }
        });
    });
}

/// Packs rows `cols` of a matrix `[outputs, inputs]`: panels for `x·Wᵀ`. Columns beyond them are zero.
fn pack_rows<K: Kernel>(factors: Factors<'_>, cols: Range<usize>, panels: &mut [u32]) {
    const AT_ONCE: usize = 256;
    let Factors { weight, depth, .. } = factors;
    let cells = K::cells(depth);
    let mut block = [0; 16 * AT_ONCE];
    for (p, panel) in panels.chunks_exact_mut((K::COLS * cells).max(1)).enumerate() {
        for sixteen in (0..K::COLS).step_by(16) {
            let first = cols.start + p * K::COLS + sixteen;
            for from in (0..cells).step_by(AT_ONCE) {
                let here = from..cells.min(from + AT_ONCE);
                for (row, line) in (first..).zip(block.chunks_exact_mut(AT_ONCE)) {
                    match row < cols.end {
                        true => K::along(weight, row, depth, here.clone(), &mut line[..here.len()]),
                        false => line.fill(0),
                    }
                }
                for at in (0..here.len()).step_by(16) {
                    let to = &mut panel[(from + at) * K::COLS + sixteen..];
                    transpose(&block[at..], AT_ONCE, to, K::COLS, 16.min(here.len() - at));
                }
            }
        }
    }
}

/// Packs columns `cols` of a matrix `[depth, width]`: panels for `dy·W`. Columns beyond them are zero.
fn pack_columns<K: Kernel>(factors: Factors<'_>, cols: Range<usize>, panels: &mut [u32]) {
    let Factors { weight, cols: width, depth, .. } = factors;
    let cells = K::cells(depth);
    let mut line = [0; MAX_COLS];
    for cell in 0..cells {
        K::across(weight, cell, (depth, width), cols.clone(), &mut line[..cols.len()]);
        let lines = line.chunks_exact(K::COLS);
        for (panel, line) in panels.chunks_exact_mut(K::COLS * cells).zip(lines) {
            panel[cell * K::COLS..][..K::COLS].copy_from_slice(line);
        }
    }
}
