//! Device memory: allocations that know their bounds, and addresses checked against them.

use super::device::Device;
use anyhow::{Context, Result, bail, ensure};
use bytemuck::Pod;
use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DriverError};
use std::sync::Arc;

/// An address on the device, checked against its allocation when created; 0 is null.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Address(u64);

impl Address {
    pub const NULL: Self = Self(0);

    /// In the driver's form.
    pub fn bits(self) -> u64 {
        self.0
    }
}

/// One allocation.
#[derive(Debug)]
pub struct Buffer {
    device: Device,
    slice: CudaSlice<u8>,
    start: u64,
    what: &'static str,
}

impl Buffer {
    /// Allocates without initialising: everything must be written before it is read.
    pub fn new(device: &Device, what: &'static str, bytes: usize) -> Result<Self> {
        let size = Self::size(bytes);
        // SAFETY: the memory is unset; kernels write what they read, and the host reads through `read`, whose element
        // types accept any bits.
        let slice = match unsafe { device.stream.alloc::<u8>(size) } {
            Ok(slice) => slice,
            Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                bail!(out_of_memory(device, what, bytes, None))
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot allocate {what} ({bytes} bytes)"));
            }
        };
        let (start, guard) = slice.device_ptr(&device.stream);
        drop(guard);
        Ok(Self { device: device.clone(), slice, start, what })
    }

    /// Bytes allocated for a request of `bytes`.
    pub const fn size(bytes: usize) -> usize {
        // The driver rejects empty allocations.
        if bytes > 16 { bytes } else { 16 }
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.slice.len()
    }

    /// Allocates zeros.
    pub fn zeroed(device: &Device, what: &'static str, bytes: usize) -> Result<Self> {
        let mut buffer = Self::new(device, what, bytes)?;
        buffer.clear_on(&device.stream, 0, bytes)?;
        Ok(buffer)
    }

    /// The address of `bytes` bytes at `offset`.
    pub fn at(&self, offset: usize, bytes: usize) -> Result<Address> {
        self.check(offset, bytes)?;
        Ok(Address(self.start + offset as u64))
    }

    /// Copies to the device and waits: the values may be reused at once, in any kind of memory.
    pub fn write<T: Pod>(&mut self, offset: usize, values: &[T]) -> Result<()> {
        let stream = Arc::clone(&self.device.stream);
        self.start_write_on(&stream, offset, values)?;
        stream.synchronize().with_context(|| format!("cannot write the {}", self.what))
    }

    /// Starts a copy to the device; the values must stay until an event says that it is done (`pinned`). On a stream
    /// other than the device's, the caller orders it with other uses of the buffer.
    pub fn start_write_on<T: Pod>(
        &mut self,
        stream: &Arc<CudaStream>,
        offset: usize,
        values: &[T],
    ) -> Result<()> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        self.check(offset, bytes.len())?;
        if bytes.is_empty() {
            return Ok(());
        }
        let mut target = self.slice.slice_mut(offset..offset + bytes.len());
        stream
            .memcpy_htod(bytes, &mut target)
            .with_context(|| format!("cannot copy {} bytes to the {}", bytes.len(), self.what))
    }

    /// Waits for the device and copies from it.
    pub fn read<T: Pod>(&self, offset: usize, count: usize) -> Result<Vec<T>> {
        let mut values = vec![T::zeroed(); count];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
        self.check(offset, bytes.len())?;
        if bytes.is_empty() {
            return Ok(values);
        }
        let stream = Arc::clone(&self.device.stream);
        self.start_read_on(&stream, offset, bytes)?;
        let n = values.len() * size_of::<T>();
        stream
            .synchronize()
            .with_context(|| format!("cannot read {n} bytes of the {}", self.what))?;
        Ok(values)
    }

    /// Copies from the device. Into pinned memory the copy continues after the call; into other memory it is complete.
    /// On a stream other than the device's, the caller orders it with other uses of the buffer.
    pub fn start_read_on(
        &self,
        stream: &Arc<CudaStream>,
        offset: usize,
        bytes: &mut [u8],
    ) -> Result<()> {
        self.check(offset, bytes.len())?;
        let n = bytes.len();
        let source = self.slice.slice(offset..offset + n);
        stream
            .memcpy_dtoh(&source, bytes)
            .with_context(|| format!("cannot read {n} bytes of the {}", self.what))
    }

    /// Zeroes bytes. On a stream other than the device's, the caller orders it with other uses of the buffer.
    pub fn clear_on(
        &mut self,
        stream: &Arc<CudaStream>,
        offset: usize,
        bytes: usize,
    ) -> Result<()> {
        self.check(offset, bytes)?;
        if bytes == 0 {
            return Ok(());
        }
        let mut target = self.slice.slice_mut(offset..offset + bytes);
        stream
            .memset_zeros(&mut target)
            .with_context(|| format!("cannot clear {bytes} bytes of the {}", self.what))
    }

    fn check(&self, offset: usize, bytes: usize) -> Result<()> {
        let end = offset.checked_add(bytes);
        ensure!(
            end.is_some_and(|end| end <= self.slice.len()),
            "bytes {offset}..{offset}+{bytes} lie outside the {} of {} bytes",
            self.what,
            self.slice.len()
        );
        Ok(())
    }
}

/// The message if `wanted` bytes for `what` are not available; `fits` tokens per batch would be.
pub fn out_of_memory(device: &Device, what: &str, wanted: usize, fits: Option<usize>) -> String {
    let mib = |bytes: usize| bytes.div_ceil(1 << 20);
    let (free, total) = device
        .stream
        .context()
        .mem_get_info()
        .unwrap_or((device.info.free_memory, device.info.total_memory));
    let advice = match fits {
        None => "use fewer tokens or sequences per batch".to_owned(),
        Some(0) => "not even one token would fit: use another device, or the CPU".to_owned(),
        Some(tokens) => format!("{tokens} tokens per batch would fit"),
    };
    format!(
        "out of memory on CUDA device {} ({}): the {what} needs {} MiB, and {} of {} MiB are free; {advice}",
        device.info.index,
        device.info.name,
        mib(wanted),
        mib(free),
        mib(total)
    )
}
