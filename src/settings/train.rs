//! The settings of a training run, checked once; everything behind the command line takes them from here.
//!
//! The serialised form uses the names of the command line's options as keys, so the file that a run leaves with
//! its results can be used with `--config`.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

use super::benchmark::NamedTask;
use super::biases::BiasSelection;
use super::bytes::ByteSize;
use super::choice::{FormatChoice, PoolerInit, Pooling, Precision, Unlabelled, WeightStorage};
use super::device::DeviceChoice;
use super::lora::Lora;
use super::method::Method;
use super::metric::Metric;
use super::rate::Rate;
use super::saving::SavingChoice;
use super::schedule::{ScheduleKind, Warmup};
use super::task::MASK_PROBABILITY;
use super::task_choice::TaskChoice;
use super::weighting::Weighting;
use crate::program::PoolKind;

/// How long to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Length {
    /// Passes over the training data.
    Epochs(u64),
    /// Optimizer steps.
    Steps(u64),
}

/// Where the rows for evaluation come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum DevSource {
    /// A file of its own.
    #[serde(rename = "dev")]
    File(PathBuf),
    /// This share of the training file's rows, drawn with the run's seed and not trained on.
    #[serde(rename = "dev-fraction")]
    Fraction(f64),
}

/// Everything that decides what a training run does. Made by the command line, complete and checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrainConfig {
    /// A folder, or a name on the hub, `org/name` or `org/name@revision`.
    pub model: String,
    pub weights: WeightStorage,
    pub pooling: Pooling,
    pub pooler: PoolerInit,
    /// A safetensors file with the head's first weights under their Hugging Face names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_head: Option<PathBuf>,
    /// A delta on the same base, whose biases are the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_delta: Option<PathBuf>,

    pub method: Method,
    pub biases: BiasSelection,
    /// Of `--method lora` alone.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub lora: Option<Lora>,

    /// `None` where a named task has its rows from `data`, or from the hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<PathBuf>,
    /// The folder with a named task's files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub dev: Option<DevSource>,
    /// So many of the rows to train on, drawn with the seed; `None` is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_rows: Option<usize>,
    pub format: FormatChoice,
    pub task: TaskChoice,
    /// Column names; `None` means the first of the usual names that the file has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_column: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_pair_column: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// What stands between the labels or numbers of a text; JSON lists need none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_separator: Option<String>,
    #[serde(default, skip_serializing_if = "Unlabelled::is_default")]
    pub unlabelled: Unlabelled,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<Weighting>,
    /// Tokens to keep of a text; `None` is as many as the checkpoint says, else as it has positions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// Tokens that the windows on a long text share; `None` is as the task has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<usize>,
    /// Most tokens of an answer to a question; `None` is as the task has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_answer_length: Option<usize>,
    /// The share of a text's tokens that are hidden, where words are to be found again; `None` is 0.15.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_probability: Option<f64>,
    /// Hide all tokens of a word or none.
    #[serde(default, skip_serializing_if = "is_false")]
    pub whole_word_masking: bool,
    /// Take the rows in the order of the file, every epoch.
    pub no_shuffle: bool,

    #[serde(flatten)]
    pub length: Length,
    /// Sequences per batch.
    pub batch_size: usize,
    /// A batch also ends before it would hold more tokens than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_tokens: Option<usize>,
    /// Batches whose gradients make one optimizer step.
    pub grad_accumulation: usize,
    pub lr: Rate,
    pub betas: [f64; 2],
    pub eps: f64,
    pub weight_decay: f64,
    pub schedule: ScheduleKind,
    pub warmup: Warmup,
    /// Highest norm of the gradient; 0 turns clipping off.
    pub clip_norm: f64,
    /// Of hidden states, attention probabilities and the head's input alike; `None` is what the model's config says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// Below 2^63, the largest integer of the configuration file's format.
    pub seed: u64,

    /// Optimizer steps between evaluations; `None` is once per epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_steps: Option<u64>,
    /// What is to choose the best state; `None` is what the labels have first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<Metric>,
    /// Evaluations without a better value before training stops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,

    pub saving: SavingChoice,
    /// Bytes that the run may take on the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,

    /// Empty in a result, which may be anywhere.
    #[serde(default, skip_serializing_if = "is_nowhere")]
    pub output: PathBuf,
    /// Optimizer steps between checkpoints; `None` is at every evaluation and end of epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save_steps: Option<u64>,
    /// Minutes after which a checkpoint is saved between those, 0 for never; `None` is five, or never with `save_steps`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save_minutes: Option<f64>,
    /// Event files beside the log.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tensorboard: bool,

    pub device: DeviceChoice,
    pub precision: Precision,
    /// `None` is one per processor core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_nowhere(path: &Path) -> bool {
    path == Path::new("")
}

/// A model's name as others can read it: of a folder `./NAME`, which no hub has.
pub fn without_place(model: &str) -> String {
    let folder = Path::new(model);
    match folder.is_dir() {
        true => {
            // Of `.`, the folder's own.
            let whole = folder.canonicalize().unwrap_or_default();
            let last = folder.file_name().or(whole.file_name()).unwrap_or_default();
            format!("./{}", last.to_string_lossy())
        }
        false => model.to_owned(),
    }
}

impl TrainConfig {
    /// The settings as a result carries them, without what is known on this machine alone: files by their names, and a
    /// model that is a folder as `./NAME`, which no hub has. The same run in another folder has the same.
    #[must_use]
    pub fn without_places(&self) -> Self {
        let name = |path: &Path| path.file_name().map(PathBuf::from).unwrap_or_default();
        let model = without_place(&self.model);
        Self {
            model,
            init_head: self.init_head.as_deref().map(name),
            init_delta: self.init_delta.as_deref().map(name),
            train: self.train.as_deref().map(name),
            data: self.data.as_deref().map(name),
            dev: self.dev.clone().map(|dev| match dev {
                DevSource::File(path) => DevSource::File(name(&path)),
                DevSource::Fraction(share) => DevSource::Fraction(share),
            }),
            class_weights: self.class_weights.clone().map(|weighting| match weighting {
                Weighting::File(path) => Weighting::File(name(&path)),
                other => other,
            }),
            output: PathBuf::new(),
            // Of how a run is watched, its result knows nothing.
            tensorboard: false,
            ..self.clone()
        }
    }

    /// What chooses the best state, as far as the task says it and not the labels.
    pub fn metric(&self) -> Metric {
        self.metric.unwrap_or_else(|| self.task.measures()[0])
    }

    /// Settings with every default, for the three things that have none.
    pub fn with_defaults(model: String, train: Option<PathBuf>, output: PathBuf) -> Self {
        Self {
            model,
            weights: WeightStorage::default(),
            pooling: Pooling::default(),
            pooler: PoolerInit::default(),
            init_head: None,
            init_delta: None,
            method: Method::default(),
            biases: BiasSelection::all(),
            lora: None,
            train,
            data: None,
            dev: None,
            train_rows: None,
            format: FormatChoice::default(),
            task: TaskChoice::default(),
            text_column: None,
            text_pair_column: None,
            label_column: None,
            label_separator: None,
            unlabelled: Unlabelled::default(),
            class_weights: None,
            max_length: None,
            stride: None,
            max_answer_length: None,
            mask_probability: None,
            whole_word_masking: false,
            no_shuffle: false,
            length: Length::Epochs(3),
            batch_size: 16,
            batch_tokens: None,
            grad_accumulation: 1,
            lr: Rate::Is(Method::default().facts().lr),
            betas: [0.9, 0.999],
            eps: 1e-6,
            weight_decay: 0.0,
            schedule: ScheduleKind::default(),
            warmup: Warmup::default(),
            clip_norm: 1.0,
            dropout: None,
            seed: 42,
            eval_steps: None,
            metric: None,
            patience: None,
            saving: SavingChoice::default(),
            memory: None,
            output,
            save_steps: None,
            save_minutes: None,
            tensorboard: false,
            device: DeviceChoice::default(),
            precision: Precision::default(),
            threads: None,
        }
    }

    /// The share of a text's tokens that are hidden, where words are to be found again.
    pub fn mask_probability(&self) -> f64 {
        self.mask_probability.unwrap_or(MASK_PROBABILITY)
    }

    /// How the head reads the tokens of a task on them.
    pub fn pooling_of_tokens(&self) -> PoolKind {
        self.task.kind().pooling_of_tokens(self.mask_probability())
    }

    /// The rate where nobody gives one: a named task's recipe has its own for frozen weights.
    pub fn usual_lr(method: Method, task: TaskChoice) -> f64 {
        match task.named() {
            Some(task) if method.is_as_published() => task.recipe.lr,
            _ => method.facts().lr,
        }
    }

    /// Whether there are rows to evaluate on: asked for, or a named task's own.
    pub fn has_dev(&self) -> bool {
        self.dev.is_some() || self.train.is_none()
    }

    /// Tokens to keep of a text: what is asked for, else what a named task's recipe has, within a model's `positions`.
    pub fn max_length(&self, positions: usize) -> Option<usize> {
        let of_recipe = |task: &NamedTask| task.recipe.max_length.min(positions);
        self.max_length.or(self.task.named().map(of_recipe))
    }

    /// The settings as a configuration file, without comments.
    ///
    /// # Errors
    /// None for settings that are valid.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        toml::to_string(self).context("cannot write the settings down")
    }

    /// Reads back what [`to_toml`](Self::to_toml) wrote, as found in a delta file. A configuration file by a user
    /// goes through the command line instead, which fills in defaults.
    ///
    /// # Errors
    /// A missing key, a value of the wrong kind or out of range.
    pub fn from_toml(text: &str) -> anyhow::Result<Self> {
        let mut config: Self =
            toml::from_str(text).context("the recorded training settings do not parse")?;
        // Earlier versions named a measure where no rows were there for it, too.
        config.metric = config.metric.filter(|_| config.has_dev());
        config.validate().context("the recorded training settings are not valid")?;
        Ok(config)
    }
}

#[cfg(test)]
#[path = "train_tests.rs"]
mod tests;
