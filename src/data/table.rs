//! A whole data file in memory, as rows of text.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::formats::rows;
use super::input::{FileFormat, ReadOptions, Row};
use crate::files::hex;
use crate::formats::columns::{Columns, not_read};

/// The rows of one file, at least one, in file order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The path as given: starts messages about its rows.
    pub name: String,
    pub columns: Columns,
    /// The columns that were not read.
    pub unread: Vec<String>,
    pub rows: Vec<Row>,
    /// How many rows span several lines, and where the first one starts: quoted csv fields may, and so does everything
    /// between two stray quotes.
    pub over_lines: Option<(usize, u64)>,
}

impl Table {
    /// Reads every row.
    ///
    /// # Errors
    /// As [`rows`], and if the file cannot be opened or its format is unknown.
    pub fn read(path: &Path, options: &ReadOptions) -> Result<Self> {
        let name = path.display().to_string();
        if path.is_dir() {
            bail!("{name} is a folder; name the file with the examples");
        }
        let format = match options.format {
            Some(format) => format,
            None => FileFormat::from_path(path)?,
        };
        let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
        let mut reader = rows(file, &name, format, options)?;
        let rows: Vec<Row> = reader.by_ref().collect::<Result<_>>()?;
        reader.complete()?;
        let columns =
            reader.columns().with_context(|| format!("{name}: the file has no examples"))?;
        let over_lines = over_lines(&rows, reader.row_end());
        let unread = reader.unread();
        Ok(Self { name, columns, unread, rows, over_lines })
    }

    /// Says which columns are read, and which are not.
    pub fn told(&self) -> String {
        format!("{}{}", self.columns, not_read(&self.unread))
    }

    /// Rows without a second text in a task on pairs.
    pub fn without_pair(&self) -> usize {
        let none = |row: &&Row| row.text_pair.as_deref().is_none_or(str::is_empty);
        match self.columns.text_pair {
            Some(_) => self.rows.iter().filter(none).count(),
            None => 0,
        }
    }

    /// The sha256 of the rows' contents in hexadecimal: the same for a pipe as for the file sent through it.
    pub fn sha256(&self) -> String {
        let mut hasher = Sha256::new();
        let mut field = |value: Option<&str>| {
            // The length keeps two fields from being confused; no text is as long as the mark for a missing one.
            let len = value.map_or(u64::MAX, |text| text.len() as u64);
            hasher.update(len.to_le_bytes());
            hasher.update(value.unwrap_or_default());
        };
        for row in &self.rows {
            field(Some(&row.text));
            field(row.text_pair.as_deref());
            field(row.label.as_deref());
        }
        hex(&hasher.finalize())
    }

    /// The given rows, in the order given.
    ///
    /// # Panics
    /// If a row is out of range.
    pub fn select(&self, rows: &[usize]) -> Self {
        Self {
            name: self.name.clone(),
            columns: self.columns.clone(),
            unread: self.unread.clone(),
            rows: rows.iter().map(|&r| self.rows[r].clone()).collect(),
            over_lines: self.over_lines,
        }
    }
}

/// `end` is the line where the last row ends.
fn over_lines(rows: &[Row], end: u64) -> Option<(usize, u64)> {
    let next = rows.iter().skip(1).map(|row| row.line).chain([end + 1]);
    let mut over = rows.iter().zip(next).filter(|(row, next)| *next > row.line + 1);
    let first = over.next()?.0.line;
    Some((1 + over.count(), first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[(&str, Option<&str>, Option<&str>)]) -> Table {
        let row = |&(text, pair, label): &(&str, Option<&str>, Option<&str>)| Row {
            line: 1,
            text: text.to_owned(),
            text_pair: pair.map(str::to_owned),
            label: label.map(str::to_owned),
        };
        Table {
            name: "t".to_owned(),
            columns: Columns { text: "text".to_owned(), text_pair: None, label: None },
            unread: Vec::new(),
            rows: rows.iter().map(row).collect(),
            over_lines: None,
        }
    }

    #[test]
    fn the_hash_tells_tables_apart_by_every_field_and_by_nothing_else() {
        let tables = [
            table(&[("ab", None, Some("1"))]),
            table(&[("a", Some("b"), Some("1"))]),
            table(&[("ab", Some(""), Some("1"))]),
            table(&[("ab", None, Some("2"))]),
            table(&[("ab", None, None)]),
            table(&[("ab", None, Some("1")), ("ab", None, Some("1"))]),
        ];
        let hashes: std::collections::BTreeSet<String> = tables.iter().map(Table::sha256).collect();
        assert_eq!(hashes.len(), tables.len());
        let mut elsewhere = tables[0].clone();
        elsewhere.name = "u".to_owned();
        elsewhere.rows[0].line = 9;
        assert_eq!(elsewhere.sha256(), tables[0].sha256());
    }
}
