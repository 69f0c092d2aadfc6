//! Matrix instructions: ldmatrix, stmatrix, movmatrix and mma.sync (PTX ISA, warp-level matrix instructions).

use super::decoder::Decoder;
use super::ir::*;
use super::mods::Mods;
use crate::numeric::mma::{Mma, MmaType};
use crate::ptx::ast::Operand;
use crate::ptx::error::LoadResult;
use crate::ptx::types::{Space, Type};

impl<'a> Decoder<'_, 'a> {
    /// ldmatrix and stmatrix
    pub(super) fn matrix_memory(
        &mut self,
        load: bool,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> LoadResult<bool> {
        self.need_sync("ldmatrix", m)?;
        if !(m.flag("aligned") && m.flag("m8n8")) {
            return self.fail("expected `.sync.aligned.m8n8`");
        }
        let count = match m.any(&["x1", "x2", "x4"]) {
            Some("x1") => 1,
            Some("x2") => 2,
            Some(_) => 4,
            None => return self.fail("`.x1`, `.x2` or `.x4` is missing"),
        };
        let trans = m.flag("trans");
        let space = m.space();
        if !matches!(space, None | Some(Space::Shared)) {
            return self.fail("the address must be in .shared");
        }
        if self.need_ty(m)? != Type::B16 {
            return self.fail("only .b16 matrices are supported");
        }
        self.count(ops, 2)?;
        let (registers, address) = if load { (&ops[0], &ops[1]) } else { (&ops[1], &ops[0]) };
        let parts = self.vector(registers)?;
        if parts.len() != count {
            return self.fail(format!("expected {count} registers, found {}", parts.len()));
        }
        let mut list = Vec::new();
        for part in &parts {
            list.push(if load {
                self.destination(part, Type::B32)?
            } else {
                self.source(part, Type::B32)?
            });
        }
        let address = self.address(address)?;
        let (count, generic, address64) = (count as u8, space.is_none(), address.wide);
        let mut i = Instr::new(if load {
            Op::LdMatrix { count, trans, generic, address64 }
        } else {
            Op::StMatrix { count, trans, generic, address64 }
        });
        if load {
            self.list(&mut i, &list, &[]);
        } else {
            self.list(&mut i, &[], &list);
        }
        self.set_address(&mut i, &address);
        self.emit(i)?;
        Ok(true)
    }

    pub(super) fn movmatrix(
        &mut self,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> LoadResult<bool> {
        self.need_sync("movmatrix", m)?;
        if !(m.flag("aligned") && m.flag("m8n8") && m.flag("trans") && m.flag("b16")) {
            return self.fail("expected `movmatrix.sync.aligned.m8n8.trans.b16`");
        }
        self.count(ops, 2)?;
        let mut i = Instr::new(Op::MovMatrix);
        i.a = self.source(&ops[1], Type::B32)?;
        i.d = self.destination(&ops[0], Type::B32)?;
        self.emit(i)?;
        Ok(true)
    }

    /// mma.sync
    pub(super) fn mma(&mut self, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> LoadResult<bool> {
        if m.any(&["sp", "sp::ordered_metadata"]).is_some() {
            return self.fail("`mma` of sparse matrices is not supported");
        }
        self.need_sync("mma", m)?;
        m.flag("aligned");
        let shape = m.any(&[
            "m16n8k4", "m16n8k8", "m16n8k16", "m16n8k32", "m16n8k64", "m8n8k4", "m8n8k16",
            "m8n8k32",
        ]);
        let Some(shape) = shape else {
            return self.fail("this shape of `mma` is not supported");
        };
        if !(m.flag("row") && m.flag("col")) {
            return self.fail("`mma` is supported with A by rows and B by columns");
        }
        let satfinite = m.flag("satfinite");
        let read = |m: &mut Mods| {
            m.pick(|p| {
                let t = mma_type(p);
                Some((Type::parse(p).or(t.map(|_| Type::B8))?, t))
            })
        };
        let (d, a, b, c) = (read(m), read(m), read(m), read(m));
        let (Some((d, _)), Some((a, at)), Some((b, bt)), Some((c, _))) = (d, a, b, c) else {
            return self.fail("`mma` needs four types");
        };
        self.count(ops, 4)?;
        let m8 = shape.starts_with("m8");
        let k = match shape.rsplit_once('k') {
            Some((_, "4")) => 4,
            Some((_, "8")) => 8,
            Some((_, "16")) => 16,
            Some((_, "32")) => 32,
            _ => 64,
        };
        if a == Type::F64 {
            if [b, c, d].iter().any(|t| *t != Type::F64) || k > if m8 { 4 } else { 16 } {
                return self.fail("this `mma` is not supported for these types");
            }
            m.flag("rn");
            let (halves, steps) = (if m8 { 1 } else { 2 }, usize::from(k) / 4);
            let op = Op::MmaF64 { rows16: !m8, k };
            let counts = [2 * halves, halves * steps, steps, 2 * halves];
            return self.mma_registers(op, ops, Type::F64, counts);
        }
        let (Some(at), Some(bt)) = (at, bt) else {
            return self.fail("this `mma` is not supported for these types");
        };
        let accumulators = if at.is_int() {
            c == Type::S32 && d == Type::S32
        } else {
            [c, d].iter().all(|t| matches!(t, Type::F32 | Type::F16))
        };
        let mma =
            Mma { k, a: at, b: bt, c_half: c == Type::F16, d_half: d == Type::F16, satfinite, m8 };
        if !accumulators || !mma.is_valid() {
            return self.fail("this `mma` is not supported for these types");
        }
        let counts = match m8 {
            true => [2, 1, 1, 2],
            false => [mma.d_regs(), mma.a_regs(), mma.b_regs(), mma.c_regs()],
        };
        self.mma_registers(Op::Mma(mma), ops, Type::B32, counts)
    }

    fn mma_registers(
        &mut self,
        op: Op,
        ops: &'a [Operand<'a>],
        ty: Type,
        counts: [usize; 4],
    ) -> LoadResult<bool> {
        let mut lists: [Vec<R>; 4] = Default::default();
        for (which, (op, n)) in ops.iter().zip(counts).enumerate() {
            let parts = self.vector(op)?;
            if parts.len() != n {
                return self.fail(format!("expected {n} registers, found {}", parts.len()));
            }
            for part in &parts {
                let r =
                    if which == 0 { self.destination(part, ty)? } else { self.source(part, ty)? };
                lists[which].push(r);
            }
        }
        let mut i = Instr::new(op);
        let [d, a, b, c] = lists;
        let uses: Vec<R> = a.into_iter().chain(b).chain(c).collect();
        self.list(&mut i, &d, &uses);
        self.emit(i)?;
        Ok(true)
    }
}

/// The type of a product's elements that a modifier names.
pub(super) fn mma_type(name: &str) -> Option<MmaType> {
    Some(match name {
        "f16" => MmaType::F16,
        "bf16" => MmaType::Bf16,
        "tf32" => MmaType::Tf32,
        "s8" => MmaType::S8,
        "u8" => MmaType::U8,
        "e4m3" => MmaType::E4m3,
        "e5m2" => MmaType::E5m2,
        "s4" => MmaType::S4,
        "u4" => MmaType::U4,
        _ => return None,
    })
}
