//! The loading error: at the bottom, because lexer, parser, decoder and module all return it.

use std::fmt;

pub type LoadResult<T> = Result<T, LoadError>;

/// PTX that cannot be loaded: the first thing not understood, with its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// 1-based; 0 if the module as a whole is concerned.
    pub line: u32,
    pub text: String,
    pub message: String,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return write!(f, "{}", self.message);
        }
        write!(f, "PTX line {}: {}\n    {}", self.line, self.message, self.text.trim())
    }
}

impl std::error::Error for LoadError {}

/// The text of a 1-based line, without the spaces around it.
pub fn line_text(source: &str, line: u32) -> &str {
    source.lines().nth((line as usize).saturating_sub(1)).unwrap_or("").trim()
}

/// The error at a line of `source`.
pub fn error(source: &str, line: u32, message: impl Into<String>) -> LoadError {
    LoadError { line, text: line_text(source, line).to_string(), message: message.into() }
}
