//! f16 to f32 in bulk: frozen matrices are stored in 16 bits and computed with in 32.

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
    // F16C where there is, integer arithmetic elsewhere.
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
