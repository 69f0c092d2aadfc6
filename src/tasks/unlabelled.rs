//! Rows whose label marks a missing one, as in real datasets: empty, "-" (SNLI), "nan" (pandas), "\N" (databases), -1
//! (Hugging Face), -100 (PyTorch), -9 and -99 (surveys). They would be learned as a class, so they are refused until
//! the user decides.

use std::collections::HashSet;

use anyhow::{Result, bail};

use super::labels::ClassNames;
use super::spelling::{Decimal, Key};
use super::splitting::Splitting;
use crate::data::{Table, place};
use crate::settings::choice::Unlabelled;
use crate::settings::task::Task;

/// Words that programs write for a missing value, in lower case.
const MISSING: [&str; 15] = [
    "-", "--", "nan", "-nan", "nat", "null", "(null)", "<null>", "#null!", "\\n", "<na>", "n/a",
    "#n/a", "#na", "<none>",
];
/// Words that may mark a missing value or be a class.
const DOUBTFUL: [&str; 8] =
    ["none", "na", "nil", "?", "unlabeled", "unlabelled", "missing", "undefined"];
/// Numbers that mark it among labels that are not negative. Next to 1, the first may be the other class.
const NUMBERS: [&str; 6] = ["-1", "-9", "-99", "-100", "-999", "-9999"];

/// What a label without a number is called if labels are numbers.
const EMPTY_LIST: &str = "[]";

/// Whether a class of this name may well not be a class.
pub fn doubtful(name: &str) -> bool {
    DOUBTFUL.contains(&name.to_lowercase().as_str())
}

/// Whether a label of this name marks a missing one.
pub fn is_missing(name: &str) -> bool {
    MISSING.contains(&name.to_lowercase().as_str())
}

/// Whether a label marks a missing one, in a task without such a class or negative labels.
pub fn says_none(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || is_missing(text) || marks().contains(&Key::of(text))
}

/// Whether a number marks a missing value in many files.
pub fn is_mark(value: f32) -> bool {
    NUMBERS.iter().any(|number| number.parse() == Ok(value))
}

/// Whether a table has negative numeric labels that do not mark a missing value.
pub fn has_negative(table: &Table, cells: Cells<'_>) -> bool {
    let labels = table.rows.iter().filter_map(|row| row.label.as_deref());
    let mut keys = labels.flat_map(|cell| cells.labels(cell)).map(|label| Key::of(&label));
    keys.any(|key| is_negative(&key) && !marks().contains(&key))
}

/// [`NUMBERS`] in comparable form.
fn marks() -> Vec<Key> {
    NUMBERS.iter().filter_map(|number| Decimal::parse(number)).map(Key::Number).collect()
}

fn is_negative(key: &Key) -> bool {
    matches!(key, Key::Number(number) if number.is_negative())
}

/// A task's label cells, for [`settle`].
#[derive(Clone, Copy)]
pub struct Cells<'a> {
    pub task: Task,
    /// How a cell with several labels is split.
    pub splitting: &'a Splitting,
    /// The classes if already known: a label that is one of them is a label.
    pub known: Option<&'a ClassNames>,
    /// Whether related labels in another file are negative: then a negative number is a label here too.
    pub negative: bool,
}

impl Cells<'_> {
    /// The labels of a cell, without surrounding spaces.
    fn labels(&self, cell: &str) -> Vec<String> {
        let parts = match self.task {
            // What cannot be split is reported where labels are read.
            Task::MultiLabel | Task::Regression => self.splitting.parts(cell).unwrap_or_default(),
            _ => vec![cell.to_owned()],
        };
        parts.iter().map(|label| label.trim().to_owned()).collect()
    }

    /// The label in a cell that marks a missing one.
    fn none(&self, cell: &str, how: Unlabelled, numbers: &[Key]) -> Option<String> {
        // An empty label cannot be a class, not even on request; and a text may have none of several labels.
        let several = self.task == Task::MultiLabel && how != Unlabelled::Drop;
        if cell.trim().is_empty() {
            return (!several).then(String::new);
        }
        let no_numbers = self.task == Task::Regression
            && self.splitting.parts(cell).is_ok_and(|parts| parts.is_empty());
        if no_numbers {
            return Some(EMPTY_LIST.to_owned());
        }
        let is_none = |label: &String| {
            (is_missing(label) || numbers.contains(&Key::of(label)))
                && self.known.is_none_or(|classes| classes.id(label).is_none())
        };
        match how {
            Unlabelled::Keep => None,
            _ => self.labels(cell).into_iter().find(is_none),
        }
    }
}

/// Handles the rows of `table` without a label; says how many it left out.
///
/// # Errors
/// There are such rows and the user has not said what they are; or nothing would be left.
pub fn settle(table: &mut Table, how: Unlabelled, cells: Cells<'_>) -> Result<usize> {
    let labels = table.rows.iter().filter_map(|row| row.label.as_deref());
    let keys = labels.flat_map(|cell| cells.labels(cell));
    let mut numbers = match cells.negative {
        true => Vec::new(),
        false => numbers(keys.map(|label| Key::of(&label)).collect(), cells.known),
    };
    if cells.task == Task::Regression {
        // A number like any other, as is reported where labels are described.
        numbers.retain(|number| *number != Key::of(NUMBERS[0]));
    }
    let none = |label: Option<&str>| cells.none(label.unwrap_or_default(), how, &numbers);
    let rows = table.rows.len();
    let without = table.rows.iter().filter(|row| none(row.label.as_deref()).is_some());
    let (count, Some(first)) = (without.clone().count(), without.clone().next()) else {
        return Ok(0);
    };
    if how == Unlabelled::Drop {
        if count == rows {
            bail!("{}: no row has a label", table.name);
        }
        table.rows.retain(|row| none(row.label.as_deref()).is_none());
        return Ok(count);
    }
    let label = none(first.label.as_deref()).unwrap_or_default();
    let what = match label.as_str() {
        "" => "the label is empty".to_owned(),
        EMPTY_LIST => "the label is an empty list".to_owned(),
        label => format!("the label {label:?} usually means that there is none"),
    };
    let is_number = matches!(Key::of(&label), Key::Number(_));
    let keep = match cells.task.facts().named {
        _ if label.is_empty() || how == Unlabelled::Keep => "",
        true => ", or treat it as a class with --unlabelled keep",
        false if is_number => ", or treat it as a number with --unlabelled keep",
        false => "",
    };
    bail!(
        "{}: {what}; rows without a label: {count} of {rows}; correct them, or leave them out with --unlabelled drop{keep}",
        place(&table.name, first.line)
    )
}

/// The numbers that mark a missing label among these.
fn numbers(labels: HashSet<Key>, known: Option<&ClassNames>) -> Vec<Key> {
    let mut marks = marks();
    if known.is_some() {
        return marks;
    }
    let others: Vec<&Key> = labels.iter().filter(|key| !marks.contains(key)).collect();
    if others.iter().any(|key| is_negative(key)) {
        return Vec::new();
    }
    match others.as_slice() {
        [] => Vec::new(),
        // In {-1, 1} it is a class.
        [_] => marks.split_off(1),
        _ => marks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::labels::tests::table;

    fn cells(task: Task, known: Option<&ClassNames>) -> Cells<'_> {
        Cells { task, splitting: &Splitting::LISTS, known, negative: false }
    }

    fn settled(labels: &[&str], how: Unlabelled) -> Result<(usize, Vec<String>)> {
        let mut table = table(labels);
        let dropped = settle(&mut table, how, cells(Task::Classification, None))?;
        let left = table.rows.into_iter().filter_map(|row| row.label).collect();
        Ok((dropped, left))
    }

    fn refused(labels: &[&str]) -> String {
        settled(labels, Unlabelled::Refuse).unwrap_err().to_string()
    }

    #[test]
    fn a_benchmarks_row_without_a_label_says_so_in_any_of_these_ways() {
        // MNLI's own files have a dash if the annotators did not agree.
        assert!(["", "-1", "-", "null", "NaN"].into_iter().all(says_none));
        assert!(!["0", "1", "neutral", "2.5", "-2"].into_iter().any(says_none));
    }

    #[test]
    fn labels_that_say_there_is_none_are_refused_with_their_number_and_the_ways_out() {
        for none in ["-", "nan", "NaN", "NULL", "<NA>", " n/a ", "\\N", "(null)"] {
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
            [&["1", "-1"][..], &["-2", "-1", "0", "1"], &["a", "-1"], &["none", "na", "?"]]
        {
            assert_eq!(settled(labels, Unlabelled::Refuse).unwrap().0, 0);
        }
    }

    #[test]
    fn other_marks_for_none_are_none_beside_labels_that_are_not_negative() {
        for mark in ["-100", "-99", "-9", "-9.0", "-999"] {
            for labels in
                [&["0", "1", mark][..], &["a", "b", mark], &["-1", "1", mark], &["a", mark]]
            {
                assert!(refused(labels).contains(&format!("{mark:?} usually")), "{labels:?}");
                assert_eq!(settled(labels, Unlabelled::Keep).unwrap().0, 0);
                assert_eq!(settled(labels, Unlabelled::Drop).unwrap().0, 1);
            }
            assert_eq!(settled(&["-2", "0", "2", mark], Unlabelled::Refuse).unwrap().0, 0);
        }
    }

    #[test]
    fn a_row_with_such_a_word_among_several_labels_has_none() {
        let settle = |labels: &[&str], how| {
            let splitting = &Splitting::at(",");
            settle(
                &mut table(labels),
                how,
                Cells { task: Task::MultiLabel, splitting, known: None, negative: false },
            )
        };
        let labels = ["a,b", "", "a, nan", "\u{1f}-1", "[\"b\", \"-1\"]"];
        let message = settle(&labels, Unlabelled::Refuse).unwrap_err().to_string();
        assert!(
            message.starts_with("f.tsv:4: the label \"nan\"") && message.contains("3 of 5"),
            "{message}"
        );
        assert_eq!(settle(&labels, Unlabelled::Keep).unwrap(), 0);
        assert_eq!(settle(&labels, Unlabelled::Drop).unwrap(), 4, "and the empty one");
        assert_eq!(settle(&["a,b", ""], Unlabelled::Refuse).unwrap(), 0);
    }

    #[test]
    fn a_class_of_the_task_is_a_label_whatever_it_is_called() {
        let classes = ["-1", "0", "nan"].map(str::to_owned).to_vec();
        let classes = ClassNames::from_names(classes, 2).unwrap();
        let settle = |labels: &[&str], how| {
            settle(&mut table(labels), how, cells(Task::Classification, Some(&classes)))
        };
        assert_eq!(settle(&["-1", "nan"], Unlabelled::Refuse).unwrap(), 0);
        assert_eq!(settle(&["-1", "-"], Unlabelled::Drop).unwrap(), 1);
    }

    #[test]
    fn minus_one_is_a_value_and_nan_is_none() {
        let settle =
            |labels: &[&str], how| settle(&mut table(labels), how, cells(Task::Regression, None));
        assert_eq!(settle(&["0", "1", "-1", "2.5"], Unlabelled::Refuse).unwrap(), 0);
        assert_eq!(settle(&["0", "nan", ""], Unlabelled::Drop).unwrap(), 2);
        let message = settle(&["0", "nan"], Unlabelled::Refuse).unwrap_err();
        assert!(!message.to_string().contains("keep"), "{message}");
    }

    #[test]
    fn an_empty_list_of_numbers_is_no_label_and_is_called_a_list() {
        let settle =
            |labels: &[&str], how| settle(&mut table(labels), how, cells(Task::Regression, None));
        for list in ["\u{1f}", "[]", " [ ] "] {
            for how in [Unlabelled::Refuse, Unlabelled::Keep] {
                let message = settle(&["1", list], how).unwrap_err().to_string();
                assert!(message.starts_with("f.tsv:3: the label is an empty list;"), "{message}");
                assert!(message.contains("--unlabelled drop"), "{message}");
                assert!(!message.contains("keep"), "{message}");
            }
            assert_eq!(settle(&["1", list], Unlabelled::Drop).unwrap(), 1);
        }
        // What is not a list is reported where labels are read.
        assert_eq!(settle(&["1", "[x]"], Unlabelled::Drop).unwrap(), 0);
    }

    #[test]
    fn other_marks_beside_amounts_that_are_not_negative_are_refused_until_the_user_says_what_they_are()
     {
        let settle_beside = |labels: &[&str], how, negative| {
            let splitting = &Splitting::at(";");
            let cells = Cells { task: Task::Regression, splitting, known: None, negative };
            settle(&mut table(labels), how, cells)
        };
        let settle = |labels: &[&str], how| settle_beside(labels, how, false);
        for mark in ["-9", "-99", "-100.0", "-999", "0.5;-9999"] {
            let labels = ["1", mark, "0", "2.5"];
            let message = settle(&labels, Unlabelled::Refuse).unwrap_err().to_string();
            assert!(message.starts_with("f.tsv:3: the label \"-"), "{message}");
            assert!(message.contains("a number with --unlabelled keep"), "{message}");
            assert_eq!(settle(&labels, Unlabelled::Drop).unwrap(), 1);
            assert_eq!(settle(&labels, Unlabelled::Keep).unwrap(), 0);
            assert_eq!(settle_beside(&labels, Unlabelled::Refuse, true).unwrap(), 0);
        }
        assert_eq!(settle(&["1", "-9", "-2.5"], Unlabelled::Refuse).unwrap(), 0);
        let cells = cells(Task::Regression, None);
        assert!(has_negative(&table(&["1", "-0.5"]), cells));
        assert!(!has_negative(&table(&["1", "-1", "-9", "nan"]), cells));
    }
}
