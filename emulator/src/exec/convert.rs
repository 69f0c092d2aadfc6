//! Conversions, compiled into the variants of `alu`.

use super::regs::Regs;
use crate::decode::ir::*;
use crate::numeric::cvt::{self, IntRound, IntType, Narrow};
use crate::numeric::f32ops as f32n;
use crate::numeric::half;
use crate::numeric::{Round, f64ops};

#[inline(always)]
pub(super) fn convert(w: &mut Regs, op: Cvt, i: &Instr, mask: u32) {
    let (d, a, b) = (i.d, i.a, i.b);
    use IntType as I;
    match op {
        // The most common pairs in address arithmetic and mixed precision.
        Cvt::IntToInt { from: I::U32, to: I::U64 | I::S64, sat: false } => {
            w.map1(d, a, mask, |a: u32| u64::from(a))
        }
        Cvt::IntToInt { from: I::S32, to: I::U64 | I::S64, sat: false } => {
            w.map1(d, a, mask, |a: i32| i64::from(a))
        }
        Cvt::IntToInt { from: I::U64 | I::S64, to: I::U32 | I::S32, sat: false } => {
            w.map1(d, a, mask, |a: u64| a as u32)
        }
        Cvt::IntToInt { from, to, sat } => match (from.bits() == 64, to.bits() == 64) {
            (false, false) => {
                w.map1(d, a, mask, |a: u32| cvt::int_to_int(a.into(), from, to, sat) as u32)
            }
            (false, true) => w.map1(d, a, mask, |a: u32| cvt::int_to_int(a.into(), from, to, sat)),
            (true, false) => w.map1(d, a, mask, |a: u64| cvt::int_to_int(a, from, to, sat) as u32),
            (true, true) => w.map1(d, a, mask, |a: u64| cvt::int_to_int(a, from, to, sat)),
        },
        Cvt::IntToFloat { from: I::S32, to: CvtTy::F32, round: Round::Rn, sat: false } => {
            w.map1(d, a, mask, |a: i32| a as f32);
        }
        Cvt::IntToFloat { from: I::U32, to: CvtTy::F32, round: Round::Rn, sat: false } => {
            w.map1(d, a, mask, |a: u32| a as f32);
        }
        Cvt::IntToFloat { from, to, round, sat } => int_to_float(w, from, to, round, sat, i, mask),
        Cvt::FloatToInt { from: CvtTy::F32, to: I::S32, round: IntRound::Rzi, ftz: false } => {
            w.map1(d, a, mask, |a: f32| a as i32);
        }
        Cvt::FloatToInt { from, to, round, ftz } => float_to_int(w, from, to, round, ftz, i, mask),
        Cvt::FloatToFloat {
            from: CvtTy::F32,
            to: CvtTy::F16,
            mode: FloatMode { round: Round::Rn, ftz: false, sat: false },
            integral: None,
            relu: false,
            satfinite: false,
        } => w.map1(d, a, mask, |a: f32| cvt::f32_to_f16_mode(a, Narrow::RN)),
        Cvt::FloatToFloat {
            from: CvtTy::F16,
            to: CvtTy::F32,
            mode: FloatMode { ftz: false, sat: false, .. },
            integral: None,
            ..
        } => w.map1(d, a, mask, |a: u16| cvt::f16_to_f32(a, false, false)),
        Cvt::FloatToFloat {
            from: CvtTy::F32,
            to: CvtTy::Bf16,
            mode: FloatMode { round: Round::Rn, ftz: false, sat: false },
            integral: None,
            relu: false,
            satfinite: false,
        } => w.map1(d, a, mask, |a: f32| cvt::f32_to_bf16_mode(a, Narrow::RN)),
        Cvt::FloatToFloat { .. } => float_to_float(w, op, i, mask),
        Cvt::PackHalf { bf: false, round: Round::Rn, relu: false, satfinite: false } => {
            w.map2(d, a, b, mask, |a: f32, b: f32| cvt::pack_f16x2(a, b, Narrow::RN));
        }
        Cvt::PackHalf { bf: true, round: Round::Rn, relu: false, satfinite: false } => {
            w.map2(d, a, b, mask, |a: f32, b: f32| cvt::pack_bf16x2(a, b, Narrow::RN));
        }
        Cvt::PackHalf { bf, round, relu, satfinite } => {
            let m = Narrow { round, ftz: false, sat: false, relu, satfinite };
            w.map2(d, a, b, mask, |a: f32, b: f32| match bf {
                false => cvt::pack_f16x2(a, b, m),
                true => cvt::pack_bf16x2(a, b, m),
            });
        }
        Cvt::PackFp8 { to, relu } => {
            w.map2(d, a, b, mask, |a: f32, b: f32| to.pack_f32(a, b, relu))
        }
        Cvt::Fp8FromHalf { to, relu } => w.map1(d, a, mask, |a: u32| to.pack_f16x2(a, relu)),
        Cvt::Fp8ToHalf { from, relu } => w.map1(d, a, mask, |a: u16| from.unpack_f16x2(a, relu)),
        Cvt::Tf32 { round, relu, satfinite } => {
            w.map1(d, a, mask, |a: f32| cvt::f32_to_tf32(a, round, relu, satfinite));
        }
        Cvt::PackInt { to, from_signed, with_c } => {
            let from = if from_signed { I::S32 } else { I::U32 };
            let one = |x: u32| cvt::int_to_int(x.into(), from, to, true) as u32;
            if with_c {
                w.map3(d, [a, b, i.c], mask, |a: u32, b: u32, c: u32| {
                    c << 16 | (one(a) & 0xff) << 8 | one(b) & 0xff
                });
            } else {
                w.map2(d, a, b, mask, |a: u32, b: u32| one(a) << 16 | one(b) & 0xffff);
            }
        }
    }
}

fn int_to_float(
    w: &mut Regs,
    from: IntType,
    to: CvtTy,
    round: Round,
    sat: bool,
    i: &Instr,
    mask: u32,
) {
    let x: [u64; 32] = if from.bits() == 64 { *w.r64(i.a) } else { w.r32(i.a).map(u64::from) };
    match to {
        CvtTy::F64 => {
            let out = x.map(|x| {
                let v = cvt::int_to_f64(x, from, round);
                if sat { cvt::saturate_f64(v) } else { v }.to_bits()
            });
            w.put(i.d, &out, mask);
        }
        _ => {
            let out = x.map(|x| match to {
                CvtTy::F16 => u32::from(cvt::int_to_f16(x, from, round)),
                CvtTy::Bf16 => u32::from(cvt::int_to_bf16(x, from, round)),
                _ => {
                    let v = cvt::int_to_f32(x, from, round);
                    if sat { f32n::saturate(v) } else { v }.to_bits()
                }
            });
            w.put(i.d, &out, mask);
        }
    }
}

/// A float operand widened exactly to f64.
fn widened(w: &Regs, from: CvtTy, r: R, ftz: bool) -> [f64; 32] {
    match from {
        CvtTy::F64 => w.r64(r).map(f64::from_bits),
        CvtTy::F16 => w.r32(r).map(|x| f64::from(half::f16_to_f32(x as u16))),
        CvtTy::Bf16 => w.r32(r).map(|x| f64::from(half::bf16_to_f32(x as u16))),
        _ => w.r32(r).map(|x| {
            let x = f32::from_bits(x);
            f64::from(if ftz { f32n::flush(x) } else { x })
        }),
    }
}

fn float_to_int(
    w: &mut Regs,
    from: CvtTy,
    to: IntType,
    round: IntRound,
    ftz: bool,
    i: &Instr,
    mask: u32,
) {
    let double = from == CvtTy::F64;
    let out = widened(w, from, i.a, ftz).map(|x| cvt::float_to_int(x, to, round, double));
    if to.bits() == 64 {
        w.put(i.d, &out, mask);
    } else {
        w.put(i.d, &out.map(|x| x as u32), mask);
    }
}

fn float_to_float(w: &mut Regs, op: Cvt, i: &Instr, mask: u32) {
    let Cvt::FloatToFloat { from, to, mode, integral, relu, satfinite } = op else {
        return;
    };
    let FloatMode { round, ftz, sat } = mode;
    let narrow = Narrow { round, ftz: false, sat, relu, satfinite };
    // Same format, no integral rounding: only the modifiers act.
    if from == CvtTy::F64 {
        let x =
            w.r64(i.a).map(f64::from_bits).map(|x| integral.map_or(x, |r| cvt::round_f64(x, r)));
        match to {
            CvtTy::F64 => {
                let out = x.map(|x| {
                    if sat { cvt::saturate_f64(x) } else { f64ops::canonical(x) }.to_bits()
                });
                w.put(i.d, &out, mask);
            }
            CvtTy::F32 => {
                w.put(i.d, &x.map(|x| cvt::f64_to_f32(x, round, ftz, sat).to_bits()), mask)
            }
            CvtTy::F16 => w.put(i.d, &x.map(|x| u32::from(half::f64_to_f16(x, round))), mask),
            _ => w.put(i.d, &x.map(|x| u32::from(half::f64_to_bf16(x, round))), mask),
        }
        return;
    }
    let x: [f32; 32] = match from {
        CvtTy::F16 => w.r32(i.a).map(|x| cvt::f16_to_f32(x as u16, ftz && to != CvtTy::F16, false)),
        CvtTy::Bf16 => w.r32(i.a).map(|x| cvt::bf16_to_f32(x as u16, ftz, false)),
        _ => w.r32(i.a).map(|x| {
            let x = f32::from_bits(x);
            if ftz { f32n::flush(x) } else { x }
        }),
    };
    let x = match integral {
        Some(r) => x.map(|x| cvt::round_f32(x, r, false, false)),
        None => x,
    };
    match to {
        CvtTy::F64 => {
            let out = x.map(|x| cvt::f32_to_f64(x, false, sat).to_bits());
            w.put(i.d, &out, mask);
        }
        CvtTy::F32 => {
            let out = x.map(|x| if sat { f32n::saturate(x) } else { f32n::canonical(x) }.to_bits());
            w.put(i.d, &out, mask);
        }
        CvtTy::F16 => w.put(i.d, &x.map(|x| u32::from(cvt::f32_to_f16_mode(x, narrow))), mask),
        _ => w.put(i.d, &x.map(|x| u32::from(cvt::f32_to_bf16_mode(x, narrow))), mask),
    }
}
