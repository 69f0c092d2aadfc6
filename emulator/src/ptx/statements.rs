//! The contents of functions: statements, instructions and their operands.

use super::ast::*;
use super::error::LoadResult;
use super::lexer::Token;
use super::parser::Parser;

impl<'a> Parser<'a> {
    /// A function's body or an inner scope.
    pub(super) fn block(&mut self) -> LoadResult<Vec<Statement<'a>>> {
        self.nested(|p| {
            p.expect('{')?;
            let mut body = Vec::new();
            while !p.eat('}') {
                p.statement(&mut body)?;
            }
            Ok(body)
        })
    }

    pub(super) fn statement(&mut self, body: &mut Vec<Statement<'a>>) -> LoadResult<()> {
        let line = self.line();
        match self.peek() {
            Token::Punct('{') => {
                let inner = self.block()?;
                body.push(Statement::Block(inner));
            }
            Token::Punct(';') => {
                self.next();
            }
            Token::Word(".reg") => {
                let registers = self.registers()?;
                body.push(registers);
            }
            Token::Word(
                ".shared" | ".local" | ".param" | ".global" | ".const" | ".shared::cta",
            ) => {
                let variables = self.variables(false)?;
                body.extend(variables.into_iter().map(Statement::Variable));
            }
            Token::Word(".extern") => {
                self.next();
                let variables = self.variables(true)?;
                body.extend(variables.into_iter().map(Statement::Variable));
            }
            Token::Word(".loc") => body.push(Statement::Loc(self.loc()?)),
            Token::Word(".pragma") => self.pragma()?,
            Token::Word(".file") => return self.fail("`.file` inside a function"),
            Token::Word(w) if w.starts_with('.') => return self.unexpected("a statement"),
            Token::Word(name) if self.peek_at(1) == Token::Punct(':') => {
                self.next();
                self.next();
                match self.peek() {
                    Token::Word(".branchtargets") => {
                        let labels = self.names("a label")?;
                        body.push(Statement::BranchTargets { line, name, labels });
                    }
                    Token::Word(".calltargets") => {
                        let functions = self.names("a function")?;
                        body.push(Statement::CallTargets { line, name, functions });
                    }
                    Token::Word(".callprototype") => {
                        body.push(Statement::CallPrototype(self.prototype(line, name)?));
                    }
                    _ => body.push(Statement::Label { line, name }),
                }
            }
            Token::Word(_) | Token::Punct('@') => {
                body.push(Statement::Instruction(self.instruction()?))
            }
            _ => return self.unexpected("a statement"),
        }
        Ok(())
    }

    /// The names that follow a control-flow directive, up to the semicolon.
    fn names(&mut self, wanted: &str) -> LoadResult<Vec<&'a str>> {
        self.next();
        let mut names = vec![self.name(wanted)?];
        while self.eat(',') {
            names.push(self.name(wanted)?);
        }
        self.expect(';')?;
        Ok(names)
    }

    /// `label: .callprototype (results) _ (parameters);`
    fn prototype(&mut self, line: u32, name: &'a str) -> LoadResult<Prototype<'a>> {
        self.next();
        let returns = if self.is('(') { self.params()? } else { Vec::new() };
        self.name("`_`")?;
        let params = if self.is('(') { self.params()? } else { Vec::new() };
        while self.eat_word(".noreturn") {}
        if matches!(self.peek(), Token::Word(".abi_preserve" | ".abi_preserve_control")) {
            self.dimensions()?;
        }
        self.expect(';')?;
        Ok(Prototype { line, name, params, returns })
    }

    /// The number of registers under one name.
    pub(super) fn vector_width(&mut self) -> u32 {
        if self.eat_word(".v2") {
            2
        } else if self.eat_word(".v4") {
            4
        } else {
            1
        }
    }

    /// `.reg .b32 %r<100>, %x;`
    pub(super) fn registers(&mut self) -> LoadResult<Statement<'a>> {
        let line = self.line();
        self.next();
        let vector = self.vector_width();
        let ty = self.ty()?;
        let mut names = Vec::new();
        loop {
            let name = self.name("a register name")?;
            let count = if self.eat('<') {
                let n = self.int32()?;
                self.expect('>')?;
                Some(n)
            } else {
                None
            };
            names.push((name, count));
            if !self.eat(',') {
                break;
            }
        }
        self.expect(';')?;
        Ok(Statement::Registers { line, ty, vector, names })
    }

    /// .loc: the innermost position counts; the call site it was inlined at is skipped.
    pub(super) fn loc(&mut self) -> LoadResult<Loc> {
        self.next();
        let file = self.int32()?;
        let line = self.int32()?;
        self.int()?;
        while self.is(',') {
            self.next();
            match self.word("`function_name` or `inlined_at`")? {
                "function_name" => {
                    self.name("a label")?;
                    self.addend()?;
                }
                "inlined_at" => {
                    self.int()?;
                    self.int()?;
                    self.int()?;
                }
                _ => return self.fail("unknown part of `.loc`"),
            }
        }
        Ok(Loc { file, line })
    }

    /// 9.3: an instruction with its guard.
    pub(super) fn instruction(&mut self) -> LoadResult<Instruction<'a>> {
        let line = self.line();
        let guard = if self.eat('@') {
            let negated = self.eat('!');
            Some((negated, self.name("a predicate")?))
        } else {
            None
        };
        let opcode = self.name("an opcode")?;
        let mut operands = Vec::new();
        if !self.is(';') {
            loop {
                operands.push(self.operand()?);
                if !self.eat(',') {
                    break;
                }
            }
        }
        self.expect(';')?;
        Ok(Instruction { line, guard, opcode, operands })
    }

    /// Chapter 6: operands.
    pub(super) fn operand(&mut self) -> LoadResult<Operand<'a>> {
        self.nested(Self::operand_inner)
    }

    pub(super) fn operand_inner(&mut self) -> LoadResult<Operand<'a>> {
        let first = match self.peek() {
            Token::Punct('!') if matches!(self.peek_at(1), Token::Word(_)) => {
                self.next();
                Operand::Not(self.name("a predicate")?)
            }
            Token::Punct('[') => self.address()?,
            Token::Punct('{') => {
                self.next();
                Operand::Vector(self.operands('}')?)
            }
            Token::Punct('(') if self.opens_list() => {
                self.next();
                Operand::List(self.operands(')')?)
            }
            Token::Word("WARP_SZ") => Operand::Immediate(self.constant(0)?),
            Token::Word(_) => {
                let name = self.name("an operand")?;
                if self.is('+') || self.is('-') {
                    let offset = self.addend()?;
                    Operand::Address { base: Some(name), offset, brackets: false }
                } else {
                    Operand::Name(name)
                }
            }
            _ => Operand::Immediate(self.constant(0)?),
        };
        if self.eat('|') {
            let second = self.operand()?;
            return Ok(Operand::Pair(Box::new(first), Box::new(second)));
        }
        Ok(first)
    }

    /// Whether a parenthesis opens a call's list and not a constant expression.
    fn opens_list(&self) -> bool {
        matches!(
            (self.peek_at(1), self.peek_at(2)),
            (Token::Word(_) | Token::Punct(')' | '{'), _) | (Token::Punct('!'), Token::Word(_))
        )
    }

    pub(super) fn operands(&mut self, close: char) -> LoadResult<Vec<Operand<'a>>> {
        let mut out = Vec::new();
        while !self.eat(close) {
            if !out.is_empty() {
                self.expect(',')?;
            }
            out.push(self.operand()?);
        }
        Ok(out)
    }

    /// Chapter 6: addresses as operands.
    pub(super) fn address(&mut self) -> LoadResult<Operand<'a>> {
        self.next();
        let (base, offset) = match self.peek() {
            Token::Word(_) => (Some(self.name("an address")?), self.addend()?),
            _ => (None, self.constant_int()? as i64),
        };
        if let Some(base) = base
            && offset == 0
            && self.eat(',')
        {
            let Operand::Vector(coordinates) = self.operand()? else {
                return self.fail("expected coordinates in braces");
            };
            self.expect(']')?;
            return Ok(Operand::TensorAddress { base, coordinates });
        }
        self.expect(']')?;
        Ok(Operand::Address { base, offset, brackets: true })
    }
}
