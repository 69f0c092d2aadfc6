//! 9.7.1 Integer arithmetic and 9.7.2 extended precision.

use crate::harness::{Row, check, l, s, w};

const MIN: u64 = 0x8000_0000;
const MIN64: u64 = 1 << 63;
const ONES: u64 = 0xffff_ffff;
const ONES64: u64 = u64::MAX;

#[test]
#[rustfmt::skip]
fn integer_arithmetic() {
    const ROWS: &[Row] = &[
        // ---- 9.7.1.1 add
        Row("9.7.1.1 add", "add.u16 d, a, b", "h=hh", &[&[0xffff, 1, 0], &[7, 8, 15]]),
        Row("9.7.1.1 add", "add.s16 d, a, b", "h=hh", &[&[0x7fff, 1, 0x8000], &[w(-3), 1, w(-2)]]),
        Row("9.7.1.1 add", "add.u32 d, a, b", "r=rr", &[&[ONES, 2, 1], &[40, 2, 42]]),
        Row("9.7.1.1 add", "add.s32 d, a, b", "r=rr", &[&[0x7fff_ffff, 1, MIN], &[s(-5), 3, s(-2)]]),
        Row("9.7.1.1 add", "add.u64 d, a, b", "d=dd", &[&[ONES64, 1, 0], &[ONES, 1, 1 << 32]]),
        Row("9.7.1.1 add", "add.s64 d, a, b", "d=dd", &[&[l(-5), 3, l(-2)], &[i64::MAX as u64, 1, MIN64]]),
        Row("9.7.1.1 add.sat", "add.sat.s32 d, a, b", "r=rr", &[&[0x7fff_ffff, 1, 0x7fff_ffff], &[MIN, s(-1), MIN], &[3, 4, 7]]),
        Row("9.7.1.1 add", "add.u16x2 d, a, b", "r=rr", &[&[0x0001_ffff, 0x0001_0001, 0x0002_0000]]),
        Row("9.7.1.1 add", "add.s16x2 d, a, b", "r=rr", &[&[0x7fff_ffff, 0x0001_ffff, 0x8000_fffe]]),
        Row("9.7.1.1 add, immediate", "add.s32 d, a, -7", "r=r", &[&[3, s(-4)]]),
        Row("9.7.1.1 add, hexadecimal immediate", "add.u32 d, a, 0xFFFFFFFF", "r=r", &[&[3, 2]]),
        // ---- 9.7.1.2 sub
        Row("9.7.1.2 sub", "sub.u16 d, a, b", "h=hh", &[&[0, 1, 0xffff]]),
        Row("9.7.1.2 sub", "sub.s16 d, a, b", "h=hh", &[&[0x8000, 1, 0x7fff]]),
        Row("9.7.1.2 sub", "sub.u32 d, a, b", "r=rr", &[&[1, 2, ONES]]),
        Row("9.7.1.2 sub", "sub.s32 d, a, b", "r=rr", &[&[MIN, 1, 0x7fff_ffff], &[4, 9, s(-5)]]),
        Row("9.7.1.2 sub", "sub.u64 d, a, b", "d=dd", &[&[0, 1, ONES64], &[1 << 32, 1, ONES]]),
        Row("9.7.1.2 sub", "sub.s64 d, a, b", "d=dd", &[&[4, 9, l(-5)]]),
        Row("9.7.1.2 sub.sat", "sub.sat.s32 d, a, b", "r=rr", &[&[MIN, 1, MIN], &[0x7fff_ffff, s(-1), 0x7fff_ffff]]),
        // ---- 9.7.1.3 mul
        Row("9.7.1.3 mul.lo", "mul.lo.u16 d, a, b", "h=hh", &[&[0x0101, 0x0100, 0x0100]]),
        Row("9.7.1.3 mul.lo", "mul.lo.s16 d, a, b", "h=hh", &[&[w(-3), 5, w(-15)]]),
        Row("9.7.1.3 mul.lo", "mul.lo.u32 d, a, b", "r=rr", &[&[0x0001_0001, 0x0001_0000, 0x0001_0000]]),
        Row("9.7.1.3 mul.lo", "mul.lo.s32 d, a, b", "r=rr", &[&[s(-3), 5, s(-15)], &[MIN, s(-1), MIN]]),
        Row("9.7.1.3 mul.lo", "mul.lo.u64 d, a, b", "d=dd", &[&[1 << 33, 1 << 33, 0], &[3, 5, 15]]),
        Row("9.7.1.3 mul.lo", "mul.lo.s64 d, a, b", "d=dd", &[&[l(-3), 5, l(-15)]]),
        Row("9.7.1.3 mul.hi", "mul.hi.u16 d, a, b", "h=hh", &[&[0xffff, 0xffff, 0xfffe]]),
        Row("9.7.1.3 mul.hi", "mul.hi.s16 d, a, b", "h=hh", &[&[w(-1), 1, w(-1)], &[0x8000, 0x8000, 0x4000]]),
        Row("9.7.1.3 mul.hi", "mul.hi.u32 d, a, b", "r=rr", &[&[ONES, ONES, 0xffff_fffe], &[0x8000_0000, 2, 1]]),
        Row("9.7.1.3 mul.hi", "mul.hi.s32 d, a, b", "r=rr", &[&[s(-1), 1, s(-1)], &[MIN, MIN, 0x4000_0000]]),
        Row("9.7.1.3 mul.hi", "mul.hi.u64 d, a, b", "d=dd", &[&[ONES64, ONES64, ONES64 - 1], &[MIN64, 2, 1]]),
        Row("9.7.1.3 mul.hi", "mul.hi.s64 d, a, b", "d=dd", &[&[l(-1), 1, l(-1)], &[MIN64, MIN64, 1 << 62]]),
        Row("9.7.1.3 mul.wide", "mul.wide.u16 d, a, b", "r=hh", &[&[0xffff, 0xffff, 0xfffe_0001]]),
        Row("9.7.1.3 mul.wide", "mul.wide.s16 d, a, b", "r=hh", &[&[0x8000, 0x7fff, 0xc000_8000]]),
        Row("9.7.1.3 mul.wide", "mul.wide.u32 d, a, b", "d=rr", &[&[ONES, ONES, 0xffff_fffe_0000_0001]]),
        Row("9.7.1.3 mul.wide", "mul.wide.s32 d, a, b", "d=rr", &[&[s(-1), 5, l(-5)], &[MIN, MIN, 1 << 62]]),
        // ---- 9.7.1.4 mad
        Row("9.7.1.4 mad.lo", "mad.lo.u16 d, a, b, c", "h=hhh", &[&[300, 300, 1, 90001 & 0xffff]]),
        Row("9.7.1.4 mad.lo", "mad.lo.s16 d, a, b, c", "h=hhh", &[&[w(-3), 5, 1, w(-14)]]),
        Row("9.7.1.4 mad.lo", "mad.lo.u32 d, a, b, c", "r=rrr", &[&[ONES, ONES, 4, 5]]),
        Row("9.7.1.4 mad.lo", "mad.lo.s32 d, a, b, c", "r=rrr", &[&[s(-4), 3, 2, s(-10)]]),
        Row("9.7.1.4 mad.lo", "mad.lo.u64 d, a, b, c", "d=ddd", &[&[1 << 32, 1 << 31, 7, MIN64 + 7]]),
        Row("9.7.1.4 mad.lo", "mad.lo.s64 d, a, b, c", "d=ddd", &[&[l(-4), 3, 2, l(-10)]]),
        Row("9.7.1.4 mad.hi", "mad.hi.u32 d, a, b, c", "r=rrr", &[&[ONES, ONES, 2, 0]]),
        Row("9.7.1.4 mad.hi", "mad.hi.s32 d, a, b, c", "r=rrr", &[&[s(-1), 1, 5, 4]]),
        Row("9.7.1.4 mad.hi.sat", "mad.hi.sat.s32 d, a, b, c", "r=rrr", &[&[MIN, MIN, 0x7000_0000, 0x7fff_ffff], &[MIN, 0x7fff_ffff, MIN, MIN]]),
        Row("9.7.1.4 mad.hi", "mad.hi.u64 d, a, b, c", "d=ddd", &[&[ONES64, ONES64, 2, 0]]),
        Row("9.7.1.4 mad.hi", "mad.hi.s64 d, a, b, c", "d=ddd", &[&[l(-1), 1, 5, 4]]),
        Row("9.7.1.4 mad.wide", "mad.wide.u16 d, a, b, c", "r=hhr", &[&[0xffff, 0xffff, 0x0001_ffff, 0]]),
        Row("9.7.1.4 mad.wide", "mad.wide.s16 d, a, b, c", "r=hhr", &[&[w(-2), 3, 1, s(-5)]]),
        Row("9.7.1.4 mad.wide", "mad.wide.u32 d, a, b, c", "d=rrd", &[&[ONES, 2, 2, 1 << 33]]),
        Row("9.7.1.4 mad.wide", "mad.wide.s32 d, a, b, c", "d=rrd", &[&[s(-2), 3, 1, l(-5)]]),
        // ---- 9.7.1.5 mul24, 9.7.1.6 mad24
        Row("9.7.1.5 mul24.lo", "mul24.lo.u32 d, a, b", "r=rr", &[&[0xff00_0002, 3, 6], &[0xff_ffff, 0xff_ffff, 0xfe00_0001]]),
        Row("9.7.1.5 mul24.lo", "mul24.lo.s32 d, a, b", "r=rr", &[&[0x00ff_ffff, 3, s(-3)]]),
        Row("9.7.1.5 mul24.hi", "mul24.hi.u32 d, a, b", "r=rr", &[&[0xff_ffff, 0xff_ffff, 0xffff_fe00]]),
        Row("9.7.1.5 mul24.hi", "mul24.hi.s32 d, a, b", "r=rr", &[&[0x0080_0000, 2, s(-256)]]),
        Row("9.7.1.6 mad24.lo", "mad24.lo.u32 d, a, b, c", "r=rrr", &[&[0xff00_0002, 3, 5, 11]]),
        Row("9.7.1.6 mad24.lo", "mad24.lo.s32 d, a, b, c", "r=rrr", &[&[0x00ff_ffff, 3, 5, 2]]),
        Row("9.7.1.6 mad24.hi", "mad24.hi.u32 d, a, b, c", "r=rrr", &[&[0x80_0000, 2, 1, 257]]),
        Row("9.7.1.6 mad24.hi.sat", "mad24.hi.sat.s32 d, a, b, c", "r=rrr", &[&[0x7f_ffff, 0x7f_ffff, 0x7fff_ffff, 0x7fff_ffff]]),
        // ---- 9.7.1.7 sad
        Row("9.7.1.7 sad", "sad.u16 d, a, b, c", "h=hhh", &[&[3, 9, 1, 7]]),
        Row("9.7.1.7 sad", "sad.s16 d, a, b, c", "h=hhh", &[&[w(-3), 4, 1, 8]]),
        Row("9.7.1.7 sad", "sad.u32 d, a, b, c", "r=rrr", &[&[0, ONES, 1, 0], &[9, 3, 1, 7]]),
        Row("9.7.1.7 sad", "sad.s32 d, a, b, c", "r=rrr", &[&[s(-3), 4, 1, 8]]),
        Row("9.7.1.7 sad", "sad.u64 d, a, b, c", "d=ddd", &[&[3, 9, 1, 7]]),
        Row("9.7.1.7 sad", "sad.s64 d, a, b, c", "d=ddd", &[&[l(-3), 4, 1, 8]]),
        // ---- 9.7.1.8 div, 9.7.1.9 rem
        Row("9.7.1.8 div", "div.u16 d, a, b", "h=hh", &[&[0xffff, 2, 0x7fff], &[5, 0, 0xffff]]),
        Row("9.7.1.8 div", "div.s16 d, a, b", "h=hh", &[&[w(-7), 2, w(-3)], &[0x8000, w(-1), 0x8000]]),
        Row("9.7.1.8 div", "div.u32 d, a, b", "r=rr", &[&[ONES, 16, 0x0fff_ffff], &[5, 0, ONES]]),
        Row("9.7.1.8 div", "div.s32 d, a, b", "r=rr", &[&[s(-7), 2, s(-3)], &[7, s(-2), s(-3)], &[MIN, s(-1), MIN], &[5, 0, ONES]]),
        Row("9.7.1.8 div", "div.u64 d, a, b", "d=dd", &[&[ONES64, 1 << 32, ONES], &[5, 0, ONES64]]),
        Row("9.7.1.8 div", "div.s64 d, a, b", "d=dd", &[&[l(-7), 2, l(-3)], &[MIN64, l(-1), MIN64]]),
        Row("9.7.1.9 rem", "rem.u16 d, a, b", "h=hh", &[&[0xffff, 10, 5]]),
        Row("9.7.1.9 rem", "rem.s16 d, a, b", "h=hh", &[&[w(-7), 2, w(-1)]]),
        Row("9.7.1.9 rem", "rem.u32 d, a, b", "r=rr", &[&[ONES, 10, 5]]),
        Row("9.7.1.9 rem", "rem.s32 d, a, b", "r=rr", &[&[s(-7), 3, s(-1)], &[7, s(-3), 1], &[MIN, s(-1), 0]]),
        Row("9.7.1.9 rem", "rem.u64 d, a, b", "d=dd", &[&[ONES64, 10, 5]]),
        Row("9.7.1.9 rem", "rem.s64 d, a, b", "d=dd", &[&[l(-7), 3, l(-1)], &[MIN64, l(-1), 0]]),
        // ---- 9.7.1.10 abs, 9.7.1.11 neg
        Row("9.7.1.10 abs", "abs.s16 d, a", "h=h", &[&[w(-7), 7], &[0x8000, 0x8000]]),
        Row("9.7.1.10 abs", "abs.s32 d, a", "r=r", &[&[s(-7), 7], &[MIN, MIN], &[7, 7]]),
        Row("9.7.1.10 abs", "abs.s64 d, a", "d=d", &[&[l(-7), 7], &[MIN64, MIN64]]),
        Row("9.7.1.11 neg", "neg.s16 d, a", "h=h", &[&[7, w(-7)], &[0x8000, 0x8000]]),
        Row("9.7.1.11 neg", "neg.s32 d, a", "r=r", &[&[7, s(-7)], &[MIN, MIN]]),
        Row("9.7.1.11 neg", "neg.s64 d, a", "d=d", &[&[7, l(-7)], &[MIN64, MIN64]]),
        // ---- 9.7.1.12 min, 9.7.1.13 max
        Row("9.7.1.12 min", "min.u16 d, a, b", "h=hh", &[&[0x8000, 1, 1]]),
        Row("9.7.1.12 min", "min.s16 d, a, b", "h=hh", &[&[0x8000, 1, 0x8000]]),
        Row("9.7.1.12 min", "min.u32 d, a, b", "r=rr", &[&[MIN, 1, 1]]),
        Row("9.7.1.12 min", "min.s32 d, a, b", "r=rr", &[&[MIN, 1, MIN], &[3, 2, 2]]),
        Row("9.7.1.12 min", "min.u64 d, a, b", "d=dd", &[&[MIN64, 1, 1]]),
        Row("9.7.1.12 min", "min.s64 d, a, b", "d=dd", &[&[MIN64, 1, MIN64]]),
        Row("9.7.1.12 min.relu", "min.relu.s32 d, a, b", "r=rr", &[&[s(-3), 5, 0], &[3, 5, 3]]),
        Row("9.7.1.12 min", "min.u16x2 d, a, b", "r=rr", &[&[0x8000_0001, 0x0001_ffff, 0x0001_0001]]),
        Row("9.7.1.12 min", "min.s16x2 d, a, b", "r=rr", &[&[0x8000_0001, 0x0001_ffff, 0x8000_ffff]]),
        Row("9.7.1.12 min.relu", "min.relu.s16x2 d, a, b", "r=rr", &[&[0x8000_0005, 0x0001_0003, 0x0000_0003]]),
        Row("9.7.1.13 max", "max.u16 d, a, b", "h=hh", &[&[0x8000, 1, 0x8000]]),
        Row("9.7.1.13 max", "max.s16 d, a, b", "h=hh", &[&[0x8000, 1, 1]]),
        Row("9.7.1.13 max", "max.u32 d, a, b", "r=rr", &[&[MIN, 1, MIN]]),
        Row("9.7.1.13 max", "max.s32 d, a, b", "r=rr", &[&[MIN, 1, 1]]),
        Row("9.7.1.13 max", "max.u64 d, a, b", "d=dd", &[&[MIN64, 1, MIN64]]),
        Row("9.7.1.13 max", "max.s64 d, a, b", "d=dd", &[&[MIN64, 1, 1]]),
        Row("9.7.1.13 max.relu", "max.relu.s32 d, a, b", "r=rr", &[&[s(-3), s(-5), 0], &[3, 5, 5]]),
        Row("9.7.1.13 max", "max.u16x2 d, a, b", "r=rr", &[&[0x8000_0001, 0x0001_ffff, 0x8000_ffff]]),
        Row("9.7.1.13 max", "max.s16x2 d, a, b", "r=rr", &[&[0x8000_0001, 0x0001_ffff, 0x0001_0001]]),
        Row("9.7.1.13 max.relu", "max.relu.s16x2 d, a, b", "r=rr", &[&[0x8000_0005, 0xffff_0003, 0x0000_0005]]),
        // ---- 9.7.1.14 popc, 9.7.1.15 clz
        Row("9.7.1.14 popc", "popc.b32 d, a", "r=r", &[&[0xf0f0_0001, 9], &[0, 0], &[ONES, 32]]),
        Row("9.7.1.14 popc", "popc.b64 d, a", "r=d", &[&[ONES64, 64], &[MIN64 | 1, 2]]),
        Row("9.7.1.15 clz", "clz.b32 d, a", "r=r", &[&[1, 31], &[0, 32], &[MIN, 0]]),
        Row("9.7.1.15 clz", "clz.b64 d, a", "r=d", &[&[1, 63], &[0, 64], &[1 << 40, 23]]),
        // ---- 9.7.1.16 bfind
        Row("9.7.1.16 bfind", "bfind.u32 d, a", "r=r", &[&[0x8000, 15], &[0, ONES], &[MIN, 31]]),
        Row("9.7.1.16 bfind", "bfind.s32 d, a", "r=r", &[&[s(-1), ONES], &[s(-9), 3], &[8, 3], &[0, ONES]]),
        Row("9.7.1.16 bfind", "bfind.u64 d, a", "r=d", &[&[1 << 40, 40], &[0, ONES]]),
        Row("9.7.1.16 bfind", "bfind.s64 d, a", "r=d", &[&[l(-1), ONES], &[l(-9), 3]]),
        Row("9.7.1.16 bfind.shiftamt", "bfind.shiftamt.u32 d, a", "r=r", &[&[1, 31], &[0, ONES]]),
        Row("9.7.1.16 bfind.shiftamt", "bfind.shiftamt.s32 d, a", "r=r", &[&[s(-9), 28]]),
        Row("9.7.1.16 bfind.shiftamt", "bfind.shiftamt.u64 d, a", "r=d", &[&[1, 63]]),
        // ---- 9.7.1.17 fns, 9.7.1.18 brev
        Row("9.7.1.17 fns", "fns.b32 d, a, b, c", "r=rrr", &[&[0xaaaa_aaaa, 3, 1, 3], &[0xaaaa_aaaa, 3, s(-1), 3], &[0xaaaa_aaaa, 2, 1, 3], &[0xaaaa_aaaa, 2, s(-1), 1], &[0xaaaa_aaaa, 3, 0, 3], &[0xaaaa_aaaa, 2, 0, ONES], &[1, 31, 1, ONES]]),
        Row("9.7.1.18 brev", "brev.b32 d, a", "r=r", &[&[1, MIN], &[0x1234_5678, 0x1e6a_2c48]]),
        Row("9.7.1.18 brev", "brev.b64 d, a", "d=d", &[&[1, MIN64], &[0xf, 0xf << 60]]),
        // ---- 9.7.1.19 bfe, 9.7.1.20 bfi
        Row("9.7.1.19 bfe", "bfe.u32 d, a, b, c", "r=rrr", &[&[0x1234_5678, 8, 8, 0x56], &[MIN, 31, 8, 1], &[ONES, 32, 4, 0], &[ONES, 4, 0, 0], &[ONES, 0x104, 4, 0xf]]),
        Row("9.7.1.19 bfe", "bfe.s32 d, a, b, c", "r=rrr", &[&[0x8000, 12, 4, s(-8)], &[0x7000, 12, 4, 7], &[MIN, 31, 8, s(-1)], &[MIN, 40, 4, s(-1)], &[MIN, 8, 0, 0]]),
        Row("9.7.1.19 bfe", "bfe.u64 d, a, b, c", "d=drr", &[&[0xabc0_0000_0000, 36, 12, 0xabc], &[ONES64, 60, 30, 15]]),
        Row("9.7.1.19 bfe", "bfe.s64 d, a, b, c", "d=drr", &[&[0x800, 4, 8, l(-128)], &[MIN64, 63, 1, l(-1)]]),
        Row("9.7.1.20 bfi", "bfi.b32 d, a, b, c, e", "r=rrrr", &[&[0xa, ONES, 4, 4, 0xffff_ffaf], &[0xf, 0, 28, 8, 0xf000_0000], &[0xa, 7, 32, 4, 7], &[0xa, 7, 4, 0, 7]]),
        Row("9.7.1.20 bfi", "bfi.b64 d, a, b, c, e", "d=ddrr", &[&[0xabc, 0, 40, 12, 0xabc << 40], &[ONES64, 0, 0, 64, ONES64]]),
        // ---- 9.7.1.21 szext, 9.7.1.22 bmsk
        Row("9.7.1.21 szext.clamp", "szext.clamp.s32 d, a, b", "r=rr", &[&[0xff, 8, s(-1)], &[0x7f, 8, 0x7f], &[0xff, 0, 0], &[0x8765_4321, 50, 0x8765_4321]]),
        Row("9.7.1.21 szext.clamp", "szext.clamp.u32 d, a, b", "r=rr", &[&[0xabcd, 8, 0xcd]]),
        Row("9.7.1.21 szext.wrap", "szext.wrap.u32 d, a, b", "r=rr", &[&[0xabcd, 40, 0xcd]]),
        Row("9.7.1.21 szext.wrap", "szext.wrap.s32 d, a, b", "r=rr", &[&[0xabcd, 40, s(-0x33)]]),
        Row("9.7.1.22 bmsk.clamp", "bmsk.clamp.b32 d, a, b", "r=rr", &[&[4, 4, 0xf0], &[0, 32, ONES], &[30, 8, 0xc000_0000], &[32, 1, 0]]),
        Row("9.7.1.22 bmsk.wrap", "bmsk.wrap.b32 d, a, b", "r=rr", &[&[36, 36, 0xf0], &[0, 32, 0]]),
        // ---- 9.7.1.23 dp4a, 9.7.1.24 dp2a
        Row("9.7.1.23 dp4a", "dp4a.u32.u32 d, a, b, c", "r=rrr", &[&[0x0102_0304, 0x0101_0101, 5, 15], &[ONES, ONES, 0, 4 * 255 * 255]]),
        Row("9.7.1.23 dp4a", "dp4a.s32.s32 d, a, b, c", "r=rrr", &[&[ONES, 0x0102_0304, 0, s(-10)]]),
        Row("9.7.1.23 dp4a", "dp4a.s32.u32 d, a, b, c", "r=rrr", &[&[ONES, 0xff00_0000, 0, s(-255)]]),
        Row("9.7.1.23 dp4a", "dp4a.u32.s32 d, a, b, c", "r=rrr", &[&[0xff00_0000, ONES, 0, s(-255)]]),
        Row("9.7.1.24 dp2a.lo", "dp2a.lo.u32.u32 d, a, b, c", "r=rrr", &[&[0x0003_0002, 0x0000_0504, 1, 24]]),
        Row("9.7.1.24 dp2a.hi", "dp2a.hi.u32.u32 d, a, b, c", "r=rrr", &[&[0x0003_0002, 0x0504_0000, 1, 24]]),
        Row("9.7.1.24 dp2a.lo", "dp2a.lo.s32.u32 d, a, b, c", "r=rrr", &[&[0xffff_0002, 0x0000_0503, 0, 1]]),
        Row("9.7.1.24 dp2a.hi", "dp2a.hi.s32.s32 d, a, b, c", "r=rrr", &[&[0xffff_0002, 0xff03_0000, 0, 7]]),
    ];
    check(ROWS);
}

#[test]
#[rustfmt::skip]
fn extended_precision() {
    const ROWS: &[Row] = &[
        Row("9.7.2.1 add.cc, 9.7.2.2 addc", "add.cc.u32 d, a, b; addc.u32 q, c, e", "rr=rrrr", &[&[ONES, 1, 2, 3, 0, 6], &[1, 1, 2, 3, 2, 5]]),
        Row("9.7.2.2 addc.cc", "add.cc.s32 d, a, b; addc.cc.s32 q, c, e; addc.s32 s, 0, 0", "rrr=rrrr", &[&[ONES, 1, ONES, 0, 0, 0, 1], &[1, 1, ONES, 0, 2, ONES, 0]]),
        Row("9.7.2.1 add.cc, 64 bits", "add.cc.u64 d, a, b; addc.u64 q, c, e", "dd=dddd", &[&[ONES64, 2, 2, 3, 1, 6]]),
        Row("9.7.2.3 sub.cc, 9.7.2.4 subc", "sub.cc.u32 d, a, b; subc.u32 q, c, e", "rr=rrrr", &[&[0, 1, 5, 3, ONES, 1], &[1, 1, 5, 3, 0, 2]]),
        Row("9.7.2.4 subc.cc", "sub.cc.u32 d, a, b; subc.cc.u32 q, c, e; subc.u32 s, 0, 0", "rrr=rrrr", &[&[0, 1, 0, 0, ONES, ONES, ONES]]),
        Row("9.7.2.3 sub.cc, 64 bits", "sub.cc.s64 d, a, b; subc.s64 q, c, e", "dd=dddd", &[&[0, 1, 5, 3, ONES64, 1]]),
        Row("9.7.2.5 mad.lo.cc, 9.7.2.6 madc.hi", "mad.lo.cc.u32 d, a, b, c; madc.hi.u32 q, a, b, e", "rr=rrrr", &[&[ONES, ONES, ONES, 0, 0, ONES]]),
        Row("9.7.2.6 madc.lo", "add.cc.u32 d, a, a; madc.lo.s32 q, b, c, e", "rr=rrrr", &[&[MIN, 3, 5, 1, 0, 17], &[1, 3, 5, 1, 2, 16]]),
        Row("9.7.2.5 mad.hi.cc", "mad.hi.cc.u32 d, a, b, c; addc.u32 q, 0, 0", "rr=rrr", &[&[ONES, ONES, 2, 0, 1]]),
    ];
    check(ROWS);
}
