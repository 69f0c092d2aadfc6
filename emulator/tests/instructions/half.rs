//! Half precision, and its comparisons.

use crate::harness::{Row, check};

/// f16: 1, 2, 3, −1, smallest subnormal, infinity, NaN.
const ONE: u64 = 0x3c00;
const TWO: u64 = 0x4000;
const THREE: u64 = 0x4200;
const NONE: u64 = 0xbc00;
const INF: u64 = 0x7c00;
const NAN: u64 = 0x7fff;
/// The same in bf16.
const B1: u64 = 0x3f80;
const B2: u64 = 0x4000;
const B3: u64 = 0x4040;
const BN1: u64 = 0xbf80;
const BINF: u64 = 0x7f80;

const fn x2(high: u64, low: u64) -> u64 {
    high << 16 | low
}

#[test]
#[rustfmt::skip]
fn f16() {
    const ROWS: &[Row] = &[
        Row("half precision floating point: add", "add.f16 d, a, b", "h=hh", &[&[ONE, TWO, THREE], &[0x7bff, 0x7bff, INF], &[INF, 0xfc00, NAN], &[1, 1, 2], &[ONE, NONE, 0], &[0x6800, ONE, 0x6800], &[0x6800, 0x3c01, 0x6801]]),
        Row("half precision floating point: add.rn", "add.rn.f16 d, a, b", "h=hh", &[&[ONE, TWO, THREE]]),
        Row("half precision floating point: add.ftz", "add.ftz.f16 d, a, b", "h=hh", &[&[1, 1, 0], &[0x8001, 0x8001, 0x8000]]),
        Row("half precision floating point: add.sat", "add.sat.f16 d, a, b", "h=hh", &[&[ONE, TWO, ONE], &[ONE, 0xc000, 0], &[0x7e00, ONE, 0], &[0x3400, 0x3400, 0x3800]]),
        Row("half precision floating point: add", "add.f16x2 d, a, b", "r=rr", &[&[x2(ONE, TWO), x2(ONE, ONE), x2(TWO, THREE)]]),
        Row("half precision floating point: add.ftz.sat", "add.ftz.sat.f16x2 d, a, b", "r=rr", &[&[x2(ONE, 1), x2(ONE, 1), x2(ONE, 0)]]),
        Row("half precision floating point: sub", "sub.f16 d, a, b", "h=hh", &[&[ONE, TWO, NONE], &[INF, INF, NAN]]),
        Row("half precision floating point: sub.ftz", "sub.ftz.f16 d, a, b", "h=hh", &[&[0x0401, 0x0400, 0]]),
        Row("half precision floating point: sub.sat", "sub.sat.f16 d, a, b", "h=hh", &[&[ONE, TWO, 0]]),
        Row("half precision floating point: sub", "sub.f16x2 d, a, b", "r=rr", &[&[x2(ONE, THREE), x2(TWO, ONE), x2(NONE, TWO)]]),
        Row("half precision floating point: mul", "mul.f16 d, a, b", "h=hh", &[&[TWO, TWO, 0x4400], &[0x3c01, 0x3c01, 0x3c02], &[0, INF, NAN], &[1, 0x3800, 0], &[3, 0x3800, 2]]),
        Row("half precision floating point: mul.ftz", "mul.ftz.f16 d, a, b", "h=hh", &[&[0x0400, 0x3800, 0], &[0x03ff, TWO, 0]]),
        Row("half precision floating point: mul.sat", "mul.sat.f16 d, a, b", "h=hh", &[&[TWO, TWO, ONE]]),
        Row("half precision floating point: mul", "mul.f16x2 d, a, b", "r=rr", &[&[x2(ONE, TWO), x2(THREE, TWO), x2(THREE, 0x4400)]]),
        // 2050 − 1.0009766 is below the midpoint 2049, 2050 − 0.9995117 above it: one rounding only.
        Row("half precision floating point: fma.rn", "fma.rn.f16 d, a, b, c", "h=hhh", &[&[TWO, THREE, ONE, 0x4700], &[0x3c01, NONE, 0x6801, 0x6800], &[0x3bff, NONE, 0x6801, 0x6801], &[INF, 0, ONE, NAN], &[0x3c01, 0x3c01, 0xbc02, 0x0010]]),
        Row("half precision floating point: fma.ftz", "fma.rn.ftz.f16 d, a, b, c", "h=hhh", &[&[1, ONE, 1, 0], &[0x3c01, 0x3c01, 0xbc02, 0]]),
        Row("half precision floating point: fma.sat", "fma.rn.sat.f16 d, a, b, c", "h=hhh", &[&[TWO, THREE, ONE, ONE], &[NONE, ONE, 0, 0]]),
        Row("half precision floating point: fma.relu", "fma.rn.relu.f16 d, a, b, c", "h=hhh", &[&[NONE, ONE, 0, 0], &[TWO, ONE, ONE, THREE], &[INF, 0, 0, NAN]]),
        Row("half precision floating point: fma.rn", "fma.rn.f16x2 d, a, b, c", "r=rrr", &[&[x2(TWO, ONE), x2(THREE, ONE), x2(ONE, ONE), x2(0x4700, TWO)]]),
        Row("half precision floating point: fma.relu", "fma.rn.relu.f16x2 d, a, b, c", "r=rrr", &[&[x2(NONE, ONE), x2(ONE, ONE), x2(0, ONE), x2(0, TWO)]]),
        Row("half precision floating point: neg", "neg.f16 d, a", "h=h", &[&[ONE, NONE], &[0, 0x8000]]),
        Row("half precision floating point: neg.ftz", "neg.ftz.f16 d, a", "h=h", &[&[1, 0x8000]]),
        Row("half precision floating point: neg", "neg.f16x2 d, a", "r=r", &[&[x2(ONE, 0x8000), x2(NONE, 0)]]),
        Row("half precision floating point: abs", "abs.f16 d, a", "h=h", &[&[NONE, ONE], &[0x8001, 1]]),
        Row("half precision floating point: abs.ftz", "abs.ftz.f16 d, a", "h=h", &[&[0x8001, 0]]),
        Row("half precision floating point: abs", "abs.f16x2 d, a", "r=r", &[&[x2(NONE, 0x8000), x2(ONE, 0)]]),
        Row("half precision floating point: min", "min.f16 d, a, b", "h=hh", &[&[ONE, TWO, ONE], &[0x7e00, ONE, ONE], &[0x8000, 0, 0x8000], &[0x7e00, 0x7e00, NAN]]),
        Row("half precision floating point: min.NaN", "min.NaN.f16 d, a, b", "h=hh", &[&[ONE, 0x7e00, NAN]]),
        Row("half precision floating point: min.ftz", "min.ftz.f16 d, a, b", "h=hh", &[&[1, ONE, 0]]),
        Row("half precision floating point: min.xorsign.abs", "min.xorsign.abs.f16 d, a, b", "h=hh", &[&[NONE, TWO, NONE]]),
        Row("half precision floating point: min", "min.f16x2 d, a, b", "r=rr", &[&[x2(ONE, TWO), x2(TWO, NONE), x2(ONE, NONE)]]),
        Row("half precision floating point: max", "max.f16 d, a, b", "h=hh", &[&[ONE, TWO, TWO], &[0x7e00, ONE, ONE], &[0x8000, 0, 0]]),
        Row("half precision floating point: max.NaN", "max.NaN.f16 d, a, b", "h=hh", &[&[ONE, 0x7e00, NAN]]),
        Row("half precision floating point: max.NaN", "max.NaN.f16x2 d, a, b", "r=rr", &[&[x2(ONE, 0x7e00), x2(TWO, ONE), x2(TWO, NAN)]]),
        Row("half precision floating point: max", "max.f16x2 d, a, b", "r=rr", &[&[x2(ONE, TWO), x2(TWO, NONE), x2(TWO, TWO)]]),
        Row("half precision floating point: tanh", "tanh.approx.f16 d, a", "h=h", &[&[INF, ONE], &[0x8000, 0x8000], &[0x5000, ONE]]),
        Row("half precision floating point: tanh", "tanh.approx.f16x2 d, a", "r=r", &[&[x2(INF, 0xfc00), x2(ONE, NONE)]]),
        Row("half precision floating point: ex2", "ex2.approx.f16 d, a", "h=h", &[&[ONE, TWO], &[0xfc00, 0], &[INF, INF], &[0, ONE]]),
        Row("half precision floating point: ex2", "ex2.approx.f16x2 d, a", "r=r", &[&[x2(ONE, NONE), x2(TWO, 0x3800)]]),
    ];
    check(ROWS);
}

#[test]
#[rustfmt::skip]
fn bf16() {
    const ROWS: &[Row] = &[
        Row("half precision floating point: add", "add.bf16 d, a, b", "h=hh", &[&[B1, B2, B3], &[0x4380, B1, 0x4380], &[1, 1, 2], &[0x7f7f, 0x7f7f, BINF]]),
        Row("half precision floating point: add.rn", "add.rn.bf16x2 d, a, b", "r=rr", &[&[x2(B1, B2), x2(B1, B1), x2(B2, B3)]]),
        Row("half precision floating point: sub", "sub.bf16 d, a, b", "h=hh", &[&[B1, B2, BN1]]),
        Row("half precision floating point: sub", "sub.bf16x2 d, a, b", "r=rr", &[&[x2(B3, B2), x2(B1, B3), x2(B2, BN1)]]),
        Row("half precision floating point: mul", "mul.bf16 d, a, b", "h=hh", &[&[B2, B2, 0x4080], &[0x3f81, 0x3f81, 0x3f82], &[0x0080, 0x3f00, 0x0040]]),
        Row("half precision floating point: mul", "mul.bf16x2 d, a, b", "r=rr", &[&[x2(B2, B1), x2(B2, B3), x2(0x4080, B3)]]),
        Row("half precision floating point: fma.rn", "fma.rn.bf16 d, a, b, c", "h=hhh", &[&[B2, B3, B1, 0x40e0], &[0x3fc0, 0x3fc0, 0x4380, 0x4381], &[BINF, 0, B1, NAN]]),
        Row("half precision floating point: fma.relu", "fma.rn.relu.bf16 d, a, b, c", "h=hhh", &[&[BN1, B1, 0, 0], &[B1, B1, B1, B2]]),
        Row("half precision floating point: fma.rn", "fma.rn.bf16x2 d, a, b, c", "r=rrr", &[&[x2(B2, B1), x2(B3, B1), x2(B1, 0), x2(0x40e0, B1)]]),
        Row("half precision floating point: fma.relu", "fma.rn.relu.bf16x2 d, a, b, c", "r=rrr", &[&[x2(BN1, B1), x2(B1, B1), x2(0, B1), x2(0, B2)]]),
        Row("half precision floating point: neg", "neg.bf16 d, a", "h=h", &[&[B1, BN1]]),
        Row("half precision floating point: neg", "neg.bf16x2 d, a", "r=r", &[&[x2(B1, BN1), x2(BN1, B1)]]),
        Row("half precision floating point: abs", "abs.bf16 d, a", "h=h", &[&[BN1, B1]]),
        Row("half precision floating point: abs", "abs.bf16x2 d, a", "r=r", &[&[x2(BN1, B2), x2(B1, B2)]]),
        Row("half precision floating point: min", "min.bf16 d, a, b", "h=hh", &[&[B1, BN1, BN1], &[0x7fc0, B1, B1]]),
        Row("half precision floating point: min.NaN", "min.NaN.bf16 d, a, b", "h=hh", &[&[0x7fc0, B1, NAN]]),
        Row("half precision floating point: min.xorsign.abs", "min.xorsign.abs.bf16 d, a, b", "h=hh", &[&[BN1, B2, BN1]]),
        Row("half precision floating point: min", "min.bf16x2 d, a, b", "r=rr", &[&[x2(B1, B2), x2(BN1, B3), x2(BN1, B2)]]),
        Row("half precision floating point: max", "max.bf16 d, a, b", "h=hh", &[&[B1, BN1, B1]]),
        Row("half precision floating point: max", "max.bf16x2 d, a, b", "r=rr", &[&[x2(B1, B2), x2(BN1, B3), x2(B1, B3)]]),
        Row("half precision floating point: tanh", "tanh.approx.bf16 d, a", "h=h", &[&[BINF, B1]]),
        Row("half precision floating point: tanh", "tanh.approx.bf16x2 d, a", "r=r", &[&[x2(BINF, 0xff80), x2(B1, BN1)]]),
        Row("half precision floating point: ex2.ftz", "ex2.approx.ftz.bf16 d, a", "h=h", &[&[B1, B2], &[BN1, 0x3f00]]),
        Row("half precision floating point: ex2.ftz", "ex2.approx.ftz.bf16x2 d, a", "r=r", &[&[x2(B1, BN1), x2(B2, 0x3f00)]]),
    ];
    check(ROWS);
}

#[test]
#[rustfmt::skip]
fn half_comparisons() {
    const ROWS: &[Row] = &[
        Row("half precision comparison: set", "set.lt.f16.f16 d, a, b", "h=hh", &[&[ONE, TWO, ONE], &[TWO, ONE, 0]]),
        Row("half precision comparison: set", "set.gt.u32.f16 d, a, b", "r=hh", &[&[TWO, ONE, 0xffff_ffff], &[ONE, 0x7e00, 0]]),
        Row("half precision comparison: set", "set.eq.u16.f16 d, a, b", "h=hh", &[&[TWO, TWO, 0xffff]]),
        Row("half precision comparison: set", "set.lt.f16x2.f16x2 d, a, b", "r=rr", &[&[x2(ONE, TWO), x2(TWO, ONE), x2(ONE, 0)]]),
        Row("half precision comparison: set", "set.gtu.bf16x2.bf16x2 d, a, b", "r=rr", &[&[x2(B1, 0x7fc0), x2(B2, B1), x2(0, B1)]]),
        Row("half precision comparison: setp", "setp.lt.f16 d, a, b", "p=hh", &[&[ONE, TWO, 1], &[ONE, 0x7e00, 0]]),
        Row("half precision comparison: setp", "setp.ltu.f16 d, a, b", "p=hh", &[&[ONE, 0x7e00, 1], &[TWO, ONE, 0]]),
        Row("half precision comparison: setp.ftz", "setp.eq.ftz.f16 d, a, b", "p=hh", &[&[1, 0x8000, 1]]),
        Row("half precision comparison: setp", "setp.gt.f16x2 d|q, a, b", "pp=rr", &[&[x2(ONE, TWO), x2(TWO, ONE), 1, 0]]),
        Row("half precision comparison: setp.and", "setp.gt.and.f16x2 d|q, a, b, c", "pp=rrp", &[&[x2(TWO, TWO), x2(ONE, ONE), 0, 0, 0], &[x2(TWO, TWO), x2(ONE, ONE), 1, 1, 1]]),
        Row("half precision comparison: setp", "setp.ge.bf16 d, a, b", "p=hh", &[&[B2, B1, 1], &[B1, B2, 0]]),
        Row("half precision comparison: setp", "setp.nan.bf16x2 d|q, a, b", "pp=rr", &[&[x2(0x7fc0, B1), x2(B1, B1), 0, 1]]),
    ];
    check(ROWS);
}
