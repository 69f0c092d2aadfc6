//! The rows of a named task, with the task's own label words. Missing or superfluous parts of its files are reported
//! with their place.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Result, bail};

use super::look_alike::refuse_look_alike;
use super::named_labels::{in_word, is_number, numbers};
use super::test_numbers::TestNumbers;
use super::unlabelled::says_none;
use crate::data::benchmark::layout::{self, Found, Local, Tree};
use crate::data::benchmark::{
    Fields, RawFile, RawRow, RawRows, list, read as read_file, read_pairs,
};
use crate::data::{Row, Table};
use crate::formats::columns::Columns;
use crate::settings::benchmark::{NamedTask, TaskPart, Wanted};
use crate::words::{are, count, have};

/// What a part is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFor {
    Train,
    Dev,
    /// Without labels, and no row may be left out.
    Test,
}

/// The rows of a part.
#[derive(Debug)]
pub struct PartRows {
    pub table: Table,
    /// The number of each test row, from 0 in any order; empty otherwise.
    pub index: Vec<String>,
    /// What was left out or is unusual, a sentence each.
    pub notes: Vec<String>,
}

/// Reads a part from a folder; `None` if it is not there. Rows that say they have no label are left out if
/// `drop_unlabelled`.
///
/// # Errors
/// Another task's files, or rows that do not belong to this task, with file, line or row, and column.
pub fn read(
    folder: &Path,
    task: &NamedTask,
    part: &TaskPart,
    purpose: ReadFor,
    drop_unlabelled: bool,
) -> Result<Option<PartRows>> {
    let tree = Local(folder.to_path_buf());
    let Some((found, ids)) = find(&tree, folder, task, part, purpose)? else {
        return Ok(None);
    };
    let (columns, files) = match &found {
        Found::Parquet(files) => (&task.columns, files.clone()),
        Found::Own(file) => (&task.archive.columns, vec![file.clone()]),
    };
    if files.iter().all(|file| !file.contains('/'))
        && let Some(other) = layout::named_after(folder, task)
    {
        bail!(
            "judging by its name, {} is the folder of {}, but --task is {}; give the folder of {}",
            folder.display(),
            other.title,
            task.name,
            task.title
        );
    }
    let mut taken = Taken {
        task,
        columns,
        purpose,
        drop_unlabelled,
        ids,
        name: String::new(),
        rows: Vec::new(),
        numbers: TestNumbers::default(),
        notes: Vec::new(),
        numbered: false,
        unsaid: false,
        header: Vec::new(),
    };
    for file in &files {
        let fields = taken.fields();
        let path = folder.join(file);
        taken.take(read_file(&path, &task.archive, &fields)?)?;
    }
    taken.done(files.len()).map(Some)
}

/// Where a part's rows are: in its own file, or the rows of the training file that another file lists or does not list.
fn find(
    tree: &Local,
    folder: &Path,
    task: &NamedTask,
    part: &TaskPart,
    purpose: ReadFor,
) -> Result<Option<(Found, Option<Ids>)>> {
    let found = layout::find(tree, task, part)?;
    let Some((file, columns)) = task.archive.dev_ids else {
        return Ok(found.map(|found| (found, None)));
    };
    // If the development rows have no file of their own, they are among the training rows.
    let dev = match task.dev.first() {
        Some(dev) => layout::find(tree, task, dev)?,
        None => None,
    };
    let train = match &task.train {
        Some(train) => layout::find(tree, task, train)?,
        None => None,
    };
    let (None, Some(Found::Own(train)), ReadFor::Train | ReadFor::Dev) = (dev, train, purpose)
    else {
        return Ok(found.map(|found| (found, None)));
    };
    let beside = train.rsplit_once('/').map_or("", |(folder, _)| folder);
    if !tree.files(beside).iter().any(|name| name == file) {
        return Ok(found.map(|found| (found, None)));
    }
    let path = folder.join(beside).join(file);
    let ids = Ids {
        name: path.display().to_string(),
        pairs: read_pairs(&path)?,
        found: HashSet::new(),
        columns,
        wanted: purpose == ReadFor::Dev,
    };
    Ok(Some((Found::Own(train), Some(ids))))
}

/// The training rows that are development rows.
struct Ids {
    /// The file that lists them.
    name: String,
    pairs: HashSet<[String; 2]>,
    /// Those found in a row so far.
    found: HashSet<[String; 2]>,
    columns: [&'static str; 2],
    /// Whether to read them, or the others.
    wanted: bool,
}

impl Ids {
    /// Whether the row with these ids is one of the wanted rows.
    fn takes(&mut self, pair: [String; 2]) -> bool {
        let named = self.pairs.contains(&pair);
        if named {
            self.found.insert(pair);
        }
        named == self.wanted
    }

    /// Says which ids no row has.
    fn missing(&self) -> Option<String> {
        let header = self.columns.map(str::to_owned);
        let named = || self.pairs.iter().filter(|pair| **pair != header);
        let missing = || named().filter(|pair| !self.found.contains(*pair));
        let [first, second] = missing().min().filter(|_| self.wanted)?;
        let (missing, all) = (missing().count(), named().count());
        Some(format!(
            "{}: no row has the ids of {missing} of the {all} lines, such as {first:?} and {second:?}: the \
             development rows are \
             incomplete",
            self.name
        ))
    }
}

/// The rows of one part while its files are being read.
struct Taken<'a> {
    task: &'a NamedTask,
    columns: &'a Wanted,
    purpose: ReadFor,
    drop_unlabelled: bool,
    ids: Option<Ids>,
    name: String,
    rows: Vec<Row>,
    numbers: TestNumbers,
    notes: Vec<String>,
    /// Whether labels are numbers.
    numbered: bool,
    /// Whether a file of numbers does not say which classes they are.
    unsaid: bool,
    /// Of the current file.
    header: Vec<String>,
}

impl<'a> Taken<'a> {
    fn fields(&self) -> Fields<'a> {
        let columns = self.columns;
        let mut needed: Vec<&str> = columns.text.to_vec();
        needed.extend(columns.pair);
        let texts = needed.len();
        let mut optional = Vec::new();
        match self.purpose {
            ReadFor::Train | ReadFor::Dev => needed.push(columns.label),
            ReadFor::Test => optional.extend([columns.index, columns.label]),
        }
        needed.extend(self.ids.iter().flat_map(|ids| ids.columns));
        Fields { needed, texts, optional }
    }

    fn take(&mut self, raw: RawRows) -> Result<()> {
        let RawRows { file, header, mut rows, cut, broken, classes } = raw;
        self.header.clone_from(&header);
        if self.name.is_empty() {
            self.name.clone_from(&file.name);
        }
        self.unsaid = !file.lines && classes.is_none();
        self.hold_classes(&file, classes)?;
        self.numbers.file(&file);
        let test = self.purpose == ReadFor::Test;
        match cut {
            Some(at) if test => bail!(
                "{}: the last line ends before its last field; the file is incomplete, and each of its rows needs an answer",
                file.place(at)
            ),
            Some(at) => self.cut(&mut rows, &file, at),
            None => {}
        }
        let label = self.columns.text.len() + self.columns.pair.iter().len();
        if !test && cut.is_none() && file.lines && !self.task.archive.has_broken_rows {
            // What was cut off just before its last field.
            let last = rows.last().filter(|row| {
                row.fields[label].as_deref().is_none_or(|text| text.trim().is_empty())
            });
            if let Some(at) = last.map(|row| row.at).filter(|_| rows.len() > 1) {
                self.cut(&mut rows, &file, at);
            }
        }
        if !test && file.lines {
            let labels = rows.iter().filter_map(|row| row.fields[label].as_deref());
            refuse_look_alike(self.task, &file.name, &self.header, labels)?;
        }
        if !broken.is_empty() {
            self.notes.push(format!(
                "{}: {} {} fewer fields than the header (the first is line {}), a known fault of {}: {}",
                file.name,
                count(broken.len(), "row"),
                have(broken.len()),
                broken[0],
                self.task.title,
                if test { "what is missing is read as empty" } else { "left out" }
            ));
        }
        let (mut unlabelled, mut incomplete) = (0, 0);
        for row in rows {
            if !test && self.task.archive.has_broken_rows {
                let short = broken.binary_search(&row.at).is_ok();
                let gaps = row.fields.iter().any(Option::is_none)
                    || row.fields[label].as_deref().is_some_and(|text| text.trim().is_empty());
                if short || gaps {
                    incomplete += u64::from(!short);
                    continue;
                }
            }
            if !self.row(row, &file, label)? {
                unlabelled += 1;
            }
        }
        if incomplete > 0 {
            self.notes.push(format!(
                "{}: no question or no label in {}, a known fault of {}: left out",
                file.name,
                count(incomplete as usize, "row"),
                self.task.title
            ));
        }
        if unlabelled > 0 {
            self.notes.push(format!(
                "{}: {} without a label {} left out",
                file.name,
                count(unlabelled, "row"),
                are(unlabelled)
            ));
        }
        Ok(())
    }

    /// Leaves out the last line.
    fn cut(&mut self, rows: &mut Vec<RawRow>, file: &RawFile, at: u64) {
        rows.pop();
        self.notes.push(format!(
            "{}: the last line is incomplete or has no label, and is left out",
            file.place(at)
        ));
    }

    /// Takes one row; false if it is left out because it has no label.
    fn row(&mut self, row: RawRow, file: &RawFile, label: usize) -> Result<bool> {
        let test = self.purpose == ReadFor::Test;
        let RawRow { at, mut fields } = row;
        if let Some(ids) = &mut self.ids {
            let pair = fields.split_off(label + 1);
            let pair: Vec<String> =
                pair.into_iter().map(|id| id.unwrap_or_default().trim().to_owned()).collect();
            let Ok(pair) = <[String; 2]>::try_from(pair) else { return Ok(true) };
            if !ids.takes(pair) {
                return Ok(true);
            }
        }
        let mut texts = Vec::new();
        for (i, column) in self.columns.text.iter().chain(&self.columns.pair).enumerate() {
            match fields[i].take() {
                Some(text) => texts.push(text),
                None if test && self.task.archive.has_broken_rows => texts.push(String::new()),
                None => bail!("{}: there is no text", file.cell(at, column)),
            }
        }
        let text_pair = self.columns.pair.and_then(|_| texts.pop());
        let label = match (self.purpose, fields.pop().flatten()) {
            (ReadFor::Test, label) => {
                self.test_row(label.as_deref(), fields.pop().flatten(), file, at)?;
                None
            }
            (_, label) => match self.label(label.as_deref().unwrap_or_default(), file, at)? {
                Some(label) => Some(label),
                None => return Ok(false),
            },
        };
        self.rows.push(Row { line: at, text: texts.join(": "), text_pair, label });
        Ok(true)
    }

    /// Takes the number of a test row, which has no label.
    fn test_row(
        &mut self,
        label: Option<&str>,
        number: Option<String>,
        file: &RawFile,
        at: u64,
    ) -> Result<()> {
        let label = label.map(str::trim).filter(|text| !says_none(text));
        if let Some(label) = label.filter(|_| !self.task.archive.has_test_labels) {
            bail!(
                "{}: {label:?} is a label, but the test rows of {} have none; are these the rows of another split?",
                file.cell(at, self.columns.label),
                self.task.title
            );
        }
        let column = self.columns.index;
        let numbered = self.header.iter().any(|name| name == column);
        match number {
            None if numbered => bail!("{}: the row has no number", file.cell(at, column)),
            None => self.numbers.count_without(),
            Some(_) => {}
        }
        self.numbers.take(number, column, at)
    }

    /// A label in the task's words; none if the row says it has none, in which case it is left out.
    fn label(&mut self, text: &str, file: &RawFile, at: u64) -> Result<Option<String>> {
        let cell = || file.cell(at, self.columns.label);
        let text = text.trim();
        match says_none(text) {
            true if self.drop_unlabelled => return Ok(None),
            true => bail!(
                "{}: {} means that the row has no label; leave such rows out with --unlabelled drop",
                cell(),
                if text.is_empty() { "an empty field".to_owned() } else { format!("{text:?}") }
            ),
            false => {}
        }
        let (label, by_number) = in_word(self.task, text, cell)?;
        self.numbered |= by_number || (self.unsaid && is_number(self.task, text));
        Ok(Some(label))
    }

    /// Checks the classes that a file claims against those of the task, in order.
    fn hold_classes(&self, file: &RawFile, said: Option<Vec<String>>) -> Result<()> {
        let Some(said) = said else { return Ok(()) };
        let ours: Vec<&str> = self.task.classes().iter().map(|class| class.name).collect();
        if said != ours {
            bail!(
                "{}: its classes are {}, but those of {} are {}; these are files of another task",
                file.name,
                list(&said),
                self.task.title,
                if ours.is_empty() { "none, but scores".to_owned() } else { list(&ours) }
            );
        }
        Ok(())
    }

    fn done(mut self, files: usize) -> Result<PartRows> {
        if self.rows.is_empty() {
            bail!("{}: no rows are left", self.name);
        }
        self.notes.extend(self.ids.iter().filter_map(Ids::missing));
        if files > 1 {
            self.notes.push(format!(
                "{} and {} more files are read in order",
                self.name,
                files - 1
            ));
        }
        if self.numbered {
            self.notes.push(format!("{}: {}", self.name, numbers(self.task)));
        }
        let test = self.purpose == ReadFor::Test;
        let read: Vec<&str> =
            self.fields().all().filter(|name| !test || *name != self.columns.label).collect();
        let (index, note) = match test {
            true => std::mem::take(&mut self.numbers).done(self.columns.index)?,
            false => (Vec::new(), None),
        };
        self.notes.extend(note);
        let label = (!test).then(|| self.columns.label.to_owned());
        let columns = Columns {
            text: self.columns.text_name(),
            text_pair: self.columns.pair.map(str::to_owned),
            label,
        };
        let mut unread = self.header;
        unread.retain(|name| !read.contains(&name.as_str()));
        let table = Table { name: self.name, columns, unread, rows: self.rows, over_lines: None };
        Ok(PartRows { table, index, notes: self.notes })
    }
}

#[cfg(test)]
#[path = "named_tests.rs"]
mod tests;
