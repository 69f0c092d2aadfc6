//! Detects an evaluation that looks like a result but is not: one class for everything, or measures no better than
//! guessing without reading the text.

use super::baseline::Baseline;
use super::confusion::{Confusion, Tally};
use super::evaluation::Evaluation;
use super::labels::ClassNames;
use crate::program::LossKind;
use crate::settings::task::Task;
use crate::words::list;

/// What usually helps, in all tasks and in those with classes.
const HELP: &str = "train longer (--epochs), or with a higher --lr (try auto)";
const HELP_CLASSES: &str = "train longer (--epochs), with a higher --lr (try auto), or give rare classes more \
    weight (--class-weights)";

/// A sentence if an evaluation shows that nothing was learned about the texts, with what helps.
pub fn nothing_learned(
    found: &Evaluation,
    task: Task,
    classes: Option<&ClassNames>,
    baselines: &[Baseline],
) -> Option<String> {
    let help = match task.facts().loss {
        LossKind::CrossEntropy => HELP_CLASSES,
        _ => HELP,
    };
    let unit = if task.facts().each_token { "word" } else { "row" };
    let of_classes = match (&found.confusion, classes) {
        (Some(confusion), Some(classes)) => collapsed(confusion, classes, unit),
        _ => None,
    };
    let never = || match (classes, task) {
        (Some(labels), Task::MultiLabel) => never_given(&found.each, labels),
        _ => None,
    };
    let beaten_by = || baselines.iter().find_map(|baseline| baseline.not_beaten(&found.scores));
    let what = of_classes.or_else(never).or_else(beaten_by)?;
    Some(match found.part {
        "" => format!("{what}; {help}"),
        part => format!("{part} rows: {what}; {help}"),
    })
}

/// A sentence if the predictions behind `confusion` say nothing about the texts.
fn collapsed(confusion: &Confusion, classes: &ClassNames, unit: &str) -> Option<String> {
    let rows = confusion.rows();
    let of_one_class = |counts: &[u64]| counts.iter().position(|&count| count == rows);
    let commonest = *confusion.gold().iter().max()?;
    // Rows that are all alike allow no conclusion.
    if rows == 0 || commonest == rows {
        return None;
    }
    let majority = commonest as f64 / rows as f64;
    if let Some(only) = of_one_class(confusion.predicted()) {
        return Some(format!(
            "all of the {rows} {unit}s to evaluate on got the class {:?}: the model does not distinguish classes",
            classes.names()[only]
        ));
    }
    (confusion.right() <= commonest).then(|| {
        format!(
            "the accuracy of {:.4} is no better than the {majority:.4} of always giving the most common class",
            confusion.right() as f64 / rows as f64
        )
    })
}

/// Labels that were predicted for no row although some rows have them.
fn never_given(each: &[Tally], labels: &ClassNames) -> Option<String> {
    let named = labels.names().iter().zip(each);
    let never = named.filter(|(_, tally)| tally.gold > 0 && tally.predicted == 0);
    let never: Vec<&String> = never.map(|(name, _)| name).collect();
    let one = |tally: &Tally| tally.predicted > 0;
    match never.len() {
        0 => None,
        _ if !each.iter().any(one) => Some("no row was given any label".to_owned()),
        _ => Some(format!("labels that rows have but the model never gave: {}", list(&never))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(predicted: &[u32], gold: &[u32]) -> Option<String> {
        let names = ["a", "b", "c"].map(str::to_owned).to_vec();
        let classes = ClassNames::from_names(names, 2).unwrap();
        collapsed(&Confusion::count(3, predicted, gold), &classes, "row")
    }

    #[test]
    fn one_class_for_everything_is_said() {
        let text = said(&[1, 1, 1, 1], &[1, 1, 0, 2]).unwrap();
        assert!(text.contains("all of the 4 rows") && text.contains("\"b\""), "{text}");
    }

    #[test]
    fn no_more_right_answers_than_the_commonest_class_has_is_said() {
        let text = said(&[0, 1, 1, 2], &[0, 0, 0, 1]).unwrap();
        assert!(text.contains("0.2500") && text.contains("0.7500"), "{text}");
        assert!(said(&[0, 0, 0, 1], &[0, 0, 1, 0]).is_some(), "as good is no better");
        assert_eq!(said(&[0, 0, 1, 2], &[0, 0, 1, 1]), None);
    }

    #[test]
    fn rows_of_one_class_and_no_rows_tell_nothing() {
        assert_eq!(said(&[0, 0], &[0, 0]), None);
        assert_eq!(said(&[0, 1], &[1, 1]), None);
        assert_eq!(said(&[], &[]), None);
    }

    #[test]
    fn labels_that_are_never_given_are_named_and_one_that_no_row_has_is_none() {
        let names = ["a", "b", "c"].map(str::to_owned).to_vec();
        let labels = ClassNames::from_names(names, 1).unwrap();
        let said = |each: [(u64, u64); 3]| {
            let tally = |(gold, predicted)| Tally { right: 0, gold, predicted };
            never_given(&each.map(tally), &labels)
        };
        assert_eq!(said([(3, 0), (1, 0), (0, 0)]).unwrap(), "no row was given any label");
        assert!(said([(3, 2), (1, 0), (0, 0)]).unwrap().ends_with("the model never gave: \"b\""));
        assert_eq!(said([(3, 2), (1, 1), (0, 0)]), None);
    }
}
