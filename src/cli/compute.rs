//! The options that several commands have alike: where texts stand in a file, and how a model is run.

use super::choice::choice;
use crate::settings::choice::{FormatChoice, Precision, WeightStorage};
use crate::settings::device::DeviceChoice;
use crate::settings::no_answer::NoAnswer;
use crate::settings::validate::MOST_THREADS;
use clap::Args;
use clap::builder::RangedU64ValueParser;

/// Where texts and labels stand in a data file.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Data")]
pub struct ColumnArgs {
    /// Format of the data; auto goes by the file's extension, and predict reads standard input as tsv, or as conll for a task
    /// on words
    #[arg(long, value_parser = choice::<FormatChoice>(), default_value_t)]
    pub format: FormatChoice,
    /// Column with the text [default: the first of the usual names: text, sentence, sentence1, …]
    #[arg(long, value_name = "NAME")]
    pub text_column: Option<String>,
    /// Column with the second text of a pair [default: the first of the usual names, if there is one]
    #[arg(long, value_name = "NAME")]
    pub text_pair_column: Option<String>,
    /// Column with the label, which predict does not read [default: the first of the usual names: label, gold_label,
    /// score, …]
    #[arg(long, value_name = "NAME")]
    pub label_column: Option<String>,
}

/// How answers to questions are chosen.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Answers")]
pub struct AnswerArgs {
    /// Longest answer to a question, in tokens [default: as in training]
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    pub max_answer_length: Option<usize>,
    /// Leave a question unanswered if the score of no answer exceeds the best answer's by more than this; never: always
    /// answer [default: the best value on training's dev rows]
    #[arg(long, value_name = "NUMBER|never", allow_negative_numbers = true)]
    pub no_answer_threshold: Option<NoAnswer>,
}

/// How a model without training is run.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Running")]
pub struct ComputeArgs {
    /// How frozen weights are stored [default: as in training]
    #[arg(long, value_parser = choice::<WeightStorage>())]
    pub weights: Option<WeightStorage>,
    /// Texts per batch
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = at_least_one())]
    pub batch_size: usize,
    /// Maximum tokens per batch [default: limited only by --batch-size]
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    pub batch_tokens: Option<usize>,
    /// Cut texts after this many tokens, including special ones [default: as in training]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(3..))]
    pub max_length: Option<usize>,
    /// Device to compute on; auto is the first usable GPU, else the CPU
    #[arg(long, value_name = "auto|cpu|cuda[:N]", default_value_t)]
    pub device: DeviceChoice,
    /// Number type of activations, and of matrices on a GPU
    #[arg(long, value_parser = choice::<Precision>(), default_value_t)]
    pub precision: Precision,
    /// CPU threads [default: one per processor core]
    #[arg(long, value_name = "N", value_parser = threads())]
    pub threads: Option<usize>,
    /// Print only results, warnings and errors
    #[arg(long)]
    pub quiet: bool,
}

/// A number of threads that start in a moment.
pub(super) fn threads() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=MOST_THREADS as u64)
}

/// A batch without texts could not run anything.
pub(super) fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}
