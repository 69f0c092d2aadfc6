//! What [`Backend::allocate`](crate::backend::Backend::allocate) makes: all memory except the frozen matrices, and the
//! addresses of what an operation names in it.

use super::LossScale;
use super::args::*;
use super::batch::DeviceBatch;
use super::branch::Branch;
use super::device::Device;
use super::graph::Graphs;
use super::memory::{Address, Buffer, out_of_memory};
use super::params::DeviceParams;
use super::pinned::{Downloads, Exchange};
use super::sizes::DeviceSizes;
use crate::backend::{Footprint, Memory};
use crate::program::{Region, Rows};
use anyhow::{Result, bail, ensure};
use bytemuck::Zeroable;
use std::sync::Arc;

#[derive(Debug)]
pub struct Allocated {
    pub arena: Buffer,
    pub batch: DeviceBatch,
    pub params: DeviceParams,
    pub reports: Downloads,
    /// Whether an update has ended the last step that began or had a loss.
    pub ended: bool,
    pub graphs: Graphs,
    pub branch: Arc<Branch>,
    /// f32: partial column sums.
    partial: Buffer,
    /// f32: attention's row sums of P ∘ dP.
    pub delta: Buffer,
    /// The count of partial sums of the gradient norm, followed by the sums, in f64.
    pub norm: Buffer,
    /// If the run has several ranks.
    pub exchange: Option<Exchange>,
}

impl Drop for Allocated {
    fn drop(&mut self) {
        // Recordings use all of it, and may still be running.
        self.arena.device().settle();
    }
}

impl Allocated {
    /// # Errors
    /// If the device has too little memory: the message says how many tokens per batch would fit.
    pub fn new(device: &Device, memory: Memory, loss_scale: LossScale) -> Result<Self> {
        let sizes = DeviceSizes::new(&memory);
        device.trim()?;
        let (free, _) = device.stream.context().mem_get_info()?;
        let total = sizes.footprint().total();
        if total > free {
            let fixed = total - sizes.by_tokens();
            // Slightly below the exact share, to leave room for what the driver keeps for itself.
            let share = free.saturating_sub(fixed) as f64 / sizes.by_tokens() as f64 * 0.95;
            let fits = (memory.limits.tokens as f64 * share) as usize;
            bail!(out_of_memory(device, "run", total, Some(fits)));
        }
        let (scale, growth_interval) = match loss_scale {
            LossScale::Fixed(scale) => (scale, 0),
            LossScale::Dynamic { initial, growth_interval } => (initial, growth_interval),
        };
        let mut params = DeviceParams::new(device, &memory)?;
        params.write_state(StepState {
            scale,
            inverse_scale: 1.0 / scale,
            growth_interval,
            ..Zeroable::zeroed()
        })?;
        Ok(Self {
            arena: Buffer::new(device, "activation arena", sizes.arena)?,
            batch: DeviceBatch::new(device, memory)?,
            params,
            reports: Downloads::new(device, size_of::<StepOutcome>() / 4)?,
            ended: false,
            graphs: Graphs::default(),
            branch: Arc::new(Branch::new(device)?),
            partial: Buffer::new(device, "partial column sums", sizes.partial)?,
            delta: Buffer::new(device, "attention statistics", sizes.delta)?,
            norm: Buffer::zeroed(device, "gradient norm", sizes.norm)?,
            exchange: match memory.exchanged {
                0 => None,
                numbers => Some(Exchange::new(device, numbers)?),
            },
        })
    }

    /// Zeroes the arena.
    pub fn clear_arena(&mut self, device: &Device) -> Result<()> {
        let bytes = self.arena.bytes();
        self.arena.clear_on(&device.stream, 0, bytes)
    }

    /// Bytes of every buffer, as allocated.
    pub fn footprint(&self) -> Footprint {
        Footprint {
            weights: 0,
            params: self.params.bytes(),
            arena: self.arena.bytes(),
            batch: self.batch.bytes(),
            workspace: [&self.partial, &self.delta, &self.norm].map(Buffer::bytes).iter().sum(),
        }
    }

    /// The first bytes of a region.
    pub fn bytes(&self, region: Region, count: usize) -> Result<Address> {
        ensure!(count <= region.len, "a region of {} bytes cannot hold {count}", region.len);
        ensure!(
            region.offset.is_multiple_of(16),
            "a region at byte {} is not aligned to 16",
            region.offset
        );
        self.arena.at(region.offset, count)
    }

    /// Rows for which launches and addresses are sized.
    pub fn rows(&self, rows: Rows) -> usize {
        self.batch.grid.limits().rows(rows)
    }

    pub fn state(&self) -> Result<Address> {
        self.params.state()
    }

    /// The number of f32 elements available for partial sums.
    pub fn partial_len(&self) -> usize {
        self.partial.bytes() / size_of::<f32>()
    }

    /// Room for `len` partial sums, starting `from` elements in.
    pub fn partial(&self, from: usize, len: usize) -> Result<Address> {
        ensure!(
            from + len <= self.partial_len(),
            "{len} partial sums exceed the {} allocated for: a tensor is wider than `Memory::widest`",
            self.partial_len()
        );
        self.partial.at(from * size_of::<f32>(), len * size_of::<f32>())
    }
}
