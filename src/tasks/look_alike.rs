//! Files of one named task that are given for another's: several have the same columns, and the words for their labels
//! tell them apart, or that one has a header and the other none.

use anyhow::{Result, bail};

use super::spelling::Key;
use crate::data::Table;
use crate::formats::columns::Columns;
use crate::settings::benchmark::{Answers, NamedTask};
use crate::settings::benchmarks::TASKS;

/// The other task that has files with this header and these labels, where `task` has none such.
pub fn look_alike<'a>(
    task: &NamedTask,
    header: &[String],
    labels: impl Iterator<Item = &'a str> + Clone,
) -> Option<&'static NamedTask> {
    if header.is_empty() || has(task, header, labels.clone()) {
        return None;
    }
    TASKS.iter().find(|other| *other != task && has(other, header, labels.clone()))
}

/// Whether a task's own archive has a file of training rows like this one.
fn has<'a>(task: &NamedTask, header: &[String], mut labels: impl Iterator<Item = &'a str>) -> bool {
    let own = task.archive.header;
    let is_word = |label: &str| match &task.answers {
        Answers::Classes(classes) => {
            classes.iter().any(|class| Key::of(class.word) == Key::of(label))
        }
        Answers::Scores(least, most) => {
            label.parse::<f32>().is_ok_and(|score| (*least..=*most).contains(&score))
        }
    };
    own.len() == header.len()
        && own.iter().all(|own| header.iter().any(|name| own == name))
        && labels.all(|label| label.trim().is_empty() || is_word(label.trim()))
}

/// # Errors
/// Files with this header and these labels are another task's.
pub fn refuse_look_alike<'a>(
    task: &NamedTask,
    file: &str,
    header: &[String],
    labels: impl Iterator<Item = &'a str> + Clone,
) -> Result<()> {
    match look_alike(task, header, labels) {
        None => Ok(()),
        Some(other) => bail!(
            "{file}: by its columns and labels this is a file of {}, and --task is {}; give that of {}{}",
            other.title,
            task.name,
            task.title,
            if task.archive.header.is_empty() { ", or name it with --train" } else { "" }
        ),
    }
}

/// Holds the rows of a user's own file to what a task has: pairs or single texts, and no other task's labels.
///
/// # Errors
/// They are another task's.
pub fn hold_rows(table: &Table, task: &NamedTask) -> Result<()> {
    let (found, wanted) = (table.columns.text_pair.is_some(), task.columns.pair.is_some());
    if found != wanted {
        let kind = |pair: bool| if pair { "pairs of texts" } else { "single texts" };
        bail!(
            "{}: {} has {}, and here are {} ({}); name the columns with --text-column and --text-pair-column, or another task",
            table.name,
            task.title,
            kind(wanted),
            kind(found),
            table.columns
        );
    }
    if task.archive.header.is_empty() {
        return Ok(());
    }
    let Columns { text, text_pair, label } = &table.columns;
    let read = [text].into_iter().chain(text_pair).chain(label);
    let header: Vec<String> = read.chain(&table.unread).cloned().collect();
    let labels = table.rows.iter().filter_map(|row| row.label.as_deref());
    refuse_look_alike(task, &table.name, &header, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(task: &str, header: &str, labels: &[&str]) -> Option<&'static str> {
        let header: Vec<String> = header.split(' ').map(str::to_owned).collect();
        let task = NamedTask::named(task).unwrap();
        look_alike(task, &header, labels.iter().copied()).map(|other| other.title)
    }

    #[test]
    fn tasks_of_one_header_are_told_apart_by_their_words() {
        let pairs = "index sentence1 sentence2 label";
        let words = ["entailment", "not_entailment"];
        assert_eq!(found("wnli", pairs, &words), Some("RTE"));
        assert_eq!(found("rte", pairs, &["0", "1"]), Some("WNLI"));
        assert_eq!(found("rte", pairs, &words), None);
        assert_eq!(found("wnli", pairs, &["1", "0"]), None);
        assert_eq!(found("cola", "sentence label", &["0", "1"]), Some("SST-2"));
        // As programs write the hub's rows: nothing tells.
        assert_eq!(found("rte", "sentence1 sentence2 label idx", &["0", "1"]), None);
        assert_eq!(found("cola", "source label star sentence", &["0", "1"]), None);
    }

    fn task(name: &str) -> &'static NamedTask {
        NamedTask::named(name).unwrap()
    }

    #[test]
    fn a_users_own_file_has_pairs_where_the_task_has() {
        let table = |pair: Option<&str>, unread: &[&str], labels: &[&str]| {
            let mut table = crate::tasks::labels::tests::table(labels);
            table.columns = Columns {
                text: "sentence1".into(),
                text_pair: pair.map(str::to_owned),
                label: Some("label".into()),
            };
            table.unread = unread.iter().map(|name| name.to_string()).collect();
            table
        };
        let held =
            |table: &Table, name: &str| hold_rows(table, task(name)).map_err(|e| e.to_string());
        let (single, pairs) = (table(None, &[], &["1"]), table(Some("sentence2"), &[], &["1"]));
        assert!(held(&single, "cola").is_ok() && held(&pairs, "rte").is_ok());
        let error = held(&single, "rte").unwrap_err();
        assert!(error.contains("RTE has pairs of texts, and here are single texts"), "{error}");
        assert!(
            held(&pairs, "cola").unwrap_err().contains("CoLA has single texts, and here are pairs")
        );
        let rte = table(Some("sentence2"), &["index"], &["entailment"]);
        assert!(held(&rte, "wnli").unwrap_err().contains("a file of RTE"));
        assert!(held(&rte, "rte").is_ok());
    }
}
