//! The texts of a run: its files read, split and tokenized.

use crate::commands::labelled::{self, LabelRules, warn_of_labels};
use crate::commands::{format, named, say, warn};
use crate::data::{self, ColumnNames, LabelUse, ReadOptions, TextTokenizer};
use crate::formats::columns::Columns;
use crate::formats::delta::DataHashes;
use crate::settings::task::Task;
use crate::settings::train::{DevSource, TrainConfig};
use crate::tasks::baseline::Baseline;
use crate::tasks::examples::{Examples, Prepared};
use crate::tasks::labels::ClassNames;
use crate::tasks::look_alike::{doubt, hold_rows};
use crate::tasks::named_labels::in_words;
use crate::tasks::splitting::Splitting;
use crate::tasks::tag_remarks;
use crate::tasks::targets::Targets;
use crate::tasks::unlabelled::{Cells, has_negative};
use crate::words::count;
use anyhow::Result;

/// The rows of a run as its files have them.
pub struct RunRows {
    targets: Targets,
    /// None if the examples are documents.
    columns: Option<Columns>,
    /// Before a split.
    train: Examples,
    /// Those in separate files, by distinguishing name; the first chooses the best state.
    dev: Vec<(&'static str, Examples)>,
    pub hashes: DataHashes,
}

impl RunRows {
    /// Reads the files; `vocabulary` is for hidden words.
    ///
    /// # Errors
    /// A file that cannot be read or lacks a column, a label that does not fit.
    pub fn read(config: &TrainConfig, vocabulary: usize, quiet: bool) -> Result<Self> {
        let mut options = ReadOptions {
            format: format(config.format),
            columns: ColumnNames {
                text: config.text_column.clone(),
                text_pair: config.text_pair_column.clone(),
                label: config.label_column.clone(),
            },
            label_use: LabelUse::Required,
            label_lists: config.task.takes_lists(),
            trained: None,
        };
        let named_task = config.task.named();
        let mut targets = named_task.map(Targets::of_named).transpose()?;
        let splitting = Splitting::of(config.task.kind(), config.label_separator.as_deref());
        let read = |path, options: &ReadOptions, known: Option<&ClassNames>, negative: bool| {
            let task = config.task.kind();
            let cells = Cells { task, splitting: &splitting, known, negative };
            let rules = LabelRules { unlabelled: config.unlabelled, cells };
            let mut examples = labelled::read(path, options, &rules, quiet)?;
            if let (Some(task), Examples::Texts(table)) = (named_task, &mut examples) {
                hold_rows(table, task)?;
                doubt(table, task).iter().for_each(warn);
                in_words(table, task)?.iter().for_each(|note| say(quiet, note));
            }
            anyhow::Ok(examples)
        };
        let (train, mut dev) = match (&config.train, named_task) {
            (None, Some(task)) => {
                let (train, dev) = named::training_rows(config, task, quiet)?;
                let dev = dev.into_iter().map(|(part, table)| (part, table.into()));
                (train.into(), dev.collect::<Vec<(_, Examples)>>())
            }
            (None, None) => anyhow::bail!("--train is missing"),
            (Some(path), _) => {
                let known = targets.as_ref().and_then(Targets::named);
                (read(path, &options, known, false)?, Vec::new())
            }
        };
        // From the whole file, so that a rare class is known whichever side of a split it is on.
        let targets = match targets.take() {
            Some(targets) => targets,
            None if config.task.kind() == Task::MaskedLm => Targets::words(vocabulary, config),
            None => Targets::of(config.task.kind(), splitting.clone(), &train)?
                .reading_answers(config.max_answer_length, None),
        };
        if let Examples::Documents(documents) = &train
            && let Some(odd) = tag_remarks::odd(documents)
        {
            warn(odd);
        }
        let columns = train.columns().cloned();
        // The dev rows are read like the task's.
        options.trained = columns.clone();
        match &config.dev {
            None => {}
            Some(DevSource::File(path)) => {
                let known = targets.named();
                let cells = Cells {
                    task: config.task.kind(),
                    splitting: &splitting,
                    known,
                    negative: false,
                };
                let negative = config.task.kind() == Task::Regression
                    && train.table().is_some_and(|table| has_negative(table, cells));
                dev = vec![("", read(path, &options, known, negative)?)];
            }
            Some(DevSource::Fraction(_)) => dev.clear(),
        }
        let of_dev: Vec<_> = dev.iter().map(|(_, rows)| rows.sha256()).collect();
        let hashes = DataHashes {
            train: train.sha256(),
            dev: (!of_dev.is_empty()).then(|| of_dev.join(" ")),
        };
        Ok(Self { targets, columns, train, dev, hashes })
    }
}

/// Tokenized training and dev rows.
pub struct Data {
    pub targets: Targets,
    /// None if the examples are documents.
    pub columns: Option<Columns>,
    pub train: Prepared,
    /// By distinguishing name; the first chooses the best state.
    pub dev: Vec<(&'static str, Prepared)>,
    /// For each of these, what is reached without reading a text.
    pub baselines: Vec<Vec<Baseline>>,
    /// Of the rows as read, before a split.
    pub hashes: DataHashes,
    /// Of the dev rows that choose, after the split.
    pub dev_sha256: Option<String>,
}

impl Data {
    /// Reads the files, splits off the dev rows if they are a share, and tokenizes.
    ///
    /// # Errors
    /// As [`RunRows::read`]; too few rows for a split.
    pub fn read(config: &TrainConfig, tokenizer: &TextTokenizer, quiet: bool) -> Result<Self> {
        let vocabulary = tokenizer.options().vocab_size;
        let rows = RunRows::read(config, vocabulary, quiet)?;
        let RunRows { targets, columns, train, dev, hashes } = rows;
        let (train, dev) = match config.dev {
            Some(DevSource::Fraction(fraction)) => {
                let split = data::split(train.len(), fraction, config.seed)?;
                (train.select(&split.train), vec![("", train.select(&split.dev))])
            }
            _ => (train, dev),
        };
        let train = match config.train_rows {
            None => train,
            Some(rows) => {
                let drawn = data::draw(train.len(), rows, config.seed)?;
                say(
                    quiet,
                    format_args!(
                        "{}: training on {} of the {}, drawn with seed {}",
                        train.name(),
                        drawn.len(),
                        count(train.len(), "row"),
                        config.seed
                    ),
                );
                train.select(&drawn)
            }
        };
        let dev_sha256 = dev.first().map(|(_, rows)| rows.sha256());
        for (_, dev) in &dev {
            labelled::say_shared(quiet, &train, dev);
        }
        let parts = match config.dev {
            Some(DevSource::Fraction(_)) => [" (to train on)", " (to evaluate on)"],
            _ => [""; 2],
        };
        let prepare = |examples, part| {
            labelled::prepare(examples, part, &targets, tokenizer, config.stride, quiet)
        };
        labelled::say_contradictions(quiet, &train, &targets);
        let mut train = prepare(train, parts[0])?;
        let dev = dev.into_iter().map(|(part, rows)| Ok((part, prepare(rows, parts[1])?)));
        let dev = dev.collect::<Result<Vec<_>>>()?;
        let baselines = dev.iter().map(|(_, dev)| baselines(&targets, &train, dev)).collect();
        // Nothing else is read from the training rows.
        train.documents = None;
        train.dataset.for_training();
        warn_of_labels(&targets, train.labels(), dev.first().map(|(_, rows)| rows));
        Ok(Self { targets, columns, train, dev, baselines, hashes, dev_sha256 })
    }
}

/// What is reached on dev rows without reading a text.
fn baselines(targets: &Targets, train: &Prepared, dev: &Prepared) -> Vec<Baseline> {
    let of_words = match (&train.documents, &dev.documents) {
        (Some(train), Some(dev)) => Baseline::of_words(targets, &train.documents, &dev.documents),
        _ => None,
    };
    Baseline::of(targets, dev).into_iter().chain(of_words).collect()
}
