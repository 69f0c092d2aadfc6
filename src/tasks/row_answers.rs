//! What a measure needs from each row, so that it can be recomputed on any selection of rows: a bootstrap draws many.

use super::classification::argmax;
use super::metrics::{macro_f1, matthews, regression};
use super::targets::Targets;
use crate::batch::Labels;
use crate::settings::metric::Metric;
use serde::{Deserialize, Serialize};

/// A measure, row by row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RowAnswers {
    /// The mean of these: for accuracy 1 for a row that is right and 0 otherwise.
    Mean { each: Vec<f32> },
    /// F1 from what each row has right, predicts, and has as gold.
    Counts { right: Vec<u32>, predicted: Vec<u32>, gold: Vec<u32> },
    /// Computed from all classes together.
    Classes { metric: Metric, predicted: Vec<u32>, gold: Vec<u32> },
    /// A correlation of numbers, `[rows, outputs]`.
    Numbers { metric: Metric, outputs: usize, predicted: Vec<f32>, gold: Vec<f32> },
}

impl RowAnswers {
    /// From logits and labels of rows; `positive` is the class whose F1 counts. `None` if the measure of this task does
    /// not come from its rows in any of these ways.
    pub fn of(
        metric: Metric,
        targets: &Targets,
        labels: &Labels,
        logits: &[f32],
        positive: Option<u32>,
    ) -> Option<Self> {
        let outputs = targets.outputs();
        if outputs == 0 {
            return None;
        }
        match (targets, labels) {
            (Targets::Classes(_), Labels::Classes(gold)) => {
                let predicted: Vec<u32> = logits.chunks_exact(outputs).map(argmax).collect();
                Self::of_classes(metric, predicted, gold, positive)
            }
            (Targets::Several(..), Labels::Values(gold)) => {
                let rows = logits.chunks_exact(outputs).zip(gold.chunks_exact(outputs));
                let rows = rows.map(|(logits, gold)| {
                    let pairs = logits.iter().zip(gold).map(|(&x, &y)| (x > 0.0, y > 0.5));
                    pairs.collect::<Vec<_>>()
                });
                let count = |row: &[(bool, bool)], of: fn(&(bool, bool)) -> bool| {
                    row.iter().filter(|pair| of(pair)).count() as u32
                };
                match metric {
                    Metric::Accuracy => Some(Self::Mean {
                        each: rows.map(|row| f32::from(row.iter().all(|(p, g)| p == g))).collect(),
                    }),
                    Metric::MicroF1 => {
                        let rows: Vec<_> = rows.collect();
                        let all = |of: fn(&(bool, bool)) -> bool| {
                            rows.iter().map(|row| count(row, of)).collect()
                        };
                        Some(Self::Counts {
                            right: all(|(p, g)| *p && *g),
                            predicted: all(|(p, _)| *p),
                            gold: all(|(_, g)| *g),
                        })
                    }
                    _ => None,
                }
            }
            (Targets::Values { outputs, .. }, Labels::Values(gold)) => {
                let known = matches!(metric, Metric::Pearson | Metric::Spearman);
                let (predicted, gold) = (logits.to_vec(), gold.clone());
                known.then_some(Self::Numbers { metric, outputs: *outputs, predicted, gold })
            }
            _ => None,
        }
    }

    fn of_classes(
        metric: Metric,
        predicted: Vec<u32>,
        gold: &[u32],
        positive: Option<u32>,
    ) -> Option<Self> {
        let pairs = predicted.iter().zip(gold);
        match metric {
            Metric::Accuracy => {
                Some(Self::Mean { each: pairs.map(|(p, g)| f32::from(p == g)).collect() })
            }
            Metric::F1 => {
                let positive = positive?;
                Some(Self::Counts {
                    right: pairs.map(|(p, g)| u32::from(p == g && *g == positive)).collect(),
                    predicted: predicted.iter().map(|p| u32::from(*p == positive)).collect(),
                    gold: gold.iter().map(|g| u32::from(*g == positive)).collect(),
                })
            }
            Metric::MacroF1 | Metric::Matthews => {
                Some(Self::Classes { metric, predicted, gold: gold.to_vec() })
            }
            _ => None,
        }
    }

    /// The number of rows; `None` if its lists have different lengths, which no writer produces.
    pub fn rows(&self) -> Option<usize> {
        match self {
            Self::Mean { each } => Some(each.len()),
            Self::Counts { right, predicted, gold } => {
                let same = right.len() == predicted.len() && right.len() == gold.len();
                same.then_some(right.len())
            }
            Self::Classes { predicted, gold, .. } => {
                (predicted.len() == gold.len()).then_some(gold.len())
            }
            Self::Numbers { outputs, predicted, gold, .. } => {
                let whole = *outputs > 0 && gold.len().is_multiple_of(*outputs);
                (whole && predicted.len() == gold.len()).then(|| gold.len() / outputs)
            }
        }
    }

    /// Whether both answer the same rows by the same measure, as far as can be determined.
    pub fn pairs_with(&self, other: &Self) -> bool {
        self.rows().is_some()
            && self.rows() == other.rows()
            && match (self, other) {
                (Self::Mean { .. }, Self::Mean { .. }) => true,
                (Self::Counts { gold: a, .. }, Self::Counts { gold: b, .. }) => a == b,
                (
                    Self::Classes { metric: m, gold: a, .. },
                    Self::Classes { metric: n, gold: b, .. },
                ) => m == n && a == b,
                (
                    Self::Numbers { metric: m, outputs: o, gold: a, .. },
                    Self::Numbers { metric: n, outputs: q, gold: b, .. },
                ) => m == n && o == q && a == b,
                _ => false,
            }
    }

    /// The measure on these rows, each below [`rows`](Self::rows) and possibly repeated; 0 without rows.
    pub fn value(&self, rows: &[usize]) -> f64 {
        if rows.is_empty() {
            return 0.0;
        }
        match self {
            Self::Mean { each } => {
                rows.iter().map(|&row| f64::from(each[row])).sum::<f64>() / rows.len() as f64
            }
            Self::Counts { right, predicted, gold } => {
                let sum = |of: &[u32]| rows.iter().map(|&row| u64::from(of[row])).sum::<u64>();
                let all = sum(predicted) + sum(gold);
                if all == 0 { 0.0 } else { 2.0 * sum(right) as f64 / all as f64 }
            }
            Self::Classes { metric, predicted, gold } => {
                let chosen = |of: &[u32]| rows.iter().map(|&row| of[row]).collect::<Vec<_>>();
                let (predicted, gold) = (chosen(predicted), chosen(gold));
                match metric {
                    Metric::Matthews => matthews(&predicted, &gold),
                    _ => macro_f1(&predicted, &gold),
                }
            }
            Self::Numbers { metric, outputs, predicted, gold } => {
                let chosen = |of: &[f32]| -> Vec<f32> {
                    let row = |&row: &usize| &of[row * outputs..(row + 1) * outputs];
                    rows.iter().flat_map(row).copied().collect()
                };
                let scores = regression(&chosen(predicted), &chosen(gold), *outputs, 0.0);
                scores.iter().find(|(m, _)| m == metric).map_or(0.0, |&(_, value)| value)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::labels::ClassNames;
    use crate::tasks::splitting::Splitting;

    fn classes() -> Targets {
        let names = ["a", "b", "c"].map(str::to_owned).into();
        Targets::Classes(ClassNames::from_names(names, 2).unwrap())
    }

    /// Logits that predict these classes.
    fn saying(classes: &[u32]) -> Vec<f32> {
        classes.iter().flat_map(|&c| (0..3).map(move |i| f32::from(i == c))).collect()
    }

    #[test]
    fn on_all_rows_it_is_what_the_evaluation_measures() {
        let gold = vec![0, 1, 2, 2, 1, 0, 1];
        let logits = saying(&[0, 1, 1, 2, 0, 0, 1]);
        let scores = classes().score(&logits, &Labels::Classes(gold.clone()));
        let all: Vec<usize> = (0..gold.len()).collect();
        for metric in [Metric::Accuracy, Metric::MacroF1, Metric::Matthews] {
            let labels = Labels::Classes(gold.clone());
            let answers = RowAnswers::of(metric, &classes(), &labels, &logits, None).unwrap();
            let expected = scores.iter().find(|(m, _)| *m == metric).unwrap().1;
            assert_eq!(answers.rows(), Some(7));
            assert!((answers.value(&all) - expected).abs() < 1e-12, "{metric}");
        }
        let labels = Labels::Classes(gold.clone());
        let f1 = RowAnswers::of(Metric::F1, &classes(), &labels, &logits, Some(1)).unwrap();
        // Class 1 is right twice, predicted three times and gold three times.
        assert!((f1.value(&all) - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(RowAnswers::of(Metric::Loss, &classes(), &labels, &logits, None), None);
    }

    #[test]
    fn labels_and_numbers_are_measured_as_the_evaluation_does() {
        let names = ClassNames::from_names(vec!["x".into(), "y".into()], 1).unwrap();
        let several = Targets::Several(names, Splitting::LISTS);
        let labels = Labels::Values(vec![1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        let logits = [2.0, -1.0, 1.0, 1.0, -3.0, 0.5];
        let values = Targets::Values { outputs: 2, splitting: Splitting::LISTS };
        let cases = [
            (&several, vec![Metric::Accuracy, Metric::MicroF1]),
            (&values, vec![Metric::Pearson, Metric::Spearman]),
        ];
        for (targets, metrics) in cases {
            let scores = targets.score(&logits, &labels);
            for metric in metrics {
                let answers = RowAnswers::of(metric, targets, &labels, &logits, None).unwrap();
                let expected = scores.iter().find(|(m, _)| *m == metric).unwrap().1;
                assert!((answers.value(&[0, 1, 2]) - expected).abs() < 1e-12, "{metric}");
            }
        }
        assert_eq!(RowAnswers::of(Metric::MacroF1, &several, &labels, &logits, None), None);
    }

    #[test]
    fn rows_can_be_chosen_more_than_once() {
        let answers = RowAnswers::Mean { each: vec![1.0, 0.0] };
        assert_eq!((answers.value(&[0, 0, 1, 0]), answers.value(&[])), (0.75, 0.0));
        let none = RowAnswers::Counts { right: vec![0], predicted: vec![0], gold: vec![0] };
        assert_eq!(none.value(&[0]), 0.0);
    }

    #[test]
    fn only_answers_on_the_same_rows_pair() {
        let numbers = |gold: &[f32]| RowAnswers::Numbers {
            metric: Metric::Pearson,
            outputs: 1,
            predicted: vec![0.0; 2],
            gold: gold.to_vec(),
        };
        assert!(numbers(&[1.0, 2.0]).pairs_with(&numbers(&[1.0, 2.0])));
        assert!(!numbers(&[1.0, 2.0]).pairs_with(&numbers(&[1.0, 3.0])));
        assert!(!numbers(&[1.0]).pairs_with(&numbers(&[1.0])), "its lists differ in length");
        let mean = |n: usize| RowAnswers::Mean { each: vec![1.0; n] };
        assert!(mean(3).pairs_with(&mean(3)) && !mean(3).pairs_with(&mean(2)));
        assert!(!mean(2).pairs_with(&numbers(&[1.0, 2.0])));
    }

    #[test]
    fn it_comes_back_from_json() {
        let answers = RowAnswers::Classes {
            metric: Metric::Matthews,
            predicted: vec![1, 0],
            gold: vec![1, 1],
        };
        let text = serde_json::to_string(&answers).unwrap();
        assert!(text.starts_with("{\"form\":\"classes\",\"metric\":\"matthews\""), "{text}");
        assert_eq!(serde_json::from_str::<RowAnswers>(&text).unwrap(), answers);
        assert!(serde_json::from_str::<RowAnswers>(&text.replace("gold", "truth")).is_err());
    }
}
