//! Syntax tree to [`Program`]: names become slots, labels become indices, calls become copies of the callee.
//!
//! Every opcode and modifier is looked up by name and must be used up: whatever is left over is an error with
//! its line, never a guess.

mod alloc;
mod alu;
mod alu_ops;
mod arithmetic;
mod call;
mod control;
mod convert;
mod copied;
mod flow;
pub mod ir;
mod memory;
mod mods;
mod names;
mod ops;
mod sync;
mod video;
mod wmma;

use crate::ptx::ast::{self, Param, Statement, Variable};
use crate::ptx::error::{self, LoadError, Result};
use crate::ptx::types::Space;
use ir::{Const, Instr, Op, P, Program, R};
use mods::Mods;
use names::{Scope, Sym};
use std::collections::HashMap;

/// Calls may nest this deep.
const MAX_CALLS: usize = 24;
/// A kernel with its calls copied in may have this many instructions.
const MAX_CODE: usize = 1 << 20;
/// And this many calls.
const MAX_COPIES: u32 = 1 << 16;

/// What the whole module declares.
pub struct Symbols<'a> {
    pub source: &'a str,
    pub globals: HashMap<&'a str, u64>,
    pub shared: HashMap<&'a str, Variable<'a>>,
    pub functions: HashMap<&'a str, &'a ast::Function<'a>>,
    /// Functions whose address is taken, with the number that stands for it.
    pub addresses: Vec<(&'a str, u64)>,
    /// Some function has an `alloca`.
    pub allocates: bool,
    pub files: HashMap<u32, String>,
}

pub struct Decoder<'m, 'a> {
    m: &'m Symbols<'a>,
    p: Program,
    scopes: Vec<Scope<'a>>,
    /// The current function's outermost scope: name lookup stops there.
    base: usize,
    /// For each virtual register: is it 64 bits wide?
    wide: Vec<bool>,
    consts: HashMap<Const, R>,
    labels: Vec<Option<u32>>,
    shared: HashMap<&'a str, Sym<'a>>,
    shared_bytes: u32,
    dynamic_align: u32,
    /// Instructions whose `imm` is relative to dynamic shared memory.
    dynamic_fixups: Vec<usize>,
    /// Where `ret` goes inside a called function.
    return_label: Option<usize>,
    calls: Vec<&'a str>,
    subroutines: call::Subroutines<'a>,
    copies: u32,
    /// Where the next `alloca` begins, in modules that have one.
    stack: Option<R>,
    line: u32,
    loc: u32,
}

/// Decodes one kernel.
pub fn kernel<'a>(m: &Symbols<'a>, f: &'a ast::Function<'a>) -> Result<Program> {
    let mut d = Decoder {
        m,
        p: Program { predicates: 1, files: m.files.clone(), ..Program::default() },
        scopes: vec![Scope::default()],
        base: 0,
        wide: Vec::new(),
        consts: HashMap::new(),
        labels: Vec::new(),
        shared: HashMap::new(),
        shared_bytes: 0,
        dynamic_align: 16,
        dynamic_fixups: Vec::new(),
        return_label: None,
        calls: vec![f.name],
        subroutines: call::Subroutines::default(),
        copies: 0,
        stack: None,
        line: f.line,
        loc: u32::MAX,
    };
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

/// Offset and end of a parameter that follows `offset` bytes of others.
pub fn place(v: &Variable, offset: u32) -> Option<(u32, u32)> {
    let at = offset.checked_next_multiple_of(v.align.max(1))?;
    let size = u32::try_from(v.size?).ok().filter(|&n| n <= 1 << 16)?;
    Some((at, at.checked_add(size)?))
}

impl<'a> Decoder<'_, 'a> {
    fn error(&self, message: impl Into<String>) -> LoadError {
        error::error(self.m.source, self.line, message)
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(self.error(message))
    }

    fn emit(&mut self, mut i: Instr) -> Result<()> {
        if self.p.code.len() >= MAX_CODE {
            return self.fail("the kernel is too large once its calls are copied in");
        }
        i.line = self.line;
        i.loc = self.loc;
        self.p.code.push(i);
        Ok(())
    }

    fn list(&mut self, i: &mut Instr, defs: &[R], uses: &[R]) {
        i.list = self.p.lists.len() as u32;
        i.defs = defs.len() as u8;
        i.uses = uses.len() as u8;
        self.p.lists.extend_from_slice(defs);
        self.p.lists.extend_from_slice(uses);
    }

    fn temp(&mut self, wide: bool) -> R {
        self.wide.push(wide);
        R(self.wide.len() as u32 - 1)
    }

    fn is_wide(&self, r: R) -> bool {
        if r.is_none() {
            return false;
        }
        match r.is_const() {
            true => self.p.consts[(r.0 & !R::CONST) as usize].wide,
            false => self.wide[r.0 as usize],
        }
    }

    fn constant(&mut self, value: u64, wide: bool) -> R {
        self.constant_entry(Const {
            value: if wide { value } else { value & 0xffff_ffff },
            wide,
            dynamic_shared: false,
        })
    }

    fn constant_entry(&mut self, entry: Const) -> R {
        if let Some(&r) = self.consts.get(&entry) {
            return r;
        }
        let r = R(self.p.consts.len() as u32 | R::CONST);
        self.p.consts.push(entry);
        self.consts.insert(entry, r);
        r
    }

    fn predicate(&mut self) -> Result<P> {
        if self.p.predicates >= 0x7ff0 {
            return self.fail("too many predicate registers");
        }
        self.p.predicates += 1;
        Ok(P(self.p.predicates - 1))
    }

    fn label(&mut self) -> usize {
        self.labels.push(None);
        self.labels.len() - 1
    }

    fn bind(&mut self, label: usize) {
        self.labels[label] = Some(self.p.code.len() as u32);
    }

    fn branch(&mut self, label: usize, guard: P) -> Result<()> {
        let mut i = Instr::new(Op::Bra);
        i.imm = label as i64;
        i.guard = guard;
        self.emit(i)
    }

    /// The statements of a block, in a scope of their own.
    fn scope(&mut self, body: &'a [Statement<'a>]) -> Result<()> {
        self.scopes.push(Scope::default());
        for s in body {
            // Labels and branch tables may be used before they stand.
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

    fn statement(&mut self, s: &'a Statement<'a>) -> Result<()> {
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

    fn variable(&mut self, v: &'a Variable<'a>) -> Result<()> {
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

    /// Room in the thread's local memory.
    fn local(&mut self, v: &Variable) -> Result<u32> {
        let at = self.p.local_bytes.checked_next_multiple_of(v.align.max(1));
        let size = v.size.and_then(|n| u32::try_from(n).ok());
        let end = at.zip(size).and_then(|(at, n)| at.checked_add(n));
        match (at, end) {
            (Some(at), Some(end)) if end <= 512 << 10 => {
                self.p.local_bytes = end;
                Ok(at)
            }
            _ => self.fail("more than 512 KiB of local memory a thread"),
        }
    }

    fn place_shared(&mut self, v: &Variable<'a>) -> Result<Sym<'a>> {
        let Some(size) = v.size.filter(|&n| n > 0 || !v.external) else {
            self.p.uses_dynamic = true;
            self.dynamic_align = self.dynamic_align.max(v.align);
            return Ok(Sym::Dynamic);
        };
        let at = self.shared_bytes.checked_next_multiple_of(v.align.max(1));
        match at.and_then(|at| at.checked_add(u32::try_from(size).ok()?)) {
            Some(end) if end <= 1 << 24 => {
                self.shared_bytes = end;
                Ok(Sym::Shared(end - size as u32))
            }
            _ => self.fail("too much shared memory"),
        }
    }

    fn instruction(&mut self, inst: &'a ast::Instruction<'a>) -> Result<()> {
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
        // Filled with the text at the end, in one pass over the source.
        self.p.lines.entry(inst.line).or_default();
        Ok(())
    }

    fn opcode(
        &mut self,
        base: &str,
        mods: &mut Mods<'a>,
        ops: &'a [ast::Operand<'a>],
    ) -> Result<()> {
        // A family answers false for opcodes that are not its own.
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

    fn finish(mut self) -> Result<Program> {
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
                        return self.fail("this label stands nowhere");
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
                        "a branch target stands nowhere",
                    ));
                }
            }
        }
        for (n, text) in (1u32..).zip(self.m.source.lines()) {
            if let Some(entry) = self.p.lines.get_mut(&n) {
                *entry = text.trim().to_string();
            }
        }
        copied::mark(&mut self.p, self.wide.len());
        flow::finish(&mut self.p);
        alloc::registers(&mut self.p, &self.wide);
        Ok(self.p)
    }
}
