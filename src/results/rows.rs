//! One line for each run of a sweep, as JSON: what it was, how it ended, its costs and its results.

use crate::settings::metric::Metric;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunEnd {
    Done,
    /// A loss or gradient that is not finite.
    Diverged,
    Failed,
}

/// One run. Unknown values, and those that are not numbers, are `None`; sizes are in bytes and times in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRow {
    pub run: String,
    /// The table row that it belongs to.
    pub variant: String,
    pub method: String,
    /// What `--biases` selects, for a method that uses it.
    pub biases: Option<String>,
    /// By option, the value of each that takes several values in the sweep.
    pub axes: BTreeMap<String, String>,
    pub seed: u64,
    /// The peak rate: as requested, or as chosen by a trial.
    pub lr: Option<f64>,
    pub outcome: RunEnd,
    /// What went wrong.
    pub why: Option<String>,
    /// Training rows.
    pub train_rows: Option<u64>,
    pub steps: Option<u64>,
    pub trained_parameters: Option<u64>,
    /// Of training only, and of one optimizer step, the median.
    pub seconds: Option<f64>,
    pub seconds_per_step: Option<f64>,
    pub tokens_per_s: Option<f64>,
    /// Memory on the device as planned before the run, and as allocated.
    pub planned_bytes: Option<u64>,
    pub allocated_bytes: Option<u64>,
    /// Activations kept for backward.
    pub saved_bytes_per_token: Option<f64>,
    /// Of the delta, or of the whole model.
    pub result_bytes: Option<u64>,
    pub metric: Option<Metric>,
    /// The best value of `metric` on the dev rows, and its step.
    pub dev: Option<f64>,
    pub dev_step: Option<u64>,
    /// All measures there, by key.
    pub dev_scores: BTreeMap<String, Option<f64>>,
    /// `metric` on training rows, in the same state.
    pub train: Option<f64>,
    /// The folder of its files, within the sweep's folder.
    pub folder: String,
}

impl RunRow {
    /// How much better it is on rows that it has seen.
    pub fn gap(&self) -> Option<f64> {
        Some(self.train? - self.dev?)
    }

    /// As a line of the file.
    ///
    /// # Errors
    /// None: everything can be serialised.
    pub fn to_line(&self) -> Result<String> {
        let mut line = serde_json::to_string(self).context("cannot make a JSON line")?;
        line.push('\n');
        Ok(line)
    }
}

/// The rows of a file, and whether its last line was cut off by a kill; that one is left out.
///
/// # Errors
/// A line that is not a row, or the second for a run, by line number.
pub fn read_rows(text: &str) -> Result<(Vec<RunRow>, bool)> {
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    let mut rows: Vec<RunRow> = Vec::new();
    let mut lines: HashMap<String, usize> = HashMap::new();
    for (place, line) in text[..whole].lines().enumerate() {
        let number = place + 1;
        let row: RunRow = serde_json::from_str(line).map_err(|error| {
            anyhow::anyhow!("line {number}, column {}: {error}", error.column())
        })?;
        if let Some(first) = lines.insert(row.run.clone(), number) {
            bail!("line {number}: the run `{}` is already on line {first}", row.run);
        }
        rows.push(row);
    }
    Ok((rows, whole < text.len()))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A run that finished.
    pub fn row(variant: &str, lr: f64, seed: u64, dev: f64) -> RunRow {
        let run = format!("{variant}-lr{lr}-seed{seed}");
        let axes = [("lr", lr.to_string()), ("seed", seed.to_string())];
        RunRow {
            run: run.clone(),
            variant: variant.to_owned(),
            method: "bitfit".to_owned(),
            biases: Some("all".to_owned()),
            axes: axes.map(|(option, value)| (option.to_owned(), value)).into(),
            seed,
            lr: Some(lr),
            outcome: RunEnd::Done,
            why: None,
            train_rows: Some(900),
            steps: Some(60),
            trained_parameters: Some(26_498),
            seconds: Some(8.5),
            seconds_per_step: Some(0.0214),
            tokens_per_s: Some(3200.0),
            planned_bytes: Some(105_234_567),
            allocated_bytes: Some(105_234_567),
            saved_bytes_per_token: Some(92_600.0),
            result_bytes: Some(114_000),
            metric: Some(Metric::MacroF1),
            dev: Some(dev),
            dev_step: Some(40),
            dev_scores: BTreeMap::from([("macro_f1".to_owned(), Some(dev))]),
            train: Some(dev + 0.05),
            folder: run,
        }
    }

    /// The same run, but diverged.
    pub fn diverged(row: RunRow) -> RunRow {
        RunRow {
            outcome: RunEnd::Diverged,
            why: Some("the loss is not finite at step 3".to_owned()),
            dev: None,
            train: None,
            ..row
        }
    }

    #[test]
    fn a_row_is_a_line_and_comes_back_from_it() {
        let rows = [row("a", 1e-3, 1, 0.5), diverged(row("b", 3e-3, 2, 0.0))];
        let text: String = rows.iter().map(|row| row.to_line().unwrap()).collect();
        assert_eq!(text.lines().count(), 2);
        assert!(
            text.contains("\"outcome\":\"diverged\"") && text.contains("\"metric\":\"macro-f1\"")
        );
        assert_eq!(read_rows(&text).unwrap(), (rows.to_vec(), false));
        assert_eq!(read_rows("").unwrap(), (vec![], false));
    }

    #[test]
    fn what_is_no_number_is_unknown() {
        let odd = RunRow { dev: Some(f64::NAN), lr: Some(f64::INFINITY), ..row("a", 1.0, 1, 0.5) };
        let (rows, _) = read_rows(&odd.to_line().unwrap()).unwrap();
        assert_eq!((rows[0].dev, rows[0].lr, rows[0].gap()), (None, None, None));
    }

    #[test]
    fn a_line_that_a_kill_cut_is_left_out_and_said() {
        let (first, second) = (row("a", 1.0, 1, 0.5), row("b", 1.0, 1, 0.5).to_line().unwrap());
        let text = first.to_line().unwrap() + &second[..second.len() / 2];
        assert_eq!(read_rows(&text).unwrap(), (vec![first], true));
    }

    #[test]
    fn broken_lines_are_named() {
        let good = row("a", 1.0, 1, 0.5).to_line().unwrap();
        let error = |text: String| read_rows(&text).unwrap_err().to_string();
        let twice = error(good.clone() + &good);
        assert!(twice.starts_with("line 2: the run `a-lr1-seed1` is already on line 1"), "{twice}");
        let unknown = error(good.clone() + &good.replace("\"run\"", "\"ran\""));
        assert!(
            unknown.starts_with("line 2, column ") && unknown.contains("unknown field `ran`"),
            "{unknown}"
        );
        let kind = error(good.replace("\"steps\":60", "\"steps\":\"60\""));
        assert!(kind.starts_with("line 1, column "), "{kind}");
        assert!(error(good + "\n").starts_with("line 2, column "));
        assert!(error("[]\n".to_owned()).starts_with("line 1"));
    }
}
