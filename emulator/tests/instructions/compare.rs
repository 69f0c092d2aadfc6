//! Comparison and selection.

use crate::harness::*;

const ONES: u64 = 0xffff_ffff;
const MIN: u64 = 0x8000_0000;

#[test]
#[rustfmt::skip]
fn set_and_setp() {
    const ROWS: &[Row] = &[
        // ---- set
        Row("comparison and selection: set", "set.lt.u32.s32 d, a, b", "r=rr", &[&[s(-1), 1, ONES], &[1, 1, 0]]),
        Row("comparison and selection: set", "set.lt.s32.u32 d, a, b", "r=rr", &[&[s(-1), 1, 0], &[0, 1, ONES]]),
        Row("comparison and selection: set", "set.gt.f32.f32 d, a, b", "r=rr", &[&[f(2.0), f(1.0), f(1.0)], &[QNAN, f(1.0), 0]]),
        Row("comparison and selection: set", "set.eq.f32.u32 d, a, b", "r=rr", &[&[7, 7, f(1.0)]]),
        Row("comparison and selection: set", "set.ne.u32.b32 d, a, b", "r=rr", &[&[7, 8, ONES], &[7, 7, 0]]),
        Row("comparison and selection: set", "set.le.u32.s64 d, a, b", "r=dd", &[&[l(-1), 0, ONES]]),
        Row("comparison and selection: set", "set.hi.u32.u64 d, a, b", "r=dd", &[&[l(-1), 0, ONES]]),
        Row("comparison and selection: set", "set.ge.u32.f64 d, a, b", "r=dd", &[&[g(1.0), g(1.0), ONES], &[NAN64, g(1.0), 0]]),
        Row("comparison and selection: set", "set.lt.u32.s16 d, a, b", "r=hh", &[&[w(-1), 1, ONES]]),
        Row("comparison and selection: set.ftz", "set.eq.ftz.u32.f32 d, a, b", "r=rr", &[&[1, NZERO, ONES]]),
        Row("comparison and selection: set.and", "set.lt.and.u32.s32 d, a, b, c", "r=rrp", &[&[1, 2, 1, ONES], &[1, 2, 0, 0]]),
        Row("comparison and selection: set.or", "set.lt.or.u32.s32 d, a, b, !c", "r=rrp", &[&[2, 1, 1, 0], &[2, 1, 0, ONES]]),
        Row("comparison and selection: set.xor", "set.lt.xor.f32.s32 d, a, b, c", "r=rrp", &[&[1, 2, 1, 0], &[2, 1, 1, f(1.0)]]),
        // ---- setp, integers
        Row("comparison and selection: setp.eq", "setp.eq.s32 d, a, b", "p=rr", &[&[5, 5, 1], &[5, 6, 0]]),
        Row("comparison and selection: setp.ne", "setp.ne.s32 d, a, b", "p=rr", &[&[5, 5, 0], &[5, 6, 1]]),
        Row("comparison and selection: setp.lt", "setp.lt.s32 d, a, b", "p=rr", &[&[s(-1), 0, 1], &[0, 0, 0], &[MIN, 0x7fff_ffff, 1]]),
        Row("comparison and selection: setp.le", "setp.le.s32 d, a, b", "p=rr", &[&[0, 0, 1], &[1, 0, 0]]),
        Row("comparison and selection: setp.gt", "setp.gt.s32 d, a, b", "p=rr", &[&[1, s(-1), 1], &[0, 0, 0]]),
        Row("comparison and selection: setp.ge", "setp.ge.s32 d, a, b", "p=rr", &[&[0, 0, 1], &[s(-1), 0, 0]]),
        Row("comparison and selection: setp.lt", "setp.lt.u32 d, a, b", "p=rr", &[&[ONES, 0, 0], &[0, ONES, 1]]),
        Row("comparison and selection: setp.lo", "setp.lo.u32 d, a, b", "p=rr", &[&[0, ONES, 1]]),
        Row("comparison and selection: setp.ls", "setp.ls.u32 d, a, b", "p=rr", &[&[3, 3, 1], &[4, 3, 0]]),
        Row("comparison and selection: setp.hi", "setp.hi.u32 d, a, b", "p=rr", &[&[ONES, 0, 1]]),
        Row("comparison and selection: setp.hs", "setp.hs.u32 d, a, b", "p=rr", &[&[3, 3, 1], &[2, 3, 0]]),
        Row("comparison and selection: setp.eq", "setp.eq.b16 d, a, b", "p=hh", &[&[0xffff, 0xffff, 1]]),
        Row("comparison and selection: setp.ne", "setp.ne.b64 d, a, b", "p=dd", &[&[1 << 40, 0, 1]]),
        Row("comparison and selection: setp.lt", "setp.lt.s16 d, a, b", "p=hh", &[&[0x8000, 0, 1]]),
        Row("comparison and selection: setp.gt", "setp.gt.u16 d, a, b", "p=hh", &[&[0x8000, 0, 1]]),
        Row("comparison and selection: setp.gt", "setp.gt.s64 d, a, b", "p=dd", &[&[1, l(-1), 1]]),
        Row("comparison and selection: setp.gt", "setp.gt.u64 d, a, b", "p=dd", &[&[1, l(-1), 0]]),
        Row("comparison and selection: setp, both outputs", "setp.lt.s32 d|q, a, b", "pp=rr", &[&[1, 2, 1, 0], &[2, 1, 0, 1]]),
        Row("comparison and selection: setp.and", "setp.lt.and.s32 d, a, b, c", "p=rrp", &[&[1, 2, 1, 1], &[1, 2, 0, 0], &[2, 1, 1, 0]]),
        // The second output is (not the comparison) combined.
        Row("comparison and selection: setp.and, both outputs", "setp.lt.and.s32 d|q, a, b, c", "pp=rrp", &[&[1, 2, 1, 1, 0], &[2, 1, 1, 0, 1], &[2, 1, 0, 0, 0]]),
        Row("comparison and selection: setp.or", "setp.lt.or.u32 d, a, b, c", "p=rrp", &[&[2, 1, 1, 1], &[2, 1, 0, 0]]),
        Row("comparison and selection: setp.xor", "setp.eq.xor.b32 d, a, b, !c", "p=rrp", &[&[1, 1, 0, 0], &[1, 1, 1, 1]]),
        // ---- setp, floats
        Row("comparison and selection: setp.eq", "setp.eq.f32 d, a, b", "p=rr", &[&[0, NZERO, 1], &[QNAN, QNAN, 0]]),
        Row("comparison and selection: setp.ne", "setp.ne.f32 d, a, b", "p=rr", &[&[f(1.0), f(2.0), 1], &[QNAN, f(1.0), 0]]),
        Row("comparison and selection: setp.lt", "setp.lt.f32 d, a, b", "p=rr", &[&[f(1.0), f(2.0), 1], &[f(1.0), QNAN, 0]]),
        Row("comparison and selection: setp.le", "setp.le.f32 d, a, b", "p=rr", &[&[f(2.0), f(2.0), 1], &[QNAN, f(2.0), 0]]),
        Row("comparison and selection: setp.gt", "setp.gt.f32 d, a, b", "p=rr", &[&[f(2.0), f(1.0), 1], &[QNAN, f(1.0), 0]]),
        Row("comparison and selection: setp.ge", "setp.ge.f32 d, a, b", "p=rr", &[&[INF, INF, 1], &[QNAN, f(1.0), 0]]),
        Row("comparison and selection: setp.equ", "setp.equ.f32 d, a, b", "p=rr", &[&[f(1.0), f(2.0), 0], &[QNAN, f(1.0), 1]]),
        Row("comparison and selection: setp.neu", "setp.neu.f32 d, a, b", "p=rr", &[&[f(1.0), f(1.0), 0], &[QNAN, f(1.0), 1]]),
        Row("comparison and selection: setp.ltu", "setp.ltu.f32 d, a, b", "p=rr", &[&[f(2.0), f(1.0), 0], &[QNAN, f(1.0), 1]]),
        Row("comparison and selection: setp.leu", "setp.leu.f32 d, a, b", "p=rr", &[&[f(1.0), f(1.0), 1], &[f(2.0), QNAN, 1]]),
        Row("comparison and selection: setp.gtu", "setp.gtu.f32 d, a, b", "p=rr", &[&[f(1.0), f(2.0), 0], &[QNAN, f(1.0), 1]]),
        Row("comparison and selection: setp.geu", "setp.geu.f32 d, a, b", "p=rr", &[&[f(1.0), f(2.0), 0], &[QNAN, f(1.0), 1]]),
        Row("comparison and selection: setp.num", "setp.num.f32 d, a, b", "p=rr", &[&[f(1.0), INF, 1], &[QNAN, f(1.0), 0]]),
        Row("comparison and selection: setp.nan", "setp.nan.f32 d, a, b", "p=rr", &[&[f(1.0), INF, 0], &[f(1.0), QNAN, 1]]),
        Row("comparison and selection: setp.ftz", "setp.gt.ftz.f32 d, a, b", "p=rr", &[&[1, 0, 0]]),
        Row("comparison and selection: setp, subnormal", "setp.gt.f32 d, a, b", "p=rr", &[&[1, 0, 1]]),
        Row("comparison and selection: setp, both outputs", "setp.lt.f32 d|q, a, b", "pp=rr", &[&[QNAN, f(1.0), 0, 1]]),
        Row("comparison and selection: setp.eq", "setp.eq.f64 d, a, b", "p=dd", &[&[0, NZERO64, 1]]),
        Row("comparison and selection: setp.ltu", "setp.ltu.f64 d, a, b", "p=dd", &[&[NAN64, 0, 1], &[g(1.0), g(0.5), 0]]),
        Row("comparison and selection: setp.num", "setp.num.f64 d, a, b", "p=dd", &[&[g(1.0), 0, 1], &[NAN64, 0, 0]]),
        Row("comparison and selection: setp.or", "setp.ge.or.f64 d, a, b, c", "p=ddp", &[&[g(1.0), g(2.0), 1, 1]]),
    ];
    check(ROWS);
}

#[test]
#[rustfmt::skip]
fn selection() {
    const ROWS: &[Row] = &[
        Row("comparison and selection: selp", "selp.b16 d, a, b, c", "h=hhp", &[&[1, 2, 1, 1], &[1, 2, 0, 2]]),
        Row("comparison and selection: selp", "selp.b32 d, a, b, c", "r=rrp", &[&[1, 2, 1, 1], &[1, 2, 0, 2]]),
        Row("comparison and selection: selp", "selp.s32 d, a, b, c", "r=rrp", &[&[s(-1), 2, 1, s(-1)]]),
        Row("comparison and selection: selp", "selp.u64 d, a, b, c", "d=ddp", &[&[1 << 40, 2, 1, 1 << 40], &[1, 2, 0, 2]]),
        Row("comparison and selection: selp", "selp.f32 d, a, b, c", "r=rrp", &[&[QNAN, 2, 1, QNAN]]),
        Row("comparison and selection: selp", "selp.f64 d, a, b, c", "d=ddp", &[&[g(1.0), g(2.0), 0, g(2.0)]]),
        Row("comparison and selection: selp, immediates", "selp.u32 d, 7, 9, c", "r=rrp", &[&[0, 0, 1, 7], &[0, 0, 0, 9]]),
        Row("comparison and selection: slct", "slct.u32.s32 d, a, b, c", "r=rrr", &[&[1, 2, 0, 1], &[1, 2, s(-1), 2]]),
        Row("comparison and selection: slct", "slct.b64.s32 d, a, b, c", "d=ddr", &[&[1, 2, MIN, 2]]),
        Row("comparison and selection: slct", "slct.f32.f32 d, a, b, c", "r=rrr", &[&[1, 2, f(0.5), 1], &[1, 2, NZERO, 1], &[1, 2, QNAN, 2], &[1, 2, f(-1.0), 2]]),
        Row("comparison and selection: slct.ftz", "slct.ftz.f32.f32 d, a, b, c", "r=rrr", &[&[1, 2, 0x8000_0001, 1]]),
    ];
    check(ROWS);
}
