//! The runs of a sweep as recorded in its folder, so that it can continue without its grid, or be checked against it.
//!
//! Settings shared by all runs are at the top, those of a single run in its `[[run]]`, under option names.

use super::config_file::FileOptions;
use super::run_names;
use super::toml_options::{LineNumbers, Mistake, Options, parse_toml, read_file};
use super::train_args::TrainArgs;
use crate::error::UsageError;
use crate::formats::fingerprint::Fingerprint;
use crate::settings::sweep_run::SweepRun;
use crate::words::list;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

/// Its name in the sweep's folder.
pub const RUNS_FILE: &str = "sweep.toml";

const RUN: &str = "run";
const NAME: &str = "name";
const VARIANT: &str = "variant";
const AXES: &str = "axes";

/// The reader knows the folder, which may have moved.
const REFUSED: [(&str, &str); 2] =
    [("output", "`output` cannot be set here"), ("config", "`config` cannot be set here")];

/// The text of [`RUNS_FILE`].
///
/// # Errors
/// Settings that cannot be serialised.
pub fn to_text(runs: &[SweepRun]) -> Result<String> {
    let settings = |run: &SweepRun| -> Result<Table> {
        let mut table: Table = run.config.to_toml()?.parse()?;
        table.remove("output");
        Ok(table)
    };
    let mut tables = runs.iter().map(settings).collect::<Result<Vec<_>>>()?;
    let mut file = tables.first().cloned().unwrap_or_default();
    file.retain(|key, value| tables.iter().all(|table| table.get(key) == Some(value)));
    for (table, run) in tables.iter_mut().zip(runs) {
        table.retain(|key, _| !file.contains_key(key));
        table.insert(NAME.to_owned(), run.name.clone().into());
        table.insert(VARIANT.to_owned(), run.variant.clone().into());
        let axes = run.axes.iter().map(|(option, value)| (option.clone(), value.clone().into()));
        table.insert(AXES.to_owned(), Value::Table(axes.collect()));
    }
    let tables = tables.into_iter().map(Value::Table).collect();
    file.insert(RUN.to_owned(), Value::Array(tables));
    Ok(toml::to_string(&file)?)
}

/// The runs that a sweep has in its folder, with changes from `flags` applied to all; `None` if there is no list.
///
/// # Errors
/// A broken list, with its line; a flag for something in which the runs differ.
pub fn recorded(output: &Path, flags: &TrainArgs) -> Result<Option<Vec<SweepRun>>, UsageError> {
    let path = runs_file(output);
    // What cannot be looked at may be there: reading it then says why it cannot be.
    if matches!(path.try_exists(), Ok(false)) {
        return Ok(None);
    }
    read_file("--resume", &path, |text| {
        parse_toml(text, |table, lines| read(table, lines, output, flags))
    })
    .map(Some)
}

fn read(
    table: &DeTable<'_>,
    lines: &LineNumbers<'_>,
    output: &Path,
    flags: &TrainArgs,
) -> Result<Vec<SweepRun>, Mistake> {
    let options = Options::without(&REFUSED);
    let shared = FileOptions::of_table(&options, table, lines, &[RUN])?.args;
    let runs = table.iter().find(|(key, _)| &**key.get_ref() == RUN);
    let Some(DeValue::Array(runs)) = runs.map(|(_, value)| value.get_ref()) else {
        return Err((1, "it should list runs in sections `[[run]]`, but has none".to_owned()));
    };
    let mut found: Vec<SweepRun> = Vec::new();
    let mut names = BTreeSet::new();
    for section in runs.iter() {
        let line = lines.of(section.span().start);
        let DeValue::Table(section) = section.get_ref() else {
            return Err((line, "this should be a section `[[run]]`".to_owned()));
        };
        let name = text(section, NAME).ok_or((line, "this run has no `name`".to_owned()))?;
        // A name from a file is checked like one from the command line before it becomes a path.
        run_names::in_a_sweep(&name).map_err(|problem| (line, problem))?;
        if !names.insert(name.to_ascii_lowercase()) {
            return Err((line, format!("two runs are called `{name}`")));
        }
        let variant =
            text(section, VARIANT).ok_or((line, format!("the run `{name}` has no `variant`")))?;
        let axes = axes(section).ok_or((line, format!("the run `{name}` has no `axes`")))?;
        let own = FileOptions::of_table(&options, section, lines, &[NAME, VARIANT, AXES])?;
        if let Some(option) = own.options().find(|(_, alone)| flags.covers(alone)) {
            let problem = format!(
                "the runs differ in `{}`, so the command line cannot set it for all: leave --{0} out",
                option.0
            );
            return Err((line, problem));
        }
        let here = TrainArgs { output: Some(output.join(&name)), ..flags.clone() };
        let config = here.over(own.args.over(shared.clone())).complete();
        let config = config.map_err(|invalid| (line, format!("the run `{name}`: {invalid}")))?;
        found.push(SweepRun { name, variant, axes, config });
    }
    Ok(found)
}

fn find<'a>(section: &'a DeTable<'a>, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
    section.iter().find(|(key, _)| &**key.get_ref() == name).map(|(_, value)| value)
}

fn text(section: &DeTable<'_>, name: &str) -> Option<String> {
    match find(section, name)?.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        _ => None,
    }
}

fn axes(section: &DeTable<'_>) -> Option<BTreeMap<String, String>> {
    let DeValue::Table(axes) = find(section, AXES)?.get_ref() else {
        return None;
    };
    let value = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Some(text.to_string()),
        _ => None,
    };
    axes.iter().map(|(key, v)| Some((key.get_ref().to_string(), value(v.get_ref())?))).collect()
}

/// How a sweep to be continued differs from the one in its folder; `None` if they are the same.
///
/// # Errors
/// Settings that cannot be serialised.
pub fn difference(recorded: &[SweepRun], asked: &[SweepRun]) -> Result<Option<String>> {
    let names =
        |runs: &[SweepRun]| -> Vec<String> { runs.iter().map(|r| r.name.clone()).collect() };
    let (had, has) = (names(recorded), names(asked));
    let beyond = |these: &[String], those: &[String]| -> Vec<String> {
        let those: BTreeSet<&String> = those.iter().collect();
        these.iter().filter(|name| !those.contains(name)).cloned().collect()
    };
    let (gone, new) = (beyond(&had, &has), beyond(&has, &had));
    if !gone.is_empty() {
        return Ok(Some(format!("it has runs that this one does not: {}", list(&gone))));
    }
    if !new.is_empty() {
        return Ok(Some(format!("it lacks the runs {}", list(&new))));
    }
    for run in asked {
        let Some(before) = recorded.iter().find(|other| other.name == run.name) else { continue };
        let was = Fingerprint::of(&before.config)?;
        if let Some(differences) = Fingerprint::of(&run.config)?.differences(&was) {
            return Ok(Some(format!("in the run `{}` {differences}", run.name)));
        }
        let row = |run: &SweepRun| (run.variant.clone(), run.axes.clone());
        if row(before) != row(run) {
            return Ok(Some(format!("it has the run `{}` as another variant or axis", run.name)));
        }
    }
    if had != has {
        return Ok(Some("its runs are in another order".to_owned()));
    }
    Ok(None)
}

/// The file where a sweep keeps the list of its runs.
pub fn runs_file(output: &Path) -> PathBuf {
    output.join(RUNS_FILE)
}

#[cfg(test)]
#[path = "sweep_file_tests.rs"]
mod tests;
