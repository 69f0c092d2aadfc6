//! The step that `plan` counts and `profile` times, as both are told of it: a model's shape, what trains, and a batch.

use clap::Args;
use clap::builder::RangedU64ValueParser;

use super::choice::choice;
use super::compute::{at_least_one, threads};
use super::lora_args::LoraArgs;
use crate::settings::biases::BiasSelection;
use crate::settings::choice::{PoolerInit, Pooling, Precision, WeightStorage};
use crate::settings::device::DeviceChoice;
use crate::settings::saving::SavingChoice;
use crate::settings::task::Task;

/// See the module's head.
#[derive(Debug, Clone, Args)]
pub struct StepArgs {
    /// A folder with config.json (nothing else is needed), or a model on the Hugging Face hub
    #[arg(long, value_name = "MODEL", help_heading = "Model")]
    pub model: String,
    /// How frozen weights are stored
    #[arg(long, value_parser = choice::<WeightStorage>(), default_value_t, help_heading = "Model")]
    pub weights: WeightStorage,
    /// How token vectors become one vector per text
    #[arg(long, value_parser = choice::<Pooling>(), default_value_t, help_heading = "Model")]
    pub pooling: Pooling,
    /// Where the pooler's weights come from: a new one trains; a checkpoint without one gets a new one
    #[arg(long, value_parser = choice::<PoolerInit>(), value_name = "FROM", default_value_t, help_heading = "Model")]
    pub pooler: PoolerInit,
    /// What the head is for
    #[arg(long, value_parser = choice::<Task>(), default_value_t, help_heading = "Model")]
    pub task: Task,
    /// Outputs of the head: number of classes, labels or numbers [default: 1 for regression, else 2]
    #[arg(long, value_name = "N", value_parser = at_least_one(), help_heading = "Model")]
    pub outputs: Option<usize>,
    /// Share of a text's tokens to hide, in --task masked-lm [default: 0.15]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, help_heading = "Model")]
    pub mask_probability: Option<f64>,

    /// Which biases train (see `bitfit help train`) [default: all]
    #[arg(long, value_name = "NAMES", help_heading = "What trains")]
    pub biases: Option<BiasSelection>,
    #[command(flatten)]
    pub lora: LoraArgs,
    /// Dropout on hidden states, attention and head [default: as in the model's config]
    #[arg(long, value_name = "P", help_heading = "What trains")]
    pub dropout: Option<f64>,

    /// Texts per batch
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least_one(), help_heading = "Batch")]
    pub batch_size: usize,
    /// Maximum tokens per batch [default: --batch-size texts of --max-length]
    #[arg(long, value_name = "N", value_parser = at_least_one(), help_heading = "Batch")]
    pub batch_tokens: Option<usize>,
    /// Tokens of the longest text [default: the checkpoint's limit, else its number of positions]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(3..), help_heading = "Batch")]
    pub max_length: Option<usize>,

    /// What is kept for the backward pass (see `bitfit help train`); auto is the fastest exact way that fits the memory
    #[arg(long, value_name = "HOW", default_value_t, help_heading = "Memory")]
    pub saving: SavingChoice,

    /// The device; `bitfit plan` needs no GPU for cuda, except with --allocate
    #[arg(long, value_name = "auto|cpu|cuda[:N]", default_value_t, help_heading = "Running")]
    pub device: DeviceChoice,
    /// Number type of activations
    #[arg(long, value_parser = choice::<Precision>(), default_value_t, help_heading = "Running")]
    pub precision: Precision,
    /// CPU threads, each of which needs some working memory [default: one per processor core]
    #[arg(long, value_name = "N", value_parser = threads(), help_heading = "Running")]
    pub threads: Option<usize>,
}
