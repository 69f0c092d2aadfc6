//! A whole data file in memory, as rows of text.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result};

use super::columns::{ColumnNames, LabelUse};
use super::formats::{Format, Row, rows};

/// What to read of a file.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// `None`: by the extension.
    pub format: Option<Format>,
    pub columns: ColumnNames,
    pub label_use: LabelUse,
}

/// The rows of one file, at least one, in file order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The path as given: starts the messages about its rows.
    pub name: String,
    pub rows: Vec<Row>,
}

impl Table {
    /// Reads every row.
    ///
    /// # Errors
    /// As [`rows`], and when the file cannot be opened or its format is not known.
    pub fn read(path: &Path, options: &ReadOptions) -> Result<Self> {
        let name = path.display().to_string();
        let format = match options.format {
            Some(format) => format,
            None => Format::from_path(path)?,
        };
        let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
        let reader = BufReader::with_capacity(1 << 16, file);
        let rows = rows(reader, &name, format, &options.columns, options.label_use)?
            .collect::<Result<_>>()?;
        Ok(Self { name, rows })
    }

    /// The given rows, in the order given.
    ///
    /// # Panics
    /// When a row is out of range.
    pub fn select(&self, rows: &[usize]) -> Self {
        Self {
            name: self.name.clone(),
            rows: rows.iter().map(|&r| self.rows[r].clone()).collect(),
        }
    }
}
