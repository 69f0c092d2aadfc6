//! The rows of a named task for a command: from a folder, or from the hub via the cache, and what to tell the user.

use super::{fetching, say};
use crate::data::Table;
use crate::data::benchmark::layout::{self, Listed, Local};
use crate::settings::benchmark::{NamedTask, TaskPart};
use crate::settings::choice::Unlabelled;
use crate::settings::train::{Length, TrainConfig};
use crate::tasks::named::{PartRows, ReadFor, read};
use crate::words::count;
use anyhow::{Result, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Rows by name of their part.
pub type PartTables = Vec<(&'static str, Table)>;

/// Says which settings a named task's recipe decides, and which the user overrides.
pub fn say_recipe(config: &TrainConfig, quiet: bool) {
    let Some(task) = config.task.named() else { return };
    let length = match config.length {
        Length::Epochs(epochs) => count(epochs as usize, "epoch"),
        Length::Steps(steps) => count(steps as usize, "step"),
    };
    let max_length = config.max_length.unwrap_or(task.recipe.max_length);
    say(
        quiet,
        format_args!(
            "{} of {}: {length} at --lr {}, --batch-size {}, --schedule {}, --max-length {max_length}, best by {}; these \
             defaults are {}",
            task.title,
            task.suite.title(),
            config.lr,
            config.batch_size,
            config.schedule,
            config.metric(),
            task.recipe.source
        ),
    );
}

/// The rows to train on, and those to evaluate on if the user names no others.
///
/// # Errors
/// Files that are missing, belong to another task, or have a row that does not belong to this one.
pub fn training_rows(
    config: &TrainConfig,
    task: &'static NamedTask,
    quiet: bool,
) -> Result<(Table, PartTables)> {
    let dev: &[TaskPart] = if config.dev.is_some() { &[] } else { task.dev };
    let parts: Vec<&TaskPart> = task.train.iter().chain(dev).collect();
    let folder = folder(task, config.data.as_deref(), &parts, quiet)?;
    let drop = config.unlabelled == Unlabelled::Drop;
    let mut tables = Vec::new();
    for (i, part) in parts.into_iter().enumerate() {
        let purpose = if i == 0 { ReadFor::Train } else { ReadFor::Dev };
        let rows = needed(&folder, task, part, purpose, drop, quiet)?;
        tables.push((part.name, rows.table));
    }
    let (_, train) = tables.remove(0);
    Ok((train, tables))
}

/// The rows to evaluate on.
///
/// # Errors
/// As [`training_rows`].
pub fn dev_rows(
    data: Option<&Path>,
    task: &'static NamedTask,
    unlabelled: Unlabelled,
    quiet: bool,
) -> Result<PartTables> {
    let folder = folder(task, data, &task.dev.iter().collect::<Vec<_>>(), quiet)?;
    let drop = unlabelled == Unlabelled::Drop;
    let rows = |part: &'static TaskPart| {
        Ok((part.name, needed(&folder, task, part, ReadFor::Dev, drop, quiet)?.table))
    };
    task.dev.iter().map(rows).collect()
}

/// The test rows of a task, one part after another; a task that is answered `besides` has none if its files are
/// missing.
///
/// # Errors
/// As [`training_rows`].
pub fn test_rows(
    data: Option<&Path>,
    task: &'static NamedTask,
    besides: bool,
    quiet: bool,
) -> Result<Vec<(&'static TaskPart, PartRows)>> {
    let folder = folder(task, data, &task.test.iter().collect::<Vec<_>>(), quiet)?;
    let mut parts = Vec::new();
    for part in task.test {
        if besides {
            let Some(rows) = read(&folder, task, part, ReadFor::Test, false)? else { continue };
            say_rows(&rows, quiet);
            parts.push((part, rows));
        } else {
            parts.push((part, needed(&folder, task, part, ReadFor::Test, false, quiet)?));
        }
    }
    Ok(parts)
}

fn needed(
    folder: &Path,
    task: &'static NamedTask,
    part: &TaskPart,
    purpose: ReadFor,
    drop: bool,
    quiet: bool,
) -> Result<PartRows> {
    let Some(rows) = read(folder, task, part, purpose, drop)? else {
        let others = layout::others(&Local(folder.to_path_buf()), task);
        let others = match others.as_slice() {
            [] => String::new(),
            others => format!("; there are files of {}", others.join(", ")),
        };
        let instead = match purpose {
            ReadFor::Dev => "; or say what to evaluate on with --dev FILE or --dev-fraction",
            ReadFor::Train | ReadFor::Test => "",
        };
        bail!(
            "{}: found no {} rows of {}; looked for {}{others}{instead}",
            folder.display(),
            part.split,
            task.title,
            layout::looked_for(task, part)
        );
    };
    say_rows(&rows, quiet);
    Ok(rows)
}

fn say_rows(rows: &PartRows, quiet: bool) {
    let PartRows { table, notes, .. } = rows;
    say(
        quiet,
        format_args!("{}: {}, {}", table.name, count(table.rows.len(), "row"), table.told()),
    );
    notes.iter().for_each(|note| say(quiet, note));
}

/// The named folder, or the cache's, with all of the parts that the hub has.
fn folder(
    task: &NamedTask,
    data: Option<&Path>,
    parts: &[&TaskPart],
    quiet: bool,
) -> Result<PathBuf> {
    if let Some(folder) = data {
        if !folder.is_dir() {
            bail!(
                "--data {}: there is no such folder; name the one with {}'s files, or leave --data out to fetch them",
                folder.display(),
                task.title
            );
        }
        return Ok(folder.to_path_buf());
    }
    fetching::dataset_folder(task.suite.repository(), quiet, &|files: &BTreeSet<String>| {
        let mut wanted = Vec::new();
        for part in parts {
            match layout::parquet(&Listed(files), task, part)? {
                Some(found) => wanted.extend(found),
                None => bail!(
                    "no parquet files of the split {} of {}; give a folder with --data",
                    part.split,
                    task.name
                ),
            }
        }
        Ok(wanted)
    })
}
