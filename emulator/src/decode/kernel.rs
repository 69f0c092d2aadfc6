//! One kernel from its statements to its program: every opcode and modifier is looked up by name and must be used up.

use super::decoder::{Decoder, Symbols};
use super::ir::{Instr, Op, Program};
use super::layout::place;
use super::mods::Mods;
use super::scope::{Scope, Sym};
use super::{alloc, copied, flow};
use crate::ptx::ast::{self, Param, Statement, Variable};
use crate::ptx::error::{self, LoadResult};
use crate::ptx::types::Space;

/// Decodes one kernel.
pub fn kernel<'a>(m: &Symbols<'a>, f: &'a ast::Function<'a>) -> LoadResult<Program> {
    let mut d = Decoder::new(m, f);
    let mut offset = 0;
    for param in &f.params {
        let Param::Memory(v) = param else {
            return d.fail("a kernel parameter cannot be a register");
        };
        let (at, end) =
            place(v, offset).ok_or_else(|| d.error(format!("`{}` has no size", v.name)))?;
        d.declare(v.name, Sym::Param(at))?;
        offset = end;
    }
    let Some(body) = &f.body else {
        return d.fail("this kernel has no body");
    };
    d.open_stack()?;
    d.scope(body)?;
    d.emit(Instr::new(Op::Exit))?;
    d.compile_subroutines()?;
    d.close_stack();
    d.finish()
}

impl<'a> Decoder<'_, 'a> {
    /// The statements of a block, in their own scope.
    pub(super) fn scope(&mut self, body: &'a [Statement<'a>]) -> LoadResult<()> {
        self.scopes.push(Scope::default());
        for s in body {
            // Labels and branch tables may be used before their definition.
            match s {
                Statement::Label { line, name } => {
                    self.line = *line;
                    let label = self.label();
                    self.declare(name, Sym::Label(label))?;
                }
                Statement::BranchTargets { line, name, labels } => {
                    self.line = *line;
                    self.declare(name, Sym::Targets(labels))?;
                }
                Statement::CallPrototype(prototype) => {
                    self.line = prototype.line;
                    self.declare(prototype.name, Sym::Prototype(prototype))?;
                }
                Statement::CallTargets { line, name, functions } => {
                    self.line = *line;
                    self.declare(name, Sym::CallTargets(functions))?;
                }
                _ => {}
            }
        }
        for s in body {
            self.statement(s)?;
        }
        self.scopes.pop();
        Ok(())
    }

    fn statement(&mut self, s: &'a Statement<'a>) -> LoadResult<()> {
        match s {
            Statement::Label { name, .. } => {
                if let Some(Sym::Label(label)) = self.lookup(name)? {
                    self.bind(label);
                }
            }
            Statement::Instruction(i) => self.instruction(i)?,
            Statement::Registers { line, ty, vector, names } => {
                self.line = *line;
                for (name, count) in names {
                    self.declare_registers(name, *count, *ty, *vector)?;
                }
            }
            Statement::Variable(v) => self.variable(v)?,
            Statement::Block(body) => self.scope(body)?,
            Statement::Loc(loc) => {
                let entry = (loc.file, loc.line);
                if self.p.locs.last() != Some(&entry) {
                    self.p.locs.push(entry);
                }
                self.loc = self.p.locs.len() as u32 - 1;
            }
            Statement::BranchTargets { .. }
            | Statement::CallPrototype(_)
            | Statement::CallTargets { .. } => {}
        }
        Ok(())
    }

    fn variable(&mut self, v: &'a Variable<'a>) -> LoadResult<()> {
        self.line = v.line;
        match v.space {
            Space::Local | Space::Param => {
                let offset = self.local(v)?;
                self.declare(v.name, Sym::Local(offset))
            }
            Space::Shared => {
                let sym = self.place_shared(v)?;
                self.declare(v.name, sym)
            }
            // Function-scope globals are placed with the module's; see `module.rs`.
            _ => match self.m.globals.get(v.name) {
                Some(&address) => self.declare(v.name, Sym::Global(address)),
                None => self.fail(format!("`{}` was not placed", v.name)),
            },
        }
    }

    fn instruction(&mut self, inst: &'a ast::Instruction<'a>) -> LoadResult<()> {
        self.line = inst.line;
        let mut parts = inst.opcode.split('.');
        let base = parts.next().unwrap_or("");
        let mut mods = Mods::new(parts.collect());
        if base != "call" {
            let start = self.p.code.len();
            self.opcode(base, &mut mods, &inst.operands)?;
            if let Some(left) = mods.left() {
                return self.fail(format!("modifier `.{left}` of `{base}` is not supported"));
            }
            if let Some((negated, name)) = inst.guard {
                let p = self.predicate_named(name)?;
                let p = if negated { p.negated() } else { p };
                for i in &mut self.p.code[start..] {
                    i.guard = p;
                }
            }
        } else {
            let after = self.label();
            if let Some((negated, name)) = inst.guard {
                let p = self.predicate_named(name)?;
                self.branch(after, if negated { p } else { p.negated() })?;
            }
            self.call(&mut mods, &inst.operands)?;
            self.bind(after);
        }
        Ok(())
    }

    fn opcode(
        &mut self,
        base: &str,
        mods: &mut Mods<'a>,
        ops: &'a [ast::Operand<'a>],
    ) -> LoadResult<()> {
        // A family returns false for opcodes that are not its own.
        if self.alu(base, mods, ops)?
            || self.convert(base, mods, ops)?
            || self.memory(base, mods, ops)?
            || self.control(base, mods, ops)?
            || self.sync(base, mods, ops)?
            || self.video(base, mods, ops)?
        {
            return Ok(());
        }
        self.fail(format!("instruction `{base}` is not supported"))
    }

    fn finish(mut self) -> LoadResult<Program> {
        let static_shared = self.shared_bytes;
        self.p.static_shared = static_shared;
        self.p.dynamic_offset = static_shared.next_multiple_of(self.dynamic_align);
        for &at in &self.dynamic_fixups {
            self.p.code[at].imm += i64::from(self.p.dynamic_offset);
        }
        for c in &mut self.p.consts {
            if c.dynamic_shared {
                c.value = c.value.wrapping_add(u64::from(self.p.dynamic_offset));
                if !c.wide {
                    c.value &= 0xffff_ffff;
                }
            }
        }
        let resolve = |label: i64| self.labels.get(label as usize).copied().flatten();
        for at in 0..self.p.code.len() {
            if matches!(self.p.code[at].op, Op::Bra | Op::Call) {
                // A call keeps the size of the caller's frame above its target.
                let imm = self.p.code[at].imm;
                match resolve(imm & 0xffff_ffff) {
                    Some(pc) => self.p.code[at].imm = imm & !0xffff_ffff | i64::from(pc),
                    None => {
                        self.line = self.p.code[at].line;
                        return self.fail("this label has no place");
                    }
                }
            }
        }
        let tables = self.p.tables.iter_mut().flatten();
        let called = self.p.call_tables.iter_mut().flatten().map(|(_, at)| at);
        for entry in tables.chain(called) {
            match self.labels.get(*entry as usize).copied().flatten() {
                Some(pc) => *entry = pc,
                None => {
                    return Err(error::error(
                        self.m.source,
                        self.line,
                        "a branch target has no place",
                    ));
                }
            }
        }
        copied::mark(&mut self.p, self.wide.len());
        flow::finish(&mut self.p);
        alloc::registers(&mut self.p, &self.wide);
        Ok(self.p)
    }
}
