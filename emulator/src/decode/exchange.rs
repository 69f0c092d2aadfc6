//! Warp-wide exchange: shfl, vote, match, redux, elect, activemask.

use super::decoder::Decoder;
use super::ir::*;
use super::mods::Mods;
use crate::ptx::ast::Operand;
use crate::ptx::error::LoadResult;
use crate::ptx::types::Type;

impl<'a> Decoder<'_, 'a> {
    pub(super) fn exchange(
        &mut self,
        base: &str,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> LoadResult<bool> {
        match base {
            "shfl" => {
                self.need_sync(base, m)?;
                let mode = match m.any(&["up", "down", "bfly", "idx"]) {
                    Some("up") => Shfl::Up,
                    Some("down") => Shfl::Down,
                    Some("bfly") => Shfl::Bfly,
                    Some(_) => Shfl::Idx,
                    None => return self.fail("`shfl` needs a mode"),
                };
                self.need_b32(m)?;
                self.count(ops, 5)?;
                let mut i = Instr::new(Op::Shfl(mode));
                i.a = self.source(&ops[1], Type::B32)?;
                i.b = self.source(&ops[2], Type::B32)?;
                i.c = self.source(&ops[3], Type::B32)?;
                let mask = self.source(&ops[4], Type::B32)?;
                self.pair(&mut i, &ops[0], Type::B32)?;
                self.list(&mut i, &[], &[mask]);
                self.emit(i)?;
                Ok(true)
            }
            "vote" => {
                self.need_sync(base, m)?;
                let mode = match m.any(&["all", "any", "uni", "ballot"]) {
                    Some("all") => Vote::All,
                    Some("any") => Vote::Any,
                    Some("uni") => Vote::Uni,
                    Some(_) => Vote::Ballot,
                    None => return self.fail("`vote` needs a mode"),
                };
                self.need_ty(m)?;
                self.count(ops, 3)?;
                let mut i = Instr::new(Op::Vote(mode));
                i.ps = self.predicate_source(&ops[1])?;
                i.a = self.source(&ops[2], Type::B32)?;
                if mode == Vote::Ballot {
                    i.d = self.destination(&ops[0], Type::B32)?;
                } else {
                    i.pd = self.predicate_destination(&ops[0])?;
                }
                self.emit(i)?;
                Ok(true)
            }
            "match" => {
                let all = m.flag("all");
                if !all && !m.flag("any") {
                    return self.fail("`match` needs `.any` or `.all`");
                }
                self.need_sync(base, m)?;
                let ty = self.need_ty(m)?;
                if !matches!(ty, Type::B32 | Type::B64) {
                    return self.fail("`match` takes .b32 or .b64");
                }
                self.count(ops, 3)?;
                let mut i = Instr::new(Op::Match { all, wide: ty == Type::B64 });
                i.a = self.source(&ops[1], ty)?;
                i.b = self.source(&ops[2], Type::B32)?;
                self.pair(&mut i, &ops[0], Type::B32)?;
                self.emit(i)?;
                Ok(true)
            }
            "redux" => {
                self.need_sync(base, m)?;
                let f = m.any(&["add", "min", "max", "and", "or", "xor"]);
                let abs = m.flag("abs");
                let nan = m.flag("NaN");
                let ty = self.need_ty(m)?;
                let f = match (f, ty) {
                    (Some("add"), Type::U32 | Type::S32) => Redux::AddU,
                    (Some("min"), Type::U32) => Redux::MinU,
                    (Some("max"), Type::U32) => Redux::MaxU,
                    (Some("min"), Type::S32) => Redux::MinS,
                    (Some("max"), Type::S32) => Redux::MaxS,
                    (Some("and"), Type::B32) => Redux::And,
                    (Some("or"), Type::B32) => Redux::Or,
                    (Some("xor"), Type::B32) => Redux::Xor,
                    (Some("min"), Type::F32) => Redux::MinF { abs, nan },
                    (Some("max"), Type::F32) => Redux::MaxF { abs, nan },
                    _ => return self.fail("this reduction does not exist"),
                };
                self.count(ops, 3)?;
                let mut i = Instr::new(Op::Redux(f));
                i.a = self.source(&ops[1], ty)?;
                i.b = self.source(&ops[2], Type::B32)?;
                i.d = self.destination(&ops[0], ty)?;
                self.emit(i)?;
                Ok(true)
            }
            "activemask" => {
                self.need_b32(m)?;
                self.count(ops, 1)?;
                let mut i = Instr::new(Op::ActiveMask);
                i.d = self.destination(&ops[0], Type::B32)?;
                self.emit(i)?;
                Ok(true)
            }
            "elect" => {
                self.need_sync(base, m)?;
                self.count(ops, 2)?;
                let mut i = Instr::new(Op::Elect);
                i.a = self.source(&ops[1], Type::B32)?;
                self.pair(&mut i, &ops[0], Type::B32)?;
                self.emit(i)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn need_b32(&self, m: &mut Mods) -> LoadResult<()> {
        if self.need_ty(m)? != Type::B32 {
            return self.fail("the type must be .b32");
        }
        Ok(())
    }
}
