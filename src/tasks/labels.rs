//! Labels: words or numbers to class ids, or numbers to regression targets.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Result, bail};

use super::spelling::Key;
use super::words::{MANY, list, rows};
use crate::batch::Labels;
use crate::data::{Row, Table, place};
use crate::settings::benchmark::{Answers, NamedTask};

/// Regression targets above this have squares and gradients that f32 cannot hold.
const LARGEST_VALUE: f32 = 1e15;

/// The classes of a task: id to name and back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassNames {
    /// As they were written.
    names: Vec<String>,
    ids: HashMap<String, u32>,
    /// By what the names mean, as far as that is one name's alone.
    by_key: HashMap<Key, Option<u32>>,
}

impl ClassNames {
    /// The distinct labels of a table: in numerical order where all are numbers, else in the order of their
    /// characters. Spaces around a label are not part of it.
    ///
    /// # Errors
    /// Fewer than two classes, an empty label, one label in several spellings, or what can only be scores.
    pub fn from_table(table: &Table) -> Result<Self> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for row in &table.rows {
            *counts.entry(label_of(&table.name, row)?).or_default() += 1;
        }
        let mut keyed: Vec<(Key, &str)> = counts.keys().map(|n| (Key::of(n), *n)).collect();
        one_spelling_each(&table.name, &keyed, &counts)?;
        let number = |key: &Key| match key {
            Key::Number(number) => Some(number.clone()),
            _ => None,
        };
        if keyed.iter().all(|(key, _)| number(key).is_some()) {
            keyed.sort_by_key(|(key, _)| number(key));
            let whole = |(key, _): &(Key, &str)| number(key).is_some_and(|n| n.is_integer());
            // Scores read as classes by mistake would train a head with a class for each value.
            if keyed.len() > MANY && !keyed.iter().all(whole) {
                bail!(
                    "{}: {} different labels, all numbers with fractions; use --task regression",
                    table.name,
                    keyed.len()
                );
            }
        }
        if let [(_, only)] = keyed.as_slice() {
            bail!(
                "{}: every row has the label {only:?}; classification needs at least two classes",
                table.name
            );
        }
        Self::from_names(keyed.into_iter().map(|(_, name)| name.to_owned()).collect())
    }

    /// The names by id, as a saved task or the `id2label` of a config holds them.
    ///
    /// # Errors
    /// Fewer than two names, or two that are equal.
    pub fn from_names(names: Vec<String>) -> Result<Self> {
        if names.len() < 2 {
            bail!("{} class name(s); classification needs at least two", names.len());
        }
        let (mut ids, mut by_key) = (HashMap::new(), HashMap::new());
        for (id, name) in names.iter().enumerate() {
            let id = id as u32;
            if ids.insert(name.clone(), id).is_some() {
                bail!("two classes are called {name:?}");
            }
            by_key.entry(Key::of(name)).and_modify(|id| *id = None).or_insert(Some(id));
        }
        Ok(Self { names, ids, by_key })
    }

    /// Names by id, at least two.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Id of a label as written in a file: its name, or another spelling of it ("1" for the class "1.0"). A number is
    /// never taken for a place in the list.
    pub fn id(&self, label: &str) -> Option<u32> {
        let label = label.trim();
        match self.ids.get(label) {
            Some(&id) => Some(id),
            None => self.by_key.get(&Key::of(label)).copied().flatten(),
        }
    }
}

/// Refuses labels that are one and are written in several ways.
fn one_spelling_each(
    file: &str,
    keyed: &[(Key, &str)],
    counts: &BTreeMap<&str, usize>,
) -> Result<()> {
    let mut spellings: HashMap<&Key, Vec<&str>> = HashMap::new();
    for (key, name) in keyed {
        spellings.entry(key).or_default().push(name);
    }
    let mut several: Vec<_> = spellings.into_values().filter(|s| s.len() > 1).collect();
    several.sort_unstable();
    let Some(first) = several.first() else {
        return Ok(());
    };
    // With escapes, where what is shown would be the same.
    let shown: Vec<String> = first
        .iter()
        .map(|&name| format!("\"{}\" ({})", name.escape_default(), rows(counts[name])))
        .collect();
    let more = match several.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more such labels)"),
    };
    bail!(
        "{file}: one label is written in several ways: {}{more}; write it in one",
        shown.join(", ")
    )
}

/// What the labels of a task are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Prediction.
    None,
    Classes(ClassNames),
    /// Regression.
    Values,
}

impl Targets {
    /// The classes, where that is what they are.
    pub fn classes(&self) -> Option<&ClassNames> {
        match self {
            Targets::Classes(classes) => Some(classes),
            Targets::None | Targets::Values => None,
        }
    }

    /// Those of a named task, whose classes have their order.
    ///
    /// # Errors
    /// None of the tasks that there are gives one.
    pub fn of_named(task: &NamedTask) -> Result<Self> {
        match task.answers {
            Answers::Classes(classes) => {
                let names = classes.iter().map(|class| class.name.to_owned()).collect();
                Ok(Targets::Classes(ClassNames::from_names(names)?))
            }
            Answers::Scores(..) => Ok(Targets::Values),
        }
    }

    /// The targets of every row of a table, `[rows]`.
    ///
    /// # Errors
    /// With file and line: a label that is not one of the classes, that is not a finite number, or that is empty.
    pub fn read(&self, table: &Table) -> Result<Labels> {
        let Table { name, rows, .. } = table;
        match self {
            Targets::None => Ok(Labels::None),
            Targets::Classes(classes) => {
                let id = |row| {
                    let label = label_of(name, row)?;
                    classes.id(label).ok_or_else(|| unknown(classes, table, row, label))
                };
                Ok(Labels::Classes(rows.iter().map(id).collect::<Result<_>>()?))
            }
            Targets::Values => {
                let value = |row| value_of(name, row);
                Ok(Labels::Values(rows.iter().map(value).collect::<Result<_>>()?))
            }
        }
    }
}

/// A label that is none of the task's, with what may be meant.
fn unknown(classes: &ClassNames, table: &Table, row: &Row, label: &str) -> anyhow::Error {
    let labels = table.rows.iter().filter_map(|row| row.label.as_deref());
    let count = labels.filter(|label| classes.id(label).is_none()).count();
    let many = match count {
        0 | 1 => String::new(),
        count => format!(" ({count} of {} rows have unknown labels)", table.rows.len()),
    };
    let is_number = |name: &str| matches!(Key::of(name), Key::Number(_));
    let hint = if is_number(label) && !classes.names.iter().any(|name| is_number(name)) {
        "; a number is not taken for a place in this list: write the label itself"
    } else {
        ""
    };
    let near = classes.names.iter().find(|name| name.to_lowercase() == label.to_lowercase());
    let near = near.map_or(String::new(), |name| format!(" (did you mean {name:?}?)"));
    anyhow::anyhow!(
        "{}: the label {label:?} is unknown{near}{many}; the task's labels are {}{hint}",
        place(&table.name, row.line),
        list(&classes.names)
    )
}

fn label_of<'a>(name: &str, row: &'a Row) -> Result<&'a str> {
    match row.label.as_deref().map(str::trim) {
        Some(label) if !label.is_empty() => Ok(label),
        _ => bail!("{}: the label is empty", place(name, row.line)),
    }
}

fn value_of(name: &str, row: &Row) -> Result<f32> {
    let label = label_of(name, row)?;
    let here = place(name, row.line);
    match label.parse::<f32>() {
        Ok(value) if value.abs() <= LARGEST_VALUE => Ok(value),
        Ok(value) if value.is_nan() => bail!(
            "{here}: the label {label:?} is not a finite number; remove the row or correct it"
        ),
        Ok(_) => bail!(
            "{here}: the label {label:?} is not a finite number that training can square; divide all labels by the \
             same number, or correct the row"
        ),
        Err(_) if label.replacen(',', ".", 1).parse::<f32>().is_ok() => {
            bail!("{here}: the label {label:?} is not a number; write a point for the comma")
        }
        Err(_) => bail!(
            "{here}: the label {label:?} is not a number; for labels that are words use \
            --task classification"
        ),
    }
}

#[cfg(test)]
#[path = "labels_tests.rs"]
pub(crate) mod tests;
