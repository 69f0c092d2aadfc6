//! Register-to-register instructions: each arm is a loop over 32 lanes of a function of `numeric`.
//!
//! The whole family is compiled three times, for the baseline, for AVX2 with FMA and F16C, and for AVX-512, and
//! chosen once at run time.

use super::by_type::{by_int, by_width};
use super::carry::{add_carry, mad_carry};
use super::compare::{bool_op, set, setp};
use super::convert::convert;
use super::float::{f32_min_max, f32_op, f64_op, half_min_max, half_op};
use super::pack::{pack, unpack};
use super::regs::{Lane, Regs};
use super::special::{Place, special};
use crate::decode::ir::*;
use crate::numeric::cmp;
use crate::numeric::f32ops as f32n;
use crate::numeric::half::{Bf16, F16};
use crate::numeric::int::{self, Int};
use crate::numeric::{bits, f64ops, logic, simd2, video};
use crate::ptx::types::Space;

pub type AluFn = unsafe fn(&mut Regs, &Place, &[R], &Instr, Alu, u32);

/// The variant for this processor.
pub fn select() -> AluFn {
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq");
        if avx2 && avx512 {
            return alu_avx512;
        }
        if avx2 {
            return alu_avx2;
        }
    }
    alu_portable
}

unsafe fn alu_portable(w: &mut Regs, place: &Place, lists: &[R], i: &Instr, op: Alu, mask: u32) {
    alu::<false>(w, place, lists, i, op, mask);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn alu_avx2(w: &mut Regs, place: &Place, lists: &[R], i: &Instr, op: Alu, mask: u32) {
    alu::<true>(w, place, lists, i, op, mask);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(
    enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq"
)]
unsafe fn alu_avx512(w: &mut Regs, place: &Place, lists: &[R], i: &Instr, op: Alu, mask: u32) {
    alu::<true>(w, place, lists, i, op, mask);
}

#[inline(always)]
fn alu<const FMA: bool>(w: &mut Regs, place: &Place, lists: &[R], i: &Instr, op: Alu, mask: u32) {
    let (d, a, b, c) = (i.d, i.a, i.b, i.c);
    let uses = || {
        let from = i.list as usize + usize::from(i.defs);
        &lists[from..from + usize::from(i.uses)]
    };
    match op {
        Alu::Int2(f, ty) => by_int!(ty, T => int2::<T>(w, f, i, mask)),
        Alu::Int3(f, ty) => by_int!(ty, T => match f {
            Int3::MadLo => w.map3(d, [a, b, c], mask, |a: T, b, c| int::mad_lo(a, b, c)),
            Int3::MadHi => w.map3(d, [a, b, c], mask, |a: T, b, c| int::mad_hi(a, b, c)),
            Int3::MadHiSat => w.map3(d, [a, b, c], mask, int::mad_hi_sat),
            Int3::Sad => w.map3(d, [a, b, c], mask, |a: T, b, c| int::sad(a, b, c)),
        }),
        Alu::Abs(ty) => by_int!(ty, T => w.map1(d, a, mask, |a: T| int::abs(a))),
        Alu::Neg(ty) => by_int!(ty, T => w.map1(d, a, mask, |a: T| int::neg(a))),
        Alu::MulWide(ty) => match ty {
            IntTy::U16 => w.map2(d, a, b, mask, |a: u16, b: u16| int::mul_wide(a, b)),
            IntTy::S16 => w.map2(d, a, b, mask, |a: i16, b: i16| int::mul_wide(a, b)),
            IntTy::U32 => w.map2(d, a, b, mask, |a: u32, b: u32| int::mul_wide(a, b)),
            _ => w.map2(d, a, b, mask, |a: i32, b: i32| int::mul_wide(a, b)),
        },
        Alu::MadWide(ty) => match ty {
            IntTy::U16 => w.map3(d, [a, b, c], mask, int::mad_wide_u16),
            IntTy::S16 => w.map3(d, [a, b, c], mask, int::mad_wide_s16),
            IntTy::U32 => w.map3(d, [a, b, c], mask, int::mad_wide_u32),
            _ => w.map3(d, [a, b, c], mask, int::mad_wide_s32),
        },
        Alu::Mul24 { hi, signed } => match (hi, signed) {
            (false, false) => w.map2(d, a, b, mask, int::mul24_lo_u32),
            (true, false) => w.map2(d, a, b, mask, int::mul24_hi_u32),
            (false, true) => w.map2(d, a, b, mask, int::mul24_lo_s32),
            (true, true) => w.map2(d, a, b, mask, int::mul24_hi_s32),
        },
        Alu::Mad24 { hi, signed, sat } => match (hi, signed, sat) {
            (false, false, _) => w.map3(d, [a, b, c], mask, int::mad24_lo_u32),
            (true, false, _) => w.map3(d, [a, b, c], mask, int::mad24_hi_u32),
            (false, true, _) => w.map3(d, [a, b, c], mask, int::mad24_lo_s32),
            (true, true, false) => w.map3(d, [a, b, c], mask, int::mad24_hi_s32),
            (true, true, true) => w.map3(d, [a, b, c], mask, int::mad24_hi_sat_s32),
        },
        Alu::Popc { wide: false } => w.map1(d, a, mask, |a: u32| bits::popc(a)),
        Alu::Popc { wide: true } => w.map1(d, a, mask, |a: u64| bits::popc(a)),
        Alu::Clz { wide: false } => w.map1(d, a, mask, |a: u32| bits::clz(a)),
        Alu::Clz { wide: true } => w.map1(d, a, mask, |a: u64| bits::clz(a)),
        Alu::Bfind { ty, shift } => by_int!(ty, T => if shift {
            w.map1(d, a, mask, |a: T| bits::bfind_shiftamt(a));
        } else {
            w.map1(d, a, mask, |a: T| bits::bfind(a));
        }),
        Alu::Brev { wide: false } => w.map1(d, a, mask, |a: u32| bits::brev(a)),
        Alu::Brev { wide: true } => w.map1(d, a, mask, |a: u64| bits::brev(a)),
        Alu::Bfe(ty) => {
            by_int!(ty, T => w.map3(d, [a, b, c], mask, |a: T, p: u32, n: u32| bits::bfe(a, p, n)))
        }
        Alu::Bfi { wide } => {
            let (pos, len) = (*w.r32(uses()[0]), *w.r32(uses()[1]));
            if wide {
                let (x, y) = (w.r64(a), w.r64(b));
                let out: [u64; 32] = std::array::from_fn(|l| bits::bfi(x[l], y[l], pos[l], len[l]));
                w.put(d, &out, mask);
            } else {
                let (x, y) = (w.r32(a), w.r32(b));
                let out: [u32; 32] = std::array::from_fn(|l| bits::bfi(x[l], y[l], pos[l], len[l]));
                w.put(d, &out, mask);
            }
        }
        Alu::Szext { signed: true, wrap } => {
            w.map2(d, a, b, mask, |a: i32, n: u32| bits::szext(a, n, wrap))
        }
        Alu::Szext { signed: false, wrap } => {
            w.map2(d, a, b, mask, |a: u32, n: u32| bits::szext(a, n, wrap))
        }
        Alu::Bmsk { wrap } => w.map2(d, a, b, mask, |a: u32, b: u32| bits::bmsk(a, b, wrap)),
        Alu::Fns => w.map3(d, [a, b, c], mask, |m: u32, base: u32, n: i32| bits::fns(m, base, n)),
        Alu::Dp4a { a: sa, b: sb } => {
            w.map3(d, [a, b, c], mask, |a: u32, b: u32, c: u32| int::dp4a(a, sa, b, sb, c));
        }
        Alu::Video(v) => {
            w.map3(d, [a, b, c], mask, |a: u32, b: u32, c: u32| video::video(v, a, b, c));
        }
        Alu::VideoSimd(s) => {
            w.map3(d, [a, b, c], mask, |a: u32, b: u32, c: u32| video::simd(s, a, b, c));
        }
        Alu::Dp2a { a: sa, b: sb, hi } => {
            w.map3(d, [a, b, c], mask, |a: u32, b: u32, c: u32| int::dp2a(a, sa, b, sb, hi, c));
        }
        Alu::AddCarry { wide, subtract, carry_in, carry_out } => {
            add_carry(w, i, mask, wide, subtract, carry_in, carry_out)
        }
        Alu::MadCarry { wide, signed, hi, carry_in, carry_out } => {
            mad_carry(w, i, mask, wide, signed, hi, carry_in, carry_out);
        }
        Alu::Simd2(f) => match f {
            Simd2::Add => w.map2(d, a, b, mask, simd2::add_16x2),
            Simd2::MinU => w.map2(d, a, b, mask, simd2::min_u16x2),
            Simd2::MaxU => w.map2(d, a, b, mask, simd2::max_u16x2),
            Simd2::MinS { relu } => {
                w.map2(d, a, b, mask, |a: u32, b: u32| simd2::min_s16x2(a, b, relu))
            }
            Simd2::MaxS { relu } => {
                w.map2(d, a, b, mask, |a: u32, b: u32| simd2::max_s16x2(a, b, relu))
            }
        },
        Alu::Bit(f, width) => by_width!(width, T => match f {
            Bit2::And => w.map2(d, a, b, mask, |a: T, b: T| a & b),
            Bit2::Or => w.map2(d, a, b, mask, |a: T, b: T| a | b),
            Bit2::Xor => w.map2(d, a, b, mask, |a: T, b: T| a ^ b),
        }),
        Alu::Not(width) => by_width!(width, T => w.map1(d, a, mask, |a: T| !a)),
        Alu::Cnot(width) => by_width!(width, T => w.map1(d, a, mask, |a: T| T::from(a == 0))),
        Alu::Lop3 { lut, combine } => {
            w.map3(d, [a, b, c], mask, |a: u32, b: u32, c: u32| logic::lop3(a, b, c, lut));
            if let Some(f) = combine {
                let nonzero = w.test1(d, |d: u32| d != 0);
                let value = bool_op(f, nonzero, w.pred(i.ps));
                w.set_pred(i.pd, value, mask);
            }
        }
        Alu::Shl(width) => match width {
            Width::W16 => w.map2(d, a, b, mask, logic::shl_u16),
            Width::W32 => w.map2(d, a, b, mask, logic::shl_u32),
            Width::W64 => w.map2(d, a, b, mask, logic::shl_u64),
        },
        Alu::Shr(ty) => match ty {
            IntTy::U16 => w.map2(d, a, b, mask, logic::shr_u16),
            IntTy::S16 => w.map2(d, a, b, mask, logic::shr_s16),
            IntTy::U32 => w.map2(d, a, b, mask, logic::shr_u32),
            IntTy::S32 => w.map2(d, a, b, mask, logic::shr_s32),
            IntTy::U64 => w.map2(d, a, b, mask, logic::shr_u64),
            IntTy::S64 => w.map2(d, a, b, mask, logic::shr_s64),
        },
        Alu::Shf { left: true, wrap } => {
            w.map3(d, [a, b, c], mask, |a: u32, b: u32, c: u32| logic::shf_l(a, b, c, wrap));
        }
        Alu::Shf { left: false, wrap } => {
            w.map3(d, [a, b, c], mask, |a: u32, b: u32, c: u32| logic::shf_r(a, b, c, wrap));
        }
        Alu::Prmt(mode) => {
            w.map3(d, [a, b, c], mask, |a: u32, b: u32, c: u32| logic::prmt(a, b, c, mode))
        }
        Alu::Mov { wide: false } => {
            let x = *w.r32(a);
            w.put(d, &x, mask);
        }
        Alu::Mov { wide: true } => {
            let x = *w.r64(a);
            w.put(d, &x, mask);
        }
        Alu::Pack { bits: n } => pack(w, d, uses(), n, mask),
        Alu::Unpack { bits: n } => {
            unpack(w, &lists[i.list as usize..][..usize::from(i.defs)], a, n, mask)
        }
        Alu::Special(s) => special(w, place, d, s, mask),
        Alu::Selp { wide: false } => {
            let p = w.pred(i.ps);
            let (x, y) = (w.r32(a), w.r32(b));
            let mut out = [0u32; 32];
            for l in 0..32 {
                out[l] = if p >> l & 1 != 0 { x[l] } else { y[l] };
            }
            w.put(d, &out, mask);
        }
        Alu::Selp { wide: true } => {
            let p = w.pred(i.ps);
            let (x, y) = (w.r64(a), w.r64(b));
            let mut out = [0u64; 32];
            for l in 0..32 {
                out[l] = if p >> l & 1 != 0 { x[l] } else { y[l] };
            }
            w.put(d, &out, mask);
        }
        Alu::Slct { wide, float, ftz } => match (wide, float) {
            (false, false) => {
                w.map3(d, [a, b, c], mask, |a: u32, b: u32, c: i32| cmp::slct_s32(a, b, c))
            }
            (true, false) => {
                w.map3(d, [a, b, c], mask, |a: u64, b: u64, c: i32| cmp::slct_s32(a, b, c))
            }
            (false, true) => {
                w.map3(d, [a, b, c], mask, |a: u32, b: u32, c: f32| cmp::slct_f32(a, b, c, ftz))
            }
            (true, true) => {
                w.map3(d, [a, b, c], mask, |a: u64, b: u64, c: f32| cmp::slct_f32(a, b, c, ftz))
            }
        },
        Alu::Setp { cmp, ty, combine } => setp(w, i, cmp, ty, combine, mask),
        Alu::Set { cmp, ty, combine, to } => set(w, i, cmp, ty, combine, to, mask),
        Alu::F32(f, mode) => f32_op::<FMA>(w, f, mode, i, mask),
        Alu::F32MinMax { max, mode } => f32_min_max(w, max, mode, i, mask),
        Alu::F64(f, round) => f64_op(w, f, round, i, mask),
        Alu::Half(f, ty, mode) => {
            if ty.bf {
                half_op::<Bf16>(w, f, ty.x2, mode, i, mask);
            } else {
                half_op::<F16>(w, f, ty.x2, mode, i, mask);
            }
        }
        Alu::HalfMinMax { max, ty, mode } => {
            if ty.bf {
                half_min_max::<Bf16>(w, max, ty.x2, mode, i, mask);
            } else {
                half_min_max::<F16>(w, max, ty.x2, mode, i, mask);
            }
        }
        Alu::TestP { what, wide } => {
            let p = match wide {
                false => w.test1(a, |a: f32| f32n::testp(a, what)),
                true => w.test1(a, |a: f64| f64ops::testp(a, what)),
            };
            w.set_pred(i.pd, p, mask);
        }
        Alu::Cvt(op) => convert(w, op, i, mask),
        Alu::Pred(f) => {
            let (p, q) = (w.pred(i.ps), w.pred(i.pt));
            let value = match f {
                Bit2::And => p & q,
                Bit2::Or => p | q,
                Bit2::Xor => p ^ q,
            };
            w.set_pred(i.pd, value, mask);
        }
        Alu::PredMov => {
            let p = w.pred(i.ps);
            w.set_pred(i.pd, p, mask);
        }
        Alu::IsSpace(space) => {
            let inside = |x: u64, base: u64| x.wrapping_sub(base) < WINDOW;
            let p = w.test1(a, |x: u64| match space {
                Space::Shared => inside(x, SHARED_WINDOW),
                Space::Local => inside(x, LOCAL_WINDOW),
                Space::Param => inside(x, PARAM_WINDOW),
                Space::Const => false,
                _ => {
                    ![SHARED_WINDOW, LOCAL_WINDOW, PARAM_WINDOW].iter().any(|&base| inside(x, base))
                }
            });
            w.set_pred(i.pd, p, mask);
        }
    }
}

#[inline(always)]
fn int2<T: Int + Lane>(w: &mut Regs, f: Int2, i: &Instr, mask: u32) {
    let (d, a, b) = (i.d, i.a, i.b);
    match f {
        Int2::Add => w.map2(d, a, b, mask, |a: T, b: T| int::add(a, b)),
        Int2::AddSat => w.map2(d, a, b, mask, |a: T, b: T| int::add_sat(a, b)),
        Int2::Sub => w.map2(d, a, b, mask, |a: T, b: T| int::sub(a, b)),
        Int2::SubSat => w.map2(d, a, b, mask, |a: T, b: T| int::sub_sat(a, b)),
        Int2::MulLo => w.map2(d, a, b, mask, |a: T, b: T| int::mul_lo(a, b)),
        Int2::MulHi => w.map2(d, a, b, mask, |a: T, b: T| int::mul_hi(a, b)),
        Int2::Div => w.map2(d, a, b, mask, |a: T, b: T| int::div(a, b)),
        Int2::Rem => w.map2(d, a, b, mask, |a: T, b: T| int::rem(a, b)),
        Int2::Min => w.map2(d, a, b, mask, |a: T, b: T| int::min(a, b)),
        Int2::Max => w.map2(d, a, b, mask, |a: T, b: T| int::max(a, b)),
        Int2::MinRelu => w.map2(d, a, b, mask, |a: T, b: T| int::relu(int::min(a, b))),
        Int2::MaxRelu => w.map2(d, a, b, mask, |a: T, b: T| int::relu(int::max(a, b))),
    }
}
