//! Rows of a tsv, csv or jsonl input, one at a time in constant memory.
//!
//! The same iterator reads a whole training file and a pipe that `predict` is fed from.

use std::io::BufRead;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use super::columns::{Chosen, ColumnNames, LabelUse, choose};
use super::lines::{Lines, place};
use super::records::{Record, Splitter};

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
    /// When the extension is none of tsv, csv, jsonl (also ndjson, json).
    pub fn from_path(path: &Path) -> Result<Self> {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
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
            "tsv" => Ok(FileFormat::Tsv),
            "csv" => Ok(FileFormat::Csv),
            "jsonl" | "ndjson" | "json" => Ok(FileFormat::Jsonl),
            _ => bail!("unknown format {name:?}; known are tsv, csv, jsonl"),
        }
    }
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

/// Iterator over the rows of an input; after an error it ends.
pub struct RowReader<R> {
    lines: Lines<R>,
    kind: Kind,
    columns: ColumnNames,
    label_use: LabelUse,
    /// Line numbers of blank lines seen since the last row: an error unless the input ends with them.
    blanks: std::ops::Range<u64>,
    /// The first row after blank lines, read while those were still to be given out.
    waiting: Option<Row>,
    any: bool,
    done: bool,
}

enum Kind {
    Delimited {
        splitter: Splitter,
        record: Record,
        width: usize,
        chosen: Chosen,
    },
    /// The keys are chosen by the first object.
    Jsonl {
        keys: Option<Keys>,
    },
}

struct Keys {
    text: String,
    text_pair: Option<String>,
    label: Option<String>,
}

/// Starts reading rows; `name` (the file's name or "standard input") begins every error message.
///
/// # Errors
/// Here, when a tsv or csv header lacks a needed column. The iterator's own errors carry file, line and column:
/// invalid UTF-8, a row with another number of fields than the header, a missing key, broken JSON, no row at all.
pub fn rows<R: BufRead>(
    reader: R,
    name: &str,
    format: FileFormat,
    columns: &ColumnNames,
    label_use: LabelUse,
) -> Result<RowReader<R>> {
    let mut lines = Lines::new(reader, name);
    let mut delimited = |mut splitter: Splitter| -> Result<Kind> {
        let Some(header) = lines.next()?.map(str::to_owned) else {
            bail!("{name}: the file is empty; a header row and at least one example are needed");
        };
        let mut record = Record::default();
        splitter.split(&header, &mut lines, &mut record)?;
        let header: Vec<&str> = record.fields().map(str::trim).collect();
        let chosen = choose(&header, columns, label_use, &place(name, 1))?;
        Ok(Kind::Delimited { width: header.len(), chosen, splitter, record })
    };
    let kind = match format {
        FileFormat::Tsv => delimited(Splitter::Tsv)?,
        FileFormat::Csv => delimited(Splitter::csv())?,
        FileFormat::Jsonl => Kind::Jsonl { keys: None },
    };
    Ok(RowReader {
        lines,
        kind,
        columns: columns.clone(),
        label_use,
        blanks: 0..0,
        waiting: None,
        any: false,
        done: false,
    })
}

impl<R: BufRead> Iterator for RowReader<R> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Result<Row>> {
        if self.done {
            return None;
        }
        let row = self.read().transpose();
        match &row {
            Some(Ok(_)) => self.any = true,
            _ => self.done = true,
        }
        if row.is_none() && !self.any {
            return Some(Err(anyhow!("{}: the file has no examples", self.lines.name())));
        }
        row
    }
}

impl<R: BufRead> RowReader<R> {
    /// What begins every message about these rows: the file's name or "standard input".
    pub fn name(&self) -> &str {
        self.lines.name()
    }

    fn read(&mut self) -> Result<Option<Row>> {
        if !self.blanks.is_empty() && self.waiting.is_some() {
            return self.blank_row();
        }
        if let Some(row) = self.waiting.take() {
            return Ok(Some(row));
        }
        loop {
            let Some(line) = self.lines.next()? else {
                return Ok(None);
            };
            if line.is_empty() {
                let number = self.lines.number();
                let first = if self.blanks.is_empty() { number } else { self.blanks.start };
                self.blanks = first..number + 1;
                continue;
            }
            let row = match &mut self.kind {
                Kind::Delimited { splitter, record, width, chosen } => {
                    let line = line.to_owned();
                    let number = self.lines.number();
                    splitter.split(&line, &mut self.lines, record)?;
                    delimited_row(record, *width, *chosen, number, self.lines.name())?
                }
                Kind::Jsonl { keys } => {
                    let object: Value = match serde_json::from_str(line) {
                        Ok(object) => object,
                        Err(e) => {
                            bail!("{}:{}: {}", self.lines.place(), e.column(), json_problem(&e))
                        }
                    };
                    let here = self.lines.place();
                    let keys = match keys {
                        Some(keys) => keys,
                        None => {
                            keys.insert(choose_keys(&object, &self.columns, self.label_use, &here)?)
                        }
                    };
                    jsonl_row(object, keys, self.lines.number(), &here)?
                }
            };
            if self.blanks.is_empty() {
                return Ok(Some(row));
            }
            self.waiting = Some(row);
            return self.blank_row();
        }
    }

    /// A blank line that is not at the end: an empty text where the text is the only column, else an error.
    fn blank_row(&mut self) -> Result<Option<Row>> {
        let line = self.blanks.start;
        match self.kind {
            Kind::Delimited { width: 1, .. } => {
                self.blanks.start += 1;
                Ok(Some(Row { line, text: String::new(), text_pair: None, label: None }))
            }
            _ => bail!("{}: a blank line between the examples", place(self.lines.name(), line)),
        }
    }
}

fn delimited_row(
    record: &Record,
    width: usize,
    chosen: Chosen,
    line: u64,
    name: &str,
) -> Result<Row> {
    if record.len() != width {
        bail!("{}: {} field(s) where the header has {width}", place(name, line), record.len());
    }
    let owned = |field: usize| record.get(field).to_owned();
    Ok(Row {
        line,
        text: owned(chosen.text),
        text_pair: chosen.text_pair.map(owned),
        label: chosen.label.map(owned),
    })
}

/// What is wrong with the JSON, without serde_json's own line and column (always "line 1" here).
fn json_problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    format!("not a JSON object on one line: {}", &text[..end])
}

fn choose_keys(
    object: &Value,
    columns: &ColumnNames,
    label_use: LabelUse,
    here: &str,
) -> Result<Keys> {
    let header: Vec<String> = as_object(object, here)?.keys().cloned().collect();
    let chosen = choose(&header, columns, label_use, here)?;
    Ok(Keys {
        text: header[chosen.text].clone(),
        text_pair: chosen.text_pair.map(|i| header[i].clone()),
        label: chosen.label.map(|i| header[i].clone()),
    })
}

fn as_object<'a>(value: &'a Value, here: &str) -> Result<&'a serde_json::Map<String, Value>> {
    let hint =
        if value.is_array() { " (an array; write each element on a line of its own)" } else { "" };
    value.as_object().with_context(|| format!("{here}: not a JSON object{hint}"))
}

fn jsonl_row(mut object: Value, keys: &Keys, line: u64, here: &str) -> Result<Row> {
    as_object(&object, here)?;
    let mut take = |key: &str| match object.get_mut(key) {
        Some(value) => Ok(value.take()),
        None => bail!("{here}: the key {key:?} is missing"),
    };
    let text = |key: &str, value: Value| match value {
        Value::String(text) => Ok(text),
        other => bail!("{here}: the value of {key:?} is {}, not a string", kind_of(&other)),
    };
    Ok(Row {
        line,
        text: text(&keys.text, take(&keys.text)?)?,
        text_pair: match &keys.text_pair {
            None => None,
            Some(key) => match take(key)? {
                Value::Null => None,
                value => Some(text(key, value)?),
            },
        },
        label: match &keys.label {
            None => None,
            Some(key) => Some(match take(key)? {
                Value::String(word) => word,
                Value::Number(number) => number.to_string(),
                Value::Bool(truth) => truth.to_string(),
                other => bail!(
                    "{here}: the label {key:?} is {}, not a string, number or truth value",
                    kind_of(&other)
                ),
            }),
        },
    })
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
#[path = "formats_tests.rs"]
mod tests;
