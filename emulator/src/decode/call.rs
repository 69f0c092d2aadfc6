//! Calls (PTX ISA, control flow instructions: call).
//!
//! A call is usually a copy of the callee's body that shares the memory of the parameters. A function that calls itself
//! (perhaps through others), is called through a pointer, or would make the kernel too large becomes a subroutine:
//! compiled once, with its own registers, which a call saves and a return restores, and with its local memory relative
//! to a frame pointer.

use super::decoder::Decoder;
use super::ir::{Alu, Instr, Mem, Op, P, R};
use super::layout::layout;
use super::mods::Mods;
use super::scope::{Scope, Sym};
use super::subroutine::{FrameFixup, Subroutine};
use crate::ptx::ast::{self, Operand, Param};
use crate::ptx::error::LoadResult;
use crate::ptx::types::{Space, Type};

/// Local memory per thread for the frames of recursive calls.
const STACK_BYTES: u32 = 16 << 10;

/// Calls may nest this deep.
const MAX_CALLS: usize = 24;

/// A kernel may have this many calls inlined.
const MAX_COPIES: u32 = 1 << 16;

/// A kernel with this many instructions inlines no more calls.
const LARGE: usize = 1 << 15;

fn register_symbol<'a>(registers: Vec<R>, vector: u32) -> Sym<'a> {
    match (vector, registers.first()) {
        (1, Some(&r)) => Sym::Reg(r),
        _ => Sym::Vector(registers),
    }
}

impl<'a> Decoder<'_, 'a> {
    /// A call becomes a copy of the callee's body with the parameters' memory shared, or a call of a subroutine.
    pub(super) fn call(
        &mut self,
        mods: &mut Mods<'a>,
        ops: &'a [ast::Operand<'a>],
    ) -> LoadResult<()> {
        mods.flag("uni");
        if let Some(left) = mods.left() {
            return self.fail(format!("modifier `.{left}` of `call` is not supported"));
        }
        use ast::Operand::{List, Name};
        // (results), callee, (arguments), and the signature if the callee is a pointer
        let (returns, ops) = match ops {
            [List(returns), rest @ ..] => (returns.as_slice(), rest),
            _ => (&[][..], ops),
        };
        let [Name(name), rest @ ..] = ops else {
            return self.fail("expected the name of a function or a register");
        };
        let (args, signature) = match rest {
            [] => (&[][..], None),
            [List(args)] => (args.as_slice(), None),
            [Name(signature)] => (&[][..], Some(signature)),
            [List(args), Name(signature)] => (args.as_slice(), Some(signature)),
            _ => return self.fail("the operands of this call do not fit"),
        };
        let Some(&f) = self.m.functions.get(name) else {
            let Some(signature) = signature else {
                return self.fail(format!("function `{name}` is not defined"));
            };
            return self.pointer_call(&ops[0], signature, returns, args);
        };
        let Some(body) = &f.body else {
            return match f.name {
                "__assertfail" | "__assert_fail" => self.emit(Instr::new(Op::Assert)),
                "malloc" => self.runtime_call(Op::Malloc, 1, 8, returns, args),
                "free" => self.runtime_call(Op::Free, 1, 0, returns, args),
                "vprintf" => self.runtime_call(Op::Print, 2, 4, returns, args),
                _ => self.fail(format!("function `{name}` has no body here")),
            };
        };
        if returns.len() != f.returns.len() || args.len() != f.params.len() {
            return self.fail(format!("`{name}` takes other parameters than this call gives"));
        }
        let large = self.calls.len() >= MAX_CALLS || self.p.code.len() >= LARGE;
        if self.calls.contains(&f.name) || large && layout(&f.params, &f.returns).is_some() {
            return self.real_call(f, returns, args);
        }
        self.copies += 1;
        if self.calls.len() >= MAX_CALLS || self.copies > MAX_COPIES {
            return self.fail("calls nest too deeply, or there are too many");
        }
        let call_line = self.line;
        let mut scope = Scope::default();
        let (mut results, mut predicates) = (Vec::new(), Vec::new());
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
                Param::Register { ty: Type::Pred, name, .. } => {
                    let source = self.predicate_source(actual)?;
                    let p = self.predicate()?;
                    self.predicate_copy(p, source)?;
                    scope.names.insert(name, Sym::Pred(p));
                }
                Param::Register { ty, vector, name, .. } => {
                    let mut registers = Vec::new();
                    for part in self.register_parts(actual, *vector)? {
                        let source = match part {
                            Ok(r) => r,
                            Err(op) => self.source(op, *ty)?,
                        };
                        let r = self.temp(ty.bits() == 64);
                        self.mov(r, source)?;
                        registers.push(r);
                    }
                    scope.names.insert(name, register_symbol(registers, *vector));
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
                Param::Register { ty: Type::Pred, name, .. } => {
                    let to = self.predicate_destination(actual)?;
                    let p = self.predicate()?;
                    scope.names.insert(name, Sym::Pred(p));
                    predicates.push((to, p));
                }
                Param::Register { ty, vector, name, .. } => {
                    let mut registers = Vec::new();
                    for part in self.register_parts(actual, *vector)? {
                        let to = match part {
                            Ok(r) => r,
                            Err(op) => self.destination(op, *ty)?,
                        };
                        let r = self.temp(ty.bits() == 64);
                        registers.push(r);
                        results.push((to, r));
                    }
                    scope.names.insert(name, register_symbol(registers, *vector));
                }
            }
        }
        let end = self.label();
        let base = std::mem::replace(&mut self.base, self.scopes.len());
        let return_label = self.return_label.replace(end);
        let loc = self.loc;
        self.scopes.push(scope);
        self.calls.push(f.name);
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
        for (to, from) in predicates {
            self.predicate_copy(to, from)?;
        }
        Ok(())
    }

    fn predicate_copy(&mut self, to: P, from: P) -> LoadResult<()> {
        let mut i = Instr::new(Op::Alu(Alu::PredMov));
        (i.pd, i.ps) = (to, from);
        self.emit(i)
    }

    /// The registers that make up an argument or result of `vector` registers, or the operands that name them.
    fn register_parts<'o>(
        &mut self,
        op: &'o Operand<'a>,
        vector: u32,
    ) -> LoadResult<Vec<Result<R, &'o Operand<'a>>>> {
        let parts: Vec<_> = match (self.vector_register(op)?, op) {
            (Some(parts), _) => parts.into_iter().map(Ok).collect(),
            (None, Operand::Vector(parts)) => parts.iter().map(Err).collect(),
            (None, one) => vec![Err(one)],
        };
        match parts.len() == vector as usize {
            true => Ok(parts),
            false => self.fail(format!("expected {vector} registers, found {}", parts.len())),
        }
    }

    /// A function of the device's runtime, which no PTX defines. Its arguments have 8 bytes each.
    fn runtime_call(
        &mut self,
        op: Op,
        arguments: usize,
        result_bytes: u8,
        returns: &[Operand<'a>],
        args: &[Operand<'a>],
    ) -> LoadResult<()> {
        let access = |op: &Operand<'a>| match op {
            Operand::Name(name) => Operand::Address { base: Some(name), offset: 0, brackets: true },
            other => other.clone(),
        };
        if args.len() != arguments {
            return self.fail(format!("expected {arguments} arguments, found {}", args.len()));
        }
        let mem = Mem {
            space: Space::Local,
            bytes: 8,
            count: 1,
            signed: false,
            wide: true,
            address64: true,
            strong: false,
            release: false,
            acquire: false,
            copied: false,
        };
        let mut given = [R::NONE; 2];
        for (arg, r) in args.iter().zip(&mut given) {
            let mut mem = mem;
            *r = self.temp(true);
            let mut i = Instr::new(Op::Nop);
            self.mem_address(&access(arg), &mut mem, &mut i)?;
            i.op = Op::Ld(mem);
            i.class = i.op.class();
            self.list(&mut i, &[*r], &[]);
            self.emit(i)?;
        }
        let mut i = Instr::new(op);
        [i.a, i.b] = given;
        if result_bytes > 0 {
            i.d = self.temp(result_bytes == 8);
        }
        let d = i.d;
        self.emit(i)?;
        if let (true, Some(result)) = (result_bytes > 0, returns.first()) {
            let mut mem = Mem { bytes: result_bytes, wide: result_bytes == 8, ..mem };
            let mut i = Instr::new(Op::Nop);
            self.mem_address(&access(result), &mut mem, &mut i)?;
            i.op = Op::St(mem);
            i.class = i.op.class();
            self.list(&mut i, &[], &[d]);
            self.emit(i)?;
        }
        Ok(())
    }

    fn real_call(
        &mut self,
        f: &'a ast::Function<'a>,
        returns: &[Operand<'a>],
        args: &[Operand<'a>],
    ) -> LoadResult<()> {
        let which = self.subroutine(f);
        let mut i = Instr::new(Op::Call);
        i.imm = self.subroutines.all[which].label as i64;
        self.open_call(i, (&f.params, &f.returns), returns, args)
    }

    /// A call through a register: to any function whose address is taken and whose parameters match the signature.
    fn pointer_call(
        &mut self,
        pointer: &Operand<'a>,
        signature: &'a str,
        returns: &[Operand<'a>],
        args: &[Operand<'a>],
    ) -> LoadResult<()> {
        let taken: Vec<_> = (self.m.addresses.iter())
            .map(|&(name, address)| (name, address, self.m.functions[name]))
            .filter(|(_, _, f)| f.body.is_some())
            .collect();
        let (signature, taken) = match self.lookup(signature)? {
            Some(Sym::Prototype(p)) => {
                let wanted = layout(&p.params, &p.returns);
                let fits = |f: &ast::Function| {
                    f.params.len() == p.params.len() && layout(&f.params, &f.returns) == wanted
                };
                let taken = taken.into_iter().filter(|t| fits(t.2)).collect();
                ((p.params.as_slice(), p.returns.as_slice()), taken)
            }
            Some(Sym::CallTargets(names)) => {
                let first = names.first().and_then(|n| self.m.functions.get(n));
                let Some(first) = first else {
                    return self.fail("the functions of this list are not defined");
                };
                let taken: Vec<_> = taken.into_iter().filter(|t| names.contains(&t.0)).collect();
                ((first.params.as_slice(), first.returns.as_slice()), taken)
            }
            _ => return self.fail(format!("`{signature}` is not a signature")),
        };
        if args.len() != signature.0.len() || returns.len() != signature.1.len() {
            return self.fail("the signature has other parameters than this call gives");
        }
        let mut table = Vec::new();
        for (_, address, f) in taken {
            let which = self.subroutine(f);
            table.push((address, self.subroutines.all[which].label as u32));
        }
        let mut i = Instr::new(Op::CallPointer);
        i.b = self.source(pointer, Type::U64)?;
        i.imm = self.p.call_tables.len() as i64;
        self.p.call_tables.push(table);
        self.open_call(i, signature, returns, args)
    }

    /// The number of a function's subroutine.
    fn subroutine(&mut self, f: &'a ast::Function<'a>) -> usize {
        if let Some(known) = (self.subroutines.all.iter()).position(|s| std::ptr::eq(s.f, f)) {
            return known;
        }
        let label = self.label();
        self.subroutines.all.push(Subroutine { f, label, bytes: 0 });
        self.subroutines.all.len() - 1
    }

    /// Emits a call, with copies of its arguments before it and of its results after it.
    fn open_call(
        &mut self,
        mut call: Instr,
        (params, results): (&[Param], &[Param]),
        returns: &[Operand<'a>],
        args: &[Operand<'a>],
    ) -> LoadResult<()> {
        let Some((offsets, _)) = layout(params, results) else {
            return self
                .fail("a recursive or indirect call with register parameters is not supported");
        };
        if self.subroutines.frame.is_none() {
            let r = self.temp(false);
            self.subroutines.frame = Some(r);
            self.p.frame = r;
        }
        let caller = self.subroutines.current;
        let base = self.frame_base();
        let mut places = Vec::new();
        for actual in args.iter().chain(returns) {
            let sym = match actual {
                Operand::Name(n) => self.lookup(n)?,
                _ => None,
            };
            let Some(Sym::Local(at)) = sym else {
                return self.fail("the arguments of this call must be .param variables");
            };
            places.push(at);
        }
        let formals: Vec<&Param> = params.iter().chain(results).collect();
        for n in 0..args.len() {
            self.frame_copy(base, places[n], offsets[n], formals[n], caller, 32)?;
        }
        call.a = base;
        self.subroutines.fixups.push(FrameFixup {
            at: self.p.code.len(),
            frame: caller,
            shift: 32,
        });
        self.emit(call)?;
        for n in args.len()..formals.len() {
            self.frame_copy(base, offsets[n], places[n], formals[n], caller, 0)?;
        }
        Ok(())
    }

    /// Copies a parameter within local memory. One side is in the callee's frame, right after the caller's, whose size
    /// is added to the source (`shift` 0) or the destination (`shift` 32) later.
    fn frame_copy(
        &mut self,
        base: R,
        from: u32,
        to: u32,
        formal: &Param,
        caller: Option<usize>,
        shift: u32,
    ) -> LoadResult<()> {
        let Param::Memory(v) = formal else {
            return Ok(());
        };
        let mut i = Instr::new(Op::FrameCopy { bytes: v.size.unwrap_or(0) as u32 });
        i.a = base;
        i.imm = i64::from(from) | i64::from(to) << 32;
        self.subroutines.fixups.push(FrameFixup { at: self.p.code.len(), frame: caller, shift });
        self.emit(i)
    }

    /// Compiles the subroutines that calls need, and fixes the sizes of frames.
    pub(super) fn compile_subroutines(&mut self) -> LoadResult<()> {
        if self.subroutines.all.is_empty() {
            return Ok(());
        }
        let kernel_bytes = self.p.local_bytes;
        let (first_register, first_predicate) = (self.wide.len() as u32, self.p.predicates);
        let mut next = 0;
        while next < self.subroutines.all.len() {
            let f = self.subroutines.all[next].f;
            let (offsets, end) = layout(&f.params, &f.returns).unwrap_or_default();
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
            let bytes = fix.frame.map_or(kernel_bytes, |n| self.subroutines.all[n].bytes);
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
