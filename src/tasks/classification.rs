//! One class per text.

use super::labels::{ClassNames, label_of, unknown};
use super::metrics::{self, Scores};
use crate::batch::Labels;
use crate::data::Table;
use anyhow::Result;
use serde_json::{Map, Value, json};

/// The class of every row, `[rows]`.
///
/// # Errors
/// With file and line: a label that is not one of the classes or is empty.
pub fn read(classes: &ClassNames, table: &Table) -> Result<Labels> {
    let id = |row| {
        let label = label_of(&table.name, row)?;
        classes.id(label).ok_or_else(|| unknown(classes, table, row, label))
    };
    Ok(Labels::Classes(table.rows.iter().map(id).collect::<Result<_>>()?))
}

pub fn score(logits: &[f32], outputs: usize, gold: &[u32]) -> Scores {
    let rows = || logits.chunks_exact(outputs);
    let predicted: Vec<u32> = rows().map(argmax).collect();
    let loss: f64 = rows().zip(gold).map(|(row, &class)| -log_softmax(row)[class as usize]).sum();
    metrics::classification(&predicted, gold, loss / gold.len() as f64)
}

pub fn columns(classes: &ClassNames) -> Vec<String> {
    let probabilities = classes.names().iter().map(|name| format!("p({name})"));
    std::iter::once("label".to_owned()).chain(probabilities).collect()
}

pub fn fields(classes: &ClassNames, logits: &[f32]) -> Vec<String> {
    let label = classes.names()[argmax(logits) as usize].clone();
    let p = log_softmax(logits).into_iter().map(|x| format!("{:.7}", x.exp()));
    std::iter::once(label).chain(p).collect()
}

pub fn record(classes: &ClassNames, logits: &[f32]) -> Value {
    let p: Map<String, Value> = (classes.names().iter().cloned())
        .zip(log_softmax(logits))
        .map(|(name, x)| (name, x.exp().into()))
        .collect();
    let label = &classes.names()[argmax(logits) as usize];
    json!({ "label": label, "probabilities": p, "logits": logits })
}

/// Index of the largest logit; the first on a tie.
pub fn argmax(row: &[f32]) -> u32 {
    let mut best = 0;
    for (i, &x) in row.iter().enumerate() {
        if x > row[best] {
            best = i;
        }
    }
    best as u32
}

/// Log-probabilities of one row of logits.
pub fn log_softmax(row: &[f32]) -> Vec<f64> {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|&x| f64::from(x - top).exp()).sum();
    row.iter().map(|&x| f64::from(x - top) - sum.ln()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::metric::Metric;

    #[test]
    fn log_softmax_is_exact_for_large_and_equal_logits() {
        assert_eq!(log_softmax(&[1e30, 1e30]), [-std::f64::consts::LN_2; 2]);
        let two = log_softmax(&[0.0, f32::ln(3.0)]);
        assert!((two[1] - 0.75f64.ln()).abs() < 1e-7);
    }

    #[test]
    fn scores_come_from_the_largest_logit() {
        let logits = [2.0, 1.0, 0.0, 1.0, 5.0, 5.0];
        let scores = score(&logits, 2, &[0, 1, 1]);
        let accuracy = scores.iter().find(|(m, _)| *m == Metric::Accuracy).unwrap().1;
        assert!((accuracy - 2.0 / 3.0).abs() < 1e-12, "a tie goes to the first class");
    }
}
