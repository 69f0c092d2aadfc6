//! f32 memory that starts on a cache line.

use crate::room::filled;
use anyhow::{Result, bail};

/// A cache line: a vector of these is 64-byte aligned.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A fixed number of f32, 64-byte aligned.
#[derive(Default)]
pub struct Aligned {
    lines: Vec<Line>,
}

impl Aligned {
    /// At least `count` elements (whole cache lines), all equal to `fill`.
    ///
    /// # Errors
    /// If the system has no room; `what` names the purpose in the message.
    pub fn new(count: usize, fill: f32, what: &str) -> Result<Self> {
        match filled(Line([fill; 16]), count.div_ceil(16), what) {
            Ok(lines) => Ok(Self { lines }),
            Err(error) => bail!("{error}; use a smaller batch or shorter texts"),
        }
    }

    /// Bytes of `count` elements.
    pub fn bytes_for(count: usize) -> usize {
        count.div_ceil(16) * size_of::<Line>()
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.lines.capacity() * size_of::<Line>()
    }

    pub fn as_slice(&self) -> &[f32] {
        bytemuck::cast_slice(&self.lines)
    }

    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }

    /// Makes room for `count` elements; growing discards the contents.
    pub fn reserve(&mut self, count: usize) {
        if count > self.lines.len() * 16 {
            self.lines.resize(count.div_ceil(16), Line([0.0; 16]));
        }
    }
}
