//! The options of `sweep`: a grid, converted to checked settings for every run.

use super::config_file::FileOptions;
use super::grid::{Grid, GridAxis, Variant};
use super::run_names;
use super::sweep_file::{RUNS_FILE, recorded};
use super::train_args::TrainArgs;
use crate::error::UsageError;
use crate::settings::sweep_run::SweepRun;
use crate::settings::train::TrainConfig;
use crate::settings::validate::MOST_THREADS;
use clap::Args;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// Help that follows the options.
pub const EXAMPLES: &str = "\
Examples:
  bitfit sweep --grid grid.toml --output runs/sweep
  bitfit sweep --resume --output runs/sweep

A grid:
  model = \"./minilm\"            # options of train, for all runs
  train = \"reviews.tsv\"
  dev-fraction = 0.1

  [grid]                        # axes: every combination is run
  lr = [3e-4, 1e-3, 3e-3]
  seed = [1, 2, 3]

  [[variant]]                   # a row of the table; a method's name selects that method
  name = \"bitfit\"
  [[variant]]
  name = \"qi\"
  biases = \"query,intermediate\"
  [[variant]]
  name = \"full\"
  lr = [1e-5, 3e-5, 5e-5]       # instead of the grid's";

/// More runs than this are a mistake in the grid.
const MOST_RUNS: usize = 10_000;

/// Arguments of `sweep`.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct SweepArgs {
    /// TOML file with the runs: options of train for all runs, axes in `[grid]`, and rows of the table in `[[variant]]`
    #[arg(long, value_name = "FILE", help_heading = "What is run")]
    pub grid: Option<PathBuf>,
    /// Maximum number of concurrent runs, which share the threads [default: as many as threads and memory allow]
    #[arg(long, value_name = "N", help_heading = "Running")]
    pub jobs: Option<usize>,
    #[command(flatten)]
    pub common: TrainArgs,
}

/// Checked settings of every run.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepCommand {
    /// In grid order. Each writes into a folder of its name.
    pub runs: Vec<SweepRun>,
    pub output: PathBuf,
    /// Most concurrent runs; `None` means as many as fit.
    pub jobs: Option<usize>,
    /// Continue the sweep in the output folder.
    pub resume: bool,
    pub quiet: bool,
}

/// Those options for all runs that concern their folder: its path, whether to continue there, and whether quietly.
///
/// # Errors
/// No folder; an option that only applies to one run.
pub(super) fn of_all(common: &TrainArgs) -> Result<(PathBuf, bool, bool), UsageError> {
    if common.predict_test.is_some() {
        return Err(UsageError::new(
            "--predict-test is not for several runs: give it to `bitfit predict` with the run to submit",
        ));
    }
    let output = common.output.clone();
    let output = output.ok_or_else(|| UsageError::new("--output is missing: name the folder"))?;
    Ok((output, common.resume.unwrap_or(false), common.quiet.unwrap_or(false)))
}

impl SweepArgs {
    /// Reads the grid and builds every run's settings. With `--resume` and no `--grid`, the runs are those that the
    /// sweep has in its folder.
    ///
    /// # Errors
    /// A mistake in a file or an option, with file and line and the affected run.
    pub fn resolve(self) -> Result<SweepCommand, UsageError> {
        let Self { grid, jobs, common } = self;
        if let Some(jobs) = jobs
            && !(1..=MOST_THREADS).contains(&jobs)
        {
            let problem = format!("--jobs must be from 1 to {MOST_THREADS}, got {jobs}");
            return Err(UsageError::new(problem));
        }
        let (output, resume, quiet) = of_all(&common)?;
        let runs = match grid {
            Some(path) => from_grid(&path, common, &output)?,
            None if resume && common.config.is_some() => {
                return Err(UsageError::new(
                    "--config needs --grid; leave it out to continue with the settings the runs have",
                ));
            }
            None if resume => recorded(&output, &common)?.ok_or_else(|| {
                UsageError::new(format!(
                    "--resume: {} is not the folder of a sweep, it has no {RUNS_FILE}; name the grid with --grid",
                    output.display()
                ))
            })?,
            None => {
                return Err(UsageError::new(
                    "--grid is missing: name the TOML file with the runs (`bitfit help sweep` shows one)",
                ));
            }
        };
        Ok(SweepCommand { runs, output, jobs, resume, quiet })
    }
}

fn from_grid(path: &Path, flags: TrainArgs, output: &Path) -> Result<Vec<SweepRun>, UsageError> {
    let grid = Grid::read(path)?;
    let (config_path, config) = match &flags.config {
        Some(path) => (path.clone(), FileOptions::read(path)?),
        None => (PathBuf::new(), FileOptions::default()),
    };
    let expansion = Expansion { path, grid, config_path, config, flags, output };
    expansion.runs()
}

/// A grid and everything it builds on.
struct Expansion<'a> {
    path: &'a Path,
    grid: Grid,
    /// The file of `--config`.
    config_path: PathBuf,
    config: FileOptions,
    flags: TrainArgs,
    output: &'a Path,
}

impl Expansion<'_> {
    fn runs(&self) -> Result<Vec<SweepRun>, UsageError> {
        let under = self.grid.top.args.clone().over(self.config.args.clone());
        let common = self.flags.clone().over(under);
        let variants = self.variants(&common);
        let axes: Vec<Vec<&GridAxis>> =
            variants.iter().map(|variant| self.axes_of(variant)).collect();
        let sizes = axes
            .iter()
            .map(|axes| axes.iter().fold(1, |n: usize, axis| n.saturating_mul(axis.values.len())));
        let all = sizes.fold(0, usize::saturating_add);
        if all > MOST_RUNS {
            return Err(self.error(
                None,
                &format!("the grid has {all} runs, more than {MOST_RUNS}: remove values"),
            ));
        }
        self.no_effect(&variants)?;
        let several: BTreeSet<&str> = axes
            .iter()
            .flatten()
            .filter(|axis| axis.values.len() > 1)
            .map(|axis| axis.option.as_str())
            .collect();
        let mut made = Made::default();
        for (variant, axes) in variants.iter().zip(&axes) {
            let mut places = vec![0; axes.len()];
            loop {
                let run = self.run(variant, axes, &places, &common, &several)?;
                made.take(run).map_err(|problem| self.error(Some(variant.line), &problem))?;
                // The last axis varies fastest.
                let Some(next) =
                    (0..axes.len()).rev().find(|&i| places[i] + 1 < axes[i].values.len())
                else {
                    break;
                };
                places[next] += 1;
                places[next + 1..].fill(0);
            }
        }
        Ok(made.runs)
    }

    /// The rows of the table: those of the file, otherwise one per method used.
    fn variants(&self, common: &TrainArgs) -> Vec<Variant> {
        if !self.grid.variants.is_empty() {
            return self.grid.variants.clone();
        }
        let row = |axis: GridAxis| Variant {
            name: axis.values[0].given.text.clone(),
            line: axis.line,
            axes: vec![axis],
        };
        match self.grid.axes.iter().find(|axis| axis.is_method()) {
            Some(methods) => {
                let values = methods.values.iter();
                let of_value = |value| GridAxis { values: vec![value], ..methods.clone() };
                values.cloned().map(of_value).map(row).collect()
            }
            None => vec![row(GridAxis::of_method(common.method.unwrap_or_default(), 1))],
        }
    }

    /// The axes of a variant: its own replace the grid's.
    fn axes_of<'a>(&'a self, variant: &'a Variant) -> Vec<&'a GridAxis> {
        let mut own: Vec<&GridAxis> = variant.axes.iter().collect();
        let mut axes = Vec::new();
        for axis in &self.grid.axes {
            let same = own.iter().position(|own| own.option == axis.option);
            match same {
                Some(place) => axes.push(own.remove(place)),
                None if axis.decided_by_any(&variant.axes) => {}
                None => axes.push(axis),
            }
        }
        axes.extend(own);
        axes
    }

    /// Refuses a command-line option that would affect no run.
    fn no_effect(&self, variants: &[Variant]) -> Result<(), UsageError> {
        let of_grid = self.grid.axes.iter();
        let of_all = variants[0].axes.iter().filter(|axis| {
            // Without sections, what a row has is not the user's mistake.
            !self.grid.variants.is_empty()
                && variants.iter().all(|variant| axis.decided_by_any(&variant.axes))
        });
        let lost = of_grid.chain(of_all).find(|axis| axis.decided_by(&self.flags));
        match lost {
            None => Ok(()),
            Some(axis) => Err(self.error(
                Some(axis.line),
                &format!(
                    "`{}` is set here for every run and also on the command line, which would have no effect: keep one",
                    axis.option
                ),
            )),
        }
    }

    /// The run at one position of the axes.
    fn run(
        &self,
        variant: &Variant,
        axes: &[&GridAxis],
        places: &[usize],
        common: &TrainArgs,
        several: &BTreeSet<&str>,
    ) -> Result<SweepRun, UsageError> {
        let at: Vec<_> =
            axes.iter().zip(places).map(|(&axis, &i)| (axis, &axis.values[i])).collect();
        let telling = at.iter().filter(|(axis, _)| axis.values.len() > 1);
        let name = run_names::made_of(
            &variant.name,
            telling.map(|(axis, value)| (axis.option.as_str(), value.given.text.as_str())),
        );
        run_names::in_a_sweep(&name).map_err(|why| self.error(Some(variant.line), &why))?;
        let own = at
            .iter()
            .fold(TrainArgs::default(), |own, (_, value)| own.over(value.given.args.clone()));
        let args = TrainArgs { output: Some(self.output.join(&name)), ..own.over(common.clone()) };
        let config = args.complete().map_err(|invalid| {
            let found = at.iter().find(|(axis, _)| axis.option == invalid.option);
            let said = match found {
                Some((axis, value)) => {
                    format!("variant `{}`, {} = {}", variant.name, axis.option, value.given.text)
                }
                None => format!("variant `{}`", variant.name),
            };
            let problem = format!("{said}: {invalid}");
            match found {
                Some((_, value)) => self.error(Some(value.line), &problem),
                None => self.below(invalid.option, &problem),
            }
        })?;
        let value = |option: &&str| {
            let value = at.iter().find(|(axis, _)| axis.option == *option);
            value.map(|(_, value)| ((*option).to_owned(), value.given.text.clone()))
        };
        let axes = several.iter().filter_map(value).collect();
        Ok(SweepRun { name, variant: variant.name.clone(), axes, config })
    }

    /// A problem with an option that is not on an axis: from the command line, the top of the grid or another file.
    fn below(&self, option: &str, problem: &str) -> UsageError {
        let over = self.flags.clone().over(self.grid.top.args.clone());
        match (self.grid.top.line_used(option, &self.flags), self.config.line_used(option, &over)) {
            (Some(line), _) => self.error(Some(line), problem),
            (None, Some(line)) => {
                UsageError::new(format!("{}:{line}: {problem}", self.config_path.display()))
            }
            (None, None) => self.error(None, problem),
        }
    }

    fn error(&self, line: Option<usize>, problem: &str) -> UsageError {
        let line = line.map_or(String::new(), |line| format!(":{line}"));
        UsageError::new(format!("{}{line}: {problem}", self.path.display()))
    }
}

/// Runs, all of them different.
#[derive(Default)]
struct Made {
    runs: Vec<SweepRun>,
    /// Indices by name, ignoring case, and by settings.
    names: HashMap<String, usize>,
    settings: HashMap<String, usize>,
}

impl Made {
    fn take(&mut self, run: SweepRun) -> Result<(), String> {
        let place = self.runs.len();
        if let Some(&other) = self.names.get(&run.name.to_ascii_lowercase()) {
            let other = &self.runs[other];
            return Err(format!(
                "the run `{}` of variant `{}` would have the same folder as `{}` of variant `{}`: rename one variant",
                run.name, run.variant, other.name, other.variant
            ));
        }
        let nowhere = TrainConfig { output: PathBuf::new(), ..run.config.clone() };
        let settings = nowhere.to_toml().map_err(|error| format!("{}: {error:#}", run.name))?;
        if let Some(&other) = self.settings.get(&settings) {
            return Err(format!(
                "the runs `{}` and `{}` have the same settings: remove one",
                self.runs[other].name, run.name
            ));
        }
        self.names.insert(run.name.to_ascii_lowercase(), place);
        self.settings.insert(settings, place);
        self.runs.push(run);
        Ok(())
    }
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
