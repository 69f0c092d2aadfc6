//! How to read a file: its format and columns, and one example from it.

use std::path::Path;
use std::str::FromStr;

use anyhow::{Result, anyhow, bail};

use super::columns::{ColumnNames, LabelUse};
use crate::content::mistaken_extension;
use crate::formats::columns::Columns;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// Header row, tabs between fields, quotes are ordinary characters.
    Tsv,
    /// Header row, RFC 4180.
    Csv,
    /// One JSON object per line.
    Jsonl,
    /// One word per line, its tag in the last column, a blank line between sentences.
    Conll,
    /// The same in the ten columns of Universal Dependencies.
    Conllu,
}

impl FileFormat {
    /// By the extension of a file with texts.
    ///
    /// # Errors
    /// If the extension is not tsv (also txt), csv or jsonl (also ndjson, json).
    pub fn from_path(path: &Path) -> Result<Self> {
        extension(path)?.parse().map_err(|_| {
            anyhow!("{}: cannot tell the format from the extension; rename the file to .tsv, .csv or .jsonl, \
                or name its format", path.display())
        })
    }

    /// By the extension of a file with tagged words, which many programs call .txt or .tsv.
    ///
    /// # Errors
    /// If the extension says nothing.
    pub fn of_words(path: &Path) -> Result<Self> {
        Ok(match extension(path)?.to_ascii_lowercase().as_str() {
            "conll" | "conll03" | "conll2003" | "bio" | "iob" | "iob2" | "iobes" | "tsv"
            | "txt" => Self::Conll,
            "conllu" => Self::Conllu,
            "jsonl" | "ndjson" | "json" => Self::Jsonl,
            _ => bail!(
                "{}: cannot tell the format from the extension; rename the file to .conll, .conllu or .jsonl, or name its \
                 format with --format",
                path.display()
            ),
        })
    }

    /// By the extension of a file with running text; `None` for one text per line.
    ///
    /// # Errors
    /// If the extension says nothing.
    pub fn of_running_text(path: &Path) -> Result<Option<Self>> {
        match extension(path)?.to_ascii_lowercase().as_str() {
            "txt" | "text" => Ok(None),
            _ => Self::from_path(path).map(Some),
        }
    }

    /// By the extension of a file with questions, which must be JSON.
    ///
    /// # Errors
    /// If the extension says otherwise.
    pub fn of_questions(path: &Path) -> Result<Self> {
        match extension(path)?.parse() {
            Ok(Self::Jsonl) => Ok(Self::Jsonl),
            _ => bail!(
                "{}: questions are read from SQuAD's JSON or JSON lines; name the file .json or .jsonl, or use --format \
                 jsonl",
                path.display()
            ),
        }
    }
}

/// The extension of a file whose name is not an archive's.
fn extension(path: &Path) -> Result<&str> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    match mistaken_extension(extension) {
        Some(what) => bail!("{}: judging by its name {what}", path.display()),
        None => Ok(extension),
    }
}

impl FromStr for FileFormat {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name.to_ascii_lowercase().as_str() {
            "tsv" | "txt" => Ok(FileFormat::Tsv),
            "csv" => Ok(FileFormat::Csv),
            "jsonl" | "ndjson" | "json" => Ok(FileFormat::Jsonl),
            _ => bail!("unknown format {name:?}; known are tsv, csv, jsonl"),
        }
    }
}

/// What to read of a file.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// `None`: by the extension.
    pub format: Option<FileFormat>,
    pub columns: ColumnNames,
    pub label_use: LabelUse,
    /// Whether a label may be a JSON list.
    pub label_lists: bool,
    /// The columns of an already trained task: pairs stay pairs, and the same names come first.
    pub trained: Option<Columns>,
}

/// Precedes each element of a label that was written as a JSON list.
pub const LIST: char = '\u{1f}';

/// One example as written in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Line where the row starts, from 1.
    pub line: u64,
    pub text: String,
    /// `None` or empty: a single text.
    pub text_pair: Option<String>,
    /// The label as written, see [`LIST`]; `None` if labels were not requested.
    pub label: Option<String>,
}
