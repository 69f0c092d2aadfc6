//! Small products of pairs of bf16 with f32 sums: what attention multiplies, a few dozen rows that lie in the first-level
//! cache. The right operand is packed, the left one is read where it lies, in either direction.

use super::lanes::{LANES, Lanes, on_lanes};
use half::bf16;

/// A left operand: pair `p` of row `r` begins at element `r·row + p·pair`.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    pub elements: &'a [bf16],
    pub row: usize,
    pub pair: usize,
}

on_lanes! {
    /// `out = left·right` or `out += left·right`: `out` `[rows, cols]` with `stride` elements per row, `right`
    /// `[pairs][cols]`, and `cols` whole vectors. A sum begins with what is in `out` and follows the order of the pairs.
    pub fn product(
        left: Left<'_>,
        right: &[[bf16; 2]],
        out: &mut [f32], stride: usize,
        shape: (usize, usize, usize),
        adds: bool,
    ) = product_body;
}

#[inline(always)]
fn product_body<L: Lanes>(
    lanes: L,
    left: Left<'_>,
    right: &[[bf16; 2]],
    out: &mut [f32],
    stride: usize,
    (rows, cols, pairs): (usize, usize, usize),
    adds: bool,
) {
    if !L::MANY {
        for col in (0..cols).step_by(LANES) {
            let part = Part { left, right, cols, col, pairs, stride, adds };
            for row in 0..rows {
                part.tile::<L, 1, 1>(lanes, row, &mut out[row * stride + col..]);
            }
        }
        return;
    }
    for col in (0..cols).step_by(4 * LANES) {
        let part = Part { left, right, cols, col, pairs, stride, adds };
        match (cols - col) / LANES {
            1 => part.columns::<L, 1, 8>(lanes, out, rows),
            2 => part.columns::<L, 2, 8>(lanes, out, rows),
            3 => part.columns::<L, 3, 8>(lanes, out, rows),
            _ => part.columns::<L, 4, 6>(lanes, out, rows),
        }
    }
}

/// Some columns of a product.
struct Part<'a> {
    left: Left<'a>,
    right: &'a [[bf16; 2]],
    cols: usize,
    col: usize,
    pairs: usize,
    stride: usize,
    adds: bool,
}

impl Part<'_> {
    /// `V` vectors of all rows, up to `M` rows at a time and about as many each time.
    #[inline(always)]
    fn columns<L: Lanes, const V: usize, const M: usize>(
        &self,
        lanes: L,
        out: &mut [f32],
        rows: usize,
    ) {
        let tiles = rows.div_ceil(M);
        let mut row = 0;
        for tile in 0..tiles {
            let count = (rows - row).div_ceil(tiles - tile);
            let out = &mut out[row * self.stride + self.col..];
            match count {
                1 => self.tile::<L, V, 1>(lanes, row, out),
                2 => self.tile::<L, V, 2>(lanes, row, out),
                3 => self.tile::<L, V, 3>(lanes, row, out),
                4 => self.tile::<L, V, 4>(lanes, row, out),
                5 => self.tile::<L, V, 5>(lanes, row, out),
                6 => self.tile::<L, V, 6>(lanes, row, out),
                7 => self.tile::<L, V, 7>(lanes, row, out),
                _ => self.tile::<L, V, 8>(lanes, row, out),
            }
            row += count;
        }
    }

    /// `R` rows from `row` on, whose sums stay in registers.
    #[inline(always)]
    fn tile<L: Lanes, const V: usize, const R: usize>(
        &self,
        lanes: L,
        row: usize,
        out: &mut [f32],
    ) {
        let Left { elements, row: by_row, pair } = self.left;
        let mut sums = [[lanes.splat(0.0); V]; R];
        if self.adds {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = lanes.load(&out[r * self.stride + LANES * v..][..LANES]);
                }
            }
        }
        if self.pairs > 0 {
            let last = (row + R - 1) * by_row + (self.pairs - 1) * pair;
            assert!(last + 2 <= elements.len());
            assert!((self.pairs - 1) * self.cols + self.col + V * LANES <= self.right.len());
        }
        for p in 0..self.pairs {
            // SAFETY: the assertions above.
            let right: [L::Pairs; V] = std::array::from_fn(|v| unsafe {
                let at = p * self.cols + self.col + LANES * v;
                lanes.pairs_at(self.right.as_ptr().add(at))
            });
            for (r, sums) in sums.iter_mut().enumerate() {
                let at = (row + r) * by_row + p * pair;
                // SAFETY: the assertions above.
                let left = unsafe { lanes.splat_pair(elements.as_ptr().add(at)) };
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = lanes.dot(*sum, left, right);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                lanes.store(*sum, &mut out[r * self.stride + LANES * v..][..LANES]);
            }
        }
    }
}

/// Rows `[len, width]`, `stride` apart, turned over: `out` is `[pairs of width][wide]`, zero beyond `len`.
#[inline(always)]
pub fn pack_turned<L: Lanes>(
    lanes: L,
    (rows, stride): (&[bf16], usize),
    (len, width): (usize, usize),
    wide: usize,
    out: &mut [[bf16; 2]],
) {
    let pairs = width.div_ceil(2);
    for first in (0..wide).step_by(LANES) {
        for pair in (0..pairs).step_by(LANES) {
            let from = 2 * pair;
            let count = (width - from).min(2 * LANES);
            let block: [L::Pairs; LANES] = std::array::from_fn(|r| match first + r < len {
                true => lanes.load_pairs(&rows[(first + r) * stride + from..][..count]),
                false => lanes.load_pairs(&[]),
            });
            for (p, turned) in (pair..pairs).zip(lanes.turn(block)) {
                lanes.store_pairs(turned, &mut out[p * wide + first..][..LANES]);
            }
        }
    }
}

/// Rows `[len, width]`, `stride` apart, as pairs of neighbouring rows: `out` is `[pairs of len][wide]`, zero beyond the
/// last row; what it holds beyond `width` is zero as well.
#[inline(always)]
pub fn pack_pairs<L: Lanes>(
    lanes: L,
    (rows, stride): (&[bf16], usize),
    (len, width): (usize, usize),
    wide: usize,
    out: &mut [[bf16; 2]],
) {
    for (pair, out) in out.chunks_exact_mut(wide).take(len.div_ceil(2)).enumerate() {
        for col in (0..wide).step_by(LANES) {
            let count = (width - col).min(LANES);
            let row = |row: usize| match row < len {
                true => &rows[row * stride + col..][..count],
                false => &[],
            };
            let both = lanes.interleave(row(2 * pair), row(2 * pair + 1));
            lanes.store_pairs(both, &mut out[col..][..LANES]);
        }
    }
}
