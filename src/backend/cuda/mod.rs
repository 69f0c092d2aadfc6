//! The CUDA backend: hand-written kernels, 16-bit activations and matrices, f32 arithmetic and parameters.
//!
//! Everything runs on one stream in the order of the calls; the host waits only where it reads. What a kernel
//! needs beside its operands (partial column sums, attention's delta) is allocated once with the arena.
//!
//! In f16 the gradients that flow through the encoder are multiplied by a loss scale so that small ones do not
//! vanish: [`Backend::pool_backward`] puts it in, and each bias gradient takes it out again, so the parameter
//! gradients are always the true ones. A step whose gradient overflowed is skipped on the device, which also
//! adapts the scale.

mod args;
mod batch;
pub mod device;
pub mod images;
pub mod launch;
mod memory;
mod params;
mod sizes;
mod weight_gradients;
mod weights;

use super::{
    ActivationOutput, AdamW, AttentionBackward, AttentionForward, Backend, BiasGrad, Dense,
    DenseBackward, Derivative, DerivativeType, DropoutKey, EmbedForward, Footprint, HeadWeight,
    LinearBackward, LinearForward, Loss, LossKind, MatrixShape, Memory, NormRestore, ParamRange,
    Pool, PoolKind, Region, ResidualNormBackward, ResidualNormForward, Rows, Slot, StepReport,
    WeightId,
};
use crate::backend::Activation;
use crate::batch::Batch;
use anyhow::{Context, Result, bail, ensure};
use args::*;
use batch::{DeviceBatch, LabelKind};
use bytemuck::Zeroable;
use device::Device;
use launch::{ATTENTION_TILE, GemmKind, GemmTile, Kernels, NORM_CHUNK, ROW_TILE};
use memory::{Address, Buffer};
use params::DeviceParams;
use sizes::Sizes;
pub use sizes::footprint;
use std::sync::Arc;
use weights::Weights;

/// Activations have 16 bits.
pub const ACTIVATION_BYTES: usize = 2;

/// Whether the kernels store derivatives of activation functions in this form.
pub fn stores(derivative: DerivativeType) -> bool {
    derivative == DerivativeType::Full
}

/// The 16-bit type of activations and matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfType {
    /// 11 significant bits, up to 65504.
    F16,
    /// 8 significant bits, the range of f32.
    Bf16,
}

impl std::fmt::Display for HalfType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

/// Factor on the gradients that are held in 16 bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LossScale {
    Fixed(f32),
    /// Halved when a gradient is not finite, doubled after this many steps that were.
    Dynamic {
        initial: f32,
        growth_interval: u32,
    },
}

/// How to set a device up.
#[derive(Clone, Copy, Debug)]
pub struct CudaOptions {
    /// Index of the GPU.
    pub device: usize,
    pub half: HalfType,
    pub loss_scale: LossScale,
    /// `None` chooses by shape and device.
    pub tile: Option<GemmTile>,
}

impl CudaOptions {
    /// The usual settings: dynamic loss scaling for f16, none for bf16.
    pub fn new(device: usize, half: HalfType) -> Self {
        Self {
            device,
            half,
            loss_scale: match half {
                HalfType::F16 => LossScale::Dynamic {
                    initial: 65_536.0,
                    growth_interval: 2_000,
                },
                HalfType::Bf16 => LossScale::Fixed(1.0),
            },
            tile: None,
        }
    }
}

/// The encoder's operations on one GPU.
#[derive(Debug)]
pub struct CudaBackend {
    device: Device,
    kernels: Arc<Kernels>,
    options: CudaOptions,
    weights: Weights,
    allocated: Option<Allocated>,
}

/// What [`Backend::allocate`] made.
#[derive(Debug)]
struct Allocated {
    arena: Buffer,
    batch: DeviceBatch,
    params: DeviceParams,
    state: Buffer,
    /// f32: partial column sums, two at a time.
    partial: Buffer,
    /// f32 elements of one of the two.
    partial_len: usize,
    /// f32: attention's Σ dout · out.
    delta: Buffer,
    /// f64: partial sums of the gradient norm.
    norm: Buffer,
}

impl CudaBackend {
    /// Opens the device and loads every kernel.
    ///
    /// # Errors
    /// See [`Device::open`]; and when a kernel is missing or refused.
    pub fn new(options: CudaOptions) -> Result<Self> {
        let device = Device::open(options.device)?;
        let kernels = Arc::new(Kernels::load(&device, options.half)?);
        Ok(Self {
            weights: Weights::new(options.half),
            device,
            kernels,
            options,
            allocated: None,
        })
    }

    /// A second backend on the same device, with the same kernels but no matrices and no memory yet.
    pub fn another(&self, tile: Option<GemmTile>) -> Self {
        Self {
            weights: Weights::new(self.options.half),
            device: self.device.clone(),
            kernels: Arc::clone(&self.kernels),
            options: CudaOptions {
                tile,
                ..self.options
            },
            allocated: None,
        }
    }

    /// The device in use.
    pub fn info(&self) -> &device::DeviceInfo {
        &self.device.info
    }

    pub fn half(&self) -> HalfType {
        self.options.half
    }

    /// The loss scale that the next step will use.
    pub fn loss_scale(&self) -> Result<f32> {
        let state: Vec<StepState> = self.memory()?.state.read(0, 1)?;
        Ok(state[0].scale)
    }

    fn memory(&self) -> Result<&Allocated> {
        self.allocated
            .as_ref()
            .context("the CUDA backend is used before its memory is allocated")
    }

    fn memory_mut(&mut self) -> Result<&mut Allocated> {
        self.allocated
            .as_mut()
            .context("the CUDA backend is used before its memory is allocated")
    }

    fn tile(&self, rows: usize, columns: usize) -> GemmTile {
        self.options.tile.unwrap_or_else(|| {
            GemmTile::choose(rows, columns, self.device.info.multiprocessors as usize)
        })
    }
}

impl Allocated {
    /// The first `rows · columns` elements of an activation region.
    fn activation(&self, region: Region, rows: usize, columns: usize) -> Result<Address> {
        self.elements(region, rows * columns, 2)
    }

    fn derivative(&self, derivative: Derivative, rows: usize, columns: usize) -> Result<Address> {
        ensure!(
            derivative.stored == DerivativeType::Full,
            "the CUDA backend stores the derivatives of activation functions in full only"
        );
        self.activation(derivative.region, rows, columns)
    }

    fn f32(&self, region: Region, rows: usize, columns: usize) -> Result<Address> {
        self.elements(region, rows * columns, 4)
    }

    fn elements(&self, region: Region, count: usize, size: usize) -> Result<Address> {
        ensure!(
            count * size <= region.len,
            "a region of {} bytes cannot hold {count} elements of {size} bytes",
            region.len
        );
        ensure!(
            region.offset.is_multiple_of(16),
            "a region at byte {} is not aligned to 16",
            region.offset
        );
        self.arena.at(region.offset, count * size)
    }

    fn rows(&self, rows: Rows) -> usize {
        match rows {
            Rows::Tokens => self.batch.shape.tokens,
            Rows::Sequences => self.batch.shape.sequences,
        }
    }

    fn state(&self) -> Result<Address> {
        self.state.at(0, size_of::<StepState>())
    }

    /// Room for `len` f32 partial sums: the first or the second of two.
    fn partial(&self, which: usize, len: usize) -> Result<Address> {
        ensure!(
            len <= self.partial_len,
            "{len} partial sums exceed the {} allocated for: a tensor is wider than `Memory::widest`",
            self.partial_len
        );
        self.partial.at(which * self.partial_len * 4, len * 4)
    }

    /// The second stage of one or two column sums of the same shape.
    fn finish_columns(
        &self,
        kernels: &Kernels,
        sums: [Option<(Address, ParamRange)>; 2],
        width: usize,
        tile_rows: usize,
        rows: Rows,
        by_sequence: bool,
    ) -> Result<()> {
        let mut args = ColumnFinishArgs {
            batch: self.batch.header()?,
            cu_seqlens: self.batch.bounds()?,
            state: self.state()?,
            width: to_u32(width)?,
            tile_rows: to_u32(tile_rows)?,
            rows: row_kind(rows),
            by_sequence: u32::from(by_sequence),
            ..Zeroable::zeroed()
        };
        let mut count = 0;
        for (partial, grad) in sums.into_iter().flatten() {
            ensure!(
                grad.len == width,
                "a bias gradient of {} elements for {width} columns",
                grad.len
            );
            args.partial[count] = partial;
            args.grad[count] = self.params.gradient(grad)?;
            count += 1;
        }
        kernels.column_finish(count, args)
    }
}

fn to_u32(value: usize) -> Result<u32> {
    u32::try_from(value).with_context(|| format!("{value} does not fit 32 bits"))
}

fn row_kind(rows: Rows) -> u32 {
    match rows {
        Rows::Tokens => 0,
        Rows::Sequences => 1,
    }
}

fn activation_kind(kind: Activation) -> u32 {
    match kind {
        Activation::GeluErf => 0,
        Activation::GeluTanh => 1,
        Activation::Relu => 2,
    }
}

/// Rows are read and written 16 bytes at a time.
fn check_width(width: usize, what: &str) -> Result<()> {
    ensure!(
        width > 0 && width.is_multiple_of(8),
        "{what} of {width}: the CUDA kernels take multiples of 8"
    );
    Ok(())
}

impl Backend for CudaBackend {
    fn activation_bytes(&self) -> usize {
        ACTIVATION_BYTES
    }

    fn stores(&self, derivative: DerivativeType) -> bool {
        stores(derivative)
    }

    fn upload(&mut self, name: &str, shape: MatrixShape, data: &[f32]) -> Result<WeightId> {
        self.weights
            .upload(&self.device, name, shape.rows, shape.cols, data)
    }

    fn allocated(&self) -> Footprint {
        let weights = self.weights.bytes();
        match &self.allocated {
            None => Footprint {
                weights,
                ..Footprint::default()
            },
            Some(memory) => Footprint {
                weights,
                params: memory.params.bytes(),
                arena: memory.arena.bytes(),
                batch: memory.batch.bytes(),
                workspace: [&memory.state, &memory.partial, &memory.delta, &memory.norm]
                    .map(Buffer::bytes)
                    .iter()
                    .sum(),
            },
        }
    }

    fn allocate(&mut self, memory: Memory) -> Result<()> {
        // What an earlier program had is freed first.
        self.allocated = None;
        let device = &self.device;
        let limits = memory.limits;
        let sizes = Sizes::new(&memory);
        let (scale, growth_interval) = match self.options.loss_scale {
            LossScale::Fixed(scale) => (scale, 0),
            LossScale::Dynamic {
                initial,
                growth_interval,
            } => (initial, growth_interval),
        };
        let mut state = Buffer::new(device, "step state", sizes.state)?;
        state.write(
            0,
            &[StepState {
                scale,
                inverse_scale: 1.0 / scale,
                growth_interval,
                ..Zeroable::zeroed()
            }],
        )?;
        self.allocated = Some(Allocated {
            arena: Buffer::new(device, "activation arena", sizes.arena)?,
            batch: DeviceBatch::new(device, limits)?,
            params: DeviceParams::new(device, memory.params, memory.trainable)?,
            state,
            partial: Buffer::new(device, "partial column sums", 2 * sizes.partial_len * 4)?,
            partial_len: sizes.partial_len,
            delta: Buffer::new(device, "attention statistics", sizes.delta)?,
            norm: Buffer::new(device, "gradient norm", sizes.norm)?,
        });
        Ok(())
    }

    fn set_batch(&mut self, batch: &Batch, key: DropoutKey) -> Result<()> {
        self.memory_mut()?.batch.set(batch, key)
    }

    fn read_params(&self, slot: Slot, range: ParamRange) -> Result<Vec<f32>> {
        self.memory()?.params.read(slot, range)
    }

    fn write_params(&mut self, slot: Slot, range: ParamRange, values: &[f32]) -> Result<()> {
        self.memory_mut()?.params.write(slot, range, values)
    }

    fn read_activations(&self, region: Region, len: usize) -> Result<Vec<f32>> {
        ensure!(
            len * 2 <= region.len,
            "{len} elements of a region of {} bytes",
            region.len
        );
        let stored: Vec<u16> = self.memory()?.arena.read(region.offset, len)?;
        Ok(weights::widen(self.options.half, &stored))
    }

    fn write_activations(&mut self, region: Region, values: &[f32]) -> Result<()> {
        ensure!(
            values.len() * 2 <= region.len,
            "{} elements for a region of {} bytes",
            values.len(),
            region.len
        );
        let stored = weights::narrow(self.options.half, values);
        self.memory_mut()?.arena.write(region.offset, &stored)
    }

    fn read_f32(&self, region: Region, len: usize) -> Result<Vec<f32>> {
        ensure!(
            len * 4 <= region.len,
            "{len} f32 of a region of {} bytes",
            region.len
        );
        self.memory()?.arena.read(region.offset, len)
    }

    fn write_f32(&mut self, region: Region, values: &[f32]) -> Result<()> {
        ensure!(
            values.len() * 4 <= region.len,
            "{} f32 for a region of {} bytes",
            values.len(),
            region.len
        );
        self.memory_mut()?.arena.write(region.offset, values)
    }

    fn embed_forward(&mut self, op: EmbedForward) -> Result<()> {
        let memory = self.memory()?;
        let word = self.weights.get(op.word)?;
        let position = self.weights.get(op.position)?;
        let types = self.weights.get(op.token_type)?;
        let (tokens, width) = (memory.batch.shape.tokens, word.cols);
        check_width(width, "an embedding width")?;
        ensure!(
            position.cols == width && types.cols == width,
            "embedding tables of {width}, {} and {} columns",
            position.cols,
            types.cols
        );
        let args = EmbedArgs {
            batch: memory.batch.header()?,
            ids: memory.batch.ids()?,
            positions: memory.batch.positions()?,
            type_ids: memory.batch.types()?,
            word: word.address()?,
            position: position.address()?,
            token_type: types.address()?,
            gamma: memory.params.value(op.norm.gamma, width)?,
            beta: memory.params.value(op.norm.beta, width)?,
            out: memory.activation(op.out, tokens, width)?,
            dropout: op.dropout.into(),
            width: to_u32(width)?,
            eps: op.norm.eps,
            types: to_u32(types.rows)?,
            padding: 0,
        };
        self.kernels
            .embed_forward(tokens, args)
            .context("embeddings")
    }

    fn linear_forward(&mut self, op: LinearForward<'_>) -> Result<()> {
        let memory = self.memory()?;
        let weight = self.weights.get(op.weight)?;
        let (rows, n, k) = (memory.rows(op.rows), weight.rows, weight.cols);
        check_width(n, "a linear layer's output width")?;
        check_width(k, "a linear layer's input width")?;
        ensure!(
            (1..=3).contains(&op.bias.len()) && n % op.bias.len() == 0,
            "a bias of {} parts for {n} outputs",
            op.bias.len()
        );
        let part = n / op.bias.len();
        check_width(part, "a bias part")?;
        let mut bias = [Address::NULL; 3];
        for (to, &range) in bias.iter_mut().zip(op.bias) {
            *to = memory.params.value(range, part)?;
        }
        let out = memory.activation(op.out, rows, n)?;
        let (out, derivative) = match op.activation.map(|a| a.output) {
            None | Some(ActivationOutput::Value) => (out, Address::NULL),
            Some(ActivationOutput::Both(derivative)) => {
                (out, memory.derivative(derivative, rows, n)?)
            }
            Some(ActivationOutput::Derivative) => (Address::NULL, out),
        };
        let kind = match op.activation {
            Some(_) => GemmKind::Activation,
            None => GemmKind::Bias,
        };
        let args = GemmArgs {
            batch: memory.batch.header()?,
            x: memory.activation(op.x, rows, k)?,
            w: weight.address()?,
            out,
            bias,
            derivative,
            partial: Address::NULL,
            n: to_u32(n)?,
            k: to_u32(k)?,
            bias_part: to_u32(part)?,
            rows: row_kind(op.rows),
            activation: op.activation.map_or(0, |a| activation_kind(a.kind)),
            padding: 0,
        };
        self.kernels
            .gemm(kind, self.tile(rows, n), rows, args)
            .context("linear layer, forward")
    }

    fn linear_backward(&mut self, op: LinearBackward) -> Result<()> {
        let memory = self.memory()?;
        let weight = self.weights.get(op.weight)?;
        let (rows, n, k) = (memory.rows(op.rows), weight.cols, weight.rows);
        check_width(n, "a linear layer's input width")?;
        check_width(k, "a linear layer's output width")?;
        let tile = self.tile(rows, n);
        let dx = memory.activation(op.dx, rows, n)?;
        let derivative = match op.derivative {
            Some(derivative) => memory.derivative(derivative, rows, n)?,
            None => Address::NULL,
        };
        let kind = match (op.accumulate, op.derivative) {
            (true, Some(_)) => bail!("a backward product that both accumulates and multiplies"),
            (true, None) => GemmKind::BackAdd,
            (false, Some(_)) => GemmKind::BackSlope,
            (false, None) => GemmKind::Back,
        };
        // Only the product with the activation's slope has fused column sums: no other layer needs them.
        let fused = match (op.dbias, kind) {
            (Some(_), GemmKind::BackSlope) => {
                Some(memory.partial(0, rows.div_ceil(tile.side()) * n)?)
            }
            _ => None,
        };
        let args = GemmArgs {
            batch: memory.batch.header()?,
            x: memory.activation(op.dy, rows, k)?,
            w: weight.address()?,
            out: dx,
            derivative,
            partial: fused.unwrap_or(Address::NULL),
            n: to_u32(n)?,
            k: to_u32(k)?,
            rows: row_kind(op.rows),
            ..Zeroable::zeroed()
        };
        self.kernels
            .gemm(kind, tile, rows, args)
            .context("linear layer, backward")?;
        let Some(grad) = op.dbias else { return Ok(()) };
        let (partial, tile_rows) = match fused {
            Some(partial) => (partial, tile.side()),
            None => (
                self.partial_columns(dx, n, super::Dropout::NONE, op.rows)?,
                ROW_TILE,
            ),
        };
        memory
            .finish_columns(
                &self.kernels,
                [Some((partial, grad)), None],
                n,
                tile_rows,
                op.rows,
                false,
            )
            .context("bias gradient of a linear layer")
    }

    fn attention_forward(&mut self, op: AttentionForward) -> Result<()> {
        let memory = self.memory()?;
        let args = AttentionArgs {
            lse: match op.lse {
                Some(region) => memory.f32(region, memory.batch.shape.tokens, op.heads)?,
                None => Address::NULL,
            },
            ..self.attention(op.qkv, op.out, op.heads, op.head_dim, op.dropout)?
        };
        let shape = memory.batch.shape;
        self.kernels
            .attention_forward(shape.max_len, shape.sequences, args)
            .context("attention, forward")
    }

    fn attention_backward(&mut self, op: AttentionBackward) -> Result<()> {
        let memory = self.memory()?;
        let shape = memory.batch.shape;
        let hidden = op.heads * op.head_dim;
        // One row of partial sums for each tile; tiles do not cross sequences.
        let slots = shape.tokens / ATTENTION_TILE + shape.sequences + 1;
        let partial = |which, wanted: Option<ParamRange>| {
            wanted
                .map(|grad| anyhow::Ok((memory.partial(which, slots * hidden)?, grad)))
                .transpose()
        };
        let query = partial(0, op.dbias_query)?;
        let value: Option<(Address, ParamRange)> = partial(1, op.dbias_value)?;
        let address = |sums: Option<(Address, ParamRange)>| sums.map_or(Address::NULL, |s| s.0);
        let args = AttentionArgs {
            lse: memory.f32(op.lse, shape.tokens, op.heads)?,
            dout: memory.activation(op.dout, shape.tokens, hidden)?,
            dqkv: memory.activation(op.dqkv, shape.tokens, 3 * hidden)?,
            delta: memory.delta.at(0, shape.tokens * op.heads * 4)?,
            partial_query: address(query),
            partial_value: address(value),
            ..self.attention(op.qkv, op.out, op.heads, op.head_dim, op.dropout)?
        };
        self.kernels
            .attention_backward_q(shape.max_len, shape.sequences, args)
            .context("attention, backward to q")?;
        self.kernels
            .attention_backward_kv(shape.max_len, shape.sequences, args)
            .context("attention, backward to k and v")?;
        if query.is_none() && value.is_none() {
            return Ok(());
        }
        memory
            .finish_columns(
                &self.kernels,
                [query, value],
                hidden,
                ATTENTION_TILE,
                Rows::Tokens,
                true,
            )
            .context("bias gradients of q and v")
    }

    fn residual_norm_forward(&mut self, op: ResidualNormForward) -> Result<()> {
        let memory = self.memory()?;
        let (tokens, width) = (memory.batch.shape.tokens, op.norm.gamma.len);
        check_width(width, "a LayerNorm width")?;
        let (x_hat, rstd) = match op.saved {
            Some(saved) => (
                memory.activation(saved.x_hat, tokens, width)?,
                memory.f32(saved.rstd, tokens, 1)?,
            ),
            None => (Address::NULL, Address::NULL),
        };
        let args = NormForwardArgs {
            batch: memory.batch.header()?,
            x: memory.activation(op.x, tokens, width)?,
            residual: memory.activation(op.residual, tokens, width)?,
            gamma: memory.params.value(op.norm.gamma, width)?,
            beta: memory.params.value(op.norm.beta, width)?,
            x_hat,
            rstd,
            dropout: op.dropout.into(),
            width: to_u32(width)?,
            eps: op.norm.eps,
        };
        self.kernels
            .norm_forward(tokens, args)
            .context("LayerNorm, forward")
    }

    fn norm_restore(&mut self, op: NormRestore) -> Result<()> {
        let memory = self.memory()?;
        let (tokens, width) = (memory.batch.shape.tokens, op.norm.gamma.len);
        check_width(width, "a LayerNorm width")?;
        let args = NormRestoreArgs {
            batch: memory.batch.header()?,
            x_hat: memory.activation(op.x_hat, tokens, width)?,
            gamma: memory.params.value(op.norm.gamma, width)?,
            beta: memory.params.value(op.norm.beta, width)?,
            out: memory.activation(op.out, tokens, width)?,
            width: to_u32(width)?,
            padding: 0,
        };
        self.kernels
            .norm_restore(tokens, args)
            .context("LayerNorm, restored")
    }

    fn residual_norm_backward(&mut self, op: ResidualNormBackward) -> Result<()> {
        let memory = self.memory()?;
        let (tokens, width) = (memory.batch.shape.tokens, op.gamma.len);
        check_width(width, "a LayerNorm width")?;
        let tiles = tokens.div_ceil(ROW_TILE);
        let partial = |which, wanted: Option<ParamRange>| {
            wanted
                .map(|grad| anyhow::Ok((memory.partial(which, tiles * width)?, grad)))
                .transpose()
        };
        let beta: Option<(Address, ParamRange)> = partial(0, op.dbeta)?;
        let bias = partial(1, op.dbias)?;
        let address = |sums: Option<(Address, ParamRange)>| sums.map_or(Address::NULL, |s| s.0);
        let args = NormBackwardArgs {
            batch: memory.batch.header()?,
            dx: memory.activation(op.dx, tokens, width)?,
            x_hat: memory.activation(op.saved.x_hat, tokens, width)?,
            rstd: memory.f32(op.saved.rstd, tokens, 1)?,
            gamma: memory.params.value(op.gamma, width)?,
            d_branch: match op.d_branch {
                Some(region) => memory.activation(region, tokens, width)?,
                None => Address::NULL,
            },
            partial_beta: address(beta),
            partial_bias: address(bias),
            dropout: op.dropout.into(),
            width: to_u32(width)?,
            padding: 0,
        };
        self.kernels
            .norm_backward(tokens, args)
            .context("LayerNorm, backward")?;
        if beta.is_none() && bias.is_none() {
            return Ok(());
        }
        memory
            .finish_columns(
                &self.kernels,
                [beta, bias],
                width,
                ROW_TILE,
                Rows::Tokens,
                false,
            )
            .context("bias gradients at a LayerNorm")
    }

    fn bias_grad(&mut self, op: BiasGrad) -> Result<()> {
        let memory = self.memory()?;
        let width = op.grad.len;
        check_width(width, "a bias gradient")?;
        let dy = memory.activation(op.dy, memory.batch.shape.tokens, width)?;
        let partial = self.partial_columns(dy, width, op.dropout, Rows::Tokens)?;
        memory
            .finish_columns(
                &self.kernels,
                [Some((partial, op.grad)), None],
                width,
                ROW_TILE,
                Rows::Tokens,
                false,
            )
            .context("bias gradient")
    }

    fn pool_forward(&mut self, op: Pool) -> Result<()> {
        let args = self.pool(op)?;
        let sequences = self.memory()?.batch.shape.sequences;
        self.kernels
            .pool_forward(sequences, args)
            .context("pooling, forward")
    }

    fn pool_backward(&mut self, op: Pool) -> Result<()> {
        let args = self.pool(op)?;
        let tokens = self.memory()?.batch.shape.tokens;
        self.kernels
            .pool_backward(tokens, args)
            .context("pooling, backward")
    }

    fn dense_forward(&mut self, op: Dense) -> Result<()> {
        let args = self.dense(op)?;
        let sequences = self.memory()?.batch.shape.sequences;
        self.kernels
            .dense_forward(sequences, args)
            .context("dense layer of the head, forward")
    }

    fn dense_backward(&mut self, DenseBackward { layer, dy, dx }: DenseBackward) -> Result<()> {
        let memory = self.memory()?;
        let sequences = memory.batch.shape.sequences;
        let mut args = DenseArgs {
            dy: memory.f32(dy, sequences, layer.outputs)?,
            ..self.dense(layer)?
        };
        if let Some(dx) = dx {
            args.dx = memory.f32(dx, sequences, layer.inputs)?;
        }
        if memory.params.trains(layer.bias) {
            args.dbias = memory.params.gradient(layer.bias)?;
        }
        let failed = "dense layer of the head, backward";
        self.kernels.dense_backward_bias(args).context(failed)?;
        if let HeadWeight::Param(range) = layer.weight {
            args.dweight = memory.params.gradient(range)?;
            self.kernels.dense_backward_weight(args).context(failed)?;
        }
        if dx.is_some() {
            self.kernels
                .dense_backward_input(sequences, args)
                .context(failed)?;
        }
        Ok(())
    }

    fn loss(&mut self, op: Loss) -> Result<()> {
        let memory = self.memory()?;
        let sequences = memory.batch.shape.sequences;
        match (op.kind, memory.batch.labels) {
            (LossKind::CrossEntropy, LabelKind::Classes { largest }) => ensure!(
                (largest as usize) < op.outputs,
                "label {largest}: the head has {} outputs",
                op.outputs
            ),
            (LossKind::MeanSquared, LabelKind::Values) => ensure!(
                op.outputs == 1,
                "a squared error over {} outputs",
                op.outputs
            ),
            (LossKind::CrossEntropy, _) => bail!("cross-entropy needs class labels"),
            (LossKind::MeanSquared, _) => bail!("the squared error needs numbers for labels"),
        }
        let args = LossArgs {
            batch: memory.batch.header()?,
            logits: memory.f32(op.logits, sequences, op.outputs)?,
            labels: memory.batch.labels()?,
            dlogits: match op.dlogits {
                Some(region) => memory.f32(region, sequences, op.outputs)?,
                None => Address::NULL,
            },
            state: memory.state()?,
            outputs: to_u32(op.outputs)?,
            squared: u32::from(op.kind == LossKind::MeanSquared),
            weight: op.weight,
            padding: 0,
        };
        self.kernels.loss(args).context("loss")
    }

    fn zero_gradients(&mut self) -> Result<()> {
        let memory = self.memory_mut()?;
        memory.params.zero_gradients()?;
        // Loss and gradient norm come first in the state.
        memory.state.clear(0, 2 * size_of::<f32>())
    }

    fn adamw(&mut self, op: AdamW) -> Result<()> {
        ensure!(op.step > 0, "the optimizer's steps count from 1");
        let memory = self.memory()?;
        let (gradient, count) = memory.params.whole_gradient()?;
        let chunks = count.div_ceil(NORM_CHUNK);
        let partial = memory.norm.at(0, chunks * 8)?;
        let failed = "optimizer step";
        self.kernels
            .grad_norm_partial(NormPartialArgs {
                gradient,
                partial,
                count: count as u64,
            })
            .context(failed)?;
        self.kernels
            .step_decision(StepDecisionArgs {
                partial,
                state: memory.state()?,
                count: to_u32(chunks)?,
                clip_norm: op.clip_norm,
            })
            .context(failed)?;
        self.kernels
            .adamw(memory.params.adamw_args(op, memory.state()?)?)
            .context(failed)
    }

    fn step_report(&mut self) -> Result<StepReport> {
        let state: Vec<StepState> = self.memory()?.state.read(0, 1)?;
        Ok(StepReport {
            loss: state[0].loss,
            grad_norm: state[0].grad_norm,
            overflow: state[0].skip == SKIP_OVERFLOW,
        })
    }
}

/// Argument structures that two operations share.
impl CudaBackend {
    /// First stage of a column sum on its own.
    fn partial_columns(
        &self,
        dy: Address,
        width: usize,
        dropout: super::Dropout,
        rows: Rows,
    ) -> Result<Address> {
        let memory = self.memory()?;
        let count = memory.rows(rows);
        let partial = memory.partial(0, count.div_ceil(ROW_TILE) * width)?;
        self.kernels.column_partial(
            count,
            ColumnPartialArgs {
                batch: memory.batch.header()?,
                dy,
                partial,
                dropout: dropout.into(),
                width: to_u32(width)?,
                rows: row_kind(rows),
            },
        )?;
        Ok(partial)
    }

    fn attention(
        &self,
        qkv: Region,
        out: Region,
        heads: usize,
        head_dim: usize,
        dropout: super::Dropout,
    ) -> Result<AttentionArgs> {
        let memory = self.memory()?;
        check_width(head_dim, "a head dimension")?;
        let (tokens, hidden) = (memory.batch.shape.tokens, heads * head_dim);
        Ok(AttentionArgs {
            batch: memory.batch.header()?,
            cu_seqlens: memory.batch.bounds()?,
            qkv: memory.activation(qkv, tokens, 3 * hidden)?,
            out: memory.activation(out, tokens, hidden)?,
            dropout: dropout.into(),
            heads: to_u32(heads)?,
            head_dim: to_u32(head_dim)?,
            scale: 1.0 / (head_dim as f32).sqrt(),
            ..Zeroable::zeroed()
        })
    }

    fn pool(&self, op: Pool) -> Result<PoolArgs> {
        let memory = self.memory()?;
        check_width(op.hidden, "a hidden size")?;
        let shape = memory.batch.shape;
        Ok(PoolArgs {
            batch: memory.batch.header()?,
            cu_seqlens: memory.batch.bounds()?,
            state: memory.state()?,
            x: memory.activation(op.x, shape.tokens, op.hidden)?,
            pooled: memory.f32(op.pooled, shape.sequences, op.hidden)?,
            width: to_u32(op.hidden)?,
            mean: u32::from(op.kind == PoolKind::Mean),
        })
    }

    fn dense(&self, op: Dense) -> Result<DenseArgs> {
        let memory = self.memory()?;
        let sequences = memory.batch.shape.sequences;
        let count = op.inputs * op.outputs;
        let (weight, frozen) = match op.weight {
            HeadWeight::Param(range) => (memory.params.value(range, count)?, Address::NULL),
            HeadWeight::Frozen(id) => {
                let weight = self.weights.get(id)?;
                ensure!(
                    (weight.rows, weight.cols) == (op.outputs, op.inputs),
                    "a head matrix of {}×{} for a layer of {}×{}",
                    weight.rows,
                    weight.cols,
                    op.outputs,
                    op.inputs
                );
                (Address::NULL, weight.address()?)
            }
        };
        Ok(DenseArgs {
            batch: memory.batch.header()?,
            x: memory.f32(op.x, sequences, op.inputs)?,
            weight,
            frozen,
            bias: memory.params.value(op.bias, op.outputs)?,
            y: memory.f32(op.y, sequences, op.outputs)?,
            dropout: op.dropout.into(),
            inputs: to_u32(op.inputs)?,
            outputs: to_u32(op.outputs)?,
            tanh: u32::from(op.tanh),
            ..Zeroable::zeroed()
        })
    }
}
