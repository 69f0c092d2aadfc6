//! Dropout masks, recomputed when needed instead of stored.
//!
//! The numbers are those of [`Philox`](crate::rng::Philox) with the counter that [`Dropout`] defines; here sixteen
//! blocks advance side by side, so that they can be vectorised.

use super::simd::{LANES, dispatch};
use crate::backend::DropoutKey;
use crate::program::{Dropout, Rows};

/// Dropout of one site in one batch.
#[derive(Clone, Copy, Debug)]
pub struct Mask {
    /// Half words below this drop their element.
    dropped: u32,
    /// The factor for kept elements.
    keep: f32,
    /// Site, step and key: the parts of a block's counter other than its row and number.
    place: [u32; 4],
    /// The row of the whole batch that is row 0 here.
    first_row: u32,
}

impl Mask {
    /// For a tensor with `heads` rows for each of `rows` (1 except in attention). `None` if nothing is dropped.
    pub fn new(dropout: Dropout, key: DropoutKey, (rows, heads): (Rows, usize)) -> Option<Self> {
        (dropout.p > 0.0).then(|| Self {
            dropped: dropout.dropped(),
            keep: dropout.keep(),
            place: [dropout.site, key.step as u32, key.seed as u32, (key.seed >> 32) as u32],
            first_row: key.first_row(rows).wrapping_mul(heads as u32),
        })
    }

    /// Multiplies columns `0..values.len()` of `row` by the mask: 0 or [`Dropout::keep`].
    pub fn apply(&self, row: u32, values: &mut [f32]) {
        let row = self.first_row.wrapping_add(row);
        apply(values, row, self.place, self.dropped, self.keep);
    }

    /// The same for rows of `width` elements, a multiple of eight: `row` and every `by`-th after it.
    pub fn apply_rows(&self, (row, by): (u32, u32), width: usize, values: &mut [f32]) {
        debug_assert!(width.is_multiple_of(BLOCK) && values.len().is_multiple_of(width));
        let first = self.first_row.wrapping_add(row);
        let rows = Spaced { first, by, blocks: (width / BLOCK) as u32 };
        apply_rows(values, rows, self.place, self.dropped, self.keep);
    }

    /// `out = from` under the mask.
    pub fn copy(&self, row: u32, from: &[f32], out: &mut [f32]) {
        out.copy_from_slice(from);
        self.apply(row, out);
    }
}

dispatch! {
    fn apply(values: &mut [f32], row: u32, place: [u32; 4], dropped: u32, keep: f32) = apply_body;
}

dispatch! {
    fn apply_rows(values: &mut [f32], rows: Spaced, place: [u32; 4], dropped: u32, keep: f32) = apply_rows_body;
}

/// Rows of a matrix that are `by` mask rows apart.
#[derive(Clone, Copy)]
struct Spaced {
    first: u32,
    by: u32,
    /// Blocks per row.
    blocks: u32,
}

/// Elements per block: two for each of its four words.
const BLOCK: usize = 8;
/// Elements covered by [`LANES`] blocks.
const SPAN: usize = BLOCK * LANES;

#[inline(always)]
fn apply_body<const FMA: bool>(
    values: &mut [f32],
    row: u32,
    place: [u32; 4],
    dropped: u32,
    keep: f32,
) {
    for (span, values) in values.chunks_mut(SPAN).enumerate() {
        multiply(values, blocks(from(span), [row; LANES], place), dropped, keep);
    }
}

/// A short row would leave most lanes idle, so blocks are numbered across rows.
#[inline(always)]
fn apply_rows_body<const FMA: bool>(
    values: &mut [f32],
    rows: Spaced,
    place: [u32; 4],
    dropped: u32,
    keep: f32,
) {
    // A division would prevent vectorisation. Half a block leaves room for rounding.
    let share = 1.0 / rows.blocks as f32;
    for (span, values) in values.chunks_mut(SPAN).enumerate() {
        let block = from(span);
        let row = block.map(|block| ((block as f32 + 0.5) * share) as i32 as u32);
        let (mut of_row, mut of_mask) = ([0; LANES], [0; LANES]);
        for l in 0..LANES {
            of_row[l] = block[l].wrapping_sub(row[l].wrapping_mul(rows.blocks));
            of_mask[l] = rows.first.wrapping_add(row[l].wrapping_mul(rows.by));
        }
        multiply(values, blocks(of_row, of_mask, place), dropped, keep);
    }
}

/// The block numbers of a span.
#[inline(always)]
fn from(span: usize) -> [u32; LANES] {
    std::array::from_fn(|lane| (span * LANES + lane) as u32)
}

/// Multiplies a span's elements by the mask from its blocks' words. First puts the words of each block one after
/// another, so that both loops vectorise.
#[inline(always)]
fn multiply(values: &mut [f32], words: [[u32; LANES]; 4], dropped: u32, keep: f32) {
    let (mut in_order, mut factors) = ([0; 4 * LANES], [0.0; SPAN]);
    for (lane, out) in in_order.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        *out = [words[0][lane], words[1][lane], words[2][lane], words[3][lane]];
    }
    for (out, word) in factors.as_chunks_mut::<2>().0.iter_mut().zip(in_order) {
        *out = [word & 0xFFFF, word >> 16].map(|half| if half >= dropped { keep } else { 0.0 });
    }
    for (x, factor) in values.iter_mut().zip(&factors) {
        *x *= factor;
    }
}

/// Words 0 to 3 of Philox4x32-10 blocks; `place` is site, step and key.
#[inline(always)]
fn blocks(block: [u32; LANES], row: [u32; LANES], place: [u32; 4]) -> [[u32; LANES]; 4] {
    let [site, step, mut k0, mut k1] = place;
    let (mut c0, mut c1, mut c2, mut c3) = (block, row, [site; LANES], [step; LANES]);
    for _ in 0..10 {
        for l in 0..LANES {
            let p0 = u64::from(0xD251_1F53u32) * u64::from(c0[l]);
            let p1 = u64::from(0xCD9E_8D57u32) * u64::from(c2[l]);
            c0[l] = (p1 >> 32) as u32 ^ c1[l] ^ k0;
            c2[l] = (p0 >> 32) as u32 ^ c3[l] ^ k1;
            c1[l] = p1 as u32;
            c3[l] = p0 as u32;
        }
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    [c0, c1, c2, c3]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::FirstRow;
    use crate::rng::Philox;

    const TOKENS: (Rows, usize) = (Rows::Tokens, 1);

    #[test]
    fn masks_are_the_words_of_the_shared_generator() {
        let key = DropoutKey::new(0x1234_5678_9ABC_DEF0, 77);
        let mask = Mask::new(Dropout { p: 0.3, site: 5 }, key, TOKENS).unwrap();
        let philox = Philox::from_seed(key.seed);
        for len in [1, 3, 4, 7, 8, 127, 128, 129, 300] {
            let mut got = vec![1.0; len];
            mask.apply(9, &mut got);
            for (col, got) in got.iter().enumerate() {
                let word = philox.block([col as u32 / 8, 9, 5, 77])[col % 8 / 2];
                let half = word >> (16 * (col % 2)) & 0xFFFF;
                // 0.3 · 2¹⁶ is 19,660.8.
                let want = if half >= 19_661 { 65_536.0 / 45_875.0 } else { 0.0 };
                assert!((got - want).abs() < 1e-6, "column {col} of {len}");
            }
        }
    }

    #[test]
    fn rows_together_have_the_masks_of_each_alone() {
        let mask = Mask::new(Dropout { p: 0.4, site: 8 }, DropoutKey::new(2, 6), TOKENS).unwrap();
        for (rows, width) in [(1, 8), (8, 16), (7, 48), (8, 512), (3, 1024)] {
            let mut together = vec![1.0; rows * width];
            mask.apply_rows((9, 12), width, &mut together);
            for (i, got) in together.chunks(width).enumerate() {
                let mut alone = vec![1.0; width];
                mask.apply(9 + 12 * i as u32, &mut alone);
                assert_eq!(got, alone, "row {i} of {rows} × {width}");
            }
        }
    }

    #[test]
    fn a_part_of_a_batch_has_the_masks_of_its_rows_in_the_whole() {
        let dropout = Dropout { p: 0.5, site: 2 };
        let whole = DropoutKey::new(3, 4);
        let part = DropoutKey { first: FirstRow { tokens: 7, sequences: 2 }, ..whole };
        for (rows, first) in
            [((Rows::Tokens, 1), 7), ((Rows::Tokens, 12), 84), ((Rows::Sequences, 3), 6)]
        {
            let masks = [(whole, first + 5), (part, 5)].map(|(key, row)| {
                let mut values = [1.0; 40];
                Mask::new(dropout, key, rows).unwrap().apply(row, &mut values);
                values
            });
            assert_eq!(masks[0], masks[1], "{rows:?}");
        }
    }

    #[test]
    fn zero_probability_is_no_mask_and_one_drops_everything() {
        assert!(Mask::new(Dropout::NONE, DropoutKey::default(), TOKENS).is_none());
        let all = Mask::new(Dropout { p: 1.0, site: 0 }, DropoutKey::default(), TOKENS).unwrap();
        let mut values = [3.0; 5];
        all.apply(0, &mut values);
        assert_eq!(values, [0.0; 5]);
    }
}
