//! mov: registers, predicates, addresses, and vectors packed into a register and unpacked.

use super::decoder::Decoder;
use super::ir::*;
use super::mods::Mods;
use super::scope::Sym;
use crate::ptx::ast::Operand;
use crate::ptx::error::LoadResult;
use crate::ptx::types::Type;

impl<'a> Decoder<'_, 'a> {
    pub(super) fn predicate_move(&mut self, ops: &[Operand<'a>], negate: bool) -> LoadResult<bool> {
        self.count(ops, 2)?;
        let mut i = Instr::new(Op::Alu(Alu::PredMov));
        let p = self.predicate_source(&ops[1])?;
        i.ps = if negate { p.negated() } else { p };
        i.pd = self.predicate_destination(&ops[0])?;
        self.emit(i)?;
        Ok(true)
    }

    /// mov
    pub(super) fn move_(&mut self, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> LoadResult<bool> {
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
        // A label's address is useful only to an indirect branch, which takes tables.
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

    fn pack_shape(&self, ty: Type, parts: usize) -> LoadResult<()> {
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
}
