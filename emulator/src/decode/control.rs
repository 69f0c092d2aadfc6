//! Control flow and instructions without effect here (PTX ISA, control flow, stack manipulation and miscellaneous
//! instructions).

use super::decoder::Decoder;
use super::ir::*;
use super::mods::Mods;
use super::scope::Sym;
use crate::ptx::ast::Operand;
use crate::ptx::error::LoadResult;
use crate::ptx::types::Type;

/// Local memory per thread for its own allocations.
const ALLOCA_BYTES: u32 = 16 << 10;

impl<'a> Decoder<'_, 'a> {
    pub fn control(
        &mut self,
        base: &str,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> LoadResult<bool> {
        let simple = match base {
            "bra" => {
                m.flag("uni");
                self.count(ops, 1)?;
                let Operand::Name(name) = &ops[0] else {
                    return self.fail("expected a label");
                };
                let Some(Sym::Label(label)) = self.lookup(name)? else {
                    return self.fail(format!("label `{name}` is not defined"));
                };
                self.branch(label, P::NONE)?;
                return Ok(true);
            }
            "brx" => {
                if !m.flag("idx") {
                    return self.fail("only `brx.idx` is known");
                }
                m.flag("uni");
                self.count(ops, 2)?;
                let Operand::Name(name) = &ops[1] else {
                    return self.fail("expected a list of targets");
                };
                let Some(Sym::Targets(names)) = self.lookup(name)? else {
                    return self.fail(format!("`{name}` is not a list of branch targets"));
                };
                let mut table = Vec::new();
                for name in names {
                    match self.lookup(name)? {
                        Some(Sym::Label(label)) => table.push(label as u32),
                        _ => return self.fail(format!("label `{name}` is not defined")),
                    }
                }
                let mut i = Instr::new(Op::BrxIdx);
                i.a = self.source(&ops[0], Type::U32)?;
                i.imm = self.p.tables.len() as i64;
                self.p.tables.push(table);
                self.emit(i)?;
                return Ok(true);
            }
            "ret" => {
                m.flag("uni");
                match self.return_label {
                    Some(label) => {
                        self.branch(label, P::NONE)?;
                        return Ok(true);
                    }
                    None if self.subroutines.current.is_some() => Op::Ret,
                    None => Op::Exit,
                }
            }
            "exit" => Op::Exit,
            "trap" | "brkpt" => Op::Trap,
            // A hint to a profiler.
            "pmevent" => {
                m.flag("mask");
                self.count(ops, 1)?;
                self.emit(Instr::new(Op::Nop))?;
                return Ok(true);
            }
            "griddepcontrol" => {
                match m.any(&["launch_dependents", "wait"]) {
                    Some("wait") => Op::GridWait,
                    // When the next launch begins makes no difference here.
                    Some(_) => Op::Nop,
                    None => return self.fail("`griddepcontrol` needs an action"),
                }
            }
            "setmaxnreg" => return self.set_max_registers(m, ops),
            "alloca" => return self.alloca(m, ops),
            "stacksave" | "stackrestore" => {
                let wide = self.need_ty(m)?.bits() == 64;
                self.count(ops, 1)?;
                let Some(stack) = self.stack else {
                    return self.fail("no stack");
                };
                let ty = if wide { Type::U64 } else { Type::U32 };
                if base == "stacksave" {
                    let d = self.destination(&ops[0], ty)?;
                    let value = self.resize(stack, wide, false)?;
                    self.mov(d, value)?;
                } else {
                    let value = self.source(&ops[0], ty)?;
                    let value = self.resize(value, false, false)?;
                    self.mov(stack, value)?;
                }
                return Ok(true);
            }
            "nanosleep" => {
                self.need_ty(m)?;
                self.count(ops, 1)?;
                let mut i = Instr::new(Op::NanoSleep);
                i.a = self.source(&ops[0], Type::U32)?;
                self.emit(i)?;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        self.count(ops, 0)?;
        self.emit(Instr::new(simple))?;
        Ok(true)
    }

    /// Creates the register that says where the next `alloca` begins; its value is known at the end.
    pub(super) fn open_stack(&mut self) -> LoadResult<()> {
        if self.m.allocates {
            let stack = self.temp(false);
            let start = self.constant(0, false);
            self.mov(stack, start)?;
            self.stack = Some(stack);
        }
        Ok(())
    }

    /// Room for `alloca` after the rest of local memory.
    pub(super) fn close_stack(&mut self) {
        let Some(stack) = self.stack else { return };
        let start = self.p.local_bytes.next_multiple_of(16);
        self.p.local_bytes = start + ALLOCA_BYTES;
        self.p.code[0].a = self.constant(start.into(), false);
        if !self.p.saved.is_empty() {
            // A return releases what the function allocated.
            self.p.saved.push((stack, false));
        }
    }

    /// alloca: the size rounded up to 16 bytes, and aligned further if requested.
    fn alloca(&mut self, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> LoadResult<bool> {
        let wide = self.need_ty(m)?.bits() == 64;
        let ty = if wide { Type::U64 } else { Type::U32 };
        let align = match ops.get(2) {
            Some(Operand::Immediate(n)) => n.int().unwrap_or(0) as u64,
            _ => 16,
        };
        if !matches!(ops.len(), 2 | 3) || !align.is_power_of_two() {
            return self.fail("the operands of `alloca` do not fit");
        }
        let Some(stack) = self.stack else {
            return self.fail("no stack");
        };
        let size = self.source(&ops[1], ty)?;
        let size = self.resize(size, false, false)?;
        let d = self.destination(&ops[0], ty)?;
        let start = self.rounded_up(stack, align.max(16))?;
        let value = self.resize(start, wide, false)?;
        let size = self.rounded_up(size, 16)?;
        self.mov(d, value)?;
        let mut i = Instr::new(Op::Alu(Alu::Int2(Int2::Add, IntTy::U32)));
        (i.a, i.b, i.d) = (start, size, stack);
        self.emit(i)?;
        Ok(true)
    }

    fn rounded_up(&mut self, r: R, to: u64) -> LoadResult<R> {
        let mut i = Instr::new(Op::Alu(Alu::Int2(Int2::Add, IntTy::U32)));
        i.a = r;
        i.b = self.constant(to - 1, false);
        i.d = self.temp(false);
        let sum = i.d;
        self.emit(i)?;
        let mut i = Instr::new(Op::Alu(Alu::Bit(Bit2::And, Width::W32)));
        i.a = sum;
        i.b = self.constant(!(to - 1), false);
        i.d = self.temp(false);
        let out = i.d;
        self.emit(i)?;
        Ok(out)
    }
}
