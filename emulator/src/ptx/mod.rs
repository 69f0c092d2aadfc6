//! PTX text to syntax tree. The parser knows the grammar of directives and operands; the decoder knows which opcodes
//! and modifiers exist.

pub mod ast;
pub mod error;
pub mod lexer;
mod module;
pub mod parser;
mod statements;
pub mod types;
mod variables;

pub use module::parse;
