//! The input of `predict`, some examples at a time: texts or documents, from a file or a pipe.

use crate::data::{Document, FileFormat, ReadDocuments, ReadOptions, Row, RowReader, rows};
use crate::formats::columns::not_read;
use crate::settings::task::{Reads, Task};
use crate::tasks::reading::documents;
use anyhow::{Error, Result};
use std::io::Read;
use std::path::Path;

/// Bytes of texts after which reading pauses until they are answered.
const MOST_BYTES: usize = 64 << 20;

/// The examples of an input.
pub struct Incoming<'a> {
    name: String,
    examples: Reader<'a>,
    /// A file is there as a whole; someone may be waiting for answers behind a pipe.
    whole: bool,
}

enum Reader<'a> {
    Texts(Box<RowReader<Box<dyn Read + 'a>>>),
    Documents(Box<dyn ReadDocuments + 'a>),
}

/// Examples that arrived together.
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
    /// `path` is `None` for standard input.
    ///
    /// # Errors
    /// A format that is unknown or not one of the task's, a header that lacks what is needed.
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

    /// The columns that are read, as far as known.
    pub fn columns(&self) -> Option<String> {
        match &self.examples {
            Reader::Texts(rows) => rows.columns().map(|columns| columns.to_string()),
            Reader::Documents(documents) => documents.told(),
        }
    }

    /// How the examples are read, and which parts are ignored, as far as known.
    pub fn told(&self) -> Option<String> {
        match &self.examples {
            Reader::Texts(rows) => {
                let columns = rows.columns()?;
                Some(format!("{columns}{}", not_read(&rows.unread())))
            }
            Reader::Documents(documents) => documents.told(),
        }
    }

    /// What has not been read so far, if that is not obvious.
    pub fn left_out(&self) -> Option<String> {
        match &self.examples {
            Reader::Texts(_) => None,
            Reader::Documents(documents) => documents.left_out(),
        }
    }

    /// The next examples: up to `most` from a file, and from a pipe those already there, so that an example is answered
    /// before waiting for the next. A bad example ends the input, but only after those before it are done: its error
    /// comes with them.
    ///
    /// # Errors
    /// A problem that only shows in the examples as a whole.
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

/// Up to `most` items, fewer if no more are `ready` or these are large, and the error of the first that cannot be read.
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
