//! Arithmetic, logic, comparison and moves (PTX ISA 9.7.1 to 9.7.9).

use super::ir::*;
use super::mods::Mods;
use super::names::Sym;
use super::{Decoder, Result};
use crate::numeric::Round;
use crate::numeric::cmp::Cmp;
use crate::numeric::f32ops::{MinMax, TestP};
use crate::numeric::half::HalfMode;
use crate::numeric::logic::PrmtMode;
use crate::ptx::ast::Operand;
use crate::ptx::types::Type;

pub fn int_ty(ty: Type) -> Option<IntTy> {
    Some(match ty {
        Type::U16 => IntTy::U16,
        Type::S16 => IntTy::S16,
        Type::U32 => IntTy::U32,
        Type::S32 => IntTy::S32,
        Type::U64 => IntTy::U64,
        Type::S64 => IntTy::S64,
        _ => return None,
    })
}

fn width(ty: Type) -> Option<Width> {
    Some(match ty {
        Type::B16 => Width::W16,
        Type::B32 => Width::W32,
        Type::B64 => Width::W64,
        _ => return None,
    })
}

pub fn half_ty(ty: Type) -> Option<HalfTy> {
    Some(match ty {
        Type::F16 => HalfTy {
            bf: false,
            x2: false,
        },
        Type::F16x2 => HalfTy {
            bf: false,
            x2: true,
        },
        Type::Bf16 => HalfTy {
            bf: true,
            x2: false,
        },
        Type::Bf16x2 => HalfTy { bf: true, x2: true },
        _ => return None,
    })
}

/// The type one size up, for `.wide`.
fn wider(ty: Type) -> Type {
    match ty {
        Type::U16 => Type::U32,
        Type::S16 => Type::S32,
        Type::U32 => Type::U64,
        _ => Type::S64,
    }
}

impl<'a> Decoder<'_, 'a> {
    pub fn count(&self, ops: &[Operand], n: usize) -> Result<()> {
        if ops.len() != n {
            return self.fail(format!("expected {n} operands, found {}", ops.len()));
        }
        Ok(())
    }

    pub fn need_ty(&self, mods: &mut Mods) -> Result<Type> {
        match mods.ty() {
            Some(ty) => Ok(ty),
            None => self.fail("this instruction needs a type"),
        }
    }

    fn bad_ty<T>(&self, base: &str, ty: Type) -> Result<T> {
        self.fail(format!("`{base}` is not supported for type {ty:?}"))
    }

    /// d, then sources, all with their own types.
    fn regular(&mut self, alu: Alu, ops: &[Operand<'a>], to: Type, from: &[Type]) -> Result<bool> {
        self.count(ops, 1 + from.len())?;
        let mut i = Instr::new(Op::Alu(alu));
        let mut sources = [R::NONE; 3];
        for (slot, (op, ty)) in sources.iter_mut().zip(ops[1..].iter().zip(from)) {
            *slot = self.source(op, *ty)?;
        }
        [i.a, i.b, i.c] = sources;
        i.d = self.destination(&ops[0], to)?;
        self.emit(i)?;
        Ok(true)
    }

    pub fn alu(&mut self, base: &str, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> Result<bool> {
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
                let mut i = Instr::new(Op::Alu(Alu::Bfi {
                    wide: ty == Type::B64,
                }));
                i.a = self.source(&ops[1], ty)?;
                i.b = self.source(&ops[2], ty)?;
                let uses = [
                    self.source(&ops[3], Type::U32)?,
                    self.source(&ops[4], Type::U32)?,
                ];
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
                    Alu::Szext {
                        signed: ty == Type::S32,
                        wrap,
                    },
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
                let mut i = Instr::new(Op::Alu(Alu::Selp {
                    wide: ty.bits() == 64,
                }));
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
                    Alu::Slct {
                        wide: ty.bits() == 64,
                        float,
                        ftz,
                    },
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
                let mut i = Instr::new(Op::Alu(Alu::TestP {
                    what,
                    wide: ty == Type::F64,
                }));
                i.a = self.source(&ops[1], ty)?;
                i.pd = self.predicate_destination(&ops[0])?;
                self.emit(i)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn arithmetic(&mut self, base: &str, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> Result<bool> {
        let hi = m.flag("hi");
        let lo = m.flag("lo");
        let wide = m.flag("wide");
        if m.flag("cc") {
            return self.carry_out(base, hi, m, ops);
        }
        let round = m.round();
        let ftz = m.flag("ftz");
        let sat = m.flag("sat");
        let relu = m.flag("relu");
        let oob = m.flag("oob");
        let nan = m.flag("NaN");
        let xorsign_abs = m.flag("xorsign");
        if xorsign_abs && !m.flag("abs") {
            return self.fail("`.xorsign` needs `.abs`");
        }
        let approx = m.any(&["approx", "full"]);
        let ty = self.need_ty(m)?;
        let bad = |d: &Self| d.bad_ty(base, ty);
        let two = [ty, ty];
        let three = [ty, ty, ty];
        if let Some(t) = int_ty(ty) {
            if round.is_some()
                || ftz
                || nan
                || xorsign_abs
                || oob
                || approx.is_some()
                || lo && base != "mul" && base != "mad"
            {
                return self.fail(format!(
                    "a modifier of `{base}` does not fit an integer type"
                ));
            }
            if sat
                && !matches!(
                    (base, ty, hi),
                    ("add" | "sub", Type::S32, _) | ("mad", Type::S32, true)
                )
            {
                return self.fail("`.sat` applies to .s32 only");
            }
            if relu && !(matches!(base, "min" | "max") && ty == Type::S32) {
                return self.fail("`.relu` applies to .s32 only");
            }
            let alu = match base {
                "add" => Alu::Int2(if sat { Int2::AddSat } else { Int2::Add }, t),
                "sub" => Alu::Int2(if sat { Int2::SubSat } else { Int2::Sub }, t),
                "mul" if wide && ty.bits() < 64 => {
                    return self.regular(Alu::MulWide(t), ops, wider(ty), &two);
                }
                "mul" if hi => Alu::Int2(Int2::MulHi, t),
                "mul" if lo => Alu::Int2(Int2::MulLo, t),
                "div" => Alu::Int2(Int2::Div, t),
                "rem" => Alu::Int2(Int2::Rem, t),
                "min" => Alu::Int2(if relu { Int2::MinRelu } else { Int2::Min }, t),
                "max" => Alu::Int2(if relu { Int2::MaxRelu } else { Int2::Max }, t),
                "mad" if wide && ty.bits() < 64 => {
                    return self.regular(Alu::MadWide(t), ops, wider(ty), &[ty, ty, wider(ty)]);
                }
                "mad" if hi && sat => {
                    return self.regular(Alu::Int3(Int3::MadHiSat, t), ops, ty, &three);
                }
                "mad" if hi => return self.regular(Alu::Int3(Int3::MadHi, t), ops, ty, &three),
                "mad" if lo => return self.regular(Alu::Int3(Int3::MadLo, t), ops, ty, &three),
                "sad" => return self.regular(Alu::Int3(Int3::Sad, t), ops, ty, &three),
                "abs" if ty.is_signed() => return self.regular(Alu::Abs(t), ops, ty, &[ty]),
                "neg" if ty.is_signed() => return self.regular(Alu::Neg(t), ops, ty, &[ty]),
                _ => return bad(self),
            };
            return self.regular(alu, ops, ty, &two);
        }
        if hi || lo || wide {
            return bad(self);
        }
        if matches!(ty, Type::U16x2 | Type::S16x2) {
            let signed = ty == Type::S16x2;
            let f = match base {
                "add" => Simd2::Add,
                "min" if signed => Simd2::MinS { relu },
                "max" if signed => Simd2::MaxS { relu },
                "min" => Simd2::MinU,
                "max" => Simd2::MaxU,
                _ => return bad(self),
            };
            return self.regular(Alu::Simd2(f), ops, ty, &two);
        }
        if let Some(h) = half_ty(ty) {
            if !matches!(round, None | Some(Round::Rn)) || approx.is_some() {
                return bad(self);
            }
            if matches!(base, "min" | "max") {
                if sat || relu {
                    return bad(self);
                }
                let mode = MinMax {
                    ftz,
                    nan,
                    xorsign_abs,
                };
                return self.regular(
                    Alu::HalfMinMax {
                        max: base == "max",
                        ty: h,
                        mode,
                    },
                    ops,
                    ty,
                    &two,
                );
            }
            let mode = HalfMode { ftz, sat, relu };
            let (f, n) = match base {
                "add" => (HalfOp::Add, 2),
                "sub" => (HalfOp::Sub, 2),
                "mul" => (HalfOp::Mul, 2),
                "fma" if oob => (HalfOp::FmaOob, 3),
                "fma" => (HalfOp::Fma, 3),
                "neg" => (HalfOp::Neg, 1),
                "abs" => (HalfOp::Abs, 1),
                _ => return bad(self),
            };
            if relu && base != "fma" {
                return bad(self);
            }
            return self.regular(Alu::Half(f, h, mode), ops, ty, &three[..n]);
        }
        if relu || oob {
            return bad(self);
        }
        let round_or = round.unwrap_or(Round::Rn);
        match ty {
            Type::F32 => {
                if matches!(base, "min" | "max") {
                    let mode = MinMax {
                        ftz,
                        nan,
                        xorsign_abs,
                    };
                    let alu = Alu::F32MinMax {
                        max: base == "max",
                        mode,
                    };
                    let n = if ops.len() == 4 { 3 } else { 2 };
                    return self.regular(alu, ops, ty, &three[..n]);
                }
                let mode = FloatMode {
                    round: round_or,
                    ftz,
                    sat,
                };
                let (f, n) = match base {
                    "add" => (F32Op::Add, 2),
                    "sub" => (F32Op::Sub, 2),
                    "mul" => (F32Op::Mul, 2),
                    "fma" | "mad" => (F32Op::Fma, 3),
                    "div" => match approx {
                        Some("approx") => (F32Op::DivApprox, 2),
                        Some(_) => (F32Op::DivFull, 2),
                        None => (F32Op::Div, 2),
                    },
                    "neg" => (F32Op::Neg, 1),
                    "abs" => (F32Op::Abs, 1),
                    _ => return bad(self),
                };
                if base != "div" && approx.is_some() || nan || xorsign_abs || round_or == Round::Rna
                {
                    return bad(self);
                }
                self.regular(Alu::F32(f, mode), ops, ty, &three[..n])
            }
            Type::F64 => {
                let (f, n) = match base {
                    "add" => (F64Op::Add, 2),
                    "sub" => (F64Op::Sub, 2),
                    "mul" => (F64Op::Mul, 2),
                    "fma" | "mad" => (F64Op::Fma, 3),
                    "div" => (F64Op::Div, 2),
                    "min" => (F64Op::Min, 2),
                    "max" => (F64Op::Max, 2),
                    "neg" => (F64Op::Neg, 1),
                    "abs" => (F64Op::Abs, 1),
                    _ => return bad(self),
                };
                if ftz || sat || nan || xorsign_abs || approx.is_some() || round_or == Round::Rna {
                    return bad(self);
                }
                self.regular(Alu::F64(f, round_or), ops, ty, &three[..n])
            }
            _ => bad(self),
        }
    }

    /// 9.7.2: `add.cc`, `sub.cc`, `mad.cc`.
    fn carry_out(
        &mut self,
        base: &str,
        hi: bool,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> Result<bool> {
        self.carry_form(base, hi, false, true, m, ops)
    }

    fn carry(&mut self, base: &str, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> Result<bool> {
        let cc = m.flag("cc");
        let hi = m.flag("hi");
        m.flag("lo");
        self.carry_form(base, hi, true, cc, m, ops)
    }

    fn carry_form(
        &mut self,
        base: &str,
        hi: bool,
        carry_in: bool,
        carry_out: bool,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> Result<bool> {
        let ty = self.need_ty(m)?;
        let wide = match ty {
            Type::U32 | Type::S32 | Type::B32 => false,
            Type::U64 | Type::S64 | Type::B64 => true,
            _ => return self.bad_ty(base, ty),
        };
        match base {
            "add" | "addc" | "sub" | "subc" => {
                let subtract = base.starts_with("sub");
                self.regular(
                    Alu::AddCarry {
                        wide,
                        subtract,
                        carry_in,
                        carry_out,
                    },
                    ops,
                    ty,
                    &[ty, ty],
                )
            }
            "mad" | "madc" => {
                let signed = ty.is_signed();
                self.regular(
                    Alu::MadCarry {
                        wide,
                        signed,
                        hi,
                        carry_in,
                        carry_out,
                    },
                    ops,
                    ty,
                    &[ty, ty, ty],
                )
            }
            _ => self.fail(format!("`{base}.cc` does not exist")),
        }
    }

    fn predicate_move(&mut self, ops: &[Operand<'a>], negate: bool) -> Result<bool> {
        self.count(ops, 2)?;
        let mut i = Instr::new(Op::Alu(Alu::PredMov));
        let p = self.predicate_source(&ops[1])?;
        i.ps = if negate { p.negated() } else { p };
        i.pd = self.predicate_destination(&ops[0])?;
        self.emit(i)?;
        Ok(true)
    }

    fn logic(&mut self, base: &str, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> Result<bool> {
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

    fn lop3(&mut self, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> Result<bool> {
        let combine = m.bool_op();
        let ty = self.need_ty(m)?;
        if ty != Type::B32 {
            return self.bad_ty("lop3", ty);
        }
        self.count(ops, if combine.is_some() { 6 } else { 5 })?;
        let Operand::Immediate(crate::ptx::ast::Immediate::Int(lut)) = &ops[4] else {
            return self.fail("the table of `lop3` must be a constant");
        };
        let mut i = Instr::new(Op::Alu(Alu::Lop3 {
            lut: *lut as u8,
            combine,
        }));
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

    /// 9.7.9.1 and 9.7.9.2 mov
    fn move_(&mut self, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> Result<bool> {
        let ty = self.need_ty(m)?;
        self.count(ops, 2)?;
        if ty == Type::Pred {
            return self.predicate_move(ops, false);
        }
        if ty.bits() == 128 {
            return self.bad_ty("mov", ty);
        }
        if let Operand::Vector(parts) = &ops[1] {
            let bits = ty.bits() / (parts.len() as u32).max(1);
            self.pack_shape(ty, parts.len())?;
            let part = self.part_type(bits);
            let mut uses = Vec::new();
            for p in parts {
                uses.push(self.source(p, part)?);
            }
            let mut i = Instr::new(Op::Alu(Alu::Pack { bits: bits as u8 }));
            i.d = self.destination(&ops[0], ty)?;
            self.list(&mut i, &[], &uses);
            self.emit(i)?;
            return Ok(true);
        }
        if let Operand::Vector(parts) = &ops[0] {
            let bits = ty.bits() / (parts.len() as u32).max(1);
            self.pack_shape(ty, parts.len())?;
            let part = self.part_type(bits);
            let mut i = Instr::new(Op::Alu(Alu::Unpack { bits: bits as u8 }));
            i.a = self.source(&ops[1], ty)?;
            let mut defs = Vec::new();
            for p in parts {
                let r = self.destination_any(p)?;
                if !r.is_none() && self.is_wide(r) != (part.bits() == 64) {
                    return self.fail("a part of this vector has the wrong width");
                }
                defs.push(r);
            }
            self.list(&mut i, &defs, &[]);
            self.emit(i)?;
            return Ok(true);
        }
        if let (Some(to), Some(from)) = (
            self.vector_register(&ops[0])?,
            self.vector_register(&ops[1])?,
        ) && to.len() == from.len()
        {
            for (d, a) in to.into_iter().zip(from) {
                self.mov(d, a)?;
            }
            return Ok(true);
        }
        // A label's address is of use only to an indirect branch, which takes tables.
        if let Operand::Name(n) = &ops[1]
            && let Some(Sym::Label(_)) = self.lookup(n)?
        {
            return self.fail("addresses of labels are not supported");
        }
        if let Operand::Name(n) = &ops[1]
            && self.m.functions.contains_key(n)
            && self.lookup(n)?.is_none()
        {
            return self.fail("addresses of functions are not supported");
        }
        let a = self.source_any(&ops[1], ty)?;
        let d = self.destination(&ops[0], ty)?;
        if self.is_wide(a) != self.is_wide(d) {
            return self.fail(format!("operand {} is not {} bits wide", ops[1], ty.bits()));
        }
        self.mov(d, a)?;
        Ok(true)
    }

    fn pack_shape(&self, ty: Type, parts: usize) -> Result<()> {
        match (ty.bits(), parts) {
            (16, 2) | (32, 2 | 4) | (64, 2 | 4) => Ok(()),
            _ => self.fail("a vector of this size does not fit the type"),
        }
    }

    fn part_type(&self, bits: u32) -> Type {
        match bits {
            8 => Type::B8,
            16 => Type::B16,
            _ => Type::B32,
        }
    }

    /// 9.7.6.1 set and 9.7.6.2 setp, and their half forms (9.7.7).
    fn compare(&mut self, base: &str, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> Result<bool> {
        let Some(cmp) = m.pick(Cmp::from_name) else {
            return self.fail("a comparison is missing");
        };
        let combine = m.bool_op();
        let ftz = m.flag("ftz");
        let first = self.need_ty(m)?;
        let from = if base == "set" {
            self.need_ty(m)?
        } else {
            first
        };
        let unsigned_only = matches!(cmp, Cmp::Lo | Cmp::Ls | Cmp::Hi | Cmp::Hs);
        let float_only = matches!(
            cmp,
            Cmp::Equ | Cmp::Neu | Cmp::Ltu | Cmp::Leu | Cmp::Gtu | Cmp::Geu | Cmp::Num | Cmp::Nan
        );
        let ty = match from {
            Type::B16 => CmpTy::Int(IntTy::U16),
            Type::B32 => CmpTy::Int(IntTy::U32),
            Type::B64 => CmpTy::Int(IntTy::U64),
            Type::F32 => CmpTy::F32 { ftz },
            Type::F64 => CmpTy::F64,
            _ => match (int_ty(from), half_ty(from)) {
                (Some(t), _) => CmpTy::Int(t),
                (_, Some(ty)) => CmpTy::Half { ty, ftz },
                _ => return self.bad_ty(base, from),
            },
        };
        let is_int = matches!(ty, CmpTy::Int(_));
        if is_int && float_only || !is_int && unsigned_only || unsigned_only && from.is_signed() {
            return self.fail("this comparison does not fit the type");
        }
        if from.is_bits() && !matches!(cmp, Cmp::Eq | Cmp::Ne) {
            return self.fail("bit types compare only for equality");
        }
        let op = if base == "setp" {
            Alu::Setp { cmp, ty, combine }
        } else {
            let x2 = matches!(from, Type::F16x2 | Type::Bf16x2);
            let to = match first {
                Type::U32 | Type::S32 if x2 => SetTo::Mask16 { x2: true },
                Type::U16 | Type::S16 => SetTo::Mask16 { x2: false },
                Type::U32 | Type::S32 => SetTo::Mask,
                Type::F32 => SetTo::F32,
                _ => match half_ty(first) {
                    Some(h) => SetTo::Half(h),
                    None => return self.bad_ty(base, first),
                },
            };
            Alu::Set {
                cmp,
                ty,
                combine,
                to,
            }
        };
        self.count(ops, if combine.is_some() { 4 } else { 3 })?;
        let mut i = Instr::new(Op::Alu(op));
        i.a = self.source(&ops[1], from)?;
        i.b = self.source(&ops[2], from)?;
        if combine.is_some() {
            i.ps = self.predicate_source(&ops[3])?;
        }
        if base == "setp" {
            match &ops[0] {
                Operand::Pair(p, q) => {
                    i.pd = self.predicate_destination(p)?;
                    i.pq = self.predicate_destination(q)?;
                }
                p => i.pd = self.predicate_destination(p)?,
            }
        } else {
            i.d = self.destination(&ops[0], first)?;
        }
        self.emit(i)?;
        Ok(true)
    }

    /// 9.7.3 and 9.7.4, one operand (and copysign).
    fn transcendental(
        &mut self,
        base: &str,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> Result<bool> {
        let round = m.round();
        let approx = m.flag("approx");
        let ftz = m.flag("ftz");
        let ty = self.need_ty(m)?;
        let mode = FloatMode {
            round: round.unwrap_or(Round::Rn),
            ftz,
            sat: false,
        };
        if mode.round == Round::Rna {
            return self.bad_ty(base, ty);
        }
        if let Some(h) = half_ty(ty) {
            let f = match base {
                "tanh" => HalfOp::Tanh,
                "ex2" => HalfOp::Ex2,
                _ => return self.bad_ty(base, ty),
            };
            return self.regular(
                Alu::Half(
                    f,
                    h,
                    HalfMode {
                        ftz,
                        sat: false,
                        relu: false,
                    },
                ),
                ops,
                ty,
                &[ty],
            );
        }
        let alu = match (base, ty) {
            ("rcp", Type::F32) => Alu::F32(F32Op::Rcp, mode),
            ("sqrt", Type::F32) => Alu::F32(F32Op::Sqrt, mode),
            ("rsqrt", Type::F32) => Alu::F32(F32Op::Rsqrt, mode),
            ("sin", Type::F32) => Alu::F32(F32Op::Sin, mode),
            ("cos", Type::F32) => Alu::F32(F32Op::Cos, mode),
            ("lg2", Type::F32) => Alu::F32(F32Op::Lg2, mode),
            ("ex2", Type::F32) => Alu::F32(F32Op::Ex2, mode),
            ("tanh", Type::F32) => Alu::F32(F32Op::Tanh, mode),
            ("copysign", Type::F32) => {
                return self.regular(Alu::F32(F32Op::Copysign, mode), ops, ty, &[ty, ty]);
            }
            ("copysign", Type::F64) => {
                return self.regular(Alu::F64(F64Op::Copysign, mode.round), ops, ty, &[ty, ty]);
            }
            ("rcp", Type::F64) if approx => Alu::F64(F64Op::RcpApprox, mode.round),
            ("rsqrt", Type::F64) if approx => Alu::F64(F64Op::RsqrtApprox, mode.round),
            ("rcp", Type::F64) => Alu::F64(F64Op::Rcp, mode.round),
            ("sqrt", Type::F64) => Alu::F64(F64Op::Sqrt, mode.round),
            _ => return self.bad_ty(base, ty),
        };
        self.regular(alu, ops, ty, &[ty])
    }
}
