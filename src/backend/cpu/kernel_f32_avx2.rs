//! The kernel of f32 products on AVX2 with FMA: a cell is an element.

use super::pack_f32::pack;
use super::panels::{CellRows, Factors, Kernel};
use bytemuck::cast_slice;
use std::ops::Range;

/// Six rows of two vectors: twelve sums in flight; with two vectors of the panel and two of the left operand they fill
/// the registers.
pub struct Avx2;

const ROWS: usize = 6;
const VECTORS: usize = 2;
const LANES: usize = 8;

impl Kernel for Avx2 {
    type Left<'a> = &'a [f32];
    const ROWS: usize = ROWS;
    const COLS: usize = LANES * VECTORS;

    fn cells(depth: usize) -> usize {
        depth
    }

    fn pack(factors: Factors<'_>, cols: Range<usize>, panels: &mut [u32]) {
        pack(factors, cols, Self::COLS, panels);
    }

    fn left<'a, 'b: 'a>(
        left: &'b [f32],
        depth: usize,
        rows: Range<usize>,
        _: &'a mut [u32],
    ) -> CellRows<'a> {
        CellRows { cells: cast_slice(&left[rows.start * depth..rows.end * depth]), stride: depth }
    }

    fn multiply(left: CellRows<'_>, rows: usize, panel: &[u32], out: &mut [f32], stride: usize) {
        let depth = panel.len() / Self::COLS;
        assert!((1..=ROWS).contains(&rows) && left.cells.len() >= (rows - 1) * left.stride + depth);
        assert!(out.len() >= (rows - 1) * stride + Self::COLS);
        let (left, of, panel) = (left.cells.as_ptr(), left.stride, panel);
        // SAFETY: this kernel is chosen only with AVX2 and FMA; all three were checked to hold the tile.
        unsafe {
            match rows {
                1 => tile::<1>(left.cast(), of, panel, out.as_mut_ptr(), stride),
                2 => tile::<2>(left.cast(), of, panel, out.as_mut_ptr(), stride),
                3 => tile::<3>(left.cast(), of, panel, out.as_mut_ptr(), stride),
                4 => tile::<4>(left.cast(), of, panel, out.as_mut_ptr(), stride),
                5 => tile::<5>(left.cast(), of, panel, out.as_mut_ptr(), stride),
                _ => tile::<6>(left.cast(), of, panel, out.as_mut_ptr(), stride),
            }
        }
    }
}

/// `R` rows of one panel.
///
/// # Safety
/// `left` holds `R` rows as deep as the panel, `of` apart, and `out` as many of a panel's columns, `stride` apart.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const R: usize>(
    left: *const f32,
    of: usize,
    panel: &[u32],
    out: *mut f32,
    stride: usize,
) {
    use std::arch::x86_64::{
        _MM_HINT_T0, _mm_prefetch, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps,
        _mm256_setzero_ps, _mm256_storeu_ps,
    };
    let mut sums = [[_mm256_setzero_ps(); VECTORS]; R];
    let depth = panel.len() / (LANES * VECTORS);
    let mut columns: *const f32 = panel.as_ptr().cast();
    for k in 0..depth {
        // SAFETY: the panel has `depth` rows of these vectors; a prefetch may name any address.
        let row = unsafe {
            _mm_prefetch::<_MM_HINT_T0>(columns.wrapping_add(8 * LANES * VECTORS).cast());
            let row: [_; VECTORS] =
                std::array::from_fn(|v| _mm256_loadu_ps(columns.add(LANES * v)));
            columns = columns.add(LANES * VECTORS);
            row
        };
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let x = _mm256_set1_ps(unsafe { *left.add(r * of + k) });
            for v in 0..VECTORS {
                sums[v] = _mm256_fmadd_ps(x, row[v], sums[v]);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        for (v, sum) in sums.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { _mm256_storeu_ps(out.add(r * stride + LANES * v), *sum) };
        }
    }
}
