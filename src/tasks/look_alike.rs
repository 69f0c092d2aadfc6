//! Detects files of one named task given for another's. Several have the same columns; they differ in their label
//! words, or in whether they have a header.

use anyhow::{Result, bail};

use super::named_labels::in_word;
use super::spelling::Key;
use super::unlabelled::says_none;
use crate::data::Table;
use crate::formats::columns::Columns;
use crate::settings::benchmark::{Answers, NamedTask};
use crate::settings::benchmarks::TASKS;
use crate::words::list;

/// The other task whose files have this header and these labels, if `task`'s own do not.
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
        && labels.all(|label| says_none(label) || is_word(label.trim()))
}

/// # Errors
/// Files with this header and these labels belong to another task.
pub fn refuse_look_alike<'a>(
    task: &NamedTask,
    file: &str,
    header: &[String],
    labels: impl Iterator<Item = &'a str> + Clone,
) -> Result<()> {
    match look_alike(task, header, labels) {
        None => Ok(()),
        Some(other) => bail!(
            "{file}: judging by its columns and labels this is a file of {}, but --task is {}; give that of {}{}",
            other.title,
            task.name,
            task.title,
            if task.archive.header.is_empty() { ", or name it with --train" } else { "" }
        ),
    }
}

/// The other task whose columns and labels these texts have, if `task`'s differ.
fn by_columns(table: &Table, task: &NamedTask) -> Option<&'static NamedTask> {
    let read = [Some(table.columns.text.as_str()), table.columns.text_pair.as_deref()];
    let names = |task: &NamedTask| {
        [&task.columns, &task.archive.columns].into_iter().any(|columns| {
            let own = [columns.text.first().copied(), columns.pair];
            columns.text.len() == 1
                && own.iter().zip(&read).all(|(own, read)| match (own, read) {
                    (Some(own), Some(read)) => own.eq_ignore_ascii_case(read),
                    (own, read) => own.is_none() && read.is_none(),
                })
        })
    };
    let labels = |task: &NamedTask| {
        let mut labels = table.rows.iter().filter_map(|row| row.label.as_deref());
        labels.all(|label| says_none(label) || in_word(task, label.trim(), String::new).is_ok())
    };
    match names(task) {
        true => None,
        false => TASKS.iter().find(|other| *other != task && names(other) && labels(other)),
    }
}

/// A doubt that the rows of a user's own file may be another task's.
pub fn doubt(table: &Table, task: &NamedTask) -> Option<String> {
    let labels = || table.rows.iter().filter_map(|row| row.label.as_deref());
    // A task's own files have no such header, so a user's may have any.
    if let Some(other) = look_alike(task, &header(table), labels()) {
        return Some(format!(
            "{}: judging by its columns and labels this may be a file of {}, but it is read as {}'s",
            table.name, other.title, task.title
        ));
    }
    let scores: Option<Vec<f32>> = labels().map(|label| label.trim().parse().ok()).collect();
    match (&task.answers, scores) {
        (Answers::Scores(least, most), Some(scores))
            if *most > 1.0 && scores.len() > 1 && scores.iter().all(|&score| score <= 1.0) =>
        {
            Some(format!(
                "{}: no score is above 1, but those of {} go from {least} to {most}: are they another task's, or rescaled?",
                table.name, task.title
            ))
        }
        _ => None,
    }
}

/// All columns of a table, first those that are read.
fn header(table: &Table) -> Vec<String> {
    let Columns { text, text_pair, label } = &table.columns;
    let read = [text].into_iter().chain(text_pair).chain(label);
    read.chain(&table.unread).cloned().collect()
}

/// Checks the rows of a user's own file against the task: pairs or single texts, and no other task's labels.
///
/// # Errors
/// They belong to another task.
pub fn hold_rows(table: &Table, task: &NamedTask) -> Result<()> {
    let (found, wanted) = (table.columns.text_pair.is_some(), task.columns.pair.is_some());
    if found != wanted {
        let kind = |pair: bool| if pair { "pairs of texts" } else { "single texts" };
        bail!(
            "{}: {} has {}, but this file has {} ({}); name the columns with --text-column and --text-pair-column, \
             or another task",
            table.name,
            task.title,
            kind(wanted),
            kind(found),
            table.columns
        );
    }
    if let Some(other) = by_columns(table, task) {
        bail!(
            "{}: judging by its columns ({}) and labels this is a file of {}, but --task is {}; if it is not, name the \
             columns as {} does: {}",
            table.name,
            table.columns,
            other.title,
            task.name,
            task.title,
            list(&task.columns.text.iter().copied().chain(task.columns.pair).collect::<Vec<_>>())
        );
    }
    if task.archive.header.is_empty() {
        return Ok(());
    }
    let labels = table.rows.iter().filter_map(|row| row.label.as_deref());
    refuse_look_alike(task, &table.name, &header(table), labels)
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
        // As programs write the hub's rows: nothing distinguishes them.
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
        assert!(
            error.contains("RTE has pairs of texts, but this file has single texts"),
            "{error}"
        );
        assert!(
            held(&pairs, "cola")
                .unwrap_err()
                .contains("CoLA has single texts, but this file has pairs")
        );
        let rte = table(Some("sentence2"), &["index"], &["entailment"]);
        assert!(held(&rte, "wnli").unwrap_err().contains("a file of RTE"));
        assert!(held(&rte, "rte").is_ok());
    }

    #[test]
    fn a_users_own_file_with_the_columns_of_another_task_is_refused_or_said() {
        let table = |text: &str, pair: Option<&str>, labels: &[&str]| {
            let mut table = crate::tasks::labels::tests::table(labels);
            table.columns = Columns {
                text: text.into(),
                text_pair: pair.map(str::to_owned),
                label: Some("label".into()),
            };
            table.unread = Vec::new();
            table
        };
        let words = ["entailment", "not_entailment"];
        let questions = table("question", Some("sentence"), &words);
        let error = hold_rows(&questions, task("rte")).unwrap_err().to_string();
        assert!(error.contains("a file of QNLI") && error.contains("\"sentence1\""), "{error}");
        assert!(hold_rows(&questions, task("qnli")).is_ok());
        assert!(hold_rows(&table("a", Some("b"), &words), task("rte")).is_ok(), "nobody's columns");
        assert!(
            hold_rows(&table("premise", Some("hypothesis"), &["neutral"]), task("mnli")).is_ok()
        );

        let reviews = table("sentence", None, &["0", "1"]);
        assert!(hold_rows(&reviews, task("cola")).is_ok());
        assert!(doubt(&reviews, task("cola")).unwrap().contains("may be a file of SST-2"));
        assert_eq!(doubt(&reviews, task("sst2")), None);
        let scores =
            |labels: &[&str]| doubt(&table("sentence1", Some("sentence2"), labels), task("stsb"));
        assert!(scores(&["0.2", "1"]).unwrap().contains("go from 0 to 5"));
        assert_eq!(scores(&["0.2", "4"]), None);
    }
}
