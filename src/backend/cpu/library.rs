//! Products by a library, if we have no kernel for the processor, and products of trained matrices: the only file that
//! uses the `gemm` crates.
//!
//! A tile of the output is one task. It widens its panel of 16-, 8- or 4-bit weights into this thread's scratch (never
//! a whole copy, and never a transpose: both directions read the one stored `[out, in]` matrix), multiplies, and runs
//! the caller's epilogue while the tile is in the cache. The tiling depends only on the shape and every tile is
//! computed by one thread, so results do not depend on the number of threads. The crate allocates its packing buffers
//! itself, a few per tile.

use super::gemm::{Output, row_chunk};
use super::panels::{Direction, Factors};
use super::share::Shared;
use super::weights::View;
use super::workers::Workers;
use std::ops::Range;

/// Maximum columns of one tile.
const MAX_COLS: usize = 192;
/// A tile is not cut below this many columns to get more tiles.
const MIN_COLS: usize = 96;
/// Tiles wanted per product, so that several threads have work.
const MIN_TILES: usize = 8;
/// Maximum elements of a widened panel: with its packed copy, it fits a second-level cache of 1 MiB.
const PANEL: usize = 96 * 1536;

/// Columns of a panel with `depth` on its other side, for an output of `rows` rows.
fn panel_cols(rows: usize, cols: usize, depth: usize) -> usize {
    let most = (PANEL / depth.max(1)).clamp(16, MAX_COLS) / 16 * 16;
    let wanted = MIN_TILES.div_ceil(rows.div_ceil(row_chunk(rows)).max(1));
    let panels = cols.div_ceil(most).max(wanted.min(cols / MIN_COLS)).max(1);
    cols.div_ceil(panels).next_multiple_of(16)
}

/// Scratch elements for products of up to `rows` rows and `widest` columns on either side.
pub fn scratch_for(rows: usize, widest: usize) -> usize {
    PANEL.max(16 * widest) + row_chunk(rows) * MAX_COLS
}

/// As [`panels::product`](super::panels::product), for the left operand `left`.
pub fn product(
    left: &[f32],
    factors: Factors<'_>,
    output: Output<'_>,
    workers: &Workers,
    epilogue: &(impl Fn(usize, Range<usize>, &mut [f32]) + Sync),
) {
    let Factors { weight, direction, rows, cols, depth, .. } = factors;
    let width = panel_cols(rows, cols, depth);
    let panel_len = if weight.is_narrow() { width * depth } else { 0 };
    let staged = output.staged || output.to.is_none();
    let stage_len = if staged { row_chunk(rows) * width } else { 0 };
    tiles((rows, cols, depth), panel_len + stage_len, workers, |r, c, room| {
        let (panel, stage) = room.split_at_mut(panel_len);
        let stage = Shared::new(stage);
        let target = match &output.to {
            Some(out) if !staged => Target { out, start: r.start * cols + c.start, stride: cols },
            _ => Target { out: &stage, start: 0, stride: c.len() },
        };
        let (panel, strides) = columns(weight, direction, (cols, depth), c.clone(), panel);
        multiply(
            target,
            output.adds && !staged,
            (r.len(), c.len(), depth),
            (&left[r.start * depth..r.end * depth], depth, 1),
            (panel, strides.0, strides.1),
        );
        for (i, row) in r.enumerate() {
            let epilogue = |values: &mut [f32]| epilogue(row, c.clone(), values);
            // SAFETY: a tile is the only holder of its elements, and each row is passed on by itself.
            unsafe {
                let values = target.out.slice(target.start + i * target.stride, c.len());
                match staged {
                    true => output.pass(row * cols + c.start, values, epilogue),
                    false => epilogue(values),
                }
            }
        }
    });
}

/// These columns of the matrix as used in the product, `[depth, columns]`, widened to `panel` if necessary, and the
/// distances between its rows and between its columns.
fn columns<'a>(
    weight: View<'a>,
    direction: Direction,
    (cols, depth): (usize, usize),
    c: Range<usize>,
    panel: &'a mut [f32],
) -> (&'a [f32], (usize, usize)) {
    let whole = |panel: &'a mut [f32]| &mut panel[..c.len() * depth];
    match (direction, weight) {
        (Direction::Forward, View::F32(w)) => (&w[c.start * depth..c.end * depth], (1, depth)),
        (Direction::Backward, View::F32(w)) => (&w[c.start..], (cols, 1)),
        (Direction::Forward, narrow) => {
            let panel = whole(panel);
            for (row, wide) in c.clone().zip(panel.chunks_exact_mut(depth.max(1))) {
                narrow.widen(row, depth, 0..depth, wide);
            }
            (panel, (1, depth))
        }
        (Direction::Backward, narrow) => {
            let panel = whole(panel);
            for (row, wide) in panel.chunks_exact_mut(c.len()).enumerate() {
                narrow.widen(row, cols, c.clone(), wide);
            }
            (panel, (c.len(), 1))
        }
    }
}

/// `dw += dyᵀ·x`: the gradient of a trained matrix, `[outputs, inputs]`.
pub fn weight_gradient(dy: &[f32], x: &[f32], dw: &mut [f32], rows: usize, workers: &Workers) {
    let (inputs, outputs) = (x.len() / rows.max(1), dy.len() / rows.max(1));
    // No panel is widened here, so a tile need not get narrower with more rows.
    let depth = rows.min(PANEL / MAX_COLS);
    let dw = Shared::new(dw);
    tiles((outputs, inputs, depth), 0, workers, |r, c, _| {
        let target = Target { out: &dw, start: r.start * inputs + c.start, stride: inputs };
        multiply(
            target,
            true,
            (r.len(), c.len(), rows),
            (&dy[r.start..], 1, outputs),
            (&x[c.start..], inputs, 1),
        );
    });
}

/// Where a tile begins, and the distance between its rows.
#[derive(Clone, Copy)]
struct Target<'a> {
    out: &'a Shared<'a>,
    start: usize,
    stride: usize,
}

/// Runs `work` (rows, columns, `count` elements of temporary memory) for each tile of an output of shape `(rows, cols)`
/// with inner dimension `depth`.
fn tiles(
    (rows, cols, depth): (usize, usize, usize),
    count: usize,
    workers: &Workers,
    work: impl Fn(Range<usize>, Range<usize>, &mut [f32]) + Sync,
) {
    if rows == 0 || cols == 0 {
        return;
    }
    let (height, width) = (row_chunk(rows), panel_cols(rows, cols, depth));
    let (down, across) = (rows.div_ceil(height), cols.div_ceil(width));
    workers.run_with(down * across, count, |task, room| {
        // Neighbouring tasks share a panel of the weights.
        let (down_at, across_at) = (task % down, task / down);
        let rows = down_at * height..((down_at + 1) * height).min(rows);
        work(rows, across_at * width..((across_at + 1) * width).min(cols), room);
    });
}

/// `tile = lhs·rhs` or `tile += lhs·rhs` with shape `(m, n, k)`; an operand is `(elements, row stride, column stride)`.
/// Each element is one sum over k in an order that depends only on the shape.
fn multiply(
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
    // SAFETY: `tiles` gives every task its own rows and columns of the output. The slice is only used for its address
    // and bounds check; all writes below go to this task's elements.
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
    fn panels_fit_the_scratch_for_every_usual_depth() {
        for depth in [1, 32, 384, 768, 1536, 3072, 4096, 16_384] {
            for cols in [1, 16, 384, 1000, 3072] {
                for rows in [1, 37, 800, 5000] {
                    let width = panel_cols(rows, cols, depth);
                    // A panel is not cut below 16 columns, however deep.
                    assert!(width * depth <= PANEL || width == 16, "{cols} by {depth}");
                    assert!(width <= MAX_COLS && width.is_multiple_of(16));
                }
            }
        }
    }
}
