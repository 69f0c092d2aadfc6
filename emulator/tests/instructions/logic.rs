//! Logic and shift, and prmt.

use crate::harness::{Row, check, l, s};

const ONES: u64 = 0xffff_ffff;

#[test]
#[rustfmt::skip]
fn logic_and_shift() {
    const ROWS: &[Row] = &[
        Row("logic and shift: and", "and.pred d, a, b", "p=pp", &[&[0, 0, 0], &[0, 1, 0], &[1, 0, 0], &[1, 1, 1]]),
        Row("logic and shift: and", "and.b16 d, a, b", "h=hh", &[&[0xff0f, 0x0ff3, 0x0f03]]),
        Row("logic and shift: and", "and.b32 d, a, b", "r=rr", &[&[0xff00_ff0f, 0x0ff0_0ff3, 0x0f00_0f03]]),
        Row("logic and shift: and", "and.b64 d, a, b", "d=dd", &[&[u64::MAX << 8, 0xfff, 0xf00]]),
        Row("logic and shift: or", "or.pred d, a, b", "p=pp", &[&[0, 0, 0], &[0, 1, 1], &[1, 0, 1], &[1, 1, 1]]),
        Row("logic and shift: or", "or.b16 d, a, b", "h=hh", &[&[0xf000, 0x000f, 0xf00f]]),
        Row("logic and shift: or", "or.b32 d, a, b", "r=rr", &[&[0xf000_0000, 3, 0xf000_0003]]),
        Row("logic and shift: or", "or.b64 d, a, b", "d=dd", &[&[1 << 63, 1, 1 << 63 | 1]]),
        Row("logic and shift: xor", "xor.pred d, a, b", "p=pp", &[&[0, 0, 0], &[0, 1, 1], &[1, 0, 1], &[1, 1, 0]]),
        Row("logic and shift: xor", "xor.b16 d, a, b", "h=hh", &[&[0xffff, 0x0ff0, 0xf00f]]),
        Row("logic and shift: xor", "xor.b32 d, a, b", "r=rr", &[&[ONES, 0x1234_5678, 0xedcb_a987]]),
        Row("logic and shift: xor", "xor.b64 d, a, b", "d=dd", &[&[u64::MAX, 1, u64::MAX - 1]]),
        Row("logic and shift: not", "not.pred d, a", "p=p", &[&[0, 1], &[1, 0]]),
        Row("logic and shift: not", "not.b16 d, a", "h=h", &[&[0xff00, 0x00ff]]),
        Row("logic and shift: not", "not.b32 d, a", "r=r", &[&[0, ONES]]),
        Row("logic and shift: not", "not.b64 d, a", "d=d", &[&[1, u64::MAX - 1]]),
        Row("logic and shift: cnot", "cnot.b16 d, a", "h=h", &[&[0, 1], &[5, 0]]),
        Row("logic and shift: cnot", "cnot.b32 d, a", "r=r", &[&[0, 1], &[5, 0]]),
        Row("logic and shift: cnot", "cnot.b64 d, a", "d=d", &[&[0, 1], &[1 << 40, 0]]),
        Row("logic and shift: lop3, a & b & c", "lop3.b32 d, a, b, c, 0x80", "r=rrr", &[&[0xff, 0x3c, 0x18, 0x18]]),
        Row("logic and shift: lop3, a ^ b ^ c", "lop3.b32 d, a, b, c, 0x96", "r=rrr", &[&[0xf0, 0xcc, 0xaa, 0x96]]),
        Row("logic and shift: lop3, (a & b) | (~a & c)", "lop3.b32 d, a, b, c, 0xCA", "r=rrr", &[&[0xf0, 0xcc, 0xaa, 0xca]]),
        Row("logic and shift: lop3, zero", "lop3.b32 d, a, b, c, 0", "r=rrr", &[&[1, 2, 3, 0]]),
        Row("logic and shift: lop3, ones", "lop3.b32 d, a, b, c, 255", "r=rrr", &[&[1, 2, 3, ONES]]),
        Row("logic and shift: lop3.or", "lop3.or.b32 d|q, a, b, c, 0xF8, e", "rp=rrrp", &[&[0, 4, 2, 0, 0, 0], &[0, 4, 2, 1, 0, 1], &[1, 4, 2, 0, 1, 1]]),
        Row("logic and shift: lop3.and", "lop3.and.b32 d|q, a, b, c, 0xF8, e", "rp=rrrp", &[&[1, 0, 0, 0, 1, 0], &[1, 0, 0, 1, 1, 1]]),
        Row("logic and shift: shf.l.wrap", "shf.l.wrap.b32 d, a, b, c", "r=rrr", &[&[0x1111_1111, 0x8000_0001, 4, 0x11], &[1, 2, 32, 2], &[MSB, 2, 33, 5]]),
        Row("logic and shift: shf.l.clamp", "shf.l.clamp.b32 d, a, b, c", "r=rrr", &[&[0x1234_5678, 9, 32, 0x1234_5678], &[0x1234_5678, 9, 99, 0x1234_5678], &[MSB, 2, 1, 5]]),
        Row("logic and shift: shf.r.wrap", "shf.r.wrap.b32 d, a, b, c", "r=rrr", &[&[0x1234_5678, 0xdead_beef, 8, 0xef12_3456], &[7, 9, 32, 7]]),
        Row("logic and shift: shf.r.clamp", "shf.r.clamp.b32 d, a, b, c", "r=rrr", &[&[0x1234_5678, 0xdead_beef, 77, 0xdead_beef], &[7, 9, 0, 7]]),
        Row("logic and shift: shl", "shl.b16 d, a, b", "h=hr", &[&[1, 15, 0x8000], &[1, 16, 0], &[3, 1, 6]]),
        Row("logic and shift: shl", "shl.b32 d, a, b", "r=rr", &[&[1, 31, MSB], &[1, 32, 0], &[1, ONES, 0]]),
        Row("logic and shift: shl", "shl.b64 d, a, b", "d=dr", &[&[1, 63, 1 << 63], &[1, 64, 0], &[3, 32, 3 << 32]]),
        Row("logic and shift: shr", "shr.u16 d, a, b", "h=hr", &[&[0x8000, 15, 1], &[0x8000, 16, 0]]),
        Row("logic and shift: shr", "shr.s16 d, a, b", "h=hr", &[&[0x8000, 15, 0xffff], &[0x8000, 99, 0xffff], &[0x7000, 99, 0]]),
        Row("logic and shift: shr", "shr.b16 d, a, b", "h=hr", &[&[0x8000, 4, 0x0800]]),
        Row("logic and shift: shr", "shr.u32 d, a, b", "r=rr", &[&[MSB, 31, 1], &[MSB, 32, 0]]),
        Row("logic and shift: shr", "shr.s32 d, a, b", "r=rr", &[&[MSB, 31, ONES], &[MSB, 32, ONES], &[s(-8), 1, s(-4)], &[8, ONES, 0]]),
        Row("logic and shift: shr", "shr.b32 d, a, b", "r=rr", &[&[MSB, 4, 0x0800_0000]]),
        Row("logic and shift: shr", "shr.u64 d, a, b", "d=dr", &[&[1 << 63, 63, 1], &[1 << 63, 64, 0]]),
        Row("logic and shift: shr", "shr.s64 d, a, b", "d=dr", &[&[1 << 63, 64, u64::MAX], &[l(-8), 1, l(-4)]]),
        Row("logic and shift: shr", "shr.b64 d, a, b", "d=dr", &[&[1 << 63, 60, 8]]),
    ];
    check(ROWS);
}

const MSB: u64 = 0x8000_0000;

#[test]
#[rustfmt::skip]
fn byte_permutation() {
    // The bytes of a are 00 11 22 83 from the lowest, those of b 84 55 66 77.
    const A: u64 = 0x8322_1100;
    const B: u64 = 0x7766_5584;
    const ROWS: &[Row] = &[
        Row("data movement and conversion: prmt", "prmt.b32 d, a, b, c", "r=rrr", &[&[A, B, 0x7410, 0x7784_1100], &[A, B, 0xcb98, 0xffff_0000], &[A, B, 0x3210, A]]),
        Row("data movement and conversion: prmt.f4e", "prmt.b32.f4e d, a, b, c", "r=rrr", &[&[A, B, 0, A], &[A, B, 1, 0x8483_2211], &[A, B, 3, 0x6655_8483]]),
        Row("data movement and conversion: prmt.b4e", "prmt.b32.b4e d, a, b, c", "r=rrr", &[&[A, B, 0, 0x5566_7700], &[A, B, 1, 0x6677_0011], &[A, B, 3, 0x0011_2283]]),
        Row("data movement and conversion: prmt.rc8", "prmt.b32.rc8 d, a, b, c", "r=rrr", &[&[A, B, 2, 0x2222_2222], &[A, B, 3, 0x8383_8383]]),
        Row("data movement and conversion: prmt.ecl", "prmt.b32.ecl d, a, b, c", "r=rrr", &[&[A, B, 0, A], &[A, B, 1, 0x8322_1111], &[A, B, 3, 0x8383_8383]]),
        Row("data movement and conversion: prmt.ecr", "prmt.b32.ecr d, a, b, c", "r=rrr", &[&[A, B, 0, 0], &[A, B, 1, 0x1111_1100], &[A, B, 3, A]]),
        Row("data movement and conversion: prmt.rc16", "prmt.b32.rc16 d, a, b, c", "r=rrr", &[&[A, B, 0, 0x1100_1100], &[A, B, 1, 0x8322_8322]]),
    ];
    check(ROWS);
}
