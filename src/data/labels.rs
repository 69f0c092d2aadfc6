//! Labels: words or integers to class ids, or numbers to regression targets.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Result, bail};

use super::formats::Row;
use super::lines::place;
use super::table::Table;
use crate::batch::Labels;

/// The classes of a task: id to name and back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassNames {
    names: Vec<String>,
    ids: HashMap<String, u32>,
}

impl ClassNames {
    /// The distinct labels of a table: in numerical order where all are integers, else in the order of their
    /// characters. Spaces around a label are not part of it.
    ///
    /// # Errors
    /// Fewer than two classes, or an empty label.
    pub fn from_table(table: &Table) -> Result<Self> {
        let mut distinct = BTreeSet::new();
        for row in &table.rows {
            distinct.insert(label_of(&table.name, row)?);
        }
        let mut names: Vec<String> = distinct.into_iter().map(str::to_owned).collect();
        let numbers: Option<Vec<i64>> = names.iter().map(|n| n.parse().ok()).collect();
        if let Some(mut numbers) = numbers {
            numbers.sort_unstable();
            // "1" and "01" are one class.
            numbers.dedup();
            names = numbers.iter().map(i64::to_string).collect();
        }
        if let [only] = names.as_slice() {
            bail!(
                "{}: every row has the label {only:?}; classification needs at least two classes",
                table.name
            );
        }
        Self::from_names(names)
    }

    /// The names by id, as a saved task or the `id2label` of a config holds them.
    ///
    /// # Errors
    /// Fewer than two names, or two that are equal.
    pub fn from_names(names: Vec<String>) -> Result<Self> {
        if names.len() < 2 {
            bail!(
                "{} class name(s); classification needs at least two",
                names.len()
            );
        }
        let mut ids = HashMap::new();
        for (id, name) in names.iter().enumerate() {
            if ids.insert(name.clone(), id as u32).is_some() {
                bail!("two classes are called {name:?}");
            }
        }
        Ok(Self { names, ids })
    }

    /// Names by id, at least two.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Id of a label as written in a file: its name, or, where the names are words (`NEGATIVE`, `LABEL_0`), also
    /// its number. Another spelling of an integer name ("01") is the same class.
    pub fn id(&self, label: &str) -> Option<u32> {
        let label = label.trim();
        if let Some(&id) = self.ids.get(label) {
            return Some(id);
        }
        let number: i64 = label.parse().ok()?;
        if let Some(&id) = self.ids.get(&number.to_string()) {
            return Some(id);
        }
        let words = self.names.iter().all(|name| name.parse::<i64>().is_err());
        let id = u32::try_from(number).ok()?;
        (words && (id as usize) < self.names.len()).then_some(id)
    }

    /// The names for a message, shortened where there are many.
    fn list(&self) -> String {
        const SHOWN: usize = 20;
        let shown = self
            .names
            .iter()
            .take(SHOWN)
            .map(|n| format!("{n:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        match self.names.len().checked_sub(SHOWN) {
            Some(more) if more > 0 => format!("{shown} and {more} more"),
            _ => shown,
        }
    }
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
    /// The targets of every row of a table, `[rows]`.
    ///
    /// # Errors
    /// With file and line: a label that is not one of the classes, that is not a finite number, or that is empty.
    pub fn read(&self, table: &Table) -> Result<Labels> {
        let Table { name, rows } = table;
        match self {
            Targets::None => Ok(Labels::None),
            Targets::Classes(classes) => {
                let id = |row| {
                    let label = label_of(name, row)?;
                    match classes.id(label) {
                        Some(id) => Ok(id),
                        None => bail!(
                            "{}: the label {label:?} is unknown; the task's labels are {}",
                            place(name, row.line),
                            classes.list()
                        ),
                    }
                };
                Ok(Labels::Classes(rows.iter().map(id).collect::<Result<_>>()?))
            }
            Targets::Values => {
                let value = |row| value_of(name, row);
                Ok(Labels::Values(
                    rows.iter().map(value).collect::<Result<_>>()?,
                ))
            }
        }
    }
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
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) => bail!(
            "{here}: the label {label:?} is not a finite number; remove the row or correct it"
        ),
        Err(_) => bail!(
            "{here}: the label {label:?} is not a number; for labels that are words use \
            --task classification"
        ),
    }
}
