//! Subroutines of a kernel while it is decoded: which exist, and what waits for the sizes of their frames.

use super::ir::R;
use crate::ptx::ast;

/// A function that is compiled once instead of copied into its calls.
pub struct Subroutine<'a> {
    pub(super) f: &'a ast::Function<'a>,
    pub(super) label: usize,
    /// Its frame: parameters, results, then local variables.
    pub(super) bytes: u32,
}

/// A field of an instruction that holds the size of a frame known only at the end.
pub struct FrameFixup {
    pub(super) at: usize,
    /// Whose frame; `None` is the kernel's.
    pub(super) frame: Option<usize>,
    pub(super) shift: u32,
}

#[derive(Default)]
pub struct Subroutines<'a> {
    pub(super) all: Vec<Subroutine<'a>>,
    pub(super) fixups: Vec<FrameFixup>,
    /// The one being compiled.
    pub current: Option<usize>,
    /// The frame pointer, once there is one.
    pub frame: Option<R>,
}
