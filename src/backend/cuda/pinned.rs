//! Page-locked host memory, for copies that run while the host continues, and the events that say when a copy is
//! done.

use super::device::Device;
use super::memory::Buffer;
use anyhow::{Context, Result};
use bytemuck::Pod;
use cudarc::driver::sys::{CU_MEMHOSTALLOC_WRITECOMBINED, CUevent_flags};
use cudarc::driver::{CudaEvent, CudaStream, PinnedHostSlice};
use std::ops::Range;
use std::sync::Arc;

const UNORDERED: &str = "cannot order a copy among the operations";

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

    /// The buffer whose turn it is, filled. Waits only where both are under way.
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
/// Two events keep the order: `arrived` before it is taken, and `taken` before the next upload fills it.
#[derive(Debug)]
pub struct UploadsBeside {
    stream: Arc<CudaStream>,
    staging: Buffer,
    /// Recorded after the last upload.
    arrived: CudaEvent,
    /// Recorded after each copy out of `staging`.
    taken: CudaEvent,
    /// Something was sent that was not taken yet.
    waiting: bool,
}

impl UploadsBeside {
    /// For so many words, of which `first` are there from the start.
    pub fn new(device: &Device, words: usize, first: &[u32]) -> Result<Self> {
        let context = device.stream.context();
        let (arrived, taken) = (context.new_event(None)?, context.new_event(None)?);
        let mut staging = Buffer::new(device, "next batch", words * 4)?;
        staging.write(0, first)?;
        // The memory is there once the operations' stream has come this far.
        taken.record(&device.stream)?;
        Ok(Self { stream: context.new_stream()?, staging, arrived, taken, waiting: true })
    }

    /// Bytes allocated on the device.
    pub fn bytes(&self) -> usize {
        self.staging.bytes()
    }

    /// Lets `fill` write all words of a page-locked buffer and starts their way to [`UploadsBeside::take`], from word `at` of
    /// all on. Waits only where both of these buffers are under way.
    pub fn send(
        &mut self,
        from: &mut Uploads,
        at: usize,
        fill: impl FnOnce(&mut [u32]),
    ) -> Result<()> {
        let half = from.filled(fill)?;
        self.stream.wait(&self.taken).context(UNORDERED)?;
        self.staging.start_write_on(&self.stream, at * 4, half.words.as_slice()?)?;
        half.record_on(&self.stream)?;
        self.waiting = true;
        Ok(())
    }

    /// Copies all that was sent to `to`, if anything was: everything launched later finds it there, and nothing launched
    /// earlier does.
    pub fn take(&mut self, to: &mut Buffer) -> Result<()> {
        if !std::mem::take(&mut self.waiting) {
            return Ok(());
        }
        let operations = Arc::clone(&to.device().stream);
        self.arrived.record(&self.stream).context(UNORDERED)?;
        operations.wait(&self.arrived).context(UNORDERED)?;
        to.copy_from(&self.staging)?;
        self.taken.record(&operations).context(UNORDERED)
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

    /// Copies these bytes of a buffer, one part after another; waits for them; lets `change` work on all numbers and on what
    /// is left behind them; and starts their way back.
    pub fn pass(
        &mut self,
        buffer: &mut Buffer,
        parts: [Range<usize>; 2],
        change: impl FnOnce(&mut [f32]) -> Result<()>,
    ) -> Result<()> {
        let Pinned { device, words, done } = &mut self.through;
        done.synchronize().context("waiting for a copy between host and device")?;
        let numbers: &mut [f32] = bytemuck::cast_slice_mut(words.as_mut_slice()?);
        let mut at = 0;
        for part in &parts {
            let to = &mut numbers[at..at + part.len() / 4];
            at += to.len();
            buffer.start_read_on(&device.stream, part.start, bytemuck::cast_slice_mut(to))?;
        }
        done.record(&device.stream).context("cannot record an event")?;
        done.synchronize().context("waiting for a copy between host and device")?;
        change(numbers)?;
        let mut at = 0;
        for part in &parts {
            let from = &numbers[at..at + part.len() / 4];
            at += from.len();
            buffer.start_write_on(&device.stream, part.start, from)?;
        }
        done.record(&device.stream).context("cannot record an event")
    }
}

/// Two buffers for copies from the device that are read later.
#[derive(Debug)]
pub struct Downloads {
    halves: [Pinned; 2],
    next: usize,
    stream: Arc<CudaStream>,
    /// What is copied beside the operations is there.
    ready: CudaEvent,
}

impl Downloads {
    pub fn new(device: &Device, words: usize) -> Result<Self> {
        let half = || Pinned::new(device, words, 0);
        let context = device.stream.context();
        let (stream, ready) = (context.new_stream()?, context.new_event(None)?);
        Ok(Self { halves: [half()?, half()?], next: 0, stream, ready })
    }

    /// The slot that the next copy goes to.
    pub fn next(&self) -> usize {
        self.next
    }

    /// Keeps what is launched from here on behind the copy that was last made to the next slot.
    pub fn let_next_be_read(&self) -> Result<()> {
        let Pinned { device, done, .. } = &self.halves[self.next];
        device.stream.wait(done).context(UNORDERED)
    }

    /// Starts a copy of all words from byte `at` of `from` on; returns the slot to read it from. A slot is used again two
    /// calls later. A copy `beside` the operations goes on while later ones run.
    pub fn fetch(&mut self, from: &Buffer, at: usize, beside: bool) -> Result<usize> {
        let slot = self.next;
        let half = &mut self.halves[slot];
        half.wait()?;
        let operations = Arc::clone(&half.device.stream);
        let stream = if beside { &self.stream } else { &operations };
        self.ready.record(&operations).context(UNORDERED)?;
        stream.wait(&self.ready).context(UNORDERED)?;
        from.start_read_on(stream, at, bytemuck::cast_slice_mut(half.words.as_mut_slice()?))?;
        half.record_on(stream)?;
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
