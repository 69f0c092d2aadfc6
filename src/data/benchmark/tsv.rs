//! The tab-separated files of GLUE's archive. A quote is an ordinary character, CoLA's files have no header, and some
//! files end in the middle of a row.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::raw::{Fields, RawFile, RawRow, RawRows};
use crate::data::lines::Lines;
use crate::settings::benchmark::{Archive, NamedTask};
use crate::settings::benchmarks::TASKS;

/// Reads the wanted fields of every row.
///
/// # Errors
/// With file and line: a missing column, a row with another number of fields than the header, invalid text.
pub fn read(path: &Path, archive: &Archive, fields: &Fields<'_>) -> Result<RawRows> {
    let file = RawFile::new(path, true);
    let input = File::open(path).with_context(|| format!("cannot open {}", file.name))?;
    let mut lines = Lines::new(input, &file.name);
    let Some(first) = lines.next()?.map(str::to_owned) else {
        bail!("{}: the file is empty", file.name);
    };
    let header: Vec<&str> = first.split('\t').map(str::trim).collect();
    let has = |names: &[&str]| fields.needed.iter().all(|name| names.contains(name));
    let names_texts = archive.columns.text.iter().all(|name| header.contains(name));
    let bare = archive.bare.filter(|bare| has(bare) && !has(&header) && !names_texts);
    let names = bare.unwrap_or(&header);
    let places: Vec<Option<usize>> =
        fields.all().map(|field| names.iter().position(|name| *name == field)).collect();
    if !has(names) {
        let texts = archive.columns.text.iter().chain(&archive.columns.pair);
        let hint = match known(&header) {
            Some(task) => format!("; these are {}'s", task.title),
            None if texts.clone().all(|name| header.contains(name)) => {
                "; are these the test rows, which have no labels?".to_owned()
            }
            None => String::new(),
        };
        bail!(
            "{}: the columns {} are needed, but the file has {}{hint}",
            file.place(1),
            list(&fields.needed),
            list(&header)
        );
    }
    let width = names.len();
    let named = if bare.is_some() {
        Vec::new()
    } else {
        header.iter().map(|name| (*name).to_owned()).collect()
    };
    let mut found = RawRows {
        file,
        header: named,
        rows: Vec::new(),
        cut: None,
        broken: Vec::new(),
        classes: None,
    };
    let mut pending = bare.map(|_| first.clone());
    let mut blank = None;
    loop {
        let at = lines.number();
        let line = match pending.take() {
            Some(line) => line,
            None => match lines.next()? {
                Some(line) => line.to_owned(),
                None => break,
            },
        };
        let at = at.max(lines.number());
        if line.is_empty() {
            blank = blank.or(Some(at));
            continue;
        }
        if let Some(blank) = blank {
            bail!("{}: a blank line between the rows", found.file.place(blank));
        }
        if let Some(cut) = found.cut {
            bail!("{}: fewer fields than the header's {width}", found.file.place(cut));
        }
        let cells: Vec<&str> = line.split('\t').collect();
        if cells.len() > width || (bare.is_some() && cells.len() < width && at == 1) {
            bail!(
                "{}: {} field(s), but {} has {width}",
                found.file.place(at),
                cells.len(),
                if bare.is_some() { "a row without a header" } else { "the header" }
            );
        }
        if cells.len() < width {
            match archive.has_broken_rows {
                true => found.broken.push(at),
                false => found.cut = Some(at),
            }
        }
        if bare.is_none() && cells.iter().map(|cell| cell.trim()).eq(header.iter().copied()) {
            bail!("{}: this line repeats the column names: remove it", found.file.place(at));
        }
        let value = |place: &Option<usize>| cells.get((*place)?).map(|cell| (*cell).to_owned());
        found.rows.push(RawRow { at, fields: places.iter().map(value).collect() });
    }
    Ok(found)
}

/// The task whose files have this header.
fn known(header: &[&str]) -> Option<&'static NamedTask> {
    let has = |task: &&NamedTask| {
        let columns = &task.archive.columns;
        let all = columns.text.iter().chain(&columns.pair).chain([&columns.label]);
        task.archive.bare.is_none() && all.clone().all(|name| header.contains(name))
    };
    let own = TASKS.iter().find(|task| task.archive.header == header);
    // One task's columns may be a subset of another's: the most columns decide.
    let texts =
        |task: &NamedTask| task.archive.columns.text.len() + task.archive.columns.pair.iter().len();
    own.or_else(|| TASKS.iter().rev().filter(has).max_by_key(|task| texts(task)))
}

pub fn read_pairs(path: &Path) -> Result<HashSet<[String; 2]>> {
    let name = path.display().to_string();
    let input = File::open(path).with_context(|| format!("cannot open {name}"))?;
    let mut lines = Lines::new(input, &name);
    let mut pairs = HashSet::new();
    while let Some(line) = lines.next()?.map(str::to_owned) {
        match line.split('\t').collect::<Vec<_>>()[..] {
            [one, other] => pairs.insert([one.trim().to_owned(), other.trim().to_owned()]),
            _ if line.trim().is_empty() => continue,
            _ => bail!("{}: two ids are needed, with a tab between them", lines.place()),
        };
    }
    Ok(pairs)
}

/// Quoted names, for a message.
pub fn list<S: AsRef<str>>(names: &[S]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("{:?}", name.as_ref())).collect();
    quoted.join(", ")
}
