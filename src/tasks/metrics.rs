//! How good a set of predictions is: the measures reported by every evaluation.
//!
//! Each is defined for every input, including degenerate ones, so that an evaluation never fails and never writes a
//! NaN. Where a textbook formula divides by zero the value is 0, as by default in scikit-learn; each function states
//! its exceptions.

use std::collections::BTreeMap;

use crate::settings::metric::Metric;

/// The results of one evaluation, in the order in which they are reported.
pub type Scores = Vec<(Metric, f64)>;

/// Predicted class if nothing was predicted: never right, and of no class.
pub const NO_CLASS: u32 = u32::MAX;

/// Loss and the measures of classification over `predicted` and `gold` class ids (equal lengths).
pub fn classification(predicted: &[u32], gold: &[u32], loss: f64) -> Scores {
    vec![
        (Metric::Loss, loss),
        (Metric::Accuracy, accuracy(predicted, gold)),
        (Metric::MacroF1, macro_f1(predicted, gold)),
        (Metric::Matthews, matthews(predicted, gold)),
    ]
}

/// Loss and the measures of regression over `predicted` and `gold` values, `[rows, outputs]`: with several outputs the
/// mean over them.
pub fn regression(predicted: &[f32], gold: &[f32], outputs: usize, loss: f64) -> Scores {
    let column = |values: &[f32], output: usize| -> Vec<f32> {
        values.iter().skip(output).step_by(outputs).copied().collect()
    };
    let mean = |measure: fn(&[f32], &[f32]) -> f64| {
        let each = (0..outputs).map(|o| measure(&column(predicted, o), &column(gold, o)));
        ratio(each.sum(), outputs as f64)
    };
    vec![(Metric::Loss, loss), (Metric::Pearson, mean(pearson)), (Metric::Spearman, mean(spearman))]
}

/// Loss and the measures of several labels per text over `predicted` and `gold`, `[rows, labels]`, as in scikit-learn
/// for indicator matrices: F1 over all labels together, the mean of each label's F1, and the share of rows with every
/// label right.
pub fn multi_label(predicted: &[bool], gold: &[bool], labels: usize, loss: f64) -> Scores {
    let mut counts: Vec<ClassCounts> = (0..labels).map(|_| ClassCounts::default()).collect();
    let mut exact = 0usize;
    let rows = predicted.chunks_exact(labels).zip(gold.chunks_exact(labels));
    let count = rows.len();
    for (predicted, gold) in rows {
        exact += usize::from(predicted == gold);
        for (counts, (&p, &g)) in counts.iter_mut().zip(predicted.iter().zip(gold)) {
            counts.predicted += u64::from(p);
            counts.gold += u64::from(g);
            counts.right += u64::from(p && g);
        }
    }
    let sum = |of: fn(&ClassCounts) -> u64| counts.iter().map(of).sum::<u64>() as f64;
    let macro_f1: f64 = counts.iter().map(ClassCounts::f1).sum();
    vec![
        (Metric::Loss, loss),
        (Metric::MicroF1, ratio(2.0 * sum(|c| c.right), sum(|c| c.predicted + c.gold))),
        (Metric::MacroF1, ratio(macro_f1, labels as f64)),
        (Metric::Accuracy, ratio(exact as f64, count as f64)),
    ]
}

/// Share of right predictions; 0 without predictions.
pub fn accuracy(predicted: &[u32], gold: &[u32]) -> f64 {
    debug_assert_eq!(predicted.len(), gold.len());
    let right = predicted.iter().zip(gold).filter(|(p, g)| p == g).count();
    ratio(right as f64, gold.len() as f64)
}

/// Counts per class from which the other measures are computed.
#[derive(Default)]
struct ClassCounts {
    predicted: u64,
    gold: u64,
    right: u64,
}

impl ClassCounts {
    fn f1(&self) -> f64 {
        ratio(2.0 * self.right as f64, (self.predicted + self.gold) as f64)
    }
}

/// Counts of the classes that occur among predictions or gold labels, by class id.
fn count_classes(predicted: &[u32], gold: &[u32]) -> BTreeMap<u32, ClassCounts> {
    debug_assert_eq!(predicted.len(), gold.len());
    let mut classes: BTreeMap<u32, ClassCounts> = BTreeMap::new();
    for (&p, &g) in predicted.iter().zip(gold) {
        classes.entry(p).or_default().predicted += 1;
        let class = classes.entry(g).or_default();
        class.gold += 1;
        class.right += u64::from(p == g);
    }
    classes.remove(&NO_CLASS);
    classes
}

/// Unweighted mean over classes of F1 = 2·TP / (predicted + gold).
///
/// As in scikit-learn, the classes are those that occur in `predicted` or `gold`, so no denominator is 0; 0 without
/// predictions.
pub fn macro_f1(predicted: &[u32], gold: &[u32]) -> f64 {
    let classes = count_classes(predicted, gold);
    let sum: f64 = classes.values().map(ClassCounts::f1).sum();
    ratio(sum, classes.len() as f64)
}

/// F1 of one class, as GLUE computes it for the positive one; 0 if it is neither gold nor predicted.
pub fn f1_of(class: u32, predicted: &[u32], gold: &[u32]) -> f64 {
    let classes = count_classes(predicted, gold);
    classes
        .get(&class)
        .map_or(0.0, |class| ratio(2.0 * class.right as f64, (class.predicted + class.gold) as f64))
}

/// Matthews' correlation coefficient, in its form for any number of classes (Gorodkin 2004).
///
/// 0 if the predictions or the gold labels are all of one class: there is then nothing to correlate.
pub fn matthews(predicted: &[u32], gold: &[u32]) -> f64 {
    let classes = count_classes(predicted, gold);
    let total = gold.len() as f64;
    // Counts are far below 2^53, but their products may exceed 2^64: f64 throughout.
    let sum = |of: &dyn Fn(&ClassCounts) -> f64| classes.values().map(of).sum::<f64>();
    let right = sum(&|class| class.right as f64);
    let joint = sum(&|class| class.predicted as f64 * class.gold as f64);
    let predicted_squares = sum(&|class| (class.predicted as f64).powi(2));
    let gold_squares = sum(&|class| (class.gold as f64).powi(2));
    let covariance = right * total - joint;
    let spread = (total * total - predicted_squares) * (total * total - gold_squares);
    ratio(covariance, spread.sqrt())
}

/// Pearson's correlation of two equally long lists.
///
/// 0 if either is constant, has fewer than two values, or holds a number that is not finite: the correlation is then
/// undefined (SciPy gives NaN), and a 0 never wins against a model that does predict something.
pub fn pearson(a: &[f32], b: &[f32]) -> f64 {
    let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
    correlation(&wide(a), &wide(b))
}

/// Spearman's rank correlation: Pearson's over ranks, where tied values share the mean of their ranks.
///
/// 0 in the same cases as [`pearson`].
pub fn spearman(a: &[f32], b: &[f32]) -> f64 {
    if a.iter().chain(b).any(|value| !value.is_finite()) {
        return 0.0;
    }
    correlation(&ranks(a), &ranks(b))
}

/// Ranks counted from 1; ties get the mean of the ranks that they span.
fn ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    // `==` and not total_cmp decides ties: -0.0 and 0.0 are the same value.
    for run in order.chunk_by(|&i, &j| values[i] == values[j]) {
        // The run's ranks follow those of all smaller values.
        let smaller = order.partition_point(|&i| values[i] < values[run[0]]);
        let mean = smaller as f64 + (run.len() as f64 + 1.0) / 2.0;
        for &i in run {
            ranks[i] = mean;
        }
    }
    ranks
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    debug_assert_eq!(a.len(), b.len());
    let n = a.len() as f64;
    // Two passes: the one-pass formula cancels if the spread is small relative to the mean.
    let mean_a = a.iter().sum::<f64>() / n;
    let mean_b = b.iter().sum::<f64>() / n;
    let (mut product, mut square_a, mut square_b) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (x - mean_a, y - mean_b);
        product += x * y;
        square_a += x * x;
        square_b += y * y;
    }
    // sqrt of each, not of the product, so that small spreads do not underflow.
    ratio(product, square_a.sqrt() * square_b.sqrt()).clamp(-1.0, 1.0)
}

/// `above / below`, or 0 if that is not a finite number.
fn ratio(above: f64, below: f64) -> f64 {
    let value = above / below;
    if value.is_finite() { value } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-12, "{value} is not {expected}");
    }

    #[test]
    fn two_classes_agree_with_the_four_cells() {
        // TP 3, FN 1, FP 2, TN 4.
        let gold = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0];
        let predicted = [1, 1, 1, 0, 1, 1, 0, 0, 0, 0];
        close(accuracy(&predicted, &gold), 0.7);
        // F1 of class 1 is 6/9, of class 0 is 8/11.
        close(macro_f1(&predicted, &gold), (6.0 / 9.0 + 8.0 / 11.0) / 2.0);
        // (3·4 − 2·1) / sqrt(5·4·6·5)
        close(matthews(&predicted, &gold), 10.0 / 600.0_f64.sqrt());
    }

    #[test]
    fn three_classes_agree_with_the_confusion_matrix() {
        // Rows gold, columns predicted: [[2, 0, 0], [1, 0, 1], [0, 1, 1]].
        let gold = [0, 0, 1, 1, 2, 2];
        let predicted = [0, 0, 0, 2, 1, 2];
        close(accuracy(&predicted, &gold), 0.5);
        // F1: 4/5, 0, 2/4.
        close(macro_f1(&predicted, &gold), (0.8 + 0.0 + 0.5) / 3.0);
        // c = 3, s = 6, predicted 3 1 2, gold 2 2 2: (18 − 12) / sqrt((36 − 14)(36 − 12)).
        close(matthews(&predicted, &gold), 6.0 / (22.0_f64 * 24.0).sqrt());
    }

    #[test]
    fn a_class_that_is_only_predicted_counts_in_macro_f1() {
        // scikit-learn: labels are those of gold and predictions; F1 2/3, 2/3... of {0: 2·1/(1+2), 5: 0}.
        close(macro_f1(&[0, 5], &[0, 0]), (2.0 / 3.0 + 0.0) / 2.0);
    }

    #[test]
    fn perfect_and_opposite_predictions_reach_the_ends() {
        let gold = [0, 1, 0, 1];
        close(matthews(&gold, &gold), 1.0);
        close(matthews(&[1, 0, 1, 0], &gold), -1.0);
        close(macro_f1(&gold, &gold), 1.0);
    }

    #[test]
    fn degenerate_classes_are_zero_and_never_nan() {
        close(accuracy(&[], &[]), 0.0);
        close(macro_f1(&[], &[]), 0.0);
        close(matthews(&[], &[]), 0.0);
        close(matthews(&[1, 1, 1], &[0, 1, 0]), 0.0);
        close(matthews(&[0, 1, 0], &[1, 1, 1]), 0.0);
        close(matthews(&[2, 2], &[2, 2]), 0.0);
        close(accuracy(&[2, 2], &[2, 2]), 1.0);
    }

    #[test]
    fn pearson_agrees_with_a_worked_example() {
        // Deviations of a: −2 −1 0 1 2, of b: −2 0 1 −1 2 → 4 + 0 + 0 − 1 + 4 = 7, squares 10 and 10.
        let a = [1.0, 2.0, 3.0, 4.0, 5.0];
        let b = [1.0, 3.0, 4.0, 2.0, 5.0];
        close(pearson(&a, &b), 0.7);
        close(pearson(&a, &b.map(|x| -3.0 * x + 2.0)), -0.7);
        // A large mean with a small spread must not cancel.
        close(pearson(&a.map(|x| x + 65536.0), &b), 0.7);
    }

    #[test]
    fn spearman_averages_tied_ranks() {
        assert_eq!(ranks(&[10.0, 20.0, 20.0, 5.0, 20.0]), [2.0, 4.0, 4.0, 1.0, 4.0]);
        assert_eq!(ranks(&[0.0, -0.0]), [1.5, 1.5]);
        // Ranks 1 2.5 2.5 4 against 1 2 3 4: 4.5 / sqrt(4.5 · 5).
        close(spearman(&[1.0, 2.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 4.0]), 4.5 / (4.5_f64 * 5.0).sqrt());
        // Any increasing map preserves ranks.
        close(spearman(&[1.0, 2.0, 3.0], &[1.0, 100.0, 1e30]), 1.0);
        close(spearman(&[1.0, 2.0, 3.0, 4.0], &[4.0, 3.0, 2.0, 1.0]), -1.0);
    }

    #[test]
    fn degenerate_values_are_zero_and_never_nan() {
        for measure in [pearson, spearman] {
            close(measure(&[], &[]), 0.0);
            close(measure(&[1.0], &[2.0]), 0.0);
            close(measure(&[3.0, 3.0, 3.0], &[1.0, 2.0, 3.0]), 0.0);
            close(measure(&[f32::NAN, 1.0], &[1.0, 2.0]), 0.0);
            close(measure(&[f32::INFINITY, 1.0], &[1.0, 2.0]), 0.0);
        }
    }
}
