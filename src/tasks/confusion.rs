//! Counts which class was predicted for which; per-class measures, averages and the signs of a collapse follow from
//! this.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::classification::argmax;
use super::metrics::NO_CLASS;
use crate::batch::Labels;

/// Rows (or words) by gold and predicted class. Only nonempty cells are kept: a task may have thousands of classes. A
/// word without tokens may have no predicted class ([`NO_CLASS`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    /// By gold and predicted class.
    cells: BTreeMap<(u32, u32), u64>,
    /// Rows of each class, `[classes]`.
    gold: Vec<u64>,
    /// Rows predicted as each class, `[classes]`.
    predicted: Vec<u64>,
}

/// How often one class or label is right, gold and predicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub right: u64,
    pub gold: u64,
    pub predicted: u64,
}

impl Tally {
    /// Division by zero gives 0, as in scikit-learn: a class that is never predicted has a precision of 0.
    pub fn hits(self) -> Hits {
        let Self { right, gold, predicted } = self;
        Hits {
            precision: share(right, predicted),
            recall: share(right, gold),
            f1: share(2 * right, gold + predicted),
        }
    }
}

/// How well one class is found, or the mean over several.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hits {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
}

impl Hits {
    pub fn json(&self) -> Value {
        json!({ "precision": self.precision, "recall": self.recall, "f1": self.f1 })
    }
}

impl Confusion {
    /// From logits `[rows, outputs]`; `None` if the labels are not classes.
    pub fn of_logits(logits: &[f32], outputs: usize, labels: &Labels) -> Option<Self> {
        let Labels::Classes(gold) = labels else {
            return None;
        };
        let predicted: Vec<u32> = logits.chunks_exact(outputs).map(argmax).collect();
        Some(Self::count(outputs, &predicted, gold))
    }

    /// From class ids below `classes`, in lists of equal lengths; a predicted one may be [`NO_CLASS`].
    pub fn count(classes: usize, predicted: &[u32], gold: &[u32]) -> Self {
        let pairs = gold.iter().zip(predicted).map(|(&gold, &predicted)| (gold, predicted, 1));
        Self::from_cells(classes, pairs)
    }

    fn from_cells(classes: usize, cells: impl Iterator<Item = (u32, u32, u64)>) -> Self {
        let mut confusion =
            Self { cells: BTreeMap::new(), gold: vec![0; classes], predicted: vec![0; classes] };
        for (gold, predicted, rows) in cells {
            *confusion.cells.entry((gold, predicted)).or_default() += rows;
            confusion.gold[gold as usize] += rows;
            if predicted != NO_CLASS {
                confusion.predicted[predicted as usize] += rows;
            }
        }
        confusion
    }

    /// The nonempty cells in the form of a log line: `[[gold, predicted, rows], …]` by class id, `null` for none.
    pub fn cells_json(&self) -> Value {
        let id = |class: u32| Some(class).filter(|&class| class != NO_CLASS);
        self.cells().map(|(gold, predicted, rows)| json!([gold, id(predicted), rows])).collect()
    }

    /// Parses what [`cells_json`](Self::cells_json) returned; `None` if it is not such a list.
    pub fn from_json(classes: usize, cells: &Value) -> Option<Self> {
        let class = |value: &Value| {
            let class = u32::try_from(value.as_u64()?).ok()?;
            ((class as usize) < classes).then_some(class)
        };
        let cell = |cell: &Value| {
            let [gold, predicted, rows] = cell.as_array()?.as_slice() else {
                return None;
            };
            let predicted = if predicted.is_null() { Some(NO_CLASS) } else { class(predicted) };
            Some((class(gold)?, predicted?, rows.as_u64()?))
        };
        let cells: Option<Vec<_>> = cells.as_array()?.iter().map(cell).collect();
        Some(Self::from_cells(classes, cells?.into_iter()))
    }

    /// Gold class, predicted class and rows of each nonempty cell.
    pub fn cells(&self) -> impl Iterator<Item = (u32, u32, u64)> {
        self.cells.iter().map(|(&(gold, predicted), &rows)| (gold, predicted, rows))
    }

    pub fn classes(&self) -> usize {
        self.gold.len()
    }

    pub fn rows(&self) -> u64 {
        self.gold.iter().sum()
    }

    /// Rows of each class.
    pub fn gold(&self) -> &[u64] {
        &self.gold
    }

    /// Rows predicted as each class.
    pub fn predicted(&self) -> &[u64] {
        &self.predicted
    }

    pub fn cell(&self, gold: usize, predicted: usize) -> u64 {
        self.cells.get(&(gold as u32, predicted as u32)).copied().unwrap_or(0)
    }

    pub fn right(&self) -> u64 {
        (0..self.classes()).map(|class| self.cell(class, class)).sum()
    }

    pub fn class(&self, class: usize) -> Hits {
        self.tally(class).hits()
    }

    fn tally(&self, class: usize) -> Tally {
        Tally {
            right: self.cell(class, class),
            gold: self.gold[class],
            predicted: self.predicted[class],
        }
    }

    /// For all classes.
    pub fn tallies(&self) -> Vec<Tally> {
        (0..self.classes()).map(|class| self.tally(class)).collect()
    }

    /// The unweighted mean over the classes that occur as gold or predicted.
    pub fn macro_average(&self) -> Hits {
        let there = |&class: &usize| self.gold[class] + self.predicted[class] > 0;
        let each: Vec<Hits> =
            (0..self.classes()).filter(there).map(|class| self.class(class)).collect();
        let mean = |of: fn(&Hits) -> f64| match each.len() {
            0 => 0.0,
            count => each.iter().map(of).sum::<f64>() / count as f64,
        };
        Hits { precision: mean(|f| f.precision), recall: mean(|f| f.recall), f1: mean(|f| f.f1) }
    }

    /// Over all rows. If each row has one class, all three equal the accuracy.
    pub fn micro_average(&self) -> Hits {
        let accuracy = share(self.right(), self.rows());
        Hits { precision: accuracy, recall: accuracy, f1: accuracy }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::metrics;

    #[test]
    fn a_log_line_gives_the_counts_back_and_nothing_else_does() {
        let confusion = Confusion::count(3, &[0, 0, 2, 1, 2], &[0, 1, 1, 1, 2]);
        let cells = confusion.cells_json();
        assert_eq!(cells, json!([[0, 0, 1], [1, 0, 1], [1, 1, 1], [1, 2, 1], [2, 2, 1]]));
        assert_eq!(Confusion::from_json(3, &cells), Some(confusion));
        let none = Confusion::count(2, &[0, NO_CLASS], &[0, 1]);
        assert_eq!(none.cells_json(), json!([[0, 0, 1], [1, null, 1]]));
        assert_eq!((none.rows(), none.predicted()), (2, [1, 0].as_slice()));
        assert_eq!(Confusion::from_json(2, &none.cells_json()), Some(none));
        for wrong in [json!([[0, 3, 1]]), json!([[0]]), json!([0]), json!({}), Value::Null] {
            assert_eq!(Confusion::from_json(3, &wrong), None, "{wrong}");
        }
    }

    #[test]
    fn logits_are_counted_by_the_largest_and_numbers_are_not_counted() {
        let logits = [2.0, 1.0, 0.0, 1.0, 5.0, 5.0];
        let confusion = Confusion::of_logits(&logits, 2, &Labels::Classes(vec![0, 1, 1])).unwrap();
        assert_eq!((confusion.cell(1, 0), confusion.right()), (1, 2), "a tie is the first class");
        assert_eq!(Confusion::of_logits(&[1.0], 1, &Labels::Values(vec![1.0])), None);
    }

    #[test]
    fn the_averages_are_those_of_the_metrics() {
        let (predicted, gold) = ([0, 0, 0, 2, 1, 2], [0, 0, 1, 1, 2, 2]);
        // Two of the five classes are neither gold nor predicted.
        let confusion = Confusion::count(5, &predicted, &gold);
        let macro_f1 = confusion.macro_average().f1;
        assert!((macro_f1 - metrics::macro_f1(&predicted, &gold)).abs() < 1e-15);
        assert_eq!(confusion.micro_average().f1, metrics::accuracy(&predicted, &gold));
        assert_eq!(Confusion::count(2, &[], &[]).macro_average().f1, 0.0);
    }
}
