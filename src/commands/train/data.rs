//! The texts of a run: its files read, split and tokenized.

use crate::commands::labelled::{self, LabelRules, warn_of_labels};
use crate::commands::{format, named, say, warn};
use crate::data::{self, ColumnNames, LabelUse, ReadOptions, TextTokenizer};
use crate::formats::columns::Columns;
use crate::settings::task::Task;
use crate::settings::train::{DevSource, TrainConfig};
use crate::tasks::examples::{Examples, Prepared};
use crate::tasks::labels::ClassNames;
use crate::tasks::look_alike::hold_rows;
use crate::tasks::named_labels::in_words;
use crate::tasks::splitting::Splitting;
use crate::tasks::tag_remarks;
use crate::tasks::targets::Targets;
use crate::tasks::unlabelled::Cells;
use anyhow::Result;

/// Tokenized training and dev rows.
pub struct Data {
    pub targets: Targets,
    /// None where the examples are documents.
    pub columns: Option<Columns>,
    pub train: Prepared,
    /// By the name that tells several apart; the first chooses the best state.
    pub dev: Vec<(&'static str, Prepared)>,
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
            label_lists: config.task.kind().takes_lists(),
            trained: None,
        };
        let named_task = config.task.named();
        let mut targets = named_task.map(Targets::of_named).transpose()?;
        let splitting = Splitting::of(config.task.kind(), config.label_separator.as_deref());
        let read = |path, options: &ReadOptions, known: Option<&ClassNames>| {
            let task = config.task.kind();
            let cells = Cells { task, splitting: &splitting, known };
            let rules = LabelRules { unlabelled: config.unlabelled, cells };
            let mut examples = labelled::read(path, options, &rules, quiet)?;
            if let (Some(task), Examples::Texts(table)) = (named_task, &mut examples) {
                hold_rows(table, task)?;
                in_words(table, task)?.iter().for_each(|note| say(quiet, note));
            }
            anyhow::Ok(examples)
        };
        let (whole, own_dev) = match (&config.train, named_task) {
            (None, Some(task)) => {
                let (train, dev) = named::training_rows(config, task, quiet)?;
                let dev = dev.into_iter().map(|(part, table)| (part, table.into()));
                (train.into(), dev.collect::<Vec<(_, Examples)>>())
            }
            (None, None) => anyhow::bail!("--train is missing"),
            (Some(path), _) => {
                let known = targets.as_ref().and_then(Targets::named);
                (read(path, &options, known)?, Vec::new())
            }
        };
        // From the whole file, so that a rare class is known whichever side of a split it is on.
        let targets = match targets.take() {
            Some(targets) => targets,
            None if config.task.kind() == Task::MaskedLm => {
                Targets::words(tokenizer.options().vocab_size, config)
            }
            None => Targets::of(config.task.kind(), splitting.clone(), &whole)?
                .reading_answers(config.max_answer_length, None),
        };
        if let Examples::Documents(documents) = &whole
            && let Some(odd) = tag_remarks::odd(documents)
        {
            warn(odd);
        }
        let columns = whole.columns().cloned();
        // The dev rows are read as those of the task are.
        options.trained = columns.clone();
        let train_sha256 = whole.sha256();
        let mut dev_sha256 = None;
        let (train, dev) = match &config.dev {
            None => {
                let hashes: Vec<_> = own_dev.iter().map(|(_, rows)| rows.sha256()).collect();
                dev_sha256 = (!hashes.is_empty()).then(|| hashes.join(" "));
                (whole, own_dev)
            }
            Some(DevSource::File(path)) => {
                let dev = read(path, &options, targets.named())?;
                dev_sha256 = Some(dev.sha256());
                (whole, vec![("", dev)])
            }
            Some(DevSource::Fraction(fraction)) => {
                let split = data::split(whole.len(), *fraction, config.seed)?;
                (whole.select(&split.train), vec![("", whole.select(&split.dev))])
            }
        };
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
        // Nothing is read off what is trained on.
        train.documents = None;
        train.dataset.for_training();
        let dev = dev.into_iter().map(|(part, rows)| Ok((part, prepare(rows, parts[1])?)));
        let dev = dev.collect::<Result<Vec<_>>>()?;
        warn_of_labels(&targets, train.labels(), dev.first().map(|(_, rows)| rows));
        Ok(Self { targets, columns, train, dev, train_sha256, dev_sha256 })
    }
}
