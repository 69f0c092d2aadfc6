//! The one type that the data side passes to the model: packed sequences without padding.
//!
//! It lives outside both so that neither depends on the other.

use std::ops::Range;

use crate::words::count;

/// Targets of a batch or a dataset.
#[derive(Clone, Debug, PartialEq)]
pub enum Labels {
    /// Prediction: nothing is known.
    None,
    /// Class ids in `0..number of classes`, `[sequences]`.
    Classes(Vec<u32>),
    /// Class ids of tokens, or [`Labels::IGNORED`], `[tokens]`.
    Tokens(Vec<u32>),
    /// Finite numbers, `[sequences, outputs]`: in the data's unit, or 1 for each label that a text has and 0 for the
    /// others.
    Values(Vec<f32>),
    /// The first and the last token of a span, counted in its sequence, `[sequences]`.
    Spans(Vec<[u32; 2]>),
}

impl Labels {
    /// The label of a token that does not count in losses and measures.
    pub const IGNORED: u32 = u32::MAX;

    /// True if there are no targets at all.
    pub fn is_empty(&self) -> bool {
        match self {
            Labels::None => true,
            Labels::Classes(ids) | Labels::Tokens(ids) => ids.is_empty(),
            Labels::Values(values) => values.is_empty(),
            Labels::Spans(spans) => spans.is_empty(),
        }
    }

    /// The targets of some of the sequences, in the order of `rows`. `tokens` says where the tokens of each sequence
    /// are, and `sequences` how many there are.
    ///
    /// # Panics
    /// If a row is out of range.
    pub fn select(
        &self,
        rows: &[usize],
        sequences: usize,
        tokens: impl Fn(usize) -> Range<usize>,
    ) -> Labels {
        match self {
            Labels::None => Labels::None,
            Labels::Classes(ids) => Labels::Classes(rows.iter().map(|&r| ids[r]).collect()),
            Labels::Tokens(ids) => {
                let of = |&row: &usize| ids[tokens(row)].iter().copied();
                Labels::Tokens(rows.iter().flat_map(of).collect())
            }
            Labels::Values(values) => {
                let outputs = values.len() / sequences.max(1);
                let of = |&row: &usize| values[row * outputs..][..outputs].iter().copied();
                Labels::Values(rows.iter().flat_map(of).collect())
            }
            Labels::Spans(spans) => Labels::Spans(rows.iter().map(|&r| spans[r]).collect()),
        }
    }

    /// Whether their number fits this many sequences with this many tokens.
    pub fn fit(&self, sequences: usize, tokens: usize) -> bool {
        match self {
            Labels::None => true,
            Labels::Classes(ids) => ids.len() == sequences,
            Labels::Tokens(ids) => ids.len() == tokens,
            Labels::Values(values) => {
                values.len() >= sequences && values.len().is_multiple_of(sequences.max(1))
            }
            Labels::Spans(spans) => spans.len() == sequences,
        }
    }

    /// The tokens that have a label; none if labels are not per token.
    pub fn labelled(&self) -> impl Iterator<Item = usize> + Clone {
        let of_tokens: &[u32] = match self {
            Labels::Tokens(ids) => ids,
            _ => &[],
        };
        let with = of_tokens.iter().enumerate().filter(|&(_, &id)| id != Self::IGNORED);
        with.map(|(token, _)| token)
    }

    /// How many there are, for messages: `3 class labels`.
    pub fn count(&self) -> String {
        match self {
            Labels::None => "no labels".to_owned(),
            Labels::Classes(ids) => count(ids.len(), "class label"),
            Labels::Tokens(ids) => count(ids.len(), "token label"),
            Labels::Values(values) => count(values.len(), "number"),
            Labels::Spans(spans) => count(spans.len(), "span"),
        }
    }

    /// The divisor of a mean loss over these targets: how many count, weighted by class if classes have weights. An
    /// empty `class_weights` means ones.
    pub fn weight(&self, class_weights: &[f32]) -> f64 {
        let of = |id: &u32| match class_weights.get(*id as usize) {
            Some(&weight) => f64::from(weight),
            None => 1.0,
        };
        match self {
            Labels::None => 0.0,
            Labels::Classes(ids) => ids.iter().map(of).sum(),
            Labels::Tokens(ids) => ids.iter().filter(|&&id| id != Self::IGNORED).map(of).sum(),
            Labels::Values(values) => values.len() as f64,
            Labels::Spans(spans) => 2.0 * spans.len() as f64,
        }
    }
}

/// B sequences packed one after another into T tokens; sequence `b` is tokens `cu_seqlens[b]..cu_seqlens[b + 1]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Vocabulary ids, including special tokens, `[T]`.
    pub ids: Vec<u32>,
    /// Token types (0 or 1), `[T]`.
    pub type_ids: Vec<u32>,
    /// Rows of the position table, `[T]`; they restart with each sequence.
    pub positions: Vec<u32>,
    /// Cumulative sequence lengths, `[B + 1]`: first 0, last T, strictly increasing.
    pub cu_seqlens: Vec<u32>,
    /// Targets of the sequences or of their tokens.
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
        let starts = [0, 2, 7, 9];
        let select = |labels: Labels| labels.select(&[2, 0], 3, |row| starts[row]..starts[row + 1]);
        assert_eq!(select(Labels::Values(vec![0.5, 1.5, 2.5])), Labels::Values(vec![2.5, 0.5]));
        let two_each = Labels::Values(vec![0.0, 0.1, 1.0, 1.1, 2.0, 2.1]);
        assert_eq!(select(two_each), Labels::Values(vec![2.0, 2.1, 0.0, 0.1]));
        let tokens = Labels::Tokens((0..9).collect());
        assert_eq!(select(tokens), Labels::Tokens(vec![7, 8, 0, 1]));
        let spans = Labels::Spans(vec![[0, 1], [2, 4], [1, 1]]);
        assert_eq!(select(spans), Labels::Spans(vec![[1, 1], [0, 1]]));
        assert_eq!(select(Labels::None), Labels::None);
    }

    #[test]
    fn only_targets_that_count_have_a_weight() {
        let ignored = Labels::IGNORED;
        assert_eq!(Labels::Tokens(vec![0, ignored, 1, 1]).weight(&[]), 3.0);
        assert_eq!(Labels::Tokens(vec![0, ignored, 1, 1]).weight(&[0.5, 2.0]), 4.5);
        assert_eq!(Labels::Classes(vec![1, 0]).weight(&[0.5, 2.0]), 2.5);
        assert_eq!(Labels::Spans(vec![[0, 1]]).weight(&[]), 2.0);
        assert_eq!(Labels::Values(vec![0.0; 6]).weight(&[]), 6.0);
    }
}
