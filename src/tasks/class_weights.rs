//! Factors on the losses of the classes, for data with rare classes.

use super::labels::ClassNames;
use crate::batch::Labels;
use crate::files::read_bounded;
use crate::settings::weighting::Weighting;
use crate::table::TextTable;
use crate::words::MANY;
use anyhow::{Context, Result, bail, ensure};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use std::fmt;
use std::path::Path;

/// The weight of each class, `[classes]`, for training on rows or tokens with these labels.
///
/// # Errors
/// A file that cannot be read, lacks a class, or has an impossible weight.
pub fn class_weights(
    weighting: &Weighting,
    classes: &ClassNames,
    train: &Labels,
) -> Result<Vec<f32>> {
    match weighting {
        Weighting::Balanced => Ok(balanced(classes, train).into_iter().map(|w| w as f32).collect()),
        Weighting::InverseSqrt => {
            Ok(balanced(classes, train).into_iter().map(|w| w.sqrt() as f32).collect())
        }
        Weighting::File(path) => of_file(path, classes),
    }
}

/// Classes, rows and weights as a table for people; only the heaviest if there are too many.
pub fn table(classes: &ClassNames, train: &Labels, weights: &[f32]) -> String {
    let counts = rows_of(classes, train);
    let mut rows: Vec<_> = classes.names().iter().zip(counts).zip(weights).collect();
    if rows.len() > MANY {
        rows.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    }
    let mut table = TextTable::new(["class", "rows", "weight"]);
    for ((name, count), weight) in rows.iter().take(MANY) {
        table.row([(*name).clone(), count.to_string(), format!("{weight:.4}")]);
    }
    let more = match rows.len().saturating_sub(MANY) {
        0 => String::new(),
        more => format!("and {more} more\n"),
    };
    format!("{table}{more}")
}

/// Rows or tokens of each class.
fn rows_of(classes: &ClassNames, train: &Labels) -> Vec<usize> {
    let mut counts = vec![0usize; classes.names().len()];
    if let Labels::Classes(ids) | Labels::Tokens(ids) = train {
        ids.iter().filter(|&&id| id != Labels::IGNORED).for_each(|&id| counts[id as usize] += 1);
    }
    counts
}

/// `sklearn.utils.class_weight.compute_class_weight("balanced")`. A class without rows has no loss to weight.
fn balanced(classes: &ClassNames, train: &Labels) -> Vec<f64> {
    let counts = rows_of(classes, train);
    let (rows, classes) = (counts.iter().sum::<usize>() as f64, counts.len() as f64);
    let weight = |count| if count == 0 { 1.0 } else { rows / (classes * count as f64) };
    counts.into_iter().map(weight).collect()
}

/// A million classes with long names take a tenth of this.
const MOST_BYTES: u64 = 256 << 20;

/// Outside these bounds, either only one class would be learned or one not at all.
const LEAST: f32 = 1e-6;
const MOST: f32 = 1e6;

/// The entries of a JSON object in order. A map would keep only the last of two with the same key.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a number for each class")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

fn of_file(path: &Path, classes: &ClassNames) -> Result<Vec<f32>> {
    let here = path.display();
    let bytes = read_bounded(path, MOST_BYTES)
        .context("--class-weights (it is balanced, inverse-sqrt or a file)")?;
    let Entries(given) = serde_json::from_slice(&bytes).with_context(|| {
        format!("--class-weights: {here} is not a JSON object of class weights")
    })?;
    let mut weights = vec![None; classes.names().len()];
    for (name, value) in given {
        let Some(id) = classes.id(&name) else {
            bail!(
                "--class-weights: {here} has a weight for {name:?}; the classes are {}",
                crate::words::list(classes.names())
            );
        };
        let weight = value.as_f64().map(|weight| weight as f32);
        let Some(weight) = weight.filter(|weight| (LEAST..=MOST).contains(weight)) else {
            bail!(
                "--class-weights: {here}: the weight of {name:?} is {value}; a number from {LEAST} to {MOST} is expected"
            );
        };
        ensure!(
            weights[id as usize].replace(weight).is_none(),
            "--class-weights: {here} has two weights for {:?}",
            classes.names()[id as usize]
        );
    }
    let named = weights.into_iter().zip(classes.names());
    named
        .map(|(weight, name)| {
            weight.with_context(|| format!("--class-weights: {here} has no weight for {name:?}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes() -> ClassNames {
        ClassNames::from_names(["a", "b", "c"].map(str::to_owned).to_vec(), 2).unwrap()
    }

    #[test]
    fn balanced_weights_are_those_of_scikit_learn() {
        // compute_class_weight("balanced", classes=[0, 1, 2], y=[0, 0, 0, 0, 1, 2])
        let train = Labels::Classes(vec![0, 0, 0, 0, 1, 2]);
        let weights = class_weights(&Weighting::Balanced, &classes(), &train).unwrap();
        assert_eq!(weights, [0.5, 2.0, 2.0]);
        let weights = class_weights(&Weighting::InverseSqrt, &classes(), &train).unwrap();
        assert_eq!(weights, [0.5f32.sqrt(), 2f32.sqrt(), 2f32.sqrt()]);
        let tokens = Labels::Tokens(vec![0, Labels::IGNORED, 0, 0, 0, 1, 2, Labels::IGNORED]);
        let same = class_weights(&Weighting::Balanced, &classes(), &tokens).unwrap();
        assert_eq!(same, [0.5, 2.0, 2.0]);
    }

    #[test]
    fn the_weights_are_shown_with_the_rows_of_each_class() {
        let train = Labels::Classes(vec![0, 0, 0, 0, 1, 2]);
        let text = table(&classes(), &train, &[0.5, 2.0, 2.0]);
        let rows: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            (&rows[0], &rows[2]),
            (&vec!["class", "rows", "weight"], &vec!["a", "4", "0.5000"])
        );
        let many = (0..30).map(|i| i.to_string()).collect();
        let many = ClassNames::from_names(many, 2).unwrap();
        let weights: Vec<f32> = (0..30).map(|i| i as f32).collect();
        let text = table(&many, &Labels::None, &weights);
        assert!(text.contains("29.0000") && !text.contains("\n0 "), "{text}");
        assert!(text.ends_with("and 10 more\n"), "{text}");
    }

    #[test]
    fn a_file_names_each_class_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            class_weights(&Weighting::File(path.clone()), &classes(), &Labels::None)
        };
        assert_eq!(read(r#"{"c": 3, "a": 1, "b": 0.5}"#).unwrap(), [1.0, 0.5, 3.0]);
        for (text, problem) in [
            (r#"{"a": 1, "b": 1}"#, "has no weight for \"c\""),
            (r#"{"a": 1, "d": 1}"#, "has a weight for \"d\"; the classes are"),
            (r#"{"a": 0, "b": 1, "c": 1}"#, "the weight of \"a\" is 0;"),
            (r#"{"a": "1", "b": 1, "c": 1}"#, "the weight of \"a\" is \"1\";"),
            (r#"{"a": 1e30, "b": 1, "c": 1}"#, "is 1e+30; a number from 0.000001 to 1000000 is"),
            (r#"{"a": 1e-9, "b": 1, "c": 1}"#, "the weight of \"a\" is 1e-9;"),
            (r#"{"a": 1, "b": 1, "c": 1, "a": 2}"#, "has two weights for \"a\""),
            ("[1, 2, 3]", "is not a JSON object"),
        ] {
            let message = format!("{:#}", read(text).unwrap_err());
            assert!(message.contains(problem), "{message}");
        }
    }
}
