//! The options of `compare`: those of `train` for all runs, and what each run has of its own.

use super::config_file::FileOptions;
use super::run_names;
use super::train_args::{TrainArgs, options_command};
use super::usage::usage_error;
use crate::error::{UsageError, one_line};
use crate::files::read_bounded;
use crate::settings::choice::Choice as _;
use crate::settings::method::Method;
use crate::settings::train::TrainConfig;
use crate::train::lock::LOCK_FILE;
use clap::parser::ValueSource;
use clap::{Args, FromArgMatches};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Help that follows the options of `compare`.
pub const EXAMPLES: &str = "\
Examples:
  bitfit compare --model ./minilm --train reviews.tsv --dev-fraction 0.1 --output runs/compare
  bitfit compare --config reviews.toml --run bitfit --run \"qi: --biases query,intermediate\" \\
    --run \"full: --method full --lr 3e-5\" --output runs/compare";

/// The report's name, to which each form has its extension.
pub const REPORT: &str = "compare";

/// The forms of the report.
pub const REPORT_FORMS: [&str; 4] = ["json", "md", "svg", "png"];

/// No list of runs comes near.
const MOST_LIST: u64 = 1 << 20;

/// What every run must have alike, so that the runs can be compared.
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
    /// A run: `NAME`, or `NAME: OPTIONS` with options of `train`; give it once per run [default: bitfit, head, full]
    ///
    /// NAME is the run's row, bar and folder. The names bitfit, head and full stand for these methods; any other name
    /// trains biases unless its options say something else. The options are words as on a command line, without
    /// quotes. Options given beside --run hold for all runs, except that --lr, --weights and --saving do not hold for
    /// runs that train everything: full fine-tuning takes its own.
    #[arg(long = "run", value_name = "NAME[: OPTIONS]", help_heading = "What is compared")]
    pub runs: Vec<RunSpec>,
    #[command(flatten)]
    pub common: TrainArgs,
}

/// One run as it was asked for.
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
        run_names::of_plain_letters(name).map_err(UsageError::new)?;
        if is_own_file(name) {
            return Err(UsageError::new(format!(
                "`{name}` cannot be a run's name: the comparison has a file of this name in the folder"
            )));
        }
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
        // A name that is a method's means that method, and cannot mean another.
        let method = Method::from_name(name).ok();
        if method.is_some_and(|method| *args.method.get_or_insert(method) != method) {
            return Err(UsageError::new(format!(
                "{name}: the name is that of a method, and the options name another"
            )));
        }
        Ok(Self { name: name.to_owned(), args })
    }
}

/// The options of a run that is called by its method.
fn of_method(method: Method) -> TrainArgs {
    TrainArgs { method: Some(method), ..TrainArgs::default() }
}

/// Whether a comparison may write a file of this name beside its runs' folders. Some file systems do not tell case apart.
fn is_own_file(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let report = |form: &str| name == format!("{REPORT}.{form}");
    name == REPORT
        || name == LOCK_FILE
        || name.ends_with(".toml")
        || REPORT_FORMS.iter().any(|form| report(form))
}

/// The settings of a run, beside its folder: a file for `train --config`.
pub fn settings_file(output: &Path, name: &str) -> PathBuf {
    output.join(format!("{name}.toml"))
}

/// The names of a comparison's runs in their order, for a comparison that goes on.
pub fn list_file(output: &Path) -> PathBuf {
    settings_file(output, REPORT)
}

/// What [`list_file`] holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunList {
    pub runs: Vec<String>,
}

impl RunList {
    /// The runs of the comparison in a folder, each with the settings that it has there; `None` where no list is.
    ///
    /// # Errors
    /// A list or settings that are broken, with the file.
    fn read(output: &Path) -> Result<Option<Vec<(String, TrainArgs)>>, UsageError> {
        let path = list_file(output);
        if !path.exists() {
            return Ok(None);
        }
        let list = read_bounded(&path, MOST_LIST)
            .and_then(|bytes| Ok(toml::from_str::<Self>(std::str::from_utf8(&bytes)?)?))
            .map_err(|error| {
                let (path, why) = (path.display(), one_line(&error));
                UsageError::new(format!(
                    "--resume: {path} should list the runs and does not: {why}; give the comparison's --run and \
                     settings again"
                ))
            })?;
        let read = |name: String| {
            // A name from a file becomes a path no sooner than one from the command line.
            let name = RunSpec::from_str(&name)?.name;
            let args = FileOptions::read(&settings_file(output, &name))?.args;
            Ok((name, args))
        };
        list.runs.into_iter().map(read).collect::<Result<_, _>>().map(Some)
    }
}

/// Checked settings of every run.
#[derive(Debug, Clone, PartialEq)]
pub struct CompareCommand {
    /// By name, in the order given.
    pub runs: Vec<(String, TrainConfig)>,
    pub output: PathBuf,
    /// Go on with a comparison in the output folder.
    pub resume: bool,
    pub quiet: bool,
}

impl CompareArgs {
    /// Reads the configuration file if one is named and makes every run's settings. With `--resume` and neither `--config`
    /// nor `--run`, runs and settings are those that the comparison left in its folder.
    ///
    /// # Errors
    /// As those of `train`, with the run's name; two runs of one name; an option for all that only one can have.
    pub fn resolve(self) -> Result<CompareCommand, UsageError> {
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
        if common.predict_test.is_some() {
            return Err(UsageError::new(
                "--predict-test has no place here: give it to `bitfit predict` with the run to hand in",
            ));
        }
        let output = common
            .output
            .clone()
            .ok_or_else(|| UsageError::new("--output is missing: it names the folder"))?;
        let (resume, quiet) = (common.resume.unwrap_or(false), common.quiet.unwrap_or(false));
        let recorded = match resume && !named {
            true => RunList::read(&output)?,
            false => None,
        };
        if resume && named && common.model.is_none() && list_file(&output).exists() {
            return Err(UsageError::new(format!(
                "--resume: {} knows its runs and their settings, and --run or --config stands in the place of both: leave it \
                 out to go on with those runs, or give the settings too (--model, --train, …, and each --run that is to be in \
                 the table)",
                output.display()
            )));
        }
        if resume && recorded.is_none() && common.model.is_none() {
            return Err(UsageError::new(format!(
                "--resume: {} holds no comparison that says what its runs are; give the settings and each --run again, or \
                 leave out --resume to start one",
                output.display()
            )));
        }
        // What the folder has gives way to what is asked for now; what a run is given counts before what all are.
        let goes_on = recorded.is_some();
        let specs = match recorded {
            Some(recorded) => recorded,
            None if self.runs.is_empty() => {
                let name = |method: &Method| (method.name().to_owned(), of_method(*method));
                Method::COMPARED.iter().map(name).collect()
            }
            None => self.runs.into_iter().map(|RunSpec { name, args }| (name, args)).collect(),
        };
        let mut runs: Vec<(String, TrainConfig)> = Vec::new();
        for (name, args) in specs {
            if runs.iter().any(|(other, _)| *other == name) {
                return Err(UsageError::new(format!("two runs are called `{name}`")));
            }
            let mut common = common.clone();
            let method = args.method.unwrap_or_default();
            if !method.facts().freezes_weights {
                (common.lr, common.weights, common.saving) = (None, None, None);
            }
            common.output = Some(output.join(&name));
            let all = if goes_on { common.over(args) } else { args.over(common) };
            let config =
                all.complete().map_err(|invalid| UsageError::new(format!("{name}: {invalid}")))?;
            runs.push((name, config));
        }
        Ok(CompareCommand { runs, output, resume, quiet })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::rate::Rate;

    fn args(runs: &[&str]) -> Result<CompareCommand, UsageError> {
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
            .map(|(name, config)| (name.as_str(), config.method, config.lr))
            .collect();
        assert_eq!(
            found,
            [
                ("bitfit", Method::Bitfit, Rate::Is(0.01)),
                ("head", Method::Head, Rate::Is(0.01)),
                ("full", Method::Full, Rate::Is(5e-5))
            ]
        );
        assert_eq!(command.runs[1].1.output, PathBuf::from("out/head"));
        // The seed decides the split, the head and the order.
        assert!(command.runs.iter().all(|(_, c)| c.seed == 42));
    }

    #[test]
    fn a_run_has_options_of_its_own() {
        let command = args(&["qi: --biases query,intermediate --lr 2e-3", "full:--lr 1e-4"]);
        let runs = command.unwrap().runs;
        assert_eq!(runs[0].1.biases.to_string(), "query,intermediate");
        assert_eq!((runs[0].1.lr, runs[1].1.lr), (Rate::Is(2e-3), Rate::Is(1e-4)));
        assert_eq!(runs[1].1.method, Method::Full);
    }

    #[test]
    fn mistakes_name_the_run() {
        assert!(error(&["a", "a"]).contains("two runs are called `a`"));
        assert!(error(&["a/b"]).contains("cannot be a run's name"));
        for own in ["compare", "Compare.json", "compare.png", "run.lock", "a.toml"] {
            assert!(error(&[own]).contains("a file of this name"), "{own}");
        }
        assert!(args(&["compare2", "summary", "tomls", "a.json"]).is_ok());
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
