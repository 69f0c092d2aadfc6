//! Labels: words or integers to class ids, or numbers to regression targets.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Result, bail};

use crate::batch::Labels;
use crate::data::{Row, Table, place};

/// From this many on, classes that are decimal fractions are taken for regression targets.
const MANY: usize = 20;

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
        // Scores read as classes by mistake would train a head with a class for each value.
        let fractions = || {
            names.iter().all(|n| n.parse::<f64>().is_ok()) && names.iter().any(|n| n.contains('.'))
        };
        if names.len() > MANY && fractions() {
            bail!(
                "{}: {} different labels, all numbers with fractions; use --task regression",
                table.name,
                names.len()
            );
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
            bail!("{} class name(s); classification needs at least two", names.len());
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
        let shown =
            self.names.iter().take(SHOWN).map(|n| format!("{n:?}")).collect::<Vec<_>>().join(", ");
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
                Ok(Labels::Values(rows.iter().map(value).collect::<Result<_>>()?))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A table with the given labels on lines 2, 3, ...
    fn table(labels: &[&str]) -> Table {
        let row = |(i, label): (usize, &&str)| Row {
            line: i as u64 + 2,
            text: "t".to_owned(),
            text_pair: None,
            label: Some((*label).to_owned()),
        };
        Table { name: "f.tsv".to_owned(), rows: labels.iter().enumerate().map(row).collect() }
    }

    fn names(labels: &[&str]) -> Vec<String> {
        ClassNames::from_table(&table(labels)).unwrap().names().to_vec()
    }

    fn error(targets: &Targets, labels: &[&str]) -> String {
        targets.read(&table(labels)).unwrap_err().to_string()
    }

    #[test]
    fn integer_labels_sort_by_value_and_words_by_character() {
        assert_eq!(names(&["10", "9", "-1", "9"]), ["-1", "9", "10"]);
        assert_eq!(names(&["b", "a10", "a9", " b "]), ["a10", "a9", "b"]);
        assert_eq!(names(&["1", "01", "0"]), ["0", "1"]);
        assert_eq!(names(&["1", "yes"]), ["1", "yes"]);
    }

    #[test]
    fn labels_become_the_ids_of_their_names() {
        let labels = ["neutral", "entailment", "neutral", "contradiction"];
        let targets = Targets::Classes(ClassNames::from_table(&table(&labels)).unwrap());
        assert_eq!(targets.read(&table(&labels)).unwrap(), Labels::Classes(vec![2, 1, 2, 0]));
    }

    #[test]
    fn names_of_a_config_keep_their_order_and_may_be_given_by_number() {
        let classes = ClassNames::from_names(vec!["POSITIVE".into(), "NEGATIVE".into()]).unwrap();
        assert_eq!(classes.names(), ["POSITIVE", "NEGATIVE"]);
        assert_eq!(
            (classes.id("NEGATIVE"), classes.id("1"), classes.id("2")),
            (Some(1), Some(1), None)
        );
        let numbered = ClassNames::from_names(vec!["1".into(), "2".into()]).unwrap();
        assert_eq!(
            (numbered.id("1"), numbered.id("02"), numbered.id("0")),
            (Some(0), Some(1), None)
        );
        assert!(ClassNames::from_names(vec!["a".into(), "a".into()]).is_err());
        assert!(ClassNames::from_names(vec!["a".into()]).is_err());
    }

    #[test]
    fn a_label_unseen_in_training_is_reported_with_line_and_known_labels() {
        let targets = Targets::Classes(ClassNames::from_table(&table(&["no", "yes"])).unwrap());
        assert_eq!(
            error(&targets, &["yes", "maybe"]),
            "f.tsv:3: the label \"maybe\" is unknown; the task's labels are \"no\", \"yes\""
        );
    }

    #[test]
    fn many_known_labels_are_listed_in_part() {
        let labels: Vec<String> = (0..30).map(|i| i.to_string()).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let targets = Targets::Classes(ClassNames::from_table(&table(&labels)).unwrap());
        assert!(error(&targets, &["x"]).ends_with("\"19\" and 10 more"));
    }

    #[test]
    fn one_class_only_and_empty_labels_are_refused() {
        let message = ClassNames::from_table(&table(&["a", "a"])).unwrap_err().to_string();
        assert!(message.contains("every row has the label \"a\""), "{message}");
        let message = ClassNames::from_table(&table(&["a", " "])).unwrap_err().to_string();
        assert_eq!(message, "f.tsv:3: the label is empty");
    }

    #[test]
    fn scores_taken_for_classes_are_refused() {
        let labels: Vec<String> = (0..40).map(|i| format!("{}.5", i % 21)).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let message = ClassNames::from_table(&table(&labels)).unwrap_err().to_string();
        assert!(message.ends_with("use --task regression"), "{message}");
        assert_eq!(names(&labels[..3]), ["0.5", "1.5", "2.5"]);
    }

    #[test]
    fn regression_reads_numbers_and_refuses_everything_else_with_the_line() {
        assert_eq!(
            Targets::Values.read(&table(&["1", "-2.5", "3e-1 "])).unwrap(),
            Labels::Values(vec![1.0, -2.5, 0.3])
        );
        for infinite in ["nan", "inf", "-Infinity", "1e60"] {
            let message = error(&Targets::Values, &["1", infinite]);
            assert!(
                message.starts_with("f.tsv:3: ") && message.contains("not a finite number"),
                "{message}"
            );
        }
        let message = error(&Targets::Values, &["good"]);
        assert!(
            message.starts_with("f.tsv:2: ") && message.ends_with("use --task classification"),
            "{message}"
        );
    }

    #[test]
    fn prediction_has_no_targets() {
        assert_eq!(Targets::None.read(&table(&["a"])).unwrap(), Labels::None);
    }
}
