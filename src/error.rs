//! What an error means to the program's caller: the exit code, and one line of text.
//!
//! Everything fails with `anyhow::Error`. Two kinds are distinguished at the top: a wrong command line (exit code 2, so
//! that scripts can tell a typo from a failed run) and a reader that went away (`bitfit predict | head`), which is not
//! a failure and must stay silent.

use std::io;

/// The process's exit code for a failed run: a file, a folder, the device or the network, or what a file contains.
pub const EXIT_FAILURE: u8 = 1;
/// The process's exit code for a wrong command line or configuration file: an option, alone or for this model or adapter.
/// Whether a file or folder that an option names is there does not count.
pub const EXIT_USAGE: u8 = 2;

/// The context of an error when an answer cannot be printed.
pub const UNWRITTEN: &str = "cannot write to standard output";

/// A wrong command line, configuration file or option value: says which option, what it got and what it accepts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(String);

impl UsageError {
    /// Makes a usage error from a whole sentence that names the option.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// Ends all ranks of a run in the same way: the first reports it, and none needs to be terminated by another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OfAllRanks(String);

impl OfAllRanks {
    /// Makes one from the whole message.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// Whether every rank of a run ends with this error.
pub fn is_of_all_ranks(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<OfAllRanks>())
}

/// The exit code for `error`: 0 for a closed pipe, 2 if a [`UsageError`] is anywhere in the chain, else 1.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if is_broken_pipe(error) {
        0
    } else if error.chain().any(|cause| cause.is::<UsageError>()) {
        EXIT_USAGE
    } else {
        EXIT_FAILURE
    }
}

/// True if the reader of our output has gone away: nothing to report, nobody to report it to.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io_kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let json_kind =
            cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        [io_kind, json_kind].contains(&Some(io::ErrorKind::BrokenPipe))
    })
}

/// The whole chain as one line, outermost context first, joined by ": ".
///
/// Line breaks become spaces. A cause is omitted if the message before it already ends with its text: many libraries
/// repeat their source in their own text.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if text.is_empty() || line.ends_with(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    tame(&shortened(&line))
}

/// Most characters of an error: some quote a file's contents, which may be anything.
const LONGEST_LINE: usize = 4000;

/// A line without its middle, if it is too long to read.
fn shortened(line: &str) -> String {
    let count = line.chars().count();
    if count <= LONGEST_LINE {
        return line.to_owned();
    }
    let half = LONGEST_LINE / 2;
    let first: String = line.chars().take(half).collect();
    let last: String = line.chars().skip(count - half).collect();
    format!("{first} [… {} characters …] {last}", count - 2 * half)
}

/// A text without characters that control the terminal, since names and file contents are untrusted. They are escaped.
pub fn tame(text: &str) -> String {
    let steers =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut tame = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            tame.extend(c.escape_default());
        } else {
            tame.push(c);
        }
    }
    tame
}

/// [`tame`] line by line: for notes and tables, whose line breaks are ours.
pub fn tame_lines(text: &str) -> String {
    text.split('\n').map(tame).collect::<Vec<_>>().join("\n")
}

/// " (did you mean `x`?)" for the nearest of `known`, or nothing when none is near.
///
/// "Near" is a Jaro-Winkler similarity of 0.75 or more: a typo or a missing part, not another word.
pub fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}

/// The member of `known` that resembles `word` most, if any resembles it at all.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&word, name), name))
        .filter(|(similarity, _)| *similarity >= 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn usage_errors_exit_with_two_even_under_context() {
        let error = anyhow::Error::new(UsageError::new("--lr must be above 0, got -1"))
            .context("reading run.toml");
        assert_eq!(exit_code(&error), 2);
        assert_eq!(exit_code(&anyhow!("disk full")), 1);
    }

    #[test]
    fn an_error_that_repeats_a_whole_file_keeps_its_two_ends() {
        let line = one_line(&anyhow!("the label \"{}\" is unknown", "é".repeat(100_000)));
        assert!(line.chars().count() < LONGEST_LINE + 60);
        assert!(line.starts_with("the label") && line.ends_with("is unknown"), "{line}");
        assert!(line.contains("characters …"));
    }

    #[test]
    fn a_closed_pipe_is_not_a_failure() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        let plain = Err::<(), _>(broken()).context("writing predictions").unwrap_err();
        assert_eq!(exit_code(&plain), 0);
        let json = anyhow::Error::new(serde_json::Error::io(broken()));
        assert_eq!(exit_code(&json), 0);
        assert_eq!(exit_code(&anyhow::Error::new(io::Error::from(io::ErrorKind::NotFound))), 1);
    }

    #[test]
    fn the_chain_is_one_line_without_repeats() {
        let error = anyhow!("No such file")
            .context("cannot read\n  a.tsv: No such file")
            .context("--train");
        assert_eq!(one_line(&error), "--train: cannot read a.tsv: No such file");
        assert_eq!(one_line(&anyhow!("b").context("a")), "a: b");
    }

    #[test]
    fn what_would_steer_a_terminal_is_escaped() {
        let error = anyhow!("label \u{1b}[2Jx\u{202e}y\u{7}");
        assert_eq!(one_line(&error), "label \\u{1b}[2Jx\\u{202e}y\\u{7}");
        assert_eq!(tame("größe – 映画"), "größe – 映画");
    }

    #[test]
    fn a_typing_mistake_gets_the_nearest_name_and_nonsense_gets_none() {
        let known = ["query", "key", "value"];
        assert_eq!(suggestion("qeury", known), " (did you mean `query`?)");
        assert_eq!(suggestion("Value", known), " (did you mean `value`?)");
        assert_eq!(suggestion("zzzz", known), "");
    }
}
