//! A step as data: a list of plain operations, and what is done with such a list before it runs.
//!
//! Model code writes a step down once with a [`Builder`], forward and backward side by side. There is no autograd:
//! every gradient in a list was written by hand. Passes then delete and copy operations, and never reorder them:
//!
//! | pass | does |
//! |---|---|
//! | [`List::freeze`] | takes out the gradients of parameters that do not train |
//! | [`List::again`] | has backward make again what [`Saving`] does not keep |
//! | [`List::prune`] | drops what no output and no gradient needs |
//! | [`List::place`] | derives each tensor's lifetime and gives it a place in one arena: a [`Program`] |
//! | [`Program::verify`] | checks the result without asking the passes |
//!
//! A backend runs the program ([`crate::backend::Backend::run`]). Nothing here knows a device, a model family or a
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

/// The operations of a step in the order in which they run.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub struct List {
    pub ops: Vec<Op>,
    /// The block that each operation belongs to.
    pub blocks: Vec<Option<u16>>,
    /// What is known of each [`Value`].
    pub values: Vec<Info>,
    pub parts: Parts,
    /// Read from outside after the list has run; alive to its end.
    pub outputs: Vec<Value>,
}

/// Where the parts of a list begin. What stands before `forward` begins an optimizer step, what stands from `end` on
/// ends it; a list that does not train has forward alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Parts {
    pub forward: usize,
    pub backward: usize,
    pub end: usize,
}

/// Which part of an optimizer step a run is: one of its micro-batches, or what begins or ends the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// Begins the step.
    first: bool,
    /// Goes forward and backward through a batch.
    batch: bool,
    /// Ends the step.
    last: bool,
}

impl Span {
    /// The only batch of its step.
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

/// The numbers that change from step to step, which therefore stand in no operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Numbers {
    /// Multiplies each sequence's loss: one over the sequences of the optimizer step, whose loss is a mean.
    pub weight: f32,
    /// What [`Update`] does; needed where the span is the last.
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

    /// Whether backward is part of it.
    pub fn trains(&self) -> bool {
        self.parts.backward < self.ops.len()
    }

    /// The operations of a span: one stretch, as what begins a step comes first and what ends it last.
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

    /// The rows of the task head: tokens where one of its layers is on tokens.
    pub fn head_rows(&self) -> Rows {
        let of_tokens = |op: &Op| match op {
            Op::Dense(op) => self.info(op.x.0).rows == Rows::Tokens,
            _ => false,
        };
        if self.ops.iter().any(of_tokens) { Rows::Tokens } else { Rows::Sequences }
    }

    /// Rows and most columns of the tensors of labelled tokens, where there are any.
    pub fn labelled(&self, limits: Limits) -> Option<[usize; 2]> {
        let labelled = self.values.iter().filter(|value| matches!(value.rows, Rows::Labelled(_)));
        labelled
            .map(|value| [limits.rows(value.rows), value.width])
            .reduce(|a, b| [a[0].max(b[0]), a[1].max(b[1])])
    }

    /// The most columns of a tensor on tokens or sequences, and the most columns of an attention head.
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
