//! The labels of a batch as both backends hold them, as 32-bit words, and a loss's requirements on them.

use super::Memory;
use crate::batch::{Batch, Labels};
use crate::program::{Limits, List, LossKind, Op, Rows};
use anyhow::{Result, bail, ensure};

/// The kind of the current batch's labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LabelKind {
    #[default]
    None,
    /// Class ids of sequences, up to this one.
    Classes { largest: u32 },
    /// Class ids of tokens; those that count are up to this one.
    Tokens { largest: u32 },
    /// Numbers, this many per sequence.
    Values { outputs: usize },
    /// Start and end of a span, per sequence.
    Spans,
}

impl LabelKind {
    /// For a batch that [`check`](super::check::batch) has found well formed.
    pub fn of(batch: &Batch) -> Self {
        match &batch.labels {
            Labels::None => Self::None,
            Labels::Classes(ids) => {
                Self::Classes { largest: ids.iter().copied().max().unwrap_or(0) }
            }
            Labels::Tokens(ids) => {
                let counted = ids.iter().copied().filter(|&id| id != Labels::IGNORED);
                Self::Tokens { largest: counted.max().unwrap_or(0) }
            }
            Labels::Values(values) => {
                Self::Values { outputs: values.len() / batch.sequences().max(1) }
            }
            Labels::Spans(_) => Self::Spans,
        }
    }
}

/// The words of labels, as copied to a device.
pub fn words(labels: &Labels) -> &[u32] {
    match labels {
        Labels::None => &[],
        Labels::Classes(ids) | Labels::Tokens(ids) => ids,
        Labels::Values(values) => bytemuck::cast_slice(values),
        Labels::Spans(spans) => spans.as_flattened(),
    }
}

/// The labelled tokens of a batch, in order, if memory was planned for them.
pub fn labelled<'a>(batch: &'a Batch, memory: &Memory) -> impl Iterator<Item = u32> + 'a {
    let wanted = if memory.labelled[0] > 0 { usize::MAX } else { 0 };
    batch.labels.labelled().take(wanted).map(|token| token as u32)
}

/// What the loss of a list requires of the labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelNeed {
    kind: LossKind,
    rows: Rows,
    outputs: usize,
}

impl LabelNeed {
    /// Taken from the first loss among a list's operations; a list has one.
    pub fn of(list: &List, ops: &[Op]) -> Option<Self> {
        ops.iter().find_map(|op| match op {
            Op::Loss(op) => {
                let logits = list.info(op.logits.0);
                Some(Self { kind: op.kind, rows: logits.rows, outputs: logits.width })
            }
            _ => None,
        })
    }

    /// Words for batches of up to `limits`.
    pub fn words(self, limits: Limits) -> usize {
        match self.kind {
            LossKind::CrossEntropy => match self.rows {
                // Each token says whether it has a label.
                Rows::Tokens | Rows::Labelled(_) => limits.tokens,
                Rows::Sequences => limits.sequences,
            },
            LossKind::MeanSquared | LossKind::Binary => {
                limits.sequences.saturating_mul(self.outputs)
            }
            LossKind::Span => 2 * limits.sequences,
        }
    }

    /// # Errors
    /// If the labels are of another kind, or a class has no output.
    pub fn check(self, labels: LabelKind) -> Result<()> {
        let Self { kind, rows, outputs } = self;
        match (kind, rows, labels) {
            (LossKind::CrossEntropy, Rows::Sequences, LabelKind::Classes { largest })
            | (
                LossKind::CrossEntropy,
                Rows::Tokens | Rows::Labelled(_),
                LabelKind::Tokens { largest },
            ) => ensure!(
                (largest as usize) < outputs,
                "label {largest}: the head has {outputs} outputs"
            ),
            (
                LossKind::MeanSquared | LossKind::Binary,
                Rows::Sequences,
                LabelKind::Values { outputs: numbers },
            ) => ensure!(
                numbers == outputs,
                "{numbers} numbers per sequence for labels: the head has {outputs} outputs"
            ),
            (LossKind::Span, Rows::Tokens, LabelKind::Spans) => {}
            (LossKind::CrossEntropy, Rows::Sequences, _) => {
                bail!("cross-entropy needs class labels")
            }
            (LossKind::CrossEntropy, Rows::Tokens | Rows::Labelled(_), _) => {
                bail!("cross-entropy of tokens needs a class label per token")
            }
            (LossKind::MeanSquared, ..) => bail!("the squared error needs numbers for labels"),
            (LossKind::Binary, ..) => bail!("binary cross-entropy needs numbers for labels"),
            (LossKind::Span, ..) => bail!("the loss of spans needs spans for labels"),
        }
        Ok(())
    }
}
