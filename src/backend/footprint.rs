//! What a backend allocates, known before it does and without a device: `plan` and `--memory` work from this.
//!
//! Each backend computes the sizes of its buffers in one place, from which it also allocates them; a test holds
//! the two to each other, to the byte.

use super::{MatrixShape, Memory, WeightType, cpu, cuda};
use std::ops::Add;

/// Bytes on the device, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Frozen matrices, and working copies of trained ones.
    pub weights: usize,
    /// The parameter vector; what trains of it with gradient and two moments.
    pub params: usize,
    /// Activations and their gradients.
    pub arena: usize,
    /// Ids, positions, sequence bounds and labels of the current batch; on a GPU of the next one, too.
    pub batch: usize,
    /// Partial sums, widened panels of matrices, the optimizer's state.
    pub workspace: usize,
}

impl Footprint {
    pub fn total(&self) -> usize {
        let Self { weights, params, arena, batch, workspace } = *self;
        weights + params + arena + batch + workspace
    }
}

impl Add for Footprint {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            weights: self.weights + other.weights,
            params: self.params + other.params,
            arena: self.arena + other.arena,
            batch: self.batch + other.batch,
            workspace: self.workspace + other.workspace,
        }
    }
}

/// As much of a device as its memory depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    Cpu {
        weights: WeightType,
        threads: usize,
    },
    /// Activations in 16 bits.
    Cuda {
        weights: WeightType,
    },
}

impl DeviceKind {
    /// [`Backend::activation_bytes`](super::Backend::activation_bytes)
    pub fn activation_bytes(self) -> usize {
        match self {
            Self::Cpu { .. } => cpu::ACTIVATION_BYTES,
            Self::Cuda { .. } => cuda::ACTIVATION_BYTES,
        }
    }

    /// What [`Backend::allocated`](super::Backend::allocated) says after these matrices and an
    /// [`allocate`](super::Backend::allocate).
    pub fn footprint(self, matrices: &[MatrixShape], memory: &Memory) -> Footprint {
        match self {
            Self::Cpu { weights, threads } => cpu::footprint(weights, threads, matrices, memory),
            Self::Cuda { weights } => cuda::footprint(weights, matrices, memory),
        }
    }
}
