//! Rows as stored in a benchmark's files, before interpretation: the wanted fields, and where they are.

use std::path::Path;

use crate::data::lines::place;

/// The fields to read. Those at the end may be missing.
pub struct Fields<'a> {
    pub needed: Vec<&'a str>,
    /// How many of these, from the start, are text.
    pub texts: usize,
    pub optional: Vec<&'a str>,
}

impl<'a> Fields<'a> {
    pub fn all(&self) -> impl Iterator<Item = &'a str> {
        self.needed.iter().chain(&self.optional).copied()
    }
}

/// One row: a value per field asked for.
pub struct RawRow {
    /// The line or the row's number, from 1.
    pub at: u64,
    /// `None` if the file has no value.
    pub fields: Vec<Option<String>>,
}

/// The contents of a file.
pub struct RawRows {
    pub file: RawFile,
    /// The names of its columns, if it has any.
    pub header: Vec<String>,
    pub rows: Vec<RawRow>,
    /// The last line, if it ends before its last field.
    pub cut: Option<u64>,
    /// Rows with too few fields, if the right number is known; the fields they have are included in the rows.
    pub broken: Vec<u64>,
    /// The classes by number, if the file states them.
    pub classes: Option<Vec<String>>,
}

/// A file, for messages about its rows.
#[derive(Clone)]
pub struct RawFile {
    pub name: String,
    /// Whether rows are lines of text.
    pub lines: bool,
}

impl RawFile {
    pub fn new(path: &Path, lines: bool) -> Self {
        Self { name: path.display().to_string(), lines }
    }

    /// "file:line" or "file, row N": the start of a message about a row.
    pub fn place(&self, at: u64) -> String {
        if self.lines { place(&self.name, at) } else { format!("{}, row {at}", self.name) }
    }

    /// The same with the column.
    pub fn cell(&self, at: u64, column: &str) -> String {
        format!("{}, column {column:?}", self.place(at))
    }
}
