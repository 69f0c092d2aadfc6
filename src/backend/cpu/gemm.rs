//! Matrix products with what is done to each row of the output while it is in the cache, by the best means of this
//! processor: [`panels`] with a kernel of our own, or a [`library`].
//!
//! Measured on a Zen 5 core, whose peak is 274 GFLOP/s in f32 and 512 in bf16, at the shapes of MiniLM and BERT-base with
//! 800 rows and f16 matrices, whose conversion counts: 232 to 264 in f32 (219 to 231 with GELU and its derivative), where
//! the library reaches 205 to 264 (216 to 219); 414 to 502 in bf16 (347 to 372). Best of many calls, taken in turn.

use super::elements::Elements;
use super::kernel_bf16;
#[cfg(target_arch = "x86_64")]
use super::kernel_f32;
use super::library;
use super::panels::{self, Direction, Factors, Left};
use super::scratch::Scratch;
use super::share::Shared;
use super::simd::{Level, level};
use super::weights::View;
use std::ops::Range;

pub use library::weight_gradient;

/// Rows of one tile at most.
const MAX_ROWS: usize = 512;

/// Rows of a tile for a product of `rows` rows: equal chunks of at most [`MAX_ROWS`].
pub fn row_chunk(rows: usize) -> usize {
    let chunks = rows.div_ceil(MAX_ROWS).max(1);
    rows.div_ceil(chunks).next_multiple_of(8)
}

/// Scratch elements for products of up to `rows` rows and `widest` columns on either side.
pub fn scratch_for(rows: usize, widest: usize) -> usize {
    library::scratch_for(rows, widest).max(panels::scratch_for(widest))
}

/// Where a product goes.
#[derive(Clone, Copy)]
pub struct Output<'a> {
    /// `[rows, columns]`; `None` where all that remains is what the epilogue makes of it.
    pub to: Option<Elements<'a>>,
    /// It is added to what is there.
    pub adds: bool,
    /// The epilogue reads what is there, so the product must be made beside it.
    pub staged: bool,
}

impl<'a> Output<'a> {
    /// Written to `out`.
    pub fn new(out: &'a mut [f32]) -> Self {
        Self { to: Some(Elements::F32(Shared::new(out))), adds: false, staged: false }
    }

    /// Finishes a part of a row that was made beside the output, where it begins at element `at`.
    ///
    /// # Safety
    /// No other thread works on these elements.
    pub unsafe fn pass(&self, at: usize, values: &mut [f32], epilogue: impl FnOnce(&mut [f32])) {
        if let Some(to) = self.to.filter(|_| self.adds) {
            // SAFETY: the caller's promise.
            unsafe { to.add_to(at, values) };
        }
        epilogue(values);
        if let Some(to) = self.to {
            // SAFETY: the caller's promise.
            unsafe { to.write(at, values) };
        }
    }
}

/// The product of `factors`, with `epilogue` (row, columns, values) run on each row of a tile before it is written.
pub fn product(
    factors: Factors<'_>,
    output: Output<'_>,
    scratch: &Scratch,
    epilogue: impl Fn(usize, Range<usize>, &mut [f32]) + Sync,
) {
    match (factors.left, level()) {
        #[cfg(target_arch = "x86_64")]
        (Left::F32(_), Level::Avx512 | Level::Avx512Bf16) => {
            panels::product::<kernel_f32::Avx512>(factors, output, scratch, &epilogue);
        }
        (Left::F32(x), _) => library::product(x, factors, output, scratch, &epilogue),
        #[cfg(target_arch = "x86_64")]
        (Left::Rounded(_), Level::Avx512Bf16) => {
            panels::product::<kernel_bf16::Avx512>(factors, output, scratch, &epilogue);
        }
        (Left::Rounded(_), _) => {
            panels::product::<kernel_bf16::Portable>(factors, output, scratch, &epilogue);
        }
    }
}

/// Rows, outputs and inputs of a linear layer.
pub type LayerShape = (usize, usize, usize);

/// `x·Wᵀ`: x `[rows, inputs]`, W `[outputs, inputs]`.
pub fn forward<'a>(left: Left<'a>, weight: View<'a>, shape: LayerShape) -> Factors<'a> {
    let (rows, cols, depth) = shape;
    Factors { left, weight, direction: Direction::Forward, rows, cols, depth }
}

/// `dy·W`: dy `[rows, outputs]`, W `[outputs, inputs]`.
pub fn backward<'a>(left: Left<'a>, weight: View<'a>, shape: LayerShape) -> Factors<'a> {
    let (rows, depth, cols) = shape;
    Factors { left, weight, direction: Direction::Backward, rows, cols, depth }
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
}
