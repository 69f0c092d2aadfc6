//! `bitfit eval`: the measures of a trained delta on labelled texts.

use super::base::say_counts;
use super::counter::Counter;
use super::trained::Trained;
use super::{read_options, set_threads, show};
use crate::cli::EvalArgs;
use crate::data::{BatchLimits, Dataset, LabelUse, Table, evaluation_batches};
use crate::files::write_bytes_atomic;
use crate::program::Limits;
use crate::table::TextTable;
use crate::tasks::score::score;
use crate::train::evaluate::logits;
use anyhow::{Context, Result};
use serde_json::{Map, Value};

pub fn run(args: &EvalArgs) -> Result<()> {
    let compute = &args.compute;
    set_threads(compute.threads)?;
    let mut trained = Trained::open(&args.delta, args.model.as_deref(), compute)?;
    let mut options = read_options(&args.columns, LabelUse::Required);
    let settings = &trained.info.settings;
    // Where the user names no column, the names of the training run come before the usual ones.
    let columns = &mut options.columns;
    columns.text = columns.text.take().or_else(|| settings.text_column.clone());
    columns.text_pair = columns.text_pair.take().or_else(|| settings.text_pair_column.clone());
    columns.label = columns.label.take().or_else(|| settings.label_column.clone());

    let table = Table::read(&args.data, &options)?;
    let labels = trained.targets.read(&table)?;
    let (dataset, counts) = Dataset::build(&table.rows, labels, &trained.tokenizer, &|_| {})
        .with_context(|| table.name.clone())?;
    say_counts(compute.quiet, &table.name, counts, trained.tokenizer.options().max_len);

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
    let logits = logits(&mut trained.session, &dataset, &batches, |tokens| {
        counter.add(tokens);
    })?;
    drop(counter);

    let scores = score(&logits, trained.session.model().head.outputs(), dataset.labels());
    let mut out = TextTable::new(["measure", "value"]);
    out.row(["rows".to_owned(), dataset.len().to_string()]);
    let mut json = Map::new();
    json.insert("rows".into(), dataset.len().into());
    for (metric, value) in scores {
        out.row([metric.name().to_owned(), format!("{value:.4}")]);
        json.insert(metric.key().into(), value.into());
    }
    show(out)?;
    if let Some(path) = &args.output {
        write_bytes_atomic(path, format!("{:#}\n", Value::Object(json)).as_bytes())?;
    }
    Ok(())
}
