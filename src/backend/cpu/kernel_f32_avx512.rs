//! The kernel of f32 products on AVX-512: a cell is an element.

use super::pack_f32::pack;
use super::panels::{CellRows, Factors, Kernel};
use bytemuck::cast_slice;
use std::ops::Range;

/// Eight rows of three vectors: 24 sums in flight, plus three vectors of the panel, in the registers.
pub struct F32Avx512;

const ROWS: usize = 8;
const VECTORS: usize = 3;

impl Kernel for F32Avx512 {
    type Left<'a> = &'a [f32];
    const ROWS: usize = ROWS;
    const COLS: usize = 16 * VECTORS;

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
        // SAFETY: this kernel is chosen only with AVX-512; all three were checked to hold the tile.
        unsafe {
            match rows {
                1 => tile::<1>(left.cast(), of, panel, out.as_mut_ptr(), stride),
                2 => tile::<2>(left.cast(), of, panel, out.as_mut_ptr(), stride),
                3 => tile::<3>(left.cast(), of, panel, out.as_mut_ptr(), stride),
                4 => tile::<4>(left.cast(), of, panel, out.as_mut_ptr(), stride),
                5 => tile::<5>(left.cast(), of, panel, out.as_mut_ptr(), stride),
                6 => tile::<6>(left.cast(), of, panel, out.as_mut_ptr(), stride),
                7 => tile::<7>(left.cast(), of, panel, out.as_mut_ptr(), stride),
                _ => tile::<8>(left.cast(), of, panel, out.as_mut_ptr(), stride),
            }
        }
    }
}

/// `R` rows of one panel.
///
/// # Safety
/// `left` holds `R` rows as deep as the panel, `of` apart, and `out` as many of a panel's columns, `stride` apart.
#[target_feature(enable = "avx512f")]
unsafe fn tile<const R: usize>(
    left: *const f32,
    of: usize,
    panel: &[u32],
    out: *mut f32,
    stride: usize,
) {
    use std::arch::x86_64::{
        _MM_HINT_T0, _mm_prefetch, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps,
        _mm512_setzero_ps, _mm512_storeu_ps,
    };
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; R];
    let depth = panel.len() / (16 * VECTORS);
    let mut columns: *const f32 = panel.as_ptr().cast();
    for k in 0..depth {
        // SAFETY: the panel has `depth` rows of these vectors; a prefetch may name any address.
        let row = unsafe {
            for v in 0..VECTORS {
                _mm_prefetch::<_MM_HINT_T0>(columns.wrapping_add(16 * (8 * VECTORS + v)).cast());
            }
            let row: [_; VECTORS] = std::array::from_fn(|v| _mm512_loadu_ps(columns.add(16 * v)));
            columns = columns.add(16 * VECTORS);
            row
        };
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let x = _mm512_set1_ps(unsafe { *left.add(r * of + k) });
            for v in 0..VECTORS {
                sums[v] = _mm512_fmadd_ps(x, row[v], sums[v]);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        for (v, sum) in sums.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { _mm512_storeu_ps(out.add(r * stride + 16 * v), *sum) };
        }
    }
}
