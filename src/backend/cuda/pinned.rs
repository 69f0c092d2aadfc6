//! Page-locked host memory, for copies that run while the host continues, with events that say when a copy is done.

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
    /// Recorded after each copy: nothing else tracks it, as event tracking is off.
    done: CudaEvent,
}

impl Pinned {
    fn new(device: &Device, words: usize, flags: u32) -> Result<Self> {
        let context = device.stream.context();
        // SAFETY: the memory is zeroed below, before anyone sees it.
        let allocated = unsafe { context.alloc_pinned_with_flags::<u32>(words.max(1), flags) };
        let mut words = allocated
            .with_context(|| format!("cannot allocate {} bytes of pinned memory", words * 4))?;
        words.as_mut_slice()?.fill(0);
        // The host sleeps while it waits, leaving the processor free for the next batch.
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

    /// Starts to copy all of it to `buffer`, from word `at` on.
    fn start_upload(&self, buffer: &mut Buffer, at: usize, stream: &Arc<CudaStream>) -> Result<()> {
        buffer.start_write_on(stream, at * 4, self.words.as_slice()?)?;
        self.record_on(stream)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // The memory must outlive a copy in progress, on any stream, even one after which no event could be recorded.
        self.device.settle();
    }
}

/// Two alternating upload buffers, so that one can be filled while the other's copy waits for the device.
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

    /// The next buffer, filled. Waits only if both are in flight.
    fn filled(&mut self, fill: impl FnOnce(&mut [u32])) -> Result<&mut Pinned> {
        let half = &mut self.halves[self.next];
        half.wait()?;
        fill(half.words.as_mut_slice()?);
        self.next = 1 - self.next;
        Ok(half)
    }
}

/// Two equal buffers on the device. The operations read one of them, while a separate stream fills the other for the
/// operations after them. No copy is left for the operations' stream, but what is recorded for one buffer does not serve
/// the other.
///
/// Two events keep the order: `arrived` before the operations turn to a buffer, and `free` before an upload overwrites it.
#[derive(Debug)]
pub struct Alternating {
    stream: Arc<CudaStream>,
    halves: [Buffer; 2],
    /// The buffer that the operations read.
    turn: usize,
    /// Recorded after the last upload to the other one.
    arrived: CudaEvent,
    /// Recorded after the last operation that read the other one.
    free: CudaEvent,
    /// The other one has something that the operations have not turned to.
    waiting: bool,
}

impl Alternating {
    /// Two buffers of `words` words; the operations read the one that begins with `first`.
    pub fn new(device: &Device, words: usize, first: &[u32]) -> Result<Self> {
        let context = device.stream.context();
        let (arrived, free) = (context.new_event(None)?, context.new_event(None)?);
        let mut halves = [
            Buffer::new(device, "batch", words * 4)?,
            Buffer::new(device, "next batch", words * 4)?,
        ];
        halves[0].write(0, first)?;
        // The memory exists once the operations' stream has reached this point.
        free.record(&device.stream)?;
        let stream = context.new_stream()?;
        Ok(Self { stream, halves, turn: 0, arrived, free, waiting: false })
    }

    /// Bytes allocated on the device.
    pub fn bytes(&self) -> usize {
        self.halves.iter().map(Buffer::bytes).sum()
    }

    /// The buffer for what is launched now.
    pub fn current(&self) -> &Buffer {
        &self.halves[self.turn]
    }

    /// Which of the two that is.
    pub fn turn(&self) -> usize {
        self.turn
    }

    /// Whether something was sent for the next turn.
    pub fn waiting(&self) -> bool {
        self.waiting
    }

    /// Lets `fill` write all words of a page-locked buffer and starts their upload for the next turn, from word `at` on.
    /// Waits only if both of these page-locked buffers are in flight.
    pub fn send(
        &mut self,
        from: &mut Uploads,
        at: usize,
        fill: impl FnOnce(&mut [u32]),
    ) -> Result<()> {
        let half = from.filled(fill)?;
        self.stream.wait(&self.free).context(UNORDERED)?;
        half.start_upload(&mut self.halves[1 - self.turn], at, &self.stream)?;
        self.waiting = true;
        Ok(())
    }

    /// Everything launched later reads what was sent; nothing launched earlier does.
    pub fn advance(&mut self) -> Result<()> {
        let operations = Arc::clone(&self.current().device().stream);
        self.free.record(&operations).context(UNORDERED)?;
        self.arrived.record(&self.stream).context(UNORDERED)?;
        operations.wait(&self.arrived).context(UNORDERED)?;
        self.turn = 1 - self.turn;
        self.waiting = false;
        Ok(())
    }

    /// Like [`Alternating::send`], but to the current buffer: between the operations launched before and after.
    pub fn amend(
        &mut self,
        from: &mut Uploads,
        at: usize,
        fill: impl FnOnce(&mut [u32]),
    ) -> Result<()> {
        let half = from.filled(fill)?;
        let operations = Arc::clone(&self.current().device().stream);
        half.start_upload(&mut self.halves[self.turn], at, &operations)
    }
}

/// A buffer through which numbers leave the device and return to it.
#[derive(Debug)]
pub struct Exchange {
    through: Pinned,
}

impl Exchange {
    /// For this many 32-bit numbers.
    pub fn new(device: &Device, numbers: usize) -> Result<Self> {
        Ok(Self { through: Pinned::new(device, numbers, 0)? })
    }

    /// Copies these parts of a buffer, one after another, and waits for them; lets `change` work on the numbers and on
    /// what is left after them; then starts copying them back.
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
    /// What is copied concurrently with the operations is ready.
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

    /// Orders what is launched from now on after the last copy made to the next slot.
    pub fn let_next_be_read(&self) -> Result<()> {
        let Pinned { device, done, .. } = &self.halves[self.next];
        device.stream.wait(done).context(UNORDERED)
    }

    /// Starts a copy of all words from byte `at` of `from` on; returns the slot to read it from. A slot is reused two
    /// calls later. With `beside`, the copy runs concurrently with later operations.
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
