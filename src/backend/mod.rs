//! Runs programs: a device with memory that was planned ahead.
//!
//! A [`Backend`] owns all device memory. It is given a [`Program`] and runs its operations ([`crate::program::Op`]) one
//! after another. There are three kinds of memory:
//!
//! * the **arena**: activations and their gradients, as [`Region`]s that the program assigned before the run. Tokens
//!   are packed: sequence `s` owns rows `cu_seqlens[s]..cu_seqlens[s + 1]` and no row is padding;
//! * the **parameter vector**: one flat f32 vector, addressed by [`ParamRange`]s. Its first [`Memory::trainable`]
//!   elements train and also have a gradient, a first and a second moment; some after them may have only a gradient
//!   ([`Memory::with_gradient`]); the rest (frozen biases, LayerNorm gains) are read-only;
//! * **frozen matrices**: uploaded once in 32, 16, 8 or 4 bits, addressed by [`WeightId`]s. In full fine-tuning they lie
//!   in the parameter vector instead.

mod check;
mod cores;
pub mod cpu;
pub mod cuda;
mod footprint;
mod ids;
mod int8;
mod labels;
mod nf4;
mod planned;
mod resident;
pub mod timing;

pub use cores::{CoreShare, Cores, Seat};
pub use footprint::{DeviceKind, Footprint};
use labels::LabelNeed;
pub use resident::Resident;

use crate::batch::Batch;
use crate::program::{Limits, Numbers, ParamRange, Program, Region, Rows, Span, Storage, WeightId};
use anyhow::Result;
use std::ops::Range;
use timing::Piece;

/// How a matrix is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatrixKind {
    /// Its rows are looked up.
    Table,
    /// It is used in products, in both directions.
    Linear,
}

/// A row-major `[rows, cols]` matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixShape {
    pub kind: MatrixKind,
    pub rows: usize,
    pub cols: usize,
    /// It lies in the parameter vector, with a gradient and moments.
    pub trains: bool,
}

impl Batch {
    /// The smallest limits that hold it.
    pub fn limits(&self) -> Limits {
        Limits { tokens: self.tokens(), sequences: self.sequences(), max_len: self.max_len() }
    }

    /// Rows of a tensor.
    pub fn rows(&self, rows: Rows) -> usize {
        match rows {
            Rows::Tokens => self.tokens(),
            Rows::Sequences => self.sequences(),
            Rows::Labelled(_) => self.labels.labelled().count(),
        }
    }
}

/// Storage type of the frozen matrices; arithmetic is f32 for each. A GPU keeps 32-bit ones in 16, and rounds the
/// values of 8 and 4 bits to 16 when it multiplies by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightType {
    F32,
    F16,
    /// Symmetric, with one scale per row.
    Int8,
    /// NF4 in blocks of 64 with double-quantised scales (QLoRA, arXiv 2305.14314, §3); tables as [`Self::Int8`].
    Nf4,
}

/// All device memory of a run, known before its first step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Bytes of the arena.
    pub arena: usize,
    /// Elements of the parameter vector.
    pub params: usize,
    /// Leading elements of the parameter vector that train: each has a gradient and two moments.
    pub trainable: usize,
    /// Leading elements that have a gradient: at least as many.
    pub with_gradient: usize,
    /// The largest batch that will be set.
    pub limits: Limits,
    /// 32-bit words of its labels.
    pub labels: usize,
    /// Rows of the task head's largest layer.
    pub head_rows: usize,
    /// Columns of the widest tensor on tokens or sequences: sizes the partial column sums.
    pub widest: usize,
    /// Rows of the tensors of labelled tokens, and the columns of the widest.
    pub labelled: [usize; 2],
    /// Columns of an attention head.
    pub head_dim: usize,
    /// Numbers exchanged with other ranks per step.
    pub exchanged: usize,
}

impl Memory {
    /// What programs that share one arena need, with the sizes of the parameter vector and its trained part.
    pub fn of(programs: &[&Program], (params, trainable): (usize, usize)) -> Self {
        let none = Self { params, trainable, with_gradient: trainable, ..Self::default() };
        programs.iter().fold(none, |memory, program| {
            let list = program.list();
            let (widest, head_dim) = list.widest();
            let limits = memory.limits.join(program.limits());
            let needed = LabelNeed::of(list, &list.ops).map_or(0, |need| need.words(limits));
            Self {
                arena: memory.arena.max(program.bytes()),
                // A label per sequence is little, and batches have one even if no list reads it. Labels of tokens also
                // say which tokens go on.
                labels: memory
                    .labels
                    .max(needed)
                    .max(limits.sequences)
                    .max(list.labelled(limits).map_or(0, |_| limits.tokens)),
                head_rows: memory.head_rows.max(limits.rows(list.head_rows())),
                limits,
                widest: memory.widest.max(widest),
                labelled: list.labelled(limits).map_or(memory.labelled, |[rows, width]| {
                    [memory.labelled[0].max(rows), memory.labelled[1].max(width)]
                }),
                head_dim: memory.head_dim.max(head_dim),
                ..memory
            }
        })
    }
}

/// What makes one batch's dropout masks differ from another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DropoutKey {
    pub seed: u64,
    /// Counts the batches of the run.
    pub step: u64,
    /// Where this part of the batch begins: the parts together have the masks of the whole.
    pub first: FirstRow,
}

/// How much of a batch precedes a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FirstRow {
    pub tokens: u32,
    pub sequences: u32,
}

impl DropoutKey {
    /// For a batch that is not split.
    pub const fn new(seed: u64, step: u64) -> Self {
        Self { seed, step, first: FirstRow { tokens: 0, sequences: 0 } }
    }

    /// The row of the whole batch that is this part's first.
    pub fn first_row(self, rows: Rows) -> u32 {
        match rows {
            Rows::Tokens => self.first.tokens,
            Rows::Sequences => self.first.sequences,
            // These have no dropout.
            Rows::Labelled(_) => 0,
        }
    }
}

/// The host's report on an optimizer step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Sum of what the [`Loss`](crate::program::Loss) operations since the last [`Zero`](crate::program::Zero) added.
    pub loss: f32,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f32,
    /// The gradient left the range of a 16-bit type: the step changed nothing, but training continues with a lower loss
    /// scale in the next step. Never set with f32 arithmetic.
    pub overflow: bool,
}

impl StepReport {
    /// Whether the update was applied.
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.grad_norm.is_finite()
    }

    /// Whether training cannot go on. A lower loss scale may make a gradient finite, but never a loss: the forward pass
    /// does not use it, and the parameters stay, so the same texts would give the same loss.
    pub fn is_hopeless(&self) -> bool {
        !self.loss.is_finite() || (!self.grad_norm.is_finite() && !self.overflow)
    }
}

/// A [`StepReport`] that was requested and may not be ready yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PendingReport {
    Ready(StepReport),
    /// The device is still at work; the number is internal to the backend.
    Slot(usize),
}

/// Dynamic loss scaling between two steps: together with the parameters and moments, the state of an f16 run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossScaling {
    /// Factor on gradients held in 16 bits.
    pub scale: f32,
    /// Steps since it last changed.
    pub good_steps: u32,
}

/// The vectors with an element per trainable parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The parameters themselves (trainable and frozen).
    Value,
    Gradient,
    /// Adam's first moment.
    Moment1,
    /// Adam's second moment.
    Moment2,
}

/// A device that runs programs. See the module documentation for the memory model.
pub trait Backend {
    /// What its memory use depends on.
    fn kind(&self) -> DeviceKind;

    /// For people: `CPU`, or the GPU's name, capability and precision.
    fn describe(&self) -> String;

    /// Copies a frozen matrix to the device in the backend's weight type.
    ///
    /// # Errors
    /// If the device has no room, or a value does not fit the weight type.
    fn upload(&mut self, name: &str, shape: MatrixShape, data: &[f32]) -> Result<WeightId>;

    /// A frozen matrix that another backend has already uploaded: see [`Resident`].
    fn resident(&mut self, _name: &str, _shape: MatrixShape) -> Option<WeightId> {
        None
    }

    /// Consecutive rows of a matrix as a separate one, without a copy: outputs of a linear layer.
    ///
    /// # Errors
    /// If there is no such matrix, it has fewer rows, or it trains.
    fn view_rows(&mut self, of: WeightId, rows: Range<usize>) -> Result<WeightId>;

    /// Makes a matrix from `range`, which must train and hold as many values. The backend may keep a working copy in
    /// its compute type and keeps it up to date.
    ///
    /// # Errors
    /// If the range holds another number of values, or the device has no room.
    fn trained_matrix(
        &mut self,
        name: &str,
        shape: MatrixShape,
        range: ParamRange,
    ) -> Result<WeightId>;

    /// What the device holds now, counted from its allocations.
    fn allocated(&self) -> Footprint;

    /// Allocates everything except the matrices; nothing is allocated after it. Parameters and moments are zero.
    ///
    /// # Errors
    /// If the device has no room.
    fn allocate(&mut self, memory: Memory) -> Result<()>;

    /// Makes `batch` the current one. [`Backend::run`] checks its ids against the embedding tables.
    ///
    /// # Errors
    /// If the batch is not well formed or exceeds the limits of the allocation.
    fn set_batch(&mut self, batch: &Batch, key: DropoutKey) -> Result<()>;

    /// Runs the operations of a span of `program` on the current batch. A device may record them once per bucket of
    /// batches and replay the recording: only the batch and `numbers` change from step to step.
    ///
    /// # Errors
    /// If the batch exceeds the program's limits, an operation's shapes do not fit, or the device fails; the message
    /// names the operation and its block.
    fn run(&mut self, program: &Program, span: Span, numbers: Numbers) -> Result<()>;

    /// The names of the tiles from which this device chooses one for each product.
    fn tiles(&self) -> &'static [&'static str] {
        &[]
    }

    /// Like [`Backend::run`] but timing each piece separately: nothing is recorded, and the times are returned in
    /// execution order. Given one of [`Backend::tiles`], it is used for all products that support it.
    ///
    /// # Errors
    /// As [`Backend::run`].
    fn run_timed(
        &mut self,
        program: &Program,
        span: Span,
        numbers: Numbers,
        tile: Option<&str>,
    ) -> Result<Vec<Piece>>;

    fn read_params(&self, slot: Slot, range: ParamRange) -> Result<Vec<f32>>;
    fn write_params(&mut self, slot: Slot, range: ParamRange, values: &[f32]) -> Result<()>;
    /// The first `len` elements of a region, as f32; for codes, the words that hold them.
    fn read(&self, region: Region, stored: Storage, len: usize) -> Result<Vec<f32>>;
    /// Writes the first elements of a region (tests and tools).
    fn write(&mut self, region: Region, stored: Storage, values: &[f32]) -> Result<()>;

    /// Loss and gradient norm of the step that an [`Update`](crate::program::Update) ended (only the loss if none did).
    fn step_report(&mut self) -> Result<StepReport> {
        let pending = self.report_later()?;
        self.wait_report(pending)
    }

    /// Requests what [`Backend::step_report`] returns, without waiting. At most two may be pending.
    fn report_later(&mut self) -> Result<PendingReport>;

    /// Waits for a requested report.
    fn wait_report(&mut self, pending: PendingReport) -> Result<StepReport> {
        match pending {
            PendingReport::Ready(report) => Ok(report),
            PendingReport::Slot(slot) => anyhow::bail!("this device has no report {slot}"),
        }
    }

    /// Hands the step's gradient so far and its loss to `sum`, as one vector `[trainable + 2]` that ends with the loss
    /// and `beside`, a number of the caller's. What `sum` leaves there replaces them; returns what it leaves of
    /// `beside`. Call it after all batches of the step have run and before the step's end.
    ///
    /// # Errors
    /// If no memory was allocated for it, `sum` fails, or the device does.
    fn exchange(
        &mut self,
        beside: f32,
        sum: &mut dyn FnMut(&mut [f32]) -> Result<()>,
    ) -> Result<f32>;

    /// The state of dynamic loss scaling, if the device has it.
    fn loss_scaling(&self) -> Result<Option<LossScaling>> {
        Ok(None)
    }

    /// Continues from a state that [`Backend::loss_scaling`] returned. A device without loss scaling ignores it.
    fn set_loss_scaling(&mut self, _scaling: LossScaling) -> Result<()> {
        Ok(())
    }
}
