//! Running text: the lines of a text file, one text each, or a column of a table.

use std::io::Read;

use anyhow::{Result, anyhow, bail};

use super::columns::LabelUse;
use super::documents::{Document, ReadDocuments};
use super::ending::Ending;
use super::formats::{RowReader, rows};
use super::input::{FileFormat, ReadOptions};
use super::lines::Lines;
use crate::formats::columns::not_read;
use crate::words::count;

/// Iterates over texts; ends after an error.
pub struct RunningReader<R> {
    source: Source<R>,
    /// Whether blank lines are texts too: when texts are answered.
    blank: bool,
    blanks: usize,
    ending: Ending,
}

enum Source<R> {
    Lines(Lines<R>),
    Rows(Box<RowReader<R>>),
}

impl<R: Read> RunningReader<R> {
    /// Without a format, each line is a text.
    ///
    /// # Errors
    /// A header without a text; a column for plain lines.
    pub fn new(
        input: R,
        name: &str,
        format: Option<FileFormat>,
        options: &ReadOptions,
    ) -> Result<Self> {
        let blank = options.label_use != LabelUse::Required;
        let source = match format {
            None => {
                if let Some(column) = &options.columns.text {
                    bail!(
                        "{name}: each line is a text, so there is no column {column:?}; name the table's format \
                         (--format tsv, csv or jsonl), or leave --text-column out"
                    );
                }
                Source::Lines(Lines::new(input, name))
            }
            Some(format) => {
                let options = ReadOptions { label_use: LabelUse::Ignored, ..options.clone() };
                Source::Rows(Box::new(rows(input, name, format, &options)?))
            }
        };
        Ok(Self { source, blank, blanks: 0, ending: Ending::default() })
    }

    fn read(&mut self) -> Result<Option<Document>> {
        loop {
            let (line, text) = match &mut self.source {
                Source::Lines(lines) => match lines.next()?.map(str::to_owned) {
                    Some(text) => (lines.number(), text),
                    None => return Ok(None),
                },
                Source::Rows(rows) => match rows.next().transpose()? {
                    Some(row) => (row.line, row.text),
                    None => return Ok(None),
                },
            };
            if text.trim().is_empty() && !self.blank {
                self.blanks += 1;
                continue;
            }
            return Ok(Some(Document { line, text, ..Document::default() }));
        }
    }
}

impl<R: Read> Iterator for RunningReader<R> {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ending.done() {
            return None;
        }
        let read = self.read();
        let name = match &self.source {
            Source::Lines(lines) => lines.name(),
            Source::Rows(rows) => rows.name(),
        };
        self.ending.after(read, || anyhow!("{name}: the file has no texts"))
    }
}

impl<R: Read> ReadDocuments for RunningReader<R> {
    fn ready(&mut self) -> bool {
        match &self.source {
            Source::Lines(lines) => lines.ready(),
            Source::Rows(rows) => rows.ready(),
        }
    }

    fn told(&self) -> Option<String> {
        match &self.source {
            Source::Lines(_) => Some("each line is a text".to_owned()),
            Source::Rows(rows) => {
                let columns = rows.columns()?;
                let pair = columns.text_pair.iter().cloned();
                let unread: Vec<String> = pair.chain(rows.unread()).collect();
                Some(format!("text from column {:?}{}", columns.text, not_read(&unread)))
            }
        }
    }

    fn left_out(&self) -> Option<String> {
        (self.blanks > 0).then(|| format!("{} without text left out", count(self.blanks, "line")))
    }
}
