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
}

impl FileFormat {
    /// By the file's extension.
    ///
    /// # Errors
    /// When the extension is none of tsv (also txt), csv, jsonl (also ndjson, json).
    pub fn from_path(path: &Path) -> Result<Self> {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        if let Some(what) = mistaken_extension(extension) {
            bail!("{}: by its name {what}", path.display());
        }
        extension.parse().map_err(|_| {
            anyhow!("{}: cannot tell the format by the extension; rename the file to .tsv, .csv or .jsonl, \
                or name its format", path.display())
        })
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
    /// The columns of the task, where it is trained already: pairs stay pairs, and the same names come first.
    pub trained: Option<Columns>,
}

/// One example as written in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Line where the row begins, from 1.
    pub line: u64,
    pub text: String,
    /// `None` or empty: a single text.
    pub text_pair: Option<String>,
    /// The label as written; `None` where labels were not asked for.
    pub label: Option<String>,
}
