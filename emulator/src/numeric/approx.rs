//! The approximate functions, and their half-precision forms.
//!
//! The manual bounds their error; all here are computed in f64 well inside those bounds. The ones that softmax and GELU
//! use are branch-free, so that a loop over lanes vectorises; sine and cosine call the host's library.

use super::f32ops::{canonical, flush};

#[inline(always)]
fn input(x: f32, ftz: bool) -> f32 {
    if ftz { flush(x) } else { x }
}
#[inline(always)]
fn output(x: f64, ftz: bool) -> f32 {
    let x = canonical(x as f32);
    if ftz { flush(x) } else { x }
}

/// 2^x for |x| ≤ 1000, to about 1e-11: the fraction by a Taylor series in x·ln 2, the integer through the exponent.
#[inline(always)]
pub fn exp2_f64(x: f64) -> f64 {
    // Adding and subtracting 1.5·2^52 rounds to an integer, which then sits in the low bits.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    let x = if x < -1000.0 { -1000.0 } else { x };
    let x = if x > 1000.0 { 1000.0 } else { x };
    let shifted = x + SHIFT;
    let n = shifted - SHIFT;
    let t = (x - n) * std::f64::consts::LN_2;
    let mut p = 1.0 / 3_628_800.0;
    p = p * t + 1.0 / 362_880.0;
    p = p * t + 1.0 / 40_320.0;
    p = p * t + 1.0 / 5_040.0;
    p = p * t + 1.0 / 720.0;
    p = p * t + 1.0 / 120.0;
    p = p * t + 1.0 / 24.0;
    p = p * t + 1.0 / 6.0;
    p = p * t + 0.5;
    p = p * t + 1.0;
    p = p * t + 1.0;
    let scale = f64::from_bits((shifted.to_bits().wrapping_add(1023)) << 52);
    p * scale
}

/// log2 of a positive normal f64, to about 1e-11.
#[inline(always)]
fn log2_f64(x: f64) -> f64 {
    // Mantissa into [√½, √2): subtract the bits of √½ and see which exponent is left.
    const SQRT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
    let bits = x.to_bits();
    let e = bits.wrapping_sub(SQRT_HALF) >> 52;
    let m = f64::from_bits(bits.wrapping_sub(e << 52));
    // The exponent as a double without an integer conversion (there is none for 64 bits below AVX-512).
    const SHIFT: u64 = 0x4338_0000_0000_0000;
    let signed = ((e << 52) as i64 >> 52) as u64;
    let e = f64::from_bits(SHIFT.wrapping_add(signed)) - f64::from_bits(SHIFT);
    // log((1+s)/(1−s)) = 2·(s + s³/3 + …), |s| ≤ 0.1716
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let mut p = 1.0 / 15.0;
    p = p * z + 1.0 / 13.0;
    p = p * z + 1.0 / 11.0;
    p = p * z + 1.0 / 9.0;
    p = p * z + 1.0 / 7.0;
    p = p * z + 0.2;
    p = p * z + 1.0 / 3.0;
    p = p * z + 1.0;
    e + p * s * (2.0 * std::f64::consts::LOG2_E)
}

/// ex2.approx.f32
#[inline(always)]
pub fn ex2(x: f32, ftz: bool) -> f32 {
    let x = input(x, ftz);
    let r = output(exp2_f64(f64::from(x)), ftz);
    // The clamp inside exp2_f64 lets NaN through as NaN.
    if x.is_nan() { canonical(x) } else { r }
}

/// lg2.approx.f32
#[inline(always)]
pub fn lg2(x: f32, ftz: bool) -> f32 {
    let x = input(x, ftz);
    let r = output(log2_f64(f64::from(x)), ftz);
    let special = if x == 0.0 { f32::NEG_INFINITY } else { canonical(f32::NAN) };
    let r = if x > 0.0 { r } else { special };
    if x == f32::INFINITY { x } else { r }
}

/// rsqrt.approx.f32
#[inline(always)]
pub fn rsqrt(x: f32, ftz: bool) -> f32 {
    let x = input(x, ftz);
    // −0 gives −∞: the root of −0 is −0.
    output(1.0 / f64::from(x).sqrt(), ftz)
}

/// sin.approx.f32
#[inline(always)]
pub fn sin(x: f32, ftz: bool) -> f32 {
    output(f64::from(input(x, ftz)).sin(), ftz)
}
/// cos.approx.f32
#[inline(always)]
pub fn cos(x: f32, ftz: bool) -> f32 {
    output(f64::from(input(x, ftz)).cos(), ftz)
}

/// tanh in f64, to about 1e-10 relative.
#[inline(always)]
fn tanh_f64(x: f64) -> f64 {
    let a = x.abs();
    let e = exp2_f64(a * (2.0 * std::f64::consts::LOG2_E));
    let large = 1.0 - 2.0 / (e + 1.0);
    let small = a - a * a * a * (1.0 / 3.0);
    let t = if a < 1e-3 { small } else { large };
    t.copysign(x)
}
/// tanh.approx.f32
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    if x.is_nan() { canonical(x) } else { output(tanh_f64(f64::from(x)), false) }
}

/// rcp.approx.ftz.f64: the upper 32 bits of the operand only, the lower half of the result is 0
#[inline(always)]
pub fn rcp_ftz_f64(x: f64) -> f64 {
    gross_f64(x, |x| 1.0 / x)
}
/// rsqrt.approx.f64
#[inline(always)]
pub fn rsqrt_f64(x: f64) -> f64 {
    super::f64ops::canonical(1.0 / x.sqrt())
}
/// rsqrt.approx.ftz.f64, likewise
#[inline(always)]
pub fn rsqrt_ftz_f64(x: f64) -> f64 {
    gross_f64(x, |x| 1.0 / x.sqrt())
}
#[inline(always)]
fn gross_f64(x: f64, f: impl Fn(f64) -> f64) -> f64 {
    const HIGH: u64 = 0xffff_ffff_0000_0000;
    let flush = |x: f64| {
        if x.is_subnormal() { 0f64.copysign(x) } else { x }
    };
    let r = f(flush(f64::from_bits(x.to_bits() & HIGH)));
    // A NaN whose payload is in the low word must stay one.
    if x.is_nan() || r.is_nan() {
        return f64::from_bits(0x7fff_ffff_0000_0000);
    }
    flush(f64::from_bits(r.to_bits() & HIGH))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Evenly spread bit patterns: every exponent and both signs.
    fn floats() -> impl Iterator<Item = f32> {
        (0..200_003u32).map(|i| f32::from_bits(i.wrapping_mul(21474)))
    }
    fn relative(got: f32, want: f64) -> f64 {
        (f64::from(got) - want).abs() / want.abs()
    }

    #[test]
    fn error_bounds_of_the_manual() {
        for x in floats().filter(|x| x.is_finite()) {
            let wide = f64::from(x);
            if (-126.0..127.9).contains(&x) {
                assert!(relative(ex2(x, false), wide.exp2()) < 2f64.powf(-22.5), "ex2 {x}");
            }
            if x > 0.0 {
                let want = wide.log2();
                let err = (f64::from(lg2(x, false)) - want).abs();
                assert!(err <= want.abs() * 6e-8, "lg2 {x} {err}");
                assert!(
                    relative(rsqrt(x, false), 1.0 / wide.sqrt()) < 2f64.powf(-22.9),
                    "rsqrt {x}"
                );
            }
            if x != 0.0 && x.is_normal() {
                assert!(relative(tanh(x), wide.tanh()) < 1.2e-7, "tanh {x}");
            }
        }
    }

    #[test]
    fn special_values() {
        let nan = 0x7fff_ffff;
        assert_eq!(ex2(f32::NEG_INFINITY, false), 0.0);
        assert_eq!(ex2(f32::INFINITY, false), f32::INFINITY);
        assert_eq!(ex2(-0.0, false), 1.0);
        assert_eq!(ex2(f32::NAN, true).to_bits(), nan);
        assert_eq!(ex2(-127.0, true), 0.0);
        assert_eq!(ex2(-149.0, false).to_bits(), 1);
        for n in -126..128 {
            assert_eq!(ex2(n as f32, false), 2f32.powi(n));
            assert_eq!(lg2(2f32.powi(n), false), n as f32);
        }
        assert_eq!(lg2(0.0, false), f32::NEG_INFINITY);
        assert_eq!(lg2(-0.0, false), f32::NEG_INFINITY);
        assert_eq!(lg2(f32::from_bits(1), false), -149.0);
        assert_eq!(lg2(f32::from_bits(1), true), f32::NEG_INFINITY);
        assert_eq!(lg2(-1.0, false).to_bits(), nan);
        assert_eq!(lg2(f32::INFINITY, false), f32::INFINITY);
        assert_eq!(rsqrt(-0.0, false), f32::NEG_INFINITY);
        assert_eq!(rsqrt(-1.0, false).to_bits(), nan);
        assert_eq!(rsqrt(f32::INFINITY, false), 0.0);
        assert_eq!(sin(-0.0, true).to_bits(), (-0f32).to_bits());
        assert_eq!(sin(f32::INFINITY, true).to_bits(), nan);
        assert_eq!(cos(f32::from_bits(3), true), 1.0);
        assert_eq!(tanh(f32::INFINITY), 1.0);
        assert_eq!(tanh(-0.0).to_bits(), (-0f32).to_bits());
        assert_eq!(rcp_ftz_f64(f64::from_bits(1)), f64::INFINITY);
        assert_eq!(rcp_ftz_f64(4.0), 0.25);
        assert_eq!(rsqrt_ftz_f64(16.0), 0.25);
    }
}
