//! A copy as an operation: its two ends, its shape, and how it runs.

use std::sync::Arc;

use crate::memory::{DeviceMemory, MemoryError};

use super::types::{DevicePtr, HostAddress};

/// One end of a copy.
#[derive(Clone, Debug)]
pub enum CopyEnd {
    Device(DevicePtr),
    Host(HostAddress),
    /// Host bytes taken at the call, rows packed.
    Staged(Arc<[u8]>),
}

/// A copy of `depth` slices of `height` rows of `width` bytes.
#[derive(Clone, Debug)]
pub struct CopyOp {
    pub from: CopyEnd,
    pub to: CopyEnd,
    /// Bytes from one row to the next, and from one slice to the next.
    pub from_pitch: [usize; 2],
    pub to_pitch: [usize; 2],
    pub width: usize,
    pub height: usize,
    pub depth: usize,
}

impl std::fmt::Display for CopyOp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let side = |place: &CopyEnd| match place {
            CopyEnd::Device(_) => "device",
            CopyEnd::Host(_) | CopyEnd::Staged(_) => "host",
        };
        let bytes = self.width * self.height * self.depth;
        write!(f, "copy of {bytes} bytes, {} to {}", side(&self.from), side(&self.to))
    }
}

impl CopyOp {
    pub fn flat(to: CopyEnd, from: CopyEnd, bytes: usize) -> Self {
        CopyOp { from, to, from_pitch: [0; 2], to_pitch: [0; 2], width: bytes, height: 1, depth: 1 }
    }

    pub fn is_empty(&self) -> bool {
        self.width == 0 || self.height == 0 || self.depth == 0
    }

    /// Runs the copy, row by row (contiguous rows together).
    pub fn run(&self, memory: &DeviceMemory) -> Result<(), MemoryError> {
        if self.is_empty() {
            return Ok(());
        }
        for slice in 0..self.depth {
            for row in 0..self.height {
                let from = slice * self.from_pitch[1] + row * self.from_pitch[0];
                let to = slice * self.to_pitch[1] + row * self.to_pitch[0];
                self.row(memory, to, from)?;
            }
        }
        Ok(())
    }

    fn row(&self, memory: &DeviceMemory, to: usize, from: usize) -> Result<(), MemoryError> {
        let width = self.width;
        match (&self.to, &self.from) {
            (CopyEnd::Device(d), CopyEnd::Device(s)) => {
                memory.copy(d + to as u64, s + from as u64, width as u64)
            }
            (CopyEnd::Device(d), CopyEnd::Staged(bytes)) => {
                memory.copy_from_host(d + to as u64, &bytes[from..from + width])
            }
            (CopyEnd::Device(d), CopyEnd::Host(s)) => {
                // SAFETY: the caller of the copy promised `width` readable bytes per row until it has run.
                let bytes = unsafe { HostAddress(s.0 + from).bytes(width) };
                memory.copy_from_host(d + to as u64, bytes)
            }
            (CopyEnd::Host(d), CopyEnd::Device(s)) => {
                // SAFETY: the caller of the copy promised `width` writable bytes per row until it has run.
                let bytes = unsafe { HostAddress(d.0 + to).bytes_mut(width) };
                memory.copy_to_host(bytes, s + from as u64)
            }
            (CopyEnd::Host(d), CopyEnd::Host(s)) => {
                // SAFETY: both promises above; `copy` because the program may have given overlapping buffers.
                unsafe { std::ptr::copy((s.0 + from) as *const u8, (d.0 + to) as *mut u8, width) };
                Ok(())
            }
            (CopyEnd::Host(d), CopyEnd::Staged(bytes)) => {
                // SAFETY: as for a copy from the device.
                unsafe { HostAddress(d.0 + to).bytes_mut(width) }
                    .copy_from_slice(&bytes[from..from + width]);
                Ok(())
            }
            (CopyEnd::Staged(_), _) => Ok(()),
        }
    }

    /// Takes pageable host bytes now.
    pub fn stage(&mut self) {
        let CopyEnd::Host(address) = self.from else {
            return;
        };
        let mut bytes = Vec::with_capacity(self.width * self.height * self.depth);
        for slice in 0..self.depth {
            for row in 0..self.height {
                let from = slice * self.from_pitch[1] + row * self.from_pitch[0];
                // SAFETY: the caller of the copy promised `width` readable bytes per row.
                bytes.extend_from_slice(unsafe { HostAddress(address.0 + from).bytes(self.width) });
            }
        }
        self.from = CopyEnd::Staged(bytes.into());
        self.from_pitch = [self.width, self.width * self.height];
    }
}
