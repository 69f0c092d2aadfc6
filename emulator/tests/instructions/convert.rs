//! mov, isspacep, cvta, cvt.

use crate::harness::*;

const ONES: u64 = 0xffff_ffff;

#[test]
#[rustfmt::skip]
fn moves() {
    const ROWS: &[Row] = &[
        Row("data movement and conversion: mov", "mov.b16 d, a", "h=h", &[&[0xabcd, 0xabcd]]),
        Row("data movement and conversion: mov", "mov.u32 d, a", "r=r", &[&[ONES, ONES]]),
        Row("data movement and conversion: mov", "mov.f64 d, a", "d=d", &[&[g(1.5), g(1.5)]]),
        Row("data movement and conversion: mov", "mov.pred d, a", "p=p", &[&[1, 1], &[0, 0]]),
        Row("data movement and conversion: mov, immediate", "mov.u64 d, 0x123456789abcdef0", "d=r", &[&[0, 0x1234_5678_9abc_def0]]),
        Row("data movement and conversion: mov, negative immediate", "mov.s32 d, -5", "r=r", &[&[0, s(-5)]]),
        Row("data movement and conversion: mov, octal and binary", "mov.u32 d, 017; mov.u32 q, 0b101", "rr=r", &[&[0, 15, 5]]),
        Row("data movement and conversion: mov, constant expression", "mov.u32 d, (1 << 4) | 3", "r=r", &[&[0, 19]]),
        Row("data movement and conversion: mov, f64 immediate", "mov.f64 d, 0d3FF8000000000000", "d=r", &[&[0, g(1.5)]]),
        Row("data movement and conversion: mov, pack", "mov.b32 d, {a, b}", "r=hh", &[&[0x1111, 0x2222, 0x2222_1111]]),
        Row("data movement and conversion: mov, pack", "mov.b64 d, {a, b}", "d=rr", &[&[1, 2, 2 << 32 | 1]]),
        Row("data movement and conversion: mov, pack four", "mov.b64 d, {a, b, c, e}", "d=hhhh", &[&[1, 2, 3, 4, 4 << 48 | 3 << 32 | 2 << 16 | 1]]),
        Row("data movement and conversion: mov, unpack", "mov.b32 {d, q}, a", "hh=r", &[&[0x2222_1111, 0x1111, 0x2222]]),
        Row("data movement and conversion: mov, unpack", "mov.b64 {d, q}, a", "rr=d", &[&[2 << 32 | 1, 1, 2]]),
        Row("data movement and conversion: mov, unpack with a sink", "mov.b64 {_, d}, a", "r=d", &[&[2 << 32 | 1, 2]]),
    ];
    check(ROWS);
}

#[test]
#[rustfmt::skip]
fn integer_conversions() {
    const ROWS: &[Row] = &[
        Row("data movement and conversion: cvt", "cvt.u32.u16 d, a", "r=h", &[&[0xffff, 0xffff]]),
        Row("data movement and conversion: cvt", "cvt.s32.s16 d, a", "r=h", &[&[0xffff, ONES]]),
        Row("data movement and conversion: cvt", "cvt.u32.s16 d, a", "r=h", &[&[0xffff, ONES]]),
        Row("data movement and conversion: cvt", "cvt.u16.u32 d, a", "h=r", &[&[0x1234_5678, 0x5678]]),
        Row("data movement and conversion: cvt", "cvt.u64.u32 d, a", "d=r", &[&[ONES, ONES]]),
        Row("data movement and conversion: cvt", "cvt.s64.s32 d, a", "d=r", &[&[s(-5), l(-5)]]),
        Row("data movement and conversion: cvt", "cvt.u32.u64 d, a", "r=d", &[&[0x1_2345_6789, 0x2345_6789]]),
        Row("data movement and conversion: cvt", "cvt.s64.u16 d, a", "d=h", &[&[0xffff, 0xffff]]),
        Row("data movement and conversion: cvt, to 8 bits", "cvt.u8.u32 d, a", "r=r", &[&[0x1ff, 0xff]]),
        Row("data movement and conversion: cvt, to 8 bits", "cvt.s8.s32 d, a", "r=r", &[&[0x1ff, ONES], &[0x17f, 0x7f]]),
        Row("data movement and conversion: cvt, from 8 bits", "cvt.s32.s8 d, a", "r=r", &[&[0x180, s(-128)]]),
        Row("data movement and conversion: cvt, from 8 bits", "cvt.u32.u8 d, a", "r=r", &[&[0x180, 0x80]]),
        Row("data movement and conversion: cvt, from 8 bits", "cvt.u16.u8 d, a", "h=h", &[&[0x180, 0x80]]),
        Row("data movement and conversion: cvt.sat", "cvt.sat.u8.s32 d, a", "r=r", &[&[300, 255], &[s(-3), 0]]),
        Row("data movement and conversion: cvt.sat", "cvt.sat.s8.s32 d, a", "r=r", &[&[300, 127], &[s(-300), s(-128)]]),
        Row("data movement and conversion: cvt.sat", "cvt.sat.u16.s32 d, a", "h=r", &[&[70000, 0xffff], &[s(-1), 0]]),
        Row("data movement and conversion: cvt.sat", "cvt.sat.s16.s32 d, a", "h=r", &[&[70000, 0x7fff], &[s(-70000), 0x8000]]),
        Row("data movement and conversion: cvt.sat", "cvt.sat.u32.s32 d, a", "r=r", &[&[s(-1), 0], &[5, 5]]),
        Row("data movement and conversion: cvt.sat", "cvt.sat.s32.s64 d, a", "r=d", &[&[1 << 40, 0x7fff_ffff], &[l(-(1 << 40)), 0x8000_0000]]),
        Row("data movement and conversion: cvt.pack.sat", "cvt.pack.sat.s16.s32 d, a, b", "r=rr", &[&[70000, s(-5), 0x7fff_fffb]]),
        Row("data movement and conversion: cvt.pack.sat", "cvt.pack.sat.u8.s32.b32 d, a, b, c", "r=rrr", &[&[300, 7, 0x1122_3344, 0x3344_ff07]]),
    ];
    check(ROWS);
}

#[test]
#[rustfmt::skip]
fn float_to_integer() {
    const ROWS: &[Row] = &[
        Row("data movement and conversion: cvt, NaN", "cvt.rzi.s32.f64 d, a", "r=d", &[&[NAN64, 0x8000_0000], &[g(-2.5), s(-2)]]),
        Row("data movement and conversion: cvt, NaN", "cvt.rzi.u32.f64 d, a", "r=d", &[&[NAN64, 0x8000_0000]]),
        Row("data movement and conversion: cvt, NaN", "cvt.rzi.s64.f64 d, a", "d=d", &[&[NAN64, 1 << 63]]),
        Row("data movement and conversion: cvt, NaN", "cvt.rzi.u64.f32 d, a", "d=r", &[&[QNAN, 1 << 63]]),
        Row("data movement and conversion: cvt.rni", "cvt.rni.s32.f32 d, a", "r=r", &[&[f(2.5), 2], &[f(3.5), 4], &[f(-2.5), s(-2)], &[QNAN, 0], &[f(3e9), 0x7fff_ffff], &[NINF, 0x8000_0000]]),
        Row("data movement and conversion: cvt.rzi", "cvt.rzi.s32.f32 d, a", "r=r", &[&[f(2.9), 2], &[f(-2.9), s(-2)]]),
        Row("data movement and conversion: cvt.rmi", "cvt.rmi.s32.f32 d, a", "r=r", &[&[f(2.9), 2], &[f(-2.1), s(-3)]]),
        Row("data movement and conversion: cvt.rpi", "cvt.rpi.s32.f32 d, a", "r=r", &[&[f(2.1), 3], &[f(-2.9), s(-2)], &[1, 1]]),
        Row("data movement and conversion: cvt.rpi.ftz", "cvt.rpi.ftz.s32.f32 d, a", "r=r", &[&[1, 0]]),
        Row("data movement and conversion: cvt.rzi", "cvt.rzi.u32.f32 d, a", "r=r", &[&[f(-1.5), 0], &[f(5e9), ONES], &[f(3e9), 3_000_000_000]]),
        Row("data movement and conversion: cvt.rzi", "cvt.rzi.u16.f32 d, a", "h=r", &[&[f(70000.0), 0xffff]]),
        Row("data movement and conversion: cvt.rzi", "cvt.rzi.s16.f32 d, a", "h=r", &[&[f(-70000.0), 0x8000], &[f(-5.5), w(-5)]]),
        Row("data movement and conversion: cvt.rzi", "cvt.rzi.s64.f32 d, a", "d=r", &[&[f(-1e10), l(-10_000_000_000)], &[INF, i64::MAX as u64]]),
        Row("data movement and conversion: cvt.rzi", "cvt.rzi.u64.f32 d, a", "d=r", &[&[f(1.8e19), 0xf9cc_d900_0000_0000], &[f(-1.0), 0]]),
        Row("data movement and conversion: cvt.rni", "cvt.rni.s32.f64 d, a", "r=d", &[&[g(-2.5), s(-2)], &[g(1e10), 0x7fff_ffff]]),
        Row("data movement and conversion: cvt.rzi", "cvt.rzi.u32.f64 d, a", "r=d", &[&[g(4294967295.9), ONES]]),
        Row("data movement and conversion: cvt.rmi", "cvt.rmi.s64.f64 d, a", "d=d", &[&[g(-0.5), l(-1)]]),
        Row("data movement and conversion: cvt.rpi", "cvt.rpi.u64.f64 d, a", "d=d", &[&[g(0.5), 1], &[g(1e30), u64::MAX]]),
        Row("data movement and conversion: cvt.rzi", "cvt.rzi.s32.f16 d, a", "r=h", &[&[0xc500, s(-5)], &[0x7c00, 0x7fff_ffff]]),
        Row("data movement and conversion: cvt.rni", "cvt.rni.u16.f16 d, a", "h=h", &[&[0x4100, 2], &[0x4300, 4]]),
        Row("data movement and conversion: cvt.rni, same type", "cvt.rni.f32.f32 d, a", "r=r", &[&[f(2.5), f(2.0)], &[f(-0.25), NZERO], &[QNAN, NAN]]),
        Row("data movement and conversion: cvt.rzi, same type", "cvt.rzi.f32.f32 d, a", "r=r", &[&[f(-2.75), f(-2.0)]]),
        Row("data movement and conversion: cvt.rmi, same type", "cvt.rmi.f32.f32 d, a", "r=r", &[&[f(-2.25), f(-3.0)], &[NZERO, NZERO]]),
        Row("data movement and conversion: cvt.rpi, same type", "cvt.rpi.f32.f32 d, a", "r=r", &[&[f(2.25), f(3.0)], &[INF, INF]]),
        Row("data movement and conversion: cvt.rmi.ftz, same type", "cvt.rmi.ftz.f32.f32 d, a", "r=r", &[&[0x8000_0001, NZERO]]),
        Row("data movement and conversion: cvt.rmi, same type", "cvt.rmi.f64.f64 d, a", "d=d", &[&[g(-2.25), g(-3.0)]]),
        Row("data movement and conversion: cvt.rni, same type", "cvt.rni.f16.f16 d, a", "h=h", &[&[0x4100, 0x4000]]),
    ];
    check(ROWS);
}

#[test]
#[rustfmt::skip]
fn integer_to_float() {
    const ODD: u64 = (1 << 24) + 1;
    const ROWS: &[Row] = &[
        Row("data movement and conversion: cvt.rn", "cvt.rn.f32.s32 d, a", "r=r", &[&[s(-7), f(-7.0)], &[ODD, f(16_777_216.0)]]),
        Row("data movement and conversion: cvt.rz", "cvt.rz.f32.s32 d, a", "r=r", &[&[ODD + 2, f(16_777_218.0)]]),
        Row("data movement and conversion: cvt.rm", "cvt.rm.f32.s32 d, a", "r=r", &[&[s(-(ODD as i32)), f(-16_777_218.0)]]),
        Row("data movement and conversion: cvt.rp", "cvt.rp.f32.u32 d, a", "r=r", &[&[ODD, f(16_777_218.0)], &[ONES, f(4_294_967_296.0)]]),
        Row("data movement and conversion: cvt.rn", "cvt.rn.f32.u64 d, a", "r=d", &[&[u64::MAX, f(18_446_744_073_709_551_616.0)]]),
        Row("data movement and conversion: cvt.rz", "cvt.rz.f32.u64 d, a", "r=d", &[&[u64::MAX, 0x5f7f_ffff]]),
        Row("data movement and conversion: cvt.rn", "cvt.rn.f32.s64 d, a", "r=d", &[&[l(-3), f(-3.0)]]),
        Row("data movement and conversion: cvt.rn", "cvt.rn.f32.s16 d, a", "r=h", &[&[w(-3), f(-3.0)]]),
        Row("data movement and conversion: cvt.rn", "cvt.rn.f32.u8 d, a", "r=r", &[&[0x1ff, f(255.0)]]),
        Row("data movement and conversion: cvt.rn", "cvt.rn.f64.s32 d, a", "d=r", &[&[s(-7), g(-7.0)]]),
        Row("data movement and conversion: cvt.rn", "cvt.rn.f64.u32 d, a", "d=r", &[&[ONES, g(4_294_967_295.0)]]),
        Row("data movement and conversion: cvt.rn", "cvt.rn.f64.s64 d, a", "d=d", &[&[(1 << 53) + 1, g(9_007_199_254_740_992.0)]]),
        Row("data movement and conversion: cvt.rp", "cvt.rp.f64.u64 d, a", "d=d", &[&[(1 << 53) + 1, g(9_007_199_254_740_994.0)]]),
        Row("data movement and conversion: cvt.rz", "cvt.rz.f64.u64 d, a", "d=d", &[&[u64::MAX, 0x43ef_ffff_ffff_ffff]]),
        Row("data movement and conversion: cvt.rn", "cvt.rn.f16.s32 d, a", "h=r", &[&[2049, 0x6800], &[2051, 0x6802], &[100_000, 0x7c00]]),
        Row("data movement and conversion: cvt.rz", "cvt.rz.f16.u32 d, a", "h=r", &[&[100_000, 0x7bff]]),
        Row("data movement and conversion: cvt.rn", "cvt.rn.f16.s16 d, a", "h=h", &[&[w(-1), 0xbc00]]),
        Row("data movement and conversion: cvt.rn", "cvt.rn.bf16.s32 d, a", "h=r", &[&[257, 0x4380], &[259, 0x4382]]),
    ];
    check(ROWS);
}

#[test]
#[rustfmt::skip]
fn float_to_float() {
    const ROWS: &[Row] = &[
        Row("data movement and conversion: cvt", "cvt.f64.f32 d, a", "d=r", &[&[f(1.5), g(1.5)], &[INF, INF64], &[QNAN, NAN64], &[1, 0x36a0_0000_0000_0000]]),
        Row("data movement and conversion: cvt.ftz", "cvt.ftz.f64.f32 d, a", "d=r", &[&[1, 0]]),
        Row("data movement and conversion: cvt.rn", "cvt.rn.f32.f64 d, a", "r=d", &[&[g(0.1), 0x3dcc_cccd], &[g(1e300), INF], &[NAN64, NAN]]),
        Row("data movement and conversion: cvt.rz", "cvt.rz.f32.f64 d, a", "r=d", &[&[g(0.1), 0x3dcc_cccc], &[g(1e300), 0x7f7f_ffff]]),
        Row("data movement and conversion: cvt.rm", "cvt.rm.f32.f64 d, a", "r=d", &[&[g(-0.1), 0xbdcc_cccd]]),
        Row("data movement and conversion: cvt.rp", "cvt.rp.f32.f64 d, a", "r=d", &[&[g(-0.1), 0xbdcc_cccc], &[g(1e-300), 1]]),
        Row("data movement and conversion: cvt.rn.ftz", "cvt.rn.ftz.f32.f64 d, a", "r=d", &[&[g(1e-40), 0]]),
        Row("data movement and conversion: cvt.sat", "cvt.rn.sat.f32.f64 d, a", "r=d", &[&[g(2.0), f(1.0)], &[g(-2.0), 0], &[NAN64, 0]]),
        Row("data movement and conversion: cvt.sat, same type", "cvt.sat.f32.f32 d, a", "r=r", &[&[f(2.0), f(1.0)], &[f(-2.0), 0], &[QNAN, 0], &[f(0.5), f(0.5)]]),
        Row("data movement and conversion: cvt", "cvt.f32.f16 d, a", "r=h", &[&[0x3c00, f(1.0)], &[1, 0x3380_0000], &[0xfc00, NINF], &[0x7e00, NAN]]),
        Row("data movement and conversion: cvt", "cvt.f64.f16 d, a", "d=h", &[&[0xc000, g(-2.0)]]),
        Row("data movement and conversion: cvt.rn", "cvt.rn.f16.f32 d, a", "h=r", &[&[f(1.0), 0x3c00], &[f(65519.0), 0x7bff], &[f(65520.0), 0x7c00], &[QNAN, 0x7fff], &[f(5.9604645e-8), 1], &[f(2.9802322e-8), 0], &[f(2.980_232_6e-8), 1]]),
        Row("data movement and conversion: cvt.rz", "cvt.rz.f16.f32 d, a", "h=r", &[&[f(1e9), 0x7bff], &[f(-5e-8), 0x8000]]),
        Row("data movement and conversion: cvt.rm", "cvt.rm.f16.f32 d, a", "h=r", &[&[f(-5e-8), 0x8001]]),
        Row("data movement and conversion: cvt.rp", "cvt.rp.f16.f32 d, a", "h=r", &[&[f(1e-20), 1]]),
        Row("data movement and conversion: cvt.relu", "cvt.rn.relu.f16.f32 d, a", "h=r", &[&[f(-1.0), 0], &[f(1.0), 0x3c00], &[QNAN, 0x7fff]]),
        Row("data movement and conversion: cvt.satfinite", "cvt.rn.satfinite.f16.f32 d, a", "h=r", &[&[f(1e9), 0x7bff], &[NINF, 0xfbff]]),
        // 1 + 2^-11 + 2^-40 is past the midpoint of two f16; through f32 it would tie to even and be lost.
        Row("data movement and conversion: cvt.rn", "cvt.rn.f16.f64 d, a", "h=d", &[&[0x3ff0_0200_0000_1000, 0x3c01], &[0x3ff0_0200_0000_0000, 0x3c00]]),
        Row("data movement and conversion: cvt", "cvt.f32.bf16 d, a", "r=h", &[&[0x3fc0, f(1.5)]]),
        Row("data movement and conversion: cvt.rn", "cvt.rn.bf16.f32 d, a", "h=r", &[&[0x3f80_8000, 0x3f80], &[0x3f81_8000, 0x3f82], &[0x3f80_8001, 0x3f81], &[0x7f7f_ffff, 0x7f80]]),
        Row("data movement and conversion: cvt.rz", "cvt.rz.bf16.f32 d, a", "h=r", &[&[0x3f80_ffff, 0x3f80]]),
        Row("data movement and conversion: cvt.relu", "cvt.rn.relu.bf16.f32 d, a", "h=r", &[&[f(-1.0), 0]]),
        Row("data movement and conversion: cvt, packed", "cvt.rn.f16x2.f32 d, a, b", "r=rr", &[&[f(1.0), f(-2.0), 0x3c00_c000]]),
        Row("data movement and conversion: cvt, packed", "cvt.rz.f16x2.f32 d, a, b", "r=rr", &[&[f(1e9), f(-1e9), 0x7bff_fbff]]),
        Row("data movement and conversion: cvt, packed relu", "cvt.rn.relu.f16x2.f32 d, a, b", "r=rr", &[&[f(-1.0), f(2.0), 0x0000_4000]]),
        Row("data movement and conversion: cvt, packed", "cvt.rn.bf16x2.f32 d, a, b", "r=rr", &[&[f(1.0), f(-2.0), 0x3f80_c000]]),
        Row("data movement and conversion: cvt, packed relu", "cvt.rn.relu.bf16x2.f32 d, a, b", "r=rr", &[&[f(-1.0), f(2.0), 0x0000_4000]]),
        Row("data movement and conversion: cvt.rna.tf32", "cvt.rna.tf32.f32 d, a", "r=r", &[&[0x3f80_1000, 0x3f80_2000], &[0x3f80_0fff, 0x3f80_0000], &[0xbf80_1000, 0xbf80_2000]]),
        Row("data movement and conversion: cvt.rn.tf32", "cvt.rn.tf32.f32 d, a", "r=r", &[&[0x3f80_1000, 0x3f80_0000], &[0x3f80_3000, 0x3f80_4000]]),
        Row("data movement and conversion: cvt, fp8", "cvt.rn.satfinite.e4m3x2.f32 d, a, b", "h=rr", &[&[f(1.0), f(-2.0), 0x38c0], &[f(1000.0), QNAN, 0x7e7f], &[f(0.001953125), f(0.0009765625), 0x0100]]),
        Row("data movement and conversion: cvt, fp8 relu", "cvt.rn.satfinite.relu.e4m3x2.f32 d, a, b", "h=rr", &[&[f(-1.0), f(1.0), 0x0038]]),
        Row("data movement and conversion: cvt, fp8", "cvt.rn.satfinite.e5m2x2.f32 d, a, b", "h=rr", &[&[f(1.0), f(-2.0), 0x3cc0], &[f(1e9), f(1.125), 0x7b3c]]),
        Row("data movement and conversion: cvt, fp8 from halves", "cvt.rn.satfinite.e4m3x2.f16x2 d, a", "h=r", &[&[0x3c00_c000, 0x38c0]]),
        Row("data movement and conversion: cvt, fp8 to halves", "cvt.rn.f16x2.e4m3x2 d, a", "r=h", &[&[0x38c0, 0x3c00_c000], &[0x7f01, 0x7fff_1800]]),
        Row("data movement and conversion: cvt, fp8 to halves", "cvt.rn.f16x2.e5m2x2 d, a", "r=h", &[&[0x3cc0, 0x3c00_c000], &[0x7cfc, 0x7c00_fc00]]),
    ];
    check(ROWS);
}
