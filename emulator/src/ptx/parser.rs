//! Tokens to syntax tree, by recursive descent. Rules name the chapter or directive of the PTX ISA manual.

use super::ast::*;
use super::error::{Result, error};
use super::lexer::{Spanned, Token, tokens};
use super::types::{Space, Type};

/// Braces may nest this deep; deeper text is refused rather than overflowing the stack.
const MAX_DEPTH: u32 = 64;

pub fn parse(source: &str) -> Result<SyntaxTree<'_>> {
    let tokens = tokens(source)?;
    Parser { source, tokens, at: 0, depth: 0 }.module()
}

pub(super) struct Parser<'a> {
    source: &'a str,
    tokens: Vec<Spanned<'a>>,
    at: usize,
    depth: u32,
}

impl<'a> Parser<'a> {
    pub(super) fn peek(&self) -> Token<'a> {
        self.tokens[self.at].token
    }

    pub(super) fn peek_at(&self, n: usize) -> Token<'a> {
        self.tokens.get(self.at + n).map_or(Token::End, |t| t.token)
    }

    pub(super) fn line(&self) -> u32 {
        self.tokens[self.at].line
    }

    pub(super) fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    pub(super) fn fail<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(error(self.source, self.line(), message))
    }

    pub(super) fn unexpected<T>(&self, wanted: &str) -> Result<T> {
        let found = match self.peek() {
            Token::Word(w) => format!("`{w}`"),
            Token::Int(n) => format!("`{n}`"),
            Token::Float(..) => "a floating-point number".into(),
            Token::Text(t) => format!("\"{t}\""),
            Token::Punct(c) => format!("`{c}`"),
            Token::End => "the end of the text".into(),
        };
        self.fail(format!("expected {wanted}, found {found}"))
    }

    pub(super) fn is(&self, c: char) -> bool {
        self.peek() == Token::Punct(c)
    }

    pub(super) fn eat(&mut self, c: char) -> bool {
        let yes = self.is(c);
        if yes {
            self.next();
        }
        yes
    }

    pub(super) fn expect(&mut self, c: char) -> Result<()> {
        if self.eat(c) { Ok(()) } else { self.unexpected(&format!("`{c}`")) }
    }

    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let yes = self.peek() == Token::Word(word);
        if yes {
            self.next();
        }
        yes
    }

    pub(super) fn word(&mut self, wanted: &str) -> Result<&'a str> {
        match self.peek() {
            Token::Word(w) => {
                self.next();
                Ok(w)
            }
            _ => self.unexpected(wanted),
        }
    }

    pub(super) fn name(&mut self, wanted: &str) -> Result<&'a str> {
        match self.peek() {
            Token::Word(w) if !w.starts_with('.') => self.word(wanted),
            _ => self.unexpected(wanted),
        }
    }

    pub(super) fn int(&mut self) -> Result<u64> {
        match self.peek() {
            Token::Int(n) => {
                self.next();
                Ok(n)
            }
            _ => self.unexpected("a number"),
        }
    }

    pub(super) fn int32(&mut self) -> Result<u32> {
        let n = self.int()?;
        u32::try_from(n).or_else(|_| self.fail(format!("{n} is too large")))
    }

    pub(super) fn text(&mut self) -> Result<&'a str> {
        match self.peek() {
            Token::Text(t) => {
                self.next();
                Ok(t)
            }
            _ => self.unexpected("a string"),
        }
    }

    pub(super) fn nested<T>(&mut self, rule: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        self.depth += 1;
        let result = rule(self);
        self.depth -= 1;
        result
    }

    /// 4.5, constant expressions, by precedence climbing.
    pub(super) fn constant(&mut self, min: u8) -> Result<Immediate> {
        self.nested(|p| p.constant_inner(min))
    }

    pub(super) fn constant_inner(&mut self, min: u8) -> Result<Immediate> {
        let mut left = match self.peek() {
            Token::Int(n) => {
                self.next();
                Immediate::Int(n)
            }
            Token::Float(bits, ty) => {
                self.next();
                Immediate::Float(bits, ty)
            }
            Token::Punct('-') => {
                self.next();
                match self.constant(10)? {
                    Immediate::Int(n) => Immediate::Int(n.wrapping_neg()),
                    Immediate::Float(b, Type::F32) => Immediate::Float(b ^ 0x8000_0000, Type::F32),
                    Immediate::Float(b, ty) => Immediate::Float(b ^ (1 << 63), ty),
                }
            }
            Token::Punct(op @ ('~' | '!' | '+')) => {
                self.next();
                match (op, self.constant(10)?) {
                    ('~', Immediate::Int(n)) => Immediate::Int(!n),
                    ('!', Immediate::Int(n)) => Immediate::Int(u64::from(n == 0)),
                    ('+', value) => value,
                    _ => return self.fail("this operator needs an integer"),
                }
            }
            Token::Punct('(') => {
                self.next();
                let value = self.constant(0)?;
                self.expect(')')?;
                value
            }
            Token::Word("WARP_SZ") => {
                self.next();
                Immediate::Int(32)
            }
            _ => return self.unexpected("a constant"),
        };
        while let Token::Punct(op) = self.peek() {
            let level = match op {
                '*' | '/' | '%' => 9,
                '+' | '-' => 8,
                '«' | '»' => 7,
                '&' => 6,
                '^' => 5,
                // `a|b` means a pair of destinations: no constant is ever written so outside brackets.
                '|' => 4,
                _ => break,
            };
            if level < min {
                break;
            }
            self.next();
            let right = self.constant(level + 1)?;
            let (Immediate::Int(a), Immediate::Int(b)) = (left, right) else {
                return self
                    .fail("constant expressions of floating-point numbers are not supported");
            };
            let value = match op {
                '*' => Some(a.wrapping_mul(b)),
                '/' => (a as i64).checked_div(b as i64).map(|v| v as u64),
                '%' => (a as i64).checked_rem(b as i64).map(|v| v as u64),
                '+' => Some(a.wrapping_add(b)),
                '-' => Some(a.wrapping_sub(b)),
                '«' => Some(if b < 64 { a << b } else { 0 }),
                '»' => Some(if b < 64 { a >> b } else { 0 }),
                '&' => Some(a & b),
                '^' => Some(a ^ b),
                _ => Some(a | b),
            };
            match value {
                Some(v) => left = Immediate::Int(v),
                None => return self.fail("division by zero in a constant expression"),
            }
        }
        Ok(left)
    }

    pub(super) fn constant_int(&mut self) -> Result<u64> {
        match self.constant(0)? {
            Immediate::Int(n) => Ok(n),
            Immediate::Float(..) => self.fail("expected an integer constant"),
        }
    }

    /// Chapters 4 and 11: module-level directives.
    pub(super) fn module(mut self) -> Result<SyntaxTree<'a>> {
        let mut module = SyntaxTree::default();
        if !self.eat_word(".version") {
            return self.unexpected("`.version` (is this PTX?)");
        }
        // The lexer reads `8.7` as a floating-point number.
        module.version = match self.next() {
            Token::Float(bits, _) => {
                let tenths = (f64::from_bits(bits) * 10.0).round() as u32;
                (tenths / 10, tenths % 10)
            }
            _ => return self.fail("expected a version such as 8.7"),
        };
        if module.version.0 > 9 {
            return self.fail(format!(
                "PTX version {}.{} is not known",
                module.version.0, module.version.1
            ));
        }
        loop {
            match self.peek() {
                Token::End => break,
                Token::Word(".target") => {
                    self.next();
                    loop {
                        let target = self.name("a target")?;
                        module.target.push(target);
                        if !self.eat(',') {
                            break;
                        }
                    }
                }
                Token::Word(".address_size") => {
                    self.next();
                    if self.int()? != 64 {
                        return self.fail("only 64-bit addresses are supported");
                    }
                }
                Token::Word(".file") => module.files.push(self.file()?),
                Token::Word(".section") => self.section()?,
                Token::Word(".pragma") => self.pragma()?,
                Token::Word(".alias") => {
                    self.next();
                    let alias = self.name("a function name")?;
                    self.expect(',')?;
                    module.aliases.push((alias, self.name("a function name")?));
                    self.expect(';')?;
                }
                Token::Punct(';') => {
                    self.next();
                }
                Token::Word(_) => self.declaration(&mut module)?,
                _ => return self.unexpected("a directive"),
            }
        }
        Ok(module)
    }

    /// .file
    pub(super) fn file(&mut self) -> Result<(u32, &'a str)> {
        self.next();
        let index = self.int32()?;
        let name = self.text()?;
        while self.eat(',') {
            self.int()?;
        }
        Ok((index, name))
    }

    /// .section: DWARF data, skipped.
    pub(super) fn section(&mut self) -> Result<()> {
        self.next();
        self.word("a section name")?;
        self.expect('{')?;
        let mut depth = 1;
        while depth > 0 {
            match self.next() {
                Token::Punct('{') => depth += 1,
                Token::Punct('}') => depth -= 1,
                Token::End => return self.unexpected("the end of this section"),
                _ => {}
            }
        }
        Ok(())
    }

    /// .pragma: hints for ptxas.
    pub(super) fn pragma(&mut self) -> Result<()> {
        self.next();
        loop {
            self.text()?;
            if !self.eat(',') {
                break;
            }
        }
        self.expect(';')
    }

    /// A function or variable with its linking directives.
    pub(super) fn declaration(&mut self, module: &mut SyntaxTree<'a>) -> Result<()> {
        let mut external = false;
        loop {
            match self.peek() {
                Token::Word(".extern") => external = true,
                Token::Word(".visible" | ".weak" | ".common") => {}
                Token::Word(".entry" | ".func") => {
                    let function = self.function()?;
                    module.functions.push(function);
                    return Ok(());
                }
                Token::Word(".global" | ".const" | ".shared") => {
                    let variables = self.variables(external)?;
                    module.variables.extend(variables);
                    return Ok(());
                }
                _ => return self.unexpected("a module-level directive"),
            }
            self.next();
        }
    }

    /// `.entry` and `.func` with their performance directives.
    pub(super) fn function(&mut self) -> Result<Function<'a>> {
        let mut function = Function {
            line: self.line(),
            entry: self.peek() == Token::Word(".entry"),
            ..Default::default()
        };
        self.next();
        if self.eat_word(".attribute") {
            self.attribute()?;
        }
        if self.is('(') {
            function.returns = self.params()?;
        }
        function.name = self.name("a function name")?;
        if self.is('(') {
            function.params = self.params()?;
        }
        loop {
            match self.peek() {
                Token::Word(".maxntid") => function.max_threads = Some(self.dimensions()?),
                Token::Word(".reqntid") => function.required_block = Some(self.dimensions()?),
                Token::Word(".minnctapersm") => {
                    function.min_blocks_per_sm = Some(self.dimensions()?[0])
                }
                Token::Word(
                    ".maxnreg"
                    | ".maxnctapersm"
                    | ".maxclusterrank"
                    | ".abi_preserve"
                    | ".abi_preserve_control",
                ) => {
                    self.dimensions()?;
                }
                Token::Word(".reqnctapercluster") => {
                    if self.dimensions()?.iter().any(|&n| n > 1) {
                        return self.fail("clusters of more than one block are not supported");
                    }
                }
                Token::Word(
                    ".noreturn" | ".explicitcluster" | ".blocksareclusters" | ".unified",
                ) => {
                    self.next();
                }
                Token::Word(".pragma") => self.pragma()?,
                Token::Punct(';') => {
                    self.next();
                    return Ok(function);
                }
                Token::Punct('{') => {
                    function.body = Some(self.block()?);
                    return Ok(function);
                }
                _ => return self.unexpected("a function body"),
            }
        }
    }

    pub(super) fn dimensions(&mut self) -> Result<[u32; 3]> {
        self.next();
        let mut n = [self.int32()?, 1, 1];
        for slot in &mut n[1..] {
            if !self.eat(',') {
                break;
            }
            *slot = self.int32()?;
        }
        Ok(n)
    }

    pub(super) fn attribute(&mut self) -> Result<()> {
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
    pub(super) fn params(&mut self) -> Result<Vec<Param<'a>>> {
        self.expect('(')?;
        let mut params = Vec::new();
        while !self.eat(')') {
            if !params.is_empty() {
                self.expect(',')?;
            }
            let line = self.line();
            if self.eat_word(".reg") {
                let ty = self.ty()?;
                let name = self.name("a parameter name")?;
                params.push(Param::Register { line, ty, name });
            } else if self.peek() == Token::Word(".param") {
                self.next();
                params.push(Param::Memory(self.variable(Space::Param, false)?.0));
            } else {
                return self.unexpected("a parameter");
            }
        }
        Ok(params)
    }

    pub(super) fn ty(&mut self) -> Result<Type> {
        if let Token::Word(w) = self.peek()
            && let Some(ty) = w.strip_prefix('.').and_then(Type::parse)
        {
            self.next();
            return Ok(ty);
        }
        self.unexpected("a type")
    }

    /// `+ n` or `- n` after a name.
    pub(super) fn addend(&mut self) -> Result<i64> {
        let mut sum = 0i64;
        loop {
            if self.eat('+') {
                sum = sum.wrapping_add(
                    self.constant(9)?
                        .int()
                        .ok_or(())
                        .or_else(|()| self.fail("expected an integer"))?,
                );
            } else if self.eat('-') {
                sum = sum.wrapping_sub(
                    self.constant(9)?
                        .int()
                        .ok_or(())
                        .or_else(|()| self.fail("expected an integer"))?,
                );
            } else {
                return Ok(sum);
            }
        }
    }
}

impl Immediate {
    /// The value as a signed integer, if it is one.
    pub fn int(self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(n as i64),
            Self::Float(..) => None,
        }
    }
}
