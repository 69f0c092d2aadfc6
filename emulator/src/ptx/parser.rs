//! The parser's access to tokens, and the rules that all parts of a module share. Tokens become a syntax tree by
//! recursive descent; rules name the chapter or directive of the PTX ISA manual.

use super::ast::*;
use super::error::{LoadResult, error};
use super::lexer::{Spanned, Token};
use super::types::Type;

/// Braces may nest this deep; deeper text is refused rather than overflowing the stack.
const MAX_DEPTH: u32 = 64;

pub(super) struct Parser<'a> {
    source: &'a str,
    tokens: Vec<Spanned<'a>>,
    at: usize,
    depth: u32,
}

impl<'a> Parser<'a> {
    pub(super) fn new(source: &'a str, tokens: Vec<Spanned<'a>>) -> Self {
        Self { source, tokens, at: 0, depth: 0 }
    }

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

    pub(super) fn fail<T>(&self, message: impl Into<String>) -> LoadResult<T> {
        Err(error(self.source, self.line(), message))
    }

    pub(super) fn unexpected<T>(&self, wanted: &str) -> LoadResult<T> {
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

    pub(super) fn expect(&mut self, c: char) -> LoadResult<()> {
        if self.eat(c) { Ok(()) } else { self.unexpected(&format!("`{c}`")) }
    }

    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let yes = self.peek() == Token::Word(word);
        if yes {
            self.next();
        }
        yes
    }

    pub(super) fn word(&mut self, wanted: &str) -> LoadResult<&'a str> {
        match self.peek() {
            Token::Word(w) => {
                self.next();
                Ok(w)
            }
            _ => self.unexpected(wanted),
        }
    }

    pub(super) fn name(&mut self, wanted: &str) -> LoadResult<&'a str> {
        match self.peek() {
            Token::Word(w) if !w.starts_with('.') => self.word(wanted),
            _ => self.unexpected(wanted),
        }
    }

    pub(super) fn int(&mut self) -> LoadResult<u64> {
        match self.peek() {
            Token::Int(n) => {
                self.next();
                Ok(n)
            }
            _ => self.unexpected("a number"),
        }
    }

    pub(super) fn int32(&mut self) -> LoadResult<u32> {
        let n = self.int()?;
        u32::try_from(n).or_else(|_| self.fail(format!("{n} is too large")))
    }

    pub(super) fn text(&mut self) -> LoadResult<&'a str> {
        match self.peek() {
            Token::Text(t) => {
                self.next();
                Ok(t)
            }
            _ => self.unexpected("a string"),
        }
    }

    pub(super) fn nested<T>(
        &mut self,
        rule: impl FnOnce(&mut Self) -> LoadResult<T>,
    ) -> LoadResult<T> {
        if self.depth >= MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        self.depth += 1;
        let result = rule(self);
        self.depth -= 1;
        result
    }

    /// 4.5, constant expressions, by precedence climbing.
    pub(super) fn constant(&mut self, min: u8) -> LoadResult<Immediate> {
        self.nested(|p| p.constant_inner(min))
    }

    pub(super) fn constant_inner(&mut self, min: u8) -> LoadResult<Immediate> {
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
                // `a|b` means a pair of destinations: constants are never written this way outside brackets.
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

    pub(super) fn constant_int(&mut self) -> LoadResult<u64> {
        match self.constant(0)? {
            Immediate::Int(n) => Ok(n),
            Immediate::Float(..) => self.fail("expected an integer constant"),
        }
    }

    /// .pragma: hints for ptxas.
    pub(super) fn pragma(&mut self) -> LoadResult<()> {
        self.next();
        loop {
            self.text()?;
            if !self.eat(',') {
                break;
            }
        }
        self.expect(';')
    }

    pub(super) fn dimensions(&mut self) -> LoadResult<[u32; 3]> {
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

    pub(super) fn ty(&mut self) -> LoadResult<Type> {
        if let Token::Word(w) = self.peek()
            && let Some(ty) = w.strip_prefix('.').and_then(Type::parse)
        {
            self.next();
            return Ok(ty);
        }
        self.unexpected("a type")
    }

    /// `+ n` or `- n` after a name.
    pub(super) fn addend(&mut self) -> LoadResult<i64> {
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
