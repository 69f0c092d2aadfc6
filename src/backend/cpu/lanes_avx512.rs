//! [`Lanes`] on a processor with AVX-512 and bf16 dot products.

use super::lanes::{LANES, Lanes};
use half::{bf16, f16};
use std::arch::x86_64::*;

/// Proof that AVX-512 F, BW, DQ and VL, AVX512-BF16, AVX2, FMA and F16C are available.
#[derive(Clone, Copy)]
pub struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The processor has the features.
    #[inline(always)]
    pub unsafe fn new() -> Self {
        Self(())
    }
}

/// Calls an intrinsic in a method of [`Avx512`].
macro_rules! intrinsic {
    ($call:expr) => {
        // SAFETY: the value of this type proves that the processor has the features; memory accesses were checked, or
        // are the caller's promise; all vectors are plain bits.
        unsafe { $call }
    };
}

/// The mask of the first `count` lanes.
#[inline(always)]
fn lanes(count: usize) -> u16 {
    ((1u32 << count.min(LANES)) - 1) as u16
}

#[inline(always)]
fn bits(x: __m256bh) -> __m256i {
    // SAFETY: both are plain bits.
    unsafe { std::mem::transmute(x) }
}

#[inline(always)]
fn pairs(x: __m512i) -> __m512bh {
    // SAFETY: both are plain bits.
    unsafe { std::mem::transmute(x) }
}

#[inline(always)]
fn cells(x: __m512bh) -> __m512i {
    // SAFETY: both are plain bits.
    unsafe { std::mem::transmute(x) }
}

impl Avx512 {
    #[inline(always)]
    fn halves(self, from: &[bf16]) -> __m256i {
        match from.len() >= LANES {
            true => intrinsic!(_mm256_loadu_si256(from.as_ptr().cast())),
            false => {
                intrinsic!(_mm256_maskz_loadu_epi16(lanes(from.len()), from.as_ptr().cast()))
            }
        }
    }

    /// The second one in the upper halves.
    #[inline(always)]
    fn join(self, first: __m256i, second: __m256i) -> __m512bh {
        intrinsic!({
            let upper = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(second));
            pairs(_mm512_or_si512(_mm512_cvtepu16_epi32(first), upper))
        })
    }
}

impl Lanes for Avx512 {
    const MANY: bool = true;
    type Floats = __m512;
    type Pairs = __m512bh;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        intrinsic!(_mm512_set1_ps(x))
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> __m512 {
        match from.len() >= LANES {
            true => intrinsic!(_mm512_loadu_ps(from.as_ptr())),
            false => intrinsic!(_mm512_maskz_loadu_ps(lanes(from.len()), from.as_ptr())),
        }
    }

    #[inline(always)]
    fn store(self, x: __m512, to: &mut [f32]) {
        match to.len() >= LANES {
            true => intrinsic!(_mm512_storeu_ps(to.as_mut_ptr(), x)),
            false => intrinsic!(_mm512_mask_storeu_ps(to.as_mut_ptr(), lanes(to.len()), x)),
        }
    }

    #[inline(always)]
    fn load_halves(self, from: &[bf16]) -> __m512 {
        let halves = self.halves(from);
        intrinsic!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves))))
    }

    #[inline(always)]
    fn load_f16(self, from: &[f16]) -> __m512 {
        let at = from.as_ptr().cast();
        let halves = match from.len() >= LANES {
            true => intrinsic!(_mm256_loadu_si256(at)),
            false => intrinsic!(_mm256_maskz_loadu_epi16(lanes(from.len()), at.cast())),
        };
        intrinsic!(_mm512_cvtph_ps(halves))
    }

    #[inline(always)]
    fn store_halves(self, x: __m512, to: &mut [bf16]) {
        let (halves, at) = (intrinsic!(bits(_mm512_cvtneps_pbh(x))), to.as_mut_ptr());
        match to.len() >= LANES {
            true => intrinsic!(_mm256_storeu_si256(at.cast(), halves)),
            false => intrinsic!(_mm256_mask_storeu_epi16(at.cast(), lanes(to.len()), halves)),
        }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_div_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        intrinsic!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn abs(self, x: __m512) -> __m512 {
        intrinsic!(_mm512_abs_ps(x))
    }

    #[inline(always)]
    fn round(self, x: __m512) -> __m512 {
        intrinsic!(_mm512_roundscale_ps::<0>(x))
    }

    #[inline(always)]
    fn times_power(self, x: __m512, n: __m512) -> __m512 {
        intrinsic!(_mm512_scalef_ps(x, n))
    }

    #[inline(always)]
    fn where_least(self, x: __m512, limit: __m512, yes: __m512, no: __m512) -> __m512 {
        intrinsic!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LE_OQ>(x, limit), no, yes))
    }

    #[inline(always)]
    fn first(self, count: usize, a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_mask_blend_ps(lanes(count), b, a))
    }

    #[inline(always)]
    fn sum(self, x: __m512) -> f32 {
        intrinsic!({
            let (low, high) = (_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
            let x = _mm256_add_ps(low, high);
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        })
    }

    #[inline(always)]
    fn most(self, x: __m512) -> f32 {
        intrinsic!({
            let (low, high) = (_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
            let x = _mm256_max_ps(low, high);
            let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
        })
    }

    #[inline(always)]
    fn load_pairs(self, from: &[bf16]) -> __m512bh {
        match from.len() >= 2 * LANES {
            true => pairs(intrinsic!(_mm512_loadu_si512(from.as_ptr().cast()))),
            false => {
                let mask = ((1u64 << from.len()) - 1) as u32;
                pairs(intrinsic!(_mm512_maskz_loadu_epi16(mask, from.as_ptr().cast())))
            }
        }
    }

    #[inline(always)]
    fn store_pairs(self, x: __m512bh, to: &mut [[bf16; 2]]) {
        let at = to.as_mut_ptr();
        match to.len() >= LANES {
            true => intrinsic!(_mm512_storeu_si512(at.cast(), cells(x))),
            false => intrinsic!(_mm512_mask_storeu_epi32(at.cast(), lanes(to.len()), cells(x))),
        }
    }

    #[inline(always)]
    fn interleave(self, first: &[bf16], second: &[bf16]) -> __m512bh {
        self.join(self.halves(first), self.halves(second))
    }

    #[inline(always)]
    fn round_together(self, first: __m512, second: __m512) -> __m512bh {
        let (first, second) =
            intrinsic!((bits(_mm512_cvtneps_pbh(first)), bits(_mm512_cvtneps_pbh(second))));
        self.join(first, second)
    }

    #[inline(always)]
    fn round_in_order(self, first: __m512, second: __m512) -> __m512bh {
        intrinsic!(_mm512_cvtne2ps_pbh(second, first))
    }

    #[inline(always)]
    fn turn(self, rows: [__m512bh; LANES]) -> [__m512bh; LANES] {
        // SAFETY: the value of this type proves that the processor has AVX-512; both kinds of vectors are plain bits.
        unsafe {
            let rows = std::mem::transmute::<[__m512bh; LANES], [__m512i; LANES]>(rows);
            std::mem::transmute(super::transpose::turned(rows))
        }
    }

    #[inline(always)]
    unsafe fn splat_pair(self, at: *const bf16) -> __m512bh {
        pairs(intrinsic!(_mm512_set1_epi32(at.cast::<i32>().read_unaligned())))
    }

    #[inline(always)]
    unsafe fn pairs_at(self, at: *const [bf16; 2]) -> __m512bh {
        pairs(intrinsic!(_mm512_loadu_si512(at.cast())))
    }

    #[inline(always)]
    fn prefetch(self, at: *const u8) {
        intrinsic!(_mm_prefetch::<_MM_HINT_T0>(at.cast()));
    }

    #[inline(always)]
    fn dot(self, sum: __m512, a: __m512bh, b: __m512bh) -> __m512 {
        intrinsic!(_mm512_dpbf16_ps(sum, a, b))
    }
}
