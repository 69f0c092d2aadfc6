//! Single-precision arithmetic, and the shared tools for rounding from f64.
//!
//! Sums, products and fused products of f32 values are formed in f64 (exactly, or rounded to odd, which keeps what a
//! second rounding needs to know), then rounded once to f32 in the requested mode.

#![expect(
    clippy::double_comparisons,
    reason = "a NaN residual must count as none, which `!=` would not do"
)]

use super::{NAN_F32, Round};

/// Subnormal inputs and results become zero of the same sign (`.ftz`).
#[inline(always)]
pub fn flush(x: f32) -> f32 {
    let bits = x.to_bits();
    if bits & 0x7f80_0000 == 0 { f32::from_bits(bits & 0x8000_0000) } else { x }
}
#[inline(always)]
fn flush_if(x: f32, ftz: bool) -> f32 {
    if ftz { flush(x) } else { x }
}
/// Any NaN becomes the one that PTX produces.
#[inline(always)]
pub fn canonical(x: f32) -> f32 {
    if x.is_nan() { f32::from_bits(NAN_F32) } else { x }
}
/// `.sat`: clamps to [0, 1]; NaN and both zeros give +0.
#[inline(always)]
pub fn saturate(x: f32) -> f32 {
    if x > 0.0 { if x < 1.0 { x } else { 1.0 } } else { 0.0 }
}
/// The last step of every arithmetic instruction.
#[inline(always)]
fn finish(x: f32, ftz: bool, sat: bool) -> f32 {
    let x = canonical(flush_if(x, ftz));
    if sat { saturate(x) } else { x }
}

/// The sum a + b rounded to odd: inexact results have an odd last bit, so a later rounding to fewer bits is correct.
#[inline(always)]
pub fn add_odd(a: f64, b: f64) -> f64 {
    let s = a + b;
    let bb = s - a;
    let err = (a - (s - bb)) + (b - bb);
    let bits = s.to_bits();
    let inexact = err > 0.0 || err < 0.0;
    let even = bits & 1 == 0;
    let away = (err > 0.0) == (s > 0.0);
    let step = if inexact && even { if away { 1u64 } else { u64::MAX } } else { 0 };
    f64::from_bits(bits.wrapping_add(step))
}

/// f64 (exact, or rounded to odd) to f32 in any rounding mode: cvt.f32.f64 too.
#[inline(always)]
pub fn narrow(x: f64, round: Round) -> f32 {
    let near = x as f32;
    let back = f64::from(near);
    match round {
        Round::Rn => near,
        // Towards zero is one step back in the bits wherever the nearest value is larger, infinity included.
        Round::Rz => {
            if back.abs() > x.abs() {
                f32::from_bits(near.to_bits() - 1)
            } else {
                near
            }
        }
        Round::Rm => {
            if back > x {
                near.next_down()
            } else {
                near
            }
        }
        Round::Rp => {
            if back < x {
                near.next_up()
            } else {
                near
            }
        }
        Round::Rna => {
            let down = narrow(x, Round::Rz);
            let up = f32::from_bits(down.to_bits() + 1);
            if x.is_finite() && f64::from(up).abs() - x.abs() <= x.abs() - f64::from(down).abs() {
                up
            } else {
                down
            }
        }
    }
}

/// An exact zero sum is −0 under `.rm` unless both terms are +0.
#[inline(always)]
fn zero_sign(sum: f32, a_negative: bool, b_negative: bool, round: Round) -> f32 {
    if matches!(round, Round::Rm) && sum == 0.0 && (a_negative || b_negative) { -0.0 } else { sum }
}

/// add.f32
#[inline(always)]
pub fn add(a: f32, b: f32, round: Round, ftz: bool, sat: bool) -> f32 {
    let (a, b) = (flush_if(a, ftz), flush_if(b, ftz));
    let sum = match round {
        Round::Rn => a + b,
        _ => {
            let exact = add_odd(f64::from(a), f64::from(b));
            // Only a true zero: a tiny sum that rounds to zero already has its own sign.
            let sum = narrow(exact, round);
            if exact == 0.0 {
                zero_sign(sum, a.is_sign_negative(), b.is_sign_negative(), round)
            } else {
                sum
            }
        }
    };
    finish(sum, ftz, sat)
}
/// sub.f32
#[inline(always)]
pub fn sub(a: f32, b: f32, round: Round, ftz: bool, sat: bool) -> f32 {
    add(a, -b, round, ftz, sat)
}
/// mul.f32
#[inline(always)]
pub fn mul(a: f32, b: f32, round: Round, ftz: bool, sat: bool) -> f32 {
    let (a, b) = (flush_if(a, ftz), flush_if(b, ftz));
    let product = match round {
        Round::Rn => a * b,
        _ => narrow(f64::from(a) * f64::from(b), round),
    };
    finish(product, ftz, sat)
}
/// fma.f32 on any host
#[inline(always)]
pub fn fma(a: f32, b: f32, c: f32, round: Round, ftz: bool, sat: bool) -> f32 {
    let (a, b, c) = (flush_if(a, ftz), flush_if(b, ftz), flush_if(c, ftz));
    let product = f64::from(a) * f64::from(b);
    let exact = add_odd(product, f64::from(c));
    let sum = narrow(exact, round);
    let sum = if exact == 0.0 {
        zero_sign(sum, product.is_sign_negative(), c.is_sign_negative(), round)
    } else {
        sum
    };
    finish(sum, ftz, sat)
}
/// fma.rn.f32 through the host's own instruction: for callers compiled with `target_feature = "fma"` (elsewhere it is a
/// slow call, but just as correct).
#[inline(always)]
pub fn fma_rn_host(a: f32, b: f32, c: f32, ftz: bool, sat: bool) -> f32 {
    let (a, b, c) = (flush_if(a, ftz), flush_if(b, ftz), flush_if(c, ftz));
    finish(a.mul_add(b, c), ftz, sat)
}

/// div.{rn,rz,rm,rp}.f32. The f64 quotient of two f32 values is never so near an f32 value or midpoint, without being
/// one, that a second rounding goes wrong (53 ≥ 2·24 + 2).
#[inline(always)]
pub fn div(a: f32, b: f32, round: Round, ftz: bool) -> f32 {
    let (a, b) = (flush_if(a, ftz), flush_if(b, ftz));
    let q = match round {
        Round::Rn => a / b,
        _ => narrow(f64::from(a) / f64::from(b), round),
    };
    finish(q, ftz, false)
}
/// div.full.f32: within 2 ulp over the full range
#[inline(always)]
pub fn div_full(a: f32, b: f32, ftz: bool) -> f32 {
    div(a, b, Round::Rn, ftz)
}
/// div.approx.f32: a · (1/b), so divisors above 2^126 give a · 0
#[inline(always)]
pub fn div_approx(a: f32, b: f32, ftz: bool) -> f32 {
    let (a, b) = (flush_if(a, ftz), flush_if(b, ftz));
    let two_126 = f32::from_bits(0x7e80_0000);
    let q = if b.abs() > two_126 && b.is_finite() { a * 0f32.copysign(b) } else { a / b };
    finish(q, ftz, false)
}
/// rcp.{rn,rz,rm,rp}.f32; rcp.approx.f32 is `Rn` (within 1 ulp)
#[inline(always)]
pub fn rcp(a: f32, round: Round, ftz: bool) -> f32 {
    div(1.0, a, round, ftz)
}
/// sqrt.{rn,rz,rm,rp}.f32; sqrt.approx.f32 is `Rn`
#[inline(always)]
pub fn sqrt(a: f32, round: Round, ftz: bool) -> f32 {
    let a = flush_if(a, ftz);
    let r = match round {
        Round::Rn => a.sqrt(),
        _ => narrow(f64::from(a).sqrt(), round),
    };
    finish(r, ftz, false)
}

/// abs.f32
#[inline(always)]
pub fn abs(a: f32, ftz: bool) -> f32 {
    flush_if(a, ftz).abs()
}
/// neg.f32
#[inline(always)]
pub fn neg(a: f32, ftz: bool) -> f32 {
    -flush_if(a, ftz)
}

/// Modifiers of min and max.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MinMax {
    pub ftz: bool,
    /// `.NaN`: a NaN input gives NaN; without it the other input wins.
    pub nan: bool,
    /// `.xorsign.abs`: magnitudes are compared, the sign is the product's.
    pub xorsign_abs: bool,
}

#[inline(always)]
fn min_max(a: f32, b: f32, m: MinMax, greatest: bool) -> f32 {
    let (mut a, mut b) = (flush_if(a, m.ftz), flush_if(b, m.ftz));
    let sign = (a.to_bits() ^ b.to_bits()) & 0x8000_0000;
    if m.xorsign_abs {
        (a, b) = (a.abs(), b.abs());
    }
    // −0 counts as less than +0.
    let r = if a.is_nan() {
        if m.nan { a } else { b }
    } else if b.is_nan() {
        if m.nan { b } else { a }
    } else {
        let a_less = a < b || (a == b && a.is_sign_negative());
        if a_less != greatest { a } else { b }
    };
    if r.is_nan() {
        return f32::from_bits(NAN_F32);
    }
    if m.xorsign_abs { f32::from_bits(r.to_bits() | sign) } else { r }
}
/// min.f32
#[inline(always)]
pub fn min(a: f32, b: f32, m: MinMax) -> f32 {
    min_max(a, b, m, false)
}
/// max.f32
#[inline(always)]
pub fn max(a: f32, b: f32, m: MinMax) -> f32 {
    min_max(a, b, m, true)
}
/// min.f32 with three inputs
#[inline(always)]
pub fn min3(a: f32, b: f32, c: f32, m: MinMax) -> f32 {
    if m.xorsign_abs {
        let sign = (a.to_bits() ^ b.to_bits() ^ c.to_bits()) & 0x8000_0000;
        let plain = MinMax { xorsign_abs: false, ..m };
        let r = min(min(a.abs(), b.abs(), plain), c.abs(), plain);
        return if r.is_nan() { r } else { f32::from_bits(r.to_bits() | sign) };
    }
    min(min(a, b, m), c, m)
}
/// max.f32 with three inputs
#[inline(always)]
pub fn max3(a: f32, b: f32, c: f32, m: MinMax) -> f32 {
    if m.xorsign_abs {
        let sign = (a.to_bits() ^ b.to_bits() ^ c.to_bits()) & 0x8000_0000;
        let plain = MinMax { xorsign_abs: false, ..m };
        let r = max(max(a.abs(), b.abs(), plain), c.abs(), plain);
        return if r.is_nan() { r } else { f32::from_bits(r.to_bits() | sign) };
    }
    max(max(a, b, m), c, m)
}

/// What testp asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TestP {
    Finite,
    Infinite,
    Number,
    NotANumber,
    Normal,
    Subnormal,
}
/// testp.f32. Zero counts as normal.
#[inline(always)]
pub fn testp(a: f32, what: TestP) -> bool {
    match what {
        TestP::Finite => a.is_finite(),
        TestP::Infinite => a.is_infinite(),
        TestP::Number => !a.is_nan(),
        TestP::NotANumber => a.is_nan(),
        TestP::Normal => a.is_normal() || a == 0.0,
        TestP::Subnormal => a.is_subnormal(),
    }
}
/// copysign.f32: b with the sign of a
#[inline(always)]
pub fn copysign(a: f32, b: f32) -> f32 {
    b.copysign(a)
}
