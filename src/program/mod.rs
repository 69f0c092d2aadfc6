//! A step as data: a list of plain operations, and what happens to such a list before it runs.
//!
//! Model code writes a step once with a [`Builder`], forward and backward side by side. There is no autograd: every
//! gradient in a list was written by hand. Passes then delete and copy operations but never reorder them:
//!
//! | pass | does |
//! |---|---|
//! | [`List::freeze`] | removes the gradients of parameters that do not train |
//! | [`List::again`] | makes backward recompute what [`Saving`] does not keep |
//! | [`List::prune`] | drops what no output and no gradient needs |
//! | [`List::place`] | derives each tensor's lifetime and gives it a place in one arena: a [`Program`] |
//! | [`Program::verify`] | checks the result without asking the passes |
//!
//! A backend runs the program ([`crate::backend::Backend::run`]). Nothing here depends on a device, a model family or a
//! batch.

mod again;
mod build;
mod first_fit;
mod low_rank;
mod op;
mod operand;
mod place;
mod prune;
mod sparse;
mod terms;
#[cfg(test)]
mod toy;
mod verify;

pub use again::Saving;
pub use build::{Activated, Branches, Builder, Dx, LinearLayer, NormLayer, Normed};
pub use low_rank::{LowRank, LowRankPass};
pub use op::*;
pub use operand::*;
pub use place::{ALIGN, Placed, Program};
pub use sparse::{AddedRows, Entries, Sparse};
pub use terms::*;

use std::ops::Range;

/// The operations of a step in execution order.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub struct List {
    pub ops: Vec<Op>,
    /// The block that each operation belongs to.
    pub blocks: Vec<Option<u16>>,
    /// What is known of each [`Value`].
    pub values: Vec<Info>,
    pub parts: Parts,
    /// Read from outside after the list has run; alive until the end.
    pub outputs: Vec<Value>,
}

/// Where the parts of a list begin. Operations before `forward` begin an optimizer step, those from `end` on end it; a
/// list that does not train has only forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Parts {
    pub forward: usize,
    pub backward: usize,
    pub end: usize,
}

/// Which part of an optimizer step a run is: one of its micro-batches, or what begins or ends the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// Includes the beginning of the step.
    first: bool,
    /// Includes forward and backward of a batch.
    batch: bool,
    /// Includes the end of the step.
    last: bool,
}

impl Span {
    /// A step with a single batch.
    pub const WHOLE: Self = Self::micro_batch(true, true);
    /// The beginning of a step without a batch.
    pub const BEGIN: Self = Self { first: true, batch: false, last: false };
    /// The end of a step whose last batch has run.
    pub const END: Self = Self { first: false, batch: false, last: true };

    /// A batch of a step: its first, its last, both or neither.
    pub const fn micro_batch(first: bool, last: bool) -> Self {
        Self { first, batch: true, last }
    }

    /// Whether a batch is needed.
    pub fn has_batch(self) -> bool {
        self.batch
    }
}

/// The numbers that change from step to step and are therefore not part of any operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Numbers {
    /// Multiplies each sequence's loss: one over the sequences of the optimizer step, whose loss is a mean.
    pub weight: f32,
    /// Settings of [`Update`]; needed if the span is the last.
    pub update: Option<AdamW>,
}

impl Numbers {
    /// For a list without a loss.
    pub const NONE: Self = Self { weight: 0.0, update: None };
}

impl List {
    /// # Panics
    /// When the value is of another list.
    pub fn info(&self, value: Value) -> &Info {
        &self.values[value.index()]
    }

    /// An operation and its block, for errors: `LinearBack of block 3`.
    pub fn name_of(&self, at: usize) -> String {
        let name = self.ops[at].name();
        self.blocks[at].map_or(name.to_owned(), |block| format!("{name} of block {block}"))
    }

    /// Whether it has a backward.
    pub fn trains(&self) -> bool {
        self.parts.backward < self.ops.len()
    }

    /// The operations of a span: one contiguous range, since what begins a step comes first and what ends it last.
    pub fn range(&self, span: Span) -> Range<usize> {
        let first = match span {
            Span { first: true, .. } => 0,
            Span { batch: true, .. } => self.parts.forward,
            _ => self.parts.end,
        };
        let last = match span {
            Span { last: true, .. } => self.ops.len(),
            Span { batch: true, .. } => self.parts.end,
            _ => self.parts.forward,
        };
        first..last
    }

    /// The rows of the task head: tokens if one of its layers is on tokens.
    pub fn head_rows(&self) -> Rows {
        let of_tokens = |op: &Op| match op {
            Op::Dense(op) => self.info(op.x.0).rows == Rows::Tokens,
            _ => false,
        };
        if self.ops.iter().any(of_tokens) { Rows::Tokens } else { Rows::Sequences }
    }

    /// Rows and largest width of the tensors of labelled tokens, if any.
    pub fn labelled(&self, limits: Limits) -> Option<[usize; 2]> {
        let labelled = self.values.iter().filter(|value| matches!(value.rows, Rows::Labelled(_)));
        labelled
            .map(|value| [limits.rows(value.rows), value.width])
            .reduce(|a, b| [a[0].max(b[0]), a[1].max(b[1])])
    }

    /// The largest width of a tensor on tokens or sequences, and of an attention head.
    pub fn widest(&self) -> (usize, usize) {
        let others = self.values.iter().filter(|value| !matches!(value.rows, Rows::Labelled(_)));
        let widths = others.map(|value| value.width);
        let head_dims = self.ops.iter().map(|op| match op {
            Op::Attention(op) => self.info(op.out.0).width / op.heads.max(1),
            Op::AttentionBack(op) => self.info(op.out.0).width / op.heads.max(1),
            Op::FirstAttention(op) => self.info(op.out.0).width / op.heads.max(1),
            Op::FirstAttentionBack(op) => self.info(op.query.0).width / op.heads.max(1),
            _ => 0,
        });
        (widths.max().unwrap_or(0), head_dims.max().unwrap_or(0))
    }
}
