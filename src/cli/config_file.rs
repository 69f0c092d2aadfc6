//! `--config FILE`: the options of `train` from a TOML file.

use super::toml_options::{Entry, LineNumbers, Mistake, Options, parse_toml, read_file};
use super::train_args::TrainArgs;
use crate::error::UsageError;
use std::collections::BTreeMap;
use std::path::Path;
use toml::de::{DeTable, DeValue};

const REFUSED: [(&str, &str); 1] = [("config", "a configuration file cannot name another")];

/// Options from a file.
#[derive(Debug, Default)]
pub struct FileOptions {
    /// All of them.
    pub args: TrainArgs,
    /// By option name: the line that sets it, and only that option.
    settings: BTreeMap<String, (usize, TrainArgs)>,
}

impl FileOptions {
    /// Reads `path`.
    ///
    /// # Errors
    /// An unreadable file; broken TOML, an unknown key (with the nearest known one), a repeated key, or a value that
    /// the option does not accept, each with its line.
    pub fn read(path: &Path) -> Result<Self, UsageError> {
        Self::read_for("--config", path)
    }

    /// The same for a file that another option leads to.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_for(option: &str, path: &Path) -> Result<Self, UsageError> {
        read_file(option, path, Self::parse)
    }

    /// The line that sets `option` (its name without dashes), if the file does and `flags` do not override it.
    pub fn line_used(&self, option: &str, flags: &TrainArgs) -> Option<usize> {
        let (line, alone) = self.settings.get(option)?;
        (!flags.covers(alone)).then_some(*line)
    }

    /// Each option that is set, by itself.
    pub(super) fn options(&self) -> impl Iterator<Item = (&str, &TrainArgs)> {
        self.settings.iter().map(|(option, (_, alone))| (option.as_str(), alone))
    }

    /// The options and the line of each; tables are not options.
    pub(super) fn of_table(
        options: &Options,
        table: &DeTable<'_>,
        lines: &LineNumbers<'_>,
        others: &[&str],
    ) -> Result<Self, Mistake> {
        let mut found = Self::default();
        for Entry { option, line, value } in options.entries(table, lines, others)? {
            let given = options.given(&option, value.get_ref()).map_err(|why| (line, why))?;
            found.args = given.args.clone().over(found.args);
            found.settings.insert(option, (line, given.args));
        }
        Ok(found)
    }

    /// Parses the file's text.
    fn parse(text: &str) -> Result<Self, Mistake> {
        parse_toml(text, |table, lines| {
            let sections = table.iter().filter(|(_, v)| matches!(v.get_ref(), DeValue::Table(_)));
            if let Some((key, _)) = sections.min_by_key(|(key, _)| key.span().start) {
                let problem = format!(
                    "`{}` is a section; options go at the top, without sections",
                    key.get_ref()
                );
                return Err((lines.of(key.span().start), problem));
            }
            Self::of_table(&Options::without(&REFUSED), table, lines, &[])
        })
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
                .starts_with("2: `text-column` is set twice, also on line 1")
        );
        assert!(error("[data]\ntrain = \"x\"").contains("is a section"));
        assert!(error("config = \"x\"").contains("cannot name another"));
        assert!(error("lr = 2020-01-01").contains("cannot be a datetime"));
        assert!(
            error("epochs = 1\nsteps = 2")
                .starts_with("2: `epochs` and `steps` cannot be used together")
        );
        assert!(error("biases = \"qurey\"").contains("did you mean `query`?"));
    }
}
