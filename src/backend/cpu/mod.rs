//! The native CPU backend: the reference for all others, and a product in its own right.
//!
//! It computes in f32 or with bf16 operands ([`Arithmetic`]); frozen matrices have 32, 16, 8 or 4 bits. The order of
//! every sum depends only on shapes, so results are bit-identical from run to run and for any number of threads. It
//! uses its own threads ([`workers`]), as many as the current rayon pool has when memory is allocated; at most as many
//! work at a time as it has cores ([`CoreShare`]).

mod act_norm;
mod activate;
mod aligned;
mod arena;
mod attend;
mod attention;
mod attention_bf16;
mod batch;
mod bf16;
mod block;
mod colsum;
mod columns;
mod dense;
mod dropout;
mod elements;
mod embed;
mod finish_bf16;
mod first_attention;
mod gemm;
mod head;
mod heads;
mod int8;
mod kernel_bf16;
#[cfg(target_arch = "x86_64")]
mod kernel_f32_avx2;
#[cfg(target_arch = "x86_64")]
mod kernel_f32_avx512;
mod lanes;
#[cfg(target_arch = "x86_64")]
mod lanes_avx512;
mod lanes_math;
mod library;
mod linear;
mod loss;
mod math;
mod nf4;
mod norm;
mod normalise;
mod operands;
mod optim;
mod pack_bf16;
#[cfg(target_arch = "x86_64")]
mod pack_f32;
mod pairs;
mod panels;
mod params;
mod pointwise;
mod run;
mod scale;
mod share;
mod simd;
mod sizes;
mod slopes;
mod sparse;
mod team;
#[cfg(target_arch = "x86_64")]
mod transpose;
mod weight_gradients;
mod weights;
mod wide_loss;
mod widen;
mod workers;
mod x_hat;

use super::{
    Backend, CoreShare, DeviceKind, DropoutKey, Footprint, MatrixShape, Memory, ParamRange,
    PendingReport, Region, Resident, Slot, StepReport, WeightId, WeightType,
};
use crate::backend::timing::Piece;
use crate::batch::Batch;
use crate::program::{Numbers, Program, Span, Storage};
use crate::room::{copied, filled, room};
use aligned::Aligned;
use anyhow::{Result, ensure};
use arena::Arena;
use batch::HostBatch;
use colsum::Partials;
pub use elements::Arithmetic;
use elements::{Elements, Source, Stored};
use params::{HostParams, read, wide, write};
pub use simd::highest_instruction_set;
use sizes::HostSizes;
pub use sizes::footprint;
use std::ops::Range;
use weights::HostMatrices;
pub use weights::{FrozenMatrix, rounded};
use workers::Workers;

/// See the module documentation.
pub struct CpuBackend {
    weight_type: WeightType,
    arithmetic: Arithmetic,
    weights: HostMatrices,
    memory: Memory,
    arena: Arena,
    params: HostParams,
    batch: HostBatch,
    key: DropoutKey,
    /// How many of its threads may work at a time.
    cores: CoreShare,
    workers: Workers,
    partials: Partials,
    /// The bias of a linear layer as one slice: `[widest]`.
    bias: Vec<f32>,
    /// Tokens sorted by id, for the gradients of embedding tables.
    token_order: Vec<u32>,
    /// The head's input under dropout: `[rows of the head, widest]`.
    head_input: Aligned,
    norm_partials: Vec<f64>,
    /// Gradient, loss and one more number, on their way to other ranks and back.
    exchanged: Vec<f32>,
    loss: f64,
    grad_norm: f32,
}

impl CpuBackend {
    /// A backend that computes in f32 and stores the frozen matrices as `weight_type`.
    pub fn new(weight_type: WeightType) -> Self {
        Self::computing(Arithmetic::F32, weight_type)
    }

    /// The same with frozen matrices that other backends share.
    #[must_use]
    pub fn sharing(mut self, resident: Resident) -> Self {
        self.weights = HostMatrices::sharing(resident);
        self
    }

    /// The same with a share of cores used by others too.
    #[must_use]
    pub fn on(self, cores: CoreShare) -> Self {
        Self { cores, ..self }
    }

    /// The same with another arithmetic.
    pub fn computing(arithmetic: Arithmetic, weight_type: WeightType) -> Self {
        Self {
            weight_type,
            arithmetic,
            weights: HostMatrices::default(),
            memory: Memory::default(),
            arena: Arena::default(),
            params: HostParams::default(),
            batch: HostBatch::default(),
            key: DropoutKey::default(),
            cores: CoreShare::default(),
            workers: Workers::default(),
            partials: Partials::default(),
            bias: Vec::new(),
            token_order: Vec::new(),
            head_input: Aligned::default(),
            norm_partials: Vec::new(),
            exchanged: Vec::new(),
            loss: 0.0,
            grad_norm: 0.0,
        }
    }
}

impl Backend for CpuBackend {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Cpu {
            weights: self.weight_type,
            threads: rayon::current_num_threads(),
            arithmetic: self.arithmetic,
        }
    }

    fn describe(&self) -> String {
        match (self.arithmetic, Arithmetic::fastest()) {
            (Arithmetic::F32, _) => "CPU, f32".into(),
            (Arithmetic::Bf16, Arithmetic::Bf16) => {
                "CPU, bf16 with sums in f32 (--precision f32 is more exact and slower)".into()
            }
            (Arithmetic::Bf16, Arithmetic::F32) => {
                "CPU, bf16 without bf16 instructions: f32 is faster here".into()
            }
        }
    }

    fn upload(&mut self, name: &str, shape: MatrixShape, data: &[f32]) -> Result<WeightId> {
        self.weights.add(self.weight_type, name, shape, data)
    }

    fn resident(&mut self, name: &str, shape: MatrixShape) -> Option<WeightId> {
        self.weights.resident(self.weight_type, name, shape)
    }

    /// Reads the parameter vector itself; no copy exists.
    fn trained_matrix(
        &mut self,
        name: &str,
        shape: MatrixShape,
        range: ParamRange,
    ) -> Result<WeightId> {
        self.weights.add_trained(name, shape, range)
    }

    fn view_rows(&mut self, of: WeightId, rows: Range<usize>) -> Result<WeightId> {
        self.weights.view_rows(of, rows)
    }

    fn allocated(&self) -> Footprint {
        let params = &self.params;
        let floats = |v: &Vec<f32>| 4 * v.capacity();
        let vectors = [&params.value, &params.gradient, &params.moment1, &params.moment2];
        Footprint {
            weights: self.weights.bytes(),
            params: vectors.into_iter().map(floats).sum(),
            arena: self.arena.bytes(),
            batch: self.batch.bytes(),
            workspace: self.workers.bytes()
                + self.partials.bytes()
                + floats(&self.bias)
                + self.head_input.bytes()
                + 8 * self.norm_partials.capacity()
                + floats(&self.exchanged)
                + 4 * self.token_order.capacity(),
        }
    }

    fn allocate(&mut self, memory: Memory) -> Result<()> {
        let threads = rayon::current_num_threads();
        let sizes = HostSizes::new(&memory, threads, self.weights.train());
        self.arena = Arena::allocate(sizes.arena)?;
        self.params = HostParams::new(sizes.params, sizes.trainable, sizes.with_gradient)?;
        self.workers = Workers::new(sizes.threads, sizes.scratch, self.cores.clone())?;
        self.partials = Partials::new(sizes.partials)?;
        self.bias = filled(0.0, sizes.bias, "a bias")?;
        self.token_order = room(sizes.token_order, "the order of tokens")?;
        self.head_input = Aligned::new(sizes.head_input, 0.0, "the head's input")?;
        self.norm_partials = filled(0.0, sizes.norm_partials, "partial sums")?;
        self.exchanged = filled(0.0, sizes.exchanged, "gradients for other ranks")?;
        self.batch = HostBatch::new(&memory)?;
        self.memory = memory;
        Ok(())
    }

    fn set_batch(&mut self, batch: &Batch, key: DropoutKey) -> Result<()> {
        self.batch.set(batch, &self.memory)?;
        self.key = key;
        Ok(())
    }

    fn read_params(&self, slot: Slot, range: ParamRange) -> Result<Vec<f32>> {
        copied(read(self.params.slot(slot), range)?, "parameters")
    }

    fn write_params(&mut self, slot: Slot, range: ParamRange, values: &[f32]) -> Result<()> {
        wide(range, values.len(), "a parameter range")?;
        write(self.params.slot_mut(slot), range)?.copy_from_slice(values);
        Ok(())
    }

    fn read(&self, region: Region, stored: Storage, len: usize) -> Result<Vec<f32>> {
        match self.arithmetic.stored(stored) {
            Stored::Bf16 => {
                let mut out = filled(0.0, len, "what is read of the arena")?;
                let halves = Source::new(Stored::Bf16, self.arena.read(region, len.div_ceil(2))?)?;
                halves.copy(0, &mut out);
                Ok(out)
            }
            _ => copied(self.arena.read(region, len)?, "what is read of the arena"),
        }
    }

    fn write(&mut self, region: Region, stored: Storage, values: &[f32]) -> Result<()> {
        let (stored, words) = match self.arithmetic.stored(stored) {
            Stored::Bf16 => (Stored::Bf16, values.len().div_ceil(2)),
            _ => (Stored::F32, values.len()),
        };
        let [out] = self.arena.regions([(Some(region), words)])?;
        // SAFETY: nobody else is working.
        unsafe { Elements::new(stored, out)?.write(0, values) };
        Ok(())
    }

    fn run(&mut self, program: &Program, span: Span, numbers: Numbers) -> Result<()> {
        run::run(self, program, span, numbers)
    }

    fn run_timed(
        &mut self,
        program: &Program,
        span: Span,
        numbers: Numbers,
        _tile: Option<&str>,
    ) -> Result<Vec<Piece>> {
        run::run_timed(self, program, span, numbers)
    }

    fn report_later(&mut self) -> Result<PendingReport> {
        Ok(PendingReport::Ready(StepReport {
            loss: self.loss as f32,
            grad_norm: self.grad_norm,
            overflow: false,
        }))
    }

    fn exchange(
        &mut self,
        beside: f32,
        sum: &mut dyn FnMut(&mut [f32]) -> Result<()>,
    ) -> Result<f32> {
        let trainable = self.params.moment1.len();
        ensure!(self.exchanged.len() == trainable + 2, "no memory was allocated for an exchange");
        let (gradient, numbers) = self.exchanged.split_at_mut(trainable);
        gradient.copy_from_slice(&self.params.gradient[..trainable]);
        numbers.copy_from_slice(&[self.loss as f32, beside]);
        sum(&mut self.exchanged)?;
        let (gradient, numbers) = self.exchanged.split_at(trainable);
        self.params.gradient[..trainable].copy_from_slice(gradient);
        self.loss = numbers[0].into();
        Ok(numbers[1])
    }
}
