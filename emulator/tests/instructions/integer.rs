//! Integer arithmetic and extended precision.

use crate::harness::{Row, check, l, s, w};

const MIN: u64 = 0x8000_0000;
const MIN64: u64 = 1 << 63;
const ONES: u64 = 0xffff_ffff;
const ONES64: u64 = u64::MAX;

#[test]
#[rustfmt::skip]
fn integer_arithmetic() {
    const ROWS: &[Row] = &[
        // ---- add
        Row("integer arithmetic: add", "add.u16 d, a, b", "h=hh", &[&[0xffff, 1, 0], &[7, 8, 15]]),
        Row("integer arithmetic: add", "add.s16 d, a, b", "h=hh", &[&[0x7fff, 1, 0x8000], &[w(-3), 1, w(-2)]]),
        Row("integer arithmetic: add", "add.u32 d, a, b", "r=rr", &[&[ONES, 2, 1], &[40, 2, 42]]),
        Row("integer arithmetic: add", "add.s32 d, a, b", "r=rr", &[&[0x7fff_ffff, 1, MIN], &[s(-5), 3, s(-2)]]),
        Row("integer arithmetic: add", "add.u64 d, a, b", "d=dd", &[&[ONES64, 1, 0], &[ONES, 1, 1 << 32]]),
        Row("integer arithmetic: add", "add.s64 d, a, b", "d=dd", &[&[l(-5), 3, l(-2)], &[i64::MAX as u64, 1, MIN64]]),
        Row("integer arithmetic: add.sat", "add.sat.s32 d, a, b", "r=rr", &[&[0x7fff_ffff, 1, 0x7fff_ffff], &[MIN, s(-1), MIN], &[3, 4, 7]]),
        Row("integer arithmetic: add", "add.u16x2 d, a, b", "r=rr", &[&[0x0001_ffff, 0x0001_0001, 0x0002_0000]]),
        Row("integer arithmetic: add", "add.s16x2 d, a, b", "r=rr", &[&[0x7fff_ffff, 0x0001_ffff, 0x8000_fffe]]),
        Row("integer arithmetic: add, immediate", "add.s32 d, a, -7", "r=r", &[&[3, s(-4)]]),
        Row("integer arithmetic: add, hexadecimal immediate", "add.u32 d, a, 0xFFFFFFFF", "r=r", &[&[3, 2]]),
        // ---- sub
        Row("integer arithmetic: sub", "sub.u16 d, a, b", "h=hh", &[&[0, 1, 0xffff]]),
        Row("integer arithmetic: sub", "sub.s16 d, a, b", "h=hh", &[&[0x8000, 1, 0x7fff]]),
        Row("integer arithmetic: sub", "sub.u32 d, a, b", "r=rr", &[&[1, 2, ONES]]),
        Row("integer arithmetic: sub", "sub.s32 d, a, b", "r=rr", &[&[MIN, 1, 0x7fff_ffff], &[4, 9, s(-5)]]),
        Row("integer arithmetic: sub", "sub.u64 d, a, b", "d=dd", &[&[0, 1, ONES64], &[1 << 32, 1, ONES]]),
        Row("integer arithmetic: sub", "sub.s64 d, a, b", "d=dd", &[&[4, 9, l(-5)]]),
        Row("integer arithmetic: sub.sat", "sub.sat.s32 d, a, b", "r=rr", &[&[MIN, 1, MIN], &[0x7fff_ffff, s(-1), 0x7fff_ffff]]),
        // ---- mul
        Row("integer arithmetic: mul.lo", "mul.lo.u16 d, a, b", "h=hh", &[&[0x0101, 0x0100, 0x0100]]),
        Row("integer arithmetic: mul.lo", "mul.lo.s16 d, a, b", "h=hh", &[&[w(-3), 5, w(-15)]]),
        Row("integer arithmetic: mul.lo", "mul.lo.u32 d, a, b", "r=rr", &[&[0x0001_0001, 0x0001_0000, 0x0001_0000]]),
        Row("integer arithmetic: mul.lo", "mul.lo.s32 d, a, b", "r=rr", &[&[s(-3), 5, s(-15)], &[MIN, s(-1), MIN]]),
        Row("integer arithmetic: mul.lo", "mul.lo.u64 d, a, b", "d=dd", &[&[1 << 33, 1 << 33, 0], &[3, 5, 15]]),
        Row("integer arithmetic: mul.lo", "mul.lo.s64 d, a, b", "d=dd", &[&[l(-3), 5, l(-15)]]),
        Row("integer arithmetic: mul.hi", "mul.hi.u16 d, a, b", "h=hh", &[&[0xffff, 0xffff, 0xfffe]]),
        Row("integer arithmetic: mul.hi", "mul.hi.s16 d, a, b", "h=hh", &[&[w(-1), 1, w(-1)], &[0x8000, 0x8000, 0x4000]]),
        Row("integer arithmetic: mul.hi", "mul.hi.u32 d, a, b", "r=rr", &[&[ONES, ONES, 0xffff_fffe], &[0x8000_0000, 2, 1]]),
        Row("integer arithmetic: mul.hi", "mul.hi.s32 d, a, b", "r=rr", &[&[s(-1), 1, s(-1)], &[MIN, MIN, 0x4000_0000]]),
        Row("integer arithmetic: mul.hi", "mul.hi.u64 d, a, b", "d=dd", &[&[ONES64, ONES64, ONES64 - 1], &[MIN64, 2, 1]]),
        Row("integer arithmetic: mul.hi", "mul.hi.s64 d, a, b", "d=dd", &[&[l(-1), 1, l(-1)], &[MIN64, MIN64, 1 << 62]]),
        Row("integer arithmetic: mul.wide", "mul.wide.u16 d, a, b", "r=hh", &[&[0xffff, 0xffff, 0xfffe_0001]]),
        Row("integer arithmetic: mul.wide", "mul.wide.s16 d, a, b", "r=hh", &[&[0x8000, 0x7fff, 0xc000_8000]]),
        Row("integer arithmetic: mul.wide", "mul.wide.u32 d, a, b", "d=rr", &[&[ONES, ONES, 0xffff_fffe_0000_0001]]),
        Row("integer arithmetic: mul.wide", "mul.wide.s32 d, a, b", "d=rr", &[&[s(-1), 5, l(-5)], &[MIN, MIN, 1 << 62]]),
        // ---- mad
        Row("integer arithmetic: mad.lo", "mad.lo.u16 d, a, b, c", "h=hhh", &[&[300, 300, 1, 90001 & 0xffff]]),
        Row("integer arithmetic: mad.lo", "mad.lo.s16 d, a, b, c", "h=hhh", &[&[w(-3), 5, 1, w(-14)]]),
        Row("integer arithmetic: mad.lo", "mad.lo.u32 d, a, b, c", "r=rrr", &[&[ONES, ONES, 4, 5]]),
        Row("integer arithmetic: mad.lo", "mad.lo.s32 d, a, b, c", "r=rrr", &[&[s(-4), 3, 2, s(-10)]]),
        Row("integer arithmetic: mad.lo", "mad.lo.u64 d, a, b, c", "d=ddd", &[&[1 << 32, 1 << 31, 7, MIN64 + 7]]),
        Row("integer arithmetic: mad.lo", "mad.lo.s64 d, a, b, c", "d=ddd", &[&[l(-4), 3, 2, l(-10)]]),
        Row("integer arithmetic: mad.hi", "mad.hi.u32 d, a, b, c", "r=rrr", &[&[ONES, ONES, 2, 0]]),
        Row("integer arithmetic: mad.hi", "mad.hi.s32 d, a, b, c", "r=rrr", &[&[s(-1), 1, 5, 4]]),
        Row("integer arithmetic: mad.hi.sat", "mad.hi.sat.s32 d, a, b, c", "r=rrr", &[&[MIN, MIN, 0x7000_0000, 0x7fff_ffff], &[MIN, 0x7fff_ffff, MIN, MIN]]),
        Row("integer arithmetic: mad.hi", "mad.hi.u64 d, a, b, c", "d=ddd", &[&[ONES64, ONES64, 2, 0]]),
        Row("integer arithmetic: mad.hi", "mad.hi.s64 d, a, b, c", "d=ddd", &[&[l(-1), 1, 5, 4]]),
        Row("integer arithmetic: mad.wide", "mad.wide.u16 d, a, b, c", "r=hhr", &[&[0xffff, 0xffff, 0x0001_ffff, 0]]),
        Row("integer arithmetic: mad.wide", "mad.wide.s16 d, a, b, c", "r=hhr", &[&[w(-2), 3, 1, s(-5)]]),
        Row("integer arithmetic: mad.wide", "mad.wide.u32 d, a, b, c", "d=rrd", &[&[ONES, 2, 2, 1 << 33]]),
        Row("integer arithmetic: mad.wide", "mad.wide.s32 d, a, b, c", "d=rrd", &[&[s(-2), 3, 1, l(-5)]]),
        // ---- mul24, mad24
        Row("integer arithmetic: mul24.lo", "mul24.lo.u32 d, a, b", "r=rr", &[&[0xff00_0002, 3, 6], &[0xff_ffff, 0xff_ffff, 0xfe00_0001]]),
        Row("integer arithmetic: mul24.lo", "mul24.lo.s32 d, a, b", "r=rr", &[&[0x00ff_ffff, 3, s(-3)]]),
        Row("integer arithmetic: mul24.hi", "mul24.hi.u32 d, a, b", "r=rr", &[&[0xff_ffff, 0xff_ffff, 0xffff_fe00]]),
        Row("integer arithmetic: mul24.hi", "mul24.hi.s32 d, a, b", "r=rr", &[&[0x0080_0000, 2, s(-256)]]),
        Row("integer arithmetic: mad24.lo", "mad24.lo.u32 d, a, b, c", "r=rrr", &[&[0xff00_0002, 3, 5, 11]]),
        Row("integer arithmetic: mad24.lo", "mad24.lo.s32 d, a, b, c", "r=rrr", &[&[0x00ff_ffff, 3, 5, 2]]),
        Row("integer arithmetic: mad24.hi", "mad24.hi.u32 d, a, b, c", "r=rrr", &[&[0x80_0000, 2, 1, 257]]),
        Row("integer arithmetic: mad24.hi.sat", "mad24.hi.sat.s32 d, a, b, c", "r=rrr", &[&[0x7f_ffff, 0x7f_ffff, 0x7fff_ffff, 0x7fff_ffff]]),
        // ---- sad
        Row("integer arithmetic: sad", "sad.u16 d, a, b, c", "h=hhh", &[&[3, 9, 1, 7]]),
        Row("integer arithmetic: sad", "sad.s16 d, a, b, c", "h=hhh", &[&[w(-3), 4, 1, 8]]),
        Row("integer arithmetic: sad", "sad.u32 d, a, b, c", "r=rrr", &[&[0, ONES, 1, 0], &[9, 3, 1, 7]]),
        Row("integer arithmetic: sad", "sad.s32 d, a, b, c", "r=rrr", &[&[s(-3), 4, 1, 8]]),
        Row("integer arithmetic: sad", "sad.u64 d, a, b, c", "d=ddd", &[&[3, 9, 1, 7]]),
        Row("integer arithmetic: sad", "sad.s64 d, a, b, c", "d=ddd", &[&[l(-3), 4, 1, 8]]),
        // ---- div, rem
        Row("integer arithmetic: div", "div.u16 d, a, b", "h=hh", &[&[0xffff, 2, 0x7fff], &[5, 0, 0xffff]]),
        Row("integer arithmetic: div", "div.s16 d, a, b", "h=hh", &[&[w(-7), 2, w(-3)], &[0x8000, w(-1), 0x8000]]),
        Row("integer arithmetic: div", "div.u32 d, a, b", "r=rr", &[&[ONES, 16, 0x0fff_ffff], &[5, 0, ONES]]),
        Row("integer arithmetic: div", "div.s32 d, a, b", "r=rr", &[&[s(-7), 2, s(-3)], &[7, s(-2), s(-3)], &[MIN, s(-1), MIN], &[5, 0, ONES]]),
        Row("integer arithmetic: div", "div.u64 d, a, b", "d=dd", &[&[ONES64, 1 << 32, ONES], &[5, 0, ONES64]]),
        Row("integer arithmetic: div", "div.s64 d, a, b", "d=dd", &[&[l(-7), 2, l(-3)], &[MIN64, l(-1), MIN64]]),
        Row("integer arithmetic: rem", "rem.u16 d, a, b", "h=hh", &[&[0xffff, 10, 5]]),
        Row("integer arithmetic: rem", "rem.s16 d, a, b", "h=hh", &[&[w(-7), 2, w(-1)]]),
        Row("integer arithmetic: rem", "rem.u32 d, a, b", "r=rr", &[&[ONES, 10, 5]]),
        Row("integer arithmetic: rem", "rem.s32 d, a, b", "r=rr", &[&[s(-7), 3, s(-1)], &[7, s(-3), 1], &[MIN, s(-1), 0]]),
        Row("integer arithmetic: rem", "rem.u64 d, a, b", "d=dd", &[&[ONES64, 10, 5]]),
        Row("integer arithmetic: rem", "rem.s64 d, a, b", "d=dd", &[&[l(-7), 3, l(-1)], &[MIN64, l(-1), 0]]),
        // ---- abs, neg
        Row("integer arithmetic: abs", "abs.s16 d, a", "h=h", &[&[w(-7), 7], &[0x8000, 0x8000]]),
        Row("integer arithmetic: abs", "abs.s32 d, a", "r=r", &[&[s(-7), 7], &[MIN, MIN], &[7, 7]]),
        Row("integer arithmetic: abs", "abs.s64 d, a", "d=d", &[&[l(-7), 7], &[MIN64, MIN64]]),
        Row("integer arithmetic: neg", "neg.s16 d, a", "h=h", &[&[7, w(-7)], &[0x8000, 0x8000]]),
        Row("integer arithmetic: neg", "neg.s32 d, a", "r=r", &[&[7, s(-7)], &[MIN, MIN]]),
        Row("integer arithmetic: neg", "neg.s64 d, a", "d=d", &[&[7, l(-7)], &[MIN64, MIN64]]),
        // ---- min, max
        Row("integer arithmetic: min", "min.u16 d, a, b", "h=hh", &[&[0x8000, 1, 1]]),
        Row("integer arithmetic: min", "min.s16 d, a, b", "h=hh", &[&[0x8000, 1, 0x8000]]),
        Row("integer arithmetic: min", "min.u32 d, a, b", "r=rr", &[&[MIN, 1, 1]]),
        Row("integer arithmetic: min", "min.s32 d, a, b", "r=rr", &[&[MIN, 1, MIN], &[3, 2, 2]]),
        Row("integer arithmetic: min", "min.u64 d, a, b", "d=dd", &[&[MIN64, 1, 1]]),
        Row("integer arithmetic: min", "min.s64 d, a, b", "d=dd", &[&[MIN64, 1, MIN64]]),
        Row("integer arithmetic: min.relu", "min.relu.s32 d, a, b", "r=rr", &[&[s(-3), 5, 0], &[3, 5, 3]]),
        Row("integer arithmetic: min", "min.u16x2 d, a, b", "r=rr", &[&[0x8000_0001, 0x0001_ffff, 0x0001_0001]]),
        Row("integer arithmetic: min", "min.s16x2 d, a, b", "r=rr", &[&[0x8000_0001, 0x0001_ffff, 0x8000_ffff]]),
        Row("integer arithmetic: min.relu", "min.relu.s16x2 d, a, b", "r=rr", &[&[0x8000_0005, 0x0001_0003, 0x0000_0003]]),
        Row("integer arithmetic: max", "max.u16 d, a, b", "h=hh", &[&[0x8000, 1, 0x8000]]),
        Row("integer arithmetic: max", "max.s16 d, a, b", "h=hh", &[&[0x8000, 1, 1]]),
        Row("integer arithmetic: max", "max.u32 d, a, b", "r=rr", &[&[MIN, 1, MIN]]),
        Row("integer arithmetic: max", "max.s32 d, a, b", "r=rr", &[&[MIN, 1, 1]]),
        Row("integer arithmetic: max", "max.u64 d, a, b", "d=dd", &[&[MIN64, 1, MIN64]]),
        Row("integer arithmetic: max", "max.s64 d, a, b", "d=dd", &[&[MIN64, 1, 1]]),
        Row("integer arithmetic: max.relu", "max.relu.s32 d, a, b", "r=rr", &[&[s(-3), s(-5), 0], &[3, 5, 5]]),
        Row("integer arithmetic: max", "max.u16x2 d, a, b", "r=rr", &[&[0x8000_0001, 0x0001_ffff, 0x8000_ffff]]),
        Row("integer arithmetic: max", "max.s16x2 d, a, b", "r=rr", &[&[0x8000_0001, 0x0001_ffff, 0x0001_0001]]),
        Row("integer arithmetic: max.relu", "max.relu.s16x2 d, a, b", "r=rr", &[&[0x8000_0005, 0xffff_0003, 0x0000_0005]]),
        // ---- popc, clz
        Row("integer arithmetic: popc", "popc.b32 d, a", "r=r", &[&[0xf0f0_0001, 9], &[0, 0], &[ONES, 32]]),
        Row("integer arithmetic: popc", "popc.b64 d, a", "r=d", &[&[ONES64, 64], &[MIN64 | 1, 2]]),
        Row("integer arithmetic: clz", "clz.b32 d, a", "r=r", &[&[1, 31], &[0, 32], &[MIN, 0]]),
        Row("integer arithmetic: clz", "clz.b64 d, a", "r=d", &[&[1, 63], &[0, 64], &[1 << 40, 23]]),
        // ---- bfind
        Row("integer arithmetic: bfind", "bfind.u32 d, a", "r=r", &[&[0x8000, 15], &[0, ONES], &[MIN, 31]]),
        Row("integer arithmetic: bfind", "bfind.s32 d, a", "r=r", &[&[s(-1), ONES], &[s(-9), 3], &[8, 3], &[0, ONES]]),
        Row("integer arithmetic: bfind", "bfind.u64 d, a", "r=d", &[&[1 << 40, 40], &[0, ONES]]),
        Row("integer arithmetic: bfind", "bfind.s64 d, a", "r=d", &[&[l(-1), ONES], &[l(-9), 3]]),
        Row("integer arithmetic: bfind.shiftamt", "bfind.shiftamt.u32 d, a", "r=r", &[&[1, 31], &[0, ONES]]),
        Row("integer arithmetic: bfind.shiftamt", "bfind.shiftamt.s32 d, a", "r=r", &[&[s(-9), 28]]),
        Row("integer arithmetic: bfind.shiftamt", "bfind.shiftamt.u64 d, a", "r=d", &[&[1, 63]]),
        // ---- fns, brev
        Row("integer arithmetic: fns", "fns.b32 d, a, b, c", "r=rrr", &[&[0xaaaa_aaaa, 3, 1, 3], &[0xaaaa_aaaa, 3, s(-1), 3], &[0xaaaa_aaaa, 2, 1, 3], &[0xaaaa_aaaa, 2, s(-1), 1], &[0xaaaa_aaaa, 3, 0, 3], &[0xaaaa_aaaa, 2, 0, ONES], &[1, 31, 1, ONES]]),
        Row("integer arithmetic: brev", "brev.b32 d, a", "r=r", &[&[1, MIN], &[0x1234_5678, 0x1e6a_2c48]]),
        Row("integer arithmetic: brev", "brev.b64 d, a", "d=d", &[&[1, MIN64], &[0xf, 0xf << 60]]),
        // ---- bfe, bfi
        Row("integer arithmetic: bfe", "bfe.u32 d, a, b, c", "r=rrr", &[&[0x1234_5678, 8, 8, 0x56], &[MIN, 31, 8, 1], &[ONES, 32, 4, 0], &[ONES, 4, 0, 0], &[ONES, 0x104, 4, 0xf]]),
        Row("integer arithmetic: bfe", "bfe.s32 d, a, b, c", "r=rrr", &[&[0x8000, 12, 4, s(-8)], &[0x7000, 12, 4, 7], &[MIN, 31, 8, s(-1)], &[MIN, 40, 4, s(-1)], &[MIN, 8, 0, 0]]),
        Row("integer arithmetic: bfe", "bfe.u64 d, a, b, c", "d=drr", &[&[0xabc0_0000_0000, 36, 12, 0xabc], &[ONES64, 60, 30, 15]]),
        Row("integer arithmetic: bfe", "bfe.s64 d, a, b, c", "d=drr", &[&[0x800, 4, 8, l(-128)], &[MIN64, 63, 1, l(-1)]]),
        Row("integer arithmetic: bfi", "bfi.b32 d, a, b, c, e", "r=rrrr", &[&[0xa, ONES, 4, 4, 0xffff_ffaf], &[0xf, 0, 28, 8, 0xf000_0000], &[0xa, 7, 32, 4, 7], &[0xa, 7, 4, 0, 7]]),
        Row("integer arithmetic: bfi", "bfi.b64 d, a, b, c, e", "d=ddrr", &[&[0xabc, 0, 40, 12, 0xabc << 40], &[ONES64, 0, 0, 64, ONES64]]),
        // ---- szext, bmsk
        Row("integer arithmetic: szext.clamp", "szext.clamp.s32 d, a, b", "r=rr", &[&[0xff, 8, s(-1)], &[0x7f, 8, 0x7f], &[0xff, 0, 0], &[0x8765_4321, 50, 0x8765_4321]]),
        Row("integer arithmetic: szext.clamp", "szext.clamp.u32 d, a, b", "r=rr", &[&[0xabcd, 8, 0xcd]]),
        Row("integer arithmetic: szext.wrap", "szext.wrap.u32 d, a, b", "r=rr", &[&[0xabcd, 40, 0xcd]]),
        Row("integer arithmetic: szext.wrap", "szext.wrap.s32 d, a, b", "r=rr", &[&[0xabcd, 40, s(-0x33)]]),
        Row("integer arithmetic: bmsk.clamp", "bmsk.clamp.b32 d, a, b", "r=rr", &[&[4, 4, 0xf0], &[0, 32, ONES], &[30, 8, 0xc000_0000], &[32, 1, 0]]),
        Row("integer arithmetic: bmsk.wrap", "bmsk.wrap.b32 d, a, b", "r=rr", &[&[36, 36, 0xf0], &[0, 32, 0]]),
        // ---- dp4a, dp2a
        Row("integer arithmetic: dp4a", "dp4a.u32.u32 d, a, b, c", "r=rrr", &[&[0x0102_0304, 0x0101_0101, 5, 15], &[ONES, ONES, 0, 4 * 255 * 255]]),
        Row("integer arithmetic: dp4a", "dp4a.s32.s32 d, a, b, c", "r=rrr", &[&[ONES, 0x0102_0304, 0, s(-10)]]),
        Row("integer arithmetic: dp4a", "dp4a.s32.u32 d, a, b, c", "r=rrr", &[&[ONES, 0xff00_0000, 0, s(-255)]]),
        Row("integer arithmetic: dp4a", "dp4a.u32.s32 d, a, b, c", "r=rrr", &[&[0xff00_0000, ONES, 0, s(-255)]]),
        Row("integer arithmetic: dp2a.lo", "dp2a.lo.u32.u32 d, a, b, c", "r=rrr", &[&[0x0003_0002, 0x0000_0504, 1, 24]]),
        Row("integer arithmetic: dp2a.hi", "dp2a.hi.u32.u32 d, a, b, c", "r=rrr", &[&[0x0003_0002, 0x0504_0000, 1, 24]]),
        Row("integer arithmetic: dp2a.lo", "dp2a.lo.s32.u32 d, a, b, c", "r=rrr", &[&[0xffff_0002, 0x0000_0503, 0, 1]]),
        Row("integer arithmetic: dp2a.hi", "dp2a.hi.s32.s32 d, a, b, c", "r=rrr", &[&[0xffff_0002, 0xff03_0000, 0, 7]]),
    ];
    check(ROWS);
}

#[test]
#[rustfmt::skip]
fn extended_precision() {
    const ROWS: &[Row] = &[
        Row("extended-precision integer arithmetic: add.cc, addc", "add.cc.u32 d, a, b; addc.u32 q, c, e", "rr=rrrr", &[&[ONES, 1, 2, 3, 0, 6], &[1, 1, 2, 3, 2, 5]]),
        Row("extended-precision integer arithmetic: addc.cc", "add.cc.s32 d, a, b; addc.cc.s32 q, c, e; addc.s32 s, 0, 0", "rrr=rrrr", &[&[ONES, 1, ONES, 0, 0, 0, 1], &[1, 1, ONES, 0, 2, ONES, 0]]),
        Row("extended-precision integer arithmetic: add.cc, 64 bits", "add.cc.u64 d, a, b; addc.u64 q, c, e", "dd=dddd", &[&[ONES64, 2, 2, 3, 1, 6]]),
        Row("extended-precision integer arithmetic: sub.cc, subc", "sub.cc.u32 d, a, b; subc.u32 q, c, e", "rr=rrrr", &[&[0, 1, 5, 3, ONES, 1], &[1, 1, 5, 3, 0, 2]]),
        // The carry is set if nothing was borrowed.
        Row("extended-precision integer arithmetic: sub.cc, addc", "sub.cc.u32 d, a, b; addc.u32 q, c, 0", "rr=rrr", &[&[0, 1, 5, ONES, 5], &[1, 1, 5, 0, 6]]),
        Row("video: vadd", "vadd.s32.u32.u32 d, a.b0, b.b3", "r=rr", &[&[0x11ff, 0x0300_0000, 0x102]]),
        Row("video: vsub.sat", "vsub.u32.u32.u32.sat d, a.h0, b.h0", "r=rr", &[&[1, 2, 0], &[9, 2, 7]]),
        Row("video: vabsdiff.add", "vabsdiff.s32.s32.s32.add d, a.b1, b.b1, c", "r=rrr", &[&[0x8000, 0x7f00, 10, 265]]),
        Row("video: vmin, merge", "vmin.s32.s32.s32 d.b2, a, b, c", "r=rrr", &[&[5, s(-1), 0x1122_3344, 0x11ff_3344]]),
        Row("video: vshr.clamp", "vshr.s32.s32.u32.clamp d, a, b", "r=rr", &[&[s(-8), 1, s(-4)], &[s(-8), 40, ONES]]),
        Row("video: vmad.shr7", "vmad.s32.s32.s32.shr7 d, a.h1, b.h1, c", "r=rrr", &[&[0xffff_0000, 0x0100_0000, 0, s(-2)]]),
        Row("video: vavrg4", "vavrg4.u32.u32.u32 d, a, b, c", "r=rrr", &[&[0x0003_00ff, 0x0002_01fd, 0, 0x0003_01fe]]),
        Row("video: vsub2.sat", "vsub2.s32.s32.s32.sat d, a, b, c", "r=rrr", &[&[0x8000_0005, 0x0001_0007, 0, 0x8000_fffe]]),
        Row("video: vabsdiff4.add", "vabsdiff4.u32.u32.u32.add d, a, b, c", "r=rrr", &[&[0x0102_0304, 0x0403_0201, 100, 108]]),
        Row("extended-precision integer arithmetic: subc.cc", "sub.cc.u32 d, a, b; subc.cc.u32 q, c, e; subc.u32 s, 0, 0", "rrr=rrrr", &[&[0, 1, 0, 0, ONES, ONES, ONES]]),
        Row("extended-precision integer arithmetic: sub.cc, 64 bits", "sub.cc.s64 d, a, b; subc.s64 q, c, e", "dd=dddd", &[&[0, 1, 5, 3, ONES64, 1]]),
        Row("extended-precision integer arithmetic: mad.lo.cc, madc.hi", "mad.lo.cc.u32 d, a, b, c; madc.hi.u32 q, a, b, e", "rr=rrrr", &[&[ONES, ONES, ONES, 0, 0, ONES]]),
        Row("extended-precision integer arithmetic: madc.lo", "add.cc.u32 d, a, a; madc.lo.s32 q, b, c, e", "rr=rrrr", &[&[MIN, 3, 5, 1, 0, 17], &[1, 3, 5, 1, 2, 16]]),
        Row("extended-precision integer arithmetic: mad.hi.cc", "mad.hi.cc.u32 d, a, b, c; addc.u32 q, 0, 0", "rr=rrr", &[&[ONES, ONES, 2, 0, 1]]),
    ];
    check(ROWS);
}
