//! The CUDA backend: hand-written kernels, 16-bit activations, matrices in 16, 8 or 4 bits, f32 arithmetic and
//! parameters.
//!
//! Operations run on one stream in call order, except for what is not needed yet and what leaves most of a device idle
//! (`apart`); the host waits only when it reads. What a kernel needs in addition to its operands (partial column sums,
//! attention's delta) is allocated once with the arena. A span of a program (`run`, `graph`) is recorded once per
//! bucket of batches and then replayed. Batches are uploaded and reports downloaded through pinned memory (`pinned`) on
//! separate streams, while steps and host continue.
//!
//! In f16 the gradients that flow through the encoder are multiplied by a loss scale, so that small ones do not vanish:
//! [`PoolBack`](crate::program::PoolBack) or [`DenseBack`](crate::program::DenseBack) applies it and each bias gradient
//! removes it again, so the parameter gradients are always the true ones. A step whose gradient overflowed is skipped
//! on the device, which also adapts the scale.

mod act_norm;
mod activate;
mod allocated;
mod apart;
mod args;
mod attention;
mod batch;
mod branch;
mod classify;
mod column_sums;
mod columns;
pub mod device;
mod first_token;
mod graph;
mod head;
pub mod images;
mod kernels;
pub mod launch;
mod linear;
mod memory;
mod norm;
mod operands;
mod optim;
mod params;
mod pinned;
pub mod ring;
mod run;
mod scale;
mod sizes;
mod sparse;
mod stopwatch;
mod tensor_map;
pub mod tiles;
mod weight_gradients;
mod weights;

use super::{
    Backend, DeviceKind, DropoutKey, Footprint, LossScaling, MatrixShape, Memory, PendingReport,
    Resident, Slot, StepReport, WeightType,
};
use crate::backend::timing::{Piece, TiledProduct};
use crate::batch::Batch;
use crate::program::{Numbers, ParamRange, Program, Region, Rows, Span, Storage, WeightId};
use allocated::Allocated;
use anyhow::{Context, Result, ensure};
use args::Format;
use device::Device;
use kernels::{GemmKind, Kernels, Products};
use launch::Lane;
use ring::{LeftRows, RingSettings, VARIABLE};
pub use sizes::footprint;
use std::ops::Range;
use std::sync::Arc;
use tiles::{GemmTile, TileChoice};
use weights::DeviceMatrices;
pub use weights::Weight as DeviceMatrix;

/// Activations have 16 bits.
pub const ACTIVATION_BYTES: usize = 2;

/// The 16-bit type of activations and of matrices in products.
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

/// Factor on gradients held in 16 bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LossScale {
    Fixed(f32),
    /// Halved when a gradient is not finite, doubled after this many steps with finite ones.
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
    /// How frozen matrices are stored; 32-bit ones in 16 bits.
    pub weights: WeightType,
    pub loss_scale: LossScale,
    /// `None` chooses by shape and device.
    pub tile: Option<GemmTile>,
    /// Record each span of a program once per bucket of batches, and replay it.
    pub graphs: bool,
}

impl CudaOptions {
    /// The usual settings: dynamic loss scaling for f16, none for bf16.
    pub fn new(device: usize, half: HalfType) -> Self {
        Self {
            device,
            half,
            weights: WeightType::F16,
            loss_scale: match half {
                HalfType::F16 => LossScale::Dynamic { initial: 65_536.0, growth_interval: 2_000 },
                HalfType::Bf16 => LossScale::Fixed(1.0),
            },
            tile: None,
            graphs: true,
        }
    }
}

/// The encoder's operations on one GPU.
#[derive(Debug)]
pub struct CudaBackend {
    device: Device,
    kernels: Arc<Kernels>,
    tiles: Arc<TileChoice>,
    options: CudaOptions,
    ring: RingSettings,
    weights: DeviceMatrices,
    allocated: Option<Allocated>,
}

impl CudaBackend {
    /// Opens the device and loads every kernel.
    ///
    /// # Errors
    /// See [`Device::open`]; also if a kernel is missing or refused, or the value of `BITFIT_HOPPER` is wrong.
    pub fn new(options: CudaOptions) -> Result<Self> {
        let device = Device::open(options.device)?;
        let kernels = Arc::new(Kernels::load(&device, options.half, options.weights)?);
        let ring = RingSettings::told(kernels.products)?;
        let tiles = Arc::new(TileChoice::built_in(device.info.multiprocessors as usize)?);
        Ok(Self {
            weights: DeviceMatrices::new(options.half, options.weights, None),
            device,
            kernels,
            tiles,
            options,
            ring,
            allocated: None,
        })
    }

    /// The same with frozen matrices that other backends share.
    #[must_use]
    pub fn sharing(mut self, resident: Resident) -> Self {
        let CudaOptions { half, weights, .. } = self.options;
        self.weights = DeviceMatrices::new(half, weights, Some(resident));
        self
    }

    /// A second backend on the same device, with the same kernels but no matrices and no memory yet.
    pub fn another(&self, tile: Option<GemmTile>) -> Self {
        Self {
            weights: DeviceMatrices::new(self.options.half, self.options.weights, None),
            device: self.device.clone(),
            kernels: Arc::clone(&self.kernels),
            tiles: Arc::clone(&self.tiles),
            options: CudaOptions { tile, ..self.options },
            ring: self.ring,
            allocated: None,
        }
    }

    /// The same with settings for products on Hopper that replace those of `BITFIT_HOPPER`; to be called before memory is
    /// allocated.
    #[must_use]
    pub fn with_ring(mut self, ring: RingSettings) -> Self {
        self.ring = ring;
        self
    }

    /// The device in use.
    pub fn info(&self) -> &device::DeviceInfo {
        &self.device.info
    }

    /// Which kernels multiply by frozen matrices.
    pub fn products(&self) -> Products {
        self.kernels.products
    }

    /// Recordings since memory was allocated.
    pub fn recordings(&self) -> usize {
        self.allocated.as_ref().map_or(0, |m| m.graphs.len())
    }

    /// The kernels on the operations' stream.
    fn lane(&self) -> Lane<'_> {
        let (kernels, stream) = (&self.kernels, &self.device.stream);
        Lane { kernels, stream, ring: self.ring, early: false }
    }

    fn memory(&self) -> Result<&Allocated> {
        self.allocated.as_ref().context("the CUDA backend is used before its memory is allocated")
    }

    fn memory_mut(&mut self) -> Result<&mut Allocated> {
        self.allocated.as_mut().context("the CUDA backend is used before its memory is allocated")
    }

    /// A product of `[rows, columns, depth]` with a frozen matrix, and the tile to cut it into.
    fn linear(
        &self,
        kind: GemmKind,
        format: Format,
        sizes: [usize; 3],
    ) -> (TiledProduct, GemmTile) {
        let products = self.kernels.products;
        self.tiled(kind.kernel(products, format), sizes, products.tiles(format))
    }

    /// A product of `[rows, columns, depth]`, and which of the given tiles to cut it into.
    fn tiled(
        &self,
        kernel: String,
        sizes: [usize; 3],
        among: &[GemmTile],
    ) -> (TiledProduct, GemmTile) {
        let product = self.tiles.product(kernel, sizes);
        let told = self.options.tile.filter(|tile| among.contains(tile));
        let tile = told.unwrap_or_else(|| self.tiles.choose(&product, among));
        (product, tile)
    }
}

fn to_u32(value: usize) -> Result<u32> {
    u32::try_from(value).with_context(|| format!("{value} does not fit 32 bits"))
}

fn row_kind(rows: Rows) -> u32 {
    match rows {
        Rows::Tokens => args::ROWS_TOKENS,
        Rows::Sequences => args::ROWS_SEQUENCES,
        Rows::Labelled(_) => args::ROWS_LABELLED,
    }
}

/// Rows are read and written 16 bytes at a time.
fn check_width(width: usize, what: &str) -> Result<()> {
    ensure!(
        width > 0 && width.is_multiple_of(8),
        "{what} of {width}: the CUDA kernels need multiples of 8"
    );
    Ok(())
}

impl Backend for CudaBackend {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Cuda { weights: self.options.weights }
    }

    fn describe(&self) -> String {
        let info = &self.device.info;
        let (major, minor) = info.capability;
        let half = self.options.half;
        let told = self.ring.unusual().map_or(String::new(), |told| format!(", {VARIABLE}={told}"));
        format!(
            "cuda:{} ({}, compute capability {major}.{minor}, {half}{told})",
            info.index, info.name
        )
    }

    fn upload(&mut self, name: &str, shape: MatrixShape, data: &[f32]) -> Result<WeightId> {
        self.weights.upload(&self.device, name, shape, data)
    }

    fn resident(&mut self, name: &str, shape: MatrixShape) -> Option<WeightId> {
        self.weights.resident(&self.device, name, shape)
    }

    fn view_rows(&mut self, of: WeightId, rows: Range<usize>) -> Result<WeightId> {
        self.weights.view_rows(of, rows)
    }

    fn trained_matrix(
        &mut self,
        name: &str,
        shape: MatrixShape,
        range: ParamRange,
    ) -> Result<WeightId> {
        self.weights.add_trained(&self.device, name, shape, range)
    }

    fn allocated(&self) -> Footprint {
        let other = self.allocated.as_ref().map(Allocated::footprint);
        Footprint { weights: self.weights.bytes(), ..other.unwrap_or_default() }
    }

    fn allocate(&mut self, memory: Memory) -> Result<()> {
        // Free the memory of earlier programs first.
        self.allocated = None;
        let mut allocated = Allocated::new(&self.device, memory, self.options.loss_scale)?;
        if self.ring.left == LeftRows::Plain {
            // Products then also read rows that no batch may have written yet.
            allocated.clear_arena(&self.device)?;
        }
        self.allocated = Some(allocated);
        Ok(())
    }

    fn set_batch(&mut self, batch: &Batch, key: DropoutKey) -> Result<()> {
        self.memory_mut()?.batch.set(batch, key)
    }

    fn read_params(&self, slot: Slot, range: ParamRange) -> Result<Vec<f32>> {
        self.memory()?.params.read(slot, range)
    }

    fn write_params(&mut self, slot: Slot, range: ParamRange, values: &[f32]) -> Result<()> {
        if slot == Slot::Value {
            self.weights.check_trained(range, values)?;
        }
        self.memory_mut()?.params.write(slot, range, values)?;
        match slot {
            Slot::Value => weight_gradients::refresh(self),
            _ => Ok(()),
        }
    }

    fn read(&self, region: Region, stored: Storage, len: usize) -> Result<Vec<f32>> {
        let arena = &self.memory()?.arena;
        holds(region, stored, len)?;
        match stored {
            Storage::Activation | Storage::Stream => {
                let halves: Vec<u16> = arena.read(region.offset, len)?;
                Ok(weights::widen(self.options.half, &halves))
            }
            _ => arena.read(region.offset, len),
        }
    }

    fn write(&mut self, region: Region, stored: Storage, values: &[f32]) -> Result<()> {
        holds(region, stored, values.len())?;
        let half = self.options.half;
        let arena = &mut self.memory_mut()?.arena;
        match stored {
            Storage::Activation | Storage::Stream => {
                arena.write(region.offset, &weights::narrow(half, values))
            }
            _ => arena.write(region.offset, values),
        }
    }

    fn run(&mut self, program: &Program, span: Span, numbers: Numbers) -> Result<()> {
        run::run(self, program, span, numbers)
    }

    fn tiles(&self) -> &'static [&'static str] {
        &GemmTile::NAMES
    }

    fn run_timed(
        &mut self,
        program: &Program,
        span: Span,
        numbers: Numbers,
        tile: Option<&str>,
    ) -> Result<Vec<Piece>> {
        run::run_timed(self, program, span, numbers, tile)
    }

    fn report_later(&mut self) -> Result<PendingReport> {
        optim::report_later(self)
    }

    fn wait_report(&mut self, pending: PendingReport) -> Result<StepReport> {
        optim::wait_report(self, pending)
    }

    fn exchange(
        &mut self,
        beside: f32,
        sum: &mut dyn FnMut(&mut [f32]) -> Result<()>,
    ) -> Result<f32> {
        optim::exchange(self, beside, sum)
    }

    fn loss_scaling(&self) -> Result<Option<LossScaling>> {
        optim::loss_scaling(self)
    }

    fn set_loss_scaling(&mut self, scaling: LossScaling) -> Result<()> {
        optim::set_loss_scaling(self, scaling)
    }
}

fn holds(region: Region, stored: Storage, len: usize) -> Result<()> {
    let element = match stored {
        Storage::Activation | Storage::Stream => ACTIVATION_BYTES,
        _ => size_of::<f32>(),
    };
    ensure!(
        len * element <= region.len,
        "{len} elements of {element} bytes in a region of {} bytes",
        region.len
    );
    Ok(())
}
