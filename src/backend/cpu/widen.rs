//! Bulk conversion from f16 to f32: frozen matrices are stored in 16 bits and used in 32.

#[cfg(target_arch = "x86_64")]
use super::simd::{Level, level};
use half::f16;
use half::slice::HalfFloatSliceExt;

/// `out = from`, widened. The slices have equal lengths.
pub fn widen(from: &[f16], out: &mut [f32]) {
    assert_eq!(from.len(), out.len());
    #[cfg(target_arch = "x86_64")]
    if level() >= Level::Avx512 {
        // SAFETY: `level` found AVX-512 on this processor.
        return unsafe { widen_avx512(from, out) };
    }
    #[cfg(target_arch = "x86_64")]
    if level() >= Level::Avx2 {
        // SAFETY: `level` found AVX2 and F16C on this processor.
        return unsafe { widen_avx2(from, out) };
    }
    // The processor's own conversion if there is one, otherwise integer arithmetic.
    from.convert_to_f32_slice(out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn widen_avx512(from: &[f16], out: &mut [f32]) {
    use std::arch::x86_64::{_mm256_loadu_si256, _mm512_cvtph_ps, _mm512_storeu_ps};
    let (from_whole, from_rest) = from.as_chunks::<16>();
    let (out_whole, out_rest) = out.as_chunks_mut::<16>();
    for (f, o) in from_whole.iter().zip(out_whole) {
        // SAFETY: both arrays hold 16 elements, and these accesses need no alignment.
        unsafe {
            _mm512_storeu_ps(o.as_mut_ptr(), _mm512_cvtph_ps(_mm256_loadu_si256(f.as_ptr().cast())))
        };
    }
    for (f, o) in from_rest.iter().zip(out_rest) {
        *o = f.to_f32();
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
fn widen_avx2(from: &[f16], out: &mut [f32]) {
    use std::arch::x86_64::{_mm_loadu_si128, _mm256_cvtph_ps, _mm256_storeu_ps};
    let (from_whole, from_rest) = from.as_chunks::<8>();
    let (out_whole, out_rest) = out.as_chunks_mut::<8>();
    for (f, o) in from_whole.iter().zip(out_whole) {
        // SAFETY: both arrays hold 8 elements, and these accesses need no alignment.
        unsafe {
            _mm256_storeu_ps(o.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(f.as_ptr().cast())))
        };
    }
    for (f, o) in from_rest.iter().zip(out_rest) {
        *o = f.to_f32();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_half_widens_exactly() {
        let halves: Vec<f16> =
            (0..=u16::MAX).map(f16::from_bits).filter(|h| h.is_finite()).collect();
        let mut wide = vec![f32::NAN; halves.len()];
        widen(&halves, &mut wide);
        for (h, w) in halves.iter().zip(&wide) {
            assert_eq!(h.to_f64(), f64::from(*w));
        }
    }

    #[test]
    fn lengths_around_the_vector_width_are_complete() {
        for n in 0..40 {
            let halves: Vec<f16> = (0..n).map(|i| f16::from_f32(i as f32 + 0.5)).collect();
            let mut wide = vec![f32::NAN; n];
            widen(&halves, &mut wide);
            assert!(wide.iter().enumerate().all(|(i, &w)| w == i as f32 + 0.5));
        }
    }
}
