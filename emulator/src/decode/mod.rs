//! Syntax tree to [`ir::Program`]: names become slots, labels become indices, calls become copies of the callee.
//!
//! Every opcode and modifier is looked up by name and must be used up: anything left over is an error with its line,
//! never a guess.

mod alloc;
mod alu;
mod alu_ops;
mod arithmetic;
mod bulk;
mod call;
mod compare;
mod control;
mod convert;
mod copied;
mod decoder;
mod exchange;
mod flow;
pub mod ir;
mod kernel;
mod layout;
mod mbar;
mod memory;
mod mods;
mod mov;
mod names;
mod operands;
mod ops;
mod scope;
mod special;
mod subroutine;
mod sync;
mod tensor;
mod types;
mod video;
mod wgmma;
mod wmma;

pub use decoder::Symbols;
pub use kernel::kernel;
pub use layout::place;
pub use special::WORKSPACE;
