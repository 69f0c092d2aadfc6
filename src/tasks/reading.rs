//! Reads the documents of a task: from a file as a whole, or from a pipe one at a time.

use crate::data::{
    ConllReader, Documents, FileFormat, LabelUse, ReadDocuments, ReadOptions, RunningReader,
    SquadReader, TaggedJsonReader,
};
use crate::settings::task::{Reads, Task};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The documents of a whole file, and what to tell the user about how they were read, a sentence each.
pub struct ReadWhole {
    pub documents: Documents,
    pub told: Vec<String>,
}

/// Starts reading documents; `name` starts every message about them. `path` is `None` for standard input.
///
/// # Errors
/// A format that says nothing, or that the task does not read. The iterator's errors carry file, line and column.
pub fn documents<'a>(
    task: Task,
    input: Box<dyn Read + 'a>,
    name: &str,
    path: Option<&Path>,
    options: &ReadOptions,
) -> Result<Box<dyn ReadDocuments + 'a>> {
    match task.facts().reads {
        Reads::Texts => bail!("--task {task} reads texts"),
        Reads::Words => {
            let format = match (options.format, path) {
                (Some(format), _) => format,
                (None, Some(path)) => FileFormat::of_words(path)?,
                (None, None) => FileFormat::Conll,
            };
            Ok(match format {
                FileFormat::Conll | FileFormat::Conllu => {
                    let reader = ConllReader::new(input, name, format, options)?;
                    // Other extensions imply columns.
                    let by_name = path.map(FileFormat::from_path);
                    let any = matches!(by_name, None | Some(Ok(FileFormat::Tsv)));
                    match options.format.is_none() && any {
                        true => Box::new(reader.or_text()),
                        false => Box::new(reader),
                    }
                }
                FileFormat::Jsonl => Box::new(TaggedJsonReader::new(input, name, options)),
                _ => bail!(
                    "{name}: --task {task} reads words in columns (--format conll, conllu) or JSON lines (jsonl)"
                ),
            })
        }
        Reads::Running => {
            let format = match (options.format, path) {
                (Some(format), _) => Some(format),
                (None, Some(path)) => FileFormat::of_running_text(path)?,
                (None, None) => None,
            };
            Ok(Box::new(RunningReader::new(input, name, format, options)?))
        }
        Reads::Questions => {
            let format = match (options.format, path) {
                (Some(format), _) => format,
                (None, Some(path)) => FileFormat::of_questions(path)?,
                (None, None) => FileFormat::Jsonl,
            };
            if format != FileFormat::Jsonl {
                bail!(
                    "{name}: --task {task} reads SQuAD's JSON or JSON lines, which both are --format jsonl"
                );
            }
            let answered = options.label_use == LabelUse::Required;
            Ok(Box::new(SquadReader::new(input, name, answered)))
        }
    }
}

/// Reads all documents of a file.
///
/// # Errors
/// As [`documents`]; a file that cannot be opened.
pub fn read_documents(task: Task, path: &Path, options: &ReadOptions) -> Result<ReadWhole> {
    let name = path.display().to_string();
    if path.is_dir() {
        bail!("{name} is a folder; name the file with the examples");
    }
    let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
    let mut reader = documents(task, Box::new(file), &name, Some(path), options)?;
    let list = reader.by_ref().collect::<Result<_>>()?;
    let told = reader.told().into_iter().chain(reader.left_out()).collect();
    Ok(ReadWhole { documents: Documents { list, name }, told })
}
