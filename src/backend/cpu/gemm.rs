//! Matrix products, with work on each output row while it is in the cache, by the fastest means on this processor:
//! [`panels`] with one of our own kernels, or a [`library`].

use super::elements::Source;
use super::finish_bf16::{Finish, finish};
use super::kernel_bf16;
use super::library;
use super::panels::{self, Direction, Factors};
use super::pointwise::add;
use super::share::Shared;
#[cfg(target_arch = "x86_64")]
use super::simd::{Level, level};
use super::weights::View;
use super::workers::Workers;
#[cfg(target_arch = "x86_64")]
use super::{kernel_f32_avx2, kernel_f32_avx512};
use std::ops::Range;

pub use library::weight_gradient;

/// Maximum rows of one tile.
const MAX_ROWS: usize = 512;

/// Rows per tile for a product of `rows` rows: equal chunks of at most [`MAX_ROWS`].
pub fn row_chunk(rows: usize) -> usize {
    let chunks = rows.div_ceil(MAX_ROWS).max(1);
    rows.div_ceil(chunks).next_multiple_of(8)
}

/// Scratch elements for products of up to `rows` rows and `widest` columns on either side.
pub fn scratch_for(rows: usize, widest: usize) -> usize {
    library::scratch_for(rows, widest).max(panels::scratch_for(widest))
}

/// Destination of a product in f32.
#[derive(Clone, Copy)]
pub struct Output<'a> {
    /// `[rows, columns]`; `None` if only the epilogue's result remains.
    pub to: Option<Shared<'a>>,
    /// Whether it is added to the present contents.
    pub adds: bool,
    /// Whether the epilogue reads the present contents, so that the product must be staged elsewhere.
    pub staged: bool,
}

impl<'a> Output<'a> {
    /// Written to `out`.
    pub fn new(out: &'a mut [f32]) -> Self {
        Self { to: Some(Shared::new(out)), adds: false, staged: false }
    }

    /// Finishes a part of a row that was computed elsewhere, to start at element `at` of the output.
    ///
    /// # Safety
    /// No other thread works on these elements.
    pub unsafe fn pass(&self, at: usize, values: &mut [f32], epilogue: impl FnOnce(&mut [f32])) {
        if let Some(to) = self.to.filter(|_| self.adds) {
            // SAFETY: the caller's promise.
            add(values, unsafe { to.slice(at, values.len()) });
        }
        epilogue(values);
        if let Some(to) = self.to {
            // SAFETY: the caller's promise; the slice above is gone.
            unsafe { to.slice(at, values.len()) }.copy_from_slice(values);
        }
    }
}

/// The product of `left` and `factors` in f32; `epilogue` (row, columns, values) runs on each row of a tile before it
/// is written.
pub fn product(
    left: &[f32],
    factors: Factors<'_>,
    output: Output<'_>,
    workers: &Workers,
    epilogue: impl Fn(usize, Range<usize>, &mut [f32]) + Sync,
) {
    if factors.rows == 0 {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if level() >= Level::Avx2 {
        let finish = |rows: Range<usize>, cols: Range<usize>, block: &mut [f32], stride: usize| {
            for (row, values) in rows.zip(block.chunks_mut(stride)) {
                let epilogue = |values: &mut [f32]| epilogue(row, cols.clone(), values);
                let at = row * factors.cols + cols.start;
                // SAFETY: these columns of this row belong only to this task.
                unsafe { output.pass(at, &mut values[..cols.len()], epilogue) };
            }
        };
        return match level() {
            Level::Avx2 => {
                panels::product::<kernel_f32_avx2::Avx2>(left, factors, workers, &finish)
            }
            _ => panels::product::<kernel_f32_avx512::F32Avx512>(left, factors, workers, &finish),
        };
    }
    library::product(left, factors, output, workers, &epilogue);
}

/// The product of `left` and `factors` in bf16 with f32 sums.
pub fn product_bf16(left: Source<'_>, factors: Factors<'_>, what: &Finish<'_>, workers: &Workers) {
    let finish = |rows: Range<usize>, cols: Range<usize>, block: &mut [f32], stride: usize| {
        finish(what, rows, cols, block, stride);
    };
    #[cfg(target_arch = "x86_64")]
    if level() >= Level::Avx512Bf16 {
        return panels::product::<kernel_bf16::Bf16Avx512>(left, factors, workers, &finish);
    }
    panels::product::<kernel_bf16::Portable>(left, factors, workers, &finish);
}

/// Rows, outputs and inputs of a linear layer.
pub type LayerShape = (usize, usize, usize);

/// For `x·Wᵀ`: x `[rows, inputs]`, W `[outputs, inputs]`.
pub fn forward(weight: View<'_>, (rows, cols, depth): LayerShape) -> Factors<'_> {
    Factors { weight, direction: Direction::Forward, rows, cols, depth }
}

/// For `dy·W`: dy `[rows, outputs]`, W `[outputs, inputs]`.
pub fn backward(weight: View<'_>, (rows, depth, cols): LayerShape) -> Factors<'_> {
    Factors { weight, direction: Direction::Backward, rows, cols, depth }
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
