//! Names: declared in scopes, looked up from the innermost out.

use super::decoder::Decoder;
use super::ir::P;
use super::scope::{Family, Sym};
use crate::ptx::error::LoadResult;
use crate::ptx::types::Type;
use std::collections::HashMap;

impl<'a> Decoder<'_, 'a> {
    pub fn declare(&mut self, name: &'a str, sym: Sym<'a>) -> LoadResult<()> {
        let Some(scope) = self.scopes.last_mut() else {
            return Ok(());
        };
        if scope.names.insert(name, sym).is_some() {
            return self.fail(format!("`{name}` is declared twice in this scope"));
        }
        Ok(())
    }

    fn new_register(&mut self, ty: Type, vector: u32) -> LoadResult<Sym<'a>> {
        if ty.bits() == 128 {
            return self.fail("128-bit registers are not supported");
        }
        if ty == Type::Pred {
            return Ok(Sym::Pred(self.predicate()?));
        }
        if vector == 1 {
            return Ok(Sym::Reg(self.temp(ty.bits() == 64)));
        }
        let parts = (0..vector).map(|_| self.temp(ty.bits() == 64)).collect();
        Ok(Sym::Vector(parts))
    }

    pub fn declare_registers(
        &mut self,
        name: &'a str,
        count: Option<u32>,
        ty: Type,
        vector: u32,
    ) -> LoadResult<()> {
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

    pub fn lookup(&mut self, name: &'a str) -> LoadResult<Option<Sym<'a>>> {
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

    pub fn known(&mut self, name: &'a str) -> LoadResult<Sym<'a>> {
        match self.lookup(name)? {
            Some(sym) => Ok(sym),
            None => self.fail(format!("`{name}` is not declared")),
        }
    }

    pub fn predicate_named(&mut self, name: &'a str) -> LoadResult<P> {
        match self.known(name)? {
            Sym::Pred(p) => Ok(p),
            _ => self.fail(format!("`{name}` is not a predicate")),
        }
    }
}
