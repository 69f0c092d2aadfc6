//! What a finished run has to show: its result file, and a table for people.

use crate::commands::base::Base;
use crate::model::Model;
use crate::settings::train::TrainConfig;
use crate::table::{TextTable, grouped};
use crate::train::output::OutputFolder;
use crate::train::run::{End, Outcome};
use serde_json::{Map, Value, json};
use std::path::Path;

/// What a finished run has to show.
pub struct Summary<'a> {
    pub config: &'a TrainConfig,
    pub model: &'a Model,
    pub base: &'a Base,
    pub output: &'a OutputFolder,
    pub outcome: &'a Outcome,
    /// In bytes.
    pub memory: Value,
}

impl Summary<'_> {
    /// The result file of the run.
    pub fn json(&self) -> Value {
        let Outcome { end, step, last, best, tokens, seconds, .. } = self.outcome;
        let last: Map<String, Value> =
            last.iter().map(|&(metric, value)| (metric.key().to_owned(), value.into())).collect();
        json!({
            "end": match end { End::OutOfPatience => "patience", _ => "finished" },
            "steps": step,
            "best": best.map(|(step, value)| json!({
                "step": step, "metric": self.config.metric.key(), "value": value
            })),
            "last": last,
            "trained_parameters": self.model.params.trainable(),
            "tokens": tokens,
            "seconds": seconds,
            "memory": self.memory,
        })
    }

    /// For people.
    pub fn table(&self) -> TextTable {
        let Outcome { end, step, last, best, tokens, seconds, .. } = self.outcome;
        let config = self.config;
        let mut table = TextTable::new(["result", ""]);
        let mut row = |name: &str, value: String| {
            table.row([name.to_owned(), value]);
        };
        row("model", self.base.folder.display().to_string());
        row("method", config.method.with_biases(&config.biases));
        row("trained parameters", grouped(self.model.params.trainable()));
        row(
            "steps",
            match end {
                End::OutOfPatience => {
                    format!("{step} (no better value for --patience evaluations)")
                }
                _ => step.to_string(),
            },
        );
        if let Some((step, value)) = best {
            row(&format!("best {}", config.metric), format!("{value:.4} at step {step}"));
        }
        for (metric, value) in last {
            row(&format!("last {metric}"), format!("{value:.4}"));
        }
        if *seconds > 0.0 {
            row(
                "training time",
                format!("{seconds:.1} s, {:.0} tokens/s", *tokens as f64 / seconds),
            );
        }
        let leaves = config.method.facts().leaves;
        let file = self.output.result_file(leaves);
        row(leaves.name(), size_of_file(&file));
        table
    }
}

fn size_of_file(path: &Path) -> String {
    match std::fs::metadata(path) {
        Ok(meta) => format!("{} ({:.0} KiB)", path.display(), meta.len() as f64 / 1024.0),
        Err(_) => path.display().to_string(),
    }
}
