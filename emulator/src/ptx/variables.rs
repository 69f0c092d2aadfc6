//! Declarations of variables and formal parameters, and initialisers (PTX ISA 5.4 and chapter 7).

use super::ast::*;
use super::error::LoadResult;
use super::lexer::Token;
use super::parser::Parser;
use super::types::{Space, Type};

impl<'a> Parser<'a> {
    /// A list of variables up to its semicolon (5.4).
    pub(super) fn variables(&mut self, external: bool) -> LoadResult<Vec<Variable<'a>>> {
        let space = match self.word("a state space")? {
            ".global" => Space::Global,
            ".const" => Space::Const,
            ".shared" | ".shared::cta" => Space::Shared,
            ".local" => Space::Local,
            _ => Space::Param,
        };
        let (first, vector) = self.variable(space, external)?;
        let mut out = vec![first];
        while self.eat(',') {
            let like = &out[0];
            let (line, ty, align) = (self.line(), like.ty, like.align);
            let more = self.declarator(line, space, ty, vector, align, external)?;
            out.push(more);
        }
        self.expect(';')?;
        Ok(out)
    }

    pub(super) fn variable(
        &mut self,
        space: Space,
        external: bool,
    ) -> LoadResult<(Variable<'a>, u32)> {
        let line = self.line();
        let (mut align, mut vector, mut ty) = (0, 1, None);
        loop {
            match self.peek() {
                Token::Word(".align") => {
                    self.next();
                    align = self.int32()?;
                    if !align.is_power_of_two() || align > 1 << 20 {
                        return self.fail(format!("alignment {align} is not a power of two"));
                    }
                }
                Token::Word(".attribute") => {
                    self.next();
                    self.attribute()?;
                }
                // `.ptr` says what a kernel parameter points to; the following alignment is the pointee's.
                Token::Word(".ptr") => {
                    self.next();
                    while let Token::Word(".global" | ".const" | ".local" | ".shared") = self.peek()
                    {
                        self.next();
                    }
                    if self.eat_word(".align") {
                        self.int()?;
                    }
                }
                Token::Word(".v2") => {
                    self.next();
                    vector = 2;
                }
                Token::Word(".v4") => {
                    self.next();
                    vector = 4;
                }
                Token::Word(".texref" | ".samplerref" | ".surfref") => {
                    return self.fail("textures and surfaces are not supported");
                }
                Token::Word(w) if w.starts_with('.') => match Type::parse(&w[1..]) {
                    Some(Type::Pred) | None => return self.unexpected("a type"),
                    Some(t) => {
                        self.next();
                        ty = Some(t);
                    }
                },
                _ => break,
            }
        }
        let Some(ty) = ty else {
            return self.unexpected("a type");
        };
        let variable = self.declarator(line, space, ty, vector, align, external)?;
        Ok((variable, vector))
    }

    pub(super) fn declarator(
        &mut self,
        line: u32,
        space: Space,
        ty: Type,
        vector: u32,
        align: u32,
        external: bool,
    ) -> LoadResult<Variable<'a>> {
        let name = self.name("a variable name")?;
        let element = u64::from(ty.bytes() * vector);
        let mut dims = Vec::new();
        while self.eat('[') {
            if self.eat(']') {
                dims.push(None);
            } else {
                dims.push(Some(self.constant_int()?));
                self.expect(']')?;
            }
        }
        let mut init = Vec::new();
        if self.eat('=') {
            // Bytes each level of braces spans: whole array, row, …, element.
            let mut spans = vec![element];
            for d in dims.iter().rev() {
                let inner = spans[spans.len() - 1];
                spans.push(inner.saturating_mul(d.unwrap_or(0)));
            }
            spans.reverse();
            let mut bytes = 0;
            self.initialiser(&mut init, &mut bytes, u64::from(ty.bytes()), &spans)?;
            if let Some(first @ None) = dims.first_mut() {
                *first = Some(bytes.div_ceil(spans.get(1).copied().unwrap_or(element).max(1)));
            }
        }
        let size = if dims.iter().any(Option::is_none) {
            if !(external || space == Space::Param) {
                return self.fail(format!("`{name}` has no size"));
            }
            None
        } else {
            match dims.iter().try_fold(element, |n, d| n.checked_mul(d.unwrap_or(0))) {
                Some(n) if n < 1 << 40 => Some(n),
                _ => return self.fail(format!("`{name}` is too large")),
            }
        };
        let natural = if vector > 1 { ty.bytes() * vector } else { ty.bytes() };
        Ok(Variable { line, name, space, ty, align: align.max(natural), size, external, init })
    }

    /// Initialisers.
    pub(super) fn initialiser(
        &mut self,
        out: &mut Vec<Init<'a>>,
        bytes: &mut u64,
        element: u64,
        spans: &[u64],
    ) -> LoadResult<()> {
        if !self.is('{') {
            out.push(self.initial_value()?);
            *bytes += element;
            return Ok(());
        }
        self.next();
        let start = *bytes;
        while !self.eat('}') {
            self.nested(|p| p.initialiser(out, bytes, element, spans.get(1..).unwrap_or(&[])))?;
            if !self.eat(',') && !self.is('}') {
                return self.unexpected("`,` or `}`");
            }
        }
        let end = start.saturating_add(spans.first().copied().unwrap_or(0));
        if *bytes < end && end < 1 << 40 {
            out.push(Init::PadTo(end));
            *bytes = end;
        }
        Ok(())
    }

    pub(super) fn initial_value(&mut self) -> LoadResult<Init<'a>> {
        // `mask(name+offset)`
        if let (Token::Int(mask), Token::Punct('('), Token::Word(name)) =
            (self.peek(), self.peek_at(1), self.peek_at(2))
        {
            self.next();
            self.next();
            if name == "generic" {
                let (name, addend) = self.generic_address()?;
                self.expect(')')?;
                return Ok(Init::Address { name, addend, mask: Some(mask) });
            }
            let name = self.name("a variable")?;
            let addend = self.addend()?;
            self.expect(')')?;
            return Ok(Init::Address { name, addend, mask: Some(mask) });
        }
        match self.peek() {
            Token::Word("generic") => {
                let (name, addend) = self.generic_address()?;
                Ok(Init::Address { name, addend, mask: None })
            }
            Token::Word(w) if !w.starts_with('.') && w != "WARP_SZ" => {
                let name = self.name("a variable")?;
                let addend = self.addend()?;
                Ok(Init::Address { name, addend, mask: None })
            }
            _ => Ok(Init::Value(self.constant(0)?)),
        }
    }

    pub(super) fn generic_address(&mut self) -> LoadResult<(&'a str, i64)> {
        self.next();
        self.expect('(')?;
        let name = self.name("a variable")?;
        self.expect(')')?;
        Ok((name, self.addend()?))
    }

    pub(super) fn attribute(&mut self) -> LoadResult<()> {
        self.expect('(')?;
        loop {
            match self.word("an attribute")? {
                ".managed" => {}
                ".unified" => {
                    self.expect('(')?;
                    self.int()?;
                    self.expect(',')?;
                    self.int()?;
                    self.expect(')')?;
                }
                other => return self.fail(format!("attribute `{other}` is not known")),
            }
            if !self.eat(',') {
                break;
            }
        }
        self.expect(')')
    }

    /// Chapter 7: formal parameters.
    pub(super) fn params(&mut self) -> LoadResult<Vec<Param<'a>>> {
        self.expect('(')?;
        let mut params = Vec::new();
        while !self.eat(')') {
            if !params.is_empty() {
                self.expect(',')?;
            }
            let line = self.line();
            if self.eat_word(".reg") {
                let vector = self.vector_width();
                let ty = self.ty()?;
                let name = self.name("a parameter name")?;
                params.push(Param::Register { line, ty, vector, name });
            } else if self.peek() == Token::Word(".param") {
                self.next();
                params.push(Param::Memory(self.variable(Space::Param, false)?.0));
            } else {
                return self.unexpected("a parameter");
            }
        }
        Ok(params)
    }
}
