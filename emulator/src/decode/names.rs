//! Scopes and operands: from names to slots.

use super::Decoder;
use super::ir::{Alu, Const, Instr, LaneMask, Op, P, R, RESERVED_SHARED, Special};
use crate::ptx::ast::{Immediate, Operand, Prototype};
use crate::ptx::error::Result;
use crate::ptx::types::Type;
use std::collections::HashMap;

#[derive(Clone, Debug)]
pub enum Sym<'a> {
    Reg(R, Type),
    Vector(Vec<R>, Type),
    Pred(P),
    Local(u32),
    Shared(u32),
    /// Dynamic shared memory.
    Dynamic,
    Param(u32),
    Global(u64),
    Label(usize),
    Targets(&'a [&'a str]),
    Prototype(&'a Prototype<'a>),
    CallTargets(&'a [&'a str]),
}

/// `name<count>`, its registers made as they are met.
struct Family<'a> {
    prefix: &'a str,
    count: u32,
    ty: Type,
    vector: u32,
    members: HashMap<u32, Sym<'a>>,
}

#[derive(Default)]
pub struct Scope<'a> {
    pub names: HashMap<&'a str, Sym<'a>>,
    families: Vec<Family<'a>>,
}

/// A resolved `[address]`.
pub struct Address {
    pub base: R,
    pub offset: i64,
    pub wide: bool,
    pub dynamic: bool,
    /// The space of the variable it names, if it names one.
    pub local: bool,
}

impl<'a> Decoder<'_, 'a> {
    pub fn declare(&mut self, name: &'a str, sym: Sym<'a>) -> Result<()> {
        let Some(scope) = self.scopes.last_mut() else {
            return Ok(());
        };
        if scope.names.insert(name, sym).is_some() {
            return self.fail(format!("`{name}` is declared twice in this scope"));
        }
        Ok(())
    }

    fn new_register(&mut self, ty: Type, vector: u32) -> Result<Sym<'a>> {
        if ty.bits() == 128 {
            return self.fail("128-bit registers are not supported");
        }
        if ty == Type::Pred {
            return Ok(Sym::Pred(self.predicate()?));
        }
        if vector == 1 {
            return Ok(Sym::Reg(self.temp(ty.bits() == 64), ty));
        }
        let parts = (0..vector).map(|_| self.temp(ty.bits() == 64)).collect();
        Ok(Sym::Vector(parts, ty))
    }

    pub fn declare_registers(
        &mut self,
        name: &'a str,
        count: Option<u32>,
        ty: Type,
        vector: u32,
    ) -> Result<()> {
        match count {
            None => {
                let sym = self.new_register(ty, vector)?;
                self.declare(name, sym)
            }
            Some(count) => {
                if let Some(scope) = self.scopes.last_mut() {
                    scope.families.push(Family {
                        prefix: name,
                        count,
                        ty,
                        vector,
                        members: HashMap::new(),
                    });
                }
                Ok(())
            }
        }
    }

    pub fn lookup(&mut self, name: &'a str) -> Result<Option<Sym<'a>>> {
        let digits = name.len() - name.bytes().rev().take_while(u8::is_ascii_digit).count();
        let number: Option<u32> = name[digits..].parse().ok();
        let prefix = &name[..digits];
        for at in (self.base..self.scopes.len()).rev() {
            if let Some(sym) = self.scopes[at].names.get(name) {
                return Ok(Some(sym.clone()));
            }
            let Some(n) = number else { continue };
            // `%r01` is not `%r1`.
            if name.len() - digits > 1 && name.as_bytes()[digits] == b'0' {
                continue;
            }
            let found =
                self.scopes[at].families.iter().position(|f| f.prefix == prefix && n < f.count);
            if let Some(which) = found {
                let family = &self.scopes[at].families[which];
                if let Some(sym) = family.members.get(&n) {
                    return Ok(Some(sym.clone()));
                }
                let sym = self.new_register(family.ty, family.vector)?;
                self.scopes[at].families[which].members.insert(n, sym.clone());
                return Ok(Some(sym));
            }
        }
        if let Some(&address) = self.m.globals.get(name) {
            return Ok(Some(Sym::Global(address)));
        }
        if let Some(sym) = self.shared.get(name) {
            return Ok(Some(sym.clone()));
        }
        if let Some(v) = self.m.shared.get(name).cloned() {
            let sym = self.place_shared(&v)?;
            self.shared.insert(name, sym.clone());
            return Ok(Some(sym));
        }
        if self.m.functions.contains_key(name) {
            let taken = self.m.addresses.iter().find(|(f, _)| *f == name);
            return Ok(taken.map(|&(_, address)| Sym::Global(address)));
        }
        Ok(None)
    }

    fn known(&mut self, name: &'a str) -> Result<Sym<'a>> {
        match self.lookup(name)? {
            Some(sym) => Ok(sym),
            None => self.fail(format!("`{name}` is not declared")),
        }
    }

    /// Inside a called function, whose parameters live in local memory.
    pub fn in_function(&self) -> bool {
        self.return_label.is_some() || self.subroutines.current.is_some()
    }

    pub fn predicate_named(&mut self, name: &'a str) -> Result<P> {
        match self.known(name)? {
            Sym::Pred(p) => Ok(p),
            _ => self.fail(format!("`{name}` is not a predicate")),
        }
    }

    /// A predicate as a source: `p`, `!p` or a constant.
    pub fn predicate_source(&mut self, op: &Operand<'a>) -> Result<P> {
        match op {
            Operand::Name("%is_explicit_cluster") => Ok(P::FALSE),
            Operand::Name(n) => self.predicate_named(n),
            Operand::Not(n) => Ok(self.predicate_named(n)?.negated()),
            Operand::Immediate(Immediate::Int(n)) => Ok(if *n == 0 { P::FALSE } else { P::TRUE }),
            _ => self.fail("expected a predicate"),
        }
    }

    /// A predicate as a destination; `_` gives none.
    pub fn predicate_destination(&mut self, op: &Operand<'a>) -> Result<P> {
        match op {
            Operand::Name("_") => Ok(P::NONE),
            Operand::Name(n) => self.predicate_named(n),
            _ => self.fail("expected a predicate register"),
        }
    }

    pub fn is_predicate(&mut self, op: &Operand<'a>) -> Result<bool> {
        Ok(match op {
            Operand::Not(_) => true,
            Operand::Name(n) => matches!(self.lookup(n)?, Some(Sym::Pred(_))),
            _ => false,
        })
    }

    fn component(&mut self, name: &'a str) -> Result<Option<R>> {
        let Some((base, part)) = name.rsplit_once('.') else {
            return Ok(None);
        };
        let Some(Sym::Vector(parts, _)) = self.lookup(base)? else {
            return Ok(None);
        };
        let index = match part {
            "x" | "r" => 0,
            "y" | "g" => 1,
            "z" | "b" => 2,
            "w" | "a" => 3,
            _ => return Ok(None),
        };
        Ok(parts.get(index).copied())
    }

    /// A source of any width: what it is decides.
    pub fn source_any(&mut self, op: &Operand<'a>, ty: Type) -> Result<R> {
        let wide = ty.bits() == 64;
        match op {
            Operand::Immediate(value) => {
                let bits = self.immediate(*value, ty)?;
                Ok(self.constant(bits, wide))
            }
            Operand::Name(name) => {
                if let Some(special) = special(name) {
                    let natural = matches!(
                        special,
                        Special::Clock64 | Special::GlobalTimer | Special::GridId
                    );
                    let mut i = Instr::new(Op::Alu(Alu::Special(special)));
                    i.d = self.temp(natural);
                    self.p.uses_reserved |= matches!(special, Special::ReservedShared(_));
                    self.emit(i)?;
                    return self.resize(i.d, wide, false);
                }
                if let Some(r) = self.component(name)? {
                    return Ok(r);
                }
                match self.known(name)? {
                    Sym::Reg(r, _) => Ok(r),
                    sym => self.symbol_address(&sym, name, 0, wide),
                }
            }
            Operand::Address { base: Some(name), offset, brackets: false } => {
                let sym = self.known(name)?;
                self.symbol_address(&sym, name, *offset, wide)
            }
            _ => self.fail("expected a register or a constant"),
        }
    }

    fn symbol_address(&mut self, sym: &Sym<'a>, name: &str, offset: i64, wide: bool) -> Result<R> {
        if let (Sym::Local(at), true) = (sym, self.subroutines.current.is_some()) {
            let mut i = Instr::new(Op::Alu(Alu::Int2(super::ir::Int2::Add, super::ir::IntTy::U32)));
            i.a = self.frame_base();
            i.b = self.constant(u64::from(*at).wrapping_add_signed(offset), false);
            i.d = self.temp(false);
            self.emit(i)?;
            return self.resize(i.d, wide, false);
        }
        let (value, dynamic_shared) = match sym {
            Sym::Local(at) | Sym::Shared(at) | Sym::Param(at) => (u64::from(*at), false),
            Sym::Dynamic => (0, true),
            Sym::Global(at) if wide => (*at, false),
            Sym::Global(_) => return self.fail(format!("the address of `{name}` needs 64 bits")),
            _ => return self.fail(format!("`{name}` cannot be used as a value here")),
        };
        let value = value.wrapping_add_signed(offset);
        let value = if wide { value } else { value & 0xffff_ffff };
        Ok(self.constant_entry(Const { value, wide, dynamic_shared }))
    }

    /// A source whose register must have the type's width.
    pub fn source(&mut self, op: &Operand<'a>, ty: Type) -> Result<R> {
        let r = self.source_any(op, ty)?;
        if self.is_wide(r) != (ty.bits() == 64) {
            return self.fail(format!("operand {op} is not {} bits wide", ty.bits()));
        }
        Ok(r)
    }

    /// A destination register of any width; `_` gives none.
    pub fn destination_any(&mut self, op: &Operand<'a>) -> Result<R> {
        match op {
            Operand::Name("_") => Ok(R::NONE),
            Operand::Name(name) => {
                if let Some(r) = self.component(name)? {
                    return Ok(r);
                }
                match self.known(name)? {
                    Sym::Reg(r, _) => Ok(r),
                    _ => self.fail(format!("`{name}` is not a register that can be written here")),
                }
            }
            _ => self.fail("expected a register"),
        }
    }

    pub fn destination(&mut self, op: &Operand<'a>, ty: Type) -> Result<R> {
        let r = self.destination_any(op)?;
        if r.is_none() {
            return Ok(self.temp(ty.bits() == 64));
        }
        if self.is_wide(r) != (ty.bits() == 64) {
            return self.fail(format!("destination {op} is not {} bits wide", ty.bits()));
        }
        Ok(r)
    }

    /// The registers of a `{…}` list, or of a vector register, or one scalar.
    pub fn vector(&mut self, op: &'a Operand<'a>) -> Result<Vec<Operand<'a>>> {
        match op {
            Operand::Vector(parts) => Ok(parts.clone()),
            other => Ok(vec![other.clone()]),
        }
    }

    pub fn vector_register(&mut self, op: &Operand<'a>) -> Result<Option<Vec<R>>> {
        if let Operand::Name(n) = op
            && let Some(Sym::Vector(parts, _)) = self.lookup(n)?
        {
            return Ok(Some(parts));
        }
        Ok(None)
    }

    /// The low 32 bits of a wide value, or a narrow value extended.
    pub fn resize(&mut self, r: R, wide: bool, signed: bool) -> Result<R> {
        if self.is_wide(r) == wide {
            return Ok(r);
        }
        let d = self.temp(wide);
        self.resize_to(d, r, signed)?;
        Ok(d)
    }

    pub fn resize_to(&mut self, d: R, r: R, signed: bool) -> Result<()> {
        use crate::numeric::cvt::IntType;
        let (from, to) = match (self.is_wide(r), signed) {
            (true, _) => (IntType::U64, IntType::U32),
            (false, false) => (IntType::U32, IntType::U64),
            (false, true) => (IntType::S32, IntType::S64),
        };
        let mut i =
            Instr::new(Op::Alu(Alu::Cvt(super::ir::Cvt::IntToInt { from, to, sat: false })));
        i.d = d;
        i.a = r;
        self.emit(i)
    }

    pub fn mov(&mut self, d: R, a: R) -> Result<()> {
        let mut i = Instr::new(Op::Alu(Alu::Mov { wide: self.is_wide(d) }));
        i.d = d;
        i.a = a;
        self.emit(i)
    }

    fn immediate(&self, value: Immediate, ty: Type) -> Result<u64> {
        let float = match value {
            Immediate::Float(bits, Type::F32) => f64::from(f32::from_bits(bits as u32)),
            Immediate::Float(bits, _) => f64::from_bits(bits),
            Immediate::Int(n) => {
                return Ok(if ty.bits() < 64 { n & ((1 << ty.bits().max(8)) - 1) } else { n });
            }
        };
        match (ty, value) {
            (Type::F32 | Type::B32 | Type::Tf32, Immediate::Float(bits, Type::F32)) => Ok(bits),
            (Type::F64 | Type::B64, Immediate::Float(bits, Type::F64)) => Ok(bits),
            (Type::F32, _) => Ok(u64::from((float as f32).to_bits())),
            (Type::F64, _) => Ok(float.to_bits()),
            _ => self.fail("a floating-point constant does not fit this type"),
        }
    }

    /// `[register+n]`, `[variable+n]`, `[n]`.
    pub fn address(&mut self, op: &Operand<'a>) -> Result<Address> {
        let Operand::Address { base, offset, brackets: true } = op else {
            return self.fail("expected an address in brackets");
        };
        let mut address =
            Address { base: R::NONE, offset: *offset, wide: true, dynamic: false, local: false };
        let Some(name) = base else { return Ok(address) };
        let sym = match self.component(name)? {
            Some(r) => Sym::Reg(r, Type::B32),
            None => self.known(name)?,
        };
        match sym {
            Sym::Reg(r, _) => {
                address.base = r;
                address.wide = self.is_wide(r);
            }
            Sym::Local(at) => {
                if self.subroutines.current.is_some() {
                    address.base = self.frame_base();
                    address.wide = false;
                }
                address.offset = address.offset.wrapping_add(i64::from(at));
                address.local = true;
            }
            Sym::Shared(at) | Sym::Param(at) => {
                address.offset = address.offset.wrapping_add(i64::from(at))
            }
            Sym::Global(at) => address.offset = address.offset.wrapping_add(at as i64),
            Sym::Dynamic => address.dynamic = true,
            _ => return self.fail(format!("`{name}` is not an address")),
        }
        Ok(address)
    }

    /// Puts an address into an instruction's `a` and `imm`; emit it right after.
    pub fn set_address(&mut self, i: &mut Instr, address: &Address) {
        i.a = address.base;
        i.imm = address.offset;
        if address.dynamic {
            self.dynamic_fixups.push(self.p.code.len());
        }
    }

    /// An address as a register, for instructions that need `imm` for something else.
    pub fn address_register(&mut self, op: &Operand<'a>) -> Result<R> {
        let address = self.address(op)?;
        if address.base.is_none() {
            return Ok(self.constant_entry(Const {
                value: address.offset as u64,
                wide: true,
                dynamic_shared: address.dynamic,
            }));
        }
        if address.offset == 0 {
            return Ok(address.base);
        }
        let ty = if address.wide { super::ir::IntTy::U64 } else { super::ir::IntTy::U32 };
        let mut i = Instr::new(Op::Alu(Alu::Int2(super::ir::Int2::Add, ty)));
        i.a = address.base;
        i.b = self.constant(address.offset as u64, address.wide);
        i.d = self.temp(address.wide);
        self.emit(i)?;
        Ok(i.d)
    }
}

impl std::fmt::Display for Operand<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Operand::Name(n) => write!(f, "`{n}`"),
            Operand::Not(n) => write!(f, "`!{n}`"),
            _ => write!(f, "here"),
        }
    }
}

/// Chapter 10: special registers.
fn special(name: &str) -> Option<Special> {
    let axis = |n: &str| match n {
        "x" => Some(0),
        "y" => Some(1),
        "z" => Some(2),
        _ => None,
    };
    if let Some((base, part)) = name.split_once('.') {
        let axis = axis(part)?;
        return Some(match base {
            "%tid" => Special::Tid(axis),
            "%ntid" => Special::Ntid(axis),
            "%ctaid" | "%clusterid" => Special::Ctaid(axis),
            "%nctaid" | "%nclusterid" => Special::Nctaid(axis),
            // Every block is a cluster of its own.
            "%cluster_ctaid" => Special::Zero,
            "%cluster_nctaid" => Special::One,
            _ => return None,
        });
    }
    Some(match name {
        "%laneid" => Special::LaneId,
        "%warpid" => Special::WarpId,
        "%nwarpid" => Special::NWarpId,
        "%smid" => Special::SmId,
        "%nsmid" => Special::NSmId,
        "%gridid" => Special::GridId,
        "%lanemask_eq" => Special::LaneMask(LaneMask::Eq),
        "%lanemask_le" => Special::LaneMask(LaneMask::Le),
        "%lanemask_lt" => Special::LaneMask(LaneMask::Lt),
        "%lanemask_ge" => Special::LaneMask(LaneMask::Ge),
        "%lanemask_gt" => Special::LaneMask(LaneMask::Gt),
        "%clock" | "%globaltimer_lo" => Special::Clock,
        "%clock_hi" | "%globaltimer_hi" => Special::Zero,
        "%clock64" => Special::Clock64,
        "%globaltimer" => Special::GlobalTimer,
        "%dynamic_smem_size" => Special::DynamicSharedSize,
        "%total_smem_size" | "%aggr_smem_size" => Special::TotalSharedSize,
        "%reserved_smem_offset_begin" | "%reserved_smem_offset_0" => Special::ReservedShared(0),
        "%reserved_smem_offset_1" => Special::ReservedShared(RESERVED_SHARED / 2),
        "%reserved_smem_offset_end" => Special::ReservedShared(RESERVED_SHARED),
        "%reserved_smem_offset_cap" => Special::ReservedSharedSize,
        "%cluster_ctarank" => Special::Zero,
        "%cluster_nctarank" => Special::One,
        _ => {
            let n: u32 = name.strip_prefix("%envreg")?.parse().ok()?;
            if n < 32 { Special::Zero } else { return None }
        }
    })
}
