//! What each command does, from checked arguments to files and text.

mod base;
mod compare;
mod counter;
mod doctor;
mod eval;
mod fetching;
mod inspect;
mod listing;
mod merge;
mod model_folder;
mod plan;
mod predict;
mod programs;
mod progress;
mod train;
mod trained;

use crate::cli::{Cli, ColumnArgs, Command};
use crate::data::{ColumnNames, FileFormat, LabelUse, ReadOptions};
use crate::error::UsageError;
use crate::settings::choice::FormatChoice;
use anyhow::{Context, Result};
use std::io::Write;

/// Runs a command.
///
/// # Errors
/// Whatever keeps it from doing its work, in words for the user.
pub fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Train(args) => train::run(args.resolve()?),
        Command::Compare(args) => compare::run(&args.resolve()?),
        Command::Eval(args) => eval::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Merge(args) => merge::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Doctor => doctor::run(),
    }
}

/// Sets the size of the thread pool that tokenizing and the CPU backend share.
fn set_threads(threads: Option<usize>) -> Result<()> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.unwrap_or(0))
        .build_global()
        .context("cannot start the threads; try a smaller --threads")
}

/// A note for the user on standard error, unless `--quiet`.
fn say(quiet: bool, text: impl std::fmt::Display) {
    if !quiet {
        // Nothing can be said where standard error is gone, and a note is no reason to stop.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

/// Results for the user on standard output. Unlike `print!` it does not panic where nothing can be written.
fn show(text: impl std::fmt::Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    write!(out, "{text}").and_then(|()| out.flush()).context("cannot write to standard output")
}

/// `None` lets the extension decide.
fn format(format: FormatChoice) -> Option<FileFormat> {
    match format {
        FormatChoice::Auto => None,
        FormatChoice::Tsv => Some(FileFormat::Tsv),
        FormatChoice::Csv => Some(FileFormat::Csv),
        FormatChoice::Jsonl => Some(FileFormat::Jsonl),
    }
}

fn read_options(columns: &ColumnArgs, label_use: LabelUse) -> ReadOptions {
    ReadOptions {
        format: format(columns.format),
        columns: ColumnNames {
            text: columns.text_column.clone(),
            text_pair: columns.text_pair_column.clone(),
            label: columns.label_column.clone(),
        },
        label_use,
    }
}

/// The longest sequence: what the user asks for, within what the model has positions for.
///
/// # Errors
/// Asking for more than there are.
fn max_len(asked: Option<usize>, model: usize) -> Result<usize, UsageError> {
    match asked {
        Some(asked) if asked > model => Err(UsageError::new(format!(
            "--max-length must be at most {model}, the number of positions of this model, got {asked}"
        ))),
        Some(asked) => Ok(asked),
        None => Ok(model),
    }
}
