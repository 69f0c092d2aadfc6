//! The names of classes and labels, and their ids: the indices of the outputs that stand for them.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Result, bail};

use super::spelling::Key;
use crate::data::{Row, Table, place};
use crate::words::{MANY, count, list};

/// The classes of a task: id to name and back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassNames {
    /// As written.
    names: Vec<String>,
    ids: HashMap<String, u32>,
    /// By what the names mean, unless several share a meaning.
    by_key: HashMap<Key, Option<u32>>,
}

impl ClassNames {
    /// The distinct labels of a table, one per row.
    ///
    /// # Errors
    /// Fewer than two classes, an empty label, one label in several spellings, or labels that can only be scores.
    pub fn from_table(table: &Table) -> Result<Self> {
        let labels = table.rows.iter().map(|row| label_of(&table.name, row));
        let labels: Vec<&str> = labels.collect::<Result<_>>()?;
        Self::distinct(&table.name, labels.into_iter(), 2)
    }

    /// The distinct values of `labels`: in numerical order if all are numbers, otherwise in character order.
    /// Surrounding spaces are not part of a label.
    ///
    /// # Errors
    /// Fewer than `least` labels, one label in several spellings, or labels that can only be scores.
    pub fn distinct<'a>(
        file: &str,
        labels: impl Iterator<Item = &'a str>,
        least: usize,
    ) -> Result<Self> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for label in labels {
            *counts.entry(label).or_default() += 1;
        }
        one_spelling_each(file, ["label", "row"], &counts)?;
        let mut keyed: Vec<(Key, &str)> = counts.keys().map(|n| (Key::of(n), *n)).collect();
        let number = |key: &Key| match key {
            Key::Number(number) => Some(number.clone()),
            _ => None,
        };
        if keyed.iter().all(|(key, _)| number(key).is_some()) {
            keyed.sort_by_key(|(key, _)| number(key));
            let whole = |(key, _): &(Key, &str)| number(key).is_some_and(|n| n.is_integer());
            // Scores read as classes by mistake would train a head with one class per value.
            if keyed.len() > MANY && !keyed.iter().all(whole) {
                bail!(
                    "{file}: {} different labels, all fractional numbers; use --task regression",
                    keyed.len()
                );
            }
        }
        match keyed.as_slice() {
            [] => bail!("{file}: no row has a label"),
            [(_, only)] if least > 1 => bail!(
                "{file}: every row has the label {only:?}; classification needs at least two classes"
            ),
            _ => {}
        }
        Self::from_names(keyed.into_iter().map(|(_, name)| name.to_owned()).collect(), least)
    }

    /// The names by id, as stored in a saved task or in the `id2label` of a config.
    ///
    /// # Errors
    /// Fewer than `least` names, or two that are equal.
    pub fn from_names(names: Vec<String>, least: usize) -> Result<Self> {
        if names.len() < least {
            bail!("{}; at least {least} are needed", count(names.len(), "class name"));
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

    /// Names by id.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Id of a label as written in a file: its name, or another spelling of it ("1" for the class "1.0"). A number is
    /// never taken for an index in the list.
    pub fn id(&self, label: &str) -> Option<u32> {
        let label = label.trim();
        match self.ids.get(label) {
            Some(&id) => Some(id),
            None => self.by_key.get(&Key::of(label)).copied().flatten(),
        }
    }
}

/// Refuses one name that is spelled in several ways. These are names of `what`, counted in `unit`s.
pub fn one_spelling_each(
    file: &str,
    [what, unit]: [&str; 2],
    counts: &BTreeMap<&str, usize>,
) -> Result<()> {
    let mut spellings: HashMap<Key, Vec<&str>> = HashMap::new();
    for name in counts.keys() {
        spellings.entry(Key::of(name)).or_default().push(name);
    }
    let mut several: Vec<_> = spellings.into_values().filter(|s| s.len() > 1).collect();
    several.sort_unstable();
    let Some(first) = several.first() else {
        return Ok(());
    };
    // With escapes, if the displayed text would be the same.
    let shown: Vec<String> = first
        .iter()
        .map(|&name| format!("\"{}\" ({})", name.escape_default(), count(counts[name], unit)))
        .collect();
    let more = match several.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more such {what}s)"),
    };
    bail!(
        "{file}: one {what} is spelled in several ways: {}{more}; use one spelling",
        shown.join(", ")
    )
}

/// A label that the task does not have, with a suggestion.
pub fn unknown(classes: &ClassNames, table: &Table, row: &Row, label: &str) -> anyhow::Error {
    let labels = table.rows.iter().filter_map(|row| row.label.as_deref());
    let unknown = labels.filter(|label| classes.id(label).is_none()).count();
    let many = match unknown {
        0 | 1 => String::new(),
        many => format!(" ({many} of {} rows have unknown labels)", table.rows.len()),
    };
    unknown_at(classes, &place(&table.name, row.line), label, &many)
}

/// The same for a label that stands `here`; `many` says how many more there are.
pub fn unknown_at(classes: &ClassNames, here: &str, label: &str, many: &str) -> anyhow::Error {
    let is_number = |name: &str| matches!(Key::of(name), Key::Number(_));
    let hint = if is_number(label) && !classes.names.iter().any(|name| is_number(name)) {
        "; a number is not taken as a position in this list: write the label itself"
    } else {
        ""
    };
    let near = classes.names.iter().find(|name| name.to_lowercase() == label.to_lowercase());
    let near = near.map_or(String::new(), |name| format!(" (did you mean {name:?}?)"));
    anyhow::anyhow!(
        "{here}: the label {label:?} is unknown{near}{many}; the task's labels are {}{hint}",
        list(&classes.names)
    )
}

/// # Errors
/// The label is empty.
pub fn label_of<'a>(name: &str, row: &'a Row) -> Result<&'a str> {
    match row.label.as_deref().map(str::trim) {
        Some(label) if !label.is_empty() => Ok(label),
        _ => bail!("{}: the label is empty", place(name, row.line)),
    }
}

#[cfg(test)]
#[path = "labels_tests.rs"]
pub(crate) mod tests;
