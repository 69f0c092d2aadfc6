//! Matrices in 4 bits: NF4 with double-quantised scales, after QLoRA (Dettmers et al., 2023, arXiv 2305.14314, §3).
//!
//! Each row is cut into blocks of 64 (the last may be shorter), and each element of a block is one of sixteen levels,
//! the quantiles of a normal distribution, times the block's scale. The scales, one a block, are stored in a byte
//! each: their distance from the matrix's mean scale, in 127ths of the largest such distance in their group of 256.
//! (The paper stores that second level as 8-bit floats; bytes are as small and need no table.) Together 4.13 bits a
//! weight.

use super::simd::dispatch;
use std::ops::Range;

/// Elements that share a scale.
pub const BLOCK: usize = 64;
/// Scales that share a scale of their own.
const GROUP: usize = 256;

/// The levels: paper, appendix E.
const LEVELS: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// A row-major matrix.
pub struct Nf4 {
    cols: usize,
    /// Two to a byte, the even column in its low half; rows on whole bytes.
    codes: Vec<u8>,
    /// One a block, row by row.
    scales: Vec<i8>,
    /// One a group of `scales`.
    group_scales: Vec<f32>,
    mean_scale: f32,
}

/// Bytes of a matrix.
pub fn bytes(rows: usize, cols: usize) -> usize {
    let scales = rows * cols.div_ceil(BLOCK);
    rows * cols.div_ceil(2) + scales + 4 * scales.div_ceil(GROUP)
}

impl Nf4 {
    /// Rounds each of `values`, `cols` a row, to the nearest level of its block.
    pub fn new(values: &[f32], cols: usize) -> Self {
        let rows = values.len() / cols.max(1);
        let blocks = || {
            values
                .chunks_exact(cols.max(1))
                .flat_map(|row| row.chunks(BLOCK))
        };
        let exact: Vec<f32> = blocks()
            .map(|block| block.iter().fold(0.0, |most, x| x.abs().max(most)))
            .collect();
        let mean_scale = exact.iter().sum::<f32>() / exact.len().max(1) as f32;
        let mut scales = Vec::with_capacity(exact.len());
        let mut group_scales = Vec::with_capacity(exact.len().div_ceil(GROUP));
        for group in exact.chunks(GROUP) {
            let most = group
                .iter()
                .fold(0.0, |most: f32, s| (s - mean_scale).abs().max(most));
            let step = most / 127.0;
            group_scales.push(step);
            scales.extend(group.iter().map(|s| match step > 0.0 {
                true => ((s - mean_scale) / step).round() as i8,
                false => 0,
            }));
        }
        let mut matrix = Self {
            cols,
            codes: vec![0; rows * cols.div_ceil(2)],
            scales,
            group_scales,
            mean_scale,
        };
        let row_bytes = cols.div_ceil(2);
        for (i, block) in blocks().enumerate() {
            let scale = matrix.scale(i);
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            let (row, from) = (i / cols.div_ceil(BLOCK), i % cols.div_ceil(BLOCK) * BLOCK);
            let start = row * row_bytes + from / 2;
            for (pair, code) in block.chunks(2).zip(&mut matrix.codes[start..]) {
                *code = nearest(pair[0] * inverse)
                    | pair.get(1).map_or(0, |x| nearest(x * inverse)) << 4;
            }
        }
        matrix
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.codes.capacity() + self.scales.capacity() + 4 * self.group_scales.capacity()
    }

    /// A block's scale.
    fn scale(&self, block: usize) -> f32 {
        self.mean_scale + f32::from(self.scales[block]) * self.group_scales[block / GROUP]
    }

    /// `out = ` these columns of a row; the first of them is even.
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

/// The code of the level nearest to `x`: how many of the midpoints between levels lie below it.
fn nearest(x: f32) -> u8 {
    let below = LEVELS
        .windows(2)
        .filter(|pair| x > 0.5 * (pair[0] + pair[1]));
    below.count() as u8
}

/// `out = ` levels times `scale`, two to a byte of `codes`.
fn widen(codes: &[u8], scale: f32, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if super::simd::level() == super::simd::Level::Avx512 {
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
        // Only the low four bits of an index count.
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
