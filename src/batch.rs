//! A packed batch: all that the data side and the backends share.

/// What the model is to predict for each sequence of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Labels {
    /// Unlabelled: prediction.
    None,
    /// Class ids, `[sequences]`.
    Classes(Vec<u32>),
    /// Regression targets, `[sequences]`.
    Values(Vec<f32>),
}

/// Sequences laid end to end, without padding. Sequence `s` owns tokens `cu_seqlens[s]..cu_seqlens[s + 1]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Token ids, `[tokens]`.
    pub ids: Vec<u32>,
    /// Segment of each token (0, or 1 in the second text of a pair), `[tokens]`.
    pub type_ids: Vec<u32>,
    /// Row of the position table for each token, `[tokens]`.
    pub positions: Vec<u32>,
    /// Cumulative lengths, `[sequences + 1]`, from 0 to `tokens`.
    pub cu_seqlens: Vec<u32>,
    pub labels: Labels,
}

impl Batch {
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    pub fn sequences(&self) -> usize {
        self.cu_seqlens.len() - 1
    }

    /// Tokens in the longest sequence.
    pub fn max_len(&self) -> usize {
        self.cu_seqlens
            .windows(2)
            .map(|w| (w[1] - w[0]) as usize)
            .max()
            .unwrap_or(0)
    }
}
