//! Loads, stores, atomics and copies.

use super::decoder::Decoder;
use super::ir::*;
use super::mods::Mods;
use crate::ptx::ast::{Immediate, Operand};
use crate::ptx::error::LoadResult;
use crate::ptx::types::{Space, Type};

/// Cache operators, eviction priorities and prefetch sizes: they change time, not results.
const CACHE: [&str; 24] = [
    "ca",
    "cg",
    "cs",
    "lu",
    "cv",
    "wb",
    "wt",
    "nc",
    "unified",
    "L1::evict_normal",
    "L1::evict_unchanged",
    "L1::evict_first",
    "L1::evict_last",
    "L1::no_allocate",
    "L2::evict_normal",
    "L2::evict_first",
    "L2::evict_last",
    "L2::evict_unchanged",
    "L2::no_allocate",
    "L2::64B",
    "L2::128B",
    "L2::256B",
    "weak",
    "mmio",
];

/// Which of `.relaxed`, `.acquire`, `.release`, `.acq_rel`, `.volatile` and the scopes were given.
#[derive(Default)]
pub struct Semantics {
    pub strong: bool,
    pub acquire: bool,
    pub release: bool,
}

impl<'a> Decoder<'_, 'a> {
    pub fn semantics(&mut self, m: &mut Mods<'a>) -> Semantics {
        let mut s = Semantics::default();
        match m.any(&["relaxed", "acquire", "release", "acq_rel", "volatile", "sc"]) {
            Some("acquire") => (s.strong, s.acquire) = (true, true),
            Some("release") => (s.strong, s.release) = (true, true),
            Some("acq_rel" | "sc") => (s.strong, s.acquire, s.release) = (true, true, true),
            Some(_) => s.strong = true,
            None => {}
        }
        m.any(&["cta", "cluster", "gpu", "sys"]);
        s
    }

    fn cache(&mut self, m: &mut Mods<'a>) -> bool {
        while m.any(&CACHE).is_some() {}
        m.flag("L2::cache_hint")
    }

    /// Operands without the trailing cache policy.
    pub(super) fn without_policy<'o>(
        &mut self,
        hint: bool,
        ops: &'o [Operand<'a>],
    ) -> LoadResult<&'o [Operand<'a>]> {
        if !hint {
            return Ok(ops);
        }
        match ops.split_last() {
            Some((policy, rest)) => {
                self.source(policy, Type::B64)?;
                Ok(rest)
            }
            None => self.fail("a cache policy is missing"),
        }
    }

    fn vector_count(&mut self, m: &mut Mods<'a>) -> u8 {
        match m.any(&["v2", "v4", "v8"]) {
            Some("v2") => 2,
            Some("v4") => 4,
            Some(_) => 8,
            None => 1,
        }
    }

    pub fn memory(
        &mut self,
        base: &str,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> LoadResult<bool> {
        match base {
            "ld" | "ldu" => self.load(m, ops),
            "st" | "red" if m.flag("async") => self.fail(format!(
                "`{base}.async` (to another block's shared memory) is not supported"
            )),
            "st" => self.store(m, ops),
            "atom" | "red" => self.atomic(base == "red", m, ops),
            "prefetch" | "prefetchu" | "applypriority" | "discard" => {
                m.space();
                m.flag("tensormap");
                m.any(&["L1", "L2"]);
                self.cache(m);
                if let Some(op) = ops.first() {
                    self.address(op)?;
                }
                self.emit(Instr::new(Op::Nop))?;
                Ok(true)
            }
            "createpolicy" => {
                m.any(&["fractional", "range"]);
                m.flag("global");
                while m.any(&CACHE).is_some() {}
                self.need_ty(m)?;
                let Some(op) = ops.first() else {
                    return self.fail("a destination is missing");
                };
                let d = self.destination(op, Type::B64)?;
                let zero = self.constant(0, true);
                self.mov(d, zero)?;
                Ok(true)
            }
            "cp" => self.copy(m, ops),
            _ => Ok(false),
        }
    }

    fn mem(&mut self, m: &mut Mods<'a>) -> LoadResult<(Mem, Type, bool)> {
        let s = self.semantics(m);
        let space = m.space().unwrap_or(Space::Generic);
        let hint = self.cache(m);
        let count = self.vector_count(m);
        let ty = self.need_ty(m)?;
        if matches!(ty, Type::Pred | Type::B128) || ty.bits() * u32::from(count) > 256 {
            return self.fail(format!("type {ty:?} is not supported here"));
        }
        let mem = Mem {
            space,
            bytes: ty.bytes() as u8,
            count,
            signed: ty.is_signed(),
            wide: false,
            address64: true,
            strong: s.strong,
            release: s.release,
            acquire: s.acquire,
            copied: false,
        };
        Ok((mem, ty, hint))
    }

    /// Puts an address operand into `i`, and returns which space it is in.
    pub(super) fn mem_address(
        &mut self,
        op: &Operand<'a>,
        mem: &mut Mem,
        i: &mut Instr,
    ) -> LoadResult<()> {
        let address = self.address(op)?;
        mem.address64 = address.wide;
        // Parameters of called functions are in local memory.
        if mem.space == Space::Param && (address.local || self.in_function()) {
            mem.space = Space::Local;
        }
        if mem.space == Space::Generic && !address.wide {
            return self.fail("a generic address needs 64 bits");
        }
        self.set_address(i, &address);
        Ok(())
    }

    fn load(&mut self, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> LoadResult<bool> {
        let (mut mem, ty, hint) = self.mem(m)?;
        let ops = self.without_policy(hint, ops)?;
        self.count(ops, 2)?;
        let mut defs = match self.vector_register(&ops[0])? {
            Some(parts) => parts,
            None => {
                let mut defs = Vec::new();
                let parts = match &ops[0] {
                    Operand::Vector(parts) => &parts[..],
                    one => std::slice::from_ref(one),
                };
                for part in parts {
                    defs.push(self.destination_any(part)?);
                }
                defs
            }
        };
        if defs.len() != usize::from(mem.count) {
            return self.fail(format!("expected {} destinations, found {}", mem.count, defs.len()));
        }
        mem.wide = defs.iter().any(|&r| self.is_wide(r));
        if defs.iter().any(|&r| !r.is_none() && self.is_wide(r) != mem.wide)
            || ty.bits() == 64 && !mem.wide
        {
            return self.fail("the destinations have the wrong width");
        }
        let mut i = Instr::new(Op::Nop);
        self.mem_address(&ops[1], &mut mem, &mut i)?;
        i.op = Op::Ld(mem);
        i.class = i.op.class();
        self.list(&mut i, &std::mem::take(&mut defs), &[]);
        self.emit(i)?;
        Ok(true)
    }

    fn store(&mut self, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> LoadResult<bool> {
        let (mut mem, ty, hint) = self.mem(m)?;
        let ops = self.without_policy(hint, ops)?;
        self.count(ops, 2)?;
        let mut uses = match self.vector_register(&ops[1])? {
            Some(parts) => parts,
            None => {
                let mut uses = Vec::new();
                let parts = match &ops[1] {
                    Operand::Vector(parts) => &parts[..],
                    one => std::slice::from_ref(one),
                };
                for part in parts {
                    uses.push(self.source_any(part, ty)?);
                }
                uses
            }
        };
        if uses.len() != usize::from(mem.count) {
            return self.fail(format!("expected {} sources, found {}", mem.count, uses.len()));
        }
        mem.wide = uses.iter().any(|&r| self.is_wide(r));
        if uses.iter().any(|&r| self.is_wide(r) != mem.wide) || ty.bits() == 64 && !mem.wide {
            return self.fail("the sources have the wrong width");
        }
        if mem.space == Space::Const {
            return self.fail("constant memory cannot be written");
        }
        let mut i = Instr::new(Op::Nop);
        self.mem_address(&ops[0], &mut mem, &mut i)?;
        if mem.space == Space::Param {
            return self.fail("kernel parameters cannot be written");
        }
        i.op = Op::St(mem);
        i.class = i.op.class();
        self.list(&mut i, &[], &std::mem::take(&mut uses));
        self.emit(i)?;
        Ok(true)
    }

    /// atom and red
    fn atomic(
        &mut self,
        reduction: bool,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> LoadResult<bool> {
        let s = self.semantics(m);
        let space = m.space().unwrap_or(Space::Generic);
        let hint = self.cache(m);
        let noftz = m.flag("noftz");
        let count = self.vector_count(m);
        let Some(f) = atom_fn(m) else {
            return self.fail("an atomic operation is missing");
        };
        let ty = self.need_ty(m)?;
        let t = atom_ty(f, ty);
        let Some(t) = t.filter(|_| !(reduction && matches!(f, AtomFn::Cas | AtomFn::Exch))) else {
            return self.fail(format!("this atomic operation is not supported for type {ty:?}"));
        };
        let ops = self.without_policy(hint, ops)?;
        let cas = f == AtomFn::Cas;
        self.count(ops, usize::from(!reduction) + 2 + usize::from(cas))?;
        let (d, rest) = if reduction { (None, ops) } else { (Some(&ops[0]), &ops[1..]) };
        let mut i = Instr::new(Op::Nop);
        let parts = |op: &Operand<'a>| match op {
            Operand::Vector(parts) => parts.clone(),
            one => vec![one.clone()],
        };
        let mut uses = Vec::new();
        for part in parts(&rest[1]) {
            uses.push(self.source(&part, ty)?);
        }
        if cas {
            i.c = self.source(&rest[2], ty)?;
        }
        let mut defs = Vec::new();
        if let Some(d) = d {
            for part in parts(d) {
                let r = self.destination_any(&part)?;
                if !r.is_none() && self.is_wide(r) != (ty.bits() == 64) {
                    return self.fail("the destination has the wrong width");
                }
                defs.push(r);
            }
        }
        if uses.len() != usize::from(count) || d.is_some() && defs.len() != usize::from(count) {
            return self.fail("the vectors have the wrong length");
        }
        let address = self.address(&rest[0])?;
        if space == Space::Generic && !address.wide {
            return self.fail("a generic address needs 64 bits");
        }
        self.set_address(&mut i, &address);
        i.op = Op::Atom(Atom {
            f,
            ty: t,
            space,
            count,
            address64: address.wide,
            release: s.release,
            acquire: s.acquire,
            reduction,
            noftz,
        });
        i.class = i.op.class();
        self.list(&mut i, &defs, &uses);
        self.emit(i)?;
        Ok(true)
    }

    /// cp.async and its groups.
    fn copy(&mut self, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> LoadResult<bool> {
        let reduce = m.flag("reduce");
        if !m.flag("async") {
            return self.fail("only `cp.async` is known");
        }
        if m.flag("bulk") {
            return self.bulk(reduce, m, ops);
        }
        if reduce {
            return self.fail("`cp.reduce` is there for bulk copies only");
        }
        if m.flag("commit_group") {
            self.count(ops, 0)?;
            self.emit(Instr::new(Op::CpAsyncCommit))?;
            return Ok(true);
        }
        if m.flag("wait_all") {
            self.count(ops, 0)?;
            let mut i = Instr::new(Op::CpAsyncWait);
            i.imm = -1;
            self.emit(i)?;
            return Ok(true);
        }
        if m.flag("wait_group") {
            self.count(ops, 1)?;
            let Operand::Immediate(Immediate::Int(n)) = ops[0] else {
                return self.fail("the number of groups must be a constant");
            };
            let mut i = Instr::new(Op::CpAsyncWait);
            i.imm = n.min(1 << 20) as i64;
            self.emit(i)?;
            return Ok(true);
        }
        if m.flag("mbarrier") {
            if !m.flag("arrive") {
                return self.fail("expected `cp.async.mbarrier.arrive`");
            }
            let noinc = m.flag("noinc");
            m.space();
            self.need_ty(m)?;
            self.count(ops, 1)?;
            let address = self.address(&ops[0])?;
            let mut i = Instr::new(Op::CpAsyncMbarArrive { noinc, address64: address.wide });
            self.set_address(&mut i, &address);
            self.emit(i)?;
            return Ok(true);
        }
        let cg = m.flag("cg");
        if !cg && !m.flag("ca") {
            return self.fail("`cp.async` needs `.ca` or `.cg`");
        }
        if !(m.flag("shared") || m.flag("shared::cta")) || !m.flag("global") {
            return self.fail("`cp.async` copies from .global to .shared");
        }
        let hint = self.cache(m);
        let ops = self.without_policy(hint, ops)?;
        if !(3..=4).contains(&ops.len()) {
            return self.fail(format!("expected 3 or 4 operands, found {}", ops.len()));
        }
        let bytes = match ops[2] {
            Operand::Immediate(Immediate::Int(n @ (4 | 8))) if !cg => n as u8,
            Operand::Immediate(Immediate::Int(16)) => 16,
            _ => return self.fail("the size must be 4, 8 or 16, with `.cg` 16"),
        };
        let mut i = Instr::new(Op::Nop);
        i.b = self.address_register(&ops[1])?;
        if !self.is_wide(i.b) {
            return self.fail("a global address needs 64 bits");
        }
        if let Some(op) = ops.get(3) {
            if self.is_predicate(op)? {
                i.ps = self.predicate_source(op)?;
            } else {
                i.c = self.source(op, Type::U32)?;
            }
        }
        let address = self.address(&ops[0])?;
        i.op = Op::CpAsync { bytes, shared64: address.wide };
        i.class = i.op.class();
        self.set_address(&mut i, &address);
        self.emit(i)?;
        Ok(true)
    }
}

/// The operation that an atomic instruction names.
pub(super) fn atom_fn(m: &mut Mods) -> Option<AtomFn> {
    const NAMES: [(&str, AtomFn); 10] = [
        ("and", AtomFn::And),
        ("or", AtomFn::Or),
        ("xor", AtomFn::Xor),
        ("exch", AtomFn::Exch),
        ("cas", AtomFn::Cas),
        ("add", AtomFn::Add),
        ("inc", AtomFn::Inc),
        ("dec", AtomFn::Dec),
        ("min", AtomFn::Min),
        ("max", AtomFn::Max),
    ];
    NAMES.iter().find(|(name, _)| m.flag(name)).map(|&(_, f)| f)
}

/// The type for which an operation exists.
pub(super) fn atom_ty(f: AtomFn, ty: Type) -> Option<AtomTy> {
    let (t, ok) = match ty {
        Type::B16 => (AtomTy::B16, matches!(f, AtomFn::Cas | AtomFn::Exch)),
        Type::B32 => (
            AtomTy::B32,
            matches!(f, AtomFn::And | AtomFn::Or | AtomFn::Xor | AtomFn::Cas | AtomFn::Exch),
        ),
        Type::B64 => (
            AtomTy::B64,
            matches!(f, AtomFn::And | AtomFn::Or | AtomFn::Xor | AtomFn::Cas | AtomFn::Exch),
        ),
        Type::U32 => (
            AtomTy::U32,
            matches!(
                f,
                AtomFn::Add | AtomFn::Inc | AtomFn::Dec | AtomFn::Min | AtomFn::Max | AtomFn::Exch
            ),
        ),
        Type::S32 => {
            (AtomTy::S32, matches!(f, AtomFn::Add | AtomFn::Min | AtomFn::Max | AtomFn::Exch))
        }
        Type::U64 => {
            (AtomTy::U64, matches!(f, AtomFn::Add | AtomFn::Min | AtomFn::Max | AtomFn::Exch))
        }
        Type::S64 => (AtomTy::S64, matches!(f, AtomFn::Add | AtomFn::Min | AtomFn::Max)),
        Type::F32 => (AtomTy::F32, matches!(f, AtomFn::Add | AtomFn::Exch)),
        Type::F64 => (AtomTy::F64, f == AtomFn::Add),
        Type::F16 => (AtomTy::F16, matches!(f, AtomFn::Add | AtomFn::Min | AtomFn::Max)),
        Type::F16x2 => (AtomTy::F16x2, matches!(f, AtomFn::Add | AtomFn::Min | AtomFn::Max)),
        Type::Bf16 => (AtomTy::Bf16, matches!(f, AtomFn::Add | AtomFn::Min | AtomFn::Max)),
        Type::Bf16x2 => (AtomTy::Bf16x2, matches!(f, AtomFn::Add | AtomFn::Min | AtomFn::Max)),
        _ => (AtomTy::B32, false),
    };
    ok.then_some(t)
}
