//! An evaluation that looks like a result and is none: one class for everything, or no more right answers than whoever
//! always says the commonest class has.

use super::confusion::Confusion;
use super::labels::ClassNames;

/// What usually helps.
const HELP: &str = "train longer (--epochs), with a higher --lr, or give the rare classes more weight (--class-weights)";

/// A sentence where the predictions behind `confusion` say nothing of the texts.
pub fn collapsed(confusion: &Confusion, classes: &ClassNames) -> Option<String> {
    let rows = confusion.rows();
    let of_one_class = |counts: &[u64]| counts.iter().position(|&count| count == rows);
    let commonest = *confusion.gold().iter().max()?;
    // Of rows that are all alike nothing can be told.
    if rows == 0 || commonest == rows {
        return None;
    }
    let majority = commonest as f64 / rows as f64;
    if let Some(only) = of_one_class(confusion.predicted()) {
        return Some(format!(
            "every one of the {rows} rows to evaluate on was given the class {:?}: the model tells no classes apart; {HELP}",
            classes.names()[only]
        ));
    }
    (confusion.right() <= commonest).then(|| {
        format!(
            "the accuracy of {:.4} is no better than that of always saying the commonest class, {majority:.4}; {HELP}",
            confusion.right() as f64 / rows as f64
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(predicted: &[u32], gold: &[u32]) -> Option<String> {
        let names = ["a", "b", "c"].map(str::to_owned).to_vec();
        let classes = ClassNames::from_names(names, 2).unwrap();
        collapsed(&Confusion::count(3, predicted, gold), &classes)
    }

    #[test]
    fn one_class_for_everything_is_said_with_what_helps() {
        let text = said(&[1, 1, 1, 1], &[1, 1, 0, 2]).unwrap();
        assert!(text.contains("every one of the 4 rows") && text.contains("\"b\""), "{text}");
        for help in ["--epochs", "--lr", "--class-weights"] {
            assert!(text.contains(help), "{text}");
        }
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
}
