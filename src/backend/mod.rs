//! What the model asks of a device: about twenty fused operations over memory that was planned ahead.
//!
//! The model code is written once, generic over [`Backend`]; a backend owns all device memory and is handed
//! plain descriptions of the work ([`LinearForward`] and friends). There is no tape. Each operation below has
//! its backward beside it, and no operation here computes the gradient of an encoder weight: they are frozen.
//!
//! Three kinds of memory exist, and every argument names which one it lives in:
//!
//! * the **arena**: activations and their gradients, as [`Region`]s that [`plan`] assigned before the run.
//!   Tensors of `[tokens, …]` hold the backend's activation type ([`Backend::activation_bytes`]); tensors
//!   documented as f32 are f32 on every backend. Tokens are packed: sequence `s` owns rows
//!   `cu_seqlens[s]..cu_seqlens[s + 1]` and no row is padding;
//! * the **parameter vector**: one flat f32 vector, addressed by [`ParamRange`]s. Its first
//!   [`Memory::trainable`] elements train and have a gradient, a first and a second moment beside them; the
//!   rest (frozen biases, LayerNorm gains) are read only;
//! * **frozen matrices**: uploaded once in 32, 16, 8 or 4 bits, addressed by [`WeightId`]. A linear layer's matrix
//!   is `[out_features, in_features]`, as Hugging Face stores it, and serves both `Y = X·Wᵀ` and `dX = dY·W`.
//!   Full fine-tuning has its own trait, [`weight_gradients`], and its matrices in the parameter vector.
//!
//! Outputs are overwritten (`=`) unless the field says `+=`. Parameter gradients always accumulate (`+=`):
//! the caller zeroes them once per optimizer step with [`Backend::zero_gradients`]. Regions of one call must
//! not overlap unless the field says that they may.

pub mod any;
mod check;
pub mod cpu;
pub mod cuda;
mod footprint;
mod int8;
mod nf4;
mod operations;
pub mod plan;
pub mod weight_gradients;

pub use footprint::{DeviceKind, Footprint};
pub use operations::*;

use crate::batch::Batch;
pub use crate::program::{
    Activation, AdamW, Dropout, HeadWeight, Limits, LossKind, Norm, ParamRange, PoolKind, Region,
    Rows, WeightId,
};
use crate::program::{Numbers, Program, Span};
use anyhow::Result;
use std::ops::Range;

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

impl Rows {
    /// How many a batch has.
    pub fn of(self, batch: &Batch) -> usize {
        match self {
            Self::Tokens => batch.tokens(),
            Self::Sequences => batch.sequences(),
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
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Bytes of the arena: [`plan::Plan::bytes`].
    pub arena: usize,
    /// Elements of the parameter vector.
    pub params: usize,
    /// Leading elements of the parameter vector that train: each has a gradient and two moments.
    pub trainable: usize,
    /// The largest batch that will be set.
    pub limits: Limits,
    /// Columns of the widest tensor: sizes the partial column sums.
    pub widest: usize,
    /// Columns of an attention head.
    pub head_dim: usize,
}

/// What the host wants to know of an optimizer step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Sum of what the [`Loss`] calls since [`Backend::zero_gradients`] added.
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

/// A fixed sequence of operations on the current batch, which a device may record once and replay for other batches.
///
/// Between two allocations a name always stands for the same operations on the same regions: nothing in it may depend
/// on the batch but through the batch itself. On a replay the operations are not issued, so the numbers that change
/// from step to step stand here too.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    pub name: &'static str,
    /// The largest batch that the regions have room for.
    pub limits: Limits,
    /// The [`Loss::weight`] of the section's loss, if it has one.
    pub weight: f32,
    /// The section's [`Backend::adamw`], if it has one.
    pub update: Option<AdamW>,
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

/// A device that runs the encoder. See the module's head for the memory model and conventions.
pub trait Backend {
    /// Bytes of one activation element.
    fn activation_bytes(&self) -> usize;

    /// Copies a frozen matrix to the device in the backend's weight type.
    ///
    /// # Errors
    /// When the device has no room, or a value does not fit the weight type.
    fn upload(&mut self, name: &str, shape: MatrixShape, data: &[f32]) -> Result<WeightId>;

    /// Consecutive rows of a matrix as one of their own, without a copy: outputs of a linear layer.
    ///
    /// # Errors
    /// When there is no such matrix, it has fewer rows, or it trains.
    fn view_rows(&mut self, of: WeightId, rows: Range<usize>) -> Result<WeightId>;

    /// What the device holds now, counted from its allocations.
    fn allocated(&self) -> Footprint;

    /// Allocates everything but the matrices; nothing is allocated after it. Parameters and moments are zero.
    fn allocate(&mut self, memory: Memory) -> Result<()>;

    /// Makes `batch` the current one. Ids must be below the embedding tables' rows (the data side checks).
    ///
    /// # Errors
    /// When the batch exceeds the limits that were allocated for.
    fn set_batch(&mut self, batch: &Batch, key: DropoutKey) -> Result<()>;

    fn read_params(&self, slot: Slot, range: ParamRange) -> Result<Vec<f32>>;
    fn write_params(&mut self, slot: Slot, range: ParamRange, values: &[f32]) -> Result<()>;
    /// The first `len` elements of a `[tokens, …]` region, converted to f32.
    fn read_activations(&self, region: Region, len: usize) -> Result<Vec<f32>>;
    /// Writes the first elements of a `[tokens, …]` region (tests and tools).
    fn write_activations(&mut self, region: Region, values: &[f32]) -> Result<()>;
    /// The first `len` elements of an f32 region.
    fn read_f32(&self, region: Region, len: usize) -> Result<Vec<f32>>;
    fn write_f32(&mut self, region: Region, values: &[f32]) -> Result<()>;

    /// Runs the operations of a span of `program` on the current batch. A device may record them once for each bucket of
    /// batches and replay the recording: what changes from step to step is in the batch and in `numbers` alone.
    ///
    /// # Errors
    /// When the batch exceeds the program's limits, an operation's shapes do not fit, or the device fails; the message
    /// names the operation and its block.
    fn run(&mut self, _program: &Program, _span: Span, _numbers: Numbers) -> Result<()> {
        anyhow::bail!("this backend does not run programs yet")
    }

    fn embed_forward(&mut self, op: EmbedForward) -> Result<()>;
    fn linear_forward(&mut self, op: LinearForward<'_>) -> Result<()>;
    fn linear_backward(&mut self, op: LinearBackward) -> Result<()>;
    fn attention_forward(&mut self, op: AttentionForward) -> Result<()>;
    fn attention_backward(&mut self, op: AttentionBackward) -> Result<()>;
    fn residual_norm_forward(&mut self, op: ResidualNormForward) -> Result<()>;
    fn residual_norm_backward(&mut self, op: ResidualNormBackward) -> Result<()>;
    fn norm_restore(&mut self, op: NormRestore) -> Result<()>;
    fn bias_grad(&mut self, op: BiasGrad) -> Result<()>;
    /// `first[s] = tokens[first token of s]`
    fn gather_first(&mut self, op: FirstTokens) -> Result<()>;
    /// `tokens[first token of s] += first[s]`
    fn add_first(&mut self, op: FirstTokens) -> Result<()>;
    fn first_attention_forward(&mut self, op: FirstAttentionForward) -> Result<()>;
    fn first_attention_backward(&mut self, op: FirstAttentionBackward) -> Result<()>;
    fn pool_forward(&mut self, op: Pool) -> Result<()>;
    fn pool_backward(&mut self, op: Pool) -> Result<()>;
    fn dense_forward(&mut self, op: Dense) -> Result<()>;
    fn dense_backward(&mut self, op: DenseBackward) -> Result<()>;
    fn loss(&mut self, op: Loss) -> Result<()>;

    /// Zeroes the parameter gradients and the step's loss.
    fn zero_gradients(&mut self) -> Result<()>;
    fn adamw(&mut self, op: AdamW) -> Result<()>;
    /// Loss and gradient norm of the step that [`Backend::adamw`] ended (the loss alone where none did).
    fn step_report(&mut self) -> Result<StepReport>;

    /// Asks for what [`Backend::step_report`] gives, without waiting. At most two may be asked for and not read.
    fn report_later(&mut self) -> Result<PendingReport> {
        Ok(PendingReport::Ready(self.step_report()?))
    }

    /// Waits for a report that was asked for.
    fn wait_report(&mut self, pending: PendingReport) -> Result<StepReport> {
        match pending {
            PendingReport::Ready(report) => Ok(report),
            PendingReport::Slot(slot) => anyhow::bail!("this device has no report {slot}"),
        }
    }

    /// The state of dynamic loss scaling, on a device that has it.
    fn loss_scaling(&self) -> Result<Option<LossScaling>> {
        Ok(None)
    }

    /// Goes on from a state that [`Backend::loss_scaling`] gave. A device without loss scaling ignores it.
    fn set_loss_scaling(&mut self, _scaling: LossScaling) -> Result<()> {
        Ok(())
    }

    /// Announces the operations of `section`. Returns whether they must be issued now, [`Backend::end_section`] after
    /// them; false where a recording of them has been launched instead. [`Backend::section`] does both.
    fn begin_section(&mut self, _section: Section) -> Result<bool> {
        Ok(true)
    }

    /// Ends what [`Backend::begin_section`] announced; `whole` unless one of the operations failed.
    fn end_section(&mut self, _whole: bool) -> Result<()> {
        Ok(())
    }

    /// Runs `body`, which issues the operations of `section`, or a recording of it.
    ///
    /// # Errors
    /// The body's; and on a device that records, when the body reads from the device or exceeds the section's limits.
    fn section(
        &mut self,
        section: Section,
        body: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()>
    where
        Self: Sized,
    {
        if !self.begin_section(section)? {
            return Ok(());
        }
        let done = body(self);
        let ended = self.end_section(done.is_ok());
        done.and(ended)
    }
}
