//! set and setp: comparisons of every type (PTX ISA, comparison and selection instructions).

use super::decoder::Decoder;
use super::ir::*;
use super::mods::Mods;
use super::types::{half_ty, int_ty};
use crate::numeric::cmp::Cmp;
use crate::ptx::ast::Operand;
use crate::ptx::error::LoadResult;
use crate::ptx::types::Type;

impl<'a> Decoder<'_, 'a> {
    /// set and setp, and their half forms.
    pub(super) fn compare(
        &mut self,
        base: &str,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> LoadResult<bool> {
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
