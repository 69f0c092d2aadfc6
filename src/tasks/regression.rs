//! One or several numbers per text.

use super::labels::label_of;
use super::metrics::{self, Scores};
use super::splitting::Splitting;
use crate::batch::Labels;
use crate::data::{Row, Table, place};
use crate::words;
use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

/// Targets above this have squares and gradients that overflow f32.
const LARGEST_VALUE: f32 = 1e15;

/// The count of numbers in the first row, which every row must have.
///
/// # Errors
/// The label of the first row is empty, or an empty list.
pub fn outputs(table: &Table, splitting: &Splitting) -> Result<usize> {
    match table.rows.first() {
        Some(row) => Ok(parts(splitting, &table.name, row)?.len()),
        None => Ok(1),
    }
}

fn parts(splitting: &Splitting, name: &str, row: &Row) -> Result<Vec<String>> {
    label_of(name, row)?;
    let parts = splitting.parts_of(name, row, "numbers")?;
    ensure!(!parts.is_empty(), "{}: the label is an empty list", place(name, row.line));
    Ok(parts)
}

/// The numbers of every row, `[rows, outputs]`.
///
/// # Errors
/// With file and line: something that is not a finite number, or the wrong count.
pub fn read(outputs: usize, splitting: &Splitting, table: &Table) -> Result<Labels> {
    let mut values = Vec::with_capacity(table.rows.len() * outputs);
    for row in &table.rows {
        let before = values.len();
        for part in parts(splitting, &table.name, row)? {
            values.push(value_of(&table.name, row, &part)?);
        }
        let count = values.len() - before;
        ensure!(
            count == outputs,
            "{}: {} for a label, but the first row has {outputs}",
            place(&table.name, row.line),
            words::count(count, "number")
        );
    }
    Ok(Labels::Values(values))
}

fn value_of(name: &str, row: &Row, label: &str) -> Result<f32> {
    let here = place(name, row.line);
    match label.parse::<f32>() {
        Ok(value) if value.abs() <= LARGEST_VALUE => Ok(value),
        // NaN, and infinity as a word.
        Ok(_) if !label.contains(|c: char| c.is_ascii_digit()) => bail!(
            "{here}: the label {label:?} is not a finite number; remove the row or correct it"
        ),
        Ok(_) => bail!(
            "{here}: the label {label:?} is too large to square; divide all labels by the same number, or correct \
             the row"
        ),
        Err(_) if label.replacen(',', ".", 1).parse::<f32>().is_ok() => bail!(
            "{here}: the label {label:?} is not a number; write decimals with a point, and no thousands separators; \
             for several numbers give --label-separator ,"
        ),
        Err(_) => bail!(
            "{here}: the label {label:?} is not a number; for words use --task \
            classification"
        ),
    }
}

pub fn score(logits: &[f32], outputs: usize, gold: &[f32]) -> Scores {
    let loss: f64 = logits.iter().zip(gold).map(|(&x, &y)| f64::from(x - y).powi(2)).sum();
    metrics::regression(logits, gold, outputs, loss / gold.len() as f64)
}

pub fn columns(outputs: usize) -> Vec<String> {
    match outputs {
        1 => vec!["value".to_owned()],
        _ => (1..=outputs).map(|i| format!("value_{i}")).collect(),
    }
}

pub fn record(logits: &[f32]) -> Value {
    match logits {
        [value] => json!({ "value": value }),
        values => json!({ "values": values }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::metric::Metric;
    use crate::tasks::labels::tests::table;

    #[test]
    fn every_row_has_as_many_numbers_as_the_first() {
        let splitting = Splitting::at(";");
        let three = table(&["1; 2;3", "4;5;6"]);
        assert_eq!(outputs(&three, &splitting).unwrap(), 3);
        let want = Labels::Values(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(read(3, &splitting, &three).unwrap(), want);
        let message = read(3, &splitting, &table(&["1;2;3", "4;5"])).unwrap_err().to_string();
        assert_eq!(message, "f.tsv:3: 2 numbers for a label, but the first row has 3");
    }

    #[test]
    fn a_number_that_is_missing_among_several_is_called_empty() {
        let semicolon = Splitting::at(";");
        let refused = |splitting: &Splitting, cell: &str| {
            format!("{:#}", read(3, splitting, &table(&["1;2;3", cell])).unwrap_err())
        };
        for cell in ["1;;3", "1;2;", "; 2;3"] {
            let message = refused(&semicolon, cell);
            assert!(message.starts_with("f.tsv:3: one of the numbers"), "{message}");
            assert!(message.contains("is empty") && message.contains("\";\""), "{message}");
        }
        for cell in ["[]", "\u{1f}"] {
            let message = refused(&semicolon, cell);
            assert_eq!(message, "f.tsv:3: the label is an empty list");
            let first = outputs(&table(&[cell]), &Splitting::LISTS).unwrap_err().to_string();
            assert_eq!(first, "f.tsv:2: the label is an empty list");
        }
        let spaces = table(&["1  2 3"]);
        assert_eq!(outputs(&spaces, &Splitting::at(" ")).unwrap(), 3);
    }

    #[test]
    fn the_loss_is_the_mean_of_squares() {
        let scores = score(&[1.0, 3.0], 1, &[0.0, 1.0]);
        assert_eq!(scores[0], (Metric::Loss, 2.5));
        let scores = score(&[1.0, 3.0, 0.0, 0.0], 2, &[0.0, 1.0, 0.0, 0.0]);
        assert_eq!(scores[0], (Metric::Loss, 1.25));
    }
}
