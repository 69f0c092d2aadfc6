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
pub mod plan;
pub mod weight_gradients;

pub use footprint::{DeviceKind, Footprint};

use crate::batch::Batch;
use anyhow::Result;
use std::ops::Range;

/// A range of bytes in the arena, assigned by [`plan::Planner`]. Sized for the largest batch; a smaller batch
/// uses its first rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Bytes from the start of the arena.
    pub offset: usize,
    /// Length in bytes.
    pub len: usize,
}

/// A range of the flat f32 parameter vector, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParamRange {
    pub offset: usize,
    pub len: usize,
}

/// A matrix held by the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightId(pub usize);

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

/// How many rows of its operands an operation works on, resolved against the current batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// One row a token.
    Tokens,
    /// One row a sequence.
    Sequences,
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

/// Upper bounds of a batch's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tokens in all sequences together.
    pub tokens: usize,
    /// Number of sequences.
    pub sequences: usize,
    /// Tokens in the longest sequence.
    pub max_len: usize,
}

/// Activation function of the feed-forward block (`hidden_act` in Hugging Face configurations).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · Φ(x)` with the error function: `gelu`.
    GeluErf,
    /// The tanh approximation: `gelu_new`, `gelu_pytorch_tanh`.
    GeluTanh,
    Relu,
}

/// Dropout at one place of the network. `p == 0` is exactly the identity.
///
/// Backward regenerates the mask: element `(row, col)` is kept where word `col % 4` of the Philox4x32-10 block
/// with counter `[col / 4, row, site, step]` and the seed as key, as a uniform number in `[0, 1)`, is `>= p`.
/// A row is a row of the tensor: a token, or a sequence where the tensor has a row for each; in attention it is `token · heads + head` of the query, and the
/// column is the key's place in its sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of zeroing an element; the others are scaled by `1 / (1 - p)`.
    pub p: f32,
    /// Distinguishes the places of the network.
    pub site: u32,
}

impl Dropout {
    pub const NONE: Self = Self { p: 0.0, site: 0 };
}

/// What makes one batch's dropout masks differ from another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DropoutKey {
    pub seed: u64,
    /// Counts the micro-batches of the run.
    pub step: u64,
}

/// LayerNorm parameters (`LayerNorm.weight`, `LayerNorm.bias`), each `[hidden]`.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    pub gamma: ParamRange,
    pub beta: ParamRange,
    pub eps: f32,
}

/// Where LayerNorm leaves what its backward needs.
#[derive(Clone, Copy, Debug)]
pub struct SavedNorm {
    /// `(x - mean) · rstd`, `[tokens, hidden]`. Kept in place of the output: inverting `(y - β) / γ` loses
    /// precision where γ is small.
    pub x_hat: Region,
    pub stored: XHatType,
    /// `1 / sqrt(var + eps)`, f32 `[tokens]`.
    pub rstd: Region,
}

/// How a LayerNorm's x̂ is stored for its backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XHatType {
    /// The backend's activation type.
    Full,
    /// One signed byte c each: `x̂ = c·|c|·√hidden/127²`, with the root rounded to the nearest. No row of `hidden`
    /// normalised values leaves ±√hidden, and steps that grow with the root serve the many small values as well as the
    /// few outliers that BERT's rows have.
    Bits8,
}

impl XHatType {
    /// Bytes of one row of `hidden` values on a backend with activations of `element` bytes.
    pub fn row_bytes(self, hidden: usize, element: usize) -> usize {
        match self {
            Self::Full => hidden * element,
            Self::Bits8 => hidden,
        }
    }

    /// Bytes of a region for `rows` rows: whole 32-bit words.
    pub fn bytes(self, rows: usize, hidden: usize, element: usize) -> usize {
        (rows * self.row_bytes(hidden, element)).next_multiple_of(4)
    }

    /// What the square of a code of [`Self::Bits8`] is multiplied with.
    pub fn unit(hidden: usize) -> f32 {
        (hidden as f32).sqrt() / (127.0 * 127.0)
    }
}

/// `out = dropout(LN(word[id] + position[pos] + token_type[type]))`.
#[derive(Clone, Copy, Debug)]
pub struct EmbedForward {
    /// `[vocab, hidden]`
    pub word: WeightId,
    /// `[max_positions, hidden]`
    pub position: WeightId,
    /// `[type_vocab, hidden]`; RoBERTa stores one row, used for every token.
    pub token_type: WeightId,
    pub norm: Norm,
    pub dropout: Dropout,
    /// `[tokens, hidden]`
    pub out: Region,
}

/// `out = act(x·Wᵀ + bias)`.
#[derive(Clone, Copy, Debug)]
pub struct LinearForward<'a> {
    /// `[rows, in]`
    pub x: Region,
    /// `[out, in]`
    pub weight: WeightId,
    /// Parts of equal length which together are the bias `[out]` (Q, K and V of a fused product are three).
    pub bias: &'a [ParamRange],
    /// `[rows, out]`
    pub out: Region,
    pub rows: Rows,
    pub activation: Option<LinearActivation>,
}

/// The activation fused into a linear layer.
#[derive(Clone, Copy, Debug)]
pub struct LinearActivation {
    pub kind: Activation,
    pub output: ActivationOutput,
}

/// What a linear layer with an activation leaves.
#[derive(Clone, Copy, Debug)]
pub enum ActivationOutput {
    /// `out = act(z)`: nothing is needed for backward.
    Value,
    /// `out = act(z)`, and `act′(z)` beside it.
    Both(Derivative),
    /// `out = act′(z)` as an activation, and no value: backward makes again what was not kept.
    Derivative,
}

/// The derivative of an activation function, `[rows, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Derivative {
    pub region: Region,
    pub stored: DerivativeType,
}

/// How the derivative of an activation function is stored. The codes are linear, `d = (code - zero) · step`, rounded
/// to the nearest, over the range that GELU's derivative has (−0.129 to 1.129); 0 and 1, which are all the values of
/// ReLU's and the limits of GELU's, are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DerivativeType {
    /// The backend's activation type.
    Full,
    /// One byte each: step 1/200, zero 26.
    Bits8,
    /// Two to a byte, the even column in its low half, rows on whole bytes: step 1/11, zero 2, at most 15.
    Bits4,
}

impl DerivativeType {
    /// Bytes of one row of `width` derivatives on a backend with activations of `element` bytes.
    pub fn row_bytes(self, width: usize, element: usize) -> usize {
        match self {
            Self::Full => width * element,
            Self::Bits8 => width,
            Self::Bits4 => width.div_ceil(2),
        }
    }

    /// Bytes of a region for `rows` rows: whole 32-bit words.
    pub fn bytes(self, rows: usize, width: usize, element: usize) -> usize {
        (rows * self.row_bytes(width, element)).next_multiple_of(4)
    }
}

/// `dx = dy·W`, or `dx += dy·W`, or `dx = (dy·W) ⊙ derivative`. There is no dW.
#[derive(Clone, Copy, Debug)]
pub struct LinearBackward {
    /// `[rows, out]`
    pub dy: Region,
    /// `[out, in]`
    pub weight: WeightId,
    /// `[rows, in]`
    pub dx: Region,
    /// `dx += …` instead of `dx = …`. Not together with `derivative`.
    pub accumulate: bool,
    pub rows: Rows,
    /// Multiplies the product element by element: the derivative of the activation that made this layer's
    /// input, so that `dx` is the gradient before that activation. `dx` may be the derivative's own region where
    /// that is stored in full: the gradient then takes its place.
    pub derivative: Option<Derivative>,
    /// `+=` the column sums of the final `dx`: the bias gradient of the layer below, fused.
    pub dbias: Option<ParamRange>,
}

/// Multi-head self-attention within each sequence: `out = dropout(softmax(q·kᵀ / sqrt(head_dim)))·v`.
#[derive(Clone, Copy, Debug)]
pub struct AttentionForward {
    /// `[tokens, 3·hidden]`: q, k and v side by side.
    pub qkv: Region,
    /// `[tokens, hidden]`
    pub out: Region,
    /// Log of the softmax's denominator, f32 `[heads, tokens]`, if backward will need it.
    pub lse: Option<Region>,
    pub heads: usize,
    pub head_dim: usize,
    pub dropout: Dropout,
}

/// Backward of [`AttentionForward`]; the probabilities are recomputed from `qkv` and `lse`.
#[derive(Clone, Copy, Debug)]
pub struct AttentionBackward {
    pub qkv: Region,
    pub out: Region,
    pub lse: Region,
    /// `[tokens, hidden]`
    pub dout: Region,
    /// `[tokens, 3·hidden]`, overwritten.
    pub dqkv: Region,
    pub heads: usize,
    pub head_dim: usize,
    pub dropout: Dropout,
    /// `+=` column sums of dq. There is no `dbias_key`: softmax ignores a shift shared by all keys, so that
    /// gradient is zero (Namazifar et al., arXiv 2302.08626).
    pub dbias_query: Option<ParamRange>,
    /// `+=` column sums of dv.
    pub dbias_value: Option<ParamRange>,
}

/// `x = LN(residual + dropout(x))`, in place.
#[derive(Clone, Copy, Debug)]
pub struct ResidualNormForward {
    /// In: the branch `[tokens, hidden]`. Out: the normalised sum.
    pub x: Region,
    /// `[tokens, hidden]`, read only.
    pub residual: Region,
    pub dropout: Dropout,
    pub norm: Norm,
    pub saved: Option<SavedNorm>,
    /// Of every tensor here, as in all that follows: `tokens` in a shape then stands for sequences.
    pub rows: Rows,
}

/// `out = γ·x̂ + β`: what a LayerNorm wrote in forward, from the x̂ that it kept.
#[derive(Clone, Copy, Debug)]
pub struct NormRestore {
    /// `[tokens, hidden]`, stored in full.
    pub x_hat: Region,
    pub norm: Norm,
    /// `[tokens, hidden]`
    pub out: Region,
    pub rows: Rows,
}

/// Backward of [`ResidualNormForward`]: with `dz` the gradient of the sum before LayerNorm,
/// `d_residual = dz` and `d_branch = dropout′(dz)`.
#[derive(Clone, Copy, Debug)]
pub struct ResidualNormBackward {
    /// In: the gradient of the output `[tokens, hidden]`. Out: `dz`, the gradient of the residual.
    pub dx: Region,
    pub saved: SavedNorm,
    pub gamma: ParamRange,
    pub dropout: Dropout,
    /// `[tokens, hidden]`. `None` when there is no dropout: the branch's gradient is then `dx` itself.
    pub d_branch: Option<Region>,
    /// `+=` column sums of the incoming gradient.
    pub dbeta: Option<ParamRange>,
    /// `+=` column sums of the branch's gradient: the gradient of the bias of the linear layer that made it.
    pub dbias: Option<ParamRange>,
    pub rows: Rows,
}

/// `grad += column sums of dropout′(dy)`: a bias gradient where nothing below it is needed (the embedding
/// LayerNorm's β, or the lowest LayerNorm that trains).
#[derive(Clone, Copy, Debug)]
pub struct BiasGrad {
    /// `[tokens, width]`
    pub dy: Region,
    pub dropout: Dropout,
    pub grad: ParamRange,
    pub rows: Rows,
}

/// The first token of each sequence, beside all tokens.
#[derive(Clone, Copy, Debug)]
pub struct FirstTokens {
    pub hidden: usize,
    /// `[tokens, hidden]`
    pub tokens: Region,
    /// `[sequences, hidden]`
    pub first: Region,
}

/// [`AttentionForward`] for the first token of each sequence alone, over the keys and values of all: what the last block
/// needs where the head reads one token a sequence. Dropout's row is `sequence · heads + head`.
#[derive(Clone, Copy, Debug)]
pub struct FirstAttentionForward {
    /// `[sequences, hidden]`
    pub query: Region,
    /// `[tokens, 2·hidden]`: k and v side by side.
    pub key_value: Region,
    /// `[sequences, hidden]`
    pub out: Region,
    /// Log of the softmax's denominator, f32 `[sequences, heads]`, if backward will need it.
    pub lse: Option<Region>,
    pub heads: usize,
    pub head_dim: usize,
    pub dropout: Dropout,
}

/// Backward of [`FirstAttentionForward`].
#[derive(Clone, Copy, Debug)]
pub struct FirstAttentionBackward {
    pub query: Region,
    pub key_value: Region,
    pub lse: Region,
    /// `[sequences, hidden]`
    pub dout: Region,
    /// `[sequences, hidden]`, overwritten.
    pub d_query: Region,
    /// `[tokens, 2·hidden]`, overwritten.
    pub d_key_value: Region,
    pub heads: usize,
    pub head_dim: usize,
    pub dropout: Dropout,
    /// `+=` column sums of dq; as in [`AttentionBackward`] there is none for the key.
    pub dbias_query: Option<ParamRange>,
    /// `+=` column sums of dv.
    pub dbias_value: Option<ParamRange>,
}

/// How a sequence's hidden states become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// The first token's.
    Cls,
    /// The mean over all tokens of the sequence.
    Mean,
}

/// `out[s] = pool(x[tokens of s])`; backward spreads `out`'s gradient over `x`'s.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    pub kind: PoolKind,
    pub hidden: usize,
    /// Hidden states, or their gradient (backward overwrites all of it): `[tokens, hidden]`, or of the first tokens
    /// alone, `[sequences, hidden]`, for [`PoolKind::Cls`].
    pub x: Region,
    /// Of `x`.
    pub rows: Rows,
    /// Pooled vectors, or their gradient: f32 `[sequences, hidden]`.
    pub pooled: Region,
}

/// The matrix of a layer of the task head: `[out, in]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadWeight {
    /// Comes from the checkpoint and stays as it is (BERT's pooler).
    Frozen(WeightId),
    /// Trains with the biases.
    Param(ParamRange),
}

/// One layer of the task head on pooled vectors, all f32: `y = act(dropout(x)·Wᵀ + b)`, act = tanh or none.
/// The same description serves forward and backward.
#[derive(Clone, Copy, Debug)]
pub struct Dense {
    /// f32 `[sequences, in]`
    pub x: Region,
    pub weight: HeadWeight,
    /// `[out]`
    pub bias: ParamRange,
    /// f32 `[sequences, out]`
    pub y: Region,
    pub inputs: usize,
    pub outputs: usize,
    pub dropout: Dropout,
    pub tanh: bool,
}

/// Backward of [`Dense`]. Where the weight is a trained [`HeadWeight::Param`] its gradient accumulates, and so
/// does that of the bias if it trains.
#[derive(Clone, Copy, Debug)]
pub struct DenseBackward {
    pub layer: Dense,
    /// In: gradient of `y`. Out: gradient before the tanh. f32 `[sequences, out]`
    pub dy: Region,
    /// f32 `[sequences, in]`, overwritten; `None` where nothing below trains.
    pub dx: Option<Region>,
}

/// What the logits are compared with; the labels are the batch's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossKind {
    /// Softmax cross-entropy over `outputs` classes.
    CrossEntropy,
    /// `(logit - label)²`, one output.
    MeanSquared,
}

/// Adds `weight · Σ_s loss_s` to the step's loss and, where asked, writes its gradient.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    pub kind: LossKind,
    /// f32 `[sequences, outputs]`
    pub logits: Region,
    pub outputs: usize,
    /// One over the number of sequences in the whole optimizer step: the step's loss is a mean.
    pub weight: f32,
    /// f32 `[sequences, outputs]`
    pub dlogits: Option<Region>,
}

/// AdamW (Loshchilov & Hutter, 2019; `torch.optim.AdamW`) over the whole trainable vector, after clipping its
/// gradient to a global norm. A step whose gradient is not finite changes nothing.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub lr: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    pub weight_decay: f32,
    /// 0 switches clipping off.
    pub clip_norm: f32,
    /// Counts from 1; corrects the moments' bias.
    pub step: u64,
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
