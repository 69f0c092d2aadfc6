//! How many blocks of a kernel fit on a multiprocessor, by the limits that the device reports.

use crate::config::DeviceConfig;
use crate::decode::ir::RESERVED_SHARED;
use crate::module::Kernel;

/// Registers are allocated to a warp in units of 256, shared memory to a block in units of 128 bytes.
const REGISTER_UNIT: u32 = 256;
pub const SHARED_UNIT: u32 = 128;

/// How many blocks of `threads` threads and `dynamic` bytes fit on one SM at a time.
pub fn blocks_per_sm(config: &DeviceConfig, kernel: &Kernel, threads: u32, dynamic: u32) -> u32 {
    if threads == 0 || threads > max_threads(kernel, config) {
        return 0;
    }
    let warps = threads.div_ceil(32);
    let registers = warps * (kernel.registers.clamp(16, 255) * 32).next_multiple_of(REGISTER_UNIT);
    let shared = kernel.static_shared.saturating_add(dynamic);
    if shared > config.shared_per_block_optin || registers > config.registers_per_block {
        return 0;
    }
    let shared = (shared + RESERVED_SHARED).next_multiple_of(SHARED_UNIT);
    config
        .max_blocks_per_sm
        .min(config.max_threads_per_sm / (warps * 32))
        .min(config.registers_per_sm / registers)
        .min(config.shared_per_sm / shared)
}

/// How many of them fit on the device at a time.
pub fn blocks_at_a_time(config: &DeviceConfig, kernel: &Kernel, threads: u32, dynamic: u32) -> u64 {
    u64::from(blocks_per_sm(config, kernel, threads, dynamic)) * u64::from(config.sm_count)
}

/// The largest block that a kernel can be launched with.
pub fn max_threads(kernel: &Kernel, config: &DeviceConfig) -> u32 {
    let required = kernel.required_block.map(|block| block.iter().product());
    let declared = required.or(kernel.max_threads);
    declared.map_or(config.max_threads_per_block, |most| most.min(config.max_threads_per_block))
}
