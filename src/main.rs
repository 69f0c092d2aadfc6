//! The `bitfit` program: parses the command line, runs the command, turns errors into one line and an exit code.

use bitfit::cli::{Cli, Parsed};
use bitfit::commands;
use bitfit::error::{EXIT_USAGE, exit_code, is_broken_pipe, one_line};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::from_args(std::env::args_os()) {
        Ok(Parsed::Run(cli)) => cli,
        Ok(Parsed::Print(text)) => {
            // A reader that goes away has read enough of the help.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            say(&error);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !is_broken_pipe(&error) {
                say(&one_line(&error));
            }
            ExitCode::from(exit_code(&error))
        }
    }
}

/// The error's one line. Where standard error is gone or full, the exit code is all that can be said.
fn say(error: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "error: {error}");
}
