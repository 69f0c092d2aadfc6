//! The size of every buffer, from which they are allocated and [`Footprint`] is counted.

use super::args::StepState;
use super::batch::DeviceBatch;
use super::launch::{NORM_CHUNK, ROW_TILE};
use super::memory::Buffer;
use super::params::DeviceParams;
use crate::backend::{Footprint, MatrixShape, Memory};

/// Bytes, where nothing else is said.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub arena: usize,
    pub state: usize,
    /// f32 elements of one of two groups of partial column sums.
    pub partial_len: usize,
    pub delta: usize,
    pub norm: usize,
}

impl Sizes {
    pub fn new(memory: &Memory) -> Self {
        let Memory { limits, widest, .. } = *memory;
        let tiles = limits.tokens.div_ceil(ROW_TILE) + limits.sequences + 1;
        Self {
            arena: memory.arena,
            state: size_of::<StepState>(),
            partial_len: (tiles * widest).next_multiple_of(4),
            // A head has at least 8 columns in each of q, k and v.
            delta: limits.tokens * widest.div_ceil(24) * 4,
            norm: memory.trainable.div_ceil(NORM_CHUNK) * 8,
        }
    }
}

/// What a backend with these matrices holds after it allocated `memory`.
pub fn footprint(matrices: &[MatrixShape], memory: &Memory) -> Footprint {
    let sizes = Sizes::new(memory);
    let buffers = |bytes: &[usize]| bytes.iter().map(|&bytes| Buffer::size(bytes)).sum();
    Footprint {
        weights: matrices
            .iter()
            .map(|shape| Buffer::size(shape.rows * shape.cols * 2))
            .sum(),
        params: buffers(&DeviceParams::sizes(memory.params, memory.trainable)),
        arena: Buffer::size(sizes.arena),
        batch: Buffer::size(DeviceBatch::words(memory.limits) * 4),
        workspace: buffers(&[
            sizes.state,
            2 * sizes.partial_len * 4,
            sizes.delta,
            sizes.norm,
        ]),
    }
}
