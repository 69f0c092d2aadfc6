//! The settings of a training run, checked once; everything behind the command line takes them from here.
//!
//! The serialised form uses the names of the command line's options as keys, so the file that a run leaves beside
//! its results can be given back with `--config`.

use crate::backend::cuda::HalfType;
use crate::settings::device::DeviceChoice;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::biases::BiasSelection;
use crate::bytes::ByteSize;
use crate::error::UsageError;
use crate::methods::Trains;
use crate::program::Saving;
use crate::train::metrics::Metric;
use crate::train::schedule::{ScheduleKind, Warmup};

/// Prints an option's value the way it is written on the command line.
macro_rules! display_as_value {
    ($($type:ty),+ $(,)?) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Only a skipped variant has no name, and none of ours is skipped.
                match self.to_possible_value() {
                    Some(value) => f.pad(value.get_name()),
                    None => Err(fmt::Error),
                }
            }
        }
    )+};
}

display_as_value!(
    Task,
    Method,
    Pooling,
    PoolerInit,
    WeightType,
    Precision,
    FileFormat,
    ScheduleKind
);

/// What the labels are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Labels are classes, words or integers; cross-entropy loss
    #[default]
    Classification,
    /// Labels are numbers; mean squared error
    Regression,
}

/// What trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The biases that --biases selects, and the head
    #[default]
    Bitfit,
    /// The head alone; the whole encoder stays as it is
    Head,
    /// Everything: matrices, embedding tables, LayerNorms, biases and head; leaves a whole model, not a delta
    Full,
}

impl Method {
    /// The usual highest learning rate: ten to a hundred times lower where the matrices train.
    pub fn default_lr(self) -> f64 {
        match self {
            Self::Bitfit | Self::Head => 1e-3,
            Self::Full => 5e-5,
        }
    }

    /// How weights are stored where nothing is said: those that train are f32.
    pub fn default_weights(self) -> WeightType {
        match self {
            Self::Bitfit | Self::Head => WeightType::default(),
            Self::Full => WeightType::F32,
        }
    }
}

/// How the token vectors become one vector a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// What the checkpoint was made for
    #[default]
    Auto,
    /// The first token, through the model's pooler
    Cls,
    /// The mean over all tokens
    Mean,
}

/// Where the pooler's weights come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum PoolerInit {
    /// The checkpoint's own pooler
    #[default]
    Keep,
    /// Fresh random weights, from --seed
    Reinit,
}

/// How the frozen weights are stored. Arithmetic is f32 either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum WeightType {
    /// 16 bits: half the memory, weights rounded to 11 significant bits
    #[default]
    F16,
    /// 32 bits: the checkpoint's values to the last bit
    F32,
    /// 8 bits, a scale a row
    Int8,
    /// 4 bits, NF4 as in QLoRA; embeddings in 8
    Nf4,
}

/// The 16-bit type of matrices and activations on a GPU; sums are f32 either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// The range of f32, 8 significant bits
    #[default]
    Bf16,
    /// 11 significant bits; gradients are scaled to fit its range
    F16,
}

impl From<Precision> for HalfType {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::Bf16 => Self::Bf16,
            Precision::F16 => Self::F16,
        }
    }
}

/// What is kept of the forward pass for backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum SavingChoice {
    /// The fastest exact way that fits `--memory`; without that, everything is kept.
    #[default]
    Auto,
    Only(Saving),
}

impl FromStr for SavingChoice {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<Self, UsageError> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text.parse().map(Self::Only),
        }
    }
}

impl TryFrom<String> for SavingChoice {
    type Error = UsageError;

    fn try_from(text: String) -> Result<Self, UsageError> {
        text.parse()
    }
}

impl From<SavingChoice> for String {
    fn from(choice: SavingChoice) -> Self {
        choice.to_string()
    }
}

impl fmt::Display for SavingChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Only(saving) => saving.fmt(f),
        }
    }
}

/// The format of a data file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum FileFormat {
    /// By the file's extension: .tsv or .txt, .csv, .jsonl or .json
    #[default]
    Auto,
    /// Tab separated, with a header line
    Tsv,
    /// Comma separated, with a header line
    Csv,
    /// One JSON object a line
    Jsonl,
}

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
    pub weights: WeightType,
    pub pooling: Pooling,
    pub pooler: PoolerInit,
    /// A safetensors file with the head's first weights under their Hugging Face names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_head: Option<PathBuf>,

    pub method: Method,
    pub biases: BiasSelection,

    pub train: PathBuf,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub dev: Option<DevSource>,
    pub format: FileFormat,
    pub task: Task,
    /// Column names; `None` means the first of the usual names that the file has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_column: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_pair_column: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// Tokens to keep of a text; `None` is as many as the model has positions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// Take the rows in the order of the file, every epoch.
    pub no_shuffle: bool,

    #[serde(flatten)]
    pub length: Length,
    /// Sequences a batch.
    pub batch_size: usize,
    /// A batch also ends before it would hold more tokens than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_tokens: Option<usize>,
    /// Batches whose gradients make one optimizer step.
    pub grad_accumulation: usize,
    pub lr: f64,
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

    /// Optimizer steps between evaluations; `None` is once an epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_steps: Option<u64>,
    pub metric: Metric,
    /// Evaluations without a better value before training stops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,

    pub saving: SavingChoice,
    /// Bytes that the run may take on the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,

    pub output: PathBuf,
    /// Optimizer steps between checkpoints; `None` is at every evaluation and end of epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save_steps: Option<u64>,

    pub device: DeviceChoice,
    pub precision: Precision,
    /// `None` is one a processor core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
}

/// A setting that cannot be: the option's name without dashes, and what is wrong with its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--{option} {problem}")]
pub struct InvalidSetting {
    pub option: &'static str,
    pub problem: String,
}

impl From<InvalidSetting> for UsageError {
    fn from(invalid: InvalidSetting) -> Self {
        UsageError::new(invalid.to_string())
    }
}

/// `Ok` if `holds`, else "--option must …, got …".
fn require(
    holds: bool,
    option: &'static str,
    must: &str,
    value: &dyn fmt::Display,
) -> Result<(), InvalidSetting> {
    if holds {
        return Ok(());
    }
    Err(InvalidSetting {
        option,
        problem: format!("must {must}, got {value}"),
    })
}

impl TrainConfig {
    /// Settings with every default, for the three things that have none.
    pub fn with_defaults(model: String, train: PathBuf, output: PathBuf) -> Self {
        Self {
            model,
            weights: WeightType::default(),
            pooling: Pooling::default(),
            pooler: PoolerInit::default(),
            init_head: None,
            method: Method::default(),
            biases: BiasSelection::all(),
            train,
            dev: None,
            format: FileFormat::default(),
            task: Task::default(),
            text_column: None,
            text_pair_column: None,
            label_column: None,
            max_length: None,
            no_shuffle: false,
            length: Length::Epochs(3),
            batch_size: 16,
            batch_tokens: None,
            grad_accumulation: 1,
            lr: 1e-3,
            betas: [0.9, 0.999],
            eps: 1e-6,
            weight_decay: 0.0,
            schedule: ScheduleKind::default(),
            warmup: Warmup::default(),
            clip_norm: 1.0,
            dropout: None,
            seed: 42,
            eval_steps: None,
            metric: Metric::Accuracy,
            patience: None,
            saving: SavingChoice::default(),
            memory: None,
            output,
            save_steps: None,
            device: DeviceChoice::default(),
            precision: Precision::default(),
            threads: None,
        }
    }

    /// Checks every value's range and what values say about each other.
    ///
    /// # Errors
    /// The first setting that cannot be, with what is allowed.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        self.validate_numbers()?;
        let problem = |option, problem: &str| {
            Err(InvalidSetting {
                option,
                problem: problem.to_string(),
            })
        };
        if self.model.trim().is_empty() {
            return problem(
                "model",
                "must name a folder or a model on the hub, got nothing",
            );
        }
        if self.method == Method::Head && self.biases != BiasSelection::all() {
            return problem(
                "biases",
                "chooses what --method bitfit trains, and --method head trains no bias: leave one of them out",
            );
        }
        if self.method == Method::Full && self.biases != BiasSelection::all() {
            return problem(
                "biases",
                "chooses what --method bitfit trains, and --method full trains everything: leave one of them out",
            );
        }
        if self.method == Method::Full && self.weights != WeightType::F32 {
            return problem(
                "weights",
                &format!(
                    "{} says how frozen weights are stored, and --method full freezes none: leave it out",
                    self.weights
                ),
            );
        }
        if self.method == Method::Bitfit && self.biases.is_none() {
            return problem(
                "biases",
                "selects nothing to train; to train the head alone use --method head",
            );
        }
        if self.pooling == Pooling::Mean && self.pooler == PoolerInit::Reinit {
            return problem(
                "pooler",
                "reinit has no use with --pooling mean, which has no pooler",
            );
        }
        if !self.metric.fits(self.task) {
            let fitting = Metric::of_task(self.task)
                .iter()
                .map(|metric| metric.name());
            let fitting = fitting.chain(["loss"]).collect::<Vec<_>>().join(", ");
            let metric = self.metric;
            return problem(
                "metric",
                &format!("{metric} does not fit --task {}; use {fitting}", self.task),
            );
        }
        if self.dev.is_none() {
            let without = "needs rows to evaluate on: give --dev FILE or --dev-fraction too";
            if self.eval_steps.is_some() {
                return problem("eval-steps", without);
            }
            if self.patience.is_some() {
                return problem("patience", without);
            }
        }
        Ok(())
    }

    fn validate_numbers(&self) -> Result<(), InvalidSetting> {
        let finite =
            |option, value: f64| require(value.is_finite(), option, "be a finite number", &value);
        let above_zero = |option, value: f64| {
            finite(option, value)?;
            require(value > 0.0, option, "be above 0", &value)
        };
        let zero_or_more = |option, value: f64| {
            finite(option, value)?;
            require(value >= 0.0, option, "be 0 or more", &value)
        };
        let at_least_one = |option, value: Option<u64>| match value {
            Some(value) => require(value >= 1, option, "be 1 or more", &value),
            None => Ok(()),
        };
        above_zero("lr", self.lr)?;
        for beta in self.betas {
            require(
                (0.0..1.0).contains(&beta),
                "betas",
                "be two numbers from 0 to below 1",
                &beta,
            )?;
        }
        above_zero("eps", self.eps)?;
        zero_or_more("weight-decay", self.weight_decay)?;
        zero_or_more("clip-norm", self.clip_norm)?;
        if let Warmup::Fraction(fraction) = self.warmup {
            let fits = (0.0..=1.0).contains(&fraction);
            require(
                fits,
                "warmup",
                "be steps or a fraction between 0 and 1",
                &fraction,
            )?;
        }
        if let Some(dropout) = self.dropout {
            require(
                (0.0..1.0).contains(&dropout),
                "dropout",
                "be from 0 to below 1",
                &dropout,
            )?;
        }
        if let Some(DevSource::Fraction(fraction)) = self.dev {
            let fits = fraction > 0.0 && fraction < 1.0;
            require(fits, "dev-fraction", "lie between 0 and 1", &fraction)?;
        }
        match self.length {
            Length::Epochs(epochs) => at_least_one("epochs", Some(epochs))?,
            Length::Steps(steps) => at_least_one("steps", Some(steps))?,
        }
        at_least_one("batch-size", Some(self.batch_size as u64))?;
        at_least_one(
            "batch-tokens",
            self.batch_tokens.map(|tokens| tokens as u64),
        )?;
        at_least_one("grad-accumulation", Some(self.grad_accumulation as u64))?;
        at_least_one("eval-steps", self.eval_steps)?;
        at_least_one("patience", self.patience)?;
        at_least_one("save-steps", self.save_steps)?;
        at_least_one("threads", self.threads.map(|threads| threads as u64))?;
        if let Some(length) = self.max_length {
            // One token of text between the two special ones.
            require(length >= 3, "max-length", "be 3 or more", &length)?;
        }
        let seed_fits = i64::try_from(self.seed).is_ok();
        require(seed_fits, "seed", "be below 2^63", &self.seed)
    }

    /// The biases that train: the selection for `bitfit`, none for `head`, all for `full`.
    pub fn trained_biases(&self) -> BiasSelection {
        match self.method {
            Method::Bitfit | Method::Full => self.biases.clone(),
            Method::Head => BiasSelection::none(),
        }
    }

    /// What trains of the encoder.
    pub fn trains(&self) -> Trains {
        match self.method {
            Method::Full => Trains::Everything,
            Method::Bitfit | Method::Head => Trains::Biases(self.trained_biases()),
        }
    }

    /// The settings as a configuration file, without comments.
    ///
    /// # Errors
    /// A path that is not UTF-8 has no form there.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        toml::to_string(self).context("cannot write the settings down (is a path not UTF-8?)")
    }

    /// Reads back what [`to_toml`](Self::to_toml) wrote, as found in a delta file. A configuration file by a user
    /// goes through the command line instead, which fills in defaults.
    ///
    /// # Errors
    /// A missing key, a value of the wrong kind or out of range.
    pub fn from_toml(text: &str) -> anyhow::Result<Self> {
        let config: Self =
            toml::from_str(text).context("the recorded training settings do not parse")?;
        config
            .validate()
            .context("the recorded training settings are not valid")?;
        Ok(config)
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
