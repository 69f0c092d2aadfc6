//! Page-locked host memory, from and to which the device copies while the host goes on, and the events that say when
//! a copy is done.

use super::device::Device;
use super::memory::Buffer;
use anyhow::{Context, Result};
use bytemuck::Pod;
use cudarc::driver::sys::{CU_MEMHOSTALLOC_WRITECOMBINED, CUevent_flags};
use cudarc::driver::{CudaEvent, CudaStream, PinnedHostSlice};
use std::sync::Arc;

/// One page-locked buffer and the last copy that used it.
#[derive(Debug)]
struct Pinned {
    device: Device,
    words: PinnedHostSlice<u32>,
    /// Recorded after each copy: no other event knows of it, as event tracking is off.
    done: CudaEvent,
}

impl Pinned {
    fn new(device: &Device, words: usize, flags: u32) -> Result<Self> {
        let context = device.stream.context();
        // SAFETY: the memory is set to zero below, before anyone sees it.
        let allocated = unsafe { context.alloc_pinned_with_flags::<u32>(words.max(1), flags) };
        let mut words = allocated
            .with_context(|| format!("cannot allocate {} bytes of pinned memory", words * 4))?;
        words.as_mut_slice()?.fill(0);
        // The host sleeps while it waits: the processor is there for the next batch.
        let done = context.new_event(Some(CUevent_flags::CU_EVENT_BLOCKING_SYNC))?;
        Ok(Self { device: device.clone(), words, done })
    }

    /// Waits until no copy uses the buffer.
    fn wait(&self) -> Result<()> {
        self.done.synchronize().context("waiting for a copy between host and device")
    }

    fn record(&self) -> Result<()> {
        self.record_on(&self.device.stream)
    }

    fn record_on(&self, stream: &CudaStream) -> Result<()> {
        self.done.record(stream).context("cannot record an event")
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // The memory must outlive a copy under way, on whichever stream, also one after which no event could be recorded.
        self.device.settle();
    }
}

/// Two buffers from which uploads take turns, so that one can be filled while the other's copy waits for the device.
#[derive(Debug)]
pub struct Uploads {
    halves: [Pinned; 2],
    next: usize,
}

impl Uploads {
    pub fn new(device: &Device, words: usize) -> Result<Self> {
        let half = || Pinned::new(device, words, CU_MEMHOSTALLOC_WRITECOMBINED);
        Ok(Self { halves: [half()?, half()?], next: 0 })
    }

    /// Lets `fill` write all words and starts their copy to the start of `to`, ordered as everything else on the
    /// stream is. Waits only where both buffers are under way.
    pub fn send(&mut self, to: &mut Buffer, fill: impl FnOnce(&mut [u32])) -> Result<()> {
        let half = self.filled(fill)?;
        to.start_write_on(&half.device.stream, 0, half.words.as_slice()?)?;
        half.record()
    }

    /// The buffer whose turn it is, filled.
    fn filled(&mut self, fill: impl FnOnce(&mut [u32])) -> Result<&mut Pinned> {
        let half = &mut self.halves[self.next];
        half.wait()?;
        fill(half.words.as_mut_slice()?);
        self.next = 1 - self.next;
        Ok(half)
    }
}

/// Uploads that run beside what the device is busy with: a stream of their own fills a second buffer on the device, and
/// the stream of the operations takes it from there when it gets to it.
///
/// Two events keep the order: a buffer's `done` before it is taken, and `taken` before the next upload fills it.
#[derive(Debug)]
pub struct UploadsBeside {
    pinned: Uploads,
    stream: Arc<CudaStream>,
    staging: Buffer,
    /// Recorded after each copy out of `staging`.
    taken: CudaEvent,
}

impl UploadsBeside {
    pub fn new(device: &Device, words: usize) -> Result<Self> {
        let context = device.stream.context();
        let taken = context.new_event(None)?;
        let staging = Buffer::new(device, "next batch", words * 4)?;
        // The memory is there once the operations' stream has come this far.
        taken.record(&device.stream)?;
        Ok(Self {
            pinned: Uploads::new(device, words)?,
            stream: context.new_stream()?,
            staging,
            taken,
        })
    }

    /// Bytes allocated on the device.
    pub fn bytes(&self) -> usize {
        self.staging.bytes()
    }

    /// Lets `fill` write all words and starts their way to the start of `to`, where everything launched later finds them
    /// and nothing launched earlier does. Waits only where both page-locked buffers are under way.
    pub fn send(&mut self, to: &mut Buffer, fill: impl FnOnce(&mut [u32])) -> Result<()> {
        let failed = "cannot order an upload";
        let half = self.pinned.filled(fill)?;
        self.stream.wait(&self.taken).context(failed)?;
        self.staging.start_write_on(&self.stream, 0, half.words.as_slice()?)?;
        half.record_on(&self.stream)?;
        let operations = &half.device.stream;
        operations.wait(&half.done).context(failed)?;
        to.copy_from(&self.staging)?;
        self.taken.record(operations).context(failed)
    }
}

/// One buffer through which numbers leave the device and come back to it.
#[derive(Debug)]
pub struct Exchange {
    through: Pinned,
}

impl Exchange {
    /// For so many numbers of 32 bits.
    pub fn new(device: &Device, numbers: usize) -> Result<Self> {
        Ok(Self { through: Pinned::new(device, numbers, 0)? })
    }

    /// Copies the start of each buffer, so many numbers of it, one after another; waits for them; lets `change` work on all
    /// and on what of the numbers is left behind them; and starts their way back.
    pub fn pass(
        &mut self,
        buffers: [(&mut Buffer, usize); 2],
        change: impl FnOnce(&mut [f32]) -> Result<()>,
    ) -> Result<()> {
        let Pinned { device, words, done } = &mut self.through;
        done.synchronize().context("waiting for a copy between host and device")?;
        let numbers: &mut [f32] = bytemuck::cast_slice_mut(words.as_mut_slice()?);
        let mut at = 0;
        for (buffer, count) in &buffers {
            buffer.start_read(0, bytemuck::cast_slice_mut(&mut numbers[at..at + count]))?;
            at += count;
        }
        done.record(&device.stream).context("cannot record an event")?;
        done.synchronize().context("waiting for a copy between host and device")?;
        change(numbers)?;
        let mut at = 0;
        for (buffer, count) in buffers {
            buffer.start_write_on(&device.stream, 0, &numbers[at..at + count])?;
            at += count;
        }
        done.record(&device.stream).context("cannot record an event")
    }
}

/// Two buffers for copies from the device that are read later.
#[derive(Debug)]
pub struct Downloads {
    halves: [Pinned; 2],
    next: usize,
}

impl Downloads {
    pub fn new(device: &Device, words: usize) -> Result<Self> {
        let half = || Pinned::new(device, words, 0);
        Ok(Self { halves: [half()?, half()?], next: 0 })
    }

    /// Starts a copy of the start of `from`; returns the slot to read it from. A slot is used again two calls later.
    pub fn fetch(&mut self, from: &Buffer) -> Result<usize> {
        let slot = self.next;
        let half = &mut self.halves[slot];
        half.wait()?;
        from.start_read(0, bytemuck::cast_slice_mut(half.words.as_mut_slice()?))?;
        half.record()?;
        self.next = 1 - slot;
        Ok(slot)
    }

    /// Waits for a slot's copy and reads it.
    pub fn read<T: Pod>(&self, slot: usize) -> Result<T> {
        let half = self.halves.get(slot).context("no such download")?;
        half.wait()?;
        let bytes: &[u8] = bytemuck::cast_slice(half.words.as_slice()?);
        Ok(bytemuck::pod_read_unaligned(&bytes[..size_of::<T>()]))
    }
}
