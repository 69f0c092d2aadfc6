//! The labels of a named task in its own words, whichever form a file has: the task's names, the benchmark's words for
//! them, or their numbers.

use anyhow::{Result, bail};

use super::spelling::Key;
use crate::data::{Table, place};
use crate::settings::benchmark::{Answers, NamedClass, NamedTask};

/// Converts a table's labels to a task's words; returns what to tell the user about it.
///
/// # Errors
/// With file and line: a label that the task does not have.
pub fn in_words(table: &mut Table, task: &NamedTask) -> Result<Option<String>> {
    let mut numbered = false;
    for row in &mut table.rows {
        if let Some(label) = &mut row.label {
            numbered |= is_number(task, label.trim());
            let (word, _) = in_word(task, label.trim(), || place(&table.name, row.line))?;
            *label = word;
        }
    }
    Ok(numbered.then(|| format!("{}: {}", table.name, numbers(task))))
}

/// A label in the task's words, and whether it was a class's number.
pub fn in_word(task: &NamedTask, text: &str, here: impl Fn() -> String) -> Result<(String, bool)> {
    match task.answers {
        Answers::Classes(classes) => match class_of(task, text) {
            Some((name, by_number)) => Ok((name.to_owned(), by_number)),
            None => {
                let known = classes.iter().map(|class| match class.name == class.word {
                    true => class.name.to_owned(),
                    false => format!("{} ({})", class.name, class.word),
                });
                bail!(
                    "{}: {text:?} is not a label of {}; its labels are {}",
                    here(),
                    task.title,
                    known.collect::<Vec<_>>().join(", ")
                )
            }
        },
        Answers::Scores(least, most) => match text.parse::<f32>() {
            Ok(score) if (least..=most).contains(&score) => Ok((text.to_owned(), false)),
            Ok(score) => bail!(
                "{}: {score} is outside the scores of {}, {least} to {most}",
                here(),
                task.title
            ),
            Err(_) => bail!("{}: {text:?} is not a number", here()),
        },
    }
}

/// The class for a label in a benchmark's file: its name, the benchmark's word for it, or its number. Also returns
/// whether it was the number.
fn class_of(task: &NamedTask, text: &str) -> Option<(&'static str, bool)> {
    let key = Key::of(text);
    let by_word =
        |class: &&NamedClass| [class.name, class.word].iter().any(|word| Key::of(word) == key);
    let classes = task.classes();
    if let Some(class) = classes.iter().find(by_word) {
        return Some((class.name, false));
    }
    let number = (0..classes.len()).find(|number| Key::of(&number.to_string()) == key)?;
    Some((classes[number].name, true))
}

/// How a task's numbers are read.
pub fn numbers(task: &NamedTask) -> String {
    let classes =
        task.classes().iter().enumerate().map(|(i, class)| format!("{i} is {}", class.name));
    let classes: Vec<_> = classes.collect();
    format!("the labels are numbers: {}, the hub's order", classes.join(", "))
}

/// Whether a label is the number of a class.
pub fn is_number(task: &NamedTask, text: &str) -> bool {
    !task.classes().is_empty() && matches!(Key::of(text), Key::Number(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: &str) -> &'static NamedTask {
        NamedTask::named(name).unwrap()
    }

    #[test]
    fn labels_of_a_plain_file_are_put_into_the_tasks_words() {
        let put = |name: &str, labels: &[&str]| {
            let mut table = crate::tasks::labels::tests::table(labels);
            let note = in_words(&mut table, task(name))?;
            let labels: Vec<_> = table.rows.into_iter().filter_map(|row| row.label).collect();
            anyhow::Ok((labels, note))
        };
        let (labels, note) = put("mnli", &["0", "contradiction", "1"]).unwrap();
        assert_eq!(labels, ["entailment", "contradiction", "neutral"]);
        assert!(note.unwrap().contains("0 is entailment, 1 is neutral, 2 is contradiction"));
        let (labels, note) = put("cola", &["0", "acceptable", "1.0"]).unwrap();
        assert_eq!((labels[0].as_str(), labels[2].as_str()), ("unacceptable", "acceptable"));
        assert!(note.unwrap().contains("0 is unacceptable, 1 is acceptable"));
        assert_eq!(put("cola", &["acceptable"]).unwrap().1, None);
        let error = put("mnli", &["neutral", "3"]).unwrap_err().to_string();
        assert!(error.starts_with("f.tsv:3: \"3\" is not a label of MNLI"), "{error}");
        assert!(put("stsb", &["6"]).unwrap_err().to_string().contains("outside the scores"));
    }
}
