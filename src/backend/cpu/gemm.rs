//! Matrix products: the only file that knows the `gemm` crates.
//!
//! A product is cut into tiles of fixed size: [`row_chunk`] rows of the activations by a panel of the weights.
//! A tile is one task. It widens its panel of 16-, 8- or 4-bit weights into this thread's scratch (never a whole copy, and
//! never a transpose: both directions read the one stored `[out, in]` matrix), multiplies, and runs the caller's
//! epilogue while the tile is in the cache. The tiling depends on the shape alone and every tile is computed by
//! one thread, so results do not depend on the number of threads.
//!
//! Measured on a Zen 4 core (peak about 105 to 118 GFLOP/s at its changing clock) at MiniLM's shapes with 800
//! rows: the crate alone, with its `x86-v4` feature, reaches 98 to 112 GFLOP/s on one thread and 200 to 225 on
//! two; through this file, with f16 weights and the widening counted, 97 to 107 a core, 85 where the inner
//! dimension is 1536 and 88 with GELU and its derivative in the epilogue. That is above three quarters of the
//! peak, so there is no kernel of our own. The crate allocates its packing buffers itself, a few for each tile.

use super::scratch::Scratch;
use super::share::Shared;
use super::weights::View;
use rayon::prelude::*;
use std::ops::Range;

/// Rows of one tile at most.
const MAX_ROWS: usize = 512;
/// Columns of one tile at most.
const MAX_COLS: usize = 192;
/// Columns below which a tile is not cut to get more of them.
const MIN_COLS: usize = 96;
/// Tiles wanted of a product, so that several threads find work.
const MIN_TILES: usize = 8;
/// Elements of a widened panel at most: with a packed copy of it, what a second-level cache of 1 MiB holds.
pub const PANEL: usize = 96 * 1536;

/// Rows of a tile for a product of `rows` rows: equal chunks of at most [`MAX_ROWS`].
pub fn row_chunk(rows: usize) -> usize {
    let chunks = rows.div_ceil(MAX_ROWS).max(1);
    rows.div_ceil(chunks).next_multiple_of(8)
}

/// Columns of a panel whose other side is `depth`, for an output of `rows` rows.
fn panel_cols(rows: usize, cols: usize, depth: usize) -> usize {
    let most = (PANEL / depth.max(1)).clamp(16, MAX_COLS) / 16 * 16;
    let wanted = MIN_TILES.div_ceil(rows.div_ceil(row_chunk(rows)).max(1));
    let panels = cols.div_ceil(most).max(wanted.min(cols / MIN_COLS)).max(1);
    cols.div_ceil(panels).next_multiple_of(16)
}

/// A finished tile of the product, for the epilogue.
pub struct Tile<'a> {
    pub rows: Range<usize>,
    pub cols: Range<usize>,
    target: Target<'a>,
    /// Where the tile belongs, if it was staged.
    output: Option<Target<'a>>,
}

impl Tile<'_> {
    /// The tile's part of one of its rows.
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        // SAFETY: a tile is the only holder of its elements, and the borrow of `self` allows one row at a time.
        unsafe { self.part(self.target, row) }
    }

    /// The tile's part of a row, and the output's own, which only a staged tile leaves to its epilogue.
    pub fn staged_row(&mut self, row: usize) -> (&mut [f32], Option<&mut [f32]>) {
        // SAFETY: as above; the stage and the output are different memory.
        unsafe {
            let output = self.output.map(|output| self.part(output, row));
            (self.part(self.target, row), output)
        }
    }

    /// # Safety
    /// While the returned slice lives, nothing else reaches its elements.
    #[allow(clippy::mut_from_ref)]
    unsafe fn part<'a>(&'a self, target: Target<'a>, row: usize) -> &'a mut [f32] {
        assert!(self.rows.contains(&row));
        let at = target.start + (row - self.rows.start) * target.stride;
        // SAFETY: the caller's promise.
        unsafe { target.out.slice(at, self.cols.len()) }
    }
}

/// `out = x·Wᵀ`: x `[rows, inputs]`, W `[outputs, inputs]`, out `[rows, outputs]`. Without an output (it is empty) each
/// tile is made in scratch, and what the epilogue makes of it is all that remains.
pub fn forward(
    x: &[f32],
    weight: View<'_>,
    out: &mut [f32],
    (rows, outputs): (usize, usize),
    scratch: &Scratch,
    epilogue: impl Fn(Tile<'_>) + Sync,
) {
    let inputs = x.len() / rows.max(1);
    let room = Room { scratch, panel: weight.is_narrow(), staged: out.is_empty() };
    let shape = (rows, outputs, inputs);
    tiles(out, shape, Some(room), &epilogue, |r, c, tile, panel| {
        let from = &x[r.start * inputs..r.end * inputs];
        let range = c.start * inputs..c.end * inputs;
        let panel = match weight {
            View::F32(w) => &w[range],
            narrow => {
                let panel = &mut panel[..range.len()];
                for (row, wide) in c.clone().zip(panel.chunks_exact_mut(inputs)) {
                    narrow.widen(row, inputs, 0..inputs, wide);
                }
                panel
            }
        };
        product(tile, false, (r.len(), c.len(), inputs), (from, inputs, 1), (panel, 1, inputs));
    });
}

/// What a backward product does with the output that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// `dx = …`
    Overwrite,
    /// `dx += …`
    Accumulate,
    /// Tiles are made beside the output, which the epilogue alone writes.
    Staged,
}

/// `dy·W`, as `output` says: dy `[rows, outputs]`, W `[outputs, inputs]`, dx `[rows, inputs]`.
pub fn backward(
    dy: &[f32],
    weight: View<'_>,
    dx: &mut [f32],
    output: Output,
    rows: usize,
    scratch: &Scratch,
    epilogue: impl Fn(Tile<'_>) + Sync,
) {
    let (inputs, outputs) = (dx.len() / rows.max(1), dy.len() / rows.max(1));
    let room = Room { scratch, panel: weight.is_narrow(), staged: output == Output::Staged };
    let shape = (rows, inputs, outputs);
    tiles(dx, shape, Some(room), &epilogue, |r, c, tile, panel| {
        let from = &dy[r.start * outputs..r.end * outputs];
        let (panel, stride) = match weight {
            View::F32(w) => (&w[c.start..], inputs),
            narrow => {
                let panel = &mut panel[..c.len() * outputs];
                for (row, wide) in panel.chunks_exact_mut(c.len()).enumerate() {
                    narrow.widen(row, inputs, c.clone(), wide);
                }
                (&*panel, c.len())
            }
        };
        product(
            tile,
            output == Output::Accumulate,
            (r.len(), c.len(), outputs),
            (from, outputs, 1),
            (panel, stride, 1),
        );
    });
}

/// `dw += dyᵀ·x`: the gradient of a trained matrix, `[outputs, inputs]`.
pub fn weight_gradient(dy: &[f32], x: &[f32], dw: &mut [f32], rows: usize) {
    let (inputs, outputs) = (x.len() / rows.max(1), dy.len() / rows.max(1));
    // No panel is widened here, so a tile need not become narrower the more rows there are.
    let depth = rows.min(PANEL / MAX_COLS);
    let shape = (outputs, inputs, depth);
    tiles(dw, shape, None, &|_| {}, |r, c, tile, _| {
        product(
            tile,
            true,
            (r.len(), c.len(), rows),
            (&dy[r.start..], 1, outputs),
            (&x[c.start..], inputs, 1),
        );
    });
}

/// Where a tile begins and how far apart its rows are.
#[derive(Clone, Copy)]
struct Target<'a> {
    out: &'a Shared<'a>,
    start: usize,
    stride: usize,
}

/// What the tiles of a product need of this thread's scratch.
#[derive(Clone, Copy)]
struct Room<'a> {
    scratch: &'a Scratch,
    /// A widened panel of the weights.
    panel: bool,
    /// The tile itself.
    staged: bool,
}

/// Scratch elements for products of up to `rows` rows and `widest` columns on either side.
pub fn scratch_for(rows: usize, widest: usize) -> usize {
    PANEL.max(16 * widest) + row_chunk(rows) * MAX_COLS
}

/// Runs `work` and then the epilogue for each tile of an output of shape `(rows, cols)` whose inner dimension is
/// `depth`. `work` gets room for a panel where that is wanted.
fn tiles(
    out: &mut [f32],
    (rows, cols, depth): (usize, usize, usize),
    room: Option<Room<'_>>,
    epilogue: &(impl Fn(Tile<'_>) + Sync),
    work: impl Fn(Range<usize>, Range<usize>, Target<'_>, &mut [f32]) + Sync,
) {
    if rows == 0 || cols == 0 {
        return;
    }
    let (height, width) = (row_chunk(rows), panel_cols(rows, cols, depth));
    let (down, across) = (rows.div_ceil(height), cols.div_ceil(width));
    let out = &Shared::new(out);
    let tile = |task: usize, panel: &mut [f32], stage: Option<&mut [f32]>| {
        // Neighbouring tasks share a panel of the weights.
        let (down_at, across_at) = (task % down, task / down);
        let rows = down_at * height..((down_at + 1) * height).min(rows);
        let cols_here = across_at * width..((across_at + 1) * width).min(cols);
        let output = Target { out, start: rows.start * cols + cols_here.start, stride: cols };
        let mut run = |target: Target<'_>, output: Option<Target<'_>>| {
            work(rows.clone(), cols_here.clone(), target, panel);
            epilogue(Tile { rows: rows.clone(), cols: cols_here.clone(), target, output });
        };
        match stage {
            None => run(output, None),
            Some(stage) => {
                let stage = Target { out: &Shared::new(stage), start: 0, stride: cols_here.len() };
                run(stage, Some(output));
            }
        }
    };
    (0..down * across).into_par_iter().with_max_len(1).for_each(|task| match room {
        Some(Room { scratch, panel, staged }) if panel || staged => {
            let panel = if panel { width * depth } else { 0 };
            let stage = if staged { height * width } else { 0 };
            scratch.with(panel + stage, |room| {
                let (panel, stage) = room.split_at_mut(panel);
                tile(task, panel, staged.then_some(stage));
            });
        }
        _ => tile(task, &mut [], None),
    });
}

/// `tile = lhs·rhs` or `tile += lhs·rhs` with shape `(m, n, k)`; an operand is `(elements, row stride, column
/// stride)`. Each element is one sum over k in an order that depends on the shape alone.
fn product(
    tile: Target<'_>,
    accumulate: bool,
    (m, n, k): (usize, usize, usize),
    (lhs, lhs_rows, lhs_cols): (&[f32], usize, usize),
    (rhs, rhs_rows, rhs_cols): (&[f32], usize, usize),
) {
    if m == 0 || n == 0 {
        return;
    }
    let last = |count: usize, stride: usize| count.saturating_sub(1) * stride;
    assert!(k == 0 || last(m, lhs_rows) + last(k, lhs_cols) < lhs.len());
    assert!(k == 0 || last(k, rhs_rows) + last(n, rhs_cols) < rhs.len());
    // SAFETY: `tiles` gives every task its own rows and columns of the output. The slice is only used for its
    // address and bounds check; all writes below go to this task's elements.
    let dst = unsafe { tile.out.pointer(tile.start, last(m, tile.stride) + n) };
    // The kernel stores columns: our rows are the columns of the transposed product, tileᵀ = rhsᵀ·lhsᵀ.
    // SAFETY: both operands were checked to hold every element that their strides reach, `dst` likewise, and
    // nobody else touches the tile.
    unsafe {
        gemm_f32::gemm::f32::get_gemm_fn()(
            n,
            m,
            k,
            dst,
            tile.stride as isize,
            1,
            accumulate,
            rhs.as_ptr(),
            rhs_rows as isize,
            rhs_cols as isize,
            lhs.as_ptr(),
            lhs_rows as isize,
            lhs_cols as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm_common::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_chunks_are_equal_bounded_and_cover_all_rows() {
        for rows in [1, 7, 8, 255, 256, 257, 800, 4096, 5000] {
            let chunk = row_chunk(rows);
            assert!((8..=MAX_ROWS).contains(&chunk));
            let chunks = rows.div_ceil(chunk);
            assert!(chunks * chunk >= rows && chunks <= rows.div_ceil(MAX_ROWS));
        }
    }

    #[test]
    fn panels_fit_the_scratch_for_every_usual_depth() {
        for depth in [1, 32, 384, 768, 1536, 3072, 4096, 16_384] {
            for cols in [1, 16, 384, 1000, 3072] {
                for rows in [1, 37, 800, 5000] {
                    let width = panel_cols(rows, cols, depth);
                    // Below 16 columns a panel is not cut, however deep.
                    assert!(width * depth <= PANEL || width == 16, "{cols} by {depth}");
                    assert!(width <= MAX_COLS && width.is_multiple_of(16));
                }
            }
        }
    }
}
