//! The command line: commands, and the single conversion of raw arguments to checked settings.

mod choice;
mod commands;
mod compare;
mod compute;
mod config_file;
mod exchange;
mod grid;
mod lora_args;
mod plan;
mod profile;
mod run_names;
mod shell;
mod step_args;
mod sweep;
pub mod sweep_file;
mod toml_options;
mod train;
mod train_args;
mod usage;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub use commands::{EvalArgs, InspectArgs, MergeArgs, OutputFormat, PredictArgs};
pub use compare::CompareArgs;
pub use compute::{AnswerArgs, ColumnArgs, ComputeArgs};
pub use exchange::{ExportArgs, ImportArgs};
pub use plan::PlanArgs;
pub use profile::ProfileArgs;
pub use shell::{CompletionsArgs, ManArgs};
pub use step_args::StepArgs;
pub use sweep::{SweepArgs, SweepCommand};
pub use train::TrainCommand;
pub use train_args::TrainArgs;

use crate::error::UsageError;
use usage::{not_text, usage_error, with_negative_numbers};

/// Fine-tune a BERT-family encoder by training only its biases.
///
/// BitFit (Ben Zaken, Ravfogel and Goldberg, ACL 2022) keeps every weight matrix of the encoder as it was
/// pre-trained. Only the bias vectors, about 0.1 % of the parameters, and a small head are trained. Each task
/// is a file of a few hundred KB, and many tasks share one frozen model.
#[derive(Debug, Parser)]
#[command(name = "bitfit", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  bitfit train --model ./minilm --train reviews.tsv --dev-fraction 0.1 --output runs/reviews
  bitfit eval --delta runs/reviews --data other.tsv
  cut -f1 new.tsv | bitfit predict --delta runs/reviews > labelled.tsv
  bitfit merge --delta runs/reviews --output reviews-model
  bitfit inspect --model ./minilm --biases query,intermediate
  bitfit plan --model ./minilm --batch-size 32 --max-length 128 --memory 512MiB

`bitfit help COMMAND` explains a command and each of its options.";

/// The commands.
#[derive(Debug, Subcommand)]
// Parsed once per process: the size of the largest variant costs nothing.
#[allow(clippy::large_enum_variant)]
pub enum Command {
    /// Train a model's biases and a head on labelled texts
    #[command(after_help = train_args::EXAMPLES)]
    Train(TrainArgs),
    /// Train with several methods on the same data, and compare memory, time and quality
    #[command(after_help = compare::EXAMPLES)]
    Compare(CompareArgs),
    /// Train a grid of runs in one process, and show the results in tables and plots
    #[command(after_help = sweep::EXAMPLES)]
    Sweep(SweepArgs),
    /// Evaluate a trained delta or model on labelled texts
    Eval(EvalArgs),
    /// Label the texts of a file or of standard input
    Predict(PredictArgs),
    /// Merge a delta into its base model, as a folder that `transformers` loads
    Merge(MergeArgs),
    /// Write a delta as a PEFT adapter
    #[command(after_help = exchange::EXPORT_EXAMPLES)]
    Export(ExportArgs),
    /// Convert a PEFT adapter to a delta
    #[command(after_help = exchange::IMPORT_EXAMPLES)]
    Import(ImportArgs),
    /// Show a model's parameters by component, or how far a delta moved each bias
    Inspect(InspectArgs),
    /// Show how much memory training would take, part by part, without running it
    Plan(PlanArgs),
    /// Time a training step operation by operation, and compare it with the device's limits
    #[command(after_help = profile::EXAMPLES)]
    Profile(ProfileArgs),
    /// Show what this program can run on here: driver, GPUs, built-in kernels
    Doctor,
    /// Print a shell completion script
    Completions(CompletionsArgs),
    /// Print the manual page, or write one per command
    Man(ManArgs),
}

impl Command {
    /// As on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Train(_) => "train",
            Self::Compare(_) => "compare",
            Self::Sweep(_) => "sweep",
            Self::Eval(_) => "eval",
            Self::Predict(_) => "predict",
            Self::Merge(_) => "merge",
            Self::Export(_) => "export",
            Self::Import(_) => "import",
            Self::Inspect(_) => "inspect",
            Self::Plan(_) => "plan",
            Self::Profile(_) => "profile",
            Self::Doctor => "doctor",
            Self::Completions(_) => "completions",
            Self::Man(_) => "man",
        }
    }

    /// Whether its result only goes to standard output. The results of a run, a sweep, a merge or an adapter are files.
    pub fn answers_on_stdout(&self) -> bool {
        match self {
            Self::Train(_) | Self::Compare(_) | Self::Sweep(_) => false,
            Self::Merge(_) | Self::Export(_) | Self::Import(_) => false,
            Self::Eval(args) => args.output.is_none(),
            Self::Predict(args) => args.predict_test.is_none() && args.writes_stdout(),
            Self::Man(args) => args.output.is_none(),
            Self::Inspect(_) | Self::Plan(_) | Self::Profile(_) | Self::Doctor => true,
            Self::Completions(_) => true,
        }
    }
}

/// The outcome of parsing a command line.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Parsed {
    Run(Cli),
    /// Help or the version was requested. clap prints these, since it knows whether standard output shows colours.
    Print(clap::Error),
}

impl Cli {
    /// Parses a whole command line, starting with the program's name.
    ///
    /// # Errors
    /// Anything clap refuses, as one line.
    pub fn from_args<I>(args: I) -> Result<Parsed, UsageError>
    where
        I: IntoIterator,
        I::Item: Into<OsString> + Clone,
    {
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        let parsed = with_negative_numbers(Self::command())
            .try_get_matches_from(&args)
            .and_then(|matches| Self::from_arg_matches(&matches));
        match parsed {
            Ok(cli) => Ok(Parsed::Run(cli)),
            Err(error) => match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(Parsed::Print(error)),
                ErrorKind::InvalidUtf8 => Err(not_text(&args)),
                _ => Err(usage_error(&error)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> Command {
        match Cli::from_args([&["bitfit"], args].concat()).unwrap() {
            Parsed::Run(cli) => cli.command,
            Parsed::Print(help) => panic!("printed {help}"),
        }
    }

    fn error(args: &[&str]) -> String {
        Cli::from_args([&["bitfit"], args].concat()).unwrap_err().to_string()
    }

    #[test]
    fn clap_finds_nothing_wrong_with_the_definitions() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_of_every_command_is_explained() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{} {}", command.get_name(), arg.get_id());
            }
        }
    }

    #[test]
    fn help_and_version_are_for_printing() {
        for args in [["bitfit", "--help"], ["bitfit", "--version"]] {
            assert!(matches!(Cli::from_args(args), Ok(Parsed::Print(_))));
        }
        let Ok(Parsed::Print(help)) = Cli::from_args(["bitfit", "train", "--help"]) else {
            panic!("no help")
        };
        let text = help.to_string();
        for heading in
            ["Model", "Data", "What trains", "Optimizer", "Evaluation", "Output", "Running"]
        {
            assert!(text.contains(heading), "{heading} is missing in {text}");
        }
    }

    #[test]
    fn mistakes_are_one_line() {
        let wrong_value = error(&["train", "--task", "ranking"]);
        assert!(wrong_value.contains("'ranking' for '--task"), "{wrong_value}");
        assert!(
            wrong_value.contains("[possible values: classification, multi-label, regression, "),
            "{wrong_value}"
        );
        let wrong_name = error(&["train", "--learning-rate", "1"]);
        assert!(wrong_name.contains("--learning-rate"), "{wrong_name}");
        let missing = error(&["merge", "--delta", "d"]);
        assert!(missing.contains("--output"), "{missing}");
        for message in [wrong_value, wrong_name, missing, error(&[])] {
            assert!(!message.contains('\n') && !message.contains("Usage"), "{message}");
        }
    }

    #[test]
    fn a_number_that_an_option_does_not_take_is_answered_with_what_it_takes() {
        for seed in ["-1", "1.5", "x", "18446744073709551616"] {
            let said = error(&["train", "--seed", seed]);
            let expected =
                "for '--seed <N>': seeds are whole numbers from 0 to 18446744073709551615";
            assert!(said.contains(expected), "{said}");
        }
        let whole = "write a whole number, 0 or more";
        for (option, takes) in [
            ("--epochs", whole),
            ("--batch-size", whole),
            ("--threads", whole),
            ("--weight-decay", "write a number"),
        ] {
            for wrong in ["x", "-y"] {
                let said = error(&["train", &format!("{option}={wrong}")]);
                assert!(said.contains(takes) && said.contains(option), "{said}");
            }
        }
        for option in ["--epochs", "--batch-size", "--threads"] {
            let said = error(&["train", option, "-1"]);
            assert!(said.contains(&format!("invalid value '-1' for '{option}")), "{said}");
        }
        assert!(error(&["train", "--output", "-1"]).contains("unexpected argument '-1'"));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_text_is_named_with_its_option() {
        use std::os::unix::ffi::OsStringExt;
        let odd = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let error = |args: &[OsString]| {
            let error = Cli::from_args([&["bitfit".into(), "plan".into()], args].concat());
            error.unwrap_err().to_string()
        };
        let said = error(&["--model".into(), odd(b"mod\xffel")]);
        assert!(said.starts_with("--model \"mod\\xFFel\": "), "{said}");
        let said = error(&["--list".into(), odd(b"--model=\xff")]);
        assert!(said.starts_with("\"--model=\\xFF\": "), "{said}");
    }

    #[test]
    fn the_smaller_commands_have_their_options() {
        let Command::Predict(predict) =
            run(&["predict", "--delta", "d", "--output-format", "jsonl"])
        else {
            panic!("not predict")
        };
        assert!(predict.reads_stdin() && predict.writes_stdout());
        assert_eq!(predict.output_format, OutputFormat::Jsonl);
        assert_eq!(predict.compute.batch_size, 32);
        let Command::Eval(eval) =
            run(&["eval", "--delta", "d", "--data", "x.csv", "--batch-size", "8"])
        else {
            panic!("not eval")
        };
        assert_eq!(eval.compute.batch_size, 8);
        assert!(
            error(&["eval", "--delta", "d", "--data", "x", "--batch-size", "0"])
                .contains("--batch-size")
        );
        assert!(error(&["inspect"]).contains("--model"));
        assert!(matches!(run(&["inspect", "--delta", "d"]), Command::Inspect(_)));
    }
}
