//! Register-to-register instructions: each arm is a loop over 32 lanes of a function of `numeric`.
//!
//! The whole family is compiled three times, for the baseline, for AVX2 with FMA and F16C, and for AVX-512, and
//! chosen once at run time.

use super::convert::convert;
use super::float::{f32_min_max, f32_op, f64_op, half_min_max, half_op};
use super::regs::{Lane, Regs};
use crate::decode::ir::*;
use crate::numeric::cmp::{self, BoolOp, Cmp};
use crate::numeric::f32ops as f32n;
use crate::numeric::half::{Bf16, F16};
use crate::numeric::int::{self, Int};
use crate::numeric::{f64ops, logic, simd2, video};
use crate::ptx::types::Space;

/// Where a warp is: what special registers answer.
#[derive(Clone, Debug, Default)]
pub struct Place {
    pub block: [u32; 3],
    pub grid: [u32; 3],
    pub threads: [u32; 3],
    pub warp: u32,
    pub sm: u32,
    pub sm_count: u32,
    pub dynamic_shared: u32,
    pub total_shared: u32,
    pub reserved_shared: u32,
    /// Warp instructions run so far in this block: the clock.
    pub clock: u64,
}

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

/// Runs `$body` with `$t` the Rust type of an integer type.
macro_rules! by_int {
    ($ty:expr, $t:ident => $body:expr) => {
        match $ty {
            IntTy::U16 => {
                type $t = u16;
                $body
            }
            IntTy::S16 => {
                type $t = i16;
                $body
            }
            IntTy::U32 => {
                type $t = u32;
                $body
            }
            IntTy::S32 => {
                type $t = i32;
                $body
            }
            IntTy::U64 => {
                type $t = u64;
                $body
            }
            IntTy::S64 => {
                type $t = i64;
                $body
            }
        }
    };
}

/// The same for bit widths.
macro_rules! by_width {
    ($w:expr, $t:ident => $body:expr) => {
        match $w {
            Width::W16 => {
                type $t = u16;
                $body
            }
            Width::W32 => {
                type $t = u32;
                $body
            }
            Width::W64 => {
                type $t = u64;
                $body
            }
        }
    };
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
        Alu::Popc { wide: false } => w.map1(d, a, mask, |a: u32| int::popc(a)),
        Alu::Popc { wide: true } => w.map1(d, a, mask, |a: u64| int::popc(a)),
        Alu::Clz { wide: false } => w.map1(d, a, mask, |a: u32| int::clz(a)),
        Alu::Clz { wide: true } => w.map1(d, a, mask, |a: u64| int::clz(a)),
        Alu::Bfind { ty, shift } => by_int!(ty, T => if shift {
            w.map1(d, a, mask, |a: T| int::bfind_shiftamt(a));
        } else {
            w.map1(d, a, mask, |a: T| int::bfind(a));
        }),
        Alu::Brev { wide: false } => w.map1(d, a, mask, |a: u32| int::brev(a)),
        Alu::Brev { wide: true } => w.map1(d, a, mask, |a: u64| int::brev(a)),
        Alu::Bfe(ty) => {
            by_int!(ty, T => w.map3(d, [a, b, c], mask, |a: T, p: u32, n: u32| int::bfe(a, p, n)))
        }
        Alu::Bfi { wide } => {
            let (pos, len) = (*w.r32(uses()[0]), *w.r32(uses()[1]));
            if wide {
                let (x, y) = (w.r64(a), w.r64(b));
                let out: [u64; 32] = std::array::from_fn(|l| int::bfi(x[l], y[l], pos[l], len[l]));
                w.put(d, &out, mask);
            } else {
                let (x, y) = (w.r32(a), w.r32(b));
                let out: [u32; 32] = std::array::from_fn(|l| int::bfi(x[l], y[l], pos[l], len[l]));
                w.put(d, &out, mask);
            }
        }
        Alu::Szext { signed: true, wrap } => {
            w.map2(d, a, b, mask, |a: i32, n: u32| int::szext(a, n, wrap))
        }
        Alu::Szext { signed: false, wrap } => {
            w.map2(d, a, b, mask, |a: u32, n: u32| int::szext(a, n, wrap))
        }
        Alu::Bmsk { wrap } => w.map2(d, a, b, mask, |a: u32, b: u32| int::bmsk(a, b, wrap)),
        Alu::Fns => w.map3(d, [a, b, c], mask, |m: u32, base: u32, n: i32| int::fns(m, base, n)),
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
            // The flag is a carry for subtractions too: set where nothing was borrowed. Compilers mix both in one chain.
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
                let (out, out_carry) = carried(w.r64(a), w.r64(b), carry, f);
                w.put(d, &out, mask);
                out_carry
            } else {
                let f = match subtract {
                    true => int::sub_borrow_u32,
                    false => int::add_carry_u32,
                };
                let (out, out_carry) = carried(w.r32(a), w.r32(b), carry, f);
                w.put(d, &out, mask);
                out_carry
            };
            if carry_out {
                let out = if subtract { !out_carry } else { out_carry };
                w.carry = w.carry & !mask | out & mask;
            }
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
                let value = bits(f, nonzero, w.pred(i.ps));
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
        Alu::Setp { cmp, ty, combine } => {
            let (p, q) = compare(w, cmp, ty, a, b);
            // For packed halves the pair is the two comparisons; else the second is the complement.
            let q =
                if matches!(ty, CmpTy::Half { ty: HalfTy { x2: true, .. }, .. }) { q } else { !p };
            let (p, q) = match combine {
                Some(f) => {
                    let c = w.pred(i.ps);
                    (bits(f, p, c), bits(f, q, c))
                }
                None => (p, q),
            };
            w.set_pred(i.pd, p, mask);
            w.set_pred(i.pq, q, mask);
        }
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
fn bits(f: BoolOp, a: u32, b: u32) -> u32 {
    match f {
        BoolOp::And => a & b,
        BoolOp::Or => a | b,
        BoolOp::Xor => a ^ b,
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

/// Adds or subtracts lane by lane, with a carry bit a lane in and out.
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

#[expect(clippy::too_many_arguments)]
fn mad_carry(
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

/// mov, packing: the first element is the lowest.
#[inline(always)]
fn pack(w: &mut Regs, d: R, parts: &[R], n: u8, mask: u32) {
    let wide = u32::from(n) * parts.len() as u32 == 64;
    let part_mask = u64::MAX >> (64 - u32::from(n));
    let mut out = [0u64; 32];
    for (k, &part) in parts.iter().enumerate() {
        let x = w.r32(part);
        for l in 0..32 {
            out[l] |= (u64::from(x[l]) & part_mask) << (k as u32 * u32::from(n));
        }
    }
    if wide {
        w.put(d, &out, mask);
    } else {
        let out = out.map(|x| x as u32);
        w.put(d, &out, mask);
    }
}

#[inline(always)]
fn unpack(w: &mut Regs, parts: &[R], a: R, n: u8, mask: u32) {
    let wide = u32::from(n) * parts.len() as u32 == 64;
    let part_mask = u64::MAX >> (64 - u32::from(n));
    let x: [u64; 32] = if wide { *w.r64(a) } else { w.r32(a).map(u64::from) };
    for (k, &part) in parts.iter().enumerate() {
        if part.is_none() {
            continue;
        }
        let out = x.map(|x| ((x >> (k as u32 * u32::from(n))) & part_mask) as u32);
        w.put(part, &out, mask);
    }
}

fn special(w: &mut Regs, place: &Place, d: R, s: Special, mask: u32) {
    let lane = |f: &dyn Fn(u32) -> u32| -> [u32; 32] { std::array::from_fn(|l| f(l as u32)) };
    let [nx, ny, _] = place.threads;
    let linear = |l: u32| place.warp * 32 + l;
    let out = match s {
        Special::Tid(0) => lane(&|l| linear(l) % nx),
        Special::Tid(1) => lane(&|l| linear(l) / nx % ny),
        Special::Tid(_) => lane(&|l| linear(l) / (nx * ny)),
        Special::Ntid(axis) => [place.threads[usize::from(axis)]; 32],
        Special::Ctaid(axis) => [place.block[usize::from(axis)]; 32],
        Special::Nctaid(axis) => [place.grid[usize::from(axis)]; 32],
        Special::LaneId => lane(&|l| l),
        Special::WarpId => [place.warp; 32],
        Special::NWarpId => [place.threads.iter().product::<u32>().div_ceil(32); 32],
        Special::SmId => [place.sm; 32],
        Special::NSmId => [place.sm_count; 32],
        Special::LaneMask(which) => lane(&|l| match which {
            LaneMask::Eq => 1 << l,
            LaneMask::Lt => (1 << l) - 1,
            LaneMask::Le => u32::MAX >> (31 - l),
            LaneMask::Gt => !(u32::MAX >> (31 - l)),
            LaneMask::Ge => !((1 << l) - 1),
        }),
        Special::Clock => [place.clock as u32; 32],
        Special::DynamicSharedSize => [place.dynamic_shared; 32],
        Special::TotalSharedSize => [place.total_shared; 32],
        Special::ReservedShared(at) => [place.reserved_shared + at; 32],
        Special::ReservedSharedSize => [RESERVED_SHARED; 32],
        Special::Zero => [0; 32],
        Special::One => [1; 32],
        Special::Clock64 | Special::GlobalTimer => return w.put(d, &[place.clock; 32], mask),
        Special::GridId => return w.put(d, &[1u64; 32], mask),
    };
    w.put(d, &out, mask);
}

/// One bit a lane for each of the (one or two) comparisons.
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

fn set(w: &mut Regs, i: &Instr, op: Cmp, ty: CmpTy, combine: Option<BoolOp>, to: SetTo, mask: u32) {
    let (p, q) = compare(w, op, ty, i.a, i.b);
    let (p, q) = match combine {
        Some(f) => (bits(f, p, w.pred(i.ps)), bits(f, q, w.pred(i.ps))),
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
