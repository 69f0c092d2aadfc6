//! The options of `train`, from the command line and a configuration file, made into one [`TrainConfig`].

use super::choice::choice;
use crate::settings::device::DeviceChoice;
use std::path::PathBuf;

use clap::Args;

use super::config_file::FileOptions;
use crate::error::UsageError;
use crate::settings::biases::BiasSelection;
use crate::settings::bytes::ByteSize;
use crate::settings::choice::{
    FileFormat, Method, PoolerInit, Pooling, Precision, Task, WeightType,
};
use crate::settings::metric::Metric;
use crate::settings::saving::SavingChoice;
use crate::settings::schedule::{ScheduleKind, Warmup};
use crate::settings::train::{DevSource, Length, TrainConfig};
use crate::settings::validate::InvalidSetting;
use crate::train::output::SETTINGS_FILE;

/// Help that follows the options of `train`.
pub const EXAMPLES: &str = "\
Examples:
  bitfit train --model ./minilm --train reviews.tsv --dev-fraction 0.1 --output runs/reviews
  bitfit train --model org/name@main --train a.jsonl --dev b.jsonl --biases query,intermediate@4..6 --output runs/b
  bitfit train --config runs/b/settings.toml --seed 2 --output runs/b2
  bitfit train --resume --output runs/b2";

/// The options as given: `None` where nothing is said, so that a file and then the defaults can fill in.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct TrainArgs {
    /// A folder with config.json, model.safetensors and a tokenizer, or a name on the hub, org/name or org/name@revision
    #[arg(long, value_name = "MODEL", help_heading = "Model")]
    pub model: Option<String>,
    /// How frozen weights are stored; arithmetic, and all that --method full trains, is f32 [default: f16]
    #[arg(long, value_parser = choice::<WeightType>(), value_name = "TYPE", help_heading = "Model")]
    pub weights: Option<WeightType>,
    /// How token vectors become one vector a text [default: auto]
    #[arg(long, value_parser = choice::<Pooling>(), value_name = "HOW", help_heading = "Model")]
    pub pooling: Option<Pooling>,
    /// Where the pooler's weights come from [default: keep]
    #[arg(long, value_parser = choice::<PoolerInit>(), value_name = "FROM", help_heading = "Model")]
    pub pooler: Option<PoolerInit>,
    /// Start from this head: safetensors, weights by their Hugging Face names [default: random, from --seed]
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pub init_head: Option<PathBuf>,

    /// Labelled texts to train on: tsv, csv or jsonl, columns by name
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub train: Option<PathBuf>,
    /// Labelled texts to evaluate on
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "dev_fraction",
        help_heading = "Data"
    )]
    pub dev: Option<PathBuf>,
    /// Evaluate on this share of the training file, drawn with --seed, instead of training on it
    #[arg(long, value_name = "SHARE", help_heading = "Data")]
    pub dev_fraction: Option<f64>,
    /// Format of the data files [default: auto]
    #[arg(long, value_parser = choice::<FileFormat>(), help_heading = "Data")]
    pub format: Option<FileFormat>,
    /// What the labels are [default: classification]
    #[arg(long, value_parser = choice::<Task>(), help_heading = "Data")]
    pub task: Option<Task>,
    /// Column with the text [default: the first of the usual names: text, sentence, sentence1, …]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub text_column: Option<String>,
    /// Column with the second text of a pair [default: the first of the usual names, if there is one]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub text_pair_column: Option<String>,
    /// Column with the label [default: the first of the usual names: label, gold_label, score, …]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub label_column: Option<String>,
    /// Cut texts after this many tokens, special ones included [default: the model's positions]
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub max_length: Option<usize>,
    /// Take the rows in the order of the file, every epoch
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          hide_possible_values = true, help_heading = "Data")]
    pub no_shuffle: Option<bool>,

    /// What trains [default: bitfit]
    #[arg(long, value_parser = choice::<Method>(), help_heading = "What trains")]
    pub method: Option<Method>,
    /// Which biases train, names joined by commas [default: all]
    ///
    /// Names: query, key, value, attention-output, attention-layernorm, intermediate, output, output-layernorm (one
    /// in every layer), embeddings-layernorm and pooler (one in the model). Each selects exactly one kind of bias.
    /// The first eight take a range of layers, counted from 0, both ends included: `intermediate@4..6`, `query@3`,
    /// `value@4..`, `key@..2`.
    #[arg(long, value_name = "NAMES", help_heading = "What trains")]
    pub biases: Option<BiasSelection>,

    /// Passes over the training data [default: 3]
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "steps",
        help_heading = "Optimizer"
    )]
    pub epochs: Option<u64>,
    /// Optimizer steps, instead of --epochs
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    pub steps: Option<u64>,
    /// Texts a batch [default: 16]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    pub batch_size: Option<usize>,
    /// Most tokens a batch [default: no limit but --batch-size]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    pub batch_tokens: Option<usize>,
    /// Batches whose gradients make one step [default: 1]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    pub grad_accumulation: Option<usize>,
    /// Highest learning rate; biases take ten to a hundred times that of full fine-tuning, for which it is 0.00005 where
    /// none is given [default: 0.001]
    #[arg(
        long,
        value_name = "RATE",
        allow_negative_numbers = true,
        help_heading = "Optimizer"
    )]
    pub lr: Option<f64>,
    /// AdamW's decay rates of the two moments [default: 0.9,0.999]
    #[arg(long, value_name = "B1,B2", value_parser = parse_betas, allow_hyphen_values = true, help_heading = "Optimizer")]
    pub betas: Option<[f64; 2]>,
    /// AdamW's epsilon [default: 1e-6]
    #[arg(
        long,
        value_name = "EPS",
        allow_negative_numbers = true,
        help_heading = "Optimizer"
    )]
    pub eps: Option<f64>,
    /// AdamW's decoupled weight decay, on everything that trains, biases and LayerNorms too [default: 0]
    #[arg(
        long,
        value_name = "RATE",
        allow_negative_numbers = true,
        help_heading = "Optimizer"
    )]
    pub weight_decay: Option<f64>,
    /// What the learning rate does after the warm-up [default: linear]
    #[arg(long, value_parser = choice::<ScheduleKind>(), help_heading = "Optimizer")]
    pub schedule: Option<ScheduleKind>,
    /// Steps in which the learning rate rises from 0: a number (100) or a share of all (0.06, 6%) [default: 0]
    #[arg(
        long,
        value_name = "STEPS|SHARE",
        allow_hyphen_values = true,
        help_heading = "Optimizer"
    )]
    pub warmup: Option<Warmup>,
    /// Scale gradients down to this norm; 0 never does [default: 1]
    #[arg(
        long,
        value_name = "NORM",
        allow_negative_numbers = true,
        help_heading = "Optimizer"
    )]
    pub clip_norm: Option<f64>,
    /// Of hidden states, attention and head alike [default: what the model's config says]
    #[arg(
        long,
        value_name = "P",
        allow_negative_numbers = true,
        help_heading = "Optimizer"
    )]
    pub dropout: Option<f64>,
    /// Decides all that is random: head, order, dropout, split [default: 42]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    pub seed: Option<u64>,

    /// Evaluate every so many steps [default: once an epoch]
    #[arg(long, value_name = "N", help_heading = "Evaluation")]
    pub eval_steps: Option<u64>,
    /// What chooses the best state: accuracy, macro-f1, matthews; pearson, spearman; or loss
    /// [default: accuracy, or pearson with --task regression]
    #[arg(long, value_name = "METRIC", help_heading = "Evaluation")]
    pub metric: Option<Metric>,
    /// Stop after this many evaluations without a better one [default: never]
    #[arg(long, value_name = "N", help_heading = "Evaluation")]
    pub patience: Option<u64>,

    /// What is kept of the forward pass for backward [default: auto]
    ///
    /// auto: the fastest exact way that fits --memory (keep, where no limit is given).
    /// Exact, fastest first: keep: all that backward needs. recompute-qkv: make q, k, v and attention's output again
    /// from the normalised states. recompute-ffn: make the activation's derivative again. recompute: both.
    /// checkpoint: keep each layer's input alone and run the layer again.
    /// Lossy, only where asked for: gelu8, gelu4: keep the activation's derivative in 8 or 4 bits; may be joined with
    /// recompute-qkv by a comma. xhat8: keep the normalised states in 8 bits; may be joined with gelu8 or gelu4.
    #[arg(long, value_name = "HOW", help_heading = "Memory")]
    pub saving: Option<SavingChoice>,
    /// Most memory the run may take on the device, as 4GiB, 512MiB or bytes: cuts batches into micro-batches and
    /// chooses --saving [default: no limit]
    #[arg(long, value_name = "SIZE", help_heading = "Memory")]
    pub memory: Option<ByteSize>,

    /// Folder for the delta (with --method full the model), metrics, settings and checkpoints; must not hold another run
    #[arg(long, value_name = "FOLDER", help_heading = "Output")]
    pub output: Option<PathBuf>,
    /// Save a checkpoint every so many steps [default: at every evaluation and end of epoch]
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub save_steps: Option<u64>,
    /// Go on with the run in --output from its last checkpoint; its settings need not be given again
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          hide_possible_values = true, help_heading = "Output")]
    pub resume: Option<bool>,

    /// Take options from this TOML file; keys are option names; options given here win
    #[arg(long, value_name = "FILE", help_heading = "Running")]
    pub config: Option<PathBuf>,
    /// What runs the encoder [default: auto]
    #[arg(long, value_name = "auto|cpu|cuda[:N]", help_heading = "Running")]
    pub device: Option<DeviceChoice>,
    /// The 16-bit type of matrices and activations on a GPU [default: bf16]
    #[arg(long, value_parser = choice::<Precision>(), help_heading = "Running")]
    pub precision: Option<Precision>,
    /// Threads [default: one a processor core]
    #[arg(long, value_name = "N", help_heading = "Running")]
    pub threads: Option<usize>,
    /// Print nothing but the result and errors
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          hide_possible_values = true, help_heading = "Running")]
    pub quiet: Option<bool>,
}

fn parse_betas(text: &str) -> Result<[f64; 2], String> {
    let wrong = "write two numbers joined by a comma: 0.9,0.999";
    let (first, second) = text.split_once(',').ok_or(wrong)?;
    let number = |text: &str| text.trim().parse::<f64>().map_err(|_| wrong.to_string());
    Ok([number(first)?, number(second)?])
}

/// A bare clap command with just the options of `train`.
pub(super) fn options_command() -> clap::Command {
    TrainArgs::augment_args(clap::Command::new("train"))
}

/// Checked settings, and the two switches that say how to run and not what.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainCommand {
    pub config: TrainConfig,
    /// Continue the run in the output folder.
    pub resume: bool,
    /// No progress.
    pub quiet: bool,
}

impl TrainArgs {
    /// Pairs of options of which only one can be given.
    pub(super) const EXCLUSIVE: [(&'static str, &'static str); 2] =
        [("dev", "dev-fraction"), ("epochs", "steps")];

    /// These options, and `under` where these say nothing.
    pub(super) fn over(self, mut under: Self) -> Self {
        // Saying --steps here takes back an --epochs there.
        if self.epochs.is_some() || self.steps.is_some() {
            (under.epochs, under.steps) = (None, None);
        }
        if self.dev.is_some() || self.dev_fraction.is_some() {
            (under.dev, under.dev_fraction) = (None, None);
        }
        // A struct literal without `..`: a new option cannot be forgotten here.
        Self {
            model: self.model.or(under.model),
            weights: self.weights.or(under.weights),
            pooling: self.pooling.or(under.pooling),
            pooler: self.pooler.or(under.pooler),
            init_head: self.init_head.or(under.init_head),
            train: self.train.or(under.train),
            dev: self.dev.or(under.dev),
            dev_fraction: self.dev_fraction.or(under.dev_fraction),
            format: self.format.or(under.format),
            task: self.task.or(under.task),
            text_column: self.text_column.or(under.text_column),
            text_pair_column: self.text_pair_column.or(under.text_pair_column),
            label_column: self.label_column.or(under.label_column),
            max_length: self.max_length.or(under.max_length),
            no_shuffle: self.no_shuffle.or(under.no_shuffle),
            method: self.method.or(under.method),
            biases: self.biases.or(under.biases),
            epochs: self.epochs.or(under.epochs),
            steps: self.steps.or(under.steps),
            batch_size: self.batch_size.or(under.batch_size),
            batch_tokens: self.batch_tokens.or(under.batch_tokens),
            grad_accumulation: self.grad_accumulation.or(under.grad_accumulation),
            lr: self.lr.or(under.lr),
            betas: self.betas.or(under.betas),
            eps: self.eps.or(under.eps),
            weight_decay: self.weight_decay.or(under.weight_decay),
            schedule: self.schedule.or(under.schedule),
            warmup: self.warmup.or(under.warmup),
            clip_norm: self.clip_norm.or(under.clip_norm),
            dropout: self.dropout.or(under.dropout),
            seed: self.seed.or(under.seed),
            eval_steps: self.eval_steps.or(under.eval_steps),
            metric: self.metric.or(under.metric),
            patience: self.patience.or(under.patience),
            saving: self.saving.or(under.saving),
            memory: self.memory.or(under.memory),
            output: self.output.or(under.output),
            save_steps: self.save_steps.or(under.save_steps),
            resume: self.resume.or(under.resume),
            config: self.config.or(under.config),
            device: self.device.or(under.device),
            precision: self.precision.or(under.precision),
            threads: self.threads.or(under.threads),
            quiet: self.quiet.or(under.quiet),
        }
    }

    /// Reads the configuration file if one is named, fills in defaults, and checks everything.
    ///
    /// With `--resume` and no `--config`, the settings that the run left in its output folder are the file.
    ///
    /// # Errors
    /// A missing or contradictory option, a value out of range; the line, if the value is from a file.
    pub fn resolve(self) -> Result<TrainCommand, UsageError> {
        let path = self
            .config
            .clone()
            .or_else(|| self.settings_of_resumed_run());
        let file = match &path {
            Some(path) => FileOptions::read(path)?,
            None => FileOptions::default(),
        };
        let merged = self.clone().over(file.args.clone());
        let resume = merged.resume.unwrap_or(false);
        let quiet = merged.quiet.unwrap_or(false);
        match (merged.complete(), path) {
            (Ok(config), _) => Ok(TrainCommand {
                config,
                resume,
                quiet,
            }),
            (Err(invalid), Some(path)) => Err(match file.line_used(invalid.option, &self) {
                Some(line) => UsageError::new(format!("{}:{line}: {invalid}", path.display())),
                None => invalid.into(),
            }),
            (Err(invalid), None) => Err(invalid.into()),
        }
    }

    fn settings_of_resumed_run(&self) -> Option<PathBuf> {
        let settings = self.output.as_ref()?.join(SETTINGS_FILE);
        (self.resume == Some(true) && settings.is_file()).then_some(settings)
    }

    /// Fills in defaults and checks the whole.
    pub(super) fn complete(self) -> Result<TrainConfig, InvalidSetting> {
        let model = needed(self.model, "model", "a folder, or a name on the hub")?;
        let train = needed(self.train, "train", "the file with labelled texts")?;
        let output = needed(self.output, "output", "the folder for what the run makes")?;
        let default = TrainConfig::with_defaults(model, train, output);
        let task = self.task.unwrap_or(default.task);
        let method = self.method.unwrap_or(default.method);
        let config = TrainConfig {
            weights: self.weights.unwrap_or(method.default_weights()),
            pooling: self.pooling.unwrap_or(default.pooling),
            pooler: self.pooler.unwrap_or(default.pooler),
            init_head: self.init_head,
            method,
            biases: self.biases.unwrap_or(default.biases),
            dev: self
                .dev
                .map(DevSource::File)
                .or(self.dev_fraction.map(DevSource::Fraction)),
            format: self.format.unwrap_or(default.format),
            task,
            text_column: self.text_column,
            text_pair_column: self.text_pair_column,
            label_column: self.label_column,
            max_length: self.max_length,
            no_shuffle: self.no_shuffle.unwrap_or(default.no_shuffle),
            length: match (self.epochs, self.steps) {
                (Some(epochs), _) => Length::Epochs(epochs),
                (None, Some(steps)) => Length::Steps(steps),
                (None, None) => default.length,
            },
            batch_size: self.batch_size.unwrap_or(default.batch_size),
            batch_tokens: self.batch_tokens,
            grad_accumulation: self.grad_accumulation.unwrap_or(default.grad_accumulation),
            lr: self.lr.unwrap_or(method.default_lr()),
            betas: self.betas.unwrap_or(default.betas),
            eps: self.eps.unwrap_or(default.eps),
            weight_decay: self.weight_decay.unwrap_or(default.weight_decay),
            schedule: self.schedule.unwrap_or(default.schedule),
            warmup: self.warmup.unwrap_or(default.warmup),
            clip_norm: self.clip_norm.unwrap_or(default.clip_norm),
            dropout: self.dropout,
            seed: self.seed.unwrap_or(default.seed),
            eval_steps: self.eval_steps,
            metric: self.metric.unwrap_or(Metric::default_for(task)),
            patience: self.patience,
            saving: self.saving.unwrap_or(default.saving),
            memory: self.memory,
            save_steps: self.save_steps,
            device: self.device.unwrap_or(default.device),
            precision: self.precision.unwrap_or(default.precision),
            threads: self.threads,
            model: default.model,
            train: default.train,
            output: default.output,
        };
        config.validate()?;
        Ok(config)
    }
}

fn needed<T>(value: Option<T>, option: &'static str, what: &str) -> Result<T, InvalidSetting> {
    value.ok_or_else(|| InvalidSetting {
        option,
        problem: format!("is missing: it names {what}; give it here or in the file of --config"),
    })
}

#[cfg(test)]
#[path = "train_tests.rs"]
mod tests;
