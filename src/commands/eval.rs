//! `bitfit eval`: the measures of a trained delta on labelled texts.

use super::counter::Counter;
use super::labelled::{self, LabelRules};
use super::trained::Trained;
use super::{no_use, outputs, read_options, set_threads, show};
use crate::cli::EvalArgs;
use crate::data::{BatchLimits, LabelUse, evaluation_batches};
use crate::files::write_bytes_atomic;
use crate::program::Limits;
use crate::settings::task::Reads;
use crate::table::TextTable;
use crate::train::evaluate::logits;
use anyhow::Result;
use serde_json::{Map, Value, json};
use std::path::Path;

pub fn run(args: &EvalArgs) -> Result<()> {
    let compute = &args.compute;
    set_threads(compute.threads)?;
    let written = args.output.as_deref().unwrap_or(Path::new(outputs::STDOUT));
    let inputs = [args.data.as_path(), &args.delta];
    outputs::no_input("--output", written, &inputs)?;
    let mut trained = Trained::open(&args.delta, args.model.as_deref(), compute)?;
    outputs::no_input("--output", written, &[&trained.base])?;
    let options = read_options(&args.columns, LabelUse::Required, &trained.info);
    let targets = &trained.targets;
    let rules = LabelRules {
        task: trained.info.task,
        unlabelled: args.unlabelled.unwrap_or(trained.info.settings.unlabelled),
        known: targets.named(),
    };
    let texts = trained.info.task.facts().reads == Reads::Texts;
    no_use(args.unlabelled.is_some() && !texts, "--unlabelled", trained.info.task)?;
    no_use(args.stride.is_some() && texts, "--stride", trained.info.task)?;
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

    let scores = prepared.score(&trained.targets, &logits);
    labelled::warn_of_scores(&scores);
    let mut out = TextTable::new(["measure", "value"]);
    out.row(["rows".to_owned(), prepared.examples().to_string()]);
    let mut json = Map::new();
    json.insert("rows".into(), prepared.examples().into());
    for (metric, value) in scores {
        out.row([metric.name().to_owned(), format!("{value:.4}")]);
        json.insert(metric.key().into(), value.into());
    }
    show(out)?;
    let types = prepared.types(&trained.targets, &logits);
    if !types.is_empty() {
        let mut table = TextTable::new(["type", "precision", "recall", "f1", "entities"]);
        let mut each = Map::new();
        for (name, found) in types {
            let [precision, recall, f1] = [found.precision(), found.recall(), found.f1()];
            let figures = [precision, recall, f1].map(|value| format!("{value:.4}"));
            table.row([name.clone()].into_iter().chain(figures).chain([found.gold.to_string()]));
            let values = json!({
                "precision": precision, "recall": recall, "f1": f1, "entities": found.gold
            });
            each.insert(name, values);
        }
        json.insert("types".into(), each.into());
        show(format_args!("\n{table}"))?;
    }
    if let Some(path) = &args.output {
        write_bytes_atomic(path, format!("{:#}\n", Value::Object(json)).as_bytes())?;
    }
    Ok(())
}
