//! Logic, comparison, selection, bit fields and moves, and the way to arithmetic.

use super::Decoder;
use super::ir::*;
use super::mods::Mods;
use super::names::Sym;
use crate::numeric::cmp::Cmp;
use crate::numeric::f32ops::TestP;
use crate::numeric::logic::PrmtMode;
use crate::ptx::ast::Operand;
use crate::ptx::error::Result;
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
        Type::F16 => HalfTy { bf: false, x2: false },
        Type::F16x2 => HalfTy { bf: false, x2: true },
        Type::Bf16 => HalfTy { bf: true, x2: false },
        Type::Bf16x2 => HalfTy { bf: true, x2: true },
        _ => return None,
    })
}

/// The type one size up, for `.wide`.
pub fn wider(ty: Type) -> Type {
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

    pub fn bad_ty<T>(&self, base: &str, ty: Type) -> Result<T> {
        self.fail(format!("`{base}` is not supported for type {ty:?}"))
    }

    /// d, then sources, all with their own types.
    pub fn regular(
        &mut self,
        alu: Alu,
        ops: &[Operand<'a>],
        to: Type,
        from: &[Type],
    ) -> Result<bool> {
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

    /// mov
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
        if let (Some(to), Some(from)) =
            (self.vector_register(&ops[0])?, self.vector_register(&ops[1])?)
            && to.len() == from.len()
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

    /// set and setp, and their half forms.
    fn compare(&mut self, base: &str, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> Result<bool> {
        let Some(cmp) = m.pick(Cmp::from_name) else {
            return self.fail("a comparison is missing");
        };
        let combine = m.bool_op();
        let ftz = m.flag("ftz");
        let first = self.need_ty(m)?;
        let from = if base == "set" { self.need_ty(m)? } else { first };
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
            Alu::Set { cmp, ty, combine, to }
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
}
