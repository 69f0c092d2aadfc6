//! Register-to-register instructions: logic, shifts, selection and bit fields here, and dispatch to those with their
//! own file.

use super::decoder::Decoder;
use super::ir::*;
use super::mods::Mods;
use super::types::{int_ty, width};
use crate::numeric::f32ops::TestP;
use crate::numeric::logic::PrmtMode;
use crate::ptx::ast::{Immediate, Operand};
use crate::ptx::error::LoadResult;
use crate::ptx::types::Type;

impl<'a> Decoder<'_, 'a> {
    pub fn alu(
        &mut self,
        base: &str,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> LoadResult<bool> {
        match base {
            "add" | "sub" | "mul" | "mad" | "fma" | "div" | "rem" | "min" | "max" | "abs"
            | "neg" | "sad" => self.arithmetic(base, m, ops),
            "addc" | "subc" | "madc" => self.carry(base, m, ops),
            "mul24" | "mad24" => {
                let hi = m.flag("hi");
                let sat = m.flag("sat");
                m.flag("lo");
                let ty = self.need_ty(m)?;
                let signed = match ty {
                    Type::S32 => true,
                    Type::U32 => false,
                    _ => return self.bad_ty(base, ty),
                };
                match base {
                    "mul24" => self.regular(Alu::Mul24 { hi, signed }, ops, ty, &[ty, ty]),
                    _ => self.regular(Alu::Mad24 { hi, signed, sat }, ops, ty, &[ty, ty, ty]),
                }
            }
            "popc" | "clz" | "brev" => {
                let ty = self.need_ty(m)?;
                let wide = match ty {
                    Type::B32 => false,
                    Type::B64 => true,
                    _ => return self.bad_ty(base, ty),
                };
                match base {
                    "popc" => self.regular(Alu::Popc { wide }, ops, Type::U32, &[ty]),
                    "clz" => self.regular(Alu::Clz { wide }, ops, Type::U32, &[ty]),
                    _ => self.regular(Alu::Brev { wide }, ops, ty, &[ty]),
                }
            }
            "bfind" => {
                let shift = m.flag("shiftamt");
                let ty = self.need_ty(m)?;
                match int_ty(ty) {
                    Some(t) if ty.bits() >= 32 => {
                        self.regular(Alu::Bfind { ty: t, shift }, ops, Type::U32, &[ty])
                    }
                    _ => self.bad_ty(base, ty),
                }
            }
            "bfe" => {
                let ty = self.need_ty(m)?;
                match int_ty(ty) {
                    Some(t) if ty.bits() >= 32 => {
                        self.regular(Alu::Bfe(t), ops, ty, &[ty, Type::U32, Type::U32])
                    }
                    _ => self.bad_ty(base, ty),
                }
            }
            "bfi" => {
                let ty = self.need_ty(m)?;
                if !matches!(ty, Type::B32 | Type::B64) {
                    return self.bad_ty(base, ty);
                }
                self.count(ops, 5)?;
                let mut i = Instr::new(Op::Alu(Alu::Bfi { wide: ty == Type::B64 }));
                i.a = self.source(&ops[1], ty)?;
                i.b = self.source(&ops[2], ty)?;
                let uses = [self.source(&ops[3], Type::U32)?, self.source(&ops[4], Type::U32)?];
                i.d = self.destination(&ops[0], ty)?;
                self.list(&mut i, &[], &uses);
                self.emit(i)?;
                Ok(true)
            }
            "szext" => {
                let wrap = m.flag("wrap");
                m.flag("clamp");
                let ty = self.need_ty(m)?;
                if !matches!(ty, Type::U32 | Type::S32) {
                    return self.bad_ty(base, ty);
                }
                self.regular(
                    Alu::Szext { signed: ty == Type::S32, wrap },
                    ops,
                    ty,
                    &[ty, Type::U32],
                )
            }
            "bmsk" => {
                let wrap = m.flag("wrap");
                m.flag("clamp");
                let ty = self.need_ty(m)?;
                if ty != Type::B32 {
                    return self.bad_ty(base, ty);
                }
                self.regular(Alu::Bmsk { wrap }, ops, ty, &[Type::U32, Type::U32])
            }
            "fns" => {
                let ty = self.need_ty(m)?;
                if ty != Type::B32 {
                    return self.bad_ty(base, ty);
                }
                self.regular(Alu::Fns, ops, ty, &[Type::B32, Type::B32, Type::S32])
            }
            "dp4a" | "dp2a" => {
                let hi = m.flag("hi");
                m.flag("lo");
                let (a, b) = (self.need_ty(m)?, self.need_ty(m)?);
                if ![a, b].iter().all(|t| matches!(t, Type::U32 | Type::S32)) {
                    return self.bad_ty(base, a);
                }
                let (sa, sb) = (a.is_signed(), b.is_signed());
                let alu = match base {
                    "dp4a" => Alu::Dp4a { a: sa, b: sb },
                    _ => Alu::Dp2a { a: sa, b: sb, hi },
                };
                self.regular(alu, ops, Type::B32, &[Type::B32, Type::B32, Type::B32])
            }
            "and" | "or" | "xor" => self.logic(base, m, ops),
            "not" => {
                let ty = self.need_ty(m)?;
                if ty == Type::Pred {
                    return self.predicate_move(ops, true);
                }
                match width(ty) {
                    Some(w) => self.regular(Alu::Not(w), ops, ty, &[ty]),
                    None => self.bad_ty(base, ty),
                }
            }
            "cnot" => {
                let ty = self.need_ty(m)?;
                match width(ty) {
                    Some(w) => self.regular(Alu::Cnot(w), ops, ty, &[ty]),
                    None => self.bad_ty(base, ty),
                }
            }
            "lop3" => self.lop3(m, ops),
            "shl" => {
                let ty = self.need_ty(m)?;
                match width(ty) {
                    Some(w) => self.regular(Alu::Shl(w), ops, ty, &[ty, Type::U32]),
                    None => self.bad_ty(base, ty),
                }
            }
            "shr" => {
                let ty = self.need_ty(m)?;
                let t = match ty {
                    Type::B16 => Some(IntTy::U16),
                    Type::B32 => Some(IntTy::U32),
                    Type::B64 => Some(IntTy::U64),
                    _ => int_ty(ty),
                };
                match t {
                    Some(t) => self.regular(Alu::Shr(t), ops, ty, &[ty, Type::U32]),
                    None => self.bad_ty(base, ty),
                }
            }
            "shf" => {
                let left = m.flag("l");
                if !left && !m.flag("r") {
                    return self.fail("`shf` needs `.l` or `.r`");
                }
                let wrap = m.flag("wrap");
                m.flag("clamp");
                let ty = self.need_ty(m)?;
                if ty != Type::B32 {
                    return self.bad_ty(base, ty);
                }
                self.regular(Alu::Shf { left, wrap }, ops, ty, &[ty, ty, Type::U32])
            }
            "prmt" => {
                let ty = self.need_ty(m)?;
                let mode = m.any(&["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"]);
                let mode = match mode {
                    Some("f4e") => PrmtMode::F4e,
                    Some("b4e") => PrmtMode::B4e,
                    Some("rc8") => PrmtMode::Rc8,
                    Some("ecl") => PrmtMode::Ecl,
                    Some("ecr") => PrmtMode::Ecr,
                    Some(_) => PrmtMode::Rc16,
                    None => PrmtMode::Index,
                };
                if ty != Type::B32 {
                    return self.bad_ty(base, ty);
                }
                self.regular(Alu::Prmt(mode), ops, ty, &[ty, ty, Type::B32])
            }
            "mov" => self.move_(m, ops),
            "selp" => {
                let ty = self.need_ty(m)?;
                self.count(ops, 4)?;
                let mut i = Instr::new(Op::Alu(Alu::Selp { wide: ty.bits() == 64 }));
                i.a = self.source(&ops[1], ty)?;
                i.b = self.source(&ops[2], ty)?;
                i.ps = self.predicate_source(&ops[3])?;
                i.d = self.destination(&ops[0], ty)?;
                self.emit(i)?;
                Ok(true)
            }
            "slct" => {
                let ftz = m.flag("ftz");
                let (ty, by) = (self.need_ty(m)?, self.need_ty(m)?);
                let float = match by {
                    Type::S32 => false,
                    Type::F32 => true,
                    _ => return self.bad_ty(base, by),
                };
                self.regular(
                    Alu::Slct { wide: ty.bits() == 64, float, ftz },
                    ops,
                    ty,
                    &[ty, ty, by],
                )
            }
            "set" | "setp" => self.compare(base, m, ops),
            "rcp" | "sqrt" | "rsqrt" | "sin" | "cos" | "lg2" | "ex2" | "tanh" | "copysign" => {
                self.transcendental(base, m, ops)
            }
            "testp" => {
                let what = match m.any(&[
                    "finite",
                    "infinite",
                    "number",
                    "notanumber",
                    "normal",
                    "subnormal",
                ]) {
                    Some("finite") => TestP::Finite,
                    Some("infinite") => TestP::Infinite,
                    Some("number") => TestP::Number,
                    Some("notanumber") => TestP::NotANumber,
                    Some("normal") => TestP::Normal,
                    Some(_) => TestP::Subnormal,
                    None => return self.fail("`testp` needs what to test"),
                };
                let ty = self.need_ty(m)?;
                if !matches!(ty, Type::F32 | Type::F64) {
                    return self.bad_ty(base, ty);
                }
                self.count(ops, 2)?;
                let mut i = Instr::new(Op::Alu(Alu::TestP { what, wide: ty == Type::F64 }));
                i.a = self.source(&ops[1], ty)?;
                i.pd = self.predicate_destination(&ops[0])?;
                self.emit(i)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn logic(&mut self, base: &str, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> LoadResult<bool> {
        let f = match base {
            "and" => Bit2::And,
            "or" => Bit2::Or,
            _ => Bit2::Xor,
        };
        let ty = self.need_ty(m)?;
        if ty == Type::Pred {
            self.count(ops, 3)?;
            let mut i = Instr::new(Op::Alu(Alu::Pred(f)));
            i.ps = self.predicate_source(&ops[1])?;
            i.pt = self.predicate_source(&ops[2])?;
            i.pd = self.predicate_destination(&ops[0])?;
            self.emit(i)?;
            return Ok(true);
        }
        match width(ty) {
            Some(w) => self.regular(Alu::Bit(f, w), ops, ty, &[ty, ty]),
            None => self.bad_ty(base, ty),
        }
    }

    fn lop3(&mut self, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> LoadResult<bool> {
        let combine = m.bool_op();
        let ty = self.need_ty(m)?;
        if ty != Type::B32 {
            return self.bad_ty("lop3", ty);
        }
        self.count(ops, if combine.is_some() { 6 } else { 5 })?;
        let Operand::Immediate(Immediate::Int(lut)) = &ops[4] else {
            return self.fail("the table of `lop3` must be a constant");
        };
        let mut i = Instr::new(Op::Alu(Alu::Lop3 { lut: *lut as u8, combine }));
        i.a = self.source(&ops[1], ty)?;
        i.b = self.source(&ops[2], ty)?;
        i.c = self.source(&ops[3], ty)?;
        let mut d = &ops[0];
        if combine.is_some() {
            i.ps = self.predicate_source(&ops[5])?;
            let Operand::Pair(value, p) = d else {
                return self.fail("expected `d|p`");
            };
            d = value;
            i.pd = self.predicate_destination(p)?;
        }
        i.d = self.destination(d, ty)?;
        self.emit(i)?;
        Ok(true)
    }
}
