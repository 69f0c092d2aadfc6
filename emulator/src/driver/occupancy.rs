//! Occupancy: how many blocks of a kernel fit on an SM, by the limits that the device reports.

use std::ffi::{c_int, c_uint};

use crate::decode::ir::RESERVED_SHARED;
use crate::exec::{SHARED_UNIT, blocks_per_sm, max_threads};
use crate::module::Kernel;

use super::entry::api;
use super::error::{CudaResult, Error};
use super::report;
use super::state::driver;
use super::types::{BlockToShared, Handle, In, LaunchConfig, Out};

fn kernel(function: Handle) -> CudaResult<std::sync::Arc<Kernel>> {
    Ok(driver()?.state().function(function)?.kernel.clone())
}

fn active_blocks(out: &Out<c_int>, function: Handle, block: c_int, dynamic: usize) -> CudaResult {
    let block = u32::try_from(block).ok().filter(|block| *block > 0).ok_or(Error::INVALID_VALUE)?;
    let dynamic = u32::try_from(dynamic).unwrap_or(u32::MAX);
    out.set(blocks_per_sm(&driver()?.config, &*kernel(function)?, block, dynamic) as c_int)
}

fn best_block(
    grid: &Out<c_int>,
    block: &Out<c_int>,
    function: Handle,
    shared_of: BlockToShared,
    dynamic: usize,
    limit: c_int,
) -> CudaResult {
    let config = &driver()?.config;
    let kernel = kernel(function)?;
    let most = max_threads(&kernel, config);
    let most = if limit > 0 { most.min(limit as u32) } else { most };
    let mut best = (0, 0, 0);
    for threads in (1..=most.div_ceil(32)).rev().map(|warps| (warps * 32).min(most)) {
        let shared = match shared_of {
            // SAFETY: the program gave this function to be called with a block size.
            Some(function) => unsafe { function(threads as c_int) },
            None => dynamic,
        };
        let blocks =
            blocks_per_sm(config, &kernel, threads, u32::try_from(shared).unwrap_or(u32::MAX));
        // The largest block wins a tie.
        if blocks * threads > best.0 {
            best = (blocks * threads, blocks, threads);
        }
    }
    grid.set((best.1 * config.sm_count) as c_int)?;
    block.set(best.2 as c_int)
}

api! {
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        out: Out<c_int>, function: Handle, block: c_int, dynamic: usize,
    ) {
        active_blocks(&out, function, block, dynamic)
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        out: Out<c_int>, function: Handle, block: c_int, dynamic: usize, _flags: c_uint,
    ) {
        active_blocks(&out, function, block, dynamic)
    }

    fn cuOccupancyMaxPotentialBlockSize(
        grid: Out<c_int>, block: Out<c_int>, function: Handle, shared_of: BlockToShared, dynamic: usize, limit: c_int,
    ) {
        best_block(&grid, &block, function, shared_of, dynamic, limit)
    }

    fn cuOccupancyMaxPotentialBlockSizeWithFlags(
        grid: Out<c_int>, block: Out<c_int>, function: Handle, shared_of: BlockToShared, dynamic: usize, limit: c_int,
        _flags: c_uint,
    ) {
        best_block(&grid, &block, function, shared_of, dynamic, limit)
    }

    fn cuOccupancyAvailableDynamicSMemPerBlock(
        out: Out<usize>, function: Handle, blocks: c_int, threads: c_int,
    ) {
        let (config, kernel) = (&driver()?.config, kernel(function)?);
        let (Ok(blocks @ 1..), Ok(1..)) = (u32::try_from(blocks), u32::try_from(threads)) else {
            return Err(Error::INVALID_VALUE);
        };
        let each = config.shared_per_sm / blocks / SHARED_UNIT * SHARED_UNIT;
        let most = config.shared_per_block_optin.min(each.saturating_sub(RESERVED_SHARED));
        out.set(most.saturating_sub(kernel.static_shared) as usize)
    }

    fn cuOccupancyMaxPotentialClusterSize(_out: Out<c_int>, _function: Handle, _config: In<LaunchConfig>) {
        driver()?;
        Err(report::refuse(Error::NOT_SUPPORTED, "thread block clusters"))
    }

    fn cuOccupancyMaxActiveClusters(_out: Out<c_int>, _function: Handle, _config: In<LaunchConfig>) {
        driver()?;
        Err(report::refuse(Error::NOT_SUPPORTED, "thread block clusters"))
    }
}
