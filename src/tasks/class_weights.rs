//! The factors on the losses of the classes, for data in which some classes are rare.

use super::labels::ClassNames;
use crate::batch::Labels;
use crate::settings::weighting::Weighting;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};
use std::path::Path;

/// The weight of each class, `[classes]`, for training on rows or tokens with these labels.
///
/// # Errors
/// A file that cannot be read, lacks a class, or has a weight that cannot be one.
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

/// `sklearn.utils.class_weight.compute_class_weight("balanced")`. A class without a row has no loss to weigh.
fn balanced(classes: &ClassNames, train: &Labels) -> Vec<f64> {
    let mut counts = vec![0usize; classes.names().len()];
    if let Labels::Classes(ids) | Labels::Tokens(ids) = train {
        ids.iter().filter(|&&id| id != Labels::IGNORED).for_each(|&id| counts[id as usize] += 1);
    }
    let (rows, classes) = (counts.iter().sum::<usize>() as f64, counts.len() as f64);
    let weight = |count| if count == 0 { 1.0 } else { rows / (classes * count as f64) };
    counts.into_iter().map(weight).collect()
}

fn of_file(path: &Path, classes: &ClassNames) -> Result<Vec<f32>> {
    let here = path.display();
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("--class-weights: cannot read {here}; it is balanced, inverse-sqrt or a file")
    })?;
    let given: Map<String, Value> = serde_json::from_str(&text)
        .with_context(|| format!("--class-weights: {here} is no JSON object of class weights"))?;
    let mut weights = vec![None; classes.names().len()];
    for (name, value) in given {
        let Some(id) = classes.id(&name) else {
            bail!(
                "--class-weights: {here} has a weight for {name:?}; the classes are {}",
                crate::words::list(classes.names())
            );
        };
        let weight = value.as_f64().map(|weight| weight as f32);
        let Some(weight) = weight.filter(|w| w.is_finite() && *w >= f32::MIN_POSITIVE) else {
            bail!(
                "--class-weights: {here}: the weight of {name:?} is {value}; a number above 0 is expected"
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
            ("[1, 2, 3]", "is no JSON object"),
        ] {
            let message = format!("{:#}", read(text).unwrap_err());
            assert!(message.contains(problem), "{message}");
        }
    }
}
