//! Activation functions on [`Lanes`], as exact as storage in bf16 requires.

use super::lanes::Lanes;
use crate::program::Activation;
use std::f32::consts::LOG2_E;

/// An activation's value and its derivative.
#[inline(always)]
pub fn activate<L: Lanes>(lanes: L, kind: Activation, x: L::Floats) -> (L::Floats, L::Floats) {
    match kind {
        Activation::GeluErf => gelu_erf(lanes, x),
        Activation::GeluTanh => gelu_tanh(lanes, x),
        Activation::Relu => relu(lanes, x),
    }
}

/// `x·Φ(x)` and `Φ(x) + x·φ(x)`. As in [`math::normal`](super::math::normal) the tail Φ(-a) is `e^(-a²/2) · N(u)/(a + 3)`
/// with `u = (a - 3)/(a + 3)`; N is fitted to 3.2e-6.
#[inline(always)]
fn gelu_erf<L: Lanes>(lanes: L, x: L::Floats) -> (L::Floats, L::Floats) {
    let (one, zero) = (lanes.splat(1.0), lanes.splat(0.0));
    let a = lanes.abs(x);
    let e = lanes.exp2(lanes.mul(lanes.mul(x, x), lanes.splat(-0.5 * LOG2_E)));
    let w = lanes.div(one, lanes.add(a, lanes.splat(3.0)));
    let u = lanes.fma(w, lanes.splat(-6.0), one);
    let mut n = lanes.splat(1.395_521_1e-3);
    for c in [
        6.158_194_5e-3,
        -1.079_696_8e-2,
        -4.704_808_4e-2,
        2.300_760_2e-1,
        -5.093_484_5e-1,
        7.290_825e-1,
    ] {
        n = lanes.fma(n, u, lanes.splat(c));
    }
    let tail = lanes.mul(lanes.mul(n, w), e);
    let cdf = lanes.where_least(x, zero, tail, lanes.sub(one, tail));
    const DENSITY_AT_ZERO: f32 = 0.398_942_3;
    let slope = lanes.fma(lanes.mul(x, e), lanes.splat(DENSITY_AT_ZERO), cdf);
    (lanes.mul(x, cdf), slope)
}

/// `x/2 · (1 + tanh(√(2/π)(x + 0.044715x³)))` and its derivative, by the logistic function of twice the argument.
#[inline(always)]
fn gelu_tanh<L: Lanes>(lanes: L, x: L::Floats) -> (L::Floats, L::Floats) {
    const C: f32 = 1.595_769; // 2·√(2/π)
    const CUBIC: f32 = 0.044_715;
    let one = lanes.splat(1.0);
    let x2 = lanes.mul(x, x);
    let inner = lanes.mul(lanes.mul(x, lanes.splat(C)), lanes.fma(x2, lanes.splat(CUBIC), one));
    // The bound keeps e finite, and e·s is 1 - s without the cancellation.
    let inner = lanes.max(lanes.splat(-80.0), inner);
    let e = lanes.exp2(lanes.mul(inner, lanes.splat(-LOG2_E)));
    let s = lanes.div(one, lanes.add(one, e));
    let slope = lanes.mul(lanes.splat(C), lanes.fma(x2, lanes.splat(3.0 * CUBIC), one));
    let y = lanes.mul(x, s);
    (y, lanes.fma(lanes.mul(y, lanes.mul(e, s)), slope, s))
}

/// NaN passes through.
#[inline(always)]
fn relu<L: Lanes>(lanes: L, x: L::Floats) -> (L::Floats, L::Floats) {
    let zero = lanes.splat(0.0);
    (lanes.where_least(x, zero, zero, x), lanes.where_least(x, zero, zero, lanes.splat(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::lanes::{LANES, Plain, on_lanes};
    use crate::backend::cpu::math;

    on_lanes! {
        fn both(kind: Activation, x: &[f32], y: &mut [f32], slope: &mut [f32]) = both_body;
    }

    #[inline(always)]
    fn both_body<L: Lanes>(
        lanes: L,
        kind: Activation,
        x: &[f32],
        y: &mut [f32],
        slope: &mut [f32],
    ) {
        for ((x, y), d) in x.chunks(LANES).zip(y.chunks_mut(LANES)).zip(slope.chunks_mut(LANES)) {
            let (value, derivative) = activate(lanes, kind, lanes.load(x));
            lanes.store(value, y);
            lanes.store(derivative, d);
        }
    }

    const KINDS: [Activation; 3] = [Activation::GeluErf, Activation::GeluTanh, Activation::Relu];

    fn samples() -> Vec<f32> {
        let even = (-60_000..=60_000).map(|i| i as f32 / 4000.0);
        even.chain([-1e30, -50.0, 50.0, 1e30, 1e-30, -1e-30]).collect()
    }

    #[test]
    fn activations_are_those_of_f32_to_a_fraction_of_what_bf16_can_tell() {
        let exact: [fn(f32) -> (f32, f32); 3] =
            [math::gelu_erf::<true>, math::gelu_tanh::<true>, |x| {
                if x <= 0.0 { (0.0, 0.0) } else { (x, 1.0) }
            }];
        // Beyond that, f32's own derivative is infinite where it should be zero.
        let x: Vec<f32> = samples().into_iter().filter(|x| x.abs() < 100.0).collect();
        for (kind, exact) in KINDS.into_iter().zip(exact) {
            let (mut y, mut slope) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
            both(kind, &x, &mut y, &mut slope);
            for ((x, y), slope) in x.iter().zip(y).zip(slope) {
                let want = exact(*x);
                let near = (y - want.0).abs() <= 2e-5 * want.0.abs() + 1e-30;
                assert!(near, "{kind:?}({x}) is {y}, not {}", want.0);
                let near = (slope - want.1).abs() <= 4e-6;
                assert!(near, "{kind:?}'({x}) is {slope}, not {}", want.1);
            }
        }
    }

    #[test]
    fn both_kinds_of_vectors_have_the_same_bits_and_nan_stays() {
        let mut x = samples();
        x.push(f32::NAN);
        for kind in KINDS {
            let mut got = [vec![0.0; x.len()], vec![0.0; x.len()]];
            let mut want = got.clone();
            let [y, slope] = &mut got;
            both(kind, &x, y, slope);
            let [y, slope] = &mut want;
            both_body(Plain::<true>, kind, &x, y, slope);
            let fused = cfg!(target_arch = "aarch64")
                || crate::backend::cpu::simd::level() > crate::backend::cpu::simd::Level::Portable;
            if fused {
                for (got, want) in got.iter().zip(&want) {
                    let same = |(a, b): (&f32, &f32)| {
                        a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
                    };
                    assert!(got.iter().zip(want).all(same), "{kind:?}");
                }
            }
            assert!(got[0].last().unwrap().is_nan());
        }
    }
}
