//! What a name can stand for, and the scopes that names live in.

use super::ir::{P, R};
use crate::ptx::ast::Prototype;
use crate::ptx::types::Type;
use std::collections::HashMap;

#[derive(Clone, Debug)]
pub enum Sym<'a> {
    Reg(R),
    Vector(Vec<R>),
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

/// `name<count>`, with its registers created on first use.
pub struct Family<'a> {
    pub(super) prefix: &'a str,
    pub(super) count: u32,
    pub(super) ty: Type,
    pub(super) vector: u32,
    pub(super) members: HashMap<u32, Sym<'a>>,
}

#[derive(Default)]
pub struct Scope<'a> {
    pub names: HashMap<&'a str, Sym<'a>>,
    pub(super) families: Vec<Family<'a>>,
}
