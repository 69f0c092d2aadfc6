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
    /// What was trained: the output folder of a run, or the file of its delta or model
    #[arg(long, value_name = "PATH", help_heading = "Model")]
    pub delta: PathBuf,
    /// The base model of a delta: a folder or a hub name [default: the one that it was trained on]
    #[arg(long, value_name = "MODEL", help_heading = "Model")]
    pub model: Option<String>,
    /// Labelled texts; for a named task a file, or the folder with its files [default for a named task: where it was
    /// trained from]
    #[arg(long, value_name = "FILE|FOLDER", help_heading = "Data")]
    pub data: Option<PathBuf>,
    /// Rows whose label says that there is none: empty, -, nan, null, \N, -1 that is no class [default: as in training]
    #[arg(long, value_parser = choice::<Unlabelled>(), value_name = "HOW", help_heading = "Data")]
    pub unlabelled: Option<Unlabelled>,
    /// What stands between the labels or numbers of one text; JSON lists need none [default: as in training]
    #[arg(long, value_name = "TEXT", help_heading = "Data")]
    pub label_separator: Option<String>,
    /// Tokens that the windows on a long text share, in tasks on tokens [default: as in training]
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
    /// Tab separated, with a header line; of words a word and its tag per line, and a blank line behind each text
    #[default]
    Tsv,
    /// One JSON object per line
    Jsonl,
    /// Answers by the ids of their questions, one JSON object, as SQuAD's script takes them
    Squad,
}

/// Arguments of `predict`.
#[derive(Debug, Clone, Args)]
pub struct PredictArgs {
    /// What was trained: the output folder of a run, or the file of its delta or model
    #[arg(long, value_name = "PATH", help_heading = "Model")]
    pub delta: PathBuf,
    /// The base model of a delta: a folder or a hub name [default: the one that it was trained on]
    #[arg(long, value_name = "MODEL", help_heading = "Model")]
    pub model: Option<String>,
    /// Texts to label, `-` for standard input; what comes through a pipe is answered as it comes
    #[arg(long, value_name = "FILE", default_value = "-", help_heading = "Data")]
    pub input: PathBuf,
    /// Tokens that the windows on a long text share, in tasks on tokens [default: as in training]
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub stride: Option<usize>,
    /// Answer the test rows of a named task instead, and write the files to hand in to this folder, under the names and in
    /// the words that the benchmark's site takes
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["input", "output", "output_format"], help_heading = "Test rows")]
    pub predict_test: Option<PathBuf>,
    /// The named task [default: the one that was trained]; `ax` takes a model of mnli
    #[arg(long, value_name = "TASK", value_parser = task(), requires = "predict_test", help_heading = "Test rows")]
    pub task: Option<TaskChoice>,
    /// Folder with the named task's files [default: where it was trained from, else the hub]
    #[arg(long, value_name = "FOLDER", requires = "predict_test", help_heading = "Test rows")]
    pub data: Option<PathBuf>,
    /// Where predictions go, `-` for standard output
    #[arg(long, value_name = "FILE", default_value = "-", help_heading = "Output")]
    pub output: PathBuf,
    /// Format of the predictions
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub output_format: OutputFormat,
    /// Write the probability of this class or label beside the answer, and not those of all; may be given several times
    #[arg(long, value_name = "NAME", conflicts_with = "predict_test", help_heading = "Output")]
    pub class: Vec<String>,
    /// Write the answers alone
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
    /// The trained delta: its file, or the output folder of its run
    #[arg(long, value_name = "PATH", help_heading = "Model")]
    pub delta: PathBuf,
    /// The base model: a folder or a hub name [default: the one that the delta was trained on]
    #[arg(long, value_name = "MODEL", help_heading = "Model")]
    pub model: Option<String>,
    /// Folder to write the merged model to; must not hold a model yet
    #[arg(long, value_name = "FOLDER", help_heading = "Output")]
    pub output: PathBuf,
    /// Write the model card over a README.md that is in the folder
    #[arg(long, help_heading = "Output")]
    pub replace_card: bool,
    /// Print nothing but errors
    #[arg(long, help_heading = "Running")]
    pub quiet: bool,
}

/// Arguments of `inspect`.
#[derive(Debug, Clone, Args)]
// Either is enough, but one is needed.
#[command(group = clap::ArgGroup::new("subject").required(true).multiple(true).args(["model", "delta"]))]
pub struct InspectArgs {
    /// The model: a folder or a hub name [default with --delta: the one that the delta was trained on]
    #[arg(long, value_name = "MODEL", help_heading = "Model")]
    pub model: Option<String>,
    /// A delta: its file, or the output folder of its run; shows how far each bias moved
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
    /// Count what this method trains; rows: with the seed that `train` takes where none is given
    #[arg(
        long,
        value_parser = choice::<Method>(),
        default_value_t,
        help_heading = "What trains",
        conflicts_with = "delta"
    )]
    pub method: Method,
}
