//! A module's text to its syntax tree: module-level directives and functions.

use super::ast::*;
use super::error::LoadResult;
use super::lexer::{Token, tokens};
use super::parser::Parser;

pub fn parse(source: &str) -> LoadResult<SyntaxTree<'_>> {
    let tokens = tokens(source)?;
    Parser::new(source, tokens).module()
}

impl<'a> Parser<'a> {
    /// Chapters 4 and 11: module-level directives.
    pub(super) fn module(mut self) -> LoadResult<SyntaxTree<'a>> {
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
    pub(super) fn file(&mut self) -> LoadResult<(u32, &'a str)> {
        self.next();
        let index = self.int32()?;
        let name = self.text()?;
        while self.eat(',') {
            self.int()?;
        }
        Ok((index, name))
    }

    /// .section: DWARF data, skipped.
    pub(super) fn section(&mut self) -> LoadResult<()> {
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

    /// A function or variable with its linking directives.
    pub(super) fn declaration(&mut self, module: &mut SyntaxTree<'a>) -> LoadResult<()> {
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
    pub(super) fn function(&mut self) -> LoadResult<Function<'a>> {
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
                Token::Word(".maxnreg") => function.max_registers = Some(self.dimensions()?[0]),
                Token::Word(
                    ".maxnctapersm" | ".maxclusterrank" | ".abi_preserve" | ".abi_preserve_control",
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
}
