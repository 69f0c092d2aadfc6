//! What `predict` reads, some examples at a time: texts or documents, from a file or a pipe.

use crate::data::{Document, FileFormat, ReadDocuments, ReadOptions, Row, RowReader, rows};
use crate::formats::columns::not_read;
use crate::settings::task::{Reads, Task};
use crate::tasks::reading::documents;
use anyhow::{Error, Result};
use std::io::Read;
use std::path::Path;

/// Bytes of texts after which no more are read before those are answered.
const MOST_BYTES: usize = 64 << 20;

/// The examples of an input.
pub struct Incoming<'a> {
    name: String,
    examples: Reader<'a>,
    /// Of a file all is there; a pipe may have someone behind it who waits for an answer.
    whole: bool,
}

enum Reader<'a> {
    Texts(Box<RowReader<Box<dyn Read + 'a>>>),
    Documents(Box<dyn ReadDocuments + 'a>),
}

/// Examples that came together.
pub enum Chunk {
    Texts(Vec<Row>),
    Documents(Vec<Document>),
}

impl Chunk {
    pub fn len(&self) -> usize {
        match self {
            Self::Texts(rows) => rows.len(),
            Self::Documents(documents) => documents.len(),
        }
    }
}

impl<'a> Incoming<'a> {
    /// `path` is none for standard input.
    ///
    /// # Errors
    /// A format that is not known or is none of the task's, a header that lacks what is needed.
    pub fn open(
        task: Task,
        input: Box<dyn Read + 'a>,
        path: Option<&Path>,
        options: &ReadOptions,
    ) -> Result<Self> {
        let name = match path {
            Some(path) => path.display().to_string(),
            None => "standard input".to_owned(),
        };
        let examples = match task.facts().reads {
            Reads::Texts => {
                let format = match (options.format, path) {
                    (Some(format), _) => format,
                    (None, None) => FileFormat::Tsv,
                    (None, Some(path)) => FileFormat::from_path(path)?,
                };
                Reader::Texts(Box::new(rows(input, &name, format, options)?))
            }
            Reads::Words | Reads::Questions | Reads::Running => {
                Reader::Documents(documents(task, input, &name, path, options)?)
            }
        };
        Ok(Self { name, examples, whole: path.is_some_and(Path::is_file) })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn whole(&self) -> bool {
        self.whole
    }

    /// The columns that are read, as far as that is known.
    pub fn columns(&self) -> Option<String> {
        match &self.examples {
            Reader::Texts(rows) => rows.columns().map(|columns| columns.to_string()),
            Reader::Documents(documents) => documents.told(),
        }
    }

    /// How the examples are read, and what is not read of them, as far as that is known.
    pub fn told(&self) -> Option<String> {
        match &self.examples {
            Reader::Texts(rows) => {
                let columns = rows.columns()?;
                Some(format!("{columns}{}", not_read(&rows.unread())))
            }
            Reader::Documents(documents) => documents.told(),
        }
    }

    /// What was not read so far, where that is not plain to see.
    pub fn left_out(&self) -> Option<String> {
        match &self.examples {
            Reader::Texts(_) => None,
            Reader::Documents(documents) => documents.left_out(),
        }
    }

    /// The next examples: up to `most` of a whole file, and of a pipe what is there, so that an example is answered before
    /// the next is waited for. A bad example ends the input, but not before those ahead of it are done: its error comes
    /// with them.
    ///
    /// # Errors
    /// What can be said of the examples only together.
    pub fn chunk(&mut self, most: usize) -> Result<(Chunk, Option<Error>)> {
        let whole = self.whole;
        Ok(match &mut self.examples {
            Reader::Texts(rows) => {
                let bytes =
                    |row: &Row| row.text.len() + row.text_pair.as_ref().map_or(0, String::len);
                let ready = |rows: &mut RowReader<_>| whole || rows.ready();
                let (chunk, failed) = gather(&mut **rows, most, bytes, ready);
                if failed.is_none() {
                    rows.complete()?;
                }
                (Chunk::Texts(chunk), failed)
            }
            Reader::Documents(documents) => {
                let ready =
                    |documents: &mut Box<dyn ReadDocuments + 'a>| whole || documents.ready();
                let bytes = |document: &Document| document.text.len();
                let (chunk, failed) = gather(documents, most, bytes, ready);
                (Chunk::Documents(chunk), failed)
            }
        })
    }
}

/// Up to `most` items, fewer where no more are `ready` or these are large, and what the first that cannot be read was stopped by.
fn gather<T, I: Iterator<Item = Result<T>>>(
    items: &mut I,
    most: usize,
    size: impl Fn(&T) -> usize,
    mut ready: impl FnMut(&mut I) -> bool,
) -> (Vec<T>, Option<Error>) {
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    while let Some(item) = items.next() {
        match item {
            Ok(item) => {
                bytes += size(&item);
                chunk.push(item);
            }
            Err(error) => return (chunk, Some(error)),
        }
        if chunk.len() == most || bytes > MOST_BYTES || !ready(items) {
            break;
        }
    }
    (chunk, None)
}
