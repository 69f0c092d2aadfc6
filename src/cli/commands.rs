//! The arguments of `eval`, `predict`, `merge` and `inspect`.

use super::choice::{choice, task};
use super::compute::{AnswerArgs, ColumnArgs, ComputeArgs};
use crate::settings::biases::BiasSelection;
use crate::settings::choice::Unlabelled;
use crate::settings::method::Method;
use crate::settings::task_choice::TaskChoice;
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

/// Arguments of `eval`.
#[derive(Debug, Clone, Args)]
pub struct EvalArgs {
    /// What was trained: a run's output folder, or its delta or model file
    #[arg(long, value_name = "PATH", help_heading = "Model")]
    pub delta: PathBuf,
    /// The base model of a delta: a folder or a hub name [default: the one it was trained on]
    #[arg(long, value_name = "MODEL", help_heading = "Model")]
    pub model: Option<String>,
    /// Labelled texts; for a named task a file, or the folder with its files [default for a named task: as in
    /// training]
    #[arg(long, value_name = "FILE|FOLDER", help_heading = "Data")]
    pub data: Option<PathBuf>,
    /// What to do with rows whose label means that there is none: empty, -, nan, null, \N, or -1 if it is not a class
    /// [default: as in training]
    #[arg(long, value_parser = choice::<Unlabelled>(), value_name = "HOW", help_heading = "Data")]
    pub unlabelled: Option<Unlabelled>,
    /// What separates the labels or numbers of one text; JSON lists need no separator [default: as in training]
    #[arg(long, value_name = "TEXT", help_heading = "Data")]
    pub label_separator: Option<String>,
    /// Tokens that neighbouring windows on a long text share, in tasks on tokens [default: as in training]
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub stride: Option<usize>,
    /// Show precision, recall, F1 and rows of each class
    #[arg(long, help_heading = "Output")]
    pub per_class: bool,
    /// Also write the results to this file, as one JSON object
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub columns: ColumnArgs,
    #[command(flatten)]
    pub answers: AnswerArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// The format of predictions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OutputFormat {
    /// Tab-separated, with a header line; for tagged words one word and its tag per line, and a blank line after each text
    #[default]
    Tsv,
    /// One JSON object per line
    Jsonl,
    /// One JSON object with the answer to each question id, as SQuAD's script reads it
    Squad,
}

/// Arguments of `predict`.
#[derive(Debug, Clone, Args)]
pub struct PredictArgs {
    /// What was trained: a run's output folder, or its delta or model file
    #[arg(long, value_name = "PATH", help_heading = "Model")]
    pub delta: PathBuf,
    /// The base model of a delta: a folder or a hub name [default: the one it was trained on]
    #[arg(long, value_name = "MODEL", help_heading = "Model")]
    pub model: Option<String>,
    /// Texts to label, `-` for standard input; texts from a pipe are answered as they arrive
    #[arg(long, value_name = "FILE", default_value = "-", help_heading = "Data")]
    pub input: PathBuf,
    /// Tokens that neighbouring windows on a long text share, in tasks on tokens [default: as in training]
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub stride: Option<usize>,
    /// Answer the test rows of a named task instead, and write the submission files to this folder, with the names and
    /// labels that the benchmark's site expects
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["input", "output", "output_format"], help_heading = "Test rows")]
    pub predict_test: Option<PathBuf>,
    /// The named task [default: the one that was trained]; `ax` needs a model trained on mnli
    #[arg(long, value_name = "TASK", value_parser = task(), requires = "predict_test", help_heading = "Test rows")]
    pub task: Option<TaskChoice>,
    /// Folder with the named task's files [default: as in training, else the hub]
    #[arg(long, value_name = "FOLDER", requires = "predict_test", help_heading = "Test rows")]
    pub data: Option<PathBuf>,
    /// File for the predictions, `-` for standard output
    #[arg(long, value_name = "FILE", default_value = "-", help_heading = "Output")]
    pub output: PathBuf,
    /// Format of the predictions
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub output_format: OutputFormat,
    /// Write only the probability of this class or label with each answer; may be repeated
    #[arg(long, value_name = "NAME", conflicts_with = "predict_test", help_heading = "Output")]
    pub class: Vec<String>,
    /// Write only the answers
    #[arg(long, conflicts_with_all = ["class", "predict_test"], help_heading = "Output")]
    pub no_probabilities: bool,
    #[command(flatten)]
    pub columns: ColumnArgs,
    #[command(flatten)]
    pub answers: AnswerArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

impl PredictArgs {
    pub fn reads_stdin(&self) -> bool {
        self.input == Path::new("-")
    }

    pub fn writes_stdout(&self) -> bool {
        self.output == Path::new("-")
    }
}

/// Arguments of `merge`.
#[derive(Debug, Clone, Args)]
pub struct MergeArgs {
    /// The trained delta: its file, or its run's output folder
    #[arg(long, value_name = "PATH", help_heading = "Model")]
    pub delta: PathBuf,
    /// The base model: a folder or a hub name [default: the one the delta was trained on]
    #[arg(long, value_name = "MODEL", help_heading = "Model")]
    pub model: Option<String>,
    /// Folder to write the merged model to; must not hold a model yet
    #[arg(long, value_name = "FOLDER", help_heading = "Output")]
    pub output: PathBuf,
    /// Replace a README.md in the folder with the model card
    #[arg(long, help_heading = "Output")]
    pub replace_card: bool,
    /// Print only errors
    #[arg(long, help_heading = "Running")]
    pub quiet: bool,
}

/// Arguments of `inspect`.
#[derive(Debug, Clone, Args)]
// Either is enough, but one is needed.
#[command(group = clap::ArgGroup::new("subject").required(true).multiple(true).args(["model", "delta"]))]
pub struct InspectArgs {
    /// The model: a folder or a hub name [default with --delta: the one the delta was trained on]
    #[arg(long, value_name = "MODEL", help_heading = "Model")]
    pub model: Option<String>,
    /// A delta: its file, or its run's output folder; shows how far each bias moved
    #[arg(long, value_name = "PATH", help_heading = "Model")]
    pub delta: Option<PathBuf>,
    /// Count this selection as trained (see `bitfit help train`)
    #[arg(
        long,
        value_name = "NAMES",
        default_value_t,
        help_heading = "What trains",
        conflicts_with = "delta"
    )]
    pub biases: BiasSelection,
    /// Count what this method trains (rows: with the default seed)
    #[arg(
        long,
        value_parser = choice::<Method>(),
        default_value_t,
        help_heading = "What trains",
        conflicts_with = "delta"
    )]
    pub method: Method,
}
