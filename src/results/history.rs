//! The course of a run, from its log: the loss of its steps and the measures of each evaluation.

use crate::settings::metric::Metric;
use crate::train::log::records;
use anyhow::Result;
use std::path::Path;

/// Values by step, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    pub loss: Vec<(f64, f64)>,
    pub dev: Vec<(f64, f64)>,
}

impl History {
    /// From `metrics.jsonl`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: &Path, metric: Option<Metric>) -> Result<Self> {
        let mut history = Self::default();
        for record in records(path)? {
            let record = record?;
            let Some(step) = record["step"].as_f64() else { continue };
            if let Some(loss) = record["loss"].as_f64() {
                history.loss.push((step, loss));
            }
            let measured = metric.and_then(|metric| record["eval"][metric.key()].as_f64());
            history.dev.extend(measured.map(|value| (step, value)));
        }
        Ok(history)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_evaluations_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let lines = "{\"step\":1,\"loss\":0.7}\n{\"step\":2,\"loss\":null}\n{\"step\":2,\"eval\":{\"macro_f1\":0.5}}\nbroken\n";
        std::fs::write(&path, lines).unwrap();
        let found = History::read(&path, Some(Metric::MacroF1)).unwrap();
        assert_eq!((found.loss, found.dev), (vec![(1.0, 0.7)], vec![(2.0, 0.5)]));
        assert!(History::read(&path, None).unwrap().dev.is_empty());
    }
}
