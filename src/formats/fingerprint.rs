//! What makes two runs the same run: their settings, data and base model. A checkpoint carries it, and a run that
//! resumes is compared with it.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::settings::train::TrainConfig;

/// Settings that may change between a run and its resumption: they do not decide what is computed. The paths are
/// here because a folder may move; what the files hold is compared by hash, under names of their own.
const FREE: [&str; 10] = [
    "model",
    "train",
    "data",
    "dev",
    "init-head",
    "output",
    "save-steps",
    "device",
    "threads",
    "format",
];

/// Named values, all of which must agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    entries: BTreeMap<String, String>,
}

/// A resumption with something else than before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the run to resume is another one: {differences}; resume with what it began with, or start a new run in another \
     --output"
)]
pub struct Changed {
    differences: String,
}

impl Fingerprint {
    /// The settings that decide what a run computes. Hashes of the files are to be added [`with`](Self::with) them.
    ///
    /// # Errors
    /// Settings that cannot be written down: a path that is not UTF-8.
    pub fn of(config: &TrainConfig) -> Result<Self> {
        let table: toml::Table = config.to_toml()?.parse()?;
        let entries = table
            .into_iter()
            .filter(|(key, _)| !FREE.contains(&key.as_str()))
            .map(|(key, value)| (key, value.to_string()))
            .collect();
        Ok(Self { entries })
    }

    /// Adds a value that must agree too: the hash of the base weights, of a data file.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.entries.insert(name.to_string(), value.to_string());
        self
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn from_entries(entries: impl Iterator<Item = (String, String)>) -> Self {
        Self { entries: entries.collect() }
    }

    /// Compares this run with the `recorded` one.
    ///
    /// # Errors
    /// Every value that differs, with both sides.
    pub fn check(&self, recorded: &Self) -> Result<(), Changed> {
        let names: std::collections::BTreeSet<&String> =
            self.entries.keys().chain(recorded.entries.keys()).collect();
        let side = |value: Option<&String>| value.map_or("not given", String::as_str).to_string();
        let differences: Vec<String> = names
            .into_iter()
            .map(|name| (name, recorded.entries.get(name), self.entries.get(name)))
            .filter(|(_, was, is)| was != is)
            .map(|(name, was, is)| format!("{name} was {} and is {}", side(was), side(is)))
            .collect();
        if differences.is_empty() {
            return Ok(());
        }
        Err(Changed { differences: differences.join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::train::{DevSource, Length};

    fn config() -> TrainConfig {
        TrainConfig::with_defaults("m".into(), Some("a.tsv".into()), "out".into())
    }

    fn difference(change: impl FnOnce(&mut TrainConfig)) -> String {
        let mut changed = config();
        change(&mut changed);
        let before = Fingerprint::of(&config()).unwrap();
        match Fingerprint::of(&changed).unwrap().check(&before) {
            Ok(()) => String::new(),
            Err(changed) => changed.to_string(),
        }
    }

    #[test]
    fn a_changed_setting_is_named_with_both_values() {
        let message = difference(|c| c.lr = 0.002);
        assert!(message.contains("lr was 0.001 and is 0.002"), "{message}");
        let message = difference(|c| c.dropout = Some(0.5));
        assert!(message.contains("dropout was not given and is 0.5"), "{message}");
        let message = difference(|c| c.length = Length::Steps(9));
        assert!(
            message.contains("epochs was 3 and is not given, steps was not given and is 9"),
            "{message}"
        );
        assert!(difference(|c| c.dev = Some(DevSource::Fraction(0.1))).contains("dev-fraction"));
    }

    #[test]
    fn where_things_are_and_how_fast_they_run_may_change() {
        let message = difference(|c| {
            c.output = "elsewhere".into();
            c.model = "/moved/m".into();
            c.train = Some("/moved/a.tsv".into());
            c.threads = Some(3);
            c.save_steps = Some(1);
        });
        assert_eq!(message, "");
    }

    #[test]
    fn content_is_compared_by_what_is_added() {
        let print = || Fingerprint::of(&config()).unwrap();
        let message = print()
            .with("train sha256", "aa")
            .check(&print().with("train sha256", "bb"))
            .unwrap_err();
        assert!(message.to_string().contains("train sha256 was bb and is aa"), "{message}");
    }

    #[test]
    fn the_free_settings_are_settings() {
        let mut full = config();
        full.init_head = Some("h".into());
        full.data = Some("d".into());
        full.dev = Some(DevSource::File("d".into()));
        full.save_steps = Some(1);
        full.threads = Some(1);
        let table: toml::Table = full.to_toml().unwrap().parse().unwrap();
        for name in FREE {
            assert!(table.contains_key(name), "{name}");
        }
    }
}
