//! The size of every buffer; used both for allocation and for [`Footprint`].

use super::aligned::Aligned;
use super::batch::HostBatch;
use super::{attention, attention_bf16, colsum, first_attention, gemm, optim, weights};
use crate::backend::{Footprint, MatrixShape, Memory, WeightType};

/// In elements unless stated otherwise.
#[derive(Clone, Copy, Debug)]
pub struct HostSizes {
    /// Bytes.
    pub arena: usize,
    pub params: usize,
    pub trainable: usize,
    pub with_gradient: usize,
    /// Bytes.
    pub batch: usize,
    /// Per thread.
    pub scratch: usize,
    pub threads: usize,
    pub partials: usize,
    pub bias: usize,
    pub head_input: usize,
    pub norm_partials: usize,
    pub exchanged: usize,
    /// Tokens sorted by id, if the word table trains.
    pub token_order: usize,
}

impl HostSizes {
    pub fn new(memory: &Memory, threads: usize, trained_matrices: bool) -> Self {
        let Memory { limits, head_rows, widest, head_dim, labelled, .. } = *memory;
        let rows = limits.tokens.max(limits.sequences);
        Self {
            arena: memory.arena,
            params: memory.params,
            trainable: memory.trainable,
            with_gradient: memory.with_gradient,
            batch: HostBatch::size(memory),
            scratch: gemm::scratch_for(rows, widest)
                .max(gemm::scratch_for(labelled[0], labelled[1]))
                .max(attention::scratch_for(limits.max_len, head_dim))
                .max(attention_bf16::scratch_for(limits.max_len, head_dim))
                .max(first_attention::scratch_for(limits.max_len, head_dim)),
            threads,
            // For attention a line per sequence for queries and for values, which are at most half as wide.
            partials: colsum::partials(rows, widest)
                .max(limits.sequences * widest)
                .max(colsum::partials(labelled[0], labelled[1])),
            bias: widest,
            head_input: head_rows * widest,
            norm_partials: optim::partials(memory.trainable),
            exchanged: memory.exchanged,
            token_order: if trained_matrices { limits.tokens } else { 0 },
        }
    }

    /// Everything except the matrices.
    pub fn footprint(&self) -> Footprint {
        Footprint {
            weights: 0,
            params: 4 * (self.params + self.with_gradient + 2 * self.trainable),
            arena: Aligned::bytes_for(self.arena.div_ceil(4)),
            batch: self.batch,
            workspace: self.threads * Aligned::bytes_for(self.scratch)
                + Aligned::bytes_for(self.partials)
                + 4 * self.bias
                + Aligned::bytes_for(self.head_input)
                + 8 * self.norm_partials
                + 4 * self.exchanged
                + 4 * self.token_order,
        }
    }
}

/// What a backend with these matrices holds after it has allocated `memory`.
pub fn footprint(
    weight_type: WeightType,
    threads: usize,
    matrices: &[MatrixShape],
    memory: &Memory,
) -> Footprint {
    let frozen = matrices.iter().filter(|shape| !shape.trains);
    let trains = matrices.iter().any(|shape| shape.trains);
    Footprint {
        weights: frozen.map(|&shape| weights::bytes(weight_type, shape)).sum(),
        ..HostSizes::new(memory, threads, trains).footprint()
    }
}
