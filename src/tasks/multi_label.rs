//! Any number of labels per text: one output with a sigmoid per label (`problem_type` `multi_label_classification` of
//! transformers). A label is predicted if its probability is above one half.

use super::confusion::Tally;
use super::labels::{ClassNames, unknown};
use super::metrics::{self, Scores};
use super::splitting::Splitting;
use crate::batch::Labels;
use crate::data::{Row, Table, place};
use crate::room::filled;
use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

/// The labels of a row. The row may also have none of them.
fn labels_of(splitting: &Splitting, name: &str, row: &Row) -> Result<Vec<String>> {
    splitting.parts_of(name, row, "labels")
}

/// The distinct labels of a table.
///
/// # Errors
/// No row has any, or one label is spelled in several ways.
pub fn names(table: &Table, splitting: &Splitting) -> Result<ClassNames> {
    let rows = table.rows.iter().map(|row| labels_of(splitting, &table.name, row));
    let labels: Vec<Vec<String>> = rows.collect::<Result<_>>()?;
    ClassNames::distinct(&table.name, labels.iter().flatten().map(String::as_str), 1)
}

/// 1 for each label that a row has and 0 for the others, `[rows, labels]`.
///
/// # Errors
/// With file and line: a label that the task does not have, or that a row has twice.
pub fn read(names: &ClassNames, splitting: &Splitting, table: &Table) -> Result<Labels> {
    let count = names.names().len();
    let what = format!("labels ({} rows of {count} each)", table.rows.len());
    let mut all = filled(0.0, table.rows.len().saturating_mul(count), &what)?;
    for (row, values) in table.rows.iter().zip(all.chunks_exact_mut(count)) {
        for label in labels_of(splitting, &table.name, row)? {
            let id = names.id(&label).ok_or_else(|| unknown(names, table, row, &label))?;
            let value = &mut values[id as usize];
            if *value == 1.0 {
                bail!("{}: the label {label:?} occurs twice", place(&table.name, row.line));
            }
            *value = 1.0;
        }
    }
    Ok(Labels::Values(all))
}

pub fn score(logits: &[f32], outputs: usize, gold: &[f32]) -> Scores {
    let predicted: Vec<bool> = logits.iter().map(|&x| x > 0.0).collect();
    let right: Vec<bool> = gold.iter().map(|&y| y > 0.5).collect();
    let loss: f64 = logits.iter().zip(&right).map(|(&x, &y)| loss(f64::from(x), y)).sum();
    metrics::multi_label(&predicted, &right, outputs, loss / gold.len() as f64)
}

/// How often each label is right, gold and predicted.
pub fn tallies(logits: &[f32], outputs: usize, gold: &[f32]) -> Vec<Tally> {
    let mut each = vec![Tally::default(); outputs];
    let rows = logits.chunks_exact(outputs).zip(gold.chunks_exact(outputs));
    for (logits, gold) in rows {
        for ((tally, &logit), &gold) in each.iter_mut().zip(logits).zip(gold) {
            let (predicted, gold) = (logit > 0.0, gold > 0.5);
            tally.right += u64::from(predicted && gold);
            tally.gold += u64::from(gold);
            tally.predicted += u64::from(predicted);
        }
    }
    each
}

/// `-ln σ(x)` for a label that is present, `-ln (1 - σ(x))` for one that is not.
fn loss(logit: f64, there: bool) -> f64 {
    let wrong = if there { -logit } else { logit };
    wrong.max(0.0) + (-wrong.abs()).exp().ln_1p()
}

fn sigmoid(logit: f32) -> f64 {
    1.0 / (1.0 + f64::from(-logit).exp())
}

pub fn columns(names: &ClassNames) -> Vec<String> {
    let probabilities = names.names().iter().map(|name| format!("p({name})"));
    std::iter::once("labels".to_owned()).chain(probabilities).collect()
}

fn predicted<'a>(names: &'a ClassNames, logits: &[f32]) -> Vec<&'a str> {
    let named = names.names().iter().zip(logits);
    named.filter(|&(_, &x)| x > 0.0).map(|(name, _)| name.as_str()).collect()
}

pub fn fields(names: &ClassNames, splitting: &Splitting, logits: &[f32]) -> Vec<String> {
    // A label with the separator in it would be read as two.
    let separator = splitting.separator();
    let labels = predicted(names, logits);
    let labels = match names.names().iter().any(|name| name.contains(separator)) {
        true => json!(labels).to_string(),
        false => labels.join(separator),
    };
    let p = logits.iter().map(|&x| format!("{:.7}", sigmoid(x)));
    std::iter::once(labels).chain(p).collect()
}

pub fn record(names: &ClassNames, logits: &[f32]) -> Value {
    let p: Map<String, Value> = (names.names().iter().cloned())
        .zip(logits)
        .map(|(name, &x)| (name, sigmoid(x).into()))
        .collect();
    json!({ "labels": predicted(names, logits), "probabilities": p, "logits": logits })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::metric::Metric;
    use crate::tasks::labels::tests::table;

    fn by_comma() -> Splitting {
        Splitting::at(",")
    }

    #[test]
    fn a_row_has_any_number_of_labels_none_included() {
        let table = table(&["b, a", "", "a", "c"]);
        let names = names(&table, &by_comma()).unwrap();
        assert_eq!(names.names(), ["a", "b", "c"]);
        let values = vec![1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0];
        assert_eq!(read(&names, &by_comma(), &table).unwrap(), Labels::Values(values));
    }

    #[test]
    fn a_label_twice_or_of_another_task_is_refused_by_line() {
        let names = names(&table(&["a,b"]), &by_comma()).unwrap();
        let error =
            |labels: &[&str]| read(&names, &by_comma(), &table(labels)).unwrap_err().to_string();
        assert!(error(&["a", "b,b"]).starts_with("f.tsv:3: the label \"b\" occurs twice"));
        assert!(error(&["a", "b", "d"]).starts_with("f.tsv:4: the label \"d\" is unknown"));
        assert!(super::names(&table(&["", ""]), &by_comma()).is_err());
    }

    #[test]
    fn an_empty_label_among_several_is_refused_and_spaces_part_however_many_there_are() {
        for cell in ["a,", "b,,a", ",a", "a, ,b", r#"["a", ""]"#] {
            let message = super::names(&table(&["a,b", cell]), &by_comma()).unwrap_err();
            let message = format!("{message:#}");
            assert!(message.starts_with("f.tsv:3: ") && message.contains("empty"), "{message}");
        }
        let spaced = names(&table(&["a  b ", ""]), &Splitting::at(" ")).unwrap();
        assert_eq!(spaced.names(), ["a", "b"]);
    }

    #[test]
    fn losses_of_any_logit_are_finite_and_those_of_torch() {
        // torch.nn.functional.binary_cross_entropy_with_logits
        for (x, there, want) in [
            (0.0, true, std::f64::consts::LN_2),
            (2.0, true, 0.126928011),
            (2.0, false, 2.126928011),
            (-800.0, true, 800.0),
        ] {
            assert!((loss(x, there) - want).abs() < 1e-8, "{x} {there}");
        }
        let scores = score(&[3.0, -3.0, 1.0, 1.0], 2, &[1.0, 0.0, 1.0, 0.0]);
        assert_eq!(scores.iter().find(|(m, _)| *m == Metric::Accuracy).unwrap().1, 0.5);
    }
}
