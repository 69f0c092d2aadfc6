//! What a comparison has found: one row per run, as JSON, Markdown and text.

use crate::commands::train::rate::KEY;
use crate::files::read_bounded;
use crate::settings::method::TrainedBiases;
use crate::settings::metric::Metric;
use crate::settings::rate::Rate;
use crate::settings::train::TrainConfig;
use crate::table::{TextTable, grouped};
use crate::train::output::{METRICS_FILE, RESULT_FILE, result_file};
use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

/// The confusion of some thousand classes has a tenth.
const MOST_RESULT: u64 = 256 << 20;

/// One run. Bytes are bytes; what a machine cannot tell is `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunRow {
    pub run: String,
    pub method: String,
    /// What `--biases` selects, under a method that takes it.
    pub biases: Option<String>,
    pub lr: f64,
    pub trained_parameters: u64,
    /// Device memory as it was planned before the run, and as it was allocated.
    pub planned_bytes: Option<u64>,
    pub allocated_bytes: Option<u64>,
    /// Of the whole process: the program, the texts and the loading of the model included.
    pub peak_rss_bytes: Option<u64>,
    /// Activations kept for backward.
    pub saved_bytes_per_token: Option<f64>,
    /// Median over the optimizer steps.
    pub seconds_per_step: f64,
    /// The best value of the run's metric on the dev rows.
    pub dev: Option<f64>,
    /// Of the delta, or of the whole model.
    pub result_bytes: u64,
}

impl RunRow {
    /// Reads what a finished run has left.
    ///
    /// # Errors
    /// A file that is missing or broken.
    pub fn read(name: &str, config: &TrainConfig) -> Result<Self> {
        let path = config.output.join(RESULT_FILE);
        let result = result_of(config)?;
        let memory = &result["memory"];
        let facts = config.method.facts();
        let kept = config.output.join(result_file(facts.leaves));
        let size = std::fs::metadata(&kept)
            .with_context(|| format!("cannot find {}", kept.display()))?
            .len();
        Ok(Self {
            run: name.to_owned(),
            method: config.method.to_string(),
            biases: matches!(facts.biases, TrainedBiases::Selected | TrainedBiases::Counted)
                .then(|| config.biases.to_string()),
            lr: match config.lr {
                Rate::Is(lr) => lr,
                Rate::Auto => result[KEY]["chosen"]
                    .as_f64()
                    .with_context(|| format!("{}: no `{KEY}`", path.display()))?,
            },
            trained_parameters: result["trained_parameters"]
                .as_u64()
                .with_context(|| format!("{}: no `trained_parameters`", path.display()))?,
            planned_bytes: memory["planned"].as_u64(),
            allocated_bytes: memory["allocated"].as_u64(),
            peak_rss_bytes: memory["peak_rss"].as_u64(),
            saved_bytes_per_token: memory["saved_per_token"].as_f64(),
            seconds_per_step: seconds_per_step(config)?,
            dev: result["best"]["value"].as_f64(),
            result_bytes: size,
        })
    }
}

fn result_of(config: &TrainConfig) -> Result<Value> {
    let path = config.output.join(RESULT_FILE);
    serde_json::from_slice(&read_bounded(&path, MOST_RESULT)?)
        .with_context(|| format!("{} is broken", path.display()))
}

/// Which file a finished run left; `None` where an earlier version wrote its result.
///
/// # Errors
/// A result that is missing or broken.
pub fn sha256_of_result(config: &TrainConfig) -> Result<Option<String>> {
    Ok(result_of(config)?["sha256"].as_str().map(str::to_owned))
}

/// Whether a finished run's learning rate was chosen by a trial.
///
/// # Errors
/// A result that is missing or broken.
pub fn has_trial(config: &TrainConfig) -> Result<bool> {
    Ok(result_of(config)?.get(KEY).is_some())
}

/// What chose the best state of a finished run: its labels may not have what its settings name.
///
/// # Errors
/// A result that is missing or broken.
pub fn measured(config: &TrainConfig) -> Result<Metric> {
    let result = result_of(config)?;
    let name = result["best"]["metric"].as_str().and_then(|name| name.parse().ok());
    Ok(name.unwrap_or(config.metric()))
}

/// From the run's log, which a resumed run goes on with.
fn seconds_per_step(config: &TrainConfig) -> Result<f64> {
    let path = config.output.join(METRICS_FILE);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let (mut times, mut before) = (Vec::new(), 0.0);
    for line in text.lines() {
        let line: Value =
            serde_json::from_str(line).with_context(|| format!("{} is broken", path.display()))?;
        if let (Some(tokens), Some(speed)) =
            (line["tokens"].as_f64(), line["tokens_per_s"].as_f64())
        {
            times.push((tokens - before) / speed);
            before = tokens;
        }
    }
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().with_context(|| format!("{} has no steps", path.display()))
}

/// All rows.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What `dev` measures.
    pub metric: Option<String>,
    pub rows: Vec<RunRow>,
}

impl Report {
    pub fn new(rows: Vec<RunRow>, metric: Option<Metric>) -> Self {
        let measured = rows.iter().any(|row| row.dev.is_some());
        Self { metric: metric.filter(|_| measured).map(|metric| metric.name().to_owned()), rows }
    }

    pub fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// The head of the table.
    fn heading(&self) -> Vec<String> {
        let dev = match &self.metric {
            Some(metric) => format!("dev {metric}"),
            None => "dev".to_owned(),
        };
        [
            "run",
            "trained values",
            "planned",
            "allocated",
            "peak RSS",
            "saved/token",
            "step",
            &dev,
            "result",
        ]
        .map(str::to_owned)
        .into()
    }

    fn cells(row: &RunRow) -> Vec<String> {
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        vec![
            row.run.clone(),
            grouped(row.trained_parameters as usize),
            or_dash(row.planned_bytes.map(bytes)),
            or_dash(row.allocated_bytes.map(bytes)),
            or_dash(row.peak_rss_bytes.map(bytes)),
            or_dash(row.saved_bytes_per_token.map(|b| bytes(b.round() as u64))),
            seconds(row.seconds_per_step),
            or_dash(row.dev.map(|value| format!("{value:.4}"))),
            bytes(row.result_bytes),
        ]
    }

    pub fn table(&self) -> TextTable {
        let mut table = TextTable::new(self.heading());
        for row in &self.rows {
            table.row(Self::cells(row));
        }
        table
    }

    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let heading = self.heading();
        let rule = "---:|".repeat(heading.len() - 1);
        let mut text = line(&heading) + "|---|" + &rule + "\n";
        for row in &self.rows {
            text += &line(&Self::cells(row));
        }
        text
    }
}

/// A size in decimal units, three digits of it.
pub fn bytes(bytes: u64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let value = bytes as f64;
    match units.iter().find(|(size, _)| value >= *size) {
        Some((size, unit)) => format!("{} {unit}", three_digits(value / size)),
        None => format!("{bytes} B"),
    }
}

/// A time, three digits of it.
pub fn seconds(value: f64) -> String {
    if value < 1.0 {
        format!("{} ms", three_digits(1e3 * value))
    } else {
        format!("{} s", three_digits(value))
    }
}

fn three_digits(value: f64) -> String {
    let decimals = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn example() -> Report {
        let row = |run: &str, dev| RunRow {
            run: run.to_owned(),
            method: "bitfit".to_owned(),
            biases: Some("all".to_owned()),
            lr: 1e-3,
            trained_parameters: 26_498,
            planned_bytes: Some(1_234_567),
            allocated_bytes: Some(1_234_567),
            peak_rss_bytes: None,
            saved_bytes_per_token: Some(512.0),
            seconds_per_step: 0.0214,
            dev,
            result_bytes: 111_000,
        };
        let rows = vec![row("bitfit", Some(0.842)), row("a <b> & \"c\"", None)];
        Report::new(rows, Some(Metric::Accuracy))
    }

    #[test]
    fn sizes_and_times_have_three_digits_and_a_unit() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_000), "1.00 kB");
        assert_eq!(bytes(45_678_901), "45.7 MB");
        assert_eq!(bytes(345_678_901_234), "346 GB");
        assert_eq!(seconds(0.0214), "21.4 ms");
        assert_eq!(seconds(12.34), "12.3 s");
    }

    #[test]
    fn the_markdown_table_has_a_row_for_each_run_and_dashes_for_what_is_unknown() {
        let text = example().markdown();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[0].contains("dev accuracy"), "{text}");
        let columns = |line: &str| line.matches('|').count();
        assert!(lines.iter().all(|l| columns(l) == columns(lines[0])), "{text}");
        assert!(lines[2].contains("| 26,498 | 1.23 MB |"), "{text}");
        assert!(lines[3].contains("| - |"), "{text}");
    }
}
