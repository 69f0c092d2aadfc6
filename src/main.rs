//! The `bitfit` program: parses the command line, runs the command, and turns errors into one line and an exit code.

mod stdout;

use anyhow::{Context, anyhow};
use bitfit::cli::{Cli, Parsed};
use bitfit::commands;
use bitfit::error::{UNWRITTEN, exit_code, is_broken_pipe, is_of_all_ranks, one_line};
use bitfit::ranks::{Alone, Ranks, join};
use bitfit::stderr::line;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    fail_beyond_file_sizes();
    let ranks = match join() {
        Ok(ranks) => ranks,
        Err(error) => return failed(&error, &Alone),
    };
    let cli = match Cli::from_args(std::env::args_os()) {
        Ok(Parsed::Run(cli)) => cli,
        Ok(Parsed::Print(help)) => {
            if !ranks.first() {
                return ExitCode::SUCCESS;
            }
            let print = || help.print().and_then(|()| std::io::stdout().flush());
            let printed = has_stdout().and_then(|()| print().context(UNWRITTEN));
            return printed.map_or_else(|error| failed(&error, &*ranks), |()| ExitCode::SUCCESS);
        }
        Err(error) => return failed(&error.into(), &*ranks),
    };
    let ready = match cli.command.answers_on_stdout() && ranks.first() {
        true => has_stdout(),
        false => Ok(()),
    };
    match ready.and_then(|()| commands::run(cli, &ranks)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, &*ranks),
    }
}

/// # Errors
/// If there is none: nobody would get the answer.
fn has_stdout() -> anyhow::Result<()> {
    match stdout::was_closed() {
        true => {
            Err(anyhow!("it is closed; use `> /dev/null` to discard the output").context(UNWRITTEN))
        }
        false => Ok(()),
    }
}

/// Makes exceeding a file size limit (`ulimit -f`) a write error, like a full disk, instead of ending the process.
fn fail_beyond_file_sizes() {
    #[cfg(unix)]
    // SAFETY: ignoring a signal runs no code, and no other thread is there yet.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// How long another rank waits before it ends all: an error common to all should be reported by the first.
const FIRST_SPEAKS: Duration = Duration::from_millis(500);

fn failed(error: &anyhow::Error, ranks: &dyn Ranks) -> ExitCode {
    let (code, together) = (exit_code(error), is_of_all_ranks(error) || !ranks.several());
    if ranks.first() {
        if !is_broken_pipe(error) {
            say(&one_line(error));
        }
    } else if !together {
        std::thread::sleep(FIRST_SPEAKS);
        say(&format_args!("rank {} on {}: {}", ranks.share().rank, ranks.host(), one_line(error)));
    }
    if !together {
        // The others are waiting for this one.
        ranks.abort(code);
    }
    ExitCode::from(code)
}

/// If standard error is closed or full, the exit code is all that can be reported.
fn say(error: &dyn std::fmt::Display) {
    line(format_args!("error: {error}"));
}
