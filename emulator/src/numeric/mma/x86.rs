//! The same products with AVX2, FMA and F16C: rows of A broadcast against rows of B, eight rows of C in registers.

use super::shape::{Mma, MmaType, Reg};
use crate::numeric::NAN_F32;
use std::arch::x86_64::*;

pub fn available() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load4(reg: &Reg, row: usize) -> __m128i {
    let words: &[u32; 4] = reg[row * 4..row * 4 + 4].try_into().expect("four words");
    // SAFETY: `words` is 16 readable bytes; the load needs no alignment.
    unsafe { _mm_loadu_si128(words.as_ptr().cast()) }
}

/// An 8 × 8 matrix of 16-bit elements, transposed, with instructions that every x86-64 has.
#[inline(always)]
pub fn transpose16(rows: &[[u32; 4]; 8]) -> Reg {
    // SAFETY: SSE2 is part of the architecture; each row is 16 readable bytes, each group of four lanes 16
    // writable ones.
    unsafe {
        let r: [__m128i; 8] = std::array::from_fn(|i| _mm_loadu_si128(rows[i].as_ptr().cast()));
        // Pairs of rows, then of pairs, then of fours: 16, 32, 64 bits at a time.
        let (a0, a1) = (_mm_unpacklo_epi16(r[0], r[1]), _mm_unpackhi_epi16(r[0], r[1]));
        let (a2, a3) = (_mm_unpacklo_epi16(r[2], r[3]), _mm_unpackhi_epi16(r[2], r[3]));
        let (a4, a5) = (_mm_unpacklo_epi16(r[4], r[5]), _mm_unpackhi_epi16(r[4], r[5]));
        let (a6, a7) = (_mm_unpacklo_epi16(r[6], r[7]), _mm_unpackhi_epi16(r[6], r[7]));
        let (b0, b1) = (_mm_unpacklo_epi32(a0, a2), _mm_unpackhi_epi32(a0, a2));
        let (b2, b3) = (_mm_unpacklo_epi32(a1, a3), _mm_unpackhi_epi32(a1, a3));
        let (b4, b5) = (_mm_unpacklo_epi32(a4, a6), _mm_unpackhi_epi32(a4, a6));
        let (b6, b7) = (_mm_unpacklo_epi32(a5, a7), _mm_unpackhi_epi32(a5, a7));
        let columns = [
            _mm_unpacklo_epi64(b0, b4),
            _mm_unpackhi_epi64(b0, b4),
            _mm_unpacklo_epi64(b1, b5),
            _mm_unpackhi_epi64(b1, b5),
            _mm_unpacklo_epi64(b2, b6),
            _mm_unpackhi_epi64(b2, b6),
            _mm_unpacklo_epi64(b3, b7),
            _mm_unpackhi_epi64(b3, b7),
        ];
        let mut out = [0; 32];
        for (to, column) in out.chunks_exact_mut(4).zip(columns) {
            _mm_storeu_si128(to.as_mut_ptr().cast(), column);
        }
        out
    }
}

/// Eight consecutive k of one row: `block` counts groups of eight, `regs_down` is 2 for A and 1 for B.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn eight(kind: MmaType, regs: &[&Reg], regs_down: usize, block: usize, row: usize) -> __m256 {
    let down = row / 8;
    let row = row % 8;
    match kind {
        MmaType::F16 => _mm256_cvtph_ps(load4(regs[block * regs_down + down], row)),
        MmaType::Bf16 => {
            let wide = _mm256_cvtepu16_epi32(load4(regs[block * regs_down + down], row));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
        MmaType::S8 | MmaType::U8 => {
            let bytes = load4(regs[block / 2 * regs_down + down], row);
            let bytes = if block % 2 == 1 { _mm_srli_si128::<8>(bytes) } else { bytes };
            let wide = if kind == MmaType::S8 {
                _mm256_cvtepi8_epi32(bytes)
            } else {
                _mm256_cvtepu8_epi32(bytes)
            };
            _mm256_cvtepi32_ps(wide)
        }
        MmaType::S4 | MmaType::U4 => {
            let word = regs[block / 4 * regs_down + down][row * 4 + block % 4] as i32;
            let shifts = _mm256_setr_epi32(28, 24, 20, 16, 12, 8, 4, 0);
            let top = _mm256_sllv_epi32(_mm256_set1_epi32(word), shifts);
            let signed = kind == MmaType::S4;
            let wide =
                if signed { _mm256_srai_epi32::<28>(top) } else { _mm256_srli_epi32::<28>(top) };
            _mm256_cvtepi32_ps(wide)
        }
        _ => {
            let low = load4(regs[down], row);
            let high = match regs.get(regs_down + down) {
                Some(reg) => load4(reg, row),
                None => _mm_setzero_si128(),
            };
            let both = _mm256_set_m128i(high, low);
            _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32(0xffff_e000u32 as i32)))
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn transpose(r: [__m256; 8]) -> [__m256; 8] {
    let t0 = _mm256_unpacklo_ps(r[0], r[1]);
    let t1 = _mm256_unpackhi_ps(r[0], r[1]);
    let t2 = _mm256_unpacklo_ps(r[2], r[3]);
    let t3 = _mm256_unpackhi_ps(r[2], r[3]);
    let t4 = _mm256_unpacklo_ps(r[4], r[5]);
    let t5 = _mm256_unpackhi_ps(r[4], r[5]);
    let t6 = _mm256_unpacklo_ps(r[6], r[7]);
    let t7 = _mm256_unpackhi_ps(r[6], r[7]);
    let u0 = _mm256_shuffle_ps::<0x44>(t0, t2);
    let u1 = _mm256_shuffle_ps::<0xee>(t0, t2);
    let u2 = _mm256_shuffle_ps::<0x44>(t1, t3);
    let u3 = _mm256_shuffle_ps::<0xee>(t1, t3);
    let u4 = _mm256_shuffle_ps::<0x44>(t4, t6);
    let u5 = _mm256_shuffle_ps::<0xee>(t4, t6);
    let u6 = _mm256_shuffle_ps::<0x44>(t5, t7);
    let u7 = _mm256_shuffle_ps::<0xee>(t5, t7);
    [
        _mm256_permute2f128_ps::<0x20>(u0, u4),
        _mm256_permute2f128_ps::<0x20>(u1, u5),
        _mm256_permute2f128_ps::<0x20>(u2, u6),
        _mm256_permute2f128_ps::<0x20>(u3, u7),
        _mm256_permute2f128_ps::<0x31>(u0, u4),
        _mm256_permute2f128_ps::<0x31>(u1, u5),
        _mm256_permute2f128_ps::<0x31>(u2, u6),
        _mm256_permute2f128_ps::<0x31>(u3, u7),
    ]
}

#[target_feature(enable = "avx2,fma,f16c")]
pub fn product_any(m: Mma, a: &[&Reg], b: &[&Reg], c: &[&Reg], d: &mut [Reg; 4]) {
    // One compiled body per float type and number of groups of eight k, so that everything inside is unrolled.
    match (m.a, m.k) {
        (MmaType::F16, 16) => product::<0, 2>(m, a, b, c, d),
        (MmaType::F16, _) => product::<0, 1>(m, a, b, c, d),
        (MmaType::Bf16, 16) => product::<1, 2>(m, a, b, c, d),
        (MmaType::Bf16, _) => product::<1, 1>(m, a, b, c, d),
        (MmaType::Tf32, _) => product::<2, 1>(m, a, b, c, d),
        (_, 64) => product::<3, 8>(m, a, b, c, d),
        (_, 32) => product::<3, 4>(m, a, b, c, d),
        _ => product::<3, 2>(m, a, b, c, d),
    }
}

/// KIND: 0 f16, 1 bf16, 2 tf32, 3 any integers. Integer sums stay below 2^24, so f32 holds them exactly.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn product<const KIND: u8, const BLOCKS: usize>(
    m: Mma,
    a: &[&Reg],
    b: &[&Reg],
    c: &[&Reg],
    d: &mut [Reg; 4],
) {
    let (a_kind, b_kind) = match KIND {
        0 => (MmaType::F16, MmaType::F16),
        1 => (MmaType::Bf16, MmaType::Bf16),
        2 => (MmaType::Tf32, MmaType::Tf32),
        _ => (m.a, m.b),
    };
    let integers = KIND == 3;
    let zero = _mm256_setzero_ps();
    // Rows of B: element [k] is the eight columns.
    let mut bk = [[zero; 8]; BLOCKS];
    for (block, rows) in bk.iter_mut().enumerate() {
        let mut columns = [zero; 8];
        for (n, x) in columns.iter_mut().enumerate() {
            *x = eight(b_kind, b, 1, block, n);
        }
        *rows = transpose(columns);
    }
    for half in 0..2 {
        let mut rows = [[[0f32; 8]; BLOCKS]; 8];
        let mut acc = [zero; 8];
        for g in 0..8 {
            for block in 0..BLOCKS {
                let x = eight(a_kind, a, 2, block, half * 8 + g);
                // SAFETY: the destination is eight floats.
                unsafe { _mm256_storeu_ps(rows[g][block].as_mut_ptr(), x) };
            }
            if integers {
                continue;
            }
            acc[g] = if m.c_half {
                _mm256_cvtph_ps(load4(c[half], g))
            } else {
                let even = _mm_castsi128_ps(load4(c[half * 2], g));
                let odd = _mm_castsi128_ps(load4(c[half * 2 + 1], g));
                _mm256_set_m128(_mm_unpackhi_ps(even, odd), _mm_unpacklo_ps(even, odd))
            };
        }
        for block in 0..BLOCKS {
            for k in 0..8 {
                for g in 0..8 {
                    acc[g] =
                        _mm256_fmadd_ps(_mm256_set1_ps(rows[g][block][k]), bk[block][k], acc[g]);
                }
            }
        }
        for g in 0..8 {
            if integers {
                let sums = _mm256_castsi256_ps(_mm256_cvtps_epi32(acc[g]));
                let (even, odd) = columns(sums);
                let (even, odd) = (_mm_castps_si128(even), _mm_castps_si128(odd));
                store4(&mut d[half * 2], g, accumulate(even, load4(c[half * 2], g), m.satfinite));
                store4(
                    &mut d[half * 2 + 1],
                    g,
                    accumulate(odd, load4(c[half * 2 + 1], g), m.satfinite),
                );
                continue;
            }
            let nan = _mm256_castsi256_ps(_mm256_set1_epi32(NAN_F32 as i32));
            let row = _mm256_blendv_ps(acc[g], nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(acc[g], acc[g]));
            if m.d_half {
                store4(&mut d[half], g, _mm256_cvtps_ph::<0>(row));
            } else {
                let (even, odd) = columns(row);
                store4(&mut d[half * 2], g, _mm_castps_si128(even));
                store4(&mut d[half * 2 + 1], g, _mm_castps_si128(odd));
            }
        }
    }
}

/// The even and the odd columns of a row.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn columns(row: __m256) -> (__m128, __m128) {
    let (low, high) = (_mm256_castps256_ps128(row), _mm256_extractf128_ps::<1>(row));
    (_mm_shuffle_ps::<0x88>(low, high), _mm_shuffle_ps::<0xdd>(low, high))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn accumulate(sum: __m128i, c: __m128i, saturate: bool) -> __m128i {
    let s = _mm_add_epi32(sum, c);
    if !saturate {
        return s;
    }
    // Overflow: both terms have one sign and the result the other.
    let over = _mm_andnot_si128(_mm_xor_si128(sum, c), _mm_xor_si128(sum, s));
    let limit = _mm_xor_si128(_mm_srai_epi32::<31>(c), _mm_set1_epi32(i32::MAX));
    _mm_castps_si128(_mm_blendv_ps(
        _mm_castsi128_ps(s),
        _mm_castsi128_ps(limit),
        _mm_castsi128_ps(over),
    ))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn store4(reg: &mut Reg, row: usize, x: __m128i) {
    let words: &mut [u32; 4] = (&mut reg[row * 4..row * 4 + 4]).try_into().expect("four words");
    // SAFETY: `words` is 16 writable bytes; the store needs no alignment.
    unsafe { _mm_storeu_si128(words.as_mut_ptr().cast(), x) };
}
