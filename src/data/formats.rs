//! Rows of a tsv, csv or jsonl input, one at a time in constant memory.
//!
//! The same iterator reads a whole training file and the pipe that feeds `predict`.

use std::io::Read;

use anyhow::{Result, anyhow, bail};

use super::columns::{ChosenColumns, choose, hold_pairs, name_several};
use super::ending::Ending;
use super::input::{FileFormat, ReadOptions, Row};
use super::jsonl::Keys;
use super::lines::{Lines, place};
use super::records::{Record, Splitter};
use crate::formats::columns::Columns;
use crate::words::count;

/// Iterates over the rows of an input; ends after an error.
pub struct RowReader<R> {
    lines: Lines<R>,
    kind: Kind,
    options: ReadOptions,
    /// The first of the blank lines seen since the last row: an error unless the input ends with them.
    blank: Option<u64>,
    /// The line that the last row ends on.
    row_end: u64,
    ending: Ending,
}

enum Kind {
    Delimited {
        splitter: Splitter,
        record: Record,
        /// The names of all columns.
        header: Vec<String>,
        chosen: ChosenColumns,
        columns: Columns,
        unread: Vec<String>,
    },
    Jsonl(Keys),
}

/// Starts reading rows; `name` (the file's name or "standard input") begins every error message.
///
/// # Errors
/// Immediately if a tsv or csv header lacks a needed column, or does not fit what the task was trained on. The
/// iterator's own errors carry file, line and column: invalid UTF-8, a row with a different number of fields than the
/// header, a missing key, broken JSON, no rows at all.
pub fn rows<R: Read>(
    reader: R,
    name: &str,
    format: FileFormat,
    options: &ReadOptions,
) -> Result<RowReader<R>> {
    if let FileFormat::Conll | FileFormat::Conllu = format {
        bail!("{name}: a file with one word per line is for --task token-classification");
    }
    let mut lines = Lines::new(reader, name);
    let mut delimited = |mut splitter: Splitter| -> Result<Kind> {
        let Some(header) = lines.next()?.map(str::to_owned) else {
            bail!("{name}: the file is empty; a header row and at least one example are needed");
        };
        let mut record = Record::default();
        splitter.split(&header, &mut lines, &mut record)?;
        let header: Vec<&str> = record.fields().map(str::trim).collect();
        let here = place(name, 1);
        if header.iter().any(|field| field.contains('\r')) {
            bail!("{here}: the lines end in carriage returns only; save the file with line feeds");
        }
        let (label_use, trained) = (options.label_use, options.trained.as_ref());
        let chosen =
            choose(&header, &options.columns, label_use, trained, &here).map_err(|error| {
                match other_form(&header, format) {
                    Some(form) => anyhow!("{here}: {form} (the header is {:?})", header.join("\t")),
                    None => error,
                }
            })?;
        hold_pairs(trained, chosen.text_pair.is_some(), &here)?;
        Ok(Kind::Delimited {
            columns: chosen.names(&header),
            unread: chosen.others(&header),
            header: header.into_iter().map(str::to_owned).collect(),
            chosen,
            splitter,
            record,
        })
    };
    let kind = match format {
        FileFormat::Tsv => delimited(Splitter::Tsv)?,
        FileFormat::Csv => delimited(Splitter::csv())?,
        FileFormat::Jsonl | FileFormat::Conll | FileFormat::Conllu => Kind::Jsonl(Keys::default()),
    };
    Ok(RowReader {
        lines,
        kind,
        options: options.clone(),
        blank: None,
        row_end: 0,
        ending: Ending::default(),
    })
}

/// What a header that is not understood looks like, and what to do.
fn other_form(header: &[&str], format: FileFormat) -> Option<String> {
    let quoted = |field: &&str| field.len() > 1 && field.starts_with('"') && field.ends_with('"');
    if let [only] = header {
        let form = match (format, *only) {
            (_, line) if line.starts_with('{') => {
                return Some("the file looks like JSON lines: use --format jsonl".to_owned());
            }
            (FileFormat::Tsv, line) if line.contains(',') => Some(("commas", "use --format csv")),
            (FileFormat::Csv, line) if line.contains('\t') => Some(("tabs", "use --format tsv")),
            (_, line) if line.contains(';') => Some(("semicolons", "save it with commas or tabs")),
            (_, line) if line.contains('|') => Some(("bars", "save it with commas or tabs")),
            (_, line) if name_several(&line.split_whitespace().collect::<Vec<_>>()) => {
                Some(("spaces", "save it with commas or tabs"))
            }
            _ => None,
        };
        if let Some((separator, advice)) = form {
            return Some(format!("the fields look separated by {separator}: {advice}"));
        }
    } else if format == FileFormat::Tsv && header.iter().any(quoted) {
        return Some(
            "the fields are in quotes, which are ordinary characters in a tsv: save it without quotes, or as csv"
                .to_owned(),
        );
    }
    // Names of columns are neither numbers nor sentences.
    let example =
        |field: &&str| field.parse::<f64>().is_ok() || field.split_whitespace().nth(3).is_some();
    header.iter().any(example).then(|| {
        "the first line is read as column names but looks like an example: add a line with the names above it"
            .to_owned()
    })
}

impl<R: Read> Iterator for RowReader<R> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Result<Row>> {
        if self.ending.done() {
            return None;
        }
        let read = self.read();
        let (name, kind) = (self.lines.name(), &self.kind);
        self.ending.after(read, || match kind {
            Kind::Delimited { .. } => {
                anyhow!("{name}: there is only a header row; add at least one example below it")
            }
            Kind::Jsonl(_) => anyhow!("{name}: the file has no examples"),
        })
    }
}

impl<R: Read> RowReader<R> {
    /// The start of every message about these rows: the file's name or "standard input".
    pub fn name(&self) -> &str {
        self.lines.name()
    }

    /// The columns that are read; for JSON lines those known so far, and none before the first row.
    pub fn columns(&self) -> Option<Columns> {
        match &self.kind {
            Kind::Delimited { columns, .. } => Some(columns.clone()),
            Kind::Jsonl(keys) => keys.columns(),
        }
    }

    /// The columns that are not read; for JSON lines those known so far.
    pub fn unread(&self) -> Vec<String> {
        match &self.kind {
            Kind::Delimited { unread, .. } => unread.clone(),
            Kind::Jsonl(keys) => keys.unread(),
        }
    }

    /// Checks that the rows so far have everything the user named and the task was trained on: keys of JSON lines may
    /// come late. Call it before using the rows.
    ///
    /// # Errors
    /// None of them has a key.
    pub fn complete(&self) -> Result<()> {
        match &self.kind {
            Kind::Delimited { .. } => Ok(()),
            Kind::Jsonl(keys) => keys.complete(&self.options, self.lines.name()),
        }
    }

    /// The line where the last row read ends, from 1.
    pub fn row_end(&self) -> u64 {
        self.row_end
    }

    /// Whether another row is already there, so that asking for it does not wait for input.
    pub fn ready(&self) -> bool {
        match self.one_column() {
            true => self.lines.any_ready(),
            false => self.lines.ready(),
        }
    }

    fn read(&mut self) -> Result<Option<Row>> {
        loop {
            let Some(line) = self.lines.next()?.map(str::to_owned) else {
                return Ok(None);
            };
            let number = self.lines.number();
            if line.is_empty() && !self.one_column() {
                self.blank.get_or_insert(number);
                continue;
            }
            let row = match &mut self.kind {
                Kind::Delimited { .. } if line.is_empty() => {
                    Row { line: number, text: String::new(), text_pair: None, label: None }
                }
                Kind::Delimited { splitter, record, header, chosen, .. } => {
                    splitter.split(&line, &mut self.lines, record)?;
                    let quotes = matches!(splitter, Splitter::Csv(_));
                    delimited_row(record, header, *chosen, number, self.lines.name(), quotes)?
                }
                Kind::Jsonl(keys) => keys.row(&line, self.lines.name(), number, &self.options)?,
            };
            if let Some(blank) = self.blank {
                bail!("{}: a blank line between the examples", place(self.lines.name(), blank));
            }
            self.row_end = self.lines.number();
            return Ok(Some(row));
        }
    }

    /// Whether a blank line is an empty text: then it is a row like any other, even at the end, so that answers stay
    /// aligned with lines.
    fn one_column(&self) -> bool {
        matches!(&self.kind, Kind::Delimited { header, .. } if header.len() == 1)
    }
}

/// Whether a csv field was meant to be quoted but is not, because its quote does not come first.
pub fn is_quoted_behind_space(field: &str) -> bool {
    field.starts_with([' ', '\t']) && field.trim_start().starts_with('"')
}

fn delimited_row(
    record: &Record,
    header: &[String],
    chosen: ChosenColumns,
    line: u64,
    name: &str,
    quotes: bool,
) -> Result<Row> {
    let width = header.len();
    if record.len() != width {
        let hint = match quotes && record.fields().any(is_quoted_behind_space) {
            true => {
                "; in a csv a quote counts only at the beginning of a field, and here a space comes before one: remove it"
            }
            false => "",
        };
        bail!(
            "{}: {}, but the header has {width}{hint}",
            place(name, line),
            count(record.len(), "field")
        );
    }
    // A text may equal the name of its column; a whole row of names is not data.
    let again =
        |(field, name): (&str, &String)| field.trim_start_matches('\u{feff}').trim() == name;
    if width > 1 && record.fields().zip(header).all(again) {
        bail!(
            "{}: this line repeats the column names, as when files are concatenated: remove it",
            place(name, line)
        );
    }
    let owned = |field: usize| record.get(field).to_owned();
    Ok(Row {
        line,
        text: owned(chosen.text),
        text_pair: chosen.text_pair.map(owned),
        label: chosen.label.map(owned),
    })
}

#[cfg(test)]
#[path = "formats_tests.rs"]
mod tests;
