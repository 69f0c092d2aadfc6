//! Calls (PTX ISA 9.7.12.5 call).
//!
//! A call is usually a copy of the callee's body that shares the memory of the parameters. Where a function calls
//! itself, through others perhaps, it becomes a subroutine: compiled once, with registers of its own that a call
//! saves and a return restores, and with its local memory relative to a frame pointer.

use super::ir::{Instr, Op, P, R};
use super::mods::Mods;
use super::names::{Scope, Sym};
use super::{Decoder, MAX_CALLS, MAX_COPIES, Result};
use crate::ptx::ast::{self, Operand, Param};
use crate::ptx::types::Type;

/// Local memory a thread gets for the frames of recursive calls.
const STACK_BYTES: u32 = 16 << 10;

pub struct Subroutine<'a> {
    f: &'a ast::Function<'a>,
    label: usize,
    /// Its frame: parameters, results, then local variables.
    bytes: u32,
}

/// A field of an instruction that holds the size of a frame known only at the end.
pub struct FrameFixup {
    at: usize,
    /// Whose frame; `None` is the kernel's.
    frame: Option<usize>,
    shift: u32,
}

#[derive(Default)]
pub struct Subroutines<'a> {
    all: Vec<Subroutine<'a>>,
    fixups: Vec<FrameFixup>,
    /// The one being compiled.
    pub current: Option<usize>,
    /// The frame pointer, once there is one.
    pub frame: Option<R>,
}

/// Where each parameter and then each result lies in a subroutine's frame, and their end.
fn layout(f: &ast::Function) -> Option<(Vec<u32>, u32)> {
    let (mut offsets, mut end) = (Vec::new(), 0);
    for p in f.params.iter().chain(&f.returns) {
        let Param::Memory(v) = p else { return None };
        let (at, next) = super::place(v, end)?;
        offsets.push(at);
        end = next;
    }
    Some((offsets, end))
}

impl<'a> Decoder<'_, 'a> {
    /// A call becomes a copy of the callee's body with the parameters' memory shared (9.7.13.4 call).
    pub(super) fn call(&mut self, mods: &mut Mods<'a>, ops: &'a [ast::Operand<'a>]) -> Result<()> {
        mods.flag("uni");
        if let Some(left) = mods.left() {
            return self.fail(format!("modifier `.{left}` of `call` is not supported"));
        }
        use ast::Operand::{List, Name};
        let (returns, name, args): (&'a [ast::Operand<'a>], &'a str, &'a [ast::Operand<'a>]) =
            match ops {
                [Name(f)] => (&[], f, &[]),
                [Name(f), List(args)] => (&[], f, args),
                [List(returns), Name(f)] => (returns, f, &[]),
                [List(returns), Name(f), List(args)] => (returns, f, args),
                _ => return self.fail("calls through function pointers are not supported"),
            };
        let Some(&f) = self.m.functions.get(name) else {
            return match self.lookup(name)? {
                Some(_) => self.fail("calls through function pointers are not supported"),
                None => self.fail(format!("function `{name}` is not defined")),
            };
        };
        let Some(body) = &f.body else {
            return match name {
                "__assertfail" | "__assert_fail" => self.emit(Instr::new(Op::Assert)),
                _ => self.fail(format!("function `{name}` has no body here")),
            };
        };
        if self.calls.contains(&name) {
            return self.real_call(f, returns, args);
        }
        self.copies += 1;
        if self.calls.len() >= MAX_CALLS || self.copies > MAX_COPIES {
            return self.fail("calls nest too deeply, or there are too many");
        }
        if returns.len() != f.returns.len() || args.len() != f.params.len() {
            return self.fail(format!(
                "`{name}` takes other parameters than this call gives"
            ));
        }
        let call_line = self.line;
        let mut scope = Scope::default();
        let mut results = Vec::new();
        for (actual, formal) in args.iter().zip(&f.params) {
            match formal {
                Param::Memory(v) => {
                    let sym = match actual {
                        Name(n) => self.lookup(n)?,
                        _ => None,
                    };
                    let Some(sym @ Sym::Local(_)) = sym else {
                        return self.fail(format!(
                            "argument `{}` of `{name}` must be a .param variable",
                            v.name
                        ));
                    };
                    scope.names.insert(v.name, sym);
                }
                Param::Register { ty: Type::Pred, .. } => {
                    return self.fail("predicate parameters are not supported");
                }
                Param::Register { ty, name, .. } => {
                    let source = self.source(actual, *ty)?;
                    let r = self.temp(ty.bits() == 64);
                    self.mov(r, source)?;
                    scope.names.insert(name, Sym::Reg(r, *ty));
                }
            }
        }
        for (actual, formal) in returns.iter().zip(&f.returns) {
            match formal {
                Param::Memory(v) => {
                    let sym = match actual {
                        Name(n) => self.lookup(n)?,
                        _ => None,
                    };
                    let Some(sym @ Sym::Local(_)) = sym else {
                        return self.fail(format!("result of `{name}` must be a .param variable"));
                    };
                    scope.names.insert(v.name, sym);
                }
                Param::Register { ty: Type::Pred, .. } => {
                    return self.fail("predicate results are not supported");
                }
                Param::Register { ty, name, .. } => {
                    let to = self.destination(actual, *ty)?;
                    let r = self.temp(ty.bits() == 64);
                    scope.names.insert(name, Sym::Reg(r, *ty));
                    results.push((to, r));
                }
            }
        }
        let end = self.label();
        let base = std::mem::replace(&mut self.base, self.scopes.len());
        let return_label = self.return_label.replace(end);
        let loc = self.loc;
        self.scopes.push(scope);
        self.calls.push(name);
        self.scope(body)?;
        self.calls.pop();
        self.scopes.pop();
        self.base = base;
        self.return_label = return_label;
        (self.line, self.loc) = (call_line, loc);
        self.bind(end);
        for (to, from) in results {
            self.mov(to, from)?;
        }
        Ok(())
    }

    /// The frame pointer as a register; the kernel's own frame is at 0.
    pub(super) fn frame_base(&mut self) -> R {
        match (self.subroutines.current, self.subroutines.frame) {
            (Some(_), Some(r)) => r,
            _ => self.constant(0, false),
        }
    }

    fn real_call(
        &mut self,
        f: &'a ast::Function<'a>,
        returns: &[Operand<'a>],
        args: &[Operand<'a>],
    ) -> Result<()> {
        let Some((offsets, _)) = layout(f) else {
            return self.fail("a recursive function with register parameters is not supported");
        };
        if self.subroutines.frame.is_none() {
            let r = self.temp(false);
            self.subroutines.frame = Some(r);
            self.p.frame = r;
        }
        let known = self.subroutines.all.iter().position(|s| s.f.name == f.name);
        let which = known.unwrap_or_else(|| {
            let label = self.label();
            self.subroutines.all.push(Subroutine { f, label, bytes: 0 });
            self.subroutines.all.len() - 1
        });
        let caller = self.subroutines.current;
        let base = self.frame_base();
        let mut places = Vec::new();
        for actual in args.iter().chain(returns) {
            let sym = match actual {
                Operand::Name(n) => self.lookup(n)?,
                _ => None,
            };
            let Some(Sym::Local(at)) = sym else {
                return self.fail(format!(
                    "the arguments of `{}` must be .param variables",
                    f.name
                ));
            };
            places.push(at);
        }
        let formals: Vec<&Param> = f.params.iter().chain(&f.returns).collect();
        for n in 0..args.len() {
            self.frame_copy(base, places[n], offsets[n], formals[n], caller, 32)?;
        }
        let mut i = Instr::new(Op::Call);
        i.a = base;
        i.imm = self.subroutines.all[which].label as i64;
        self.subroutines.fixups.push(FrameFixup {
            at: self.p.code.len(),
            frame: caller,
            shift: 32,
        });
        self.emit(i)?;
        for n in args.len()..formals.len() {
            self.frame_copy(base, offsets[n], places[n], formals[n], caller, 0)?;
        }
        Ok(())
    }

    /// Copies a parameter within local memory. One side lies in the callee's frame, right behind the caller's: the size of
    /// that is added to the source (`shift` 0) or the destination (`shift` 32) later.
    fn frame_copy(
        &mut self,
        base: R,
        from: u32,
        to: u32,
        formal: &Param,
        caller: Option<usize>,
        shift: u32,
    ) -> Result<()> {
        let Param::Memory(v) = formal else {
            return Ok(());
        };
        let mut i = Instr::new(Op::FrameCopy {
            bytes: v.size.unwrap_or(0) as u32,
        });
        i.a = base;
        i.imm = i64::from(from) | i64::from(to) << 32;
        self.subroutines.fixups.push(FrameFixup {
            at: self.p.code.len(),
            frame: caller,
            shift,
        });
        self.emit(i)
    }

    /// Compiles the subroutines that calls asked for, and settles the sizes of frames.
    pub(super) fn compile_subroutines(&mut self) -> Result<()> {
        if self.subroutines.all.is_empty() {
            return Ok(());
        }
        let kernel_bytes = self.p.local_bytes;
        let (first_register, first_predicate) = (self.wide.len() as u32, self.p.predicates);
        let mut next = 0;
        while next < self.subroutines.all.len() {
            let f = self.subroutines.all[next].f;
            let (offsets, end) = layout(f).unwrap_or_default();
            self.p.local_bytes = end;
            self.line = f.line;
            self.subroutines.current = Some(next);
            self.calls = vec![f.name];
            self.return_label = None;
            let label = self.subroutines.all[next].label;
            self.bind(label);
            let mut scope = Scope::default();
            for (p, at) in f.params.iter().chain(&f.returns).zip(offsets) {
                if let Param::Memory(v) = p {
                    scope.names.insert(v.name, Sym::Local(at));
                }
            }
            self.base = self.scopes.len();
            self.scopes.push(scope);
            if let Some(body) = &f.body {
                self.scope(body)?;
            }
            self.scopes.pop();
            self.emit(Instr::new(Op::Ret))?;
            self.subroutines.all[next].bytes = self.p.local_bytes;
            next += 1;
        }
        // Frames start at multiples of 16 so that every alignment inside them holds.
        let size = |bytes: u32| i64::from(bytes.next_multiple_of(16));
        for fix in &self.subroutines.fixups {
            let bytes = fix
                .frame
                .map_or(kernel_bytes, |n| self.subroutines.all[n].bytes);
            self.p.code[fix.at].imm += size(bytes) << fix.shift;
        }
        self.p.local_bytes = kernel_bytes.next_multiple_of(16) + STACK_BYTES;
        self.p.saved = (first_register..self.wide.len() as u32)
            .map(|r| (R(r), self.wide[r as usize]))
            .collect();
        self.p.saved.push((self.p.frame, false));
        self.p.saved_predicates = (first_predicate..self.p.predicates).map(P).collect();
        Ok(())
    }
}
