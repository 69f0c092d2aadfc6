//! Floating-point instructions (PTX ISA, floating point and half precision floating point instructions), compiled into
//! the variants of `alu`.

use super::regs::Regs;
use crate::decode::ir::*;
use crate::numeric::f32ops as f32n;
use crate::numeric::f32ops::MinMax;
use crate::numeric::half::{self, Half, HalfMode};
use crate::numeric::{Round, approx, f64ops, simd2};

#[inline(always)]
pub(super) fn f32_op<const FMA: bool>(
    w: &mut Regs,
    f: F32Op,
    mode: FloatMode,
    i: &Instr,
    mask: u32,
) {
    let (d, a, b, c) = (i.d, i.a, i.b, i.c);
    let FloatMode { round, ftz, sat } = mode;
    // The common modes get bodies with their modifiers constant.
    macro_rules! two {
        ($f:path) => {
            match (round, ftz, sat) {
                (Round::Rn, false, false) => {
                    w.map2(d, a, b, mask, |a: f32, b: f32| $f(a, b, Round::Rn, false, false))
                }
                (Round::Rn, true, false) => {
                    w.map2(d, a, b, mask, |a: f32, b: f32| $f(a, b, Round::Rn, true, false))
                }
                _ => w.map2(d, a, b, mask, |a: f32, b: f32| $f(a, b, round, ftz, sat)),
            }
        };
    }
    // The long ones are in the loop itself: a closure would be compiled, and called, lane by lane.
    macro_rules! long {
        ($x:ident => $body:expr) => {{
            let from = *w.r32(a);
            let mut out = [0u32; 32];
            for l in 0..32 {
                let $x = f32::from_bits(from[l]);
                out[l] = $body.to_bits();
            }
            w.put(d, &out, mask);
        }};
    }
    match f {
        F32Op::Add => two!(f32n::add),
        F32Op::Sub => two!(f32n::sub),
        F32Op::Mul => two!(f32n::mul),
        F32Op::Fma => match (round, ftz, sat) {
            (Round::Rn, false, false) if FMA => {
                w.map3(d, [a, b, c], mask, |a: f32, b: f32, c: f32| {
                    f32n::fma_rn_host(a, b, c, false, false)
                });
            }
            (Round::Rn, _, _) if FMA => {
                w.map3(d, [a, b, c], mask, |a: f32, b: f32, c: f32| {
                    f32n::fma_rn_host(a, b, c, ftz, sat)
                });
            }
            _ => w.map3(d, [a, b, c], mask, |a: f32, b: f32, c: f32| {
                f32n::fma(a, b, c, round, ftz, sat)
            }),
        },
        F32Op::Div => match (round, ftz) {
            (Round::Rn, false) => {
                w.map2(d, a, b, mask, |a: f32, b: f32| f32n::div(a, b, Round::Rn, false))
            }
            _ => w.map2(d, a, b, mask, |a: f32, b: f32| f32n::div(a, b, round, ftz)),
        },
        F32Op::DivFull => w.map2(d, a, b, mask, |a: f32, b: f32| f32n::div_full(a, b, ftz)),
        F32Op::DivApprox => w.map2(d, a, b, mask, |a: f32, b: f32| f32n::div_approx(a, b, ftz)),
        F32Op::Rcp => w.map1(d, a, mask, |a: f32| f32n::rcp(a, round, ftz)),
        F32Op::Sqrt => w.map1(d, a, mask, |a: f32| f32n::sqrt(a, round, ftz)),
        F32Op::Rsqrt => long!(x => approx::rsqrt(x, ftz)),
        F32Op::Sin => w.map1(d, a, mask, |a: f32| approx::sin(a, ftz)),
        F32Op::Cos => w.map1(d, a, mask, |a: f32| approx::cos(a, ftz)),
        F32Op::Lg2 => long!(x => approx::lg2(x, ftz)),
        F32Op::Ex2 if ftz => long!(x => approx::ex2(x, true)),
        F32Op::Ex2 => long!(x => approx::ex2(x, false)),
        F32Op::Tanh => long!(x => approx::tanh(x)),
        F32Op::Abs => w.map1(d, a, mask, |a: f32| f32n::abs(a, ftz)),
        F32Op::Neg => w.map1(d, a, mask, |a: f32| f32n::neg(a, ftz)),
        F32Op::Copysign => w.map2(d, a, b, mask, |a: f32, b: f32| f32n::copysign(a, b)),
    }
}

#[inline(always)]
pub(super) fn f32_min_max(w: &mut Regs, max: bool, mode: MinMax, i: &Instr, mask: u32) {
    const PLAIN: MinMax = MinMax { ftz: false, nan: false, xorsign_abs: false };
    let (d, a, b, c) = (i.d, i.a, i.b, i.c);
    match (max, mode, c.is_none()) {
        (false, PLAIN, true) => w.map2(d, a, b, mask, |a: f32, b: f32| f32n::min(a, b, PLAIN)),
        (true, PLAIN, true) => w.map2(d, a, b, mask, |a: f32, b: f32| f32n::max(a, b, PLAIN)),
        (false, _, true) => w.map2(d, a, b, mask, |a: f32, b: f32| f32n::min(a, b, mode)),
        (true, _, true) => w.map2(d, a, b, mask, |a: f32, b: f32| f32n::max(a, b, mode)),
        (false, _, false) => {
            w.map3(d, [a, b, c], mask, |a: f32, b: f32, c: f32| f32n::min3(a, b, c, mode))
        }
        (true, _, false) => {
            w.map3(d, [a, b, c], mask, |a: f32, b: f32, c: f32| f32n::max3(a, b, c, mode))
        }
    }
}

pub(super) fn f64_op(w: &mut Regs, f: F64Op, round: Round, i: &Instr, mask: u32) {
    let (d, a, b, c) = (i.d, i.a, i.b, i.c);
    match f {
        F64Op::Add => w.map2(d, a, b, mask, |a: f64, b: f64| f64ops::add(a, b, round)),
        F64Op::Sub => w.map2(d, a, b, mask, |a: f64, b: f64| f64ops::sub(a, b, round)),
        F64Op::Mul => w.map2(d, a, b, mask, |a: f64, b: f64| f64ops::mul(a, b, round)),
        F64Op::Fma => {
            w.map3(d, [a, b, c], mask, |a: f64, b: f64, c: f64| f64ops::fma(a, b, c, round))
        }
        F64Op::Div => w.map2(d, a, b, mask, |a: f64, b: f64| f64ops::div(a, b, round)),
        F64Op::Rcp => w.map1(d, a, mask, |a: f64| f64ops::rcp(a, round)),
        F64Op::Sqrt => w.map1(d, a, mask, |a: f64| f64ops::sqrt(a, round)),
        F64Op::Abs => w.map1(d, a, mask, |a: f64| f64ops::abs(a)),
        F64Op::Neg => w.map1(d, a, mask, |a: f64| f64ops::neg(a)),
        F64Op::Min => w.map2(d, a, b, mask, |a: f64, b: f64| f64ops::min(a, b)),
        F64Op::Max => w.map2(d, a, b, mask, |a: f64, b: f64| f64ops::max(a, b)),
        F64Op::Copysign => w.map2(d, a, b, mask, |a: f64, b: f64| f64ops::copysign(a, b)),
        F64Op::RcpApprox => w.map1(d, a, mask, |a: f64| approx::rcp_ftz_f64(a)),
        F64Op::Rsqrt => w.map1(d, a, mask, |a: f64| approx::rsqrt_f64(a)),
        F64Op::RsqrtGross => w.map1(d, a, mask, |a: f64| approx::rsqrt_ftz_f64(a)),
    }
}

#[inline(always)]
pub(super) fn half_op<H: Half>(
    w: &mut Regs,
    f: HalfOp,
    x2: bool,
    m: HalfMode,
    i: &Instr,
    mask: u32,
) {
    let (d, a, b, c) = (i.d, i.a, i.b, i.c);
    macro_rules! one {
        ($f:expr) => {
            if x2 {
                w.map1(d, a, mask, |a: u32| simd2::map1(a, $f));
            } else {
                w.map1(d, a, mask, $f);
            }
        };
    }
    macro_rules! two {
        ($f:expr) => {
            if x2 {
                w.map2(d, a, b, mask, |a: u32, b: u32| simd2::map2(a, b, $f));
            } else {
                w.map2(d, a, b, mask, $f);
            }
        };
    }
    macro_rules! three {
        ($f:expr) => {
            if x2 {
                w.map3(d, [a, b, c], mask, |a: u32, b: u32, c: u32| simd2::map3(a, b, c, $f));
            } else {
                w.map3(d, [a, b, c], mask, $f);
            }
        };
    }
    match f {
        HalfOp::Add => two!(|a: u16, b: u16| half::add::<H>(a, b, m)),
        HalfOp::Sub => two!(|a: u16, b: u16| half::sub::<H>(a, b, m)),
        HalfOp::Mul => two!(|a: u16, b: u16| half::mul::<H>(a, b, m)),
        HalfOp::Fma => three!(|a: u16, b: u16, c: u16| half::fma::<H>(a, b, c, m)),
        HalfOp::FmaOob => three!(|a: u16, b: u16, c: u16| half::fma_oob::<H>(a, b, c, m)),
        HalfOp::Neg => one!(|a: u16| half::neg::<H>(a, m.ftz)),
        HalfOp::Abs => one!(|a: u16| half::abs::<H>(a, m.ftz)),
        HalfOp::Tanh => one!(|a: u16| half::tanh::<H>(a)),
        HalfOp::Ex2 => one!(|a: u16| half::ex2::<H>(a, m.ftz)),
    }
}

#[inline(always)]
pub(super) fn half_min_max<H: Half>(
    w: &mut Regs,
    max: bool,
    x2: bool,
    m: MinMax,
    i: &Instr,
    mask: u32,
) {
    let (d, a, b) = (i.d, i.a, i.b);
    let f = |a: u16, b: u16| {
        if max { half::max::<H>(a, b, m) } else { half::min::<H>(a, b, m) }
    };
    if x2 {
        w.map2(d, a, b, mask, |a: u32, b: u32| simd2::map2(a, b, f));
    } else {
        w.map2(d, a, b, mask, f);
    }
}
