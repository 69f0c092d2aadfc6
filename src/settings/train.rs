//! The settings of a training run, checked once; everything after the command line takes them from here.
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
    /// A separate file.
    #[serde(rename = "dev")]
    File(PathBuf),
    /// This share of the training file's rows, drawn with the run's seed and not trained on.
    #[serde(rename = "dev-fraction")]
    Fraction(f64),
}

/// Everything that determines a training run. Built by the command line, complete and checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrainConfig {
    /// A folder, or a name on the hub, `org/name` or `org/name@revision`.
    pub model: String,
    pub weights: WeightStorage,
    pub pooling: Pooling,
    pub pooler: PoolerInit,
    /// A safetensors file with the head's initial weights under their Hugging Face names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_head: Option<PathBuf>,
    /// A delta on the same base that provides the initial biases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_delta: Option<PathBuf>,

    pub method: Method,
    pub biases: BiasSelection,
    /// Only for `--method lora`.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub lora: Option<Lora>,

    /// `None` if a named task's rows come from `data`, or from the hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<PathBuf>,
    /// The folder with a named task's files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub dev: Option<DevSource>,
    /// Train on only this many rows, drawn with the seed; `None` means all.
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
    /// What separates the labels or numbers of a text; JSON lists need nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_separator: Option<String>,
    #[serde(default, skip_serializing_if = "Unlabelled::is_default")]
    pub unlabelled: Unlabelled,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<Weighting>,
    /// Tokens to keep of a text; `None` means the checkpoint's limit, otherwise its number of positions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// Tokens shared by consecutive windows on a long text; `None` means the task's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<usize>,
    /// Most tokens of an answer to a question; `None` means the task's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_answer_length: Option<usize>,
    /// The share of a text's tokens that are hidden, if the task is to predict them; `None` is 0.15.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_probability: Option<f64>,
    /// Hide words only as a whole.
    #[serde(default, skip_serializing_if = "is_false")]
    pub whole_word_masking: bool,
    /// Take the rows in file order in every epoch.
    pub no_shuffle: bool,

    #[serde(flatten)]
    pub length: Length,
    /// Sequences per batch.
    pub batch_size: usize,
    /// A batch also ends before it would exceed this many tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_tokens: Option<usize>,
    /// Batches whose gradients are summed for one optimizer step.
    pub grad_accumulation: usize,
    pub lr: Rate,
    pub betas: [f64; 2],
    pub eps: f64,
    pub weight_decay: f64,
    pub schedule: ScheduleKind,
    pub warmup: Warmup,
    /// Maximum norm of the gradient; 0 disables clipping.
    pub clip_norm: f64,
    /// For hidden states, attention probabilities and the head's input; `None` means the model config's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// Below 2^63, to fit the integers of the configuration file's format.
    pub seed: u64,

    /// Optimizer steps between evaluations; `None` is once per epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_steps: Option<u64>,
    /// The measure that chooses the best state; `None` means the first that the labels have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<Metric>,
    /// Evaluations without a better value before training stops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,

    pub saving: SavingChoice,
    /// Most bytes that the run may use on the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,

    /// Empty in a result, which may be anywhere.
    #[serde(default, skip_serializing_if = "is_nowhere")]
    pub output: PathBuf,
    /// Optimizer steps between checkpoints; `None` means at every evaluation and end of epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save_steps: Option<u64>,
    /// Minutes after which a checkpoint is saved in between, 0 for never; `None` means five, or never with
    /// `save_steps`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save_minutes: Option<f64>,
    /// Event files in addition to the log.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tensorboard: bool,

    pub device: DeviceChoice,
    pub precision: Precision,
    /// `None` means one per processor core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_nowhere(path: &Path) -> bool {
    path == Path::new("")
}

/// A model's name for others to read: for a folder `./NAME`, which no hub has.
pub fn without_place(model: &str) -> String {
    let folder = Path::new(model);
    match folder.is_dir() {
        true => {
            // For `.`, the folder's own name.
            let whole = folder.canonicalize().unwrap_or_default();
            let last = folder.file_name().or(whole.file_name()).unwrap_or_default();
            format!("./{}", last.to_string_lossy())
        }
        false => model.to_owned(),
    }
}

impl TrainConfig {
    /// The settings as stored in a result, without what only this machine knows: files by name only, and a model folder
    /// as `./NAME`, which no hub has. The same run in another folder gives the same settings.
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
            // How a run is watched is not part of its result.
            tensorboard: false,
            ..self.clone()
        }
    }

    /// What chooses the best state, as far as the task determines it without the labels.
    pub fn metric(&self) -> Metric {
        self.metric.unwrap_or_else(|| self.task.measures()[0])
    }

    /// Settings with every default, given the three that have none.
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

    /// The share of a text's tokens that are hidden, if the task is to predict them.
    pub fn mask_probability(&self) -> f64 {
        self.mask_probability.unwrap_or(MASK_PROBABILITY)
    }

    /// How the head reads the tokens, for a task on tokens.
    pub fn pooling_of_tokens(&self) -> PoolKind {
        self.task.kind().pooling_of_tokens(self.mask_probability())
    }

    /// The default rate: a named task's recipe has its own for frozen weights.
    pub fn usual_lr(method: Method, task: TaskChoice) -> f64 {
        match task.named() {
            Some(task) if method.is_as_published() => task.recipe.lr,
            _ => method.facts().lr,
        }
    }

    /// Whether there are rows to evaluate on: requested, or a named task's own.
    pub fn has_dev(&self) -> bool {
        self.dev.is_some() || self.train.is_none()
    }

    /// Tokens to keep of a text: as requested, otherwise as in a named task's recipe, within a model's `positions`.
    pub fn max_length(&self, positions: usize) -> Option<usize> {
        let of_recipe = |task: &NamedTask| task.recipe.max_length.min(positions);
        self.max_length.or(self.task.named().map(of_recipe))
    }

    /// The settings as a configuration file, without comments.
    ///
    /// # Errors
    /// None if the settings are valid.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        toml::to_string(self).context("cannot write the settings down")
    }

    /// Parses what [`to_toml`](Self::to_toml) wrote, as found in a delta file. A user's configuration file goes through
    /// the command line instead, which fills in defaults.
    ///
    /// # Errors
    /// A missing key, a value of the wrong kind or out of range.
    pub fn from_toml(text: &str) -> anyhow::Result<Self> {
        let mut config: Self =
            toml::from_str(text).context("the recorded training settings do not parse")?;
        // Earlier versions stored a measure even if there were no rows for it.
        config.metric = config.metric.filter(|_| config.has_dev());
        config.validate().context("the recorded training settings are not valid")?;
        Ok(config)
    }
}

#[cfg(test)]
#[path = "train_tests.rs"]
mod tests;
