//! What clap finds wrong, in the one line that every error of this program is.

use crate::error::UsageError;
use clap::error::ErrorKind;

/// The sentences of a clap error as one line, without the usage block.
pub(super) fn usage_error(error: &clap::Error) -> UsageError {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return UsageError::new(
            "a command is missing: train, compare, eval, predict, merge, inspect, plan or doctor; `bitfit --help` explains \
             them",
        );
    }
    let text = error.render().to_string();
    let mut line = String::new();
    for part in text.lines().map(str::trim).filter(|part| !part.is_empty()) {
        if part.starts_with("Usage:") || part.starts_with("For more information") {
            continue;
        }
        let part = part.strip_prefix("error: ").unwrap_or(part);
        if !line.is_empty() {
            let list = line.ends_with(':') || part.starts_with('[');
            line.push_str(if list { " " } else { "; " });
        }
        line.push_str(part);
    }
    UsageError::new(line)
}
