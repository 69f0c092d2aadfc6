//! The texts of a run: its files read, split and tokenized.

use crate::commands::base::say_counts;
use crate::commands::counter::Counter;
use crate::commands::labelled::{self, LabelRules, warn_of_labels};
use crate::commands::{format, named, say};
use crate::data::{self, ColumnNames, Dataset, LabelUse, ReadOptions, Table, TextTokenizer};
use crate::formats::columns::Columns;
use crate::settings::choice::Task;
use crate::settings::train::{DevSource, TrainConfig};
use crate::tasks::labels::{ClassNames, Targets};
use crate::tasks::named::in_words;
use anyhow::{Context, Result};

/// Tokenized training and dev rows.
pub struct Data {
    pub targets: Targets,
    pub columns: Columns,
    pub train: Dataset,
    /// By the name that tells several apart; the first chooses the best state.
    pub dev: Vec<(&'static str, Dataset)>,
    /// Of the rows as read, before a split.
    pub train_sha256: String,
    /// Where the dev rows are in files of their own.
    pub dev_sha256: Option<String>,
}

impl Data {
    /// Reads the files, splits off the dev rows where they are a share, and tokenizes.
    ///
    /// # Errors
    /// A file that cannot be read or has no such column, a label that does not fit, too few rows for a split.
    pub fn read(config: &TrainConfig, tokenizer: &TextTokenizer, quiet: bool) -> Result<Self> {
        let mut options = ReadOptions {
            format: format(config.format),
            columns: ColumnNames {
                text: config.text_column.clone(),
                text_pair: config.text_pair_column.clone(),
                label: config.label_column.clone(),
            },
            label_use: LabelUse::Required,
            trained: None,
        };
        let named_task = config.task.named();
        let mut targets = named_task.map(Targets::of_named).transpose()?;
        let read = |path, options: &ReadOptions, known: Option<&ClassNames>| {
            let task = config.task.kind();
            let rules = LabelRules { task, unlabelled: config.unlabelled, known };
            let mut table = labelled::read(path, options, &rules, quiet)?;
            if let Some(task) = named_task {
                in_words(&mut table, task)?.iter().for_each(|note| say(quiet, note));
            }
            anyhow::Ok(table)
        };
        let (whole, own_dev) = match (&config.train, named_task) {
            (None, Some(task)) => named::training_rows(config, task, quiet)?,
            (None, None) => anyhow::bail!("--train is missing"),
            (Some(path), _) => {
                let known = targets.as_ref().and_then(Targets::classes);
                (read(path, &options, known)?, Vec::new())
            }
        };
        // From the whole file, so that a rare class is known whichever side of a split it is on.
        let targets = match (targets.take(), config.task.kind()) {
            (Some(targets), _) => targets,
            (None, Task::Classification) => Targets::Classes(ClassNames::from_table(&whole)?),
            (None, Task::Regression) => Targets::Values,
        };
        let columns = whole.columns.clone();
        // The dev rows are read as those of the task are.
        options.trained = Some(columns.clone());
        let train_sha256 = whole.sha256();
        let mut dev_sha256 = None;
        let (train, dev) = match &config.dev {
            None => {
                let hashes: Vec<_> = own_dev.iter().map(|(_, table)| table.sha256()).collect();
                dev_sha256 = (!hashes.is_empty()).then(|| hashes.join(" "));
                (whole, own_dev)
            }
            Some(DevSource::File(path)) => {
                let dev = read(path, &options, targets.classes())?;
                dev_sha256 = Some(dev.sha256());
                (whole, vec![("", dev)])
            }
            Some(DevSource::Fraction(fraction)) => {
                let split = data::split(whole.rows.len(), *fraction, config.seed)?;
                (whole.select(&split.train), vec![("", whole.select(&split.dev))])
            }
        };
        let tokenize = |table: &Table, part: &str| {
            let labels = targets.read(table)?;
            labelled::say_labels(quiet, table, part, &targets, &labels);
            let counter = Counter::new("tokenizing", Some(table.rows.len() as u64), quiet);
            let (dataset, counts) =
                Dataset::build(&table.rows, labels, tokenizer, &|rows| counter.add(rows))
                    .with_context(|| table.name.clone())?;
            drop(counter);
            say_counts(quiet, &table.name, counts, tokenizer.options().max_len);
            anyhow::Ok(dataset)
        };
        let parts = match config.dev {
            Some(DevSource::Fraction(_)) => [" (to train on)", " (to evaluate on)"],
            _ => [""; 2],
        };
        let train = tokenize(&train, parts[0])?;
        let dev = dev.into_iter().map(|(part, table)| Ok((part, tokenize(&table, parts[1])?)));
        let dev = dev.collect::<Result<Vec<_>>>()?;
        let first = dev.first().map(|(_, rows)| rows.labels());
        warn_of_labels(&targets, train.labels(), first);
        Ok(Self { targets, columns, train, dev, train_sha256, dev_sha256 })
    }
}
