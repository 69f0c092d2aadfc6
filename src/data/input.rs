//! What is read of a file: how it is written, which columns, and one example of it.

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
    /// One JSON object a line.
    Jsonl,
    /// A word a line, its tag in the last column, a blank line between sentences.
    Conll,
    /// The same in the ten columns of Universal Dependencies.
    Conllu,
}

impl FileFormat {
    /// By the extension of a file with texts.
    ///
    /// # Errors
    /// When the extension is none of tsv (also txt), csv, jsonl (also ndjson, json).
    pub fn from_path(path: &Path) -> Result<Self> {
        extension(path)?.parse().map_err(|_| {
            anyhow!("{}: cannot tell the format from the extension; rename the file to .tsv, .csv or .jsonl, \
                or name its format", path.display())
        })
    }

    /// By the extension of a file with tagged words, which many programs call .txt or .tsv.
    ///
    /// # Errors
    /// When the extension tells nothing.
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

    /// By the extension of a file with running text; `None` for one with a text on each line.
    ///
    /// # Errors
    /// When the extension tells nothing.
    pub fn of_running_text(path: &Path) -> Result<Option<Self>> {
        match extension(path)?.to_ascii_lowercase().as_str() {
            "txt" | "text" => Ok(None),
            _ => Self::from_path(path).map(Some),
        }
    }

    /// By the extension of a file with questions: all that they are read from is JSON.
    ///
    /// # Errors
    /// When the extension says something else.
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

/// The extension of a file, which is no archive by its name.
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
    /// The columns of the task, where it is trained already: pairs stay pairs, and the same names come first.
    pub trained: Option<Columns>,
}

/// Stands before each element of a label that was written as a JSON list.
pub const LIST: char = '\u{1f}';

/// One example as written in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Line where the row begins, from 1.
    pub line: u64,
    pub text: String,
    /// `None` or empty: a single text.
    pub text_pair: Option<String>,
    /// The label as written, see [`LIST`]; `None` where labels were not asked for.
    pub label: Option<String>,
}
