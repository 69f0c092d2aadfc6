//! `--config FILE`: the options of `train` from a TOML file.
//!
//! Every value goes through the parser of the option of the same name, so that file and command line know the same
//! options with the same values, and a mistake is reported with its line.

use std::collections::BTreeMap;
use std::path::Path;

use clap::FromArgMatches;
use toml::de::{DeTable, DeValue};

use super::train_args::{TrainArgs, options_command};
use super::usage::usage_error;
use crate::error::{UsageError, one_line, suggestion};
use crate::files::read_bounded;

/// No file of options comes near.
const MOST_BYTES: u64 = 1 << 20;

/// Options from a file.
#[derive(Debug, Default)]
pub struct FileOptions {
    /// All of them.
    pub args: TrainArgs,
    /// By option name: the line that sets it, and that option alone.
    settings: BTreeMap<String, (usize, TrainArgs)>,
}

impl FileOptions {
    /// Reads `path`.
    ///
    /// # Errors
    /// An unreadable file; broken TOML, an unknown key (with the nearest known one), a key given twice, or a value
    /// that the option does not take, each with its line.
    pub fn read(path: &Path) -> Result<Self, UsageError> {
        let shown = path.display();
        let failed = |why: String| UsageError::new(format!("--config: {why}"));
        let bytes = read_bounded(path, MOST_BYTES).map_err(|error| failed(one_line(&error)))?;
        let text = String::from_utf8(bytes)
            .map_err(|error| failed(format!("{shown} is not text in UTF-8: {error}")))?;
        Self::parse(&text)
            .map_err(|(line, problem)| UsageError::new(format!("{shown}:{line}: {problem}")))
    }

    /// The line that sets `option` (its name without dashes), if the file does and `flags` leave it in force.
    pub fn line_used(&self, option: &str, flags: &TrainArgs) -> Option<usize> {
        let (line, alone) = self.settings.get(option)?;
        (flags.clone().over(alone.clone()) != *flags).then_some(*line)
    }

    /// Parses the file's text; an error is a line, counted from 1, and a sentence.
    fn parse(text: &str) -> Result<Self, (usize, String)> {
        // Some editors put a byte order mark first.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let line_at = |byte: usize| {
            1 + text.as_bytes()[..byte.min(text.len())].iter().filter(|&&b| b == b'\n').count()
        };
        let table = DeTable::parse(text).map_err(|error| {
            let line = line_at(error.span().map_or(0, |span| span.start));
            (line, format!("not valid TOML: {}", error.message()))
        })?;
        let command = options_command();
        let known: Vec<&str> = command
            .get_arguments()
            .filter_map(|arg| arg.get_long())
            .filter(|name| !["config", "help", "version"].contains(name))
            .collect();

        let mut options = Self::default();
        for (key, value) in table.get_ref() {
            let line = line_at(key.span().start);
            let name = key.get_ref().replace('_', "-");
            if name == "config" {
                return Err((line, "a configuration file cannot name another one".to_string()));
            }
            if let DeValue::Table(_) = value.get_ref() {
                return Err((
                    line,
                    format!(
                        "`{}` is a section; options stand at the top, without sections",
                        key.get_ref()
                    ),
                ));
            }
            if !known.contains(&name.as_str()) {
                let near = suggestion(&name, known.iter().copied());
                return Err((
                    line,
                    format!(
                        "unknown option `{}`{near}; `bitfit help train` lists all",
                        key.get_ref()
                    ),
                ));
            }
            if let Some(&(first, _)) = options.settings.get(&name) {
                return Err((
                    line.max(first),
                    format!("`{name}` is set twice, also in line {}", line.min(first)),
                ));
            }
            let text = as_argument(value.get_ref()).ok_or_else(|| {
                (line, format!("`{name}` cannot be a {}", value.get_ref().type_str()))
            })?;
            let argument = format!("--{name}={text}");
            let parsed = command
                .clone()
                .try_get_matches_from(["train", &argument])
                .and_then(|matches| TrainArgs::from_arg_matches(&matches))
                .map_err(|error| (line, usage_error(&error).to_string()))?;
            options.settings.insert(name, (line, parsed.clone()));
            options.args = parsed.over(options.args);
        }
        for (one, other) in TrainArgs::EXCLUSIVE {
            if let (Some((a, _)), Some((b, _))) =
                (options.settings.get(one), options.settings.get(other))
            {
                return Err((
                    *a.max(b),
                    format!("`{one}` and `{other}` exclude each other: keep one"),
                ));
            }
        }
        Ok(options)
    }
}

/// A TOML value as it would stand on the command line; a list is joined by commas.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::rate::Rate;
    use crate::settings::schedule::Warmup;

    fn parse(text: &str) -> TrainArgs {
        FileOptions::parse(text).unwrap().args
    }

    fn error(text: &str) -> String {
        let (line, problem) = FileOptions::parse(text).unwrap_err();
        format!("{line}: {problem}")
    }

    #[test]
    fn keys_are_option_names_in_either_spelling() {
        let args = parse(
            "model = \"m\"\ntext_column = \"a b\"\nlabel-column = 'y'\nlr = 1e-4\nno-shuffle = true\n",
        );
        assert_eq!(args.model.as_deref(), Some("m"));
        assert_eq!(args.text_column.as_deref(), Some("a b"));
        assert_eq!(args.label_column.as_deref(), Some("y"));
        assert_eq!(args.lr, Some(Rate::Is(1e-4)));
        assert_eq!(args.no_shuffle, Some(true));
        assert_eq!(args.seed, None);
    }

    #[test]
    fn numbers_lists_and_underscores_are_read_as_toml_means_them() {
        let args = parse(
            "betas = [0.8, 0.99]\nwarmup = 1.0\nseed = 1_000\nbiases = [\"query\", \"key@2\"]",
        );
        assert_eq!(args.betas, Some([0.8, 0.99]));
        assert_eq!(args.warmup, Some(Warmup::Fraction(1.0)));
        assert_eq!(args.seed, Some(1000));
        assert_eq!(args.biases.unwrap().to_string(), "query,key@2");
        assert_eq!(parse("warmup = 1").warmup, Some(Warmup::Steps(1)));
        assert_eq!(parse("seed = 0x10").seed, Some(16));
    }

    #[test]
    fn a_byte_order_mark_and_dos_line_ends_are_accepted() {
        let args = parse("\u{feff}lr = 0.1\r\nseed = 2\r\n");
        assert_eq!((args.lr, args.seed), (Some(Rate::Is(0.1)), Some(2)));
    }

    #[test]
    fn a_value_that_begins_with_a_dash_stays_a_value() {
        assert_eq!(parse("text-column = \"--odd\"").text_column.as_deref(), Some("--odd"));
    }

    #[test]
    fn mistakes_have_a_line_and_a_way_out() {
        let unknown = error("lr = 1.0\n\nbatchsize = 4\n");
        assert!(
            unknown.starts_with("3: unknown option `batchsize` (did you mean `batch-size`?)"),
            "{unknown}"
        );
        let value = error("# first\ntask = \"ranking\"");
        assert!(value.starts_with("2: ") && value.contains("possible values"), "{value}");
        assert!(error("lr = \"fast\"").starts_with("1: "));
        assert!(
            error("lr = 0.1\nlr = ").starts_with("2: not valid TOML"),
            "{}",
            error("lr = 0.1\nlr = ")
        );
        assert!(
            error("text_column = \"a\"\ntext-column = \"b\"")
                .starts_with("2: `text-column` is set twice, also in line 1")
        );
        assert!(error("[data]\ntrain = \"x\"").contains("is a section"));
        assert!(error("config = \"x\"").contains("cannot name another"));
        assert!(error("lr = 2020-01-01").contains("cannot be a datetime"));
        assert!(
            error("epochs = 1\nsteps = 2")
                .starts_with("2: `epochs` and `steps` exclude each other")
        );
        assert!(error("biases = \"qurey\"").contains("did you mean `query`?"));
    }
}
