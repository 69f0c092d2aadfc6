//! Rows whose label says that there is none, as data sets have them: empty, "-" (SNLI), "nan" (pandas), -1 (Hugging
//! Face). Taken for a class they would be learned; so they are refused until the user says what they are.

use anyhow::{Result, bail};

use super::labels::ClassNames;
use super::spelling::{Decimal, Key};
use crate::data::{Table, place};
use crate::settings::choice::Unlabelled;
use crate::settings::task::Task;

/// Words that programs write for a missing value, in lower case.
const MISSING: [&str; 8] = ["-", "--", "nan", "nat", "null", "<na>", "n/a", "#n/a"];
/// Words that may be such a word and may be a class.
const DOUBTFUL: [&str; 4] = ["none", "na", "?", "unlabeled"];

/// Whether a class of this name may well be no class.
pub fn doubtful(name: &str) -> bool {
    DOUBTFUL.contains(&name.to_lowercase().as_str())
}

/// Deals with the rows of `table` without a label; says how many it left out. `known` are the classes where they are
/// known already: a label that is one of them is a label.
///
/// # Errors
/// There are such rows and the user has not said what they are; or nothing would be left.
pub fn settle(
    table: &mut Table,
    how: Unlabelled,
    task: Task,
    known: Option<&ClassNames>,
) -> Result<usize> {
    let minus_one = task == Task::Classification && minus_one_is_none(table, known);
    let is_none = |label: Option<&str>| {
        let label = label.unwrap_or_default().trim();
        let missing = MISSING.contains(&label.to_lowercase().as_str());
        let unknown = || known.is_none_or(|classes| classes.id(label).is_none());
        // An empty label can be no class, not even on demand; and a text may have none of several labels.
        (label.is_empty() && (task != Task::MultiLabel || how == Unlabelled::Drop))
            || (how != Unlabelled::Keep
                && (missing || (minus_one && is_minus_one(label)))
                && unknown())
    };
    let rows = table.rows.len();
    let without: Vec<_> = table.rows.iter().filter(|row| is_none(row.label.as_deref())).collect();
    let (count, Some(first)) = (without.len(), without.first()) else {
        return Ok(0);
    };
    if how == Unlabelled::Drop {
        if count == rows {
            bail!("{}: no row has a label", table.name);
        }
        table.rows.retain(|row| !is_none(row.label.as_deref()));
        return Ok(count);
    }
    let label = first.label.as_deref().unwrap_or_default().trim();
    let (what, keep) = if label.is_empty() {
        ("the label is empty".to_owned(), "")
    } else {
        (
            format!("the label {label:?} usually means that there is none"),
            ", or take it for a class with --unlabelled keep",
        )
    };
    let keep = if task.facts().named && how != Unlabelled::Keep { keep } else { "" };
    bail!(
        "{}: {what}; rows without a label: {count} of {rows}; correct them, or leave them out with --unlabelled drop{keep}",
        place(&table.name, first.line)
    )
}

fn is_minus_one(label: &str) -> bool {
    Decimal::parse("-1").map(Key::Number) == Some(Key::of(label))
}

/// -1 stands for no label beside 0, 1, …; in {-1, 1} it is a class, and so it is where other numbers are negative.
fn minus_one_is_none(table: &Table, known: Option<&ClassNames>) -> bool {
    if known.is_some() {
        return true;
    }
    let labels = table.rows.iter().filter_map(|row| row.label.as_deref());
    let keys: std::collections::HashSet<Key> =
        labels.filter(|label| !is_minus_one(label)).map(Key::of).collect();
    let not_negative = |key: &Key| matches!(key, Key::Number(number) if !number.is_negative());
    keys.len() >= 2 && keys.iter().all(not_negative)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::labels::tests::table;

    fn settled(labels: &[&str], how: Unlabelled) -> Result<(usize, Vec<String>)> {
        let mut table = table(labels);
        let dropped = settle(&mut table, how, Task::Classification, None)?;
        let left = table.rows.into_iter().filter_map(|row| row.label).collect();
        Ok((dropped, left))
    }

    fn refused(labels: &[&str]) -> String {
        settled(labels, Unlabelled::Refuse).unwrap_err().to_string()
    }

    #[test]
    fn labels_that_say_there_is_none_are_refused_with_their_number_and_the_ways_out() {
        for none in ["-", "nan", "NaN", "NULL", "<NA>", " n/a "] {
            let message = refused(&["a", none, "b", none]);
            assert!(message.starts_with("f.tsv:3: the label "), "{message}");
            assert!(
                message.contains("2 of 4;") && message.contains("--unlabelled drop"),
                "{message}"
            );
            assert!(message.contains("--unlabelled keep"), "{message}");
            assert_eq!(settled(&["a", none], Unlabelled::Drop).unwrap().0, 1);
            assert_eq!(settled(&["a", none], Unlabelled::Keep).unwrap().0, 0);
        }
        for none in ["", "  "] {
            let message = refused(&["a", none]);
            assert!(message.starts_with("f.tsv:3: the label is empty"));
            assert!(!message.contains("keep"), "{message}");
            assert!(settled(&["a", none], Unlabelled::Keep).is_err());
            assert_eq!(settled(&["a", none], Unlabelled::Drop).unwrap().1, ["a"]);
        }
        assert!(settled(&["-", ""], Unlabelled::Drop).is_err());
    }

    #[test]
    fn minus_one_is_no_label_beside_0_and_1_and_a_class_beside_1_alone() {
        for labels in [["0", "1", "-1"], ["1.0", "0.0", "-1.0"]] {
            assert!(refused(&labels).contains("1 of 3;"));
            assert_eq!(settled(&labels, Unlabelled::Drop).unwrap().0, 1);
        }
        for labels in
            [&["1", "-1"][..], &["-2", "-1", "0", "1"], &["a", "b", "-1"], &["none", "na", "?"]]
        {
            assert_eq!(settled(labels, Unlabelled::Refuse).unwrap().0, 0);
        }
    }

    #[test]
    fn a_class_of_the_task_is_a_label_whatever_it_is_called() {
        let classes = ["-1", "0", "nan"].map(str::to_owned).to_vec();
        let classes = ClassNames::from_names(classes, 2).unwrap();
        let settle = |labels: &[&str], how| {
            settle(&mut table(labels), how, Task::Classification, Some(&classes))
        };
        assert_eq!(settle(&["-1", "nan"], Unlabelled::Refuse).unwrap(), 0);
        assert_eq!(settle(&["-1", "-"], Unlabelled::Drop).unwrap(), 1);
    }

    #[test]
    fn minus_one_is_a_value_and_nan_is_none() {
        let settle = |labels: &[&str], how| settle(&mut table(labels), how, Task::Regression, None);
        assert_eq!(settle(&["0", "1", "-1", "2.5"], Unlabelled::Refuse).unwrap(), 0);
        assert_eq!(settle(&["0", "nan", ""], Unlabelled::Drop).unwrap(), 2);
        let message = settle(&["0", "nan"], Unlabelled::Refuse).unwrap_err();
        assert!(!message.to_string().contains("keep"), "{message}");
    }
}
