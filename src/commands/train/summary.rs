//! A finished run's results: its result file, and tables for people.

use super::rate;
use crate::commands::base::Base;
use crate::commands::{confusions, show};
use crate::model::Model;
use crate::settings::metric::Metric;
use crate::settings::no_answer::NoAnswer;
use crate::settings::train::TrainConfig;
use crate::table::{TextTable, grouped};
use crate::tasks::baseline::Baseline;
use crate::tasks::collapse::nothing_learned;
use crate::tasks::confusion::Confusion;
use crate::tasks::evaluation::{Evaluation, THRESHOLD, key_of};
use crate::tasks::targets::Targets;
use crate::train::log::records;
use crate::train::output::OutputFolder;
use crate::train::run::{End, Outcome};
use crate::train::trial::ChosenRate;
use anyhow::Result;
use serde_json::{Map, Value, json};
use std::path::Path;

/// What a finished run has to show.
pub struct Summary<'a> {
    pub config: &'a TrainConfig,
    pub targets: &'a Targets,
    pub model: &'a Model,
    pub base: &'a Base,
    pub output: &'a OutputFolder,
    pub outcome: &'a Outcome,
    /// The trial that chose the learning rate.
    pub choice: Option<&'a ChosenRate>,
    /// What is reached without reading a text, for each set of dev rows.
    pub baselines: &'a [Vec<Baseline>],
    /// In bytes.
    pub memory: Value,
}

impl Summary<'_> {
    /// The evaluation whose values were kept, from the run's log: another process may have measured it. Empty without
    /// dev rows.
    ///
    /// # Errors
    /// A log that cannot be read.
    pub fn best(&self) -> Result<Vec<Evaluation>> {
        let Some((step, _)) = self.outcome.best else {
            return Ok(Vec::new());
        };
        for record in records(&self.output.metrics())? {
            let record = record?;
            if record["step"] == step && record.get("eval").is_some() {
                let parts = self.outcome.last.iter().enumerate();
                return Ok(parts.map(|(i, last)| self.recorded(&record, i, last.part)).collect());
            }
        }
        Ok(Vec::new())
    }

    /// An evaluation from its line in the log.
    fn recorded(&self, record: &Value, place: usize, part: &'static str) -> Evaluation {
        let record = &record[key_of("eval", place, part)];
        let score = |metric: Metric| Some((metric, record[metric.key()].as_f64()?));
        let confusion = self
            .targets
            .named()
            .and_then(|classes| Confusion::from_json(classes.names().len(), &record["confusion"]));
        Evaluation {
            part,
            scores: Metric::ALL.into_iter().filter_map(score).collect(),
            no_answer: record[THRESHOLD].as_f64().map(NoAnswer::Above),
            each: confusion.as_ref().map(Confusion::tallies).unwrap_or_default(),
            confusion,
            one_answer: false,
        }
    }

    /// The result file of the run.
    pub fn json(&self, best: &[Evaluation]) -> Value {
        let Outcome { end, step, last, best: kept, sha256, tokens, seconds, .. } = self.outcome;
        let mut result = json!({
            "end": match end { End::OutOfPatience => "patience", _ => "finished" },
            "steps": step,
            "best": kept.map(|(step, value)| json!({
                "step": step, "metric": self.config.metric().key(), "value": value
            })),
            "last": last.first().map_or_else(Map::new, Evaluation::scores_json),
            "sha256": sha256,
            "trained_parameters": self.model.params.trainable(),
            "tokens": tokens,
            "seconds": seconds,
            "memory": self.memory,
        });
        if let Some(choice) = self.choice {
            result[rate::KEY] = json!(choice);
        }
        for (place, evaluation) in last.iter().enumerate().skip(1) {
            result[key_of("last", place, evaluation.part)] = evaluation.scores_json().into();
        }
        for (place, evaluation) in best.iter().enumerate() {
            let found = confusions::json(evaluation, self.targets.named());
            result["best"][key_of("eval", place, evaluation.part)] = found.into();
        }
        result
    }

    /// For people.
    pub fn table(&self, kept: &[Evaluation]) -> TextTable {
        let Outcome { end, step, last, best, tokens, seconds, .. } = self.outcome;
        let config = self.config;
        let mut table = TextTable::new(["result", ""]);
        let mut row = |name: &str, value: String| {
            table.row([name.to_owned(), value]);
        };
        row("model", self.base.folder.display().to_string());
        row("method", config.method.with_biases(&config.biases));
        row("trained parameters", grouped(self.model.params.trainable()));
        if let Some(choice) = self.choice {
            let chosen =
                format!("{}, of {} that --lr auto tried", choice.chosen, choice.tried.len());
            row("learning rate", chosen);
        }
        row(
            "steps",
            match end {
                End::OutOfPatience => {
                    format!("{step} (no better value for --patience evaluations)")
                }
                _ => step.to_string(),
            },
        );
        if last.is_empty() {
            row("kept", "the last step's values: there are no dev rows to choose by".to_owned());
        }
        if let Some((step, value)) = best {
            row(&format!("best {}", config.metric()), format!("{value:.4} at step {step}"));
        }
        // The benchmark's other measures are for the same state.
        let measures = config.task.named().map_or(&[][..], |task| task.measures);
        for (place, evaluation) in kept.iter().enumerate() {
            for &metric in measures.iter().filter(|m| place > 0 || **m != config.metric()) {
                if let Some(value) = evaluation.value(metric) {
                    let part = part_before(place, evaluation.part);
                    row(&format!("{part}{metric} at that step"), format!("{value:.4}"));
                }
            }
        }
        if let Some(threshold) = kept.iter().find_map(|found| found.no_answer?.threshold()) {
            row("no-answer-threshold at that step", format!("{threshold:.4}"));
        }
        for (place, evaluation) in last.iter().enumerate() {
            for (metric, value) in &evaluation.scores {
                let part = part_before(place, evaluation.part);
                row(&format!("last {part}{metric}"), format!("{value:.4}"));
            }
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

    /// If the kept values say nothing about the texts, a sentence for each reason.
    pub fn doubts(&self, best: &[Evaluation]) -> Vec<String> {
        let (task, classes) = (self.config.task.kind(), self.targets.named());
        let of = |(evaluation, baselines): (&Evaluation, &Vec<Baseline>)| {
            nothing_learned(evaluation, task, classes, baselines)
        };
        best.iter().zip(self.baselines).filter_map(of).collect()
    }

    /// The confusion of the kept values.
    ///
    /// # Errors
    /// Nothing can be written.
    pub fn details(&self, best: &[Evaluation]) -> Result<()> {
        let Some(classes) = self.targets.named() else {
            return Ok(());
        };
        for (place, evaluation) in best.iter().enumerate() {
            let Some(confusion) = &evaluation.confusion else { continue };
            let part = part_before(place, evaluation.part);
            show(format_args!("\n{part}dev rows, best state\n"))?;
            for table in confusions::tables(confusion, classes) {
                show(format_args!("\n{table}"))?;
            }
        }
        Ok(())
    }
}

/// The name of a part other than the first, followed by a space.
fn part_before(place: usize, part: &str) -> String {
    if place == 0 { String::new() } else { format!("{part} ") }
}

fn size_of_file(path: &Path) -> String {
    match std::fs::metadata(path) {
        Ok(meta) => format!("{} ({:.0} KiB)", path.display(), meta.len() as f64 / 1024.0),
        Err(_) => path.display().to_string(),
    }
}
