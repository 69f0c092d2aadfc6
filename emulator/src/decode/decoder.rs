//! A kernel being decoded: the program so far, and what its next instruction needs to know.

use super::ir::{Const, Instr, Op, P, Program, R};
use super::scope::{Scope, Sym};
use super::subroutine::Subroutines;
use crate::ptx::ast::{self, Variable};
use crate::ptx::error::{self, LoadError, LoadResult};
use std::collections::HashMap;
use std::sync::Arc;

/// A kernel with its calls inlined may have this many instructions.
const MAX_CODE: usize = 1 << 20;

/// Everything the whole module declares.
pub struct Symbols<'a> {
    pub source: &'a str,
    /// The same, for reports that outlive it.
    pub kept: Arc<str>,
    pub globals: HashMap<&'a str, u64>,
    pub shared: HashMap<&'a str, Variable<'a>>,
    pub functions: HashMap<&'a str, &'a ast::Function<'a>>,
    /// Functions whose address is taken, with the number that represents it.
    pub addresses: Vec<(&'a str, u64)>,
    /// Some function has an `alloca`.
    pub allocates: bool,
    /// From `.version`.
    pub version: (u32, u32),
    /// The only architecture that this code is for.
    pub specific: Option<u32>,
    pub files: HashMap<u32, String>,
}

/// What is known of a kernel while its statements are decoded.
pub struct Decoder<'m, 'a> {
    pub(super) m: &'m Symbols<'a>,
    pub(super) p: Program,
    pub(super) scopes: Vec<Scope<'a>>,
    /// The current function's outermost scope: name lookup stops there.
    pub(super) base: usize,
    /// For each virtual register: is it 64 bits wide?
    pub(super) wide: Vec<bool>,
    pub(super) consts: HashMap<Const, R>,
    pub(super) labels: Vec<Option<u32>>,
    pub(super) shared: HashMap<&'a str, Sym<'a>>,
    pub(super) shared_bytes: u32,
    pub(super) dynamic_align: u32,
    /// Instructions whose `imm` is relative to dynamic shared memory.
    pub(super) dynamic_fixups: Vec<usize>,
    /// Target of `ret` inside a called function.
    pub(super) return_label: Option<usize>,
    pub(super) calls: Vec<&'a str>,
    pub(super) subroutines: Subroutines<'a>,
    pub(super) copies: u32,
    /// Where the next `alloca` begins, in modules that have one.
    pub(super) stack: Option<R>,
    pub(super) line: u32,
    pub(super) loc: u32,
}

impl<'m, 'a> Decoder<'m, 'a> {
    pub(super) fn new(m: &'m Symbols<'a>, f: &'a ast::Function<'a>) -> Self {
        Self {
            m,
            p: Program {
                predicates: 1,
                files: m.files.clone(),
                source: m.kept.clone(),
                ..Program::default()
            },
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
            subroutines: Subroutines::default(),
            copies: 0,
            stack: None,
            line: f.line,
            loc: u32::MAX,
        }
    }
}

impl Decoder<'_, '_> {
    pub(super) fn error(&self, message: impl Into<String>) -> LoadError {
        error::error(self.m.source, self.line, message)
    }

    pub(super) fn fail<T>(&self, message: impl Into<String>) -> LoadResult<T> {
        Err(self.error(message))
    }

    pub(super) fn emit(&mut self, mut i: Instr) -> LoadResult<()> {
        if self.p.code.len() >= MAX_CODE {
            return self.fail("the kernel is too large once its calls are copied in");
        }
        i.line = self.line;
        i.loc = self.loc;
        self.p.code.push(i);
        Ok(())
    }

    pub(super) fn list(&mut self, i: &mut Instr, defs: &[R], uses: &[R]) {
        i.list = self.p.lists.len() as u32;
        i.defs = defs.len() as u8;
        i.uses = uses.len() as u8;
        self.p.lists.extend_from_slice(defs);
        self.p.lists.extend_from_slice(uses);
    }

    pub(super) fn temp(&mut self, wide: bool) -> R {
        self.wide.push(wide);
        R(self.wide.len() as u32 - 1)
    }

    pub(super) fn is_wide(&self, r: R) -> bool {
        if r.is_none() {
            return false;
        }
        match r.is_const() {
            true => self.p.consts[(r.0 & !R::CONST) as usize].wide,
            false => self.wide[r.0 as usize],
        }
    }

    pub(super) fn constant(&mut self, value: u64, wide: bool) -> R {
        self.constant_entry(Const {
            value: if wide { value } else { value & 0xffff_ffff },
            wide,
            dynamic_shared: false,
        })
    }

    pub(super) fn constant_entry(&mut self, entry: Const) -> R {
        if let Some(&r) = self.consts.get(&entry) {
            return r;
        }
        let r = R(self.p.consts.len() as u32 | R::CONST);
        self.p.consts.push(entry);
        self.consts.insert(entry, r);
        r
    }

    pub(super) fn predicate(&mut self) -> LoadResult<P> {
        if self.p.predicates >= 0x7ff0 {
            return self.fail("too many predicate registers");
        }
        self.p.predicates += 1;
        Ok(P(self.p.predicates - 1))
    }

    pub(super) fn label(&mut self) -> usize {
        self.labels.push(None);
        self.labels.len() - 1
    }

    pub(super) fn bind(&mut self, label: usize) {
        self.labels[label] = Some(self.p.code.len() as u32);
    }

    pub(super) fn branch(&mut self, label: usize, guard: P) -> LoadResult<()> {
        let mut i = Instr::new(Op::Bra);
        i.imm = label as i64;
        i.guard = guard;
        self.emit(i)
    }

    /// The frame pointer as a register; the kernel's own frame is at 0.
    pub(super) fn frame_base(&mut self) -> R {
        match (self.subroutines.current, self.subroutines.frame) {
            (Some(_), Some(r)) => r,
            _ => self.constant(0, false),
        }
    }

    /// Inside a called function, whose parameters are in local memory.
    pub(super) fn in_function(&self) -> bool {
        self.return_label.is_some() || self.subroutines.current.is_some()
    }
}
