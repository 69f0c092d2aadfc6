//! What a backend will allocate, known in advance and without a device: the basis of plans and memory limits.
//!
//! Each backend computes the sizes of its buffers in one place and allocates from them; a test checks that both agree
//! to the byte.

use super::{DeviceKind, Footprint, MatrixShape, Memory, cpu, cuda};
use crate::program::ElementBytes;

impl DeviceKind {
    /// Bytes of its elements.
    pub fn element_bytes(self) -> ElementBytes {
        match self {
            Self::Cpu { arithmetic, .. } => arithmetic.element_bytes(),
            Self::Cuda { .. } => ElementBytes::all(cuda::ACTIVATION_BYTES),
        }
    }

    /// What [`Backend::allocated`](super::Backend::allocated) returns after these matrices and an
    /// [`allocate`](super::Backend::allocate).
    pub fn footprint(self, matrices: &[MatrixShape], memory: &Memory) -> Footprint {
        match self {
            Self::Cpu { weights, threads, .. } => {
                cpu::footprint(weights, threads, matrices, memory)
            }
            Self::Cuda { weights } => cuda::footprint(weights, matrices, memory),
        }
    }
}
