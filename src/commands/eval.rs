//! `bitfit eval`: the measures of a trained delta on labelled texts.

use super::counter::Counter;
use super::labelled::{self, LabelRules};
use super::trained::Trained;
use super::{
    confusions, named, no_use, outputs, programs, read_options, say, set_threads, show, warn,
};
use crate::cli::EvalArgs;
use crate::data::{BatchLimits, LabelUse, evaluation_batches};
use crate::error::UsageError;
use crate::files::write_named;
use crate::ranks::Ranks;
use crate::settings::benchmark::NamedTask;
use crate::settings::no_answer::NoAnswer;
use crate::settings::task::Reads;
use crate::table::TextTable;
use crate::tasks::baseline::Baseline;
use crate::tasks::collapse::nothing_learned;
use crate::tasks::entities::EntityTally;
use crate::tasks::evaluation::Evaluation;
use crate::tasks::examples::Examples;
use crate::tasks::labels::ClassNames;
use crate::tasks::look_alike::{doubt, hold_rows};
use crate::tasks::named_labels::in_words;
use crate::tasks::remarks::same_answer;
use crate::tasks::splitting::Splitting;
use crate::tasks::unlabelled::Cells;
use crate::train::evaluate::logits;
use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub fn run(args: &EvalArgs, ranks: &Rc<dyn Ranks>) -> Result<()> {
    if args.data.as_deref() == Some(Path::new("-")) {
        return Err(UsageError::new(format!(
            "--data -: eval reads only files; name one, or {} with --format if the system has it",
            outputs::STDIN
        ))
        .into());
    }
    let compute = &args.compute;
    set_threads(compute.threads, &**ranks)?;
    let written = args.output.as_deref().unwrap_or(Path::new(outputs::STDOUT));
    let inputs: Vec<&Path> = args.data.iter().chain([&args.delta]).map(PathBuf::as_path).collect();
    outputs::no_input("--output", written, &inputs)?;
    let mut trained = Trained::open(&args.delta, args.model.as_deref(), compute, ranks)?;
    outputs::no_input("--output", written, &[&trained.base])?;
    if let Some(path) = args.output.as_ref().filter(|_| ranks.first()) {
        outputs::can_all_be_written(&[("--output", path)])?;
    }
    trained.answer_by(&args.answers)?;
    trained.split_at(args.label_separator.as_deref())?;
    let limits = BatchLimits { sequences: compute.batch_size, tokens: compute.batch_tokens };
    let targets = &trained.targets;
    let texts = trained.info.task.facts().reads == Reads::Texts;
    no_use(args.unlabelled.is_some() && !texts, "--unlabelled", trained.info.task)?;
    no_use(args.stride.is_some() && texts, "--stride", trained.info.task)?;
    let stride = args.stride.or(trained.info.settings.stride);
    let mut parts = Vec::new();
    for (part, examples) in examples(args, &trained)? {
        let name = examples.name().to_owned();
        let prepared =
            labelled::prepare(examples, "", targets, &trained.tokenizer, stride, compute.quiet)?;
        labelled::warn_of_evaluated(targets, &prepared);
        labelled::warn_of_marks(targets, &prepared);
        let lengths = prepared.dataset.lengths();
        labelled::say_beyond_limit(compute.quiet, &lengths, limits.tokens);
        let batches = evaluation_batches(&lengths, limits)?;
        let largest = programs::limits(batches.largest(&lengths));
        parts.push((part, name, prepared, batches, largest));
    }
    let largest = parts.iter().map(|part| part.4).reduce(programs::larger);
    trained.prepare(largest.context("there is nothing to evaluate on")?)?;

    let positive = trained.info.settings.task.named().and_then(NamedTask::positive);
    let classes = trained.targets.named();
    let mut json = Map::new();
    for (place, (part, name, prepared, batches, _)) in parts.iter().enumerate() {
        let dataset = &prepared.dataset;
        let counter = Counter::new("evaluating", Some(dataset.tokens() as u64), compute.quiet);
        let logits = logits(&mut trained.session, dataset, batches, |tokens| counter.add(tokens))
            .with_context(|| name.clone())?;
        drop(counter);
        let found = Evaluation::of(part, prepared, &trained.targets, &logits, positive);
        if parts.len() > 1 {
            show(format_args!("{}{part} rows\n\n", if place > 0 { "\n" } else { "" }))?;
        }
        if found.one_answer {
            warn(same_answer(trained.info.task));
        }
        print(&found, prepared.examples(), args.per_class, classes)?;
        let baselines: Vec<_> = Baseline::of(&trained.targets, prepared).into_iter().collect();
        if let Some(text) = nothing_learned(&found, trained.info.task, classes, &baselines) {
            warn(text);
        }
        let types = prepared.types(&trained.targets, &logits);
        if args.per_class && found.each.is_empty() && types.is_empty() {
            warn(format_args!("--per-class: --task {} has no classes", trained.info.task));
        }
        let mut record = record(&found, prepared.examples(), args.per_class, classes);
        if !types.is_empty() {
            record.insert("types".into(), show_types(types)?.into());
        }
        match place {
            0 => json.extend(record),
            _ => drop(json.insert((*part).to_owned(), record.into())),
        }
    }
    if let Some(path) = args.output.as_ref().filter(|_| ranks.first()) {
        write_named(path, |file| Ok(writeln!(file, "{:#}", Value::Object(json))?))?;
    }
    Ok(())
}

/// Shows how well each type of entity is found; returns the same for a file.
fn show_types(types: BTreeMap<String, EntityTally>) -> Result<Map<String, Value>> {
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
    show(format_args!("\n{table}"))?;
    Ok(each)
}

/// The rows to evaluate on, by part: from a file, or those of a named task.
fn examples(args: &EvalArgs, trained: &Trained) -> Result<Vec<(&'static str, Examples)>> {
    let (quiet, info) = (args.compute.quiet, &trained.info);
    let unlabelled = args.unlabelled.unwrap_or(info.settings.unlabelled);
    let task = info.settings.task.named();
    let path = match (&args.data, task) {
        (Some(path), Some(_)) if !path.is_dir() => path,
        (data, Some(task)) => {
            let data = data.as_deref().or(trained.data.as_deref());
            let parts = named::dev_rows(data, task, unlabelled, quiet)?;
            return Ok(parts.into_iter().map(|(part, table)| (part, table.into())).collect());
        }
        (Some(path), None) => path,
        (None, None) => {
            return Err(
                UsageError::new("--data is missing: name the file with labelled texts").into()
            );
        }
    };
    let options = read_options(&args.columns, LabelUse::Required, info)?;
    let splitting = &Splitting::of(info.task, info.settings.label_separator.as_deref());
    let known = trained.targets.named();
    let cells = Cells { task: info.task, splitting, known, negative: false };
    let rules = LabelRules { unlabelled, cells };
    let mut examples = labelled::read(path, &options, &rules, quiet)?;
    if let (Some(task), Examples::Texts(table)) = (task, &mut examples) {
        hold_rows(table, task)?;
        doubt(table, task).iter().for_each(warn);
        in_words(table, task)?.iter().for_each(|note| say(quiet, note));
    }
    Ok(vec![("", examples)])
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
    if let Some(threshold) = found.no_answer.and_then(NoAnswer::threshold) {
        out.row(["no-answer-threshold".to_owned(), format!("{threshold:.4}")]);
    }
    show(out)?;
    let Some(classes) = classes else {
        return Ok(());
    };
    let each =
        (per_class && !found.each.is_empty()).then(|| confusions::each(&found.each, classes));
    let all = found.confusion.as_ref().map(|confusion| confusions::tables(confusion, classes));
    for table in each.into_iter().chain(all.into_iter().flatten()) {
        show(format_args!("\n{table}"))?;
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
    if let (Some(classes), true) = (classes, per_class && !found.each.is_empty()) {
        json.insert("classes".into(), confusions::each_json(&found.each, classes));
    }
    json
}
