//! `bitfit eval`: the measures of a trained delta on labelled texts.

use super::counter::Counter;
use super::labelled::{self, LabelRules};
use super::trained::Trained;
use super::{outputs, read_options, set_threads, show};
use crate::cli::EvalArgs;
use crate::data::{BatchLimits, LabelUse, evaluation_batches};
use crate::files::write_bytes_atomic;
use crate::program::Limits;
use crate::settings::no_answer::NoAnswer;
use crate::table::TextTable;
use crate::train::evaluate::logits;
use anyhow::Result;
use serde_json::{Map, Value};
use std::path::Path;

pub fn run(args: &EvalArgs) -> Result<()> {
    let compute = &args.compute;
    set_threads(compute.threads)?;
    let written = args.output.as_deref().unwrap_or(Path::new(outputs::STDOUT));
    let inputs = [args.data.as_path(), &args.delta];
    outputs::no_input("--output", written, &inputs)?;
    let mut trained = Trained::open(&args.delta, args.model.as_deref(), compute)?;
    outputs::no_input("--output", written, &[&trained.base])?;
    trained.answer_by(&args.answers)?;
    let options = read_options(&args.columns, LabelUse::Required, &trained.info);
    let targets = &trained.targets;
    let rules = LabelRules {
        task: trained.info.task,
        unlabelled: args.unlabelled.unwrap_or(trained.info.settings.unlabelled),
        known: targets.named(),
    };
    let examples = labelled::read(&args.data, &options, &rules, compute.quiet)?;
    let stride = args.stride.or(trained.info.settings.stride);
    let prepared =
        labelled::prepare(examples, "", targets, &trained.tokenizer, stride, compute.quiet)?;
    labelled::warn_of_evaluated(targets, prepared.labels());
    let dataset = &prepared.dataset;

    let lengths = dataset.lengths();
    let limits = BatchLimits { sequences: compute.batch_size, tokens: compute.batch_tokens };
    let batches = evaluation_batches(&lengths, limits)?;
    let largest = batches.largest(&lengths);
    trained.prepare(Limits {
        tokens: largest.tokens,
        sequences: largest.sequences,
        max_len: largest.len,
    })?;
    let counter = Counter::new("evaluating", Some(dataset.tokens() as u64), compute.quiet);
    let logits = logits(&mut trained.session, dataset, &batches, |tokens| {
        counter.add(tokens);
    })?;
    drop(counter);

    let rows = prepared.examples();
    let scores = prepared.score(&trained.targets, &logits);
    let mut out = TextTable::new(["measure", "value"]);
    out.row(["rows".to_owned(), rows.to_string()]);
    let mut json = Map::new();
    json.insert("rows".into(), rows.into());
    for (metric, value) in scores {
        out.row([metric.name().to_owned(), format!("{value:.4}")]);
        json.insert(metric.key().into(), value.into());
    }
    if let Some(threshold) = trained.targets.no_answer().and_then(NoAnswer::threshold) {
        out.row(["no-answer-threshold".to_owned(), format!("{threshold:.4}")]);
        json.insert("no_answer_threshold".into(), threshold.into());
    }
    show(out)?;
    if let Some(path) = &args.output {
        write_bytes_atomic(path, format!("{:#}\n", Value::Object(json)).as_bytes())?;
    }
    Ok(())
}
