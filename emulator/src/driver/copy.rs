//! Copies: `cuMemcpy*`, one to three dimensions, blocking and in stream order.
//!
//! Page-locked memory is read and written when the copy's turn comes. For pageable host memory, a copy to the device
//! takes the bytes at the call, and a copy from the device waits for the stream and is done at return, as drivers do
//! and programs rely on. The documentation promises only that it *might* wait: with `CUDA_EMULATOR_DEFER_PAGEABLE=1`
//! such a copy, too, arrives only when something waits for the stream.

use std::ffi::c_uint;

use crate::memory::MemoryError;

use super::capture;
use super::copy_op::{CopyEnd, CopyOp};
use super::entry::api;
use super::error::{CudaResult, Error};
use super::op::StreamOp;
use super::queue::{submit, submit_and_wait, synchronize_stream};
use super::report;
use super::state::{Driver, driver};
use super::types::{DevicePtr, Handle, HostAddress, In, Memcpy2D, Memcpy3D};

/// `slices · pitch[1] + rows · pitch[0] + bytes`; a copy that exceeds the address space is invalid.
fn reach(slices: usize, rows: usize, pitch: [usize; 2], bytes: usize) -> CudaResult<usize> {
    let all = slices.checked_mul(pitch[1]).zip(rows.checked_mul(pitch[0]));
    let all = all.and_then(|(slices, rows)| slices.checked_add(rows)?.checked_add(bytes));
    all.filter(|&all| isize::try_from(all).is_ok()).ok_or(Error::INVALID_VALUE)
}

impl CopyOp {
    /// Checks device ends against their allocations: leaving one is an error of the call.
    fn check(&self, driver: &Driver, name: &str) -> CudaResult {
        for (place, pitch) in [(&self.from, self.from_pitch), (&self.to, self.to_pitch)] {
            if self.height > 1 && pitch[0] < self.width {
                return Err(report::refuse(
                    Error::INVALID_VALUE,
                    &format!("{name}: a pitch is less than the width"),
                ));
            }
            let extent = reach(self.depth - 1, self.height - 1, pitch, self.width)?;
            match place {
                CopyEnd::Device(address) => check_range(driver, name, *address, extent)?,
                CopyEnd::Host(address) if address.0 == 0 => return Err(Error::INVALID_VALUE),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Refuses a range that is not within one live allocation.
pub fn check_range(driver: &Driver, name: &str, address: DevicePtr, bytes: usize) -> CudaResult {
    let holds = driver.memory.find(address).is_some_and(|found| {
        address - found.base <= found.size && bytes as u64 <= found.size - (address - found.base)
    });
    if holds {
        return Ok(());
    }
    let nearest = driver.memory.nearest(address);
    let error = MemoryError::OutOfBounds { address, bytes: bytes as u64, nearest };
    Err(report::refuse(Error::INVALID_VALUE, &format!("{name}: {error}")))
}

/// A unified address: memory that the device knows, else pageable host memory.
fn unified(driver: &Driver, address: DevicePtr) -> CopyEnd {
    match driver.memory.find(address) {
        Some(_) => CopyEnd::Device(address),
        // Device addresses are where no host memory is, so a dangling one is recognised by its neighbours.
        None if driver
            .memory
            .nearest(address)
            .is_some_and(|n| address.abs_diff(n.base) < 1 << 32 && n.base >> 44 == 1) =>
        {
            CopyEnd::Device(address)
        }
        None => CopyEnd::Host(HostAddress(address as usize)),
    }
}

/// The blocking form: in the legacy default stream, done at return.
fn copy_now(name: &str, op: CopyOp) -> CudaResult {
    let driver = driver()?;
    driver.state().current()?;
    if op.is_empty() {
        return Ok(());
    }
    op.check(driver, name)?;
    match (&op.from, &op.to) {
        // Between device buffers even the blocking form does not wait (API synchronization behavior).
        (CopyEnd::Device(_), CopyEnd::Device(_)) => submit(Handle::NULL, StreamOp::Copy(op)),
        _ => submit_and_wait(Handle::NULL, StreamOp::Copy(op)),
    }
}

/// The form in stream order.
fn copy_later(name: &str, mut op: CopyOp, stream: Handle) -> CudaResult {
    let driver = driver()?;
    let (handle, capturing) = {
        let mut state = driver.state();
        let handle = state.stream(stream)?;
        (handle, capture::capture_of(&state, handle)?.is_some())
    };
    if op.is_empty() {
        return Ok(());
    }
    op.check(driver, name)?;
    let pageable = |place: &CopyEnd| match place {
        CopyEnd::Host(address) => {
            !driver.state().allocation(address.0 as u64).is_some_and(|(_, a)| a.is_host())
        }
        _ => false,
    };
    if !capturing && pageable(&op.from) {
        op.stage();
    }
    let wait = !capturing && !driver.options.defer_pageable && pageable(&op.to);
    submit(stream, StreamOp::Copy(op))?;
    if wait { synchronize_stream(driver, handle) } else { Ok(()) }
}

fn host(address: usize) -> CopyEnd {
    CopyEnd::Host(HostAddress(address))
}

/// `CU_MEMORYTYPE_HOST`, `_DEVICE`, `_UNIFIED`; arrays are not supported.
fn place(
    driver: &Driver,
    kind: c_uint,
    on_host: usize,
    on_device: DevicePtr,
    offset: usize,
) -> CudaResult<CopyEnd> {
    match kind {
        1 => Ok(host(on_host.wrapping_add(offset))),
        2 => Ok(CopyEnd::Device(on_device.wrapping_add(offset as u64))),
        4 => Ok(unified(driver, on_device.wrapping_add(offset as u64))),
        _ => Err(report::refuse(Error::NOT_SUPPORTED, "copies to and from CUDA arrays")),
    }
}

impl Memcpy3D {
    pub fn op(&self) -> CudaResult<CopyOp> {
        let driver = driver()?;
        let pitch = |given: usize, height: usize| {
            let row = if given == 0 { self.width } else { given };
            let rows = if height == 0 { self.height } else { height };
            Ok([row, row.checked_mul(rows).ok_or(Error::INVALID_VALUE)?])
        };
        let from_pitch = pitch(self.src_pitch, self.src_height)?;
        let to_pitch = pitch(self.dst_pitch, self.dst_height)?;
        let from_offset = reach(self.src_z, self.src_y, from_pitch, self.src_x)?;
        let to_offset = reach(self.dst_z, self.dst_y, to_pitch, self.dst_x)?;
        Ok(CopyOp {
            from: place(driver, self.src_type, self.src_host, self.src_device, from_offset)?,
            to: place(driver, self.dst_type, self.dst_host, self.dst_device, to_offset)?,
            from_pitch,
            to_pitch,
            width: self.width,
            height: self.height,
            depth: self.depth,
        })
    }
}

impl Memcpy2D {
    fn op(&self) -> CudaResult<CopyOp> {
        Memcpy3D {
            src_x: self.src_x,
            src_y: self.src_y,
            src_type: self.src_type,
            src_host: self.src_host,
            src_device: self.src_device,
            src_pitch: self.src_pitch,
            dst_x: self.dst_x,
            dst_y: self.dst_y,
            dst_type: self.dst_type,
            dst_host: self.dst_host,
            dst_device: self.dst_device,
            dst_pitch: self.dst_pitch,
            width: self.width,
            height: self.height,
            depth: 1,
            ..Default::default()
        }
        .op()
    }
}

api! {
    fn cuMemcpyHtoD_v2 | cuMemcpyHtoD_v2_ptds(to: DevicePtr, from: usize, bytes: usize) {
        copy_now("cuMemcpyHtoD", CopyOp::flat(CopyEnd::Device(to), host(from), bytes))
    }

    fn cuMemcpyDtoH_v2 | cuMemcpyDtoH_v2_ptds(to: usize, from: DevicePtr, bytes: usize) {
        copy_now("cuMemcpyDtoH", CopyOp::flat(host(to), CopyEnd::Device(from), bytes))
    }

    fn cuMemcpyDtoD_v2 | cuMemcpyDtoD_v2_ptds(to: DevicePtr, from: DevicePtr, bytes: usize) {
        copy_now("cuMemcpyDtoD", CopyOp::flat(CopyEnd::Device(to), CopyEnd::Device(from), bytes))
    }

    fn cuMemcpy | cuMemcpy_ptds(to: DevicePtr, from: DevicePtr, bytes: usize) {
        let driver = driver()?;
        copy_now("cuMemcpy", CopyOp::flat(unified(driver, to), unified(driver, from), bytes))
    }

    fn cuMemcpyPeer | cuMemcpyPeer_ptds(to: DevicePtr, _to_context: Handle, from: DevicePtr, _from_context: Handle, bytes: usize) {
        copy_now("cuMemcpyPeer", CopyOp::flat(CopyEnd::Device(to), CopyEnd::Device(from), bytes))
    }

    fn cuMemcpyHtoDAsync_v2 | cuMemcpyHtoDAsync_v2_ptsz(to: DevicePtr, from: usize, bytes: usize, stream: Handle) {
        copy_later("cuMemcpyHtoDAsync", CopyOp::flat(CopyEnd::Device(to), host(from), bytes), stream)
    }

    fn cuMemcpyDtoHAsync_v2 | cuMemcpyDtoHAsync_v2_ptsz(to: usize, from: DevicePtr, bytes: usize, stream: Handle) {
        copy_later("cuMemcpyDtoHAsync", CopyOp::flat(host(to), CopyEnd::Device(from), bytes), stream)
    }

    fn cuMemcpyDtoDAsync_v2 | cuMemcpyDtoDAsync_v2_ptsz(to: DevicePtr, from: DevicePtr, bytes: usize, stream: Handle) {
        copy_later("cuMemcpyDtoDAsync", CopyOp::flat(CopyEnd::Device(to), CopyEnd::Device(from), bytes), stream)
    }

    fn cuMemcpyAsync | cuMemcpyAsync_ptsz(to: DevicePtr, from: DevicePtr, bytes: usize, stream: Handle) {
        let driver = driver()?;
        copy_later("cuMemcpyAsync", CopyOp::flat(unified(driver, to), unified(driver, from), bytes), stream)
    }

    fn cuMemcpyPeerAsync | cuMemcpyPeerAsync_ptsz(
        to: DevicePtr, _to_context: Handle, from: DevicePtr, _from_context: Handle, bytes: usize, stream: Handle,
    ) {
        copy_later("cuMemcpyPeerAsync", CopyOp::flat(CopyEnd::Device(to), CopyEnd::Device(from), bytes), stream)
    }

    fn cuMemcpy2D_v2 | cuMemcpy2D_v2_ptds(copy: In<Memcpy2D>) {
        copy_now("cuMemcpy2D", copy.get()?.op()?)
    }

    fn cuMemcpy2DUnaligned_v2 | cuMemcpy2DUnaligned_v2_ptds(copy: In<Memcpy2D>) {
        copy_now("cuMemcpy2DUnaligned", copy.get()?.op()?)
    }

    fn cuMemcpy2DAsync_v2 | cuMemcpy2DAsync_v2_ptsz(copy: In<Memcpy2D>, stream: Handle) {
        copy_later("cuMemcpy2DAsync", copy.get()?.op()?, stream)
    }

    fn cuMemcpy3D_v2 | cuMemcpy3D_v2_ptds(copy: In<Memcpy3D>) {
        copy_now("cuMemcpy3D", copy.get()?.op()?)
    }

    fn cuMemcpy3DAsync_v2 | cuMemcpy3DAsync_v2_ptsz(copy: In<Memcpy3D>, stream: Handle) {
        copy_later("cuMemcpy3DAsync", copy.get()?.op()?, stream)
    }
}
