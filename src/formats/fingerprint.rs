//! What makes two things the same: named values that must all agree. A checkpoint stores those of its run (settings,
//! data and base model), and a resumed run is compared with it. A delta stores those of its base's files other than the
//! weights, and a command that uses it compares them with the files it finds.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::files::sha256_bytes;
use crate::settings::train::TrainConfig;

/// Settings that may change between a run and its resumption: they do not affect results. The paths are included
/// because a folder may move; the contents of files are compared by hash, under separate names.
const FREE: [&str; 13] = [
    "model",
    "train",
    "data",
    "dev",
    "init-head",
    "init-delta",
    "output",
    "save-steps",
    "save-minutes",
    "tensorboard",
    "device",
    "threads",
    "format",
];

/// Longer lists, and texts with more bytes, are stored as their sha256.
const SHOWN_ENTRIES: usize = 32;
const SHOWN_BYTES: usize = 64;
/// Further differences are only counted.
const SHOWN_DIFFERENCES: usize = 6;

/// Named values, all of which must agree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint {
    entries: BTreeMap<String, String>,
}

/// A resumption with different values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the run to resume has other settings or files: {differences}; resume with the original ones, or start a new run \
     in another --output"
)]
pub struct Changed {
    differences: String,
}

impl Fingerprint {
    /// The settings that determine a run's results. Hashes of the files must be added [`with`](Self::with) them.
    ///
    /// # Errors
    /// Settings that cannot be serialised: a path that is not UTF-8.
    pub fn of(config: &TrainConfig) -> Result<Self> {
        let table: toml::Table = config.to_toml()?.parse()?;
        let entries = table
            .into_iter()
            .filter(|(key, _)| !FREE.contains(&key.as_str()))
            .map(|(key, value)| (key, value.to_string()));
        // If left out, it is the task's default.
        let metric = toml::Value::String(config.metric().to_string());
        let entries = entries.chain([("metric".to_owned(), metric.to_string())]).collect();
        Ok(Self { entries })
    }

    /// Adds a value that must agree too: the hash of the base weights, of a data file.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.entries.insert(name.to_string(), value.to_string());
        self
    }

    /// Adds all values of another.
    pub fn with_all(mut self, other: &Self) -> Self {
        self.entries.extend(other.entries.clone());
        self
    }

    /// The values with chosen names.
    #[must_use]
    pub fn only(&self, chosen: impl Fn(&str) -> bool) -> Self {
        let entries = self.entries.iter().filter(|(name, _)| chosen(name));
        Self { entries: entries.map(|(name, value)| (name.clone(), value.clone())).collect() }
    }

    /// Adds a value key by key, so that a difference can be named. Values too long to display are stored as their
    /// sha256.
    pub fn with_json(self, name: &str, value: &Value) -> Self {
        match value {
            Value::Object(map) if map.len() <= SHOWN_ENTRIES => map
                .iter()
                .fold(self, |all, (key, value)| all.with_json(&format!("{name}.{key}"), value)),
            Value::Array(list) if list.len() <= SHOWN_ENTRIES => list
                .iter()
                .enumerate()
                .fold(self, |all, (i, value)| all.with_json(&format!("{name}.{i}"), value)),
            value => {
                let text = value.to_string();
                match text.len() <= SHOWN_BYTES {
                    true => self.with(name, &text),
                    false => self.with(name, &format!("sha256 {}", sha256_bytes(text.as_bytes()))),
                }
            }
        }
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn from_entries(entries: impl Iterator<Item = (String, String)>) -> Self {
        Self { entries: entries.collect() }
    }

    /// The values that differ from those `recorded`, with both sides; `None` if all agree.
    pub fn differences(&self, recorded: &Self) -> Option<String> {
        self.differences_between(recorded, ("was", "and is"))
    }

    /// The same with other words between a name, the other's value and this one's.
    pub fn differences_between(&self, recorded: &Self, words: (&str, &str)) -> Option<String> {
        let names: BTreeSet<&String> = self.entries.keys().chain(recorded.entries.keys()).collect();
        let side = |value: Option<&String>| value.map_or("not given", String::as_str).to_string();
        let differences: Vec<String> = names
            .into_iter()
            .map(|name| (name, recorded.entries.get(name), self.entries.get(name)))
            .filter(|(_, was, is)| !agree(*was, *is))
            .map(|(name, was, is)| {
                format!("{name} {} {} {} {}", words.0, side(was), words.1, side(is))
            })
            .collect();
        let shown = differences.iter().take(SHOWN_DIFFERENCES).cloned().collect::<Vec<_>>();
        match differences.len().saturating_sub(SHOWN_DIFFERENCES) {
            0 if shown.is_empty() => None,
            0 => Some(shown.join(", ")),
            more => Some(format!("{}, and {more} more", shown.join(", "))),
        }
    }

    /// Compares this run with the `recorded` one.
    ///
    /// # Errors
    /// The values that differ, with both sides.
    pub fn check(&self, recorded: &Self) -> Result<(), Changed> {
        match self.differences(recorded) {
            Some(differences) => Err(Changed { differences }),
            None => Ok(()),
        }
    }
}

/// Whether two values agree. A value on only one side is an option that the other program version did not have: off
/// means the same as before.
fn agree(was: Option<&String>, is: Option<&String>) -> bool {
    let off = |value: &String| ["null", "false", "\"\""].contains(&value.as_str());
    match (was, is) {
        (Some(one), None) | (None, Some(one)) => off(one),
        (was, is) => was == is,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::rate::Rate;
    use crate::settings::train::{DevSource, Length};
    use serde_json::json;

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
        let message = difference(|c| c.lr = Rate::Is(0.002));
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
            c.save_minutes = Some(0.0);
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
    fn json_is_compared_key_by_key_and_what_is_long_by_its_hash() {
        let print = |value: Value| Fingerprint::default().with_json("t", &value);
        let long: Vec<usize> = (0..100).collect();
        let one = print(json!({"a": {"b": 1, "c": [true]}, "v": long, "s": "x".repeat(100)}));
        let same = print(json!({"v": long, "s": "x".repeat(100), "a": {"c": [true], "b": 1}}));
        assert_eq!(one, same);
        let other = print(json!({"a": {"b": 2, "c": [true]}, "v": [1], "s": "x".repeat(100)}));
        let differences = other.differences(&one).unwrap();
        assert!(differences.starts_with("t.a.b was 1 and is 2, t.v was sha256 "), "{differences}");
        assert!(differences.ends_with("t.v.0 was not given and is 1"), "{differences}");
    }

    #[test]
    fn an_option_that_one_side_does_not_know_is_the_same_where_it_is_off() {
        let print = |value: Value| Fingerprint::default().with_json("t", &value);
        for off in [json!(null), json!(false), json!("")] {
            assert_eq!(print(json!({"new": off})).differences(&print(json!({}))), None);
        }
        assert!(print(json!({"new": true})).differences(&print(json!({}))).is_some());
        // These differ in their treatment of accents.
        assert!(print(json!({"a": null})).differences(&print(json!({"a": false}))).is_some());
    }

    #[test]
    fn many_differences_are_counted() {
        let print = |n: usize| Fingerprint::default().with_json("t", &json!(vec![n; 9]));
        let differences = print(1).differences(&print(2)).unwrap();
        assert!(differences.ends_with("t.5 was 2 and is 1, and 3 more"), "{differences}");
    }

    #[test]
    fn the_free_settings_are_settings() {
        let mut full = config();
        full.init_head = Some("h".into());
        full.init_delta = Some("d".into());
        full.data = Some("d".into());
        full.dev = Some(DevSource::File("d".into()));
        full.save_steps = Some(1);
        full.save_minutes = Some(1.0);
        full.tensorboard = true;
        full.threads = Some(1);
        let table: toml::Table = full.to_toml().unwrap().parse().unwrap();
        for name in FREE {
            assert!(table.contains_key(name), "{name}");
        }
    }
}
