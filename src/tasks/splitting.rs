//! Splitting a label cell into several labels or numbers.

use crate::data::{LIST, Row, place};
use crate::settings::task::Task;
use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

/// How a label cell is split. A JSON list always is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Splitting(Option<String>);

impl Splitting {
    /// Only splits lists.
    pub const LISTS: Self = Self(None);

    pub fn at(separator: &str) -> Self {
        Self(Some(separator.to_owned()))
    }

    /// For a task with this separator from the user, or none: labels are words, which a comma may separate, but a
    /// number may contain a comma.
    pub fn of(task: Task, separator: Option<&str>) -> Self {
        match (task, separator) {
            (_, Some(separator)) => Self::at(separator),
            (Task::MultiLabel, None) => Self::at(","),
            (_, None) => Self::LISTS,
        }
    }

    /// What separates two parts when they are written.
    pub fn separator(&self) -> &str {
        self.0.as_deref().unwrap_or(",")
    }

    /// The parts of a cell. A cell written as a JSON list is one in any format.
    ///
    /// # Errors
    /// Something that looks like a list but is not JSON, which a separator would split into unintended parts; a list
    /// with elements that are not labels.
    pub fn parts(&self, cell: &str) -> Result<Vec<String>> {
        if cell.chars().eq([LIST]) {
            return Ok(Vec::new());
        }
        if cell.contains(LIST) {
            return Ok(cell.split(LIST).skip(1).map(str::to_owned).collect());
        }
        let written = cell.trim();
        let is_list = written.starts_with('[') && written.ends_with(']');
        // A truncated list.
        let begins = ["[\"", "['"].iter().any(|start| written.starts_with(start));
        if is_list || begins {
            let values: Vec<Value> = serde_json::from_str(written).ok().with_context(|| {
                format!("the label {written:?} looks like a list but is not JSON, which has double quotes: [\"a\", \"b\"]")
            })?;
            return values.into_iter().map(scalar).collect::<Result<_, _>>().map_err(|what| {
                anyhow!("the label {written:?} is a list with {what} in it, which is not a label")
            });
        }
        Ok(match &self.0 {
            Some(separator) => cell.split(separator.as_str()).map(str::to_owned).collect(),
            None => vec![cell.to_owned()],
        })
    }

    /// The parts of a row's cell, labels or numbers as `what` says, without surrounding spaces.
    ///
    /// # Errors
    /// As [`parts`](Self::parts), and if one of several is empty; with file and line.
    pub fn parts_of(&self, name: &str, row: &Row, what: &str) -> Result<Vec<String>> {
        let cell = row.label.as_deref().unwrap_or_default();
        let parts = self.parts(cell).with_context(|| place(name, row.line))?;
        let there = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
        let there: Vec<String> = there.map(str::to_owned).collect();
        // Any number of spaces is one separator.
        let spaces = self.separator().trim().is_empty();
        if !spaces && parts.len() > 1 && there.len() < parts.len() {
            bail!(
                "{}: one of the {what} {cell:?} is empty; write one between each two separators ({:?}), or remove the \
                 extra separator",
                place(name, row.line),
                self.separator()
            );
        }
        Ok(there)
    }
}

/// A label or number from a list, as written; or what it is instead.
fn scalar(value: Value) -> Result<String, &'static str> {
    match value {
        Value::String(text) if text.trim().is_empty() => Err("an empty text"),
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Null => Err("a null"),
        Value::Array(_) => Err("a list"),
        Value::Object(_) => Err("an object"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_taken_apart_where_the_user_says_so_or_it_was_a_list() {
        let parts = |splitting: &Splitting, cell: &str| splitting.parts(cell).unwrap();
        assert_eq!(parts(&Splitting::LISTS, "0,5"), ["0,5"]);
        assert_eq!(parts(&Splitting::at(","), "0,5"), ["0", "5"]);
        let list = format!("{LIST}0.5{LIST}1");
        assert_eq!(parts(&Splitting::LISTS, &list), ["0.5", "1"]);
    }

    #[test]
    fn a_list_in_a_field_is_a_list_and_is_never_torn_at_its_commas() {
        let by_comma = Splitting::at(",");
        assert_eq!(by_comma.parts(r#"["red", "dark, blue"]"#).unwrap(), ["red", "dark, blue"]);
        assert_eq!(Splitting::LISTS.parts(" [1, 2.5] ").unwrap(), ["1", "2.5"]);
        assert!(by_comma.parts("[]").unwrap().is_empty());
        assert_eq!(by_comma.parts("[x] done,b").unwrap(), ["[x] done", "b"]);
        for (list, what) in [
            ("[\"a\", null]", "a null"),
            ("[\"a\", \" \"]", "an empty text"),
            ("[[1]]", "a list"),
            ("[{}]", "an object"),
        ] {
            let message = by_comma.parts(list).unwrap_err().to_string();
            assert!(message.contains(&format!("a list with {what} in it")), "{message}");
        }
        for torn in ["['red', 'blue']", "[red]", "[\"x\",\"y\"", "['x'"] {
            let message = by_comma.parts(torn).unwrap_err().to_string();
            assert!(message.contains("looks like a list"), "{message}");
        }
    }
}
