//! What a profiler would count, per kernel.

use serde::Serialize;
use std::collections::BTreeMap;

/// Counts of one launch, or the sum over several ([`KernelCounters::add`]).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct KernelCounters {
    pub kernel: String,
    pub launches: u64,
    pub blocks: u64,
    /// Threads per block, and its static and dynamic shared memory; the maximum over launches.
    pub block_threads: u64,
    pub block_shared_bytes: u64,
    /// Instructions executed, counted once per warp.
    pub warp_instructions: u64,
    /// The same by class: `integer`, `float`, `memory`, …
    pub by_class: BTreeMap<&'static str, u64>,
    /// Sum of active lanes over all warp instructions.
    pub active_lanes: u64,
    pub mma: u64,
    pub mma_flops: u64,
    pub global_load_requests: u64,
    pub global_store_requests: u64,
    pub global_atomic_requests: u64,
    /// Bytes requested by the active lanes.
    pub global_bytes_asked: u64,
    /// 32-byte sectors those requests touch.
    pub global_sectors: u64,
    /// Sectors that the same bytes would need if they were contiguous.
    pub global_sectors_ideal: u64,
    pub shared_requests: u64,
    pub shared_bytes: u64,
    /// Extra passes caused by bank conflicts.
    pub shared_bank_conflicts: u64,
    pub local_bytes: u64,
    pub barriers: u64,
    pub async_copies: u64,
    /// Global memory read by copies with a tensor map.
    pub bulk_read_bytes: u64,
    /// Only with the L2 model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dram_read_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dram_write_bytes: Option<u64>,
}

impl KernelCounters {
    /// Average number of active lanes, out of 32.
    pub fn average_active_lanes(&self) -> f64 {
        if self.warp_instructions == 0 {
            0.0
        } else {
            self.active_lanes as f64 / self.warp_instructions as f64
        }
    }

    /// Adds another launch's counts of the same kernel.
    pub fn add(&mut self, other: &KernelCounters) {
        self.launches += other.launches;
        self.blocks += other.blocks;
        self.block_threads = self.block_threads.max(other.block_threads);
        self.block_shared_bytes = self.block_shared_bytes.max(other.block_shared_bytes);
        self.warp_instructions += other.warp_instructions;
        for (class, n) in &other.by_class {
            *self.by_class.entry(class).or_default() += n;
        }
        self.active_lanes += other.active_lanes;
        self.mma += other.mma;
        self.mma_flops += other.mma_flops;
        self.global_load_requests += other.global_load_requests;
        self.global_store_requests += other.global_store_requests;
        self.global_atomic_requests += other.global_atomic_requests;
        self.global_bytes_asked += other.global_bytes_asked;
        self.global_sectors += other.global_sectors;
        self.global_sectors_ideal += other.global_sectors_ideal;
        self.shared_requests += other.shared_requests;
        self.shared_bytes += other.shared_bytes;
        self.shared_bank_conflicts += other.shared_bank_conflicts;
        self.local_bytes += other.local_bytes;
        self.barriers += other.barriers;
        self.async_copies += other.async_copies;
        self.bulk_read_bytes += other.bulk_read_bytes;
        let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0) + b.unwrap_or(0)),
        };
        self.dram_read_bytes = sum(self.dram_read_bytes, other.dram_read_bytes);
        self.dram_write_bytes = sum(self.dram_write_bytes, other.dram_write_bytes);
    }

    /// The counters with their derived figures.
    pub fn to_json(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(map) = value.as_object_mut() {
            map.insert("average_active_lanes".into(), self.average_active_lanes().into());
        }
        value
    }
}
