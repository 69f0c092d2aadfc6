//! Operands: from the text to register slots, constants and addresses.

use super::decoder::Decoder;
use super::ir::{Alu, Const, Cvt, Instr, Int2, IntTy, Op, P, R, Special};
use super::mods::Mods;
use super::scope::Sym;
use super::special::special;
use crate::numeric::cvt::IntType;
use crate::ptx::ast::{Immediate, Operand};
use crate::ptx::error::LoadResult;
use crate::ptx::types::Type;

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
    pub fn count(&self, ops: &[Operand], n: usize) -> LoadResult<()> {
        if ops.len() != n {
            return self.fail(format!("expected {n} operands, found {}", ops.len()));
        }
        Ok(())
    }

    pub fn need_ty(&self, mods: &mut Mods) -> LoadResult<Type> {
        match mods.ty() {
            Some(ty) => Ok(ty),
            None => self.fail("this instruction needs a type"),
        }
    }

    pub(super) fn need_sync(&self, base: &str, m: &mut Mods) -> LoadResult<()> {
        if !m.flag("sync") {
            return self.fail(format!("`{base}` without `.sync` does not exist from sm_70 on"));
        }
        Ok(())
    }

    pub fn bad_ty<T>(&self, base: &str, ty: Type) -> LoadResult<T> {
        self.fail(format!("`{base}` is not supported for type {ty:?}"))
    }

    /// d, then sources, all with their own types.
    pub fn regular(
        &mut self,
        alu: Alu,
        ops: &[Operand<'a>],
        to: Type,
        from: &[Type],
    ) -> LoadResult<bool> {
        self.count(ops, 1 + from.len())?;
        let mut i = Instr::new(Op::Alu(alu));
        let mut sources = [R::NONE; 3];
        for (slot, (op, ty)) in sources.iter_mut().zip(ops[1..].iter().zip(from)) {
            *slot = self.source(op, *ty)?;
        }
        [i.a, i.b, i.c] = sources;
        i.d = self.destination(&ops[0], to)?;
        self.emit(i)?;
        Ok(true)
    }

    /// `d|p` or `d`.
    pub(super) fn pair(&mut self, i: &mut Instr, op: &Operand<'a>, ty: Type) -> LoadResult<()> {
        let d = match op {
            Operand::Pair(d, p) => {
                i.pd = self.predicate_destination(p)?;
                d
            }
            d => d,
        };
        i.d = self.destination(d, ty)?;
        Ok(())
    }

    /// A predicate as a source: `p`, `!p` or a constant.
    pub fn predicate_source(&mut self, op: &Operand<'a>) -> LoadResult<P> {
        match op {
            Operand::Name("%is_explicit_cluster") => Ok(P::FALSE),
            Operand::Name(n) => self.predicate_named(n),
            Operand::Not(n) => Ok(self.predicate_named(n)?.negated()),
            Operand::Immediate(Immediate::Int(n)) => Ok(if *n == 0 { P::FALSE } else { P::TRUE }),
            _ => self.fail("expected a predicate"),
        }
    }

    /// A predicate as a destination; `_` gives none.
    pub fn predicate_destination(&mut self, op: &Operand<'a>) -> LoadResult<P> {
        match op {
            Operand::Name("_") => Ok(P::NONE),
            Operand::Name(n) => self.predicate_named(n),
            _ => self.fail("expected a predicate register"),
        }
    }

    pub fn is_predicate(&mut self, op: &Operand<'a>) -> LoadResult<bool> {
        Ok(match op {
            Operand::Not(_) => true,
            Operand::Name(n) => matches!(self.lookup(n)?, Some(Sym::Pred(_))),
            _ => false,
        })
    }

    fn component(&mut self, name: &'a str) -> LoadResult<Option<R>> {
        let Some((base, part)) = name.rsplit_once('.') else {
            return Ok(None);
        };
        let Some(Sym::Vector(parts)) = self.lookup(base)? else {
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

    /// A source of any width: the operand itself decides.
    pub fn source_any(&mut self, op: &Operand<'a>, ty: Type) -> LoadResult<R> {
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
                    Sym::Reg(r) => Ok(r),
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

    fn symbol_address(
        &mut self,
        sym: &Sym<'a>,
        name: &str,
        offset: i64,
        wide: bool,
    ) -> LoadResult<R> {
        if let (Sym::Local(at), true) = (sym, self.subroutines.current.is_some()) {
            let mut i = Instr::new(Op::Alu(Alu::Int2(Int2::Add, IntTy::U32)));
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
    pub fn source(&mut self, op: &Operand<'a>, ty: Type) -> LoadResult<R> {
        let r = self.source_any(op, ty)?;
        if self.is_wide(r) != (ty.bits() == 64) {
            return self.fail(format!("operand {op} is not {} bits wide", ty.bits()));
        }
        Ok(r)
    }

    /// A destination register of any width; `_` gives none.
    pub fn destination_any(&mut self, op: &Operand<'a>) -> LoadResult<R> {
        match op {
            Operand::Name("_") => Ok(R::NONE),
            Operand::Name(name) => {
                if let Some(r) = self.component(name)? {
                    return Ok(r);
                }
                match self.known(name)? {
                    Sym::Reg(r) => Ok(r),
                    _ => self.fail(format!("`{name}` is not a register that can be written here")),
                }
            }
            _ => self.fail("expected a register"),
        }
    }

    pub fn destination(&mut self, op: &Operand<'a>, ty: Type) -> LoadResult<R> {
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
    pub fn vector(&mut self, op: &'a Operand<'a>) -> LoadResult<Vec<Operand<'a>>> {
        match op {
            Operand::Vector(parts) => Ok(parts.clone()),
            other => Ok(vec![other.clone()]),
        }
    }

    pub fn vector_register(&mut self, op: &Operand<'a>) -> LoadResult<Option<Vec<R>>> {
        if let Operand::Name(n) = op
            && let Some(Sym::Vector(parts)) = self.lookup(n)?
        {
            return Ok(Some(parts));
        }
        Ok(None)
    }

    /// The low 32 bits of a wide value, or a narrow value extended.
    pub fn resize(&mut self, r: R, wide: bool, signed: bool) -> LoadResult<R> {
        if self.is_wide(r) == wide {
            return Ok(r);
        }
        let d = self.temp(wide);
        self.resize_to(d, r, signed)?;
        Ok(d)
    }

    pub fn resize_to(&mut self, d: R, r: R, signed: bool) -> LoadResult<()> {
        let (from, to) = match (self.is_wide(r), signed) {
            (true, _) => (IntType::U64, IntType::U32),
            (false, false) => (IntType::U32, IntType::U64),
            (false, true) => (IntType::S32, IntType::S64),
        };
        let mut i = Instr::new(Op::Alu(Alu::Cvt(Cvt::IntToInt { from, to, sat: false })));
        i.d = d;
        i.a = r;
        self.emit(i)
    }

    pub fn mov(&mut self, d: R, a: R) -> LoadResult<()> {
        let mut i = Instr::new(Op::Alu(Alu::Mov { wide: self.is_wide(d) }));
        i.d = d;
        i.a = a;
        self.emit(i)
    }

    fn immediate(&self, value: Immediate, ty: Type) -> LoadResult<u64> {
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
    pub fn address(&mut self, op: &Operand<'a>) -> LoadResult<Address> {
        let Operand::Address { base, offset, brackets: true } = op else {
            return self.fail("expected an address in brackets");
        };
        let mut address =
            Address { base: R::NONE, offset: *offset, wide: true, dynamic: false, local: false };
        let Some(name) = base else { return Ok(address) };
        let sym = match self.component(name)? {
            Some(r) => Sym::Reg(r),
            None => self.known(name)?,
        };
        match sym {
            Sym::Reg(r) => {
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
    pub fn address_register(&mut self, op: &Operand<'a>) -> LoadResult<R> {
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
        let ty = if address.wide { IntTy::U64 } else { IntTy::U32 };
        let mut i = Instr::new(Op::Alu(Alu::Int2(Int2::Add, ty)));
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
