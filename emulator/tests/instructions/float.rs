//! Floating point, single and double.

use crate::harness::*;

/// The smallest positive subnormal, and the smallest normal.
const TINY: u64 = 1;
const NTINY: u64 = 0x8000_0001;
const NORMAL: u64 = 0x0080_0000;
/// 1 + 2^-23 and the values next to it.
const ONE_UP: u64 = 0x3f80_0001;
const ONE: u64 = 0x3f80_0000;
/// 2^-24: half a unit in the last place of 1.
const HALF_ULP: u64 = 0x3380_0000;
const MAX: u64 = 0x7f7f_ffff;
const THIRD_DOWN: u64 = 0x3eaa_aaaa;
const THIRD_UP: u64 = 0x3eaa_aaab;
/// √2 is between these.
const ROOT_DOWN: u64 = 0x3fb5_04f3;
const ROOT_UP: u64 = 0x3fb5_04f4;

#[test]
#[rustfmt::skip]
fn single_precision() {
    const ROWS: &[Row] = &[
        // ---- testp, copysign
        Row("floating point: testp.finite", "testp.finite.f32 d, a", "p=r", &[&[ONE, 1], &[INF, 0], &[QNAN, 0], &[TINY, 1]]),
        Row("floating point: testp.infinite", "testp.infinite.f32 d, a", "p=r", &[&[ONE, 0], &[NINF, 1], &[QNAN, 0]]),
        Row("floating point: testp.number", "testp.number.f32 d, a", "p=r", &[&[ONE, 1], &[INF, 1], &[QNAN, 0]]),
        Row("floating point: testp.notanumber", "testp.notanumber.f32 d, a", "p=r", &[&[ONE, 0], &[INF, 0], &[QNAN, 1]]),
        Row("floating point: testp.normal", "testp.normal.f32 d, a", "p=r", &[&[ONE, 1], &[TINY, 0], &[0, 1], &[INF, 0]]),
        Row("floating point: testp.subnormal", "testp.subnormal.f32 d, a", "p=r", &[&[ONE, 0], &[TINY, 1], &[0, 0]]),
        Row("floating point: copysign", "copysign.f32 d, a, b", "r=rr", &[&[f(-1.0), f(2.0), f(-2.0)], &[f(3.0), f(-2.0), f(2.0)], &[NZERO, 0, NZERO]]),
        // ---- add
        Row("floating point: add", "add.f32 d, a, b", "r=rr", &[&[f(1.5), f(2.25), f(3.75)], &[INF, NINF, NAN], &[QNAN, ONE, NAN], &[f(1.0), f(-1.0), 0], &[NZERO, NZERO, NZERO], &[NZERO, 0, 0], &[TINY, TINY, 2], &[MAX, MAX, INF]]),
        Row("floating point: add.rn", "add.rn.f32 d, a, b", "r=rr", &[&[ONE, HALF_ULP, ONE], &[ONE_UP, HALF_ULP, 0x3f80_0002]]),
        Row("floating point: add.rz", "add.rz.f32 d, a, b", "r=rr", &[&[ONE_UP, HALF_ULP, ONE_UP], &[f(-1.0), 0xb380_0000, f(-1.0)], &[MAX, MAX, MAX]]),
        Row("floating point: add.rm", "add.rm.f32 d, a, b", "r=rr", &[&[f(-1.0), 0xb300_0000, 0xbf80_0001], &[ONE, 0x3300_0000, ONE], &[f(1.0), f(-1.0), NZERO], &[MAX, MAX, MAX]]),
        Row("floating point: add.rp", "add.rp.f32 d, a, b", "r=rr", &[&[ONE, TINY, ONE_UP], &[f(-1.0), 0xb300_0000, f(-1.0)], &[f(1.0), f(-1.0), 0]]),
        Row("floating point: add.ftz", "add.ftz.f32 d, a, b", "r=rr", &[&[TINY, TINY, 0], &[NTINY, NTINY, NZERO], &[0x0080_0001, 0x8080_0000, 0], &[ONE, TINY, ONE]]),
        Row("floating point: add.sat", "add.sat.f32 d, a, b", "r=rr", &[&[f(0.75), f(0.5), ONE], &[f(0.25), f(-0.5), 0], &[QNAN, ONE, 0], &[f(0.25), f(0.5), f(0.75)]]),
        Row("floating point: add.rp.ftz.sat", "add.rp.ftz.sat.f32 d, a, b", "r=rr", &[&[ONE, HALF_ULP, ONE], &[TINY, TINY, 0]]),
        Row("floating point: add, float immediate", "add.f32 d, a, 0f3F800000", "r=r", &[&[ONE, f(2.0)]]),
        Row("floating point: add, decimal immediate", "add.f32 d, a, 2.5", "r=r", &[&[ONE, f(3.5)]]),
        // ---- sub
        Row("floating point: sub", "sub.f32 d, a, b", "r=rr", &[&[f(1.0), f(3.0), f(-2.0)], &[INF, INF, NAN], &[0, 0, 0]]),
        Row("floating point: sub.rz", "sub.rz.f32 d, a, b", "r=rr", &[&[ONE, 0x3300_0000, 0x3f7f_ffff]]),
        Row("floating point: sub.rm", "sub.rm.f32 d, a, b", "r=rr", &[&[ONE, ONE, NZERO]]),
        Row("floating point: sub.rp", "sub.rp.f32 d, a, b", "r=rr", &[&[ONE, TINY, ONE]]),
        Row("floating point: sub.ftz", "sub.ftz.f32 d, a, b", "r=rr", &[&[0x0080_0001, NORMAL, 0]]),
        Row("floating point: sub.sat", "sub.sat.f32 d, a, b", "r=rr", &[&[f(1.0), f(3.0), 0], &[f(3.0), f(1.0), ONE]]),
        // ---- mul
        Row("floating point: mul", "mul.f32 d, a, b", "r=rr", &[&[f(1.5), f(-2.0), f(-3.0)], &[0, INF, NAN], &[f(-1.0), 0, NZERO], &[NORMAL, f(0.5), 0x0040_0000], &[MAX, f(2.0), INF]]),
        Row("floating point: mul.rn", "mul.rn.f32 d, a, b", "r=rr", &[&[ONE_UP, ONE_UP, 0x3f80_0002]]),
        Row("floating point: mul.rz", "mul.rz.f32 d, a, b", "r=rr", &[&[0x3fff_ffff, 0x3fff_ffff, 0x407f_fffe], &[MAX, f(2.0), MAX], &[TINY, f(0.5), 0]]),
        Row("floating point: mul.rm", "mul.rm.f32 d, a, b", "r=rr", &[&[TINY, f(-0.5), NTINY], &[ONE_UP, ONE_UP, 0x3f80_0002]]),
        Row("floating point: mul.rp", "mul.rp.f32 d, a, b", "r=rr", &[&[TINY, f(0.5), TINY], &[ONE_UP, ONE_UP, 0x3f80_0003]]),
        Row("floating point: mul.ftz", "mul.ftz.f32 d, a, b", "r=rr", &[&[NORMAL, f(0.5), 0], &[NTINY, f(8.0), NZERO], &[TINY, INF, NAN]]),
        Row("floating point: mul.sat", "mul.sat.f32 d, a, b", "r=rr", &[&[f(2.0), f(2.0), ONE], &[f(-2.0), f(2.0), 0], &[0, INF, 0]]),
        // ---- fma, mad
        // (1+2^-23)² = 1 + 2^-22 + 2^-46: only a fused product keeps the last term.
        Row("floating point: fma.rn", "fma.rn.f32 d, a, b, c", "r=rrr", &[&[ONE_UP, ONE_UP, 0xbf80_0002, 0x2880_0000], &[f(2.0), f(3.0), f(4.0), f(10.0)], &[INF, 0, ONE, NAN], &[f(-1.0), f(1.0), f(1.0), 0], &[MAX, f(2.0), 0xff7f_ffff, MAX]]),
        Row("floating point: fma.rz", "fma.rz.f32 d, a, b, c", "r=rrr", &[&[ONE, ONE, HALF_ULP, ONE], &[ONE_UP, ONE, HALF_ULP, ONE_UP]]),
        Row("floating point: fma.rm", "fma.rm.f32 d, a, b, c", "r=rrr", &[&[ONE, ONE, f(-1.0), NZERO], &[f(-1.0), ONE, NTINY, 0xbf80_0001]]),
        Row("floating point: fma.rp", "fma.rp.f32 d, a, b, c", "r=rrr", &[&[ONE, ONE, TINY, ONE_UP], &[TINY, TINY, ONE, ONE_UP]]),
        Row("floating point: fma.ftz", "fma.rn.ftz.f32 d, a, b, c", "r=rrr", &[&[TINY, f(1.0), TINY, 0], &[NORMAL, f(0.5), 0, 0]]),
        Row("floating point: fma.sat", "fma.rn.sat.f32 d, a, b, c", "r=rrr", &[&[f(2.0), f(3.0), f(4.0), ONE], &[f(2.0), f(-3.0), f(4.0), 0], &[QNAN, ONE, ONE, 0]]),
        Row("floating point: mad.rn", "mad.rn.f32 d, a, b, c", "r=rrr", &[&[ONE_UP, ONE_UP, 0xbf80_0002, 0x2880_0000]]),
        // ---- div
        Row("floating point: div.rn", "div.rn.f32 d, a, b", "r=rr", &[&[f(1.0), f(3.0), THIRD_UP], &[f(1.0), 0, INF], &[f(-1.0), 0, NINF], &[0, 0, NAN], &[INF, INF, NAN], &[f(6.0), f(-2.0), f(-3.0)]]),
        Row("floating point: div.rz", "div.rz.f32 d, a, b", "r=rr", &[&[f(1.0), f(3.0), THIRD_DOWN]]),
        Row("floating point: div.rm", "div.rm.f32 d, a, b", "r=rr", &[&[f(1.0), f(3.0), THIRD_DOWN], &[f(-1.0), f(3.0), 0xbeaa_aaab]]),
        Row("floating point: div.rp", "div.rp.f32 d, a, b", "r=rr", &[&[f(1.0), f(3.0), THIRD_UP], &[f(-1.0), f(3.0), 0xbeaa_aaaa]]),
        Row("floating point: div.rn.ftz", "div.rn.ftz.f32 d, a, b", "r=rr", &[&[NORMAL, f(2.0), 0], &[ONE, TINY, INF], &[TINY, TINY, NAN]]),
        Row("floating point: div.full", "div.full.f32 d, a, b", "r=rr", &[&[f(6.0), f(2.0), f(3.0)], &[f(1.0), 0, INF]]),
        Row("floating point: div.full.ftz", "div.full.ftz.f32 d, a, b", "r=rr", &[&[f(6.0), f(2.0), f(3.0)], &[TINY, f(1.0), 0]]),
        Row("floating point: div.approx", "div.approx.f32 d, a, b", "r=rr", &[&[f(6.0), f(2.0), f(3.0)], &[f(1.0), 0x7f00_0000, 0]]),
        Row("floating point: div.approx.ftz", "div.approx.ftz.f32 d, a, b", "r=rr", &[&[f(6.0), f(2.0), f(3.0)], &[f(1.0), NTINY, NINF]]),
        // ---- abs, neg
        Row("floating point: abs", "abs.f32 d, a", "r=r", &[&[f(-2.0), f(2.0)], &[NZERO, 0], &[NTINY, TINY], &[NINF, INF]]),
        Row("floating point: abs.ftz", "abs.ftz.f32 d, a", "r=r", &[&[NTINY, 0]]),
        Row("floating point: neg", "neg.f32 d, a", "r=r", &[&[f(-2.0), f(2.0)], &[0, NZERO], &[TINY, NTINY]]),
        Row("floating point: neg.ftz", "neg.ftz.f32 d, a", "r=r", &[&[TINY, NZERO]]),
        // ---- min, max
        Row("floating point: min", "min.f32 d, a, b", "r=rr", &[&[f(1.0), f(-2.0), f(-2.0)], &[0, NZERO, NZERO], &[NZERO, 0, NZERO], &[QNAN, ONE, ONE], &[ONE, QNAN, ONE], &[QNAN, QNAN, NAN], &[INF, ONE, ONE]]),
        Row("floating point: min.NaN", "min.NaN.f32 d, a, b", "r=rr", &[&[QNAN, ONE, NAN], &[ONE, QNAN, NAN], &[ONE, f(2.0), ONE]]),
        Row("floating point: min.ftz", "min.ftz.f32 d, a, b", "r=rr", &[&[TINY, ONE, 0], &[NTINY, ONE, NZERO]]),
        Row("floating point: min.xorsign.abs", "min.xorsign.abs.f32 d, a, b", "r=rr", &[&[f(-1.0), f(2.0), f(-1.0)], &[f(-3.0), f(-2.0), f(2.0)]]),
        Row("floating point: max", "max.f32 d, a, b", "r=rr", &[&[f(1.0), f(-2.0), f(1.0)], &[0, NZERO, 0], &[NZERO, 0, 0], &[QNAN, ONE, ONE], &[ONE, QNAN, ONE], &[QNAN, QNAN, NAN]]),
        Row("floating point: max.NaN", "max.NaN.f32 d, a, b", "r=rr", &[&[QNAN, ONE, NAN], &[ONE, QNAN, NAN]]),
        Row("floating point: max.ftz", "max.ftz.f32 d, a, b", "r=rr", &[&[TINY, f(-1.0), 0]]),
        Row("floating point: max.xorsign.abs", "max.xorsign.abs.f32 d, a, b", "r=rr", &[&[f(-1.0), f(2.0), f(-2.0)], &[f(-3.0), f(-2.0), f(3.0)]]),
        // ---- rcp, sqrt, rsqrt
        Row("floating point: rcp.approx", "rcp.approx.f32 d, a", "r=r", &[&[f(4.0), f(0.25)], &[0, INF], &[NZERO, NINF], &[INF, 0], &[NINF, NZERO], &[QNAN, NAN]]),
        Row("floating point: rcp.approx.ftz", "rcp.approx.ftz.f32 d, a", "r=r", &[&[TINY, INF], &[NTINY, NINF], &[0x7f00_0000, 0], &[f(-2.0), f(-0.5)]]),
        Row("floating point: rcp.rn", "rcp.rn.f32 d, a", "r=r", &[&[f(3.0), THIRD_UP], &[0x7f00_0000, 0x0040_0000]]),
        Row("floating point: rcp.rz", "rcp.rz.f32 d, a", "r=r", &[&[f(3.0), THIRD_DOWN]]),
        Row("floating point: rcp.rm", "rcp.rm.f32 d, a", "r=r", &[&[f(-3.0), 0xbeaa_aaab]]),
        Row("floating point: rcp.rp", "rcp.rp.f32 d, a", "r=r", &[&[f(3.0), THIRD_UP]]),
        Row("floating point: rcp.rn.ftz", "rcp.rn.ftz.f32 d, a", "r=r", &[&[TINY, INF]]),
        Row("floating point: sqrt.approx", "sqrt.approx.f32 d, a", "r=r", &[&[f(4.0), f(2.0)], &[f(-1.0), NAN], &[NZERO, NZERO], &[INF, INF]]),
        Row("floating point: sqrt.approx.ftz", "sqrt.approx.ftz.f32 d, a", "r=r", &[&[f(9.0), f(3.0)], &[TINY, 0], &[NTINY, NZERO]]),
        Row("floating point: sqrt.rn", "sqrt.rn.f32 d, a", "r=r", &[&[f(2.0), ROOT_DOWN], &[f(-1.0), NAN]]),
        Row("floating point: sqrt.rz", "sqrt.rz.f32 d, a", "r=r", &[&[f(2.0), ROOT_DOWN]]),
        Row("floating point: sqrt.rm", "sqrt.rm.f32 d, a", "r=r", &[&[f(2.0), ROOT_DOWN]]),
        Row("floating point: sqrt.rp", "sqrt.rp.f32 d, a", "r=r", &[&[f(2.0), ROOT_UP]]),
        Row("floating point: sqrt.rn.ftz", "sqrt.rn.ftz.f32 d, a", "r=r", &[&[f(16.0), f(4.0)], &[TINY, 0]]),
        Row("floating point: rsqrt.approx", "rsqrt.approx.f32 d, a", "r=r", &[&[f(4.0), f(0.5)], &[0, INF], &[NZERO, NINF], &[INF, 0], &[f(-1.0), NAN], &[f(0.0625), f(4.0)]]),
        Row("floating point: rsqrt.approx.ftz", "rsqrt.approx.ftz.f32 d, a", "r=r", &[&[f(4.0), f(0.5)], &[TINY, INF]]),
        // ---- sin … tanh
        Row("floating point: sin", "sin.approx.f32 d, a", "r=r", &[&[0, 0], &[NZERO, NZERO], &[INF, NAN]]),
        Row("floating point: sin.ftz", "sin.approx.ftz.f32 d, a", "r=r", &[&[TINY, 0], &[NTINY, NZERO]]),
        Row("floating point: cos", "cos.approx.f32 d, a", "r=r", &[&[0, ONE], &[NINF, NAN]]),
        Row("floating point: cos.ftz", "cos.approx.ftz.f32 d, a", "r=r", &[&[TINY, ONE]]),
        Row("floating point: lg2", "lg2.approx.f32 d, a", "r=r", &[&[f(8.0), f(3.0)], &[0, NINF], &[NZERO, NINF], &[INF, INF], &[f(-1.0), NAN], &[TINY, f(-149.0)]]),
        Row("floating point: lg2.ftz", "lg2.approx.ftz.f32 d, a", "r=r", &[&[f(0.25), f(-2.0)], &[TINY, NINF]]),
        Row("floating point: ex2", "ex2.approx.f32 d, a", "r=r", &[&[f(3.0), f(8.0)], &[NINF, 0], &[INF, INF], &[NZERO, ONE], &[QNAN, NAN], &[f(128.0), INF], &[f(-149.0), TINY]]),
        Row("floating point: ex2.ftz", "ex2.approx.ftz.f32 d, a", "r=r", &[&[f(-2.0), f(0.25)], &[f(-127.0), 0]]),
        Row("floating point: tanh", "tanh.approx.f32 d, a", "r=r", &[&[INF, ONE], &[NINF, f(-1.0)], &[NZERO, NZERO], &[QNAN, NAN], &[f(20.0), ONE]]),
    ];
    check(ROWS);
}

/// Functions with an error bound, over a sweep of arguments: bound from the manual, reference in f64.
#[test]
fn approximations_keep_the_stated_error() {
    type BoundedCase = (&'static str, fn(f64) -> f64, f32, f32, f64, bool);
    let cases: [BoundedCase; 10] = [
        // absolute 2^-20.5 in [−π, π]
        ("sin.approx.f32 %d0, %a0;", f64::sin, -3.1, 3.1, 6.7e-7, false),
        ("cos.approx.ftz.f32 %d0, %a0;", f64::cos, -3.1, 3.1, 6.7e-7, false),
        // absolute 2^-22 in [0.5, 2], relative elsewhere
        ("lg2.approx.f32 %d0, %a0;", f64::log2, 0.5, 2.0, 2.4e-7, false),
        ("lg2.approx.f32 %d0, %a0;", f64::log2, 3.0, 1e30, 2.4e-7, true),
        ("ex2.approx.f32 %d0, %a0;", f64::exp2, -100.0, 100.0, 2.4e-7, true),
        ("ex2.approx.ftz.f32 %d0, %a0;", f64::exp2, -1.0, 1.0, 2.4e-7, true),
        ("rsqrt.approx.f32 %d0, %a0;", |x| 1.0 / x.sqrt(), 1e-20, 1e20, 1.2e-7, true),
        ("sqrt.approx.f32 %d0, %a0;", f64::sqrt, 1e-20, 1e20, 1.2e-7, true),
        ("rcp.approx.f32 %d0, %a0;", |x| 1.0 / x, 1e-20, 1e20, 1.2e-7, true),
        ("tanh.approx.f32 %d0, %a0;", f64::tanh, -6.0, 6.0, 4.9e-4, true),
    ];
    for (text, reference, low, high, bound, relative) in cases {
        let spread = |i: usize| {
            let t = (i as f32 + 0.37) / 256.0;
            // Geometric if the range spans magnitudes.
            if low > 0.0 && high > 100.0 {
                (f64::from(low) * (f64::from(high) / f64::from(low)).powf(t.into())) as f32
            } else {
                low + (high - low) * t
            }
        };
        let inputs: Vec<Vec<u32>> = (0..256).map(|i| vec![spread(i).to_bits()]).collect();
        for (input, out) in inputs.iter().zip(lanes("", text, 1, &inputs)) {
            let x = f64::from(f32::from_bits(input[0]));
            let (got, want) = (f64::from(f32::from_bits(out[0])), reference(x));
            let error = (got - want).abs() / if relative { want.abs() } else { 1.0 };
            assert!(error <= bound, "{text} of {x:e}: {got:e}, expected {want:e}");
        }
    }
}

const ONE64: u64 = 0x3ff0_0000_0000_0000;
const MAX64: u64 = 0x7fef_ffff_ffff_ffff;
/// 2^-53, half a unit of 1.
const HALF_ULP64: u64 = 0x3ca0_0000_0000_0000;
const THIRD64: u64 = 0x3fd5_5555_5555_5555;
const ROOT64: u64 = 0x3ff6_a09e_667f_3bcc;

#[test]
#[rustfmt::skip]
fn double_precision() {
    const ROWS: &[Row] = &[
        Row("floating point: testp.finite", "testp.finite.f64 d, a", "p=d", &[&[ONE64, 1], &[INF64, 0]]),
        Row("floating point: testp.infinite", "testp.infinite.f64 d, a", "p=d", &[&[NINF64, 1], &[1, 0]]),
        Row("floating point: testp.notanumber", "testp.notanumber.f64 d, a", "p=d", &[&[NAN64, 1], &[INF64, 0]]),
        Row("floating point: testp.subnormal", "testp.subnormal.f64 d, a", "p=d", &[&[1, 1], &[ONE64, 0]]),
        Row("floating point: copysign", "copysign.f64 d, a, b", "d=dd", &[&[g(-1.0), g(2.0), g(-2.0)]]),
        Row("floating point: add", "add.f64 d, a, b", "d=dd", &[&[g(1.5), g(2.25), g(3.75)], &[INF64, NINF64, NAN64], &[g(1.0), g(-1.0), 0], &[1, 1, 2]]),
        Row("floating point: add.rn", "add.rn.f64 d, a, b", "d=dd", &[&[ONE64, HALF_ULP64, ONE64], &[ONE64 + 1, HALF_ULP64, ONE64 + 2]]),
        Row("floating point: add.rz", "add.rz.f64 d, a, b", "d=dd", &[&[ONE64 + 1, HALF_ULP64, ONE64 + 1], &[MAX64, MAX64, MAX64]]),
        Row("floating point: add.rm", "add.rm.f64 d, a, b", "d=dd", &[&[g(1.0), g(-1.0), NZERO64], &[ONE64, 1 << 63 | 1, ONE64 - 1]]),
        Row("floating point: add.rp", "add.rp.f64 d, a, b", "d=dd", &[&[ONE64, 1, ONE64 + 1]]),
        Row("floating point: sub", "sub.f64 d, a, b", "d=dd", &[&[g(1.0), g(3.0), g(-2.0)]]),
        Row("floating point: sub.rp", "sub.rp.f64 d, a, b", "d=dd", &[&[ONE64, 1 << 63 | 1, ONE64 + 1]]),
        Row("floating point: mul", "mul.f64 d, a, b", "d=dd", &[&[g(1.5), g(-2.0), g(-3.0)], &[0, INF64, NAN64]]),
        Row("floating point: mul.rz", "mul.rz.f64 d, a, b", "d=dd", &[&[MAX64, g(2.0), MAX64]]),
        Row("floating point: mul.rm", "mul.rm.f64 d, a, b", "d=dd", &[&[1, g(-0.5), 1 << 63 | 1]]),
        Row("floating point: mul.rp", "mul.rp.f64 d, a, b", "d=dd", &[&[ONE64 + 1, ONE64 + 1, ONE64 + 3]]),
        // (1+2^-52)² − (1+2^-51) = 2^-104
        Row("floating point: fma.rn", "fma.rn.f64 d, a, b, c", "d=ddd", &[&[ONE64 + 1, ONE64 + 1, (ONE64 + 2) | 1 << 63, (1023 - 104) << 52], &[INF64, 0, 0, NAN64]]),
        Row("floating point: fma.rz", "fma.rz.f64 d, a, b, c", "d=ddd", &[&[ONE64 + 1, ONE64, HALF_ULP64, ONE64 + 1]]),
        Row("floating point: fma.rm", "fma.rm.f64 d, a, b, c", "d=ddd", &[&[ONE64, ONE64, g(-1.0), NZERO64]]),
        Row("floating point: fma.rp", "fma.rp.f64 d, a, b, c", "d=ddd", &[&[1, 1, ONE64, ONE64 + 1]]),
        Row("floating point: mad.rn", "mad.rn.f64 d, a, b, c", "d=ddd", &[&[g(2.0), g(3.0), g(4.0), g(10.0)]]),
        Row("floating point: div.rn", "div.rn.f64 d, a, b", "d=dd", &[&[g(1.0), g(3.0), THIRD64], &[g(1.0), 0, INF64], &[0, 0, NAN64]]),
        Row("floating point: div.rz", "div.rz.f64 d, a, b", "d=dd", &[&[g(1.0), g(3.0), THIRD64]]),
        Row("floating point: div.rm", "div.rm.f64 d, a, b", "d=dd", &[&[g(-1.0), g(3.0), (THIRD64 + 1) | 1 << 63]]),
        Row("floating point: div.rp", "div.rp.f64 d, a, b", "d=dd", &[&[g(1.0), g(3.0), THIRD64 + 1]]),
        Row("floating point: abs", "abs.f64 d, a", "d=d", &[&[g(-2.0), g(2.0)], &[NZERO64, 0]]),
        Row("floating point: neg", "neg.f64 d, a", "d=d", &[&[g(-2.0), g(2.0)], &[0, NZERO64]]),
        Row("floating point: min", "min.f64 d, a, b", "d=dd", &[&[g(1.0), g(-2.0), g(-2.0)], &[NAN64, ONE64, ONE64], &[0, NZERO64, NZERO64], &[NAN64, NAN64, NAN64]]),
        Row("floating point: max", "max.f64 d, a, b", "d=dd", &[&[g(1.0), g(-2.0), g(1.0)], &[ONE64, NAN64, ONE64], &[NZERO64, 0, 0]]),
        Row("floating point: rcp.rn", "rcp.rn.f64 d, a", "d=d", &[&[g(3.0), THIRD64], &[0, INF64]]),
        Row("floating point: rcp.rp", "rcp.rp.f64 d, a", "d=d", &[&[g(3.0), THIRD64 + 1]]),
        Row("floating point: rcp.approx.ftz", "rcp.approx.ftz.f64 d, a", "d=d", &[&[g(4.0), g(0.25)], &[1, INF64], &[NZERO64, NINF64], &[NINF64, NZERO64], &[INF64, 0]]),
        Row("floating point: sqrt.rn", "sqrt.rn.f64 d, a", "d=d", &[&[g(2.0), ROOT64 + 1], &[g(-1.0), NAN64], &[NZERO64, NZERO64]]),
        Row("floating point: sqrt.rm", "sqrt.rm.f64 d, a", "d=d", &[&[g(2.0), ROOT64]]),
        Row("floating point: sqrt.rp", "sqrt.rp.f64 d, a", "d=d", &[&[g(2.0), ROOT64 + 1], &[g(9.0), g(3.0)]]),
        Row("floating point: rsqrt.approx", "rsqrt.approx.f64 d, a", "d=d", &[&[g(16.0), g(0.25)], &[g(0.0625), g(4.0)], &[NZERO64, NINF64]]),
        Row("floating point: rsqrt.approx.ftz", "rsqrt.approx.ftz.f64 d, a", "d=d", &[&[g(16.0), g(0.25)], &[1, INF64]]),
    ];
    check(ROWS);
}
