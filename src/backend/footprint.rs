//! Bytes on a device, and what they depend on.

use super::WeightType;
use super::cpu::Arithmetic;
use std::ops::Add;

/// Bytes on the device, by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Frozen matrices, and working copies of trained ones.
    pub weights: usize,
    /// The parameter vector; for its trained part also gradient and two moments.
    pub params: usize,
    /// Activations and their gradients.
    pub arena: usize,
    /// Ids, positions, sequence bounds and labels of the current batch; on a GPU also of the next one.
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

/// The properties of a device that its memory use depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    Cpu {
        weights: WeightType,
        threads: usize,
        arithmetic: Arithmetic,
    },
    /// Activations in 16 bits.
    Cuda {
        weights: WeightType,
    },
}
