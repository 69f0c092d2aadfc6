//! Blocks of sixteen by sixteen 32-bit cells, turned over: how rows of a matrix become columns of a panel.

use super::simd::{Level, level};

/// Sixteen rows, `stride` apart, become columns: `to[i·to_stride + r] = from[r·stride + i]` for `i` below `rows`.
pub fn transpose(from: &[u32], stride: usize, to: &mut [u32], to_stride: usize, rows: usize) {
    assert!(rows <= 16 && from.len() >= 15 * stride + 16);
    assert!(rows == 0 || to.len() >= (rows - 1) * to_stride + 16);
    #[cfg(target_arch = "x86_64")]
    if level() >= Level::Avx512 {
        // SAFETY: `level` found AVX-512 on this processor, and both sides were checked to hold the block.
        return unsafe { transpose_avx512(from, stride, to, to_stride, rows) };
    }
    for i in 0..rows {
        for (r, x) in to[i * to_stride..][..16].iter_mut().enumerate() {
            *x = from[r * stride + i];
        }
    }
}

/// # Safety
/// `from` and `to` hold what [`transpose`] asserts.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn transpose_avx512(
    from: &[u32],
    stride: usize,
    to: &mut [u32],
    to_stride: usize,
    rows: usize,
) {
    use std::arch::x86_64::{__m512i, _mm512_loadu_si512, _mm512_storeu_si512};
    // SAFETY: the caller's promise; these loads need no alignment.
    let row = |r: usize| unsafe { _mm512_loadu_si512(from.as_ptr().add(r * stride).cast()) };
    let block: [__m512i; 16] = std::array::from_fn(row);
    // SAFETY: this function has AVX-512.
    for (i, row) in unsafe { turned(block) }.iter().enumerate().take(rows) {
        // SAFETY: the caller's promise; these stores need no alignment.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().add(i * to_stride).cast(), *row) };
    }
}

/// Sixteen rows of sixteen cells, turned over in four rounds, each of which exchanges pairs of rows twice as far apart.
///
/// # Safety
/// The processor has AVX-512, and the function into which this is inlined is compiled for it.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub unsafe fn turned(a: [std::arch::x86_64::__m512i; 16]) -> [std::arch::x86_64::__m512i; 16] {
    use std::arch::x86_64::{
        _mm512_shuffle_i32x4, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
        _mm512_unpacklo_epi64,
    };
    let (mut b, mut c, mut d, mut e) = (a, a, a, a);
    // SAFETY: the caller's promise.
    unsafe {
        // Cells of rows 2n and 2n + 1 alternate; then pairs of them, so that a lane has four rows of one column.
        for i in (0..16).step_by(2) {
            b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
            b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
        }
        for four in (0..16).step_by(4) {
            for i in 0..2 {
                c[four + 2 * i] = _mm512_unpacklo_epi64(b[four + i], b[four + i + 2]);
                c[four + 2 * i + 1] = _mm512_unpackhi_epi64(b[four + i], b[four + i + 2]);
            }
        }
        // Lanes of four rows come together by columns: first those of rows 8n and 8n + 4, then of 0 and 8.
        for eight in [0, 8] {
            for i in eight..eight + 4 {
                d[i] = _mm512_shuffle_i32x4::<0x88>(c[i], c[i + 4]);
                d[i + 4] = _mm512_shuffle_i32x4::<0xDD>(c[i], c[i + 4]);
            }
        }
        for i in 0..8 {
            e[i] = _mm512_shuffle_i32x4::<0x88>(d[i], d[i + 8]);
            e[i + 8] = _mm512_shuffle_i32x4::<0xDD>(d[i], d[i + 8]);
        }
    }
    e
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cell_goes_to_its_place_and_no_row_beyond_is_touched() {
        let (stride, to_stride) = (21, 48);
        let from: Vec<u32> = (0..16 * stride as u32).collect();
        for rows in 0..=16 {
            let mut to = vec![u32::MAX; 16 * to_stride];
            transpose(&from, stride, &mut to, to_stride, rows);
            for (at, &got) in to.iter().enumerate() {
                let (i, r) = (at / to_stride, at % to_stride);
                let want = if i < rows && r < 16 { (r * stride + i) as u32 } else { u32::MAX };
                assert_eq!(got, want, "{rows} rows, row {i}, column {r}");
            }
        }
    }
}
