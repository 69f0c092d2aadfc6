//! What runs programs: a device with memory that was planned ahead.
//!
//! A [`Backend`] owns all device memory and is handed a [`Program`], whose operations ([`crate::program::Op`]) it runs one
//! after another. Three kinds of memory exist:
//!
//! * the **arena**: activations and their gradients, as [`Region`]s that the program assigned before the run. Tokens
//!   are packed: sequence `s` owns rows `cu_seqlens[s]..cu_seqlens[s + 1]` and no row is padding;
//! * the **parameter vector**: one flat f32 vector, addressed by [`ParamRange`]s. Its first [`Memory::trainable`]
//!   elements train and have a gradient, a first and a second moment beside them; some behind them may have a gradient alone
//!   ([`Memory::with_gradient`]); the rest (frozen biases, LayerNorm gains) are read only;
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

/// What a matrix is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatrixKind {
    /// Its rows are looked up.
    Table,
    /// It is multiplied with, in both directions.
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
    /// The least limits that hold it.
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

/// Storage type of the frozen matrices; arithmetic is f32 with each. A GPU keeps those of 32 bits in 16, and rounds what
/// 8 and 4 bits stand for to 16 when it multiplies with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightType {
    F32,
    F16,
    /// Symmetric, with a scale for each row.
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
    /// Leading elements that have a gradient: no fewer.
    pub with_gradient: usize,
    /// The largest batch that will be set.
    pub limits: Limits,
    /// 32-bit words of its labels.
    pub labels: usize,
    /// Rows of the task head's largest layer.
    pub head_rows: usize,
    /// Columns of the widest tensor on tokens or sequences: sizes the partial column sums.
    pub widest: usize,
    /// The same of labelled tokens, and their rows.
    pub labelled: [usize; 2],
    /// Columns of an attention head.
    pub head_dim: usize,
    /// Numbers that go to other ranks in a step and back.
    pub exchanged: usize,
}

impl Memory {
    /// What programs that share one arena need, beside a parameter vector of so many elements, of which so many train.
    pub fn of(programs: &[&Program], (params, trainable): (usize, usize)) -> Self {
        let none = Self { params, trainable, with_gradient: trainable, ..Self::default() };
        programs.iter().fold(none, |memory, program| {
            let list = program.list();
            let (widest, head_dim) = list.widest();
            let limits = memory.limits.join(program.limits());
            let needed = LabelNeed::of(list, &list.ops).map_or(0, |need| need.words(limits));
            Self {
                arena: memory.arena.max(program.bytes()),
                // A label per sequence is little, and batches have one where no list reads it.
                // Those of tokens also say which of them go on.
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

/// How much of a batch comes before a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FirstRow {
    pub tokens: u32,
    pub sequences: u32,
}

impl DropoutKey {
    /// Of a batch that is whole.
    pub const fn new(seed: u64, step: u64) -> Self {
        Self { seed, step, first: FirstRow { tokens: 0, sequences: 0 } }
    }

    /// The row of the whole batch that is this part's first.
    pub fn first_row(self, rows: Rows) -> u32 {
        match rows {
            Rows::Tokens => self.first.tokens,
            Rows::Sequences => self.first.sequences,
            // Nothing drops out of these.
            Rows::Labelled(_) => 0,
        }
    }
}

/// What the host wants to know of an optimizer step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Sum of what the [`Loss`](crate::program::Loss) operations since the last [`Zero`](crate::program::Zero) added.
    pub loss: f32,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f32,
    /// The gradient left the range of a 16-bit type, and the next step's loss scale is lower: the step changed
    /// nothing, but training goes on. Never with f32 arithmetic.
    pub overflow: bool,
}

impl StepReport {
    /// Whether the update was applied.
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.grad_norm.is_finite()
    }
}

/// A [`StepReport`] that was asked for and may not be there yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PendingReport {
    Ready(StepReport),
    /// The device is still at work; the number is the backend's own.
    Slot(usize),
}

/// Dynamic loss scaling between two steps: with the parameters and moments, the state of a run in f16.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossScaling {
    /// Factor on the gradients that are held in 16 bits.
    pub scale: f32,
    /// Steps since it last changed.
    pub good_steps: u32,
}

/// The vectors that run beside the trainable parameters.
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

/// A device that runs programs. See the module's head for the memory model.
pub trait Backend {
    /// What its memory depends on.
    fn kind(&self) -> DeviceKind;

    /// For people: `CPU`, or the GPU's name, capability and precision.
    fn describe(&self) -> String;

    /// Copies a frozen matrix to the device in the backend's weight type.
    ///
    /// # Errors
    /// When the device has no room, or a value does not fit the weight type.
    fn upload(&mut self, name: &str, shape: MatrixShape, data: &[f32]) -> Result<WeightId>;

    /// A frozen matrix that is there already, as another backend brought it: see [`Resident`].
    fn resident(&mut self, _name: &str, _shape: MatrixShape) -> Option<WeightId> {
        None
    }

    /// Consecutive rows of a matrix as one of their own, without a copy: outputs of a linear layer.
    ///
    /// # Errors
    /// When there is no such matrix, it has fewer rows, or it trains.
    fn view_rows(&mut self, of: WeightId, rows: Range<usize>) -> Result<WeightId>;

    /// Makes a matrix out of `range`, which must train and hold as many values. The backend may keep a working copy in its
    /// compute type; it follows the values.
    ///
    /// # Errors
    /// When the range holds another number of values, or the device has no room.
    fn trained_matrix(
        &mut self,
        name: &str,
        shape: MatrixShape,
        range: ParamRange,
    ) -> Result<WeightId>;

    /// What the device holds now, counted from its allocations.
    fn allocated(&self) -> Footprint;

    /// Allocates everything but the matrices; nothing is allocated after it. Parameters and moments are zero.
    ///
    /// # Errors
    /// When the device has no room.
    fn allocate(&mut self, memory: Memory) -> Result<()>;

    /// Makes `batch` the current one. [`Backend::run`] holds its ids against the embedding tables.
    ///
    /// # Errors
    /// When the batch is not well formed or exceeds the limits that were allocated for.
    fn set_batch(&mut self, batch: &Batch, key: DropoutKey) -> Result<()>;

    /// Runs the operations of a span of `program` on the current batch. A device may record them once for each bucket of
    /// batches and replay the recording: what changes from step to step is in the batch and in `numbers` alone.
    ///
    /// # Errors
    /// When the batch exceeds the program's limits, an operation's shapes do not fit, or the device fails; the message
    /// names the operation and its block.
    fn run(&mut self, program: &Program, span: Span, numbers: Numbers) -> Result<()>;

    /// The tiles by name among which this device chooses one for each product.
    fn tiles(&self) -> &'static [&'static str] {
        &[]
    }

    /// The same as [`Backend::run`], each piece alone: nothing is recorded, and what each took is returned in the order in
    /// which they ran. With one of [`Backend::tiles`] all products that can be are cut into that.
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
    /// The first `len` elements of a region, as f32; of codes, the words in which they lie.
    fn read(&self, region: Region, stored: Storage, len: usize) -> Result<Vec<f32>>;
    /// Writes the first elements of a region (tests and tools).
    fn write(&mut self, region: Region, stored: Storage, values: &[f32]) -> Result<()>;

    /// Loss and gradient norm of the step that an [`Update`](crate::program::Update) ended (the loss alone where none
    /// did).
    fn step_report(&mut self) -> Result<StepReport> {
        let pending = self.report_later()?;
        self.wait_report(pending)
    }

    /// Asks for what [`Backend::step_report`] gives, without waiting. At most two may be asked for and not read.
    fn report_later(&mut self) -> Result<PendingReport>;

    /// Waits for a report that was asked for.
    fn wait_report(&mut self, pending: PendingReport) -> Result<StepReport> {
        match pending {
            PendingReport::Ready(report) => Ok(report),
            PendingReport::Slot(slot) => anyhow::bail!("this device has no report {slot}"),
        }
    }

    /// Hands the gradient of the step so far and its loss to `sum`, as one vector `[trainable + 2]` that ends with the loss
    /// and `beside`, a number of the caller's. What `sum` leaves there takes their places; returned is what it leaves of
    /// `beside`. To be called when all batches of the step have run, and before its end does.
    ///
    /// # Errors
    /// When no memory was allocated for it, `sum` fails, or the device does.
    fn exchange(
        &mut self,
        beside: f32,
        sum: &mut dyn FnMut(&mut [f32]) -> Result<()>,
    ) -> Result<f32>;

    /// The state of dynamic loss scaling, on a device that has it.
    fn loss_scaling(&self) -> Result<Option<LossScaling>> {
        Ok(None)
    }

    /// Goes on from a state that [`Backend::loss_scaling`] gave. A device without loss scaling ignores it.
    fn set_loss_scaling(&mut self, _scaling: LossScaling) -> Result<()> {
        Ok(())
    }
}
