//! The texts of a run: its files read, split and tokenized.

use crate::commands::format;
use crate::commands::labelled::{self, LabelRules, warn_of_labels, warn_of_threshold};
use crate::data::{self, ColumnNames, LabelUse, ReadOptions, TextTokenizer};
use crate::formats::columns::Columns;
use crate::settings::train::{DevSource, TrainConfig};
use crate::tasks::examples::Prepared;
use crate::tasks::splitting::Splitting;
use crate::tasks::targets::Targets;
use anyhow::Result;

/// Tokenized training and dev rows.
pub struct Data {
    pub targets: Targets,
    /// None where the examples are documents.
    pub columns: Option<Columns>,
    pub train: Prepared,
    pub dev: Option<Prepared>,
    /// Of the rows as read, before a split.
    pub train_sha256: String,
    /// Where the dev rows are a file of their own.
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
            label_lists: config.task.takes_lists(),
            trained: None,
        };
        let mut rules =
            LabelRules { task: config.task, unlabelled: config.unlabelled, known: None };
        let whole = labelled::read(&config.train, &options, &rules, quiet)?;
        // From the whole file, so that a rare class is known whichever side of a split it is on.
        let splitting = Splitting::of(config.task, config.label_separator.as_deref());
        let targets = Targets::of(config.task, splitting, &whole)?
            .reading_answers(config.max_answer_length, None);
        let columns = whole.columns().cloned();
        // The dev rows are read as those of the task are.
        options.trained = columns.clone();
        rules.known = targets.named();
        let train_sha256 = whole.sha256();
        let mut dev_sha256 = None;
        let (train, dev) = match &config.dev {
            None => (whole, None),
            Some(DevSource::File(path)) => {
                let dev = labelled::read(path, &options, &rules, quiet)?;
                dev_sha256 = Some(dev.sha256());
                (whole, Some(dev))
            }
            Some(DevSource::Fraction(fraction)) => {
                let split = data::split(whole.len(), *fraction, config.seed)?;
                (whole.select(&split.train), Some(whole.select(&split.dev)))
            }
        };
        let parts = match config.dev {
            Some(DevSource::Fraction(_)) => [" (to train on)", " (to evaluate on)"],
            _ => [""; 2],
        };
        let prepare = |examples, part| {
            labelled::prepare(examples, part, &targets, tokenizer, config.stride, quiet)
        };
        let mut train = prepare(train, parts[0])?;
        // Nothing is read off what is trained on.
        train.documents = None;
        let dev = dev.map(|dev| prepare(dev, parts[1])).transpose()?;
        warn_of_labels(&targets, train.labels(), dev.as_ref().map(Prepared::labels));
        warn_of_threshold(&targets, dev.as_ref());
        Ok(Self { targets, columns, train, dev, train_sha256, dev_sha256 })
    }
}
