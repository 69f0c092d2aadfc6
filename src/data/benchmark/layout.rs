//! Where the files of a named task are: the hub's parquet files, or those of the benchmark's own archive, in a folder
//! or on a hub.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::settings::benchmark::{NamedTask, TaskPart};
use crate::settings::benchmarks::TASKS;

/// File names by folder.
pub trait Tree {
    /// The files directly in `folder`, a path without leading or trailing slash; empty if there is no such folder.
    fn files(&self, folder: &str) -> Vec<String>;
}

/// A folder on this machine.
pub struct Local(pub PathBuf);

impl Tree for Local {
    fn files(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.join(folder)).into_iter().flatten().flatten();
        // A link may point to a file: the hub's cache consists of them.
        let names = entries.filter(|entry| entry.path().is_file());
        names.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

/// A hub's listing.
pub struct Listed<'a>(pub &'a BTreeSet<String>);

impl Tree for Listed<'_> {
    fn files(&self, folder: &str) -> Vec<String> {
        let inside = |path: &String| {
            let rest = match folder {
                "" => Some(path.as_str()),
                _ => path.strip_prefix(folder)?.strip_prefix('/'),
            };
            rest.filter(|rest| !rest.contains('/')).map(str::to_owned)
        };
        self.0.iter().filter_map(inside).collect()
    }
}

/// The files of a part, relative to the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// All shards, in order.
    Parquet(Vec<String>),
    /// The benchmark's own file.
    Own(String),
}

/// Finds a part; `None` if none of it is there.
///
/// # Errors
/// Some of its shards are missing.
pub fn find(tree: &dyn Tree, task: &NamedTask, part: &TaskPart) -> Result<Option<Found>> {
    if let Some(shards) = parquet(tree, task, part)? {
        return Ok(Some(Found::Parquet(shards)));
    }
    for folder in [task.archive.folder, task.name, ""] {
        let there = tree.files(folder);
        let file = part.files.iter().find(|file| there.iter().any(|name| name == *file));
        if let Some(file) = file {
            return Ok(Some(Found::Own(joined(folder, file))));
        }
    }
    Ok(None)
}

/// The parquet files of a part: `task/split-00000-of-00001.parquet`, the same in `data` or in the folder itself, or
/// `task/split/0000.parquet`.
///
/// # Errors
/// Some of its shards are missing.
pub fn parquet(tree: &dyn Tree, task: &NamedTask, part: &TaskPart) -> Result<Option<Vec<String>>> {
    for folder in [task.name, "data", ""] {
        let mut shards = Vec::new();
        let mut of = 0;
        for name in tree.files(folder) {
            let Some(stem) = name.strip_suffix(".parquet") else { continue };
            if stem == part.split {
                return Ok(Some(vec![joined(folder, &name)]));
            }
            let numbers = stem.strip_prefix(part.split).and_then(|rest| rest.strip_prefix('-'));
            if let Some((number, count)) = numbers.and_then(|rest| rest.split_once("-of-"))
                && let (Ok(number), Ok(count)) = (number.parse::<usize>(), count.parse::<usize>())
            {
                of = count;
                shards.push((number, name));
            }
        }
        if shards.is_empty() {
            continue;
        }
        shards.sort();
        if !shards.iter().map(|(number, _)| *number).eq(0..of) {
            let there: Vec<_> = shards.iter().map(|(_, name)| name.as_str()).collect();
            bail!(
                "{}: only {} of {of} files of the split {} are there ({}); all are needed",
                if folder.is_empty() { "." } else { folder },
                there.len(),
                part.split,
                there.join(", ")
            );
        }
        return Ok(Some(shards.iter().map(|(_, name)| joined(folder, name)).collect()));
    }
    let folder = joined(task.name, part.split);
    let mut files = tree.files(&folder);
    files.retain(|name| name.ends_with(".parquet"));
    files.sort();
    Ok((!files.is_empty()).then(|| files.iter().map(|name| joined(&folder, name)).collect()))
}

fn joined(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// What was searched for, for a message.
pub fn looked_for(task: &NamedTask, part: &TaskPart) -> String {
    format!(
        "{}/{}-00000-of-00001.parquet, {}/{}",
        task.name,
        part.split,
        task.archive.folder,
        part.files.join(" or ")
    )
}

/// The other tasks whose files are in their own folders.
pub fn others(tree: &dyn Tree, task: &NamedTask) -> Vec<&'static str> {
    let has = |other: &&NamedTask| {
        let mut parts = other.train.iter().chain(other.test);
        let folders = [other.name, other.archive.folder];
        let there: Vec<_> = folders.iter().flat_map(|folder| tree.files(folder)).collect();
        parts.any(|part| there.iter().any(|name| of_part(name, part)))
    };
    TASKS.iter().filter(|other| *other != task).filter(has).map(|other| other.title).collect()
}

fn of_part(name: &str, part: &TaskPart) -> bool {
    part.files.contains(&name) || (name.starts_with(part.split) && name.ends_with(".parquet"))
}

/// The other task that a folder is named after.
pub fn named_after(folder: &Path, task: &NamedTask) -> Option<&'static NamedTask> {
    let folder = folder.canonicalize().ok()?;
    let name = folder.file_name()?.to_str()?.to_owned();
    let is = |other: &&NamedTask| {
        name.eq_ignore_ascii_case(other.name) || name.eq_ignore_ascii_case(other.archive.folder)
    };
    TASKS.iter().filter(|other| *other != task).find(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[&str], task: &str, part: usize) -> Result<Option<Found>> {
        let files = files.iter().map(|name| name.to_string()).collect();
        let task = NamedTask::named(task).unwrap();
        find(&Listed(&files), task, task.train.iter().chain(task.dev).nth(part).unwrap())
    }

    #[test]
    fn the_hubs_layouts_and_the_archives_are_recognised() {
        let parquet = |names: &[&str]| {
            Some(Found::Parquet(names.iter().map(|name| name.to_string()).collect()))
        };
        let shards = [
            "cola/train-00001-of-00002.parquet",
            "cola/train-00000-of-00002.parquet",
            "sst2/train-00000-of-00001.parquet",
        ];
        assert_eq!(found(&shards, "cola", 0).unwrap(), parquet(&[shards[1], shards[0]]));
        assert_eq!(found(&shards, "cola", 1).unwrap(), None);
        for one in [
            "data/train-00000-of-00001.parquet",
            "train-00000-of-00001.parquet",
            "cola/train/0000.parquet",
            "train.parquet",
        ] {
            assert_eq!(found(&[one], "cola", 0).unwrap(), parquet(&[one]), "{one}");
        }
        let own = |name: &str| Some(Found::Own(name.to_owned()));
        for one in ["CoLA/train.tsv", "cola/train.tsv", "train.tsv"] {
            assert_eq!(found(&[one], "cola", 0).unwrap(), own(one));
        }
        let mrpc = "MRPC/msr_paraphrase_train.txt";
        assert_eq!(found(&[mrpc], "mrpc", 0).unwrap(), own(mrpc));
        let mnli = ["MNLI/dev_matched.tsv", "mnli/validation_mismatched-00000-of-00001.parquet"];
        assert_eq!(found(&mnli, "mnli", 1).unwrap(), own(mnli[0]));
        assert_eq!(found(&mnli, "mnli", 2).unwrap(), parquet(&[mnli[1]]));
        for none in ["MRPC/train.tsv", "cola/trained.tsv", "cola/training-00000-of-00001.parquet"] {
            assert_eq!(found(&[none], "cola", 0).unwrap(), None, "{none}");
        }
    }

    #[test]
    fn a_missing_shard_is_an_error() {
        let error = found(&["cola/train-00001-of-00002.parquet"], "cola", 0).unwrap_err();
        assert!(error.to_string().contains("1 of 2 files"), "{error}");
    }

    #[test]
    fn other_tasks_are_known_by_their_folders() {
        let files = ["MRPC/train.tsv", "sst2/test-00000-of-00001.parquet", "x/train.tsv"];
        let files = files.iter().map(|name| name.to_string()).collect();
        let cola = NamedTask::named("cola").unwrap();
        assert_eq!(others(&Listed(&files), cola), ["SST-2", "MRPC"]);
    }
}
