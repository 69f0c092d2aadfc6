//! The arguments of `export` and `import`: deltas as other programs have them.

use super::choice::choice;
use crate::settings::task::Task;
use clap::Args;
use std::path::PathBuf;

pub(super) const EXPORT_EXAMPLES: &str = "\
Examples:
  bitfit export --delta runs/rte --peft rte-adapter
  python3 -c 'from peft import AutoPeftModelForSequenceClassification as Auto; \\
    print(Auto.from_pretrained(\"rte-adapter\", num_labels=2))'

The adapter has the type BEFT, which peft supports since 0.20: a vector for each bias, and whole LayerNorms and head.
What BEFT cannot hold (lora, ia3, single values, the head on masked words) is refused by the tensor's name.";

pub(super) const IMPORT_EXAMPLES: &str = "\
Examples:
  bitfit import --peft rte-adapter --output runs/again
  bitfit import --peft beft --model bert-base-uncased --labels negative,positive --output runs/beft

It reads adapters of the types BEFT, LN_TUNING, and LORA with bias=\"all\" or \"lora_only\" if their products are zero. What
changes more than biases, LayerNorms and the head is refused by the tensor's name.";

/// Arguments of `export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// The trained delta: its file, or its run's output folder
    #[arg(long, value_name = "PATH", help_heading = "Model")]
    pub delta: PathBuf,
    /// The base model: a folder or a hub name [default: the one the delta was trained on]
    #[arg(long, value_name = "MODEL", help_heading = "Model")]
    pub model: Option<String>,
    /// Folder to write the adapter to; must not hold an adapter, a model or a run yet
    #[arg(long, value_name = "FOLDER", help_heading = "Output")]
    pub peft: PathBuf,
    /// Replace a README.md in the folder with the model card
    #[arg(long, help_heading = "Output")]
    pub replace_card: bool,
    /// Print only errors
    #[arg(long, help_heading = "Running")]
    pub quiet: bool,
}

/// Arguments of `import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// The adapter: a folder with adapter_config.json and adapter_model.safetensors
    #[arg(long, value_name = "FOLDER", help_heading = "Model")]
    pub peft: PathBuf,
    /// The base model: a folder or a hub name [default: the one the adapter names]
    #[arg(long, value_name = "MODEL", help_heading = "Model")]
    pub model: Option<String>,
    /// What the labels are [default: as the adapter says; one number per text if the head has one output]
    #[arg(long, value_parser = choice::<Task>(), value_name = "TASK", help_heading = "Task")]
    pub task: Option<Task>,
    /// Names of the classes or labels in the order of the head's outputs, joined by commas or as a JSON list [default: as
    /// the adapter says, else LABEL_0, LABEL_1, …]
    #[arg(long, value_name = "NAMES", help_heading = "Task")]
    pub labels: Option<String>,
    /// Folder to write the delta to; must not hold a run yet
    #[arg(long, value_name = "FOLDER", help_heading = "Output")]
    pub output: PathBuf,
    /// Print only errors
    #[arg(long, help_heading = "Running")]
    pub quiet: bool,
}
