//! Half precision: f16 and bf16 conversions and arithmetic. Values are bit patterns.
//!
//! Every result is rounded once. Sums and products of two f16 values may pass through f32 (24 ≥ 2·11 + 2 bits make
//! the second rounding harmless); fused products are rounded to odd on the way.

#![expect(
    clippy::double_comparisons,
    reason = "a NaN residual must count as none, which `!=` would not do"
)]

use super::f32ops::{self, MinMax, add_odd};
use super::{NAN_HALF, Round, approx};

/// f16 to f32, exact (NaN stays NaN)
#[inline(always)]
pub fn f16_to_f32(h: u16) -> f32 {
    let sign = u32::from(h & 0x8000) << 16;
    let body = u32::from(h & 0x7fff) << 13;
    // Scaling by 2^112 moves the exponent's bias and makes subnormals normal at once.
    let finite = f32::from_bits(body) * f32::from_bits(0x7780_0000);
    let special = f32::from_bits(body | 0x7f80_0000);
    let magnitude = if h & 0x7c00 == 0x7c00 { special } else { finite };
    f32::from_bits(magnitude.to_bits() | sign)
}

/// f32 to f16, to nearest even
#[inline(always)]
pub fn f32_to_f16_rn(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16) & 0x8000;
    let a = bits & 0x7fff_ffff;
    // Adding ½ aligns the mantissa of a subnormal result and lets the host round it.
    let subnormal = (f32::from_bits(a) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
    let normal = a.wrapping_add(0xc800_0fff).wrapping_add((a >> 13) & 1) >> 13;
    let r = if a < 0x3880_0000 { subnormal } else { normal };
    let r = if a >= 0x4780_0000 { 0x7c00 } else { r };
    if a > 0x7f80_0000 { NAN_HALF } else { (r | sign) as u16 }
}

/// One step of a finite half's bits away from or towards what a directed rounding wants.
#[inline(always)]
fn directed(near: u16, back: f32, x: f32, round: Round) -> u16 {
    let down = |h: u16| {
        if h & 0x7fff == 0 {
            0x8001
        } else if h & 0x8000 == 0 {
            h - 1
        } else {
            h + 1
        }
    };
    let up = |h: u16| {
        if h & 0x7fff == 0 {
            0x0001
        } else if h & 0x8000 == 0 {
            h + 1
        } else {
            h - 1
        }
    };
    match round {
        Round::Rz if back.abs() > x.abs() => near - 1,
        Round::Rm if back > x => down(near),
        Round::Rp if back < x => up(near),
        _ => near,
    }
}
/// f32 to f16 in any mode: cvt
#[inline(always)]
pub fn f32_to_f16(x: f32, round: Round) -> u16 {
    let near = f32_to_f16_rn(x);
    match round {
        Round::Rn => near,
        _ => directed(near, f16_to_f32(near), x, round),
    }
}

/// bf16 to f32, exact
#[inline(always)]
pub fn bf16_to_f32(h: u16) -> f32 {
    f32::from_bits(u32::from(h) << 16)
}
/// f32 to bf16, to nearest even
#[inline(always)]
pub fn f32_to_bf16_rn(x: f32) -> u16 {
    let bits = x.to_bits();
    let r = bits.wrapping_add(0x7fff).wrapping_add((bits >> 16) & 1) >> 16;
    if bits & 0x7fff_ffff > 0x7f80_0000 { NAN_HALF } else { r as u16 }
}
/// f32 to bf16 in any mode: cvt
#[inline(always)]
pub fn f32_to_bf16(x: f32, round: Round) -> u16 {
    let near = f32_to_bf16_rn(x);
    match round {
        Round::Rn => near,
        _ => directed(near, bf16_to_f32(near), x, round),
    }
}

/// f64 to f32 rounded to odd, so that a further rounding to 16 bits is correct in every mode.
#[inline(always)]
pub fn f64_to_f32_odd(x: f64) -> f32 {
    let near = x as f32;
    if f64::from(near) == x || x.is_nan() {
        return near;
    }
    let toward_zero = f32ops::narrow(x, Round::Rz);
    f32::from_bits(toward_zero.to_bits() | 1)
}
/// f64 to f16: cvt
#[inline(always)]
pub fn f64_to_f16(x: f64, round: Round) -> u16 {
    f32_to_f16(f64_to_f32_odd(x), round)
}
/// f64 to bf16: cvt
#[inline(always)]
pub fn f64_to_bf16(x: f64, round: Round) -> u16 {
    f32_to_bf16(f64_to_f32_odd(x), round)
}

/// a + b in f32, rounded to odd (no overflow expected).
#[inline(always)]
fn add_odd_f32(a: f32, b: f32) -> f32 {
    let s = a + b;
    let bb = s - a;
    let err = (a - (s - bb)) + (b - bb);
    let bits = s.to_bits();
    let inexact = err > 0.0 || err < 0.0;
    let away = (err > 0.0) == (s > 0.0);
    let step = if inexact && bits & 1 == 0 { if away { 1u32 } else { u32::MAX } } else { 0 };
    f32::from_bits(bits.wrapping_add(step))
}

/// Modifiers of the half-precision arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HalfMode {
    pub ftz: bool,
    pub sat: bool,
    /// fma only: a negative result becomes 0.
    pub relu: bool,
}

/// `.ftz` on an f16 bit pattern
#[inline(always)]
pub fn flush_f16(h: u16) -> u16 {
    if h & 0x7c00 == 0 { h & 0x8000 } else { h }
}
/// `.ftz` on a bf16 bit pattern
#[inline(always)]
pub fn flush_bf16(h: u16) -> u16 {
    if h & 0x7f80 == 0 { h & 0x8000 } else { h }
}

/// One of the two 16-bit formats; the arithmetic is generic over it.
pub trait Half {
    fn to_f32(h: u16) -> f32;
    fn from_f32_rn(x: f32) -> u16;
    fn flush(h: u16) -> u16;
    fn is_nan(h: u16) -> bool;
    const ONE: u16;
    /// a·b + c, rounded once.
    fn fused(a: u16, b: u16, c: u16) -> u16;
    /// a·b, rounded once.
    fn product(a: u16, b: u16) -> u16;
}
/// IEEE binary16
pub struct F16;
/// bfloat16
pub struct Bf16;

impl Half for F16 {
    const ONE: u16 = 0x3c00;
    #[inline(always)]
    fn to_f32(h: u16) -> f32 {
        f16_to_f32(h)
    }
    #[inline(always)]
    fn from_f32_rn(x: f32) -> u16 {
        f32_to_f16_rn(x)
    }
    #[inline(always)]
    fn flush(h: u16) -> u16 {
        flush_f16(h)
    }
    #[inline(always)]
    fn is_nan(h: u16) -> bool {
        h & 0x7fff > 0x7c00
    }
    #[inline(always)]
    fn fused(a: u16, b: u16, c: u16) -> u16 {
        // 22 bits of product and all exponents fit f32: only the sum can be inexact.
        f32_to_f16_rn(add_odd_f32(f16_to_f32(a) * f16_to_f32(b), f16_to_f32(c)))
    }
    #[inline(always)]
    fn product(a: u16, b: u16) -> u16 {
        f32_to_f16_rn(f16_to_f32(a) * f16_to_f32(b))
    }
}
impl Half for Bf16 {
    const ONE: u16 = 0x3f80;
    #[inline(always)]
    fn to_f32(h: u16) -> f32 {
        bf16_to_f32(h)
    }
    #[inline(always)]
    fn from_f32_rn(x: f32) -> u16 {
        f32_to_bf16_rn(x)
    }
    #[inline(always)]
    fn flush(h: u16) -> u16 {
        flush_bf16(h)
    }
    #[inline(always)]
    fn is_nan(h: u16) -> bool {
        h & 0x7fff > 0x7f80
    }
    #[inline(always)]
    fn fused(a: u16, b: u16, c: u16) -> u16 {
        // f32 would overflow, underflow or be too short; f64 holds the product exactly.
        let product = f64::from(bf16_to_f32(a)) * f64::from(bf16_to_f32(b));
        f64_to_bf16(add_odd(product, f64::from(bf16_to_f32(c))), Round::Rn)
    }
    #[inline(always)]
    fn product(a: u16, b: u16) -> u16 {
        f64_to_bf16(f64::from(bf16_to_f32(a)) * f64::from(bf16_to_f32(b)), Round::Rn)
    }
}

#[inline(always)]
fn input<H: Half>(h: u16, ftz: bool) -> u16 {
    if ftz { H::flush(h) } else { h }
}
#[inline(always)]
fn finish<H: Half>(h: u16, m: HalfMode) -> u16 {
    let mut h = if m.ftz { H::flush(h) } else { h };
    if m.sat {
        let clamped = if h < H::ONE { h } else { H::ONE };
        h = if H::is_nan(h) || h & 0x8000 != 0 { 0 } else { clamped };
    }
    if m.relu && h & 0x8000 != 0 {
        h = 0;
    }
    h
}

/// add
#[inline(always)]
pub fn add<H: Half>(a: u16, b: u16, m: HalfMode) -> u16 {
    let (a, b) = (input::<H>(a, m.ftz), input::<H>(b, m.ftz));
    finish::<H>(H::from_f32_rn(H::to_f32(a) + H::to_f32(b)), m)
}
/// sub
#[inline(always)]
pub fn sub<H: Half>(a: u16, b: u16, m: HalfMode) -> u16 {
    let (a, b) = (input::<H>(a, m.ftz), input::<H>(b, m.ftz));
    finish::<H>(H::from_f32_rn(H::to_f32(a) - H::to_f32(b)), m)
}
/// mul
#[inline(always)]
pub fn mul<H: Half>(a: u16, b: u16, m: HalfMode) -> u16 {
    finish::<H>(H::product(input::<H>(a, m.ftz), input::<H>(b, m.ftz)), m)
}
/// fma
#[inline(always)]
pub fn fma<H: Half>(a: u16, b: u16, c: u16, m: HalfMode) -> u16 {
    finish::<H>(H::fused(input::<H>(a, m.ftz), input::<H>(b, m.ftz), input::<H>(c, m.ftz)), m)
}
/// fma.oob (with `.relu`): 0 if an input is the out-of-bounds NaN 0xffff
#[inline(always)]
pub fn fma_oob<H: Half>(a: u16, b: u16, c: u16, m: HalfMode) -> u16 {
    if a == 0xffff || b == 0xffff { 0 } else { fma::<H>(a, b, c, m) }
}
/// neg
#[inline(always)]
pub fn neg<H: Half>(a: u16, ftz: bool) -> u16 {
    input::<H>(a, ftz) ^ 0x8000
}
/// abs
#[inline(always)]
pub fn abs<H: Half>(a: u16, ftz: bool) -> u16 {
    input::<H>(a, ftz) & 0x7fff
}
/// min
#[inline(always)]
pub fn min<H: Half>(a: u16, b: u16, m: MinMax) -> u16 {
    let (a, b) = (input::<H>(a, m.ftz), input::<H>(b, m.ftz));
    H::from_f32_rn(f32ops::min(H::to_f32(a), H::to_f32(b), MinMax { ftz: false, ..m }))
}
/// max
#[inline(always)]
pub fn max<H: Half>(a: u16, b: u16, m: MinMax) -> u16 {
    let (a, b) = (input::<H>(a, m.ftz), input::<H>(b, m.ftz));
    H::from_f32_rn(f32ops::max(H::to_f32(a), H::to_f32(b), MinMax { ftz: false, ..m }))
}
/// tanh.approx
#[inline(always)]
pub fn tanh<H: Half>(a: u16) -> u16 {
    H::from_f32_rn(approx::tanh(H::to_f32(a)))
}
/// ex2.approx
#[inline(always)]
pub fn ex2<H: Half>(a: u16, ftz: bool) -> u16 {
    let r = H::from_f32_rn(approx::ex2(H::to_f32(input::<H>(a, ftz)), false));
    if ftz { H::flush(r) } else { r }
}
