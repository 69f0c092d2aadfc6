//! Transposes blocks of sixteen by sixteen 32-bit cells: this is how rows of a matrix become columns of a panel.

use super::simd::{Level, level};

/// Sixteen rows, `stride` apart, become columns: `to[i·to_stride + r] = from[r·stride + i]` for `i` below `rows`.
pub fn transpose(from: &[u32], stride: usize, to: &mut [u32], to_stride: usize, rows: usize) {
    assert!(rows <= 16 && from.len() >= 15 * stride + 16);
    assert!(rows == 0 || to.len() >= (rows - 1) * to_stride + 16);
    if level() >= Level::Avx512 {
        // SAFETY: `level` found AVX-512 on this processor, and both sides were checked to hold the block.
        return unsafe { transpose_avx512(from, stride, to, to_stride, rows) };
    }
    if level() >= Level::Avx2 && rows == 16 {
        // SAFETY: `level` found AVX2 on this processor, and both sides were checked to hold the whole block.
        return unsafe { transpose_avx2(from, stride, to, to_stride) };
    }
    for i in 0..rows {
        for (r, x) in to[i * to_stride..][..16].iter_mut().enumerate() {
            *x = from[r * stride + i];
        }
    }
}

/// # Safety
/// `from` and `to` hold what [`transpose`] asserts.
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

/// All sixteen rows, in four blocks of eight by eight.
///
/// # Safety
/// `from` and `to` hold what [`transpose`] asserts.
#[target_feature(enable = "avx2")]
unsafe fn transpose_avx2(from: &[u32], stride: usize, to: &mut [u32], to_stride: usize) {
    use std::arch::x86_64::{
        __m256, _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_shuffle_ps, _mm256_storeu_ps,
        _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };
    for (r, i) in [(0, 0), (0, 8), (8, 0), (8, 8)] {
        let row = |n: usize| {
            // SAFETY: the caller's promise; these loads need no alignment.
            unsafe { _mm256_loadu_ps(from.as_ptr().add((r + n) * stride + i).cast()) }
        };
        let a: [__m256; 8] = std::array::from_fn(row);
        // Interleaves cells of rows 2n and 2n + 1; then a lane has four rows of one column; then lanes are exchanged.
        let (mut b, mut c, mut d) = (a, a, a);
        for n in (0..8).step_by(2) {
            b[n] = _mm256_unpacklo_ps(a[n], a[n + 1]);
            b[n + 1] = _mm256_unpackhi_ps(a[n], a[n + 1]);
        }
        for four in [0, 4] {
            for n in 0..2 {
                c[four + 2 * n] = _mm256_shuffle_ps::<0x44>(b[four + n], b[four + n + 2]);
                c[four + 2 * n + 1] = _mm256_shuffle_ps::<0xEE>(b[four + n], b[four + n + 2]);
            }
        }
        for n in 0..4 {
            d[n] = _mm256_permute2f128_ps::<0x20>(c[n], c[n + 4]);
            d[n + 4] = _mm256_permute2f128_ps::<0x31>(c[n], c[n + 4]);
        }
        for (n, row) in d.into_iter().enumerate() {
            // SAFETY: the caller's promise; these stores need no alignment.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr().add((i + n) * to_stride + r).cast(), row) };
        }
    }
}

/// Transposes sixteen rows of sixteen cells in four rounds, each of which exchanges pairs of rows twice as far apart.
///
/// # Safety
/// The processor has AVX-512, and the function into which this is inlined is compiled for it.
#[inline(always)]
pub unsafe fn turned(a: [std::arch::x86_64::__m512i; 16]) -> [std::arch::x86_64::__m512i; 16] {
    use std::arch::x86_64::{
        _mm512_shuffle_i32x4, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
        _mm512_unpacklo_epi64,
    };
    let (mut b, mut c, mut d, mut e) = (a, a, a, a);
    // SAFETY: the caller's promise.
    unsafe {
        // Interleaves cells of rows 2n and 2n + 1; then pairs of them, so that a lane has four rows of one column.
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
        // Lanes of four rows are combined by column: first those of rows 8n and 8n + 4, then of 0 and 8.
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
