//! Elementary functions as straight-line code that compilers vectorise.
//!
//! No branches, no tables, no library calls: each is inlined into a loop that [`dispatch!`](super::simd) builds for the
//! machine. This file's tests measure the bounds in the docs against f64.

use super::simd::fma;

/// 1.5 · 2²³: adding it to a small number rounds that to the nearest integer, left in the low bits.
const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts; the first has 9 significant bits, so its product with an exponent is exact.
const LN2_HIGH: f32 = 355.0 / 512.0;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// `e^(high + low)` for `|low|` far below 1: the second part carries what rounding took from the first. Relative error
/// below 2e-7 if the result is a normal number; gradual underflow, overflow to infinity.
#[inline(always)]
pub fn exp_split<const FMA: bool>(high: f32, low: f32) -> f32 {
    let x = high.clamp(-104.0, 89.0);
    let rounded = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = fma::<FMA>(n, -LN2_HIGH, x);
    let r = fma::<FMA>(n, -LN2_LOW, r) + low;
    // Taylor to r⁷: |r| <= ln(2)/2 leaves 5e-9.
    let mut p = fma::<FMA>(r, 1.0 / 5040.0, 1.0 / 720.0);
    p = fma::<FMA>(p, r, 1.0 / 120.0);
    p = fma::<FMA>(p, r, 1.0 / 24.0);
    p = fma::<FMA>(p, r, 1.0 / 6.0);
    p = fma::<FMA>(p, r, 0.5);
    p = fma::<FMA>(p, r * r, r);
    p += 1.0;
    // 2ⁿ as two factors, since n exceeds the exponents of one f32 at both ends.
    let n = (rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// `eˣ`; see [`exp_split`].
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    exp_split::<FMA>(x, 0.0)
}

/// Hyperbolic tangent, relative error below 4e-7.
#[inline(always)]
pub fn tanh<const FMA: bool>(x: f32) -> f32 {
    let a = x.abs();
    // Below 0.625 an odd polynomial fitted to 2e-8; above, 1 - 2/(e^2a + 1), which cancels little there.
    let z = x * x;
    let mut p = fma::<FMA>(z, -6.096_714e-3, 2.099_718e-2);
    p = fma::<FMA>(p, z, -5.385_091e-2);
    p = fma::<FMA>(p, z, 1.333_277e-1);
    p = fma::<FMA>(p, z, -3.333_332_8e-1);
    let small = fma::<FMA>(p * z, x, x);
    let large = (1.0 - 2.0 / (exp::<FMA>(2.0 * a) + 1.0)).copysign(x);
    if a < 0.625 { small } else { large }
}

/// Standard normal distribution function Φ(x) and density φ(x).
///
/// The tail Φ(-a) is `e^(-a²/2) · N(u)/(a + 3)` with `u = (a - 3)/(a + 3)` and N fitted to 1.2e-9, so the
/// *relative* error of Φ is below 5e-7 in both tails, and one exponential serves Φ and φ.
#[inline(always)]
pub fn normal<const FMA: bool>(x: f32) -> (f32, f32) {
    const N: [f32; 11] = [
        7.290_837e-1,
        -5.093_32e-1,
        2.300_176_8e-1,
        -4.726_276e-2,
        -1.046_228_9e-2,
        6.969_920_4e-3,
        1.024_157_3e-3,
        -1.034_476_6e-3,
        -2.447_093e-4,
        1.333_239_5e-4,
        5.549_187_3e-5,
    ];
    let a = x.abs();
    // a² is needed to more digits than one f32 has: square the upper half of a exactly, carry the rest along.
    let upper = f32::from_bits(a.to_bits() & 0xFFFF_F000);
    let e = exp_split::<FMA>(-0.5 * upper * upper, -0.5 * (a - upper) * (a + upper));
    let w = 1.0 / (a + 3.0);
    let u = (a - 3.0) * w;
    let mut p = N[10];
    for k in (0..10).rev() {
        p = fma::<FMA>(p, u, N[k]);
    }
    // Beyond 14 the tail is zero in f32, and infinity must not become NaN inside u.
    let tail = if a > 14.5 { 0.0 } else { e * p * w };
    let cdf = if x < 0.0 { tail } else { 1.0 - tail };
    const DENSITY_AT_ZERO: f32 = 0.398_942_3;
    (cdf, DENSITY_AT_ZERO * e)
}

/// `x·Φ(x)` and its derivative `Φ(x) + x·φ(x)`. Relative error of the value below 7e-7; the derivative, which
/// crosses zero, has an absolute error below 3e-7.
#[inline(always)]
pub fn gelu_erf<const FMA: bool>(x: f32) -> (f32, f32) {
    let (cdf, pdf) = normal::<FMA>(x);
    (x * cdf, fma::<FMA>(x, pdf, cdf))
}

/// `x/2 · (1 + tanh(√(2/π)(x + 0.044715x³)))` and its derivative, written with the logistic function of twice the
/// argument, which does not cancel for negative x. Relative error of the value below 4e-6 (for large negative x; the
/// exponent's rounding), absolute error of both below 1e-6 for |x| <= 8.
#[inline(always)]
pub fn gelu_tanh<const FMA: bool>(x: f32) -> (f32, f32) {
    const C: f32 = 1.595_769; // 2·√(2/π)
    const CUBIC: f32 = 0.044_715;
    let x2 = x * x;
    let inner = C * x * fma::<FMA>(CUBIC, x2, 1.0);
    // The bound keeps e finite, and e·s is 1 - s without the cancellation.
    let e = exp::<FMA>(-inner.clamp(-80.0, 1e30));
    let s = 1.0 / (1.0 + e);
    let slope = C * fma::<FMA>(3.0 * CUBIC, x2, 1.0);
    (x * s, fma::<FMA>(x * s * (e * s), slope, s))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every interesting magnitude of both signs, evenly and geometrically spaced.
    fn samples(limit: f32) -> impl Iterator<Item = f32> {
        let even = (0..200_001).map(move |i| (i as f32 / 100_000.0 - 1.0) * limit);
        let small = (0..20_000).map(move |i| limit * (-(i as f32) / 800.0).exp2());
        even.chain(small.clone()).chain(small.map(|x| -x))
    }

    fn worst_relative(limit: f32, f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> f64 {
        samples(limit)
            .filter(|&x| exact(f64::from(x)).abs() > 1e-37)
            .map(|x| {
                let want = exact(f64::from(x));
                let error = (f64::from(f(x)) - want).abs() / want.abs();
                assert!(!error.is_nan(), "not a number at {x}");
                error
            })
            .fold(0.0, f64::max)
    }

    fn worst_absolute(limit: f32, f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> f64 {
        samples(limit)
            .map(|x| {
                let error = (f64::from(f(x)) - exact(f64::from(x))).abs();
                assert!(!error.is_nan(), "not a number at {x}");
                error
            })
            .fold(0.0, f64::max)
    }

    /// Φ in f64: series near zero, continued fraction in the tail (Abramowitz & Stegun 26.2.10, 26.2.14).
    fn phi(x: f64) -> f64 {
        let a = x.abs();
        let density = (-0.5 * a * a).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let tail = if a < 3.0 {
            let (mut term, mut sum) = (a, a);
            for k in 1..120 {
                term *= a * a / f64::from(2 * k + 1);
                sum += term;
            }
            0.5 - density * sum
        } else {
            let mut fraction = a;
            for k in (1..200).rev() {
                fraction = a + f64::from(k) / fraction;
            }
            density / fraction
        };
        if x < 0.0 { tail } else { 1.0 - tail }
    }

    fn density(x: f64) -> f64 {
        (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
    }

    fn gelu_tanh_exact(x: f64) -> f64 {
        let inner = 2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
        x / (1.0 + (-inner).exp())
    }

    fn bounds_hold<const FMA: bool>() {
        let mut worst = Vec::new();
        let mut check = |name: &str, error: f64, bound: f64| {
            worst.push(format!("{name} {error:.2e} (bound {bound:.0e})"));
            error < bound
        };
        let mut ok = check("exp", worst_relative(87.0, exp::<FMA>, f64::exp), 2e-7);
        ok &= check("tanh", worst_relative(20.0, tanh::<FMA>, f64::tanh), 4e-7);
        ok &= check("cdf", worst_relative(12.5, |x| normal::<FMA>(x).0, phi), 5e-7);
        ok &= check("gelu", worst_relative(12.5, |x| gelu_erf::<FMA>(x).0, |x| x * phi(x)), 7e-7);
        ok &= check(
            "gelu'",
            worst_absolute(12.5, |x| gelu_erf::<FMA>(x).1, |x| phi(x) + x * density(x)),
            3e-7,
        );
        ok &= check(
            "gelu_tanh",
            worst_relative(5.0, |x| gelu_tanh::<FMA>(x).0, gelu_tanh_exact),
            4e-6,
        );
        ok &= check(
            "gelu_tanh absolute",
            worst_absolute(8.0, |x| gelu_tanh::<FMA>(x).0, gelu_tanh_exact),
            1e-6,
        );
        let slope = |x: f64| (gelu_tanh_exact(x + 1e-5) - gelu_tanh_exact(x - 1e-5)) / 2e-5;
        ok &= check("gelu_tanh'", worst_absolute(8.0, |x| gelu_tanh::<FMA>(x).1, slope), 1e-6);
        assert!(ok, "FMA {FMA}: {worst:#?}");
    }

    #[test]
    fn errors_stay_within_the_documented_bounds_with_and_without_fma() {
        bounds_hold::<true>();
        bounds_hold::<false>();
    }

    #[test]
    fn extremes_give_limits_and_nan_stays_nan() {
        assert_eq!(exp::<false>(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp::<false>(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp::<false>(0.0), 1.0);
        assert_eq!(tanh::<false>(f32::INFINITY), 1.0);
        assert_eq!(tanh::<false>(-40.0), -1.0);
        assert_eq!(gelu_erf::<false>(30.0), (30.0, 1.0));
        assert_eq!(gelu_erf::<false>(-30.0).1, 0.0);
        assert!(gelu_tanh::<false>(-30.0).0.abs() < 1e-30);
        for f in
            [exp::<false>, tanh::<false>, |x| gelu_erf::<false>(x).0, |x| gelu_tanh::<false>(x).0]
        {
            assert!(f(f32::NAN).is_nan());
        }
    }
}
