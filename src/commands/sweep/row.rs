//! The row of a run, from its files, and the answers of its best state.

use super::held::{chosen_rate, result_of};
use super::report::answers_file;
use crate::commands::train::Texts;
use crate::files::write_bytes_atomic;
use crate::results::bootstrap::DevAnswers;
use crate::results::rows::{RunEnd, RunRow};
use crate::settings::metric::Metric;
use crate::settings::rate::Rate;
use crate::settings::sweep_run::SweepRun;
use crate::tasks::row_answers::RowAnswers;
use crate::train::log::records;
use crate::train::output::{METRICS_FILE, RESULT_FILE, result_file};
use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// For a finished run whose best state has not been measured on rows that it has seen. `answers` returns that state's
/// answers to the dev rows.
///
/// # Errors
/// A missing or broken file of the run; answers that cannot be written.
pub fn of_result(
    run: &SweepRun,
    texts: &Texts,
    output: &Path,
    answers: impl FnOnce(Metric) -> Result<Option<RowAnswers>>,
) -> Result<RunRow> {
    let config = &run.config;
    let path = config.output.join(RESULT_FILE);
    let result = result_of(config)?;
    let (best, memory) = (&result["best"], &result["memory"]);
    let metric = best["metric"].as_str().and_then(metric_of_key);
    if let Some(metric) = metric {
        let rows = texts.data.dev_sha256.clone().unwrap_or_default();
        let answers = answers(metric)?.map(|answers| DevAnswers { rows, answers });
        write_bytes_atomic(&answers_file(output, &run.name), &serde_json::to_vec(&answers)?)?;
    }
    let left = config.output.join(result_file(config.method.facts().leaves));
    let size = std::fs::metadata(&left);
    let size = size.with_context(|| format!("cannot find {}", left.display()))?.len();
    let (seconds, tokens) = (result["seconds"].as_f64(), result["tokens"].as_f64());
    let count = |key: &str| {
        let count = result[key].as_u64();
        count.with_context(|| format!("{}: no `{key}`", path.display())).map(Some)
    };
    Ok(RunRow {
        lr: match config.lr {
            Rate::Is(lr) => Some(lr),
            Rate::Auto => chosen_rate(&result),
        },
        why: None,
        train_rows: Some(texts.data.train.examples() as u64),
        steps: count("steps")?,
        trained_parameters: count("trained_parameters")?,
        seconds,
        seconds_per_step: seconds_per_step(&config.output.join(METRICS_FILE))?,
        tokens_per_s: seconds.zip(tokens).map(|(seconds, tokens)| tokens / seconds.max(1e-9)),
        planned_bytes: memory["planned"].as_u64(),
        allocated_bytes: memory["allocated"].as_u64(),
        saved_bytes_per_token: memory["saved_per_token"].as_f64(),
        result_bytes: Some(size),
        metric,
        dev: best["value"].as_f64(),
        dev_step: best["step"].as_u64(),
        dev_scores: best["eval"].as_object().map(scores).unwrap_or_default(),
        ..without_result(run, RunEnd::Done, String::new())
    })
}

/// For a run that left no result.
pub fn without_result(run: &SweepRun, outcome: RunEnd, why: String) -> RunRow {
    let config = &run.config;
    let facts = config.method.facts();
    RunRow {
        run: run.name.clone(),
        variant: run.variant.clone(),
        method: config.method.to_string(),
        biases: facts.takes_biases().then(|| config.biases.to_string()),
        axes: run.axes.clone(),
        seed: config.seed,
        lr: config.lr.number(),
        outcome,
        why: Some(why),
        train_rows: None,
        steps: None,
        trained_parameters: None,
        seconds: None,
        seconds_per_step: None,
        tokens_per_s: None,
        planned_bytes: None,
        allocated_bytes: None,
        saved_bytes_per_token: None,
        result_bytes: None,
        metric: None,
        dev: None,
        dev_step: None,
        dev_scores: BTreeMap::new(),
        train: None,
        folder: run.name.clone(),
    }
}

fn metric_of_key(key: &str) -> Option<Metric> {
    Metric::ALL.into_iter().find(|metric| metric.key() == key)
}

/// The measures in an evaluation.
fn scores(evaluation: &Map<String, Value>) -> BTreeMap<String, Option<f64>> {
    let measures = evaluation.iter().filter(|(key, _)| metric_of_key(key).is_some());
    measures.map(|(key, value)| (key.clone(), value.as_f64())).collect()
}

/// The median over the steps in a run's log, which a resumed run continues.
fn seconds_per_step(log: &Path) -> Result<Option<f64>> {
    let (mut times, mut before) = (Vec::new(), 0.0);
    for record in records(log)? {
        let record = record?;
        if let (Some(tokens), Some(speed)) =
            (record["tokens"].as_f64(), record["tokens_per_s"].as_f64())
        {
            times.push((tokens - before) / speed);
            before = tokens;
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times.get(times.len() / 2).copied())
}
