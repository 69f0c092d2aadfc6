//! set and setp: comparisons of every type (PTX ISA, comparison and selection instructions), compiled into the variants
//! of `alu`.

use super::by_type::by_int;
use super::regs::{Lane, Regs};
use crate::decode::ir::*;
use crate::numeric::cmp::{self, BoolOp, Cmp};
use crate::numeric::half::{Bf16, F16};
use crate::numeric::int::Int;

#[inline(always)]
pub(super) fn bool_op(f: BoolOp, a: u32, b: u32) -> u32 {
    match f {
        BoolOp::And => a & b,
        BoolOp::Or => a | b,
        BoolOp::Xor => a ^ b,
    }
}

/// One bit per lane for each of the (one or two) comparisons.
#[inline(always)]
fn compare(w: &Regs, op: Cmp, ty: CmpTy, a: R, b: R) -> (u32, u32) {
    let p = match ty {
        CmpTy::Int(ty) => by_int!(ty, T => int_compare::<T>(w, op, a, b)),
        CmpTy::F32 { ftz } => match (op, ftz) {
            (Cmp::Lt, false) => w.test2(a, b, |a: f32, b: f32| a < b),
            (Cmp::Le, false) => w.test2(a, b, |a: f32, b: f32| a <= b),
            (Cmp::Gt, false) => w.test2(a, b, |a: f32, b: f32| a > b),
            (Cmp::Ge, false) => w.test2(a, b, |a: f32, b: f32| a >= b),
            _ => w.test2(a, b, |a: f32, b: f32| cmp::f32(op, a, b, ftz)),
        },
        CmpTy::F64 => w.test2(a, b, |a: f64, b: f64| cmp::f64(op, a, b)),
        CmpTy::Half { ty, ftz } => {
            let one = |a: u16, b: u16| match ty.bf {
                false => cmp::half::<F16>(op, a, b, ftz),
                true => cmp::half::<Bf16>(op, a, b, ftz),
            };
            let low = w.test2(a, b, |a: u32, b: u32| one(a as u16, b as u16));
            if ty.x2 {
                return (
                    low,
                    w.test2(a, b, |a: u32, b: u32| one((a >> 16) as u16, (b >> 16) as u16)),
                );
            }
            low
        }
    };
    (p, !p)
}

#[inline(always)]
fn int_compare<T: Int + Lane>(w: &Regs, op: Cmp, a: R, b: R) -> u32 {
    match op {
        Cmp::Eq => w.test2(a, b, |a: T, b: T| a == b),
        Cmp::Ne => w.test2(a, b, |a: T, b: T| a != b),
        Cmp::Lt | Cmp::Lo => w.test2(a, b, |a: T, b: T| a < b),
        Cmp::Le | Cmp::Ls => w.test2(a, b, |a: T, b: T| a <= b),
        Cmp::Gt | Cmp::Hi => w.test2(a, b, |a: T, b: T| a > b),
        Cmp::Ge | Cmp::Hs => w.test2(a, b, |a: T, b: T| a >= b),
        _ => w.test2(a, b, |a: T, b: T| cmp::int(op, a, b)),
    }
}

#[inline(always)]
pub(super) fn setp(
    w: &mut Regs,
    i: &Instr,
    op: Cmp,
    ty: CmpTy,
    combine: Option<BoolOp>,
    mask: u32,
) {
    let (p, q) = compare(w, op, ty, i.a, i.b);
    // For packed halves the pair is the two comparisons; else the second is the complement.
    let q = if matches!(ty, CmpTy::Half { ty: HalfTy { x2: true, .. }, .. }) { q } else { !p };
    let (p, q) = match combine {
        Some(f) => {
            let c = w.pred(i.ps);
            (bool_op(f, p, c), bool_op(f, q, c))
        }
        None => (p, q),
    };
    w.set_pred(i.pd, p, mask);
    w.set_pred(i.pq, q, mask);
}

pub(super) fn set(
    w: &mut Regs,
    i: &Instr,
    op: Cmp,
    ty: CmpTy,
    combine: Option<BoolOp>,
    to: SetTo,
    mask: u32,
) {
    let (p, q) = compare(w, op, ty, i.a, i.b);
    let (p, q) = match combine {
        Some(f) => (bool_op(f, p, w.pred(i.ps)), bool_op(f, q, w.pred(i.ps))),
        None => (p, q),
    };
    let (yes, x2) = match to {
        SetTo::Mask => (u32::MAX, false),
        SetTo::F32 => (1f32.to_bits(), false),
        SetTo::Half(h) => (if h.bf { 0x3f80 } else { 0x3c00 }, h.x2),
        SetTo::Mask16 { x2 } => (0xffff, x2),
    };
    let out: [u32; 32] = std::array::from_fn(|l| {
        let low = if p >> l & 1 != 0 { yes } else { 0 };
        let high = if x2 && q >> l & 1 != 0 { yes << 16 } else { 0 };
        low | high
    });
    w.put(i.d, &out, mask);
}
