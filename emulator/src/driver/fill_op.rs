//! A fill as an operation: its shape, and how it runs.

use crate::memory::{DeviceMemory, MemoryError};

use super::types::DevicePtr;

/// A fill of `height` rows of `width` elements.
#[derive(Clone, Debug)]
pub struct FillOp {
    pub to: DevicePtr,
    pub pitch: usize,
    pub value: u32,
    /// Bytes of an element: 1, 2 or 4.
    pub element: usize,
    pub width: usize,
    pub height: usize,
}

impl FillOp {
    pub fn run(&self, memory: &DeviceMemory) -> Result<(), MemoryError> {
        // Empty rows may be anywhere, and any number of them.
        if self.width == 0 {
            return Ok(());
        }
        let pattern = &self.value.to_le_bytes()[..self.element];
        for row in 0..self.height {
            memory.fill(self.to + (row * self.pitch) as u64, pattern, self.width as u64)?;
        }
        Ok(())
    }
}
