//! wgmma and setmaxnreg: instructions for warpgroups, which exist only on `sm_90a`.

use super::decoder::Decoder;
use super::ir::*;
use super::mods::Mods;
use super::tensor::mma_type;
use crate::numeric::mma::{Mma, MmaType};
use crate::ptx::ast::{Immediate, Operand};
use crate::ptx::error::LoadResult;
use crate::ptx::types::Type;

impl<'a> Decoder<'_, 'a> {
    /// Refuses by name what only architecture-specific code may use.
    pub(super) fn need_specific(&self, what: &str, families: &[u32]) -> LoadResult<()> {
        if self.m.specific.is_some_and(|sm| families.contains(&(sm / 10))) {
            return Ok(());
        }
        self.fail(format!("`{what}` needs `.target sm_{}a`", families[0] * 10))
    }

    pub(super) fn wgmma(&mut self, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> LoadResult<bool> {
        self.need_specific("wgmma", &[9])?;
        let what = m.any(&["fence", "commit_group", "wait_group", "mma_async"]);
        if m.flag("sp") {
            return self.fail("`wgmma` of sparse matrices is not supported");
        }
        self.need_sync("wgmma", m)?;
        if !m.flag("aligned") {
            return self.fail("`wgmma` needs `.aligned`");
        }
        match what {
            Some("mma_async") => return self.product(m, ops),
            Some("wait_group") => {
                self.count(ops, 1)?;
                let mut i = Instr::new(Op::WgmmaWait);
                i.imm = self.small("the number of groups", &ops[0], 0..=7)?;
                self.emit(i)?;
            }
            Some("fence") => {
                self.count(ops, 0)?;
                self.emit(Instr::new(Op::WgmmaFence))?;
            }
            Some(_) => {
                self.count(ops, 0)?;
                self.emit(Instr::new(Op::WgmmaCommit))?;
            }
            None => return self.fail("this `wgmma` instruction is not known"),
        }
        Ok(true)
    }

    /// A constant operand within bounds.
    fn small(
        &self,
        what: &str,
        op: &Operand,
        bounds: std::ops::RangeInclusive<i64>,
    ) -> LoadResult<i64> {
        match op {
            Operand::Immediate(Immediate::Int(n)) if bounds.contains(&(*n as i64)) => Ok(*n as i64),
            _ => self.fail(format!(
                "{what} must be a constant from {} to {}",
                bounds.start(),
                bounds.end()
            )),
        }
    }

    /// The type of an operand's elements.
    fn element(&self, m: &mut Mods<'a>) -> LoadResult<MmaType> {
        let ty = m.pick(mma_type).filter(|ty| !matches!(ty, MmaType::S4 | MmaType::U4));
        match ty {
            Some(ty) => Ok(ty),
            None => self.fail("`wgmma` is not supported for operands of this type"),
        }
    }

    fn product(&mut self, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> LoadResult<bool> {
        let shape = m.pick(|p| {
            let (n, k) = p.strip_prefix("m64n")?.split_once('k')?;
            Some((n.parse::<u16>().ok()?, k.parse::<u8>().ok()?))
        });
        let Some((n, k)) = shape.filter(|(n, _)| n % 8 == 0 && (8..=256).contains(n)) else {
            return self.fail("this shape of `wgmma` does not exist");
        };
        let satfinite = m.flag("satfinite");
        let (d, a, b) = (self.need_ty(m)?, self.element(m)?, self.element(m)?);
        let half = d == Type::F16;
        let unit = Mma { k, a, b, c_half: half, d_half: half, satfinite, m8: false };
        let sums = match (a.is_int(), d) {
            (true, Type::S32) => n % 16 == 0 || matches!(n, 8 | 24),
            (false, Type::F32 | Type::F16) => true,
            _ => false,
        };
        if !unit.is_valid() || usize::from(k) != 8 * a.per_word() || !sums {
            return self.fail("`wgmma` does not exist for these types and this shape");
        }
        // Only some types have these: signs of both sides, and an order of the elements.
        let signs = !a.is_int();
        let turns = matches!(a, MmaType::F16 | MmaType::Bf16);
        let Some(a_op) = ops.get(1) else {
            return self.fail("the operands of `wgmma` are missing");
        };
        let a_registers =
            matches!(a_op, Operand::Vector(_)) || self.vector_register(a_op)?.is_some();
        let tail = match (signs, turns, a_registers) {
            (_, true, false) => 4,
            (_, true, true) => 3,
            (true, false, _) => 2,
            _ => 0,
        };
        self.count(ops, 4 + tail)?;
        let count = usize::from(n) / if half { 4 } else { 2 };
        let mut sums = Vec::new();
        for part in &self.vector(&ops[0])? {
            if matches!(part, Operand::Name("_")) {
                return self.fail("a sum of `wgmma` needs a register");
            }
            sums.push(self.destination(part, Type::B32)?);
        }
        if sums.len() != count {
            return self.fail(format!("expected {count} registers, found {}", sums.len()));
        }
        let mut distinct: Vec<u32> = sums.iter().map(|r| r.0).collect();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() != count {
            return self.fail("a register occurs twice among the sums");
        }
        let mut i = Instr::new(Op::Nop);
        let mut uses = sums.clone();
        if a_registers {
            let parts = match self.vector_register(a_op)? {
                Some(parts) => parts,
                None => {
                    let parts = self.vector(a_op)?;
                    let read = |part| self.source(part, Type::B32);
                    parts.iter().map(read).collect::<LoadResult<Vec<R>>>()?
                }
            };
            if parts.len() != 4 {
                return self.fail(format!("expected 4 registers of A, found {}", parts.len()));
            }
            uses.extend(parts);
        } else {
            i.a = self.source(a_op, Type::B64)?;
        }
        i.b = self.source(&ops[2], Type::B64)?;
        i.ps = self.predicate_source(&ops[3])?;
        let sign = |op: &Operand| -> LoadResult<bool> {
            match self.small("a scale", op, -1..=1)? {
                0 => self.fail("a scale must be 1 or -1"),
                n => Ok(n < 0),
            }
        };
        let negate = signs && sign(&ops[4])? != sign(&ops[5])?;
        let turn = |op: &Operand| -> LoadResult<bool> {
            Ok(self.small("a transposition", op, 0..=1)? != 0)
        };
        let (trans_a, trans_b) = match (turns, a_registers) {
            (false, _) => (false, false),
            (true, true) => (false, turn(&ops[6])?),
            (true, false) => (turn(&ops[6])?, turn(&ops[7])?),
        };
        i.op = Op::Wgmma(Wgmma { n, unit, a_registers, negate, trans_a, trans_b });
        i.class = i.op.class();
        self.list(&mut i, &sums, &uses);
        self.emit(i)?;
        Ok(true)
    }

    pub(super) fn set_max_registers(
        &mut self,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> LoadResult<bool> {
        self.need_specific("setmaxnreg", &[9, 10, 11, 12])?;
        let more = match m.any(&["inc", "dec"]) {
            Some(way) => way == "inc",
            None => return self.fail("`setmaxnreg` needs `.inc` or `.dec`"),
        };
        self.need_sync("setmaxnreg", m)?;
        m.flag("aligned");
        if self.need_ty(m)? != Type::U32 {
            return self.fail("`setmaxnreg` takes .u32");
        }
        self.count(ops, 1)?;
        let mut i = Instr::new(Op::SetMaxRegisters { more });
        i.imm = self.small("the number of registers", &ops[0], 24..=256)?;
        if i.imm % 8 != 0 {
            return self.fail("the number of registers must be a multiple of 8");
        }
        self.emit(i)?;
        Ok(true)
    }
}
