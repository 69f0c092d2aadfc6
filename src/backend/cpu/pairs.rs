//! Small products of bf16 pairs with f32 sums, for attention: a few dozen rows that are in the first-level cache. The
//! right operand is packed; the left one is read in place, in either direction.

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
    /// `[pairs][cols]`, and `cols` whole vectors. A sum starts from the contents of `out` and follows the order of the
    /// pairs.
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
    /// `V` vectors of all rows, in steps of up to `M` rows and about equal size.
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
            let first = unsafe { self.right.as_ptr().add(p * self.cols + self.col) };
            // SAFETY: as above.
            let mut right = [unsafe { lanes.pairs_at(first) }; V];
            for (v, pairs) in right.iter_mut().enumerate().skip(1) {
                // SAFETY: as above.
                *pairs = unsafe { lanes.pairs_at(first.add(LANES * v)) };
            }
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

/// Rows `[len, width]`, `stride` apart, transposed: `out` is `[pairs of width][wide]`, zero beyond `len`.
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
            let mut block = [lanes.load_pairs(&[]); LANES];
            for (row, pairs) in (first..len).zip(&mut block) {
                *pairs = lanes.load_pairs(&rows[row * stride + from..][..count]);
            }
            for (p, turned) in (pair..pairs).zip(lanes.turn(block)) {
                lanes.store_pairs(turned, &mut out[p * wide + first..][..LANES]);
            }
        }
    }
}

/// Rows `[len, width]`, `stride` apart, as pairs of neighbouring rows: `out` is `[pairs of len][wide]`, zero beyond the
/// last row and beyond `width`.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::bf16::{narrow, wide};
    use crate::backend::cpu::lanes::Plain;
    use crate::backend::cpu::simd::{Level, level};

    fn halves(count: usize, salt: usize) -> Vec<bf16> {
        let values: Vec<f32> =
            (0..count).map(|i| ((i * 37 + salt) % 101) as f32 / 50.0 - 1.0).collect();
        let mut out = vec![bf16::ZERO; count];
        narrow(&values, &mut out);
        out
    }

    #[test]
    fn products_of_every_size_and_both_orientations_are_the_sums_they_should_be_in_both_kinds_of_vectors()
     {
        for rows in [1, 2, 7, 8, 9, 13, 25] {
            for (vectors, pairs) in [(1, 3), (2, 16), (3, 1), (4, 5), (5, 8), (9, 2)] {
                let cols = vectors * LANES;
                let right = halves(2 * pairs * cols, 5);
                let right: &[[bf16; 2]] = bytemuck::cast_slice(&right);
                let elements = halves(2 * rows * pairs, 11);
                for left in [
                    Left { elements: &elements, row: 2 * pairs, pair: 2 },
                    Left { elements: &elements, row: 2, pair: 2 * rows },
                ] {
                    let mut got = vec![0.5; rows * cols];
                    let mut plain = got.clone();
                    product(left, right, &mut got, cols, (rows, cols, pairs), true);
                    let shape = (rows, cols, pairs);
                    product_body(Plain::<true>, left, right, &mut plain, cols, shape, true);
                    for i in 0..rows {
                        for j in 0..cols {
                            let term = |p: usize| {
                                let at = i * left.row + p * left.pair;
                                (0..2)
                                    .map(|e| {
                                        f64::from(wide(elements[at + e]))
                                            * f64::from(wide(right[p * cols + j][e]))
                                    })
                                    .sum::<f64>()
                            };
                            let want = 0.5 + (0..pairs).map(term).sum::<f64>();
                            let got = f64::from(got[i * cols + j]);
                            assert!((got - want).abs() < 1e-5, "{rows} {cols} {pairs} at {i} {j}");
                        }
                    }
                    if level() > Level::Portable {
                        assert_eq!(got, plain, "{rows} {cols} {pairs}");
                    }
                }
            }
        }
    }

    #[test]
    fn packed_rows_are_turned_over_or_joined_and_zero_beyond() {
        let (stride, cols) = (41, 48);
        for (len, width) in [(1, 2), (17, 32), (37, 33), (16, 40)] {
            let rows = halves(len * stride, 3);
            let at = |row: usize, col: usize| match row < len && col < width {
                true => rows[row * stride + col],
                false => bf16::ZERO,
            };
            let pairs = width.div_ceil(2);
            let mut turned = vec![[bf16::NAN; 2]; pairs * cols];
            pack_turned(Plain::<true>, (&rows, stride), (len, width), cols, &mut turned);
            for (i, pair) in turned.iter().enumerate() {
                let (p, c) = (i / cols, i % cols);
                assert_eq!(*pair, [at(c, 2 * p), at(c, 2 * p + 1)], "{len} {width}: {p} {c}");
            }
            let wide = width.next_multiple_of(LANES);
            let mut joined = vec![[bf16::NAN; 2]; len.div_ceil(2) * wide];
            pack_pairs(Plain::<true>, (&rows, stride), (len, width), wide, &mut joined);
            for (i, pair) in joined.iter().enumerate() {
                let (p, c) = (i / wide, i % wide);
                assert_eq!(*pair, [at(2 * p, c), at(2 * p + 1, c)], "{len} {width}: {p} {c}");
            }
        }
    }
}
