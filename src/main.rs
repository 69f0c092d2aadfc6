//! The `bitfit` program: parses the command line, runs the command, turns errors into one line and an exit code.

use anyhow::Context;
use bitfit::cli::{Cli, Parsed};
use bitfit::commands;
use bitfit::error::{EXIT_USAGE, exit_code, is_broken_pipe, one_line};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::from_args(std::env::args_os()) {
        Ok(Parsed::Run(cli)) => cli,
        Ok(Parsed::Print(help)) => {
            let printed = help.print().and_then(|()| std::io::stdout().flush());
            return ended(printed.context("cannot write to standard output"));
        }
        Err(error) => {
            say(&error);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    ended(commands::run(cli))
}

/// Says what went wrong, if anything did. A reader that goes away has read enough.
fn ended(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    if !is_broken_pipe(&error) {
        say(&one_line(&error));
    }
    ExitCode::from(exit_code(&error))
}

/// The error's one line. Where standard error is gone or full, the exit code is all that can be said.
fn say(error: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "error: {error}");
}
