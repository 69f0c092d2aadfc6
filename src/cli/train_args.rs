//! The options of `train` as clap reads them, whether their text comes from the command line, a configuration file or a
//! run of `compare`. `train` converts them to settings.

use super::choice::{choice, metric_help, task};
use super::lora_args::LoraArgs;
use crate::settings::biases::BiasSelection;
use crate::settings::bytes::ByteSize;
use crate::settings::choice::{
    FormatChoice, PoolerInit, Pooling, Precision, Unlabelled, WeightStorage,
};
use crate::settings::device::DeviceChoice;
use crate::settings::method::Method;
use crate::settings::metric::Metric;
use crate::settings::rate::Rate;
use crate::settings::saving::SavingChoice;
use crate::settings::schedule::{ScheduleKind, Warmup};
use crate::settings::task_choice::TaskChoice;
use crate::settings::weighting::Weighting;
use clap::Args;
use std::path::PathBuf;

/// Help that follows the options of `train`.
pub const EXAMPLES: &str = "\
Examples:
  bitfit train --model ./minilm --train reviews.tsv --dev-fraction 0.1 --output runs/reviews
  bitfit train --model org/name@main --train a.jsonl --dev b.jsonl --biases query,intermediate@4..6 --output runs/b
  bitfit train --model ./bert --task rte --output runs/rte --predict-test submission
  bitfit train --config runs/b/settings.toml --seed 2 --output runs/b2
  bitfit train --resume --output runs/b2";

/// The options as given: `None` where nothing is said, so that a file and then the defaults can fill in.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct TrainArgs {
    /// A folder with config.json, model.safetensors and a tokenizer, or a model on the Hugging Face hub: org/name or
    /// org/name@revision
    #[arg(long, value_name = "MODEL", help_heading = "Model")]
    pub model: Option<String>,
    /// How frozen weights are stored (--method full trains f32) [default: f16]
    #[arg(long, value_parser = choice::<WeightStorage>(), value_name = "TYPE", help_heading = "Model")]
    pub weights: Option<WeightStorage>,
    /// How token vectors become one vector per text [default: auto]
    #[arg(long, value_parser = choice::<Pooling>(), value_name = "HOW", help_heading = "Model")]
    pub pooling: Option<Pooling>,
    /// Where the pooler's weights come from [default: keep]
    #[arg(long, value_parser = choice::<PoolerInit>(), value_name = "FROM", help_heading = "Model")]
    pub pooler: Option<PoolerInit>,
    /// Start from the head in this safetensors file, which uses Hugging Face's names [default: random, from --seed]
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pub init_head: Option<PathBuf>,
    /// Start from the encoder values of another run on the same model, for any task: its folder or its bias.safetensors
    /// [default: the model's own]
    #[arg(long, value_name = "DELTA", help_heading = "Model")]
    pub init_delta: Option<PathBuf>,

    /// Labelled texts to train on: tsv, csv or jsonl with named columns; for --task token-classification CoNLL columns,
    /// CoNLL-U or jsonl; for question-answering SQuAD's JSON or jsonl; for masked-lm txt with one text per line, or a
    /// column of tsv, csv or jsonl
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub train: Option<PathBuf>,
    /// Labelled texts to evaluate on
    #[arg(long, value_name = "FILE", conflicts_with = "dev_fraction", help_heading = "Data")]
    pub dev: Option<PathBuf>,
    /// Hold out this share of the training rows, drawn with --seed, to evaluate on
    #[arg(long, value_name = "SHARE", help_heading = "Data")]
    pub dev_fraction: Option<f64>,
    /// Train on only this many rows, drawn with --seed from those not held out; 0 means all [default: 0]
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub train_rows: Option<usize>,
    /// Format of the data files [default: auto]
    #[arg(long, value_parser = choice::<FormatChoice>(), help_heading = "Data")]
    pub format: Option<FormatChoice>,
    /// What the labels are, or the name of a GLUE or SuperGLUE task. A named task has its own classes, measures and
    /// recipe; its rows come from --data, or from the hub if there is no --train [default: classification]
    #[arg(long, value_parser = task(), value_name = "TASK", help_heading = "Data")]
    pub task: Option<TaskChoice>,
    /// Folder with a named task's files: the hub's parquet files or those of the benchmark's own archive
    /// [default: the hub]
    #[arg(long, value_name = "FOLDER", help_heading = "Data")]
    pub data: Option<PathBuf>,
    /// Column with the text [default: the first of the usual names: text, sentence, sentence1, …]; for tagged words, the
    /// number or key of their column [default: 1 or form; tokens, words or text]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub text_column: Option<String>,
    /// Column with the second text of a pair [default: the first of the usual names, if there is one]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub text_pair_column: Option<String>,
    /// Column with the label [default: the first of the usual names: label, gold_label, score, …]; for tagged words,
    /// the column's number (from 1), its name in CoNLL-U, or the key of tags or spans [default: the last column or upos;
    /// tags, spans, entities, or the only other usual key]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub label_column: Option<String>,
    /// What to do with rows whose label means that there is none: empty, -, nan, null, \N, or -1 or -100 next to 0 and
    /// 1 [default: refuse]
    #[arg(long, value_parser = choice::<Unlabelled>(), value_name = "HOW", help_heading = "Data")]
    pub unlabelled: Option<Unlabelled>,
    /// What separates the labels (--task multi-label) or numbers (--task regression) of one text; JSON lists need no
    /// separator [default: a comma between labels; one number]
    #[arg(long, value_name = "TEXT", help_heading = "Data")]
    pub label_separator: Option<String>,
    /// How much the loss of each class counts: balanced (each class the same in total), inverse-sqrt (halfway there),
    /// or a JSON file with a number per class, from 0.000001 to 1000000 [default: every row the same]
    #[arg(long, value_name = "balanced|inverse-sqrt|FILE", help_heading = "Data")]
    pub class_weights: Option<Weighting>,
    /// Cut texts after this many tokens, including special ones [default: the checkpoint's limit, else its number of
    /// positions]
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub max_length: Option<usize>,
    /// Tokens that neighbouring windows on a long text share, in tasks on tokens [default: depends on the task]
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub stride: Option<usize>,
    /// Longest answer in tokens, in --task question-answering [default: 30]
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub max_answer_length: Option<usize>,
    /// Share of a text's tokens to hide, in --task masked-lm: of ten hidden tokens eight become the mask, one another word,
    /// and one stays [default: 0.15]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, help_heading = "Data")]
    pub mask_probability: Option<f64>,
    /// Hide whole words (runs of letters and digits), in --task masked-lm
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          hide_possible_values = true, help_heading = "Data")]
    pub whole_word_masking: Option<bool>,
    /// Take the rows in file order in every epoch
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          hide_possible_values = true, help_heading = "Data")]
    pub no_shuffle: Option<bool>,

    /// What trains [default: bitfit]
    #[arg(long, value_parser = choice::<Method>(), help_heading = "What trains")]
    pub method: Option<Method>,
    /// Which biases train (with --method random or rows: how many values), names joined by commas [default: all]
    ///
    /// Names: query, key, value, attention-output, attention-layernorm, intermediate, output, output-layernorm (one per
    /// layer), embeddings-layernorm and pooler (one per model). Each selects exactly one kind of bias. The first eight
    /// take a range of layers, counted from 0, both ends included: `intermediate@4..6`, `query@3`,
    /// `value@4..`, `key@..2`.
    #[arg(long, value_name = "NAMES", help_heading = "What trains")]
    pub biases: Option<BiasSelection>,
    #[command(flatten)]
    pub lora: LoraArgs,

    /// Passes over the training data [default: 3]
    #[arg(long, value_name = "N", conflicts_with = "steps", help_heading = "Optimizer")]
    pub epochs: Option<u64>,
    /// Optimizer steps, instead of --epochs
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    pub steps: Option<u64>,
    /// Texts per batch [default: 16]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    pub batch_size: Option<usize>,
    /// Maximum tokens per batch; a longer text is a batch of its own [default: limited only by --batch-size]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    pub batch_tokens: Option<usize>,
    /// Batches whose gradients are summed for one step [default: 1]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    pub grad_accumulation: Option<usize>,
    /// Peak learning rate, or auto: a short trial of five rates chooses it. Biases need ten to a hundred times the rate of
    /// full fine-tuning [default: 0.001, or 0.003 with ia3, 0.0005 with lora, 0.00005 with full]
    #[arg(
        long,
        value_name = "RATE|auto",
        allow_negative_numbers = true,
        help_heading = "Optimizer"
    )]
    pub lr: Option<Rate>,
    /// AdamW's decay rates for the two moments [default: 0.9,0.999]
    #[arg(long, value_name = "B1,B2", value_parser = parse_betas, allow_hyphen_values = true, help_heading = "Optimizer")]
    pub betas: Option<[f64; 2]>,
    /// AdamW's epsilon [default: 1e-6]
    #[arg(long, value_name = "EPS", allow_negative_numbers = true, help_heading = "Optimizer")]
    pub eps: Option<f64>,
    /// AdamW's decoupled weight decay, on everything that trains, biases and LayerNorms included [default: 0]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, help_heading = "Optimizer")]
    pub weight_decay: Option<f64>,
    /// What the learning rate does after the warm-up [default: linear]
    #[arg(long, value_parser = choice::<ScheduleKind>(), help_heading = "Optimizer")]
    pub schedule: Option<ScheduleKind>,
    /// Steps over which the learning rate rises from 0: a number (100) or a share of all steps (0.06, 6%) [default: 0]
    #[arg(
        long,
        value_name = "STEPS|SHARE",
        allow_hyphen_values = true,
        help_heading = "Optimizer"
    )]
    pub warmup: Option<Warmup>,
    /// Scale the gradient down to at most this norm; 0 means never [default: 1]
    #[arg(long, value_name = "NORM", allow_negative_numbers = true, help_heading = "Optimizer")]
    pub clip_norm: Option<f64>,
    /// Dropout on hidden states, attention and head [default: as in the model's config]
    ///
    /// It is rounded to a multiple of 2^-16: 0.1 becomes 0.1000061.
    #[arg(long, value_name = "P", allow_negative_numbers = true, help_heading = "Optimizer")]
    pub dropout: Option<f64>,
    /// Seed of everything random: head, order, dropout, split [default: 42]
    #[arg(long, value_name = "N", value_parser = parse_seed, help_heading = "Optimizer")]
    pub seed: Option<u64>,

    /// Evaluate every N steps [default: once per epoch]
    #[arg(long, value_name = "N", help_heading = "Evaluation")]
    pub eval_steps: Option<u64>,
    #[arg(long, value_name = "METRIC", help = metric_help(), help_heading = "Evaluation")]
    pub metric: Option<Metric>,
    /// Stop after this many evaluations without improvement [default: never]
    #[arg(long, value_name = "N", help_heading = "Evaluation")]
    pub patience: Option<u64>,

    /// What the forward pass keeps for the backward pass [default: auto]
    ///
    /// auto:          the fastest exact way that fits --memory (keep, if there is no limit)
    ///
    /// Exact, fastest first:
    /// keep:          keep everything that backward needs
    /// recompute-qkv: recompute q, k, v and attention's output from the normalised states
    /// recompute-ffn: recompute the activation's derivative
    /// recompute:     both
    /// checkpoint:    keep only each layer's input and run the layer again
    ///
    /// Lossy, only on request:
    /// gelu8, gelu4:  keep the activation's derivative in 8 or 4 bits; also as recompute-qkv,gelu8
    /// xhat8:         keep the normalised states in 8 bits; also as gelu8,xhat8 or gelu4,xhat8
    #[arg(long, value_name = "HOW", verbatim_doc_comment, help_heading = "Memory")]
    pub saving: Option<SavingChoice>,
    /// Maximum memory of the run on the device (4GiB, 512MiB, or bytes); batches are cut into micro-batches and
    /// --saving is chosen to fit [default: no limit]
    #[arg(long, value_name = "SIZE", help_heading = "Memory")]
    pub memory: Option<ByteSize>,

    /// Folder for the delta (or the model, with --method full), metrics, settings and checkpoints; must not hold another
    /// run
    #[arg(long, value_name = "FOLDER", help_heading = "Output")]
    pub output: Option<PathBuf>,
    /// Also answer a named task's test rows with the best state, and write the submission files to this folder
    #[arg(long, value_name = "FOLDER", help_heading = "Output")]
    pub predict_test: Option<PathBuf>,
    /// Save a checkpoint every N steps [default: at every evaluation and at the end of each epoch]
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub save_steps: Option<u64>,
    /// Also save a checkpoint when this many minutes have passed since the last; 0 means never [default: 5, or 0 with
    /// --save-steps]
    #[arg(long, value_name = "MINUTES", allow_negative_numbers = true, help_heading = "Output")]
    pub save_minutes: Option<f64>,
    /// Also write event files for TensorBoard, into the folder tensorboard of --output
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          hide_possible_values = true, help_heading = "Output")]
    pub tensorboard: Option<bool>,
    /// Continue the run in --output from its last checkpoint; its settings need not be given again
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          hide_possible_values = true, help_heading = "Output")]
    pub resume: Option<bool>,

    /// Read options from this TOML file; those on the command line win
    #[arg(long, value_name = "FILE", help_heading = "Running")]
    pub config: Option<PathBuf>,
    /// Device to compute on; auto is the first usable GPU, else the CPU [default: auto]
    #[arg(long, value_name = "auto|cpu|cuda[:N]", help_heading = "Running")]
    pub device: Option<DeviceChoice>,
    /// Number type of activations, and of matrices on a GPU [default: auto]
    #[arg(long, value_parser = choice::<Precision>(), help_heading = "Running")]
    pub precision: Option<Precision>,
    /// CPU threads [default: one per processor core]
    #[arg(long, value_name = "N", help_heading = "Running")]
    pub threads: Option<usize>,
    /// Print only the result, warnings and errors
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          hide_possible_values = true, help_heading = "Running")]
    pub quiet: Option<bool>,
}

fn parse_seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("seeds are whole numbers from 0 to {}", u64::MAX))
}

fn parse_betas(text: &str) -> Result<[f64; 2], String> {
    let wrong = "write two numbers joined by a comma: 0.9,0.999";
    let (first, second) = text.split_once(',').ok_or(wrong)?;
    let number = |text: &str| text.trim().parse::<f64>().map_err(|_| wrong.to_string());
    Ok([number(first)?, number(second)?])
}

/// A bare clap command with only the options of `train`.
pub(super) fn options_command() -> clap::Command {
    TrainArgs::augment_args(clap::Command::new("train"))
}

impl TrainArgs {
    /// Pairs of mutually exclusive options.
    pub(super) const EXCLUSIVE: [(&'static str, &'static str); 3] =
        [("dev", "dev-fraction"), ("epochs", "steps"), ("train", "data")];

    /// Whether everything that `under` sets is set here too, or excluded by what is.
    pub(super) fn covers(&self, under: &Self) -> bool {
        self.clone().over(under.clone()) == *self
    }

    /// These options, with missing ones from `under`.
    pub(super) fn over(self, mut under: Self) -> Self {
        // Setting --steps here overrides an --epochs there.
        if self.epochs.is_some() || self.steps.is_some() {
            (under.epochs, under.steps) = (None, None);
        }
        if self.train.is_some() || self.data.is_some() {
            (under.train, under.data) = (None, None);
        }
        if self.dev.is_some() || self.dev_fraction.is_some() {
            (under.dev, under.dev_fraction) = (None, None);
        }
        // A struct literal without `..`, so that a new option cannot be forgotten here.
        Self {
            model: self.model.or(under.model),
            weights: self.weights.or(under.weights),
            pooling: self.pooling.or(under.pooling),
            pooler: self.pooler.or(under.pooler),
            init_head: self.init_head.or(under.init_head),
            init_delta: self.init_delta.or(under.init_delta),
            train: self.train.or(under.train),
            dev: self.dev.or(under.dev),
            dev_fraction: self.dev_fraction.or(under.dev_fraction),
            train_rows: self.train_rows.or(under.train_rows),
            format: self.format.or(under.format),
            task: self.task.or(under.task),
            data: self.data.or(under.data),
            text_column: self.text_column.or(under.text_column),
            text_pair_column: self.text_pair_column.or(under.text_pair_column),
            label_column: self.label_column.or(under.label_column),
            label_separator: self.label_separator.or(under.label_separator),
            unlabelled: self.unlabelled.or(under.unlabelled),
            class_weights: self.class_weights.or(under.class_weights),
            max_length: self.max_length.or(under.max_length),
            stride: self.stride.or(under.stride),
            max_answer_length: self.max_answer_length.or(under.max_answer_length),
            mask_probability: self.mask_probability.or(under.mask_probability),
            whole_word_masking: self.whole_word_masking.or(under.whole_word_masking),
            no_shuffle: self.no_shuffle.or(under.no_shuffle),
            method: self.method.or(under.method),
            biases: self.biases.or(under.biases),
            lora: self.lora.over(under.lora),
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
            predict_test: self.predict_test.or(under.predict_test),
            save_steps: self.save_steps.or(under.save_steps),
            save_minutes: self.save_minutes.or(under.save_minutes),
            tensorboard: self.tensorboard.or(under.tensorboard),
            resume: self.resume.or(under.resume),
            config: self.config.or(under.config),
            device: self.device.or(under.device),
            precision: self.precision.or(under.precision),
            threads: self.threads.or(under.threads),
            quiet: self.quiet.or(under.quiet),
        }
    }
}
