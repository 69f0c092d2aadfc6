//! The flat parameter vector on the device, with gradient and moments for its trainable part. The step's state lies
//! before the gradient, so that clearing once begins a step.
//!
//! Kernels read biases and gains four at a time, from 16-byte boundaries: the model's vector aligns what is frozen
//! there, whatever the size of the task head before it ([`crate::model::params`]).

use super::args::{AdamWArgs, StepOutcome, StepState};
use super::device::Device;
use super::memory::{Address, Buffer};
use crate::backend::{Memory, Slot};
use crate::program::ParamRange;
use anyhow::{Result, ensure};
use cudarc::driver::CudaStream;
use std::mem::offset_of;
use std::ops::Range;
use std::sync::Arc;

const F32: usize = size_of::<f32>();
/// Bytes before the gradient.
const STATE: usize = size_of::<StepState>();

#[derive(Debug)]
pub struct DeviceParams {
    value: Buffer,
    /// Preceded by a [`StepState`].
    gradient: Buffer,
    moment1: Buffer,
    moment2: Buffer,
    params: usize,
    trainable: usize,
    with_gradient: usize,
}

impl DeviceParams {
    /// All zeros, including the state.
    pub fn new(device: &Device, memory: &Memory) -> Result<Self> {
        let Memory { params, trainable, with_gradient, .. } = *memory;
        let [value, gradient, moment1, moment2] = Self::sizes(memory);
        Ok(Self {
            value: Buffer::zeroed(device, "parameters", value)?,
            gradient: Buffer::zeroed(device, "parameter gradients", gradient)?,
            moment1: Buffer::zeroed(device, "first moments", moment1)?,
            moment2: Buffer::zeroed(device, "second moments", moment2)?,
            params,
            trainable,
            with_gradient,
        })
    }

    /// Bytes of values, gradient and both moments.
    pub fn sizes(memory: &Memory) -> [usize; 4] {
        let moment = memory.trainable * F32;
        [memory.params * F32, STATE + memory.with_gradient * F32, moment, moment]
    }

    /// The gradient, `[trainable]`, and the step's loss: the buffer that holds them, and the byte range of each.
    pub fn exchanged(&mut self) -> (&mut Buffer, [Range<usize>; 2]) {
        let loss = offset_of!(StepState, now.loss);
        (&mut self.gradient, [STATE..STATE + self.trainable * F32, loss..loss + F32])
    }

    /// The buffer that begins with the step's state.
    pub fn state_buffer(&self) -> &Buffer {
        &self.gradient
    }

    pub fn state(&self) -> Result<Address> {
        self.gradient.at(0, STATE)
    }

    pub fn read_state(&self) -> Result<StepState> {
        let state: Vec<StepState> = self.gradient.read(0, 1)?;
        Ok(state[0])
    }

    pub fn write_state(&mut self, state: StepState) -> Result<()> {
        self.gradient.write(0, &[state])
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        [&self.value, &self.gradient, &self.moment1, &self.moment2].map(Buffer::bytes).iter().sum()
    }

    pub fn read(&self, slot: Slot, range: ParamRange) -> Result<Vec<f32>> {
        self.check(slot, range)?;
        self.slot(slot).read::<f32>(Self::before(slot) + range.offset * F32, range.len)
    }

    pub fn write(&mut self, slot: Slot, range: ParamRange, values: &[f32]) -> Result<()> {
        self.check(slot, range)?;
        ensure!(values.len() == range.len, "{} values for {} parameters", values.len(), range.len);
        let buffer = match slot {
            Slot::Value => &mut self.value,
            Slot::Gradient => &mut self.gradient,
            Slot::Moment1 => &mut self.moment1,
            Slot::Moment2 => &mut self.moment2,
        };
        buffer.write(Self::before(slot) + range.offset * F32, values)
    }

    /// See [`Zero`](crate::program::Zero): makes `stream` clear the gradients and the step's outcome. Nothing needs the
    /// zeros before the loss, so this overlaps the forward pass.
    pub fn begin_step(&mut self, stream: &Arc<CudaStream>) -> Result<()> {
        let from = offset_of!(StepState, now);
        self.gradient.clear_on(stream, from, STATE - from + self.with_gradient * F32)
    }

    /// The address of a parameter, which must have `len` elements.
    pub fn value(&self, range: ParamRange, len: usize) -> Result<Address> {
        ensure!(range.len == len, "a parameter of {} elements where {len} are needed", range.len);
        self.check(Slot::Value, range)?;
        self.value.at(range.offset * F32, range.len * F32)
    }

    /// The whole vector.
    pub fn whole(&self) -> Result<Address> {
        self.value.at(0, self.params * F32)
    }

    pub fn gradient(&self, range: ParamRange) -> Result<Address> {
        self.check(Slot::Gradient, range)?;
        self.gradient.at(STATE + range.offset * F32, range.len * F32)
    }

    /// The loss of the step so far.
    pub fn loss(&self) -> Result<Address> {
        let place = offset_of!(StepState, now) + offset_of!(StepOutcome, loss);
        self.gradient.at(place, F32)
    }

    /// The gradient and its length.
    pub fn whole_gradient(&self) -> Result<(Address, usize)> {
        Ok((self.gradient.at(STATE, self.trainable * F32)?, self.trainable))
    }

    pub fn adamw_args(&self, numbers: Address) -> Result<AdamWArgs> {
        let bytes = self.trainable * F32;
        Ok(AdamWArgs {
            value: self.value.at(0, bytes)?,
            gradient: self.gradient.at(STATE, bytes)?,
            moment1: self.moment1.at(0, bytes)?,
            moment2: self.moment2.at(0, bytes)?,
            state: self.state()?,
            numbers,
            count: self.trainable as u64,
        })
    }

    fn slot(&self, slot: Slot) -> &Buffer {
        match slot {
            Slot::Value => &self.value,
            Slot::Gradient => &self.gradient,
            Slot::Moment1 => &self.moment1,
            Slot::Moment2 => &self.moment2,
        }
    }

    /// Bytes before the slot's first number.
    fn before(slot: Slot) -> usize {
        if slot == Slot::Gradient { STATE } else { 0 }
    }

    fn check(&self, slot: Slot, range: ParamRange) -> Result<()> {
        let len = match slot {
            Slot::Value => self.params,
            Slot::Gradient => self.with_gradient,
            Slot::Moment1 | Slot::Moment2 => self.trainable,
        };
        let end = range.offset.checked_add(range.len);
        ensure!(
            end.is_some_and(|end| end <= len),
            "parameters {}..{}+{} lie outside the {len} of {slot:?}",
            range.offset,
            range.offset,
            range.len
        );
        Ok(())
    }
}
