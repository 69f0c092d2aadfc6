//! Extended-precision integer arithmetic: sums, differences and products with a carry bit per lane in and out.

use super::regs::Regs;
use crate::decode::ir::*;
use crate::numeric::int;

/// Adds or subtracts lane by lane, with a carry bit per lane in and out.
fn carried<T: Copy + Default>(
    x: &[T; 32],
    y: &[T; 32],
    carry: u32,
    f: impl Fn(T, T, bool) -> (T, bool),
) -> ([T; 32], u32) {
    let (mut out, mut out_carry) = ([T::default(); 32], 0);
    for l in 0..32 {
        let (value, carries) = f(x[l], y[l], carry >> l & 1 != 0);
        out[l] = value;
        out_carry |= u32::from(carries) << l;
    }
    (out, out_carry)
}

#[inline(always)]
pub(super) fn add_carry(
    w: &mut Regs,
    i: &Instr,
    mask: u32,
    wide: bool,
    subtract: bool,
    carry_in: bool,
    carry_out: bool,
) {
    // The flag is a carry for subtractions too: set if nothing was borrowed. Compilers mix both in one chain.
    let carry = match (carry_in, subtract) {
        (false, _) => 0,
        (true, false) => w.carry,
        (true, true) => !w.carry,
    };
    let out_carry = if wide {
        let f = match subtract {
            true => int::sub_borrow_u64,
            false => int::add_carry_u64,
        };
        let (out, out_carry) = carried(w.r64(i.a), w.r64(i.b), carry, f);
        w.put(i.d, &out, mask);
        out_carry
    } else {
        let f = match subtract {
            true => int::sub_borrow_u32,
            false => int::add_carry_u32,
        };
        let (out, out_carry) = carried(w.r32(i.a), w.r32(i.b), carry, f);
        w.put(i.d, &out, mask);
        out_carry
    };
    if carry_out {
        let out = if subtract { !out_carry } else { out_carry };
        w.carry = w.carry & !mask | out & mask;
    }
}

#[expect(clippy::too_many_arguments)]
pub(super) fn mad_carry(
    w: &mut Regs,
    i: &Instr,
    mask: u32,
    wide: bool,
    signed: bool,
    hi: bool,
    carry_in: bool,
    carry_out: bool,
) {
    let carry = if carry_in { w.carry } else { 0 };
    let out_carry = if wide {
        let (x, y) = (w.r64(i.a), w.r64(i.b));
        let product = std::array::from_fn(|l| match (hi, signed) {
            (false, _) => int::mul_lo(x[l], y[l]),
            (true, false) => int::mul_hi(x[l], y[l]),
            (true, true) => int::mul_hi(x[l] as i64, y[l] as i64) as u64,
        });
        let (out, out_carry) = carried(&product, w.r64(i.c), carry, int::add_carry_u64);
        w.put(i.d, &out, mask);
        out_carry
    } else {
        let (x, y) = (w.r32(i.a), w.r32(i.b));
        let product = std::array::from_fn(|l| match (hi, signed) {
            (false, _) => int::mul_lo(x[l], y[l]),
            (true, false) => int::mul_hi(x[l], y[l]),
            (true, true) => int::mul_hi(x[l] as i32, y[l] as i32) as u32,
        });
        let (out, out_carry) = carried(&product, w.r32(i.c), carry, int::add_carry_u32);
        w.put(i.d, &out, mask);
        out_carry
    };
    if carry_out {
        w.carry = w.carry & !mask | out_carry & mask;
    }
}
