//! `--grid FILE`: the runs of a sweep.
//!
//! Options at the top apply to all runs. `[grid]` has axes, which are options with a list of values; each `[[variant]]`
//! is a row of the table with its own options and axes. Every combination is a run.

use super::config_file::FileOptions;
use super::run_names;
use super::toml_options::{
    Entry, GivenValue, LineNumbers, Mistake, Options, parse_toml, read_file,
};
use super::train_args::TrainArgs;
use crate::error::{UsageError, suggestion};
use crate::settings::choice::Choice as _;
use crate::settings::method::Method;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const GRID: &str = "grid";
const VARIANT: &str = "variant";
const NAME: &str = "name";
const METHOD: &str = "method";

/// Options that a grid cannot have.
const REFUSED: [(&str, &str); 5] = [
    ("config", "a grid cannot name another file: give --config on the command line"),
    ("output", "the folder is not part of the grid: name it with --output on the command line"),
    ("resume", "a grid cannot set --resume: give it on the command line"),
    ("quiet", "a grid cannot set --quiet: give it on the command line"),
    (
        "predict-test",
        "a grid cannot set `predict-test`: give it to `bitfit predict` with the run to submit",
    ),
];

/// What all runs share: they are in one process, and their results are shown together.
const SHARED: [&str; 6] = ["model", "task", "metric", "device", "threads", "memory"];

/// An option and its values.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GridAxis {
    pub(super) option: String,
    pub(super) line: usize,
    /// At least one, all different.
    pub(super) values: Vec<AxisValue>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct AxisValue {
    pub(super) given: GivenValue,
    pub(super) line: usize,
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Variant {
    pub(super) name: String,
    pub(super) line: usize,
    /// Its options; most have one value.
    pub(super) axes: Vec<GridAxis>,
}

/// A grid as written in its file.
#[derive(Debug)]
pub(super) struct Grid {
    /// Applies to all runs.
    pub(super) top: FileOptions,
    pub(super) axes: Vec<GridAxis>,
    pub(super) variants: Vec<Variant>,
}

impl GridAxis {
    /// A single value, implied by a name in this line.
    pub(super) fn of_method(method: Method, line: usize) -> Self {
        let args = TrainArgs { method: Some(method), ..TrainArgs::default() };
        let given = GivenValue { text: method.name().to_owned(), args };
        Self { option: METHOD.to_owned(), line, values: vec![AxisValue { given, line }] }
    }

    pub(super) fn is_method(&self) -> bool {
        self.option == METHOD
    }

    /// Whether `options` determine the option of this axis.
    pub(super) fn decided_by(&self, options: &TrainArgs) -> bool {
        self.values.first().is_some_and(|value| options.covers(&value.given.args))
    }

    /// The same for options that each have an axis.
    pub(super) fn decided_by_any(&self, axes: &[Self]) -> bool {
        let mut first = axes.iter().filter_map(|axis| axis.values.first());
        first.any(|value| self.decided_by(&value.given.args))
    }
}

impl Grid {
    /// Reads the file.
    ///
    /// # Errors
    /// A file that cannot be read; a mistake in it, with its line.
    pub(super) fn read(path: &Path) -> Result<Self, UsageError> {
        read_file("--grid", path, Self::parse)
    }

    pub(super) fn parse(text: &str) -> Result<Self, Mistake> {
        parse_toml(text, |table, lines| {
            let options = Options::without(&REFUSED);
            let top = FileOptions::of_table(&options, table, lines, &[GRID, VARIANT])?;
            let axes = match find(table, GRID) {
                Some(grid) => grid_axes(&options, grid, lines)?,
                None => Vec::new(),
            };
            if let Some(axis) = axes.iter().find(|axis| axis.decided_by(&top.args)) {
                let option = &axis.option;
                return Err((
                    axis.line,
                    format!(
                        "`{option}` has values here and is also set at the top of the file for all runs, which would \
                         have no effect: keep one"
                    ),
                ));
            }
            let variants = match find(table, VARIANT) {
                Some(variants) => list_of_variants(&options, variants, lines)?,
                None => Vec::new(),
            };
            Ok(Self { top, axes, variants })
        })
    }
}

fn find<'a>(table: &'a DeTable<'a>, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
    table.iter().find(|(key, _)| &**key.get_ref() == name).map(|(_, value)| value)
}

/// The axes of `[grid]`.
fn grid_axes(
    options: &Options,
    grid: &Spanned<DeValue<'_>>,
    lines: &LineNumbers<'_>,
) -> Result<Vec<GridAxis>, Mistake> {
    let DeValue::Table(table) = grid.get_ref() else {
        let line = lines.of(grid.span().start);
        return Err((line, "`grid` is a section: write `[grid]`, and one axis per line".into()));
    };
    let entries = own_entries(options, table, lines, &[])?;
    let axis = |entry: Entry<'_>| match entry.value.get_ref() {
        DeValue::Array(_) => axis(options, entry, lines),
        value => {
            let (option, kind) = (&entry.option, value.type_str());
            Err((
                entry.line,
                format!(
                    "`{option}` should be a list of values, not of type {kind}: what is the same for all runs goes at the \
                     top of the file"
                ),
            ))
        }
    };
    entries.into_iter().map(axis).collect()
}

/// All `[[variant]]` sections.
fn list_of_variants(
    options: &Options,
    variants: &Spanned<DeValue<'_>>,
    lines: &LineNumbers<'_>,
) -> Result<Vec<Variant>, Mistake> {
    let wrong =
        |line| Err((line, "each variant is a section: write `[[variant]]` above it".to_owned()));
    let DeValue::Array(list) = variants.get_ref() else {
        return wrong(lines.of(variants.span().start));
    };
    let mut found: Vec<Variant> = Vec::new();
    for section in list.iter() {
        let line = lines.of(section.span().start);
        let DeValue::Table(table) = section.get_ref() else {
            return wrong(line);
        };
        let variant = variant(options, table, line, lines)?;
        if let Some(other) = found.iter().find(|other| other.name == variant.name) {
            let (name, first) = (&variant.name, other.line);
            let problem = format!("there is already a variant called `{name}`, on line {first}");
            return Err((variant.line, problem));
        }
        found.push(variant);
    }
    Ok(found)
}

fn variant(
    options: &Options,
    table: &DeTable<'_>,
    line: usize,
    lines: &LineNumbers<'_>,
) -> Result<Variant, Mistake> {
    let Some(name) = find(table, NAME) else {
        let keys = table.iter().map(|(key, _)| &**key.get_ref());
        let near = keys.filter(|key| !suggestion(key, [NAME]).is_empty()).min();
        let near = near.map_or(String::new(), |key| format!(" (is `{key}` meant for it?)"));
        return Err((line, format!("this variant has no `name`{near}")));
    };
    let line = lines.of(name.span().start);
    let DeValue::String(name) = name.get_ref() else {
        return Err((line, "`name` is a text in quotes".to_owned()));
    };
    run_names::of_plain_letters(name).map_err(|problem| (line, problem))?;
    let mut axes = Vec::new();
    for entry in own_entries(options, table, lines, &[NAME])? {
        axes.push(axis(options, entry, lines)?);
    }
    // The name of a method means that method, and cannot mean another.
    if let Ok(method) = Method::from_name(name) {
        let meant = GridAxis::of_method(method, line);
        match axes.iter().find(|axis| axis.is_method()) {
            None => axes.insert(0, meant),
            Some(axis)
                if axis.values.iter().all(|v| v.given.args == meant.values[0].given.args) => {}
            Some(axis) => {
                let problem = format!(
                    "this variant has the name of the method `{name}`, but `method` names another"
                );
                return Err((axis.line, problem));
            }
        }
    }
    Ok(Variant { name: name.to_string(), line, axes })
}

/// The options of a section for only some runs.
fn own_entries<'a>(
    options: &Options,
    table: &'a DeTable<'a>,
    lines: &LineNumbers<'_>,
    others: &[&str],
) -> Result<Vec<Entry<'a>>, Mistake> {
    let entries = options.entries(table, lines, others)?;
    match entries.iter().find(|entry| SHARED.contains(&entry.option.as_str())) {
        None => Ok(entries),
        Some(Entry { option, line, .. }) => Err((
            *line,
            format!("`{option}` must be the same for all runs: give it at the top of the file"),
        )),
    }
}

/// The values of an option: those of a list, or the only one.
fn axis(options: &Options, entry: Entry<'_>, lines: &LineNumbers<'_>) -> Result<GridAxis, Mistake> {
    let Entry { option, line, value } = entry;
    let listed: Vec<&Spanned<DeValue<'_>>> = match value.get_ref() {
        DeValue::Array(list) => list.iter().collect(),
        _ => vec![value],
    };
    if listed.is_empty() {
        return Err((line, format!("`{option}` has no value: an empty list gives no runs")));
    }
    let mut values: Vec<AxisValue> = Vec::new();
    for value in listed {
        let line = lines.of(value.span().start);
        let given = options.given(&option, value.get_ref()).map_err(|why| (line, why))?;
        if values.iter().any(|other| other.given.args == given.args) {
            let text = given.text;
            return Err((line, format!("`{option}` has {text} twice: remove one")));
        }
        values.push(AxisValue { given, line });
    }
    Ok(GridAxis { option, line, values })
}

#[cfg(test)]
#[path = "grid_tests.rs"]
mod tests;
