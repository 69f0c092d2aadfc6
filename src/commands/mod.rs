//! What each command does, from checked arguments to files and text.

mod base;
mod card;
mod confusions;
mod cost;
mod counter;
mod doctor;
mod eval;
mod export;
mod fetching;
mod heads;
mod import;
mod incoming;
mod inspect;
mod labelled;
mod listing;
mod merge;
mod named;
mod notes;
mod outputs;
mod plan;
mod planned_head;
mod planned_step;
mod predict;
mod profile;
mod programs;
mod progress;
mod ranks;
mod shell;
mod shown;
mod stop;
mod submission;
mod sweep;
mod train;
mod trained;
mod weights_hash;

use crate::backend::DeviceKind;
use crate::backend::cpu::highest_instruction_set;
use crate::cli::{Cli, ColumnArgs, Command};
use crate::data::{ColumnNames, FileFormat, LabelUse, ReadOptions};
use crate::error::UsageError;
use crate::formats::delta::DeltaInfo;
use crate::ranks::{Ranks, Share};
use crate::session::passed_over;
use crate::settings::choice::FormatChoice;
use crate::settings::device::DeviceChoice;
use crate::settings::task::{Reads, Task};
use anyhow::{Context, Result};
use notes::{SaidAs, tell};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs a command.
///
/// # Errors
/// Whatever prevents the command from doing its work, in words for the user.
pub fn run(cli: Cli, ranks: &Rc<dyn Ranks>) -> Result<()> {
    SILENT.store(!ranks.first(), Ordering::Relaxed);
    highest_instruction_set()?;
    if ranks.several() {
        ranks::same_command(&**ranks, cli.command.name())?;
    }
    match cli.command {
        // These have steps to finish first.
        Command::Train(_) | Command::Compare(_) | Command::Sweep(_) => {}
        _ => stop::leaving_no_piece()?,
    }
    let name = cli.command.name();
    match cli.command {
        Command::Train(args) => train::run(args.resolve()?, ranks),
        Command::Eval(args) => eval::run(&args, ranks),
        Command::Predict(args) => predict::run(&args, ranks),
        Command::Compare(_) | Command::Sweep(_) if ranks.several() => Err(UsageError::new(format!(
            "{name} starts several runs in one process: start it without mpirun, or start each run as `mpirun … bitfit train`"
        ))
        .into()),
        // Single-process commands run once.
        _ if !ranks.first() => Ok(()),
        Command::Compare(args) => sweep::run(name, &args.resolve()?),
        Command::Sweep(args) => sweep::run(name, &args.resolve()?),
        Command::Merge(args) => {
            outputs::of_merge(&args)?;
            merge::run(&args)
        }
        Command::Export(args) => export::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Profile(args) => profile::run(&args),
        Command::Doctor => doctor::run(),
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::man(&args),
    }
}

/// Whether another rank prints messages.
static SILENT: AtomicBool = AtomicBool::new(false);

fn silent() -> bool {
    SILENT.load(Ordering::Relaxed)
}

/// Sets the size of the thread pool shared by tokenizing and the CPU backend: of several ranks on one machine each gets
/// its share of the processors.
fn set_threads(threads: Option<usize>, ranks: &dyn Ranks) -> Result<()> {
    let threads = match (threads, ranks.several()) {
        (Some(threads), _) => threads,
        (None, true) => ranks::threads_each(ranks)?,
        (None, false) => 0,
    };
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .context("cannot start the threads; try a smaller --threads")
}

/// A note for the user on standard error, unless `--quiet`. Names of files, columns and classes in it cannot control
/// the terminal.
fn say(quiet: bool, text: impl std::fmt::Display) {
    if !quiet && !silent() {
        let _ = tell(SaidAs::Note, &text.to_string());
    }
}

/// Says which files of another model, whose writer was killed, had to be removed from a folder.
fn say_gone(quiet: bool, names: &[String], folder: &Path) {
    if !names.is_empty() {
        let (names, folder) = (names.join(", "), folder.display());
        say(
            quiet,
            format_args!(
                "{folder}: removed {names}, left over from an interrupted write of another model"
            ),
        );
    }
}

/// Says why `--device auto` does not use a GPU for which there is a driver.
fn say_passed_over(quiet: bool, device: DeviceChoice, used: DeviceKind, here: Share) {
    if let Some(reason) = passed_over(device, used, here) {
        say(quiet, format_args!("--device auto uses the CPU: {reason}"));
    }
}

/// A possible problem that is not an error, on standard error; `--quiet` is no reason to mislead.
fn warn(text: impl std::fmt::Display) {
    if !silent() {
        let _ = tell(SaidAs::Warning, &format!("warning: {text}"));
    }
}

/// Results for the user on standard output, sanitised like notes. Unlike `print!` it does not panic if nothing can be
/// written.
fn show(text: impl std::fmt::Display) -> Result<()> {
    if silent() {
        return Ok(());
    }
    tell(SaidAs::Result, &text.to_string())
}

/// `None` means decide by extension.
fn format(format: FormatChoice) -> Option<FileFormat> {
    match format {
        FormatChoice::Auto => None,
        FormatChoice::Tsv => Some(FileFormat::Tsv),
        FormatChoice::Csv => Some(FileFormat::Csv),
        FormatChoice::Jsonl => Some(FileFormat::Jsonl),
        FormatChoice::Conll => Some(FileFormat::Conll),
        FormatChoice::Conllu => Some(FileFormat::Conllu),
    }
}

/// How `eval` and `predict` read input: if the user names no column, by the names given to the training run, then by
/// the columns it found.
///
/// # Errors
/// A named column that the task does not read.
fn read_options(
    args: &ColumnArgs,
    label_use: LabelUse,
    info: &DeltaInfo,
) -> Result<ReadOptions, UsageError> {
    let (settings, reads) = (&info.settings, info.task.facts().reads);
    let asks = reads == Reads::Questions;
    no_use(asks && args.text_column.is_some(), "--text-column", info.task)?;
    let unlabelled = asks || reads == Reads::Running;
    no_use(unlabelled && args.label_column.is_some(), "--label-column", info.task)?;
    let pairs = reads == Reads::Texts;
    no_use(!pairs && args.text_pair_column.is_some(), "--text-pair-column", info.task)?;
    let or = |name: &Option<String>, trained: &Option<String>| name.clone().or(trained.clone());
    // A text composed of several columns is not a usual column, and another one would not be the same text.
    let made = settings.task.named().filter(|task| task.columns.text.len() > 1);
    let made = made.map(|task| task.columns.text_name());
    Ok(ReadOptions {
        format: format(args.format),
        columns: ColumnNames {
            text: or(&args.text_column, &settings.text_column).or(made),
            text_pair: or(&args.text_pair_column, &settings.text_pair_column),
            label: or(&args.label_column, &settings.label_column),
        },
        label_use,
        label_lists: settings.task.takes_lists(),
        trained: info.columns.clone(),
    })
}

/// # Errors
/// An option was `given` that a trained task cannot use.
fn no_use(given: bool, option: &str, task: Task) -> Result<(), UsageError> {
    match given {
        true => {
            Err(UsageError::new(format!("{option} does not apply to --task {task}: leave it out")))
        }
        false => Ok(()),
    }
}

/// The longest sequence: the user's choice, within the model's positions.
///
/// # Errors
/// More were requested than there are.
fn max_len(asked: Option<usize>, model: usize) -> Result<usize, UsageError> {
    match asked {
        Some(asked) if asked > model => Err(UsageError::new(format!(
            "--max-length must be at most {model}, the number of positions of this model, got {asked}"
        ))),
        Some(asked) => Ok(asked),
        None => Ok(model),
    }
}
