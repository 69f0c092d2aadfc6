//! Matrices in 4 bits, as products read them.

use super::simd::dispatch;
use crate::backend::nf4::{BLOCK, GROUP, LEVELS, Nf4};
use std::ops::Range;

/// Bytes of a matrix.
pub fn bytes(rows: usize, cols: usize) -> usize {
    let scales = rows * cols.div_ceil(BLOCK);
    rows * cols.div_ceil(2) + scales + 4 * scales.div_ceil(GROUP)
}

impl Nf4 {
    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.codes.capacity() + self.scales.capacity() + 4 * self.group_scales.capacity()
    }

    /// `out = ` these columns of a row; the first column is even.
    pub fn widen(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
        let (row_bytes, row_blocks) = (self.cols.div_ceil(2), self.cols.div_ceil(BLOCK));
        let mut at = cols.start;
        let mut out = &mut out[..cols.len()];
        while at < cols.end {
            let end = ((at / BLOCK + 1) * BLOCK).min(cols.end);
            let scale = self.scale(row * row_blocks + at / BLOCK);
            let (here, rest) = out.split_at_mut(end - at);
            let start = row * row_bytes + at / 2;
            let codes = &self.codes[start..start + here.len().div_ceil(2)];
            widen(codes, scale, here);
            (out, at) = (rest, end);
        }
    }
}

/// `out = ` levels times `scale`, two codes per byte.
fn widen(codes: &[u8], scale: f32, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if super::simd::level() >= super::simd::Level::Avx512 {
        // SAFETY: `level` found AVX-512 on this processor.
        return unsafe { widen_avx512(codes, scale, out) };
    }
    look_up(codes, scale, out);
}

dispatch! {
    fn look_up(codes: &[u8], scale: f32, out: &mut [f32]) = look_up_body;
}

#[inline(always)]
fn look_up_body<const FMA: bool>(codes: &[u8], scale: f32, out: &mut [f32]) {
    for (pair, code) in out.chunks_mut(2).zip(codes) {
        pair[0] = LEVELS[usize::from(code & 15)] * scale;
        if let Some(x) = pair.get_mut(1) {
            *x = LEVELS[usize::from(code >> 4)] * scale;
        }
    }
}

/// Sixteen codes at a time: the table is one register.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn widen_avx512(codes: &[u8], scale: f32, out: &mut [f32]) {
    use std::arch::x86_64::{
        _mm_cvtsi64_si128, _mm512_castsi128_si512, _mm512_loadu_ps, _mm512_mul_ps,
        _mm512_permutexvar_epi32, _mm512_permutexvar_ps, _mm512_set_epi32, _mm512_set1_ps,
        _mm512_srlv_epi32, _mm512_storeu_ps,
    };
    let half = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
    let shift = _mm512_set_epi32(28, 24, 20, 16, 12, 8, 4, 0, 28, 24, 20, 16, 12, 8, 4, 0);
    // SAFETY: the table has sixteen elements, and the load needs no alignment.
    let levels = unsafe { _mm512_loadu_ps(LEVELS.as_ptr()) };
    let levels = _mm512_mul_ps(levels, _mm512_set1_ps(scale));
    let (out_whole, out_rest) = out.as_chunks_mut::<16>();
    let (code_whole, code_rest) = codes.split_at(out_whole.len() * 8);
    for (eight, o) in code_whole.as_chunks::<8>().0.iter().zip(out_whole) {
        let bits = _mm512_castsi128_si512(_mm_cvtsi64_si128(i64::from_le_bytes(*eight)));
        // Only the low four bits of an index matter.
        let index = _mm512_srlv_epi32(_mm512_permutexvar_epi32(half, bits), shift);
        // SAFETY: the array has sixteen elements, and the store needs no alignment.
        unsafe { _mm512_storeu_ps(o.as_mut_ptr(), _mm512_permutexvar_ps(index, levels)) };
    }
    look_up_body::<true>(code_rest, scale, out_rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    fn normal(count: usize) -> Vec<f32> {
        let mut numbers = Stream::new(1, Purpose::HeadInit, 0);
        (0..count).map(|_| 0.05 * numbers.normal()).collect()
    }

    fn row(matrix: &Nf4, row: usize, cols: Range<usize>) -> Vec<f32> {
        let mut out = vec![f32::NAN; cols.len()];
        matrix.widen(row, cols, &mut out);
        out
    }

    #[test]
    fn normal_weights_come_back_within_a_tenth_whatever_the_length_of_a_row() {
        for cols in [1, 2, 63, 64, 65, 100, 384, 1000] {
            let rows = 20_000 / cols;
            let values = normal(rows * cols);
            let matrix = Nf4::new(&values, cols);
            let (mut off, mut all) = (0.0, 0.0);
            for (r, want) in values.chunks_exact(cols).enumerate() {
                for (got, want) in row(&matrix, r, 0..cols).iter().zip(want) {
                    off += f64::from(got - want).powi(2);
                    all += f64::from(*want).powi(2);
                }
            }
            let error = (off / all).sqrt();
            assert!(error < 0.1, "{cols} columns: {error}");
            assert_eq!(matrix.bytes(), bytes(rows, cols));
        }
    }

    #[test]
    fn any_even_start_of_a_row_gives_the_bits_of_the_whole_row() {
        let (rows, cols) = (3, 333);
        let matrix = Nf4::new(&normal(rows * cols), cols);
        for r in 0..rows {
            let whole = row(&matrix, r, 0..cols);
            for start in (0..cols).step_by(2) {
                for end in [start + 1, start + 16, cols] {
                    let end = end.min(cols);
                    assert_eq!(row(&matrix, r, start..end), whole[start..end]);
                }
            }
        }
    }

    #[test]
    fn zeros_and_the_largest_of_a_lone_block_are_exact() {
        let zeros = Nf4::new(&[0.0; 130], 65);
        assert_eq!(row(&zeros, 1, 0..65), [0.0; 65]);
        let block: Vec<f32> = (0..64).map(|i| (i as f32 - 31.0) / 32.0).collect();
        let matrix = Nf4::new(&block, 64);
        assert_eq!(row(&matrix, 0, 62..64), [LEVELS[15], 1.0]);
    }
}
