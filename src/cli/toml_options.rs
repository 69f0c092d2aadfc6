//! Options of `train` in TOML, for every file that contains them.
//!
//! A value goes through the parser of the option with the same name, so that files and command line accept the same
//! options and values, and a mistake is reported with its line.

use super::train_args::{TrainArgs, options_command};
use super::usage::usage_error;
use crate::error::{UsageError, one_line, suggestion};
use crate::files::read_bounded;
use clap::FromArgMatches;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The list of ten thousand runs takes a tenth of this.
const MOST_BYTES: u64 = 16 << 20;

/// A mistake: a line, counted from 1, and a sentence.
pub(super) type Mistake = (usize, String);

/// Converts positions in a text to lines.
pub(super) struct LineNumbers<'a>(&'a str);

impl LineNumbers<'_> {
    /// The line of a byte, from 1.
    pub(super) fn of(&self, byte: usize) -> usize {
        let before = &self.0.as_bytes()[..byte.min(self.0.len())];
        1 + before.iter().filter(|&&b| b == b'\n').count()
    }
}

/// Reads a file and lets `parse` process its tables; mistakes get the file's name.
///
/// # Errors
/// A file that cannot be read, described by `option`; a mistake, with file and line.
pub(super) fn read_file<T>(
    option: &str,
    path: &Path,
    parse: impl FnOnce(&str) -> Result<T, Mistake>,
) -> Result<T, UsageError> {
    let shown = path.display();
    let failed = |why: String| UsageError::new(format!("{option}: {why}"));
    let bytes = read_bounded(path, MOST_BYTES).map_err(|error| failed(one_line(&error)))?;
    let text = String::from_utf8(bytes)
        .map_err(|error| failed(format!("{shown} is not text in UTF-8: {error}")))?;
    parse(&text).map_err(|(line, problem)| UsageError::new(format!("{shown}:{line}: {problem}")))
}

/// The tables of a text, for `read`.
pub(super) fn parse_toml<T>(
    text: &str,
    read: impl FnOnce(&DeTable<'_>, &LineNumbers<'_>) -> Result<T, Mistake>,
) -> Result<T, Mistake> {
    // Some editors put a byte order mark first.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = LineNumbers(text);
    let table = DeTable::parse(text).map_err(|error| {
        let line = lines.of(error.span().map_or(0, |span| span.start));
        (line, format!("not valid TOML: {}", error.message()))
    })?;
    read(table.get_ref(), &lines)
}

/// A key that names an option, and its value.
pub(super) struct Entry<'a> {
    /// Without leading dashes, with inner ones.
    pub(super) option: String,
    pub(super) line: usize,
    pub(super) value: &'a Spanned<DeValue<'a>>,
}

/// A value of an option as on the command line, and the parsed result.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GivenValue {
    pub(super) text: String,
    /// Only this option.
    pub(super) args: TrainArgs,
}

/// Options whose value is a list.
const LISTS: [&str; 4] = ["biases", "betas", "lora-on", "saving"];

/// The options that a file can have.
pub(super) struct Options {
    command: clap::Command,
    /// Options that this kind of file cannot have, and why.
    refused: &'static [(&'static str, &'static str)],
}

impl Options {
    pub(super) fn without(refused: &'static [(&'static str, &'static str)]) -> Self {
        Self { command: options_command(), refused }
    }

    /// The options among the keys of a table, in file order. `others` are keys with another meaning.
    pub(super) fn entries<'a>(
        &self,
        table: &'a DeTable<'a>,
        lines: &LineNumbers<'_>,
        others: &[&str],
    ) -> Result<Vec<Entry<'a>>, Mistake> {
        let mut keys: Vec<_> = table.iter().collect();
        keys.sort_by_key(|(key, _)| key.span().start);
        let mut entries: Vec<Entry<'_>> = Vec::new();
        for (key, value) in keys {
            let line = lines.of(key.span().start);
            let key = key.get_ref();
            if others.contains(&&**key) {
                continue;
            }
            let option = self.named(key, others).map_err(|problem| (line, problem))?;
            if let Some(first) = entries.iter().find(|entry| entry.option == option) {
                let first = first.line;
                return Err((line, format!("`{option}` is set twice, also on line {first}")));
            }
            entries.push(Entry { option, line, value });
        }
        for (one, other) in TrainArgs::EXCLUSIVE {
            let line = |name| entries.iter().find(|e| e.option == name).map(|e| e.line);
            if let (Some(a), Some(b)) = (line(one), line(other)) {
                let problem = format!("`{one}` and `{other}` cannot be used together: keep one");
                return Err((a.max(b), problem));
            }
        }
        Ok(entries)
    }

    /// The option that a key names.
    fn named(&self, key: &str, others: &[&str]) -> Result<String, String> {
        let name = key.replace('_', "-");
        if let Some((_, why)) = self.refused.iter().find(|(option, _)| *option == name) {
            return Err((*why).to_owned());
        }
        let known: Vec<&str> = self
            .command
            .get_arguments()
            .filter_map(|arg| arg.get_long())
            .filter(|name| !["help", "version"].contains(name))
            .collect();
        if known.contains(&name.as_str()) {
            return Ok(name);
        }
        let refused = |name: &&str| self.refused.iter().any(|(option, _)| option == name);
        let near =
            known.iter().copied().filter(|name| !refused(name)).chain(others.iter().copied());
        let near = suggestion(&name, near);
        Err(format!("unknown option `{key}`{near}; `bitfit help train` lists all"))
    }

    /// Parses a value of an option.
    pub(super) fn given(&self, option: &str, value: &DeValue<'_>) -> Result<GivenValue, String> {
        if matches!(value, DeValue::Array(_)) && !LISTS.contains(&option) {
            return Err(format!(
                "`{option}` takes one value, not a list: several values are an axis, which goes into the [grid] of a \
                 sweep"
            ));
        }
        let text = as_argument(value)
            .ok_or_else(|| format!("`{option}` cannot be a {}", value.type_str()))?;
        let argument = format!("--{option}={text}");
        let args = self
            .command
            .clone()
            .try_get_matches_from(["train", &argument])
            .and_then(|matches| TrainArgs::from_arg_matches(&matches))
            .map_err(|error| usage_error(&error).to_string())?;
        Ok(GivenValue { text, args })
    }
}

/// A TOML value as on the command line; lists are joined by commas.
fn as_argument(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(integer) if integer.radix() == 10 => Some(integer.as_str().to_string()),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .map(|value| value.to_string()),
        DeValue::Float(float) => Some(float.as_str().to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Array(values) => {
            let values: Option<Vec<String>> =
                values.iter().map(|value| as_argument(value.get_ref())).collect();
            Some(values?.join(","))
        }
        DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}
