//! Conversions: cvt, cvt.pack, cvta, isspacep.

use super::decoder::Decoder;
use super::ir::*;
use super::mods::Mods;
use crate::numeric::Round;
use crate::numeric::cvt::{IntRound, IntType};
use crate::numeric::fp8::Fp8;
use crate::ptx::ast::Operand;
use crate::ptx::error::LoadResult;
use crate::ptx::types::{Space, Type};

fn int_type(ty: Type) -> Option<IntType> {
    Some(match ty {
        Type::U8 => IntType::U8,
        Type::S8 => IntType::S8,
        Type::U16 => IntType::U16,
        Type::S16 => IntType::S16,
        Type::U32 => IntType::U32,
        Type::S32 => IntType::S32,
        Type::U64 => IntType::U64,
        Type::S64 => IntType::S64,
        _ => return None,
    })
}

fn float_type(ty: Type) -> Option<CvtTy> {
    Some(match ty {
        Type::F16 => CvtTy::F16,
        Type::Bf16 => CvtTy::Bf16,
        Type::F32 => CvtTy::F32,
        Type::F64 => CvtTy::F64,
        _ => return None,
    })
}

fn fp8(ty: Type) -> Option<Fp8> {
    Some(match ty {
        Type::E4m3x2 => Fp8::E4m3,
        Type::E5m2x2 => Fp8::E5m2,
        _ => return None,
    })
}

impl<'a> Decoder<'_, 'a> {
    pub fn convert(
        &mut self,
        base: &str,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> LoadResult<bool> {
        match base {
            "cvt" => {
                if m.flag("pack") {
                    return self.cvt_pack(m, ops);
                }
                self.cvt(m, ops)
            }
            "cvta" => {
                let to = m.flag("to");
                let Some(space) = m.space() else {
                    return self.fail("`cvta` needs a space");
                };
                let ty = self.need_ty(m)?;
                if ty != Type::U64 {
                    return self.fail("only 64-bit addresses are supported");
                }
                self.count(ops, 2)?;
                let a = self.source(&ops[1], ty)?;
                let d = self.destination(&ops[0], ty)?;
                let window = match space {
                    Space::Shared => SHARED_WINDOW,
                    Space::Local => LOCAL_WINDOW,
                    // Parameters of a called function live in local memory.
                    Space::Param if self.in_function() => LOCAL_WINDOW,
                    Space::Param => PARAM_WINDOW,
                    _ => {
                        self.mov(d, a)?;
                        return Ok(true);
                    }
                };
                let f = if to { Int2::Sub } else { Int2::Add };
                let mut i = Instr::new(Op::Alu(Alu::Int2(f, IntTy::U64)));
                (i.d, i.a) = (d, a);
                i.b = self.constant(window, true);
                self.emit(i)?;
                Ok(true)
            }
            "isspacep" => {
                let Some(space) = m.space() else {
                    return self.fail("`isspacep` needs a space");
                };
                self.count(ops, 2)?;
                let mut i = Instr::new(Op::Alu(Alu::IsSpace(space)));
                i.a = self.source(&ops[1], Type::U64)?;
                i.pd = self.predicate_destination(&ops[0])?;
                self.emit(i)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// The source converted to its type's width, for registers wider than the type.
    fn cvt_source(&mut self, op: &Operand<'a>, ty: Type) -> LoadResult<R> {
        let r = self.source_any(op, ty)?;
        match (self.is_wide(r), ty.bits() == 64) {
            (true, false) => self.resize(r, false, false),
            (false, true) => self.fail(format!("operand {op} is narrower than the type")),
            _ => Ok(r),
        }
    }

    fn cvt_emit(&mut self, cvt: Cvt, to: Type, d: &Operand<'a>, sources: &[R]) -> LoadResult<bool> {
        let mut i = Instr::new(Op::Alu(Alu::Cvt(cvt)));
        for (slot, r) in [&mut i.a, &mut i.b, &mut i.c].into_iter().zip(sources) {
            *slot = *r;
        }
        let register = self.destination_any(d)?;
        let wide = to.bits() == 64;
        if register.is_none() || self.is_wide(register) == wide {
            i.d = if register.is_none() { self.temp(wide) } else { register };
            self.emit(i)?;
            return Ok(true);
        }
        if wide {
            return self.fail(format!("destination {d} is narrower than the type"));
        }
        i.d = self.temp(false);
        self.emit(i)?;
        self.resize_to(register, i.d, to.is_signed())?;
        Ok(true)
    }

    fn cvt(&mut self, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> LoadResult<bool> {
        let integral = m.pick(|p| {
            Some(match p {
                "rni" => IntRound::Rni,
                "rzi" => IntRound::Rzi,
                "rmi" => IntRound::Rmi,
                "rpi" => IntRound::Rpi,
                _ => return None,
            })
        });
        let round = m.round();
        let ftz = m.flag("ftz");
        let sat = m.flag("sat");
        let relu = m.flag("relu");
        let satfinite = m.flag("satfinite");
        let (to, from) = (self.need_ty(m)?, self.need_ty(m)?);
        let bad = |d: &Self| {
            d.fail(format!("cvt from {from:?} to {to:?} with these modifiers is not supported"))
        };
        if ops.len() < 2 {
            return self.fail("expected 2 operands");
        }
        // Two sources into a packed pair.
        if from == Type::F32
            && matches!(to, Type::F16x2 | Type::Bf16x2 | Type::E4m3x2 | Type::E5m2x2)
        {
            self.count(ops, 3)?;
            let sources = [self.source(&ops[1], from)?, self.source(&ops[2], from)?];
            let Some(round @ (Round::Rn | Round::Rz)) = round else {
                return bad(self);
            };
            let cvt = match fp8(to) {
                Some(to) if satfinite && round == Round::Rn => Cvt::PackFp8 { to, relu },
                Some(_) => return bad(self),
                None => Cvt::PackHalf { bf: to == Type::Bf16x2, round, relu, satfinite },
            };
            if ftz || sat || integral.is_some() {
                return bad(self);
            }
            return self.cvt_emit(cvt, to, &ops[0], &sources);
        }
        self.count(ops, 2)?;
        if let Some(to8) = fp8(to) {
            if from != Type::F16x2 || !satfinite || round != Some(Round::Rn) {
                return bad(self);
            }
            let a = self.source(&ops[1], from)?;
            return self.cvt_emit(Cvt::Fp8FromHalf { to: to8, relu }, to, &ops[0], &[a]);
        }
        if let Some(from8) = fp8(from) {
            if to != Type::F16x2 || round != Some(Round::Rn) {
                return bad(self);
            }
            let a = self.source(&ops[1], Type::B16)?;
            return self.cvt_emit(Cvt::Fp8ToHalf { from: from8, relu }, to, &ops[0], &[a]);
        }
        if to == Type::Tf32 {
            let Some(round @ (Round::Rna | Round::Rn | Round::Rz)) = round else {
                return bad(self);
            };
            if from != Type::F32 || ftz || sat {
                return bad(self);
            }
            let a = self.source(&ops[1], from)?;
            return self.cvt_emit(Cvt::Tf32 { round, relu, satfinite }, to, &ops[0], &[a]);
        }
        let a = self.cvt_source(&ops[1], from)?;
        let cvt = match (int_type(from), float_type(from), int_type(to), float_type(to)) {
            (Some(from), _, Some(to), _) if !relu && !satfinite => {
                // Rounding modifiers mean nothing between integers; ptxas refuses them too.
                if round.is_some() || integral.is_some() || ftz {
                    return bad(self);
                }
                Cvt::IntToInt { from, to, sat }
            }
            (Some(from), _, _, Some(to)) if !relu && !satfinite && integral.is_none() => {
                let Some(round) = round.filter(|r| *r != Round::Rna) else {
                    return bad(self);
                };
                Cvt::IntToFloat { from, to, round, sat }
            }
            (_, Some(from), Some(to), _) if !relu && round.is_none() => {
                let Some(round) = integral else {
                    return bad(self);
                };
                Cvt::FloatToInt { from, to, round, ftz }
            }
            (_, Some(f), _, Some(t)) => {
                if round == Some(Round::Rna) {
                    return bad(self);
                }
                let narrowing = f != t && to.bits() <= from.bits();
                if narrowing && round.is_none() {
                    return bad(self);
                }
                let mode = FloatMode { round: round.unwrap_or(Round::Rn), ftz, sat };
                Cvt::FloatToFloat { from: f, to: t, mode, integral, relu, satfinite }
            }
            _ => return bad(self),
        };
        self.cvt_emit(cvt, to, &ops[0], &[a])
    }

    /// cvt.pack
    fn cvt_pack(&mut self, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> LoadResult<bool> {
        if !m.flag("sat") {
            return self.fail("`cvt.pack` needs `.sat`");
        }
        let (to, from) = (self.need_ty(m)?, self.need_ty(m)?);
        let with_c = m.flag("b32") || ops.len() == 4;
        let to = match to {
            Type::U16 if !with_c => IntType::U16,
            Type::S16 if !with_c => IntType::S16,
            Type::U8 if with_c => IntType::U8,
            Type::S8 if with_c => IntType::S8,
            _ => return self.fail("`cvt.pack` is not supported for these types"),
        };
        if !matches!(from, Type::S32 | Type::U32) {
            return self.fail("`cvt.pack` is not supported for these types");
        }
        self.count(ops, if with_c { 4 } else { 3 })?;
        let mut sources = vec![self.source(&ops[1], from)?, self.source(&ops[2], from)?];
        if with_c {
            sources.push(self.source(&ops[3], Type::B32)?);
        }
        let cvt = Cvt::PackInt { to, from_signed: from == Type::S32, with_c };
        self.cvt_emit(cvt, Type::B32, &ops[0], &sources)
    }
}
