//! `bitfit eval`: the measures of a trained delta on labelled texts.

use super::base::say_counts;
use super::counter::Counter;
use super::labelled::{self, LabelRules};
use super::trained::Trained;
use super::{confusions, named, outputs, programs, read_options, say, set_threads, show, warn};
use crate::cli::EvalArgs;
use crate::data::{BatchLimits, Dataset, LabelUse, evaluation_batches};
use crate::error::UsageError;
use crate::files::write_bytes_atomic;
use crate::settings::benchmark::NamedTask;
use crate::table::TextTable;
use crate::tasks::collapse::collapsed;
use crate::tasks::evaluation::Evaluation;
use crate::tasks::labels::ClassNames;
use crate::tasks::named::in_words;
use crate::train::evaluate::logits;
use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

pub fn run(args: &EvalArgs) -> Result<()> {
    let compute = &args.compute;
    set_threads(compute.threads)?;
    let written = args.output.as_deref().unwrap_or(Path::new(outputs::STDOUT));
    let inputs: Vec<&Path> = args.data.iter().chain([&args.delta]).map(PathBuf::as_path).collect();
    outputs::no_input("--output", written, &inputs)?;
    let mut trained = Trained::open(&args.delta, args.model.as_deref(), compute)?;
    outputs::no_input("--output", written, &[&trained.base])?;
    let tables = tables(args, &trained)?;
    let limits = BatchLimits { sequences: compute.batch_size, tokens: compute.batch_tokens };
    let targets = &trained.targets;
    let mut parts = Vec::new();
    for (part, table) in &tables {
        let labels = targets.read(table)?;
        labelled::say_labels(compute.quiet, table, "", targets, &labels);
        labelled::warn_of_evaluated(targets, &labels);
        let (dataset, counts) = Dataset::build(&table.rows, labels, &trained.tokenizer, &|_| {})
            .with_context(|| table.name.clone())?;
        say_counts(compute.quiet, &table.name, counts, trained.tokenizer.options().max_len);
        let lengths = dataset.lengths();
        let batches = evaluation_batches(&lengths, limits)?;
        let largest = programs::limits(batches.largest(&lengths));
        parts.push((*part, dataset, batches, largest));
    }
    let largest = parts.iter().map(|part| part.3).reduce(programs::larger);
    trained.prepare(largest.context("there is nothing to evaluate on")?)?;

    let outputs = trained.session.model().head.outputs();
    let positive = trained.info.settings.task.named().and_then(NamedTask::positive);
    let classes = trained.targets.classes();
    let mut json = Map::new();
    for (place, (part, dataset, batches, _)) in parts.iter().enumerate() {
        let counter = Counter::new("evaluating", Some(dataset.tokens() as u64), compute.quiet);
        let logits = logits(&mut trained.session, dataset, batches, |tokens| counter.add(tokens))?;
        drop(counter);
        let found = Evaluation::of(part, &logits, outputs, dataset.labels(), positive);
        if parts.len() > 1 {
            show(format_args!("{}{part} rows\n\n", if place > 0 { "\n" } else { "" }))?;
        }
        print(&found, dataset.len(), args.per_class, classes)?;
        let record = record(&found, dataset.len(), args.per_class, classes);
        match place {
            0 => json.extend(record),
            _ => drop(json.insert((*part).to_owned(), record.into())),
        }
    }
    if let Some(path) = &args.output {
        write_bytes_atomic(path, format!("{:#}\n", Value::Object(json)).as_bytes())?;
    }
    Ok(())
}

/// The rows to evaluate on, by part: of a file, or those of a named task.
fn tables(args: &EvalArgs, trained: &Trained) -> Result<named::PartTables> {
    let (quiet, info) = (args.compute.quiet, &trained.info);
    let unlabelled = args.unlabelled.unwrap_or(info.settings.unlabelled);
    let task = info.settings.task.named();
    let path = match (&args.data, task) {
        (Some(path), Some(_)) if !path.is_dir() => path,
        (data, Some(task)) => {
            let data = data.as_deref().or(info.settings.data.as_deref());
            return named::dev_rows(data, task, unlabelled, quiet);
        }
        (Some(path), None) => path,
        (None, None) => {
            return Err(UsageError::new(
                "--data is missing: it names the file with labelled texts",
            )
            .into());
        }
    };
    let options = read_options(&args.columns, LabelUse::Required, info);
    let rules = LabelRules { task: info.task, unlabelled, known: trained.targets.classes() };
    let mut table = labelled::read(path, &options, &rules, quiet)?;
    if let Some(task) = task {
        in_words(&mut table, task)?.iter().for_each(|note| say(quiet, note));
    }
    Ok(vec![("", table)])
}

fn print(
    found: &Evaluation,
    rows: usize,
    per_class: bool,
    classes: Option<&ClassNames>,
) -> Result<()> {
    let mut out = TextTable::new(["measure", "value"]);
    out.row(["rows".to_owned(), rows.to_string()]);
    for (metric, value) in &found.scores {
        out.row([metric.name().to_owned(), format!("{value:.4}")]);
    }
    show(out)?;
    if let (Some(confusion), Some(classes)) = (&found.confusion, classes) {
        let each = per_class.then(|| confusions::per_class(confusion, classes));
        for table in each.into_iter().chain(confusions::tables(confusion, classes)) {
            show(format_args!("\n{table}"))?;
        }
        if let Some(text) = collapsed(confusion, classes) {
            warn(text);
        }
    }
    Ok(())
}

/// For a file.
fn record(
    found: &Evaluation,
    rows: usize,
    per_class: bool,
    classes: Option<&ClassNames>,
) -> Map<String, Value> {
    let mut json = confusions::json(found, classes);
    json.insert("rows".into(), rows.into());
    if let (Some(confusion), Some(classes), true) = (&found.confusion, classes, per_class) {
        json.insert("classes".into(), confusions::per_class_json(confusion, classes));
    }
    json
}
