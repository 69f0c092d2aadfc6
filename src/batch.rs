//! The one type that the data side hands to the model: packed sequences without padding.
//!
//! It lives outside both so that neither depends on the other.

/// Targets of a batch or a dataset, one for each sequence.
#[derive(Clone, Debug, PartialEq)]
pub enum Labels {
    /// Prediction: nothing is known.
    None,
    /// Classification: class ids in `0..number of classes`, `[sequences]`.
    Classes(Vec<u32>),
    /// Regression: finite targets in the unit of the data, `[sequences]`.
    Values(Vec<f32>),
}

impl Labels {
    /// Number of targets, or `None` where there are none.
    pub fn len(&self) -> Option<usize> {
        match self {
            Labels::None => None,
            Labels::Classes(ids) => Some(ids.len()),
            Labels::Values(values) => Some(values.len()),
        }
    }

    /// True where there are no targets at all.
    pub fn is_empty(&self) -> bool {
        self.len().unwrap_or(0) == 0
    }

    /// The targets of the given rows, in the order of `rows`.
    ///
    /// # Panics
    /// When a row is out of range.
    pub fn select(&self, rows: &[usize]) -> Labels {
        match self {
            Labels::None => Labels::None,
            Labels::Classes(ids) => Labels::Classes(rows.iter().map(|&r| ids[r]).collect()),
            Labels::Values(values) => Labels::Values(rows.iter().map(|&r| values[r]).collect()),
        }
    }
}

/// B sequences packed one after another into T tokens; sequence `b` is tokens `cu_seqlens[b]..cu_seqlens[b + 1]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Vocabulary ids, special tokens included, `[T]`.
    pub ids: Vec<u32>,
    /// Token types (0 or 1), `[T]`.
    pub type_ids: Vec<u32>,
    /// Rows of the position table, `[T]`; each sequence starts afresh.
    pub positions: Vec<u32>,
    /// Cumulative sequence lengths, `[B + 1]`: first 0, last T, strictly increasing.
    pub cu_seqlens: Vec<u32>,
    /// Targets, `[B]`.
    pub labels: Labels,
}

impl Batch {
    /// T, the number of tokens.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// B, the number of sequences.
    pub fn sequences(&self) -> usize {
        self.cu_seqlens.len().saturating_sub(1)
    }

    /// Length of the longest sequence in tokens; 0 for an empty batch.
    pub fn max_len(&self) -> usize {
        self.cu_seqlens.windows(2).map(|w| (w[1] - w[0]) as usize).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three_sequences() -> Batch {
        Batch {
            ids: vec![5; 9],
            type_ids: vec![0; 9],
            positions: vec![0, 1, 0, 1, 2, 3, 4, 0, 1],
            cu_seqlens: vec![0, 2, 7, 9],
            labels: Labels::Classes(vec![1, 0, 1]),
        }
    }

    #[test]
    fn sizes_follow_from_cu_seqlens() {
        let batch = three_sequences();
        assert_eq!((batch.tokens(), batch.sequences(), batch.max_len()), (9, 3, 5));
    }

    #[test]
    fn an_empty_batch_has_no_sequences() {
        let batch = Batch {
            ids: vec![],
            type_ids: vec![],
            positions: vec![],
            cu_seqlens: vec![0],
            labels: Labels::None,
        };
        assert_eq!((batch.tokens(), batch.sequences(), batch.max_len()), (0, 0, 0));
        assert!(batch.labels.is_empty());
    }

    #[test]
    fn selected_labels_keep_the_order_asked_for() {
        assert_eq!(
            Labels::Values(vec![0.5, 1.5, 2.5]).select(&[2, 0]),
            Labels::Values(vec![2.5, 0.5])
        );
        assert_eq!(Labels::None.select(&[4]), Labels::None);
        assert_eq!(three_sequences().labels.len(), Some(3));
    }
}
