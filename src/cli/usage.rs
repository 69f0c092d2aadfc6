//! Converts clap's errors to the single line that every error of this program is.

use crate::error::UsageError;
use clap::error::ErrorKind;
use clap::{Arg, Command};
use std::any::TypeId;
use std::ffi::OsString;

/// Arguments that are not valid text, with the options before them: clap only says that there are some.
pub(super) fn not_text(args: &[OsString]) -> UsageError {
    let option = |at: usize| {
        let before = args.get(at.checked_sub(1)?)?.to_str()?;
        (before.starts_with("--") && !before.contains('=')).then_some(before)
    };
    let odd = args.iter().enumerate().filter(|(_, arg)| arg.to_str().is_none());
    let shown: Vec<String> = odd
        .map(|(at, arg)| match option(at) {
            Some(option) if !arg.to_string_lossy().starts_with("--") => format!("{option} {arg:?}"),
            _ => format!("{arg:?}"),
        })
        .collect();
    UsageError::new(format!("{}: this is not UTF-8; use a UTF-8 argument", shown.join(", ")))
}

/// The sentences of a clap error as one line, without the usage block.
pub(super) fn usage_error(error: &clap::Error) -> UsageError {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return UsageError::new(
            "a command is missing: train, sweep, eval, predict, merge, inspect, plan and others; `bitfit --help` explains them",
        );
    }
    let text = error.render().to_string();
    let mut line = String::new();
    for part in text.lines().map(str::trim).filter(|part| !part.is_empty()) {
        if part.starts_with("Usage:") || part.starts_with("For more information") {
            continue;
        }
        let part = in_plain_words(part.strip_prefix("error: ").unwrap_or(part));
        if !line.is_empty() {
            let list = line.ends_with(':') || part.starts_with('[');
            line.push_str(if list { " " } else { "; " });
        }
        line.push_str(&part);
    }
    UsageError::new(line)
}

/// Rust's own messages about numbers do not say what would be one.
fn in_plain_words(message: &str) -> String {
    let plain = [
        ("invalid digit found in string", "write a whole number, 0 or more"),
        ("invalid float literal", "write a number (0.1, 1e-3)"),
        ("number too large to fit in target type", "this number is too large"),
    ];
    plain.iter().fold(message.to_owned(), |said, (rust, plain)| said.replace(rust, plain))
}

/// A command whose numeric options take a negative number as their value, and so can say what they want instead.
/// Otherwise `-1` would be an option that does not exist.
pub(super) fn with_negative_numbers(command: Command) -> Command {
    let numbers = [TypeId::of::<u64>(), TypeId::of::<usize>(), TypeId::of::<f64>()];
    let of_numbers = move |arg: &Arg| {
        let takes = arg.get_value_parser().type_id();
        numbers.iter().any(|number| takes == *number)
    };
    let widened = move |arg: Arg| match of_numbers(&arg) {
        true => arg.allow_negative_numbers(true),
        false => arg,
    };
    command.mut_args(widened).mut_subcommands(with_negative_numbers)
}
