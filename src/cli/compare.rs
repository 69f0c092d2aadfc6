//! The options of `compare`: those of `train` for all runs, and each run's own.

use super::config_file::FileOptions;
use super::sweep::SweepCommand;
use super::train_args::{TrainArgs, options_command};
use super::usage::usage_error;
use super::{run_names, sweep_file};
use crate::error::UsageError;
use crate::settings::choice::Choice as _;
use crate::settings::method::Method;
use crate::settings::sweep_run::SweepRun;
use clap::parser::ValueSource;
use clap::{Args, FromArgMatches};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

/// Help that follows the options of `compare`.
pub const EXAMPLES: &str = "\
Examples:
  bitfit compare --model ./minilm --train reviews.tsv --dev-fraction 0.1 --output runs/compare
  bitfit compare --config reviews.toml --run bitfit --run \"qi: --biases query,intermediate\" \\
    --run \"full: --method full --lr 3e-5\" --output runs/compare";

/// What all runs must share to be comparable.
const SHARED: [&str; 24] = [
    "model",
    "init_head",
    "train",
    "data",
    "dev",
    "dev_fraction",
    "train_rows",
    "format",
    "task",
    "text_column",
    "text_pair_column",
    "label_column",
    "unlabelled",
    "max_length",
    "no_shuffle",
    "seed",
    "metric",
    "output",
    "predict_test",
    "resume",
    "config",
    "device",
    "threads",
    "quiet",
];

/// Arguments of `compare`.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// A run: `NAME`, or `NAME: OPTIONS` with options of `train`; repeat it for each run [default: bitfit, head, full]
    ///
    /// NAME labels the run's row and bar, and names its folder. A name of --method selects that method; a run of any
    /// other name trains biases unless its options say otherwise. OPTIONS are written as on a command line, without
    /// quotes. Options outside --run apply to all runs, except that --lr, --weights and --saving do not apply to runs
    /// that train everything: full fine-tuning has its own.
    #[arg(long = "run", value_name = "NAME[: OPTIONS]", help_heading = "What is compared")]
    pub runs: Vec<RunSpec>,
    #[command(flatten)]
    pub common: TrainArgs,
}

/// A run as requested.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSpec {
    name: String,
    args: TrainArgs,
}

impl FromStr for RunSpec {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<Self, UsageError> {
        let (name, options) = text.split_once(':').unwrap_or((text, ""));
        let name = name.trim();
        run_names::in_a_sweep(name).map_err(UsageError::new)?;
        let words = ["train"].into_iter().chain(options.split_whitespace());
        let matches = options_command()
            .try_get_matches_from(words)
            .map_err(|error| UsageError::new(format!("{name}: {}", usage_error(&error))))?;
        let given =
            |id: &&&str| matches.value_source(id).is_some_and(|s| s == ValueSource::CommandLine);
        if let Some(id) = SHARED.iter().find(given) {
            return Err(UsageError::new(format!(
                "{name}: --{} must be the same for all runs: give it outside of --run",
                id.replace('_', "-")
            )));
        }
        let mut args = TrainArgs::from_arg_matches(&matches)
            .map_err(|error| UsageError::new(format!("{name}: {}", usage_error(&error))))?;
        // The name of a method means that method, and cannot mean another.
        let method = Method::from_name(name).ok();
        if method.is_some_and(|method| *args.method.get_or_insert(method) != method) {
            return Err(UsageError::new(format!(
                "{name}: this is the name of a method, but the options name another method"
            )));
        }
        Ok(Self { name: name.to_owned(), args })
    }
}

/// The options of a run named after its method.
fn of_method(method: Method) -> TrainArgs {
    TrainArgs { method: Some(method), ..TrainArgs::default() }
}

impl CompareArgs {
    /// Reads the configuration file if one is named and builds every run's settings. With `--resume` and neither
    /// `--config` nor `--run`, runs and settings are those that the comparison left in its folder.
    ///
    /// # Errors
    /// Like those of `train`, with the run's name; two runs with the same name; an option for all runs that only one
    /// can have.
    pub fn resolve(self) -> Result<SweepCommand, UsageError> {
        let named = self.common.config.is_some() || !self.runs.is_empty();
        let file = match &self.common.config {
            Some(path) => FileOptions::read(path)?.args,
            None => TrainArgs::default(),
        };
        let common = self.common.over(file);
        let own = |option: &str| {
            UsageError::new(format!(
                "--{option} belongs to a run, as in --run \"NAME: --{option} …\""
            ))
        };
        if common.method.is_some() {
            return Err(own("method"));
        }
        if common.biases.is_some() {
            return Err(own("biases"));
        }
        let (output, resume, quiet) = super::sweep::of_all(&common)?;
        if resume && !named {
            let runs = sweep_file::recorded(&output, &common)?;
            let runs = runs.filter(|_| common.model.is_none());
            if let Some(runs) = runs {
                return Ok(SweepCommand { runs, ..command(output, resume, quiet) });
            }
        }
        if resume && named && common.model.is_none() && sweep_file::runs_file(&output).exists() {
            return Err(UsageError::new(format!(
                "--resume: {} has its runs and their settings, and --run or --config replaces both: leave it out to continue \
                 those runs, or give all settings (--model, --train, …, and each --run of the \
                 table)",
                output.display()
            )));
        }
        if resume && common.model.is_none() {
            return Err(UsageError::new(format!(
                "--resume: {} has no comparison that records its runs; give the settings and each --run again, or leave \
                 out --resume to start one",
                output.display()
            )));
        }
        let specs = match self.runs.is_empty() {
            true => {
                let name = |method: &Method| (method.name().to_owned(), of_method(*method));
                Method::COMPARED.iter().map(name).collect()
            }
            false => {
                self.runs.into_iter().map(|RunSpec { name, args }| (name, args)).collect::<Vec<_>>()
            }
        };
        let mut runs: Vec<SweepRun> = Vec::new();
        for (name, args) in specs {
            // Some file systems ignore case.
            if let Some(other) = runs.iter().find(|other| other.name.eq_ignore_ascii_case(&name)) {
                let same = match other.name == name {
                    true => String::new(),
                    false => {
                        format!(", or `{}`, which some file systems do not distinguish", other.name)
                    }
                };
                return Err(UsageError::new(format!("two runs are called `{name}`{same}")));
            }
            let mut common = common.clone();
            let method = args.method.unwrap_or_default();
            if !method.facts().freezes_weights {
                (common.lr, common.weights, common.saving) = (None, None, None);
            }
            common.output = Some(output.join(&name));
            let config = args
                .over(common)
                .complete()
                .map_err(|invalid| UsageError::new(format!("{name}: {invalid}")))?;
            runs.push(SweepRun { variant: name.clone(), name, axes: BTreeMap::new(), config });
        }
        Ok(SweepCommand { runs, ..command(output, resume, quiet) })
    }
}

/// One run at a time, so that runs do not slow each other down.
fn command(output: PathBuf, resume: bool, quiet: bool) -> SweepCommand {
    SweepCommand { runs: Vec::new(), output, jobs: Some(1), resume, quiet }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::rate::Rate;

    fn args(runs: &[&str]) -> Result<SweepCommand, UsageError> {
        let common = options_command()
            .try_get_matches_from([
                "train", "--model", "m", "--train", "a.tsv", "--output", "out", "--lr", "0.01",
            ])
            .unwrap();
        CompareArgs {
            runs: runs.iter().map(|r| r.parse()).collect::<Result<_, _>>()?,
            common: TrainArgs::from_arg_matches(&common).unwrap(),
        }
        .resolve()
    }

    fn error(runs: &[&str]) -> String {
        args(runs).unwrap_err().to_string()
    }

    #[test]
    fn without_runs_the_three_methods_are_compared() {
        let command = args(&[]).unwrap();
        let found: Vec<_> = command
            .runs
            .iter()
            .map(|run| (run.name.as_str(), run.config.method, run.config.lr))
            .collect();
        assert_eq!(
            found,
            [
                ("bitfit", Method::Bitfit, Rate::Is(0.01)),
                ("head", Method::Head, Rate::Is(0.01)),
                ("full", Method::Full, Rate::Is(5e-5))
            ]
        );
        assert_eq!(command.runs[1].config.output, PathBuf::from("out/head"));
        // The seed decides the split, the head and the order.
        assert!(command.runs.iter().all(|run| run.config.seed == 42));
    }

    #[test]
    fn a_run_has_options_of_its_own() {
        let command = args(&["qi: --biases query,intermediate --lr 2e-3", "full:--lr 1e-4"]);
        let runs = command.unwrap().runs;
        assert_eq!(runs[0].config.biases.to_string(), "query,intermediate");
        assert_eq!((runs[0].config.lr, runs[1].config.lr), (Rate::Is(2e-3), Rate::Is(1e-4)));
        assert_eq!(runs[1].config.method, Method::Full);
    }

    #[test]
    fn mistakes_name_the_run() {
        assert!(error(&["a", "a"]).contains("two runs are called `a`"));
        assert!(error(&["a", "A"]).contains("two runs are called `A`, or `a`"));
        assert!(error(&["a/b"]).contains("cannot be a run's name"));
        for own in ["answers", "sweep.jsonl", "report.html", "run.lock", "a.toml"] {
            assert!(error(&[own]).contains("has files of that name"), "{own}");
        }
        assert!(args(&["compare", "summary", "tomls", "a.json"]).is_ok());
        assert!(error(&[": --lr 1"]).contains("cannot be a run's name"));
        let shared = error(&["x: --seed 3"]);
        assert!(shared.contains("x: --seed must be the same"), "{shared}");
        let split = error(&["x: --dev-fraction 0.1"]);
        assert!(split.contains("--dev-fraction"), "{split}");
        let unknown = error(&["x: --learning-rate 3"]);
        assert!(unknown.starts_with("x: ") && unknown.contains("--learning-rate"));
        assert!(error(&["x: --lr 0"]).contains("x: --lr must be above 0"));
        assert!(error(&["full: --method head"]).contains("name another"));
    }

    #[test]
    fn the_help_names_the_methods_that_are_compared() {
        let help = CompareArgs::augment_args(clap::Command::new("compare")).render_long_help();
        let methods = Method::COMPARED.map(|method| method.name());
        let said = format!("[default: {}]", methods.join(", "));
        assert!(help.to_string().contains(&said), "{said}");
    }

    #[test]
    fn every_shared_option_is_an_option() {
        let command = options_command();
        for id in SHARED {
            assert!(command.get_arguments().any(|a| a.get_id() == id), "{id}");
        }
    }
}
