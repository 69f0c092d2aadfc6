//! The answers to a named task's test rows, as the files that the benchmark's site accepts.

use super::base::say_counts;
use super::trained::Trained;
use super::{named, outputs, programs, say, warn};
use crate::batch::Labels;
use crate::cli::{ComputeArgs, PredictArgs};
use crate::data::{BatchLimits, Dataset, evaluation_batches};
use crate::error::UsageError;
use crate::files::{only_files, write_bytes_atomic};
use crate::formats::delta::DeltaInfo;
use crate::ranks::{Alone, Ranks};
use crate::settings::benchmark::{Answers, NamedTask, Suite, TaskPart};
use crate::settings::train::TrainConfig;
use crate::tasks::classification::argmax;
use crate::tasks::named::PartRows;
use crate::tasks::submission::{answers_jsonl, answers_tsv, word_of};
use crate::temporary::takes_files;
use crate::train::evaluate::logits;
use crate::words::count;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::rc::Rc;

/// Tokens per batch: more would not be faster.
const TOKENS: usize = 8192;

type TestRows = Vec<(&'static NamedTask, &'static TaskPart, PartRows)>;

/// Whether a run can be followed by its test rows: checked before it begins.
///
/// # Errors
/// Missing test rows; a path that is not a folder.
pub fn possible(config: &TrainConfig, folder: &Path) -> Result<()> {
    let task = config.task.named().context("--predict-test is for a named task")?;
    has_room(folder, task)?;
    named::test_rows(config.data.as_deref(), task, false, true).map(drop)
}

/// Answers the test rows with a run's result.
///
/// # Errors
/// As [`run`].
pub fn after_training(config: &TrainConfig, folder: &Path, quiet: bool) -> Result<()> {
    let compute = ComputeArgs {
        weights: None,
        batch_size: 32,
        batch_tokens: None,
        max_length: None,
        device: config.device,
        precision: config.precision,
        threads: config.threads,
        quiet,
    };
    let task = config.task.named().context("--predict-test is for a named task")?;
    let rows = test_rows(config.data.as_deref(), task, quiet)?;
    let alone: Rc<dyn Ranks> = Rc::new(Alone);
    let trained = Trained::open(&config.output, None, &compute, &alone)?;
    answer(trained, rows, &compute, folder)
}

/// `bitfit predict --predict-test`.
///
/// # Errors
/// A model of another task, missing test rows, or a file that cannot be written, in which case none is replaced.
pub fn run(args: &PredictArgs, folder: &Path) -> Result<()> {
    let alone: Rc<dyn Ranks> = Rc::new(Alone);
    let trained = Trained::open(&args.delta, args.model.as_deref(), &args.compute, &alone)?;
    let info = &trained.info;
    let task = args.task.unwrap_or(info.settings.task).named().ok_or_else(|| {
        UsageError::new(
            "--predict-test answers the test rows of a named task, and this model was not trained on one: name it \
             with --task",
        )
    })?;
    fits(info, task)?;
    has_room(folder, task)?;
    let data = args.data.as_deref().or(trained.data.as_deref());
    let rows = test_rows(data, task, args.compute.quiet)?;
    answer(trained, rows, &args.compute, folder)
}

/// Checks that the answers can be written there, since that comes last.
fn has_room(folder: &Path, task: &'static NamedTask) -> Result<()> {
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    if !there.is_dir() {
        bail!("--predict-test {}: {} is a file; name a folder", folder.display(), there.display());
    }
    takes_files(there)
        .with_context(|| format!("--predict-test {}: cannot write there", folder.display()))?;
    let tasks = std::iter::once(task).chain(task.answered_besides());
    let files: Vec<_> = tasks.flat_map(|task| task.test).map(|part| part.submission).collect();
    only_files(folder, &files).context("--predict-test")
}

/// Whether a model's answers are those of a task.
fn fits(info: &DeltaInfo, task: &NamedTask) -> Result<()> {
    let trained_on = info.settings.task;
    if let Some(other) = trained_on.named()
        && other != task
        && task.trained_as != Some(other.name)
    {
        bail!(
            "this model was trained on {}, and the test rows are those of {}",
            other.title,
            task.title
        );
    }
    if info.task != task.kind() {
        bail!(
            "this model was trained on --task {trained_on}, and {} is another kind of task",
            task.title
        );
    }
    let pairs = info.columns.as_ref().is_none_or(|columns| columns.text_pair.is_some());
    if info.columns.is_some() && pairs != task.columns.pair.is_some() {
        bail!(
            "this model was trained on {}, and {} has {}",
            if pairs { "pairs of texts" } else { "single texts" },
            task.title,
            if pairs { "single texts" } else { "pairs" }
        );
    }
    let mut words: Vec<_> = info.labels.iter().filter_map(|label| word_of(task, label)).collect();
    words.sort_unstable();
    words.dedup();
    if words.len() != task.classes().len() || words.len() != info.labels.len() {
        bail!(
            "this model's classes are {}, and those of {} are {}",
            info.labels.join(", "),
            task.title,
            task.classes().iter().map(|class| class.name).collect::<Vec<_>>().join(", ")
        );
    }
    Ok(())
}

/// Those of the task, and of other tasks that its models also answer.
fn test_rows(data: Option<&Path>, task: &'static NamedTask, quiet: bool) -> Result<TestRows> {
    let own = named::test_rows(data, task, false, quiet)?;
    let mut rows: TestRows = own.into_iter().map(|(part, rows)| (task, part, rows)).collect();
    for other in task.answered_besides() {
        match named::test_rows(data, other, true, quiet) {
            Ok(found) if found.is_empty() => {
                say(quiet, format_args!("{} has no rows: left out", other.title));
            }
            Ok(found) => rows.extend(found.into_iter().map(|(part, rows)| (other, part, rows))),
            Err(error) => warn(format_args!("{} left out: {error:#}", other.title)),
        }
    }
    Ok(rows)
}

/// Runs the model over all rows, then writes all files.
fn answer(
    mut trained: Trained,
    rows: TestRows,
    compute: &ComputeArgs,
    folder: &Path,
) -> Result<()> {
    for (_, part, rows) in &rows {
        let file = folder.join(part.submission);
        outputs::no_input("--predict-test", &file, &[Path::new(&rows.table.name)])?;
    }
    let max_len = trained.tokenizer.options().max_len;
    let tokens = compute.batch_tokens.unwrap_or(TOKENS).max(max_len);
    let limits = BatchLimits { sequences: compute.batch_size, tokens: Some(tokens) };
    let mut parts = Vec::new();
    for (task, part, PartRows { table, index, .. }) in rows {
        let (dataset, counts) =
            Dataset::build(&table.rows, Labels::None, &trained.tokenizer, &|_| {})
                .with_context(|| table.name.clone())?;
        say_counts(compute.quiet, &table.name, counts, max_len);
        let lengths = dataset.lengths();
        let batches = evaluation_batches(&lengths, limits)?;
        let largest = programs::limits(batches.largest(&lengths));
        parts.push((task, part, table.name, index, dataset, batches, largest));
    }
    let largest = parts.iter().map(|part| part.6).reduce(programs::larger);
    trained.prepare(largest.context("there are no test rows")?)?;
    let outputs = trained.session.model().head.outputs();
    let labels = trained.info.labels.clone();
    let mut files = Vec::new();
    for (task, part, name, index, dataset, batches, _) in parts {
        let logits = logits(&mut trained.session, &dataset, &batches, |_| {})
            .with_context(|| name.clone())?;
        let words = logits.chunks_exact(outputs).map(|row| match task.answers {
            Answers::Scores(least, most) => Ok(row[0].clamp(least, most).to_string()),
            Answers::Classes(_) => {
                let label = labels.get(argmax(row) as usize).context("a class without a name")?;
                word_of(task, label)
                    .map(str::to_owned)
                    .context("a class that the task does not have")
            }
        });
        let words: Vec<String> = words.collect::<Result<_>>()?;
        let text = match task.suite {
            Suite::Glue => answers_tsv(&index, &words),
            Suite::SuperGlue => answers_jsonl(&index, &words)?,
        };
        files.push((folder.join(part.submission), text, words.len()));
    }
    std::fs::create_dir_all(folder)
        .with_context(|| format!("--predict-test {}: cannot make the folder", folder.display()))?;
    for (path, text, rows) in files {
        write_bytes_atomic(&path, text.as_bytes())?;
        say(compute.quiet, format_args!("{}: {}", path.display(), count(rows, "answer")));
    }
    Ok(())
}
