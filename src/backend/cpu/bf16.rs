//! Bulk conversion between f32 and bf16: to nearest, ties to even, and subnormal numbers to zero, as processors with
//! bf16 instructions do it.

use super::simd::dispatch;
#[cfg(target_arch = "x86_64")]
use super::simd::{Level, level};
use half::bf16;

/// `out = from`, rounded. The slices have equal lengths.
pub fn narrow(from: &[f32], out: &mut [bf16]) {
    assert_eq!(from.len(), out.len());
    #[cfg(target_arch = "x86_64")]
    if level() >= Level::Avx512Bf16 {
        // SAFETY: `level` found these instructions on this processor.
        return unsafe { narrow_avx512(from, out) };
    }
    round(from, out);
}

dispatch! {
    fn round(from: &[f32], out: &mut [bf16]) = round_body;
    /// `out = from`, widened.
    pub fn widen(from: &[bf16], out: &mut [f32]) = widen_body;
    /// `values *= factor`.
    pub fn multiply(values: &mut [f32], factor: &[bf16]) = multiply_body;
}

#[inline(always)]
fn round_body<const FMA: bool>(from: &[f32], out: &mut [bf16]) {
    for (x, out) in from.iter().zip(out) {
        *out = rounded(*x);
    }
}

#[inline(always)]
pub fn rounded(x: f32) -> bf16 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7FFF + (bits >> 16 & 1));
    let normal = if x.abs() < f32::MIN_POSITIVE { bits & 0x8000_0000 } else { nearest };
    let bits = if x.is_nan() { bits | 0x0040_0000 } else { normal };
    bf16::from_bits((bits >> 16) as u16)
}

/// Exactly.
#[inline(always)]
pub fn wide(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

#[inline(always)]
fn widen_body<const FMA: bool>(from: &[bf16], out: &mut [f32]) {
    for (x, out) in from.iter().zip(out) {
        *out = wide(*x);
    }
}

#[inline(always)]
fn multiply_body<const FMA: bool>(values: &mut [f32], factor: &[bf16]) {
    for (x, factor) in values.iter_mut().zip(factor) {
        *x *= wide(*factor);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn narrow_avx512(from: &[f32], out: &mut [bf16]) {
    use std::arch::x86_64::{
        __m256bh, __m256i, _mm256_storeu_si256, _mm512_cvtneps_pbh, _mm512_loadu_ps,
    };
    let (from_whole, from_rest) = from.as_chunks::<16>();
    let (out_whole, out_rest) = out.as_chunks_mut::<16>();
    for (from, out) in from_whole.iter().zip(out_whole) {
        // SAFETY: both arrays hold 16 elements, and these accesses need no alignment; the vectors are plain bits.
        unsafe {
            let rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(from.as_ptr()));
            let bits = std::mem::transmute::<__m256bh, __m256i>(rounded);
            _mm256_storeu_si256(out.as_mut_ptr().cast(), bits);
        }
    }
    round_body::<true>(from_rest, out_rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every sign, exponent and upper fraction, with lower fractions around and at the halves.
    fn samples() -> Vec<f32> {
        let lower = [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF];
        let bits = (0..=u16::MAX).flat_map(|upper| lower.map(|low| u32::from(upper) << 16 | low));
        bits.map(f32::from_bits).collect()
    }

    #[test]
    fn rounding_is_to_the_nearest_even_and_subnormals_are_zero() {
        for x in samples() {
            let want = match x.is_subnormal() {
                true => bf16::from_f32(0.0f32.copysign(x)),
                false => bf16::from_f32(x),
            };
            assert_eq!(rounded(x).to_bits(), want.to_bits(), "{x:e}");
        }
    }

    #[test]
    fn the_processors_rounding_has_the_bits_of_the_portable_one() {
        let samples = samples();
        let mut got = vec![bf16::NAN; samples.len()];
        narrow(&samples, &mut got);
        for (x, got) in samples.iter().zip(&got) {
            assert_eq!(got.to_bits(), rounded(*x).to_bits(), "{x:e}");
        }
    }

    #[test]
    fn lengths_around_the_vector_width_are_complete() {
        for n in 0..40 {
            let values: Vec<f32> = (0..n).map(|i| i as f32 + 0.5).collect();
            let (mut narrowed, mut back) = (vec![bf16::NAN; n], vec![f32::NAN; n]);
            narrow(&values, &mut narrowed);
            widen(&narrowed, &mut back);
            assert_eq!(back, values);
            multiply(&mut back, &narrowed);
            assert!(back.iter().zip(&values).all(|(got, x)| *got == x * x));
        }
    }
}
