//! Control flow and instructions without effect here (PTX ISA 9.7.13 and 9.7.20).

use super::ir::*;
use super::mods::Mods;
use super::names::Sym;
use super::{Decoder, Result};
use crate::ptx::ast::Operand;
use crate::ptx::types::Type;

impl<'a> Decoder<'_, 'a> {
    pub fn control(
        &mut self,
        base: &str,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> Result<bool> {
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
            // A hint to a profiler; dependent launches and register reallocation have no effect here.
            "pmevent" => {
                m.flag("mask");
                self.count(ops, 1)?;
                self.emit(Instr::new(Op::Nop))?;
                return Ok(true);
            }
            "griddepcontrol" => {
                if m.any(&["launch_dependents", "wait"]).is_none() {
                    return self.fail("`griddepcontrol` needs an action");
                }
                Op::Nop
            }
            "setmaxnreg" => {
                m.any(&["inc", "dec"]);
                m.flag("sync");
                m.flag("aligned");
                m.ty();
                self.count(ops, 1)?;
                self.emit(Instr::new(Op::Nop))?;
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
}
