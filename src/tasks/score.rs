//! What a task makes of logits: its loss, its measures, and the answer for one text.

use super::metrics::{self, Scores};
use super::remarks::all_equal;
use crate::batch::Labels;
use crate::program::LossKind;
use crate::settings::choice::Task;

impl Task {
    /// The loss that this task trains with.
    pub fn loss(self) -> LossKind {
        match self {
            Task::Classification => LossKind::CrossEntropy,
            Task::Regression => LossKind::MeanSquared,
        }
    }
}

/// Mean loss and the task's measures of logits `[rows, outputs]` against labels.
pub fn score(logits: &[f32], outputs: usize, labels: &Labels) -> Scores {
    match labels {
        Labels::Classes(gold) => {
            let rows = || logits.chunks_exact(outputs);
            let predicted: Vec<u32> = rows().map(argmax).collect();
            let loss: f64 =
                rows().zip(gold).map(|(row, &class)| -log_softmax(row)[class as usize]).sum();
            metrics::classification(&predicted, gold, loss / gold.len() as f64)
        }
        Labels::Values(gold) => {
            let loss: f64 = logits.iter().zip(gold).map(|(&x, &y)| f64::from(x - y).powi(2)).sum();
            metrics::regression(logits, gold, loss / gold.len() as f64)
        }
        Labels::None => Scores::new(),
    }
}

/// Whether all of two or more texts got the same answer, which no correlation is defined for.
pub fn one_answer(logits: &[f32], outputs: usize, labels: &Labels) -> bool {
    match labels {
        Labels::Classes(_) => {
            let answers: Vec<u32> = logits.chunks_exact(outputs).map(argmax).collect();
            answers.len() > 1 && answers.windows(2).all(|pair| pair[0] == pair[1])
        }
        Labels::Values(_) => logits.len() > 1 && all_equal(logits),
        Labels::None => false,
    }
}

/// Index of the largest logit; the first where several are equal.
pub fn argmax(row: &[f32]) -> u32 {
    let mut best = 0;
    for (i, &x) in row.iter().enumerate() {
        if x > row[best] {
            best = i;
        }
    }
    best as u32
}

/// Log-probabilities of one row of logits.
pub fn log_softmax(row: &[f32]) -> Vec<f64> {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|&x| f64::from(x - top).exp()).sum();
    row.iter().map(|&x| f64::from(x - top) - sum.ln()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::metric::Metric;

    #[test]
    fn log_softmax_is_exact_for_large_and_equal_logits() {
        assert_eq!(log_softmax(&[1e30, 1e30]), [-std::f64::consts::LN_2; 2]);
        let two = log_softmax(&[0.0, f32::ln(3.0)]);
        assert!((two[1] - 0.75f64.ln()).abs() < 1e-7);
    }

    #[test]
    fn classification_scores_come_from_the_largest_logit() {
        let logits = [2.0, 1.0, 0.0, 1.0, 5.0, 5.0];
        let scores = score(&logits, 2, &Labels::Classes(vec![0, 1, 1]));
        let accuracy = scores.iter().find(|(m, _)| *m == Metric::Accuracy).unwrap().1;
        assert!((accuracy - 2.0 / 3.0).abs() < 1e-12, "a tie goes to the first class");
    }

    #[test]
    fn one_answer_for_all_is_seen_by_the_answers_and_not_by_the_logits() {
        let classes = Labels::Classes(vec![0, 1]);
        assert!(one_answer(&[2.0, 1.0, 5.0, 0.0], 2, &classes));
        assert!(!one_answer(&[2.0, 1.0, 0.0, 5.0], 2, &classes));
        let values = Labels::Values(vec![0.0, 1.0]);
        assert!(one_answer(&[0.5, 0.5], 1, &values) && !one_answer(&[0.5, 0.6], 1, &values));
        assert!(!one_answer(&[0.5], 1, &Labels::Values(vec![0.0])), "one row is one answer");
    }

    #[test]
    fn regression_loss_is_the_mean_of_squares() {
        let scores = score(&[1.0, 3.0], 1, &Labels::Values(vec![0.0, 1.0]));
        assert_eq!(scores[0], (Metric::Loss, 2.5));
    }
}
