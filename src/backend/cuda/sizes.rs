//! The size of every buffer of a run; used both for allocation and for [`Footprint`].

use super::args::{NORM_CHUNK, TILE_ROWS};
use super::batch::DeviceBatch;
use super::column_sums::most_blocks;
use super::memory::Buffer;
use super::params::DeviceParams;
use super::weights;
use crate::backend::{Footprint, MatrixShape, Memory, WeightType};

/// Bytes before the partial sums of the gradient norm: the count of those that have arrived.
pub const NORM_ARRIVED: usize = size_of::<f64>();

/// In bytes unless stated otherwise.
#[derive(Clone, Copy, Debug)]
pub struct DeviceSizes {
    pub arena: usize,
    /// Of one of the two buffers.
    pub batch: usize,
    /// Values, gradient with the step's state, and both moments.
    pub params: [usize; 4],
    /// Partial column sums: two of the widest tensor's, or those of several operations together; or the losses of
    /// labelled tokens.
    pub partial: usize,
    pub delta: usize,
    pub norm: usize,
}

impl DeviceSizes {
    pub fn new(memory: &Memory) -> Self {
        let Memory { limits, widest, labelled, .. } = *memory;
        let tiles = limits.tokens.div_ceil(TILE_ROWS) + limits.sequences + 1;
        Self {
            arena: memory.arena,
            batch: DeviceBatch::size(memory),
            params: DeviceParams::sizes(memory),
            partial: (2 * (tiles * widest).next_multiple_of(4)).max(labelled[0]) * 4,
            // A head has at least 8 columns each in q, k and v.
            delta: limits.tokens * widest.div_ceil(24) * 4,
            norm: NORM_ARRIVED
                + (memory.trainable.div_ceil(NORM_CHUNK) + most_blocks(widest)) * size_of::<f64>(),
        }
    }

    /// What grows with the tokens of a batch.
    pub fn by_tokens(&self) -> usize {
        self.arena + self.delta + 2 * self.batch + self.partial
    }

    /// The total if nothing else is allocated.
    pub fn footprint(&self) -> Footprint {
        let buffers = |bytes: &[usize]| bytes.iter().map(|&bytes| Buffer::size(bytes)).sum();
        Footprint {
            params: buffers(&self.params),
            arena: Buffer::size(self.arena),
            batch: 2 * Buffer::size(self.batch),
            workspace: buffers(&[self.partial, self.delta, self.norm]),
            ..Footprint::default()
        }
    }
}

/// What a backend with these matrices holds after it has allocated `memory`.
pub fn footprint(weight_type: WeightType, matrices: &[MatrixShape], memory: &Memory) -> Footprint {
    Footprint {
        weights: matrices
            .iter()
            .map(|&shape| Buffer::size(weights::bytes(weight_type, shape)))
            .sum(),
        ..DeviceSizes::new(memory).footprint()
    }
}
