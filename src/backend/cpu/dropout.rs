//! Dropout masks, recomputed wherever they are needed instead of stored.
//!
//! The numbers are those of [`Philox`](crate::rng::Philox) under the counter that
//! [`Dropout`] defines; here sixteen blocks advance side by side so that they become
//! vectors.

use super::simd::{LANES, dispatch};
use crate::backend::DropoutKey;
use crate::program::{Dropout, Rows};
use crate::rng::unit_f32;

/// One place's dropout in one batch.
#[derive(Clone, Copy, Debug)]
pub struct Mask {
    p: f32,
    /// What a kept element is multiplied with.
    keep: f32,
    key: [u32; 2],
    site: u32,
    step: u32,
    /// Of the whole batch: the row that is row 0 here.
    first_row: u32,
}

impl Mask {
    /// For a tensor with `heads` rows for each of `rows` (1 but in attention). `None` where nothing is dropped.
    pub fn new(dropout: Dropout, key: DropoutKey, (rows, heads): (Rows, usize)) -> Option<Self> {
        (dropout.p > 0.0).then(|| Self {
            p: dropout.p,
            keep: if dropout.p < 1.0 { 1.0 / (1.0 - dropout.p) } else { 0.0 },
            key: [key.seed as u32, (key.seed >> 32) as u32],
            site: dropout.site,
            step: key.step as u32,
            first_row: key.first_row(rows).wrapping_mul(heads as u32),
        })
    }

    /// Multiplies columns `0..values.len()` of `row` with the mask: 0 or `1 / (1 - p)`.
    pub fn apply(&self, row: u32, values: &mut [f32]) {
        let row = self.first_row.wrapping_add(row);
        apply(values, row, self.site, self.step, self.key, self.p, self.keep);
    }

    /// `out = from` under the mask.
    pub fn copy(&self, row: u32, from: &[f32], out: &mut [f32]) {
        out.copy_from_slice(from);
        self.apply(row, out);
    }
}

dispatch! {
    fn apply(values: &mut [f32], row: u32, site: u32, step: u32, key: [u32; 2], p: f32, keep: f32) = apply_body;
}

/// Elements covered by [`LANES`] blocks of four words.
const SPAN: usize = 4 * LANES;

#[inline(always)]
fn apply_body<const FMA: bool>(
    values: &mut [f32],
    row: u32,
    site: u32,
    step: u32,
    key: [u32; 2],
    p: f32,
    keep: f32,
) {
    let mut factor = [0.0f32; SPAN];
    for (span, values) in values.chunks_mut(SPAN).enumerate() {
        let words = blocks((span * LANES) as u32, row, site, step, key);
        for (lane, out) in factor.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            for (out, words) in out.iter_mut().zip(&words) {
                *out = if unit_f32(words[lane]) >= p { keep } else { 0.0 };
            }
        }
        for (x, f) in values.iter_mut().zip(&factor) {
            *x *= f;
        }
    }
}

/// Words 0 to 3 of the Philox4x32-10 blocks `first..first + LANES` of a row.
#[inline(always)]
fn blocks(first: u32, row: u32, site: u32, step: u32, key: [u32; 2]) -> [[u32; LANES]; 4] {
    let mut c0: [u32; LANES] = std::array::from_fn(|l| first + l as u32);
    let mut c1 = [row; LANES];
    let mut c2 = [site; LANES];
    let mut c3 = [step; LANES];
    let [mut k0, mut k1] = key;
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
        for len in [1, 3, 4, 63, 64, 65, 200] {
            let mut got = vec![1.0; len];
            mask.apply(9, &mut got);
            for (col, got) in got.iter().enumerate() {
                let word = philox.block([col as u32 / 4, 9, 5, 77])[col % 4];
                let want = if unit_f32(word) >= 0.3 { 1.0 / 0.7 } else { 0.0 };
                assert!((got - want).abs() < 1e-6, "column {col} of {len}");
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
