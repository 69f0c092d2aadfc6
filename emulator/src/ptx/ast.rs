//! The syntax tree of a PTX module. Names are slices of the text; nothing is resolved yet.

use super::types::{Space, Type};

#[derive(Clone, Debug, Default)]
pub struct SyntaxTree<'a> {
    pub version: (u32, u32),
    pub target: Vec<&'a str>,
    pub files: Vec<(u32, &'a str)>,
    pub variables: Vec<Variable<'a>>,
    pub functions: Vec<Function<'a>>,
    /// An alias of a function, and the function.
    pub aliases: Vec<(&'a str, &'a str)>,
}

/// A variable of any space except registers (PTX ISA 5.4), or a parameter.
#[derive(Clone, Debug)]
pub struct Variable<'a> {
    pub line: u32,
    pub name: &'a str,
    pub space: Space,
    pub ty: Type,
    pub align: u32,
    /// Bytes; `None` for `extern … name[]`.
    pub size: Option<u64>,
    pub external: bool,
    pub init: Vec<Init<'a>>,
}

/// One element of an initialiser, in byte order.
#[derive(Clone, Copy, Debug)]
pub enum Init<'a> {
    Value(Immediate),
    /// An address, and with `mask` the part of it that `0xFF00(name)` picks.
    Address {
        name: &'a str,
        addend: i64,
        mask: Option<u64>,
    },
    /// Zeros up to this byte: a nested brace list closed early.
    PadTo(u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Immediate {
    Int(u64),
    Float(u64, Type),
}

#[derive(Clone, Debug, Default)]
pub struct Function<'a> {
    pub line: u32,
    pub name: &'a str,
    pub entry: bool,
    pub params: Vec<Param<'a>>,
    pub returns: Vec<Param<'a>>,
    pub max_threads: Option<[u32; 3]>,
    pub required_block: Option<[u32; 3]>,
    pub min_blocks_per_sm: Option<u32>,
    /// `.maxnreg`
    pub max_registers: Option<u32>,
    pub body: Option<Vec<Statement<'a>>>,
}

#[derive(Clone, Debug)]
pub enum Param<'a> {
    Memory(Variable<'a>),
    /// `vector` registers, or 1 if it is not a vector.
    Register {
        line: u32,
        ty: Type,
        vector: u32,
        name: &'a str,
    },
}

/// The signature of a call through a pointer.
#[derive(Clone, Debug)]
pub struct Prototype<'a> {
    pub line: u32,
    pub name: &'a str,
    pub params: Vec<Param<'a>>,
    pub returns: Vec<Param<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loc {
    pub file: u32,
    pub line: u32,
}

#[derive(Clone, Debug)]
pub enum Statement<'a> {
    Label {
        line: u32,
        name: &'a str,
    },
    Instruction(Instruction<'a>),
    /// `.reg .v4 .b32 name<count>`
    Registers {
        line: u32,
        ty: Type,
        vector: u32,
        names: Vec<(&'a str, Option<u32>)>,
    },
    Variable(Variable<'a>),
    Block(Vec<Statement<'a>>),
    Loc(Loc),
    BranchTargets {
        line: u32,
        name: &'a str,
        labels: Vec<&'a str>,
    },
    CallPrototype(Prototype<'a>),
    /// The functions that a call through a pointer may reach.
    CallTargets {
        line: u32,
        name: &'a str,
        functions: Vec<&'a str>,
    },
}

#[derive(Clone, Debug)]
pub struct Instruction<'a> {
    pub line: u32,
    /// `@p` or `@!p`.
    pub guard: Option<(bool, &'a str)>,
    pub opcode: &'a str,
    pub operands: Vec<Operand<'a>>,
}

#[derive(Clone, Debug)]
pub enum Operand<'a> {
    Name(&'a str),
    /// `!p`
    Not(&'a str),
    /// `-r`, allowed nowhere but parsed for a good message.
    Immediate(Immediate),
    /// `[base+offset]`; `base` is a name or absent. `name+offset` without brackets has `brackets` false.
    Address {
        base: Option<&'a str>,
        offset: i64,
        brackets: bool,
    },
    /// `[base, {c0, c1}]` of the bulk tensor copies.
    TensorAddress {
        base: &'a str,
        coordinates: Vec<Operand<'a>>,
    },
    Vector(Vec<Operand<'a>>),
    /// `a|b`
    Pair(Box<Operand<'a>>, Box<Operand<'a>>),
    /// A call's parenthesised lists.
    List(Vec<Operand<'a>>),
}
