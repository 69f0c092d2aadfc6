//! Spans of a program recorded as CUDA graphs: one launch instead of a step's hundreds.
//!
//! A recording serves every batch of its size bucket: grids are sized for the bucket, blocks beyond the batch
//! return at once, and everything that changes from batch to batch (sizes, sequence bounds, seeds, learning rate)
//! is read from device memory, from one of two places: each bucket has a recording for both. Without recording the
//! same grids are used, so that both ways give the same bits.

use super::args::ATTENTION_ROWS;
use super::batch::BatchShape;
use super::device::Device;
use crate::program::{Limits, Span};
use anyhow::{Context, Result};
use cudarc::driver::CudaGraph;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use std::collections::HashMap;

/// The shape that represents all batches up to it: a program's limits are cut into about eight token counts.
pub fn bucket(shape: BatchShape, limits: Limits) -> BatchShape {
    let unit = limits.tokens.div_ceil(8).next_multiple_of(64).max(64);
    BatchShape {
        tokens: shape.tokens.next_multiple_of(unit).min(limits.tokens),
        sequences: shape.sequences.next_power_of_two().min(limits.sequences),
        max_len: shape.max_len.next_multiple_of(ATTENTION_ROWS).min(limits.max_len),
    }
}

/// What is recorded: the program, its span, the bucket, and which of the two buffers has the batch.
pub type RecordingKey = (u64, Span, BatchShape, usize);

/// All recordings for a backend's current memory, whose addresses are baked in.
#[derive(Default)]
pub struct Graphs {
    recorded: HashMap<RecordingKey, CudaGraph>,
    /// The recording in progress.
    open: Option<RecordingKey>,
}

impl std::fmt::Debug for Graphs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Graphs").field("recorded", &self.recorded.keys()).finish_non_exhaustive()
    }
}

impl Graphs {
    /// Number of recordings.
    pub fn len(&self) -> usize {
        self.recorded.len()
    }

    /// Launches the recording of `key` and returns true, if there is one.
    pub fn replay(&self, key: RecordingKey) -> Result<bool> {
        let Some(graph) = self.recorded.get(&key) else {
            return Ok(false);
        };
        launch(graph, key)?;
        Ok(true)
    }

    /// From now on launches are recorded instead of executed.
    pub fn begin(&mut self, device: &Device, key: RecordingKey) -> Result<()> {
        device
            .stream
            .begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
            .with_context(|| format!("cannot record {key:?}"))?;
        self.open = Some(key);
        Ok(())
    }

    /// Ends the recording in progress, if any; if everything was recorded (`whole`), keeps and launches it.
    pub fn end(&mut self, device: &Device, whole: bool) -> Result<()> {
        let Some(key) = self.open.take() else {
            return Ok(());
        };
        let ended = device.stream.end_capture(CUgraphInstantiate_flags(0));
        if !whole {
            // The error that cut the recording short is more informative than that of its end.
            return Ok(());
        }
        let graph = ended
            .with_context(|| format!("cannot record {key:?}"))?
            .with_context(|| format!("nothing was recorded of {key:?}"))?;
        launch(&graph, key)?;
        self.recorded.insert(key, graph);
        Ok(())
    }
}

fn launch(graph: &CudaGraph, key: RecordingKey) -> Result<()> {
    graph.launch().with_context(|| format!("cannot launch the recording of {key:?}"))
}

#[cfg(test)]
mod tests {
    use super::super::args::SHORT_KEYS;
    use super::*;

    const LIMITS: Limits = Limits { tokens: 4000, sequences: 24, max_len: 100 };

    fn shape(tokens: usize, sequences: usize, max_len: usize) -> BatchShape {
        BatchShape { tokens, sequences, max_len }
    }

    #[test]
    fn a_bucket_holds_its_batches_and_stays_within_the_limits() {
        assert_eq!(bucket(shape(1, 1, 1), LIMITS), shape(512, 1, 64));
        assert_eq!(bucket(shape(512, 17, 64), LIMITS), shape(512, 24, 64));
        assert_eq!(bucket(shape(513, 16, 65), LIMITS), shape(1024, 16, 100));
        assert_eq!(bucket(shape(4000, 24, 100), LIMITS), shape(4000, 24, 100));
    }

    #[test]
    fn a_bucket_goes_the_way_of_each_of_its_batches_through_attention() {
        let limits = Limits { max_len: 512, ..LIMITS };
        for len in 1..=limits.max_len {
            let bucket = bucket(shape(512, 1, len), limits);
            assert_eq!(bucket.max_len <= SHORT_KEYS, len <= SHORT_KEYS, "{len}");
        }
    }

    #[test]
    fn a_run_has_few_buckets() {
        let token_counts: std::collections::HashSet<usize> =
            (1..=LIMITS.tokens).map(|tokens| bucket(shape(tokens, 1, 1), LIMITS).tokens).collect();
        assert_eq!(token_counts.len(), 8);
    }
}
