//! Tokens to syntax tree, by recursive descent. Every rule names its section of the PTX ISA manual.

use super::ast::*;
use super::lexer::{Spanned, Token, error, tokens};
use super::types::{Space, Type};
use crate::module::LoadError;

type Result<T> = std::result::Result<T, LoadError>;

/// Braces may nest this deep; deeper text is refused rather than overflowing the stack.
const MAX_DEPTH: u32 = 64;

pub fn parse(source: &str) -> Result<Module<'_>> {
    let tokens = tokens(source)?;
    Parser {
        source,
        tokens,
        at: 0,
        depth: 0,
    }
    .module()
}

struct Parser<'a> {
    source: &'a str,
    tokens: Vec<Spanned<'a>>,
    at: usize,
    depth: u32,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens[self.at].token
    }

    fn peek_at(&self, n: usize) -> Token<'a> {
        self.tokens.get(self.at + n).map_or(Token::End, |t| t.token)
    }

    fn line(&self) -> u32 {
        self.tokens[self.at].line
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(error(self.source, self.line(), message))
    }

    fn unexpected<T>(&self, wanted: &str) -> Result<T> {
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

    fn is(&self, c: char) -> bool {
        self.peek() == Token::Punct(c)
    }

    fn eat(&mut self, c: char) -> bool {
        let yes = self.is(c);
        if yes {
            self.next();
        }
        yes
    }

    fn expect(&mut self, c: char) -> Result<()> {
        if self.eat(c) {
            Ok(())
        } else {
            self.unexpected(&format!("`{c}`"))
        }
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let yes = self.peek() == Token::Word(word);
        if yes {
            self.next();
        }
        yes
    }

    fn word(&mut self, wanted: &str) -> Result<&'a str> {
        match self.peek() {
            Token::Word(w) => {
                self.next();
                Ok(w)
            }
            _ => self.unexpected(wanted),
        }
    }

    fn name(&mut self, wanted: &str) -> Result<&'a str> {
        match self.peek() {
            Token::Word(w) if !w.starts_with('.') => self.word(wanted),
            _ => self.unexpected(wanted),
        }
    }

    fn int(&mut self) -> Result<u64> {
        match self.peek() {
            Token::Int(n) => {
                self.next();
                Ok(n)
            }
            _ => self.unexpected("a number"),
        }
    }

    fn int32(&mut self) -> Result<u32> {
        let n = self.int()?;
        u32::try_from(n).or_else(|_| self.fail(format!("{n} is too large")))
    }

    fn text(&mut self) -> Result<&'a str> {
        match self.peek() {
            Token::Text(t) => {
                self.next();
                Ok(t)
            }
            _ => self.unexpected("a string"),
        }
    }

    fn nested<T>(&mut self, rule: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        self.depth += 1;
        let result = rule(self);
        self.depth -= 1;
        result
    }

    /// 4.5.6: constant expressions, by precedence climbing.
    fn constant(&mut self, min: u8) -> Result<Immediate> {
        self.nested(|p| p.constant_inner(min))
    }

    fn constant_inner(&mut self, min: u8) -> Result<Immediate> {
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

    fn constant_int(&mut self) -> Result<u64> {
        match self.constant(0)? {
            Immediate::Int(n) => Ok(n),
            Immediate::Float(..) => self.fail("expected an integer constant"),
        }
    }

    /// 4.3 and 11: module-level directives.
    fn module(mut self) -> Result<Module<'a>> {
        let mut module = Module::default();
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
                Token::Word(".alias") => return self.fail("`.alias` is not supported"),
                Token::Punct(';') => {
                    self.next();
                }
                Token::Word(_) => self.declaration(&mut module)?,
                _ => return self.unexpected("a directive"),
            }
        }
        Ok(module)
    }

    /// 11.5.5 .file
    fn file(&mut self) -> Result<(u32, &'a str)> {
        self.next();
        let index = self.int32()?;
        let name = self.text()?;
        while self.eat(',') {
            self.int()?;
        }
        Ok((index, name))
    }

    /// 11.5.3 .section: DWARF data, skipped.
    fn section(&mut self) -> Result<()> {
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

    /// 11.4.x .pragma: hints for ptxas.
    fn pragma(&mut self) -> Result<()> {
        self.next();
        loop {
            self.text()?;
            if !self.eat(',') {
                break;
            }
        }
        self.expect(';')
    }

    /// A function or variable with its linking directives (11.6).
    fn declaration(&mut self, module: &mut Module<'a>) -> Result<()> {
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

    /// 11.1 and 5.2: `.entry` and `.func` with their performance directives (11.4).
    fn function(&mut self) -> Result<Function<'a>> {
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

    fn dimensions(&mut self) -> Result<[u32; 3]> {
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

    fn attribute(&mut self) -> Result<()> {
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

    /// 5.1.6 and 7.1: formal parameters.
    fn params(&mut self) -> Result<Vec<Param<'a>>> {
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

    fn ty(&mut self) -> Result<Type> {
        if let Token::Word(w) = self.peek()
            && let Some(ty) = w.strip_prefix('.').and_then(Type::parse)
        {
            self.next();
            return Ok(ty);
        }
        self.unexpected("a type")
    }

    /// A list of variables up to its semicolon (5.4).
    fn variables(&mut self, external: bool) -> Result<Vec<Variable<'a>>> {
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

    fn variable(&mut self, space: Space, external: bool) -> Result<(Variable<'a>, u32)> {
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
                // 7.1.x: `.ptr` says what a kernel parameter points to; the following alignment is the pointee's.
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

    fn declarator(
        &mut self,
        line: u32,
        space: Space,
        ty: Type,
        vector: u32,
        align: u32,
        external: bool,
    ) -> Result<Variable<'a>> {
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
            match dims
                .iter()
                .try_fold(element, |n, d| n.checked_mul(d.unwrap_or(0)))
            {
                Some(n) if n < 1 << 40 => Some(n),
                _ => return self.fail(format!("`{name}` is too large")),
            }
        };
        let natural = if vector > 1 {
            ty.bytes() * vector
        } else {
            ty.bytes()
        };
        Ok(Variable {
            line,
            name,
            space,
            ty,
            align: align.max(natural),
            size,
            external,
            init,
        })
    }

    /// 5.4.4: initialisers.
    fn initialiser(
        &mut self,
        out: &mut Vec<Init<'a>>,
        bytes: &mut u64,
        element: u64,
        spans: &[u64],
    ) -> Result<()> {
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

    fn initial_value(&mut self) -> Result<Init<'a>> {
        // `mask(name+offset)`
        if let (Token::Int(mask), Token::Punct('('), Token::Word(name)) =
            (self.peek(), self.peek_at(1), self.peek_at(2))
        {
            self.next();
            self.next();
            if name == "generic" {
                let (name, addend) = self.generic_address()?;
                self.expect(')')?;
                return Ok(Init::Address {
                    name,
                    addend,
                    mask: Some(mask),
                });
            }
            let name = self.name("a variable")?;
            let addend = self.addend()?;
            self.expect(')')?;
            return Ok(Init::Address {
                name,
                addend,
                mask: Some(mask),
            });
        }
        match self.peek() {
            Token::Word("generic") => {
                let (name, addend) = self.generic_address()?;
                Ok(Init::Address {
                    name,
                    addend,
                    mask: None,
                })
            }
            Token::Word(w) if !w.starts_with('.') && w != "WARP_SZ" => {
                let name = self.name("a variable")?;
                let addend = self.addend()?;
                Ok(Init::Address {
                    name,
                    addend,
                    mask: None,
                })
            }
            _ => Ok(Init::Value(self.constant(0)?)),
        }
    }

    fn generic_address(&mut self) -> Result<(&'a str, i64)> {
        self.next();
        self.expect('(')?;
        let name = self.name("a variable")?;
        self.expect(')')?;
        Ok((name, self.addend()?))
    }

    /// `+ n` or `- n` after a name.
    fn addend(&mut self) -> Result<i64> {
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

    /// A function's body or an inner scope (4.2).
    fn block(&mut self) -> Result<Vec<Statement<'a>>> {
        self.nested(|p| {
            p.expect('{')?;
            let mut body = Vec::new();
            while !p.eat('}') {
                p.statement(&mut body)?;
            }
            Ok(body)
        })
    }

    fn statement(&mut self, body: &mut Vec<Statement<'a>>) -> Result<()> {
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
                        self.next();
                        let mut labels = Vec::new();
                        loop {
                            labels.push(self.name("a label")?);
                            if !self.eat(',') {
                                break;
                            }
                        }
                        self.expect(';')?;
                        body.push(Statement::BranchTargets { line, name, labels });
                    }
                    Token::Word(".calltargets" | ".callprototype") => {
                        return self.fail("calls through function pointers are not supported");
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

    /// 5.4.6: `.reg .b32 %r<100>, %x;`
    fn registers(&mut self) -> Result<Statement<'a>> {
        let line = self.line();
        self.next();
        let vector = if self.eat_word(".v2") {
            2
        } else if self.eat_word(".v4") {
            4
        } else {
            1
        };
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
        Ok(Statement::Registers {
            line,
            ty,
            vector,
            names,
        })
    }

    /// 11.5.4 .loc: the innermost position counts; where it was inlined is skipped.
    fn loc(&mut self) -> Result<Loc> {
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

    /// 4.3.2 and 9.3: an instruction with its guard.
    fn instruction(&mut self) -> Result<Instruction<'a>> {
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
        Ok(Instruction {
            line,
            guard,
            opcode,
            operands,
        })
    }

    /// 6.4: operands.
    fn operand(&mut self) -> Result<Operand<'a>> {
        self.nested(Self::operand_inner)
    }

    fn operand_inner(&mut self) -> Result<Operand<'a>> {
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
            Token::Punct('(') if matches!(self.peek_at(1), Token::Word(_) | Token::Punct(')')) => {
                self.next();
                Operand::List(self.operands(')')?)
            }
            Token::Word("WARP_SZ") => Operand::Immediate(self.constant(0)?),
            Token::Word(_) => {
                let name = self.name("an operand")?;
                if self.is('+') || self.is('-') {
                    let offset = self.addend()?;
                    Operand::Address {
                        base: Some(name),
                        offset,
                        brackets: false,
                    }
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

    fn operands(&mut self, close: char) -> Result<Vec<Operand<'a>>> {
        let mut out = Vec::new();
        while !self.eat(close) {
            if !out.is_empty() {
                self.expect(',')?;
            }
            out.push(self.operand()?);
        }
        Ok(out)
    }

    /// 6.4.1: addresses as operands.
    fn address(&mut self) -> Result<Operand<'a>> {
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
        Ok(Operand::Address {
            base,
            offset,
            brackets: true,
        })
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
