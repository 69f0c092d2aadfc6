//! A launch from its checks to its counters: blocks run on the host's cores, and the first failed check stops all.

use super::alu;
use super::crew;
use super::global_race::Ordering;
use super::grid::{Grid, Launch};
use crate::check::{Fault, FaultKind};
use crate::config::DeviceConfig;
use crate::counters::KernelCounters;
use crate::l2::L2;
use crate::memory::DeviceMemory;
use crate::module::Kernel;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Runs a kernel to its end, or to the first failed check. A dependent one depends on the last one run.
pub fn launch(
    kernel: &Kernel,
    launch: &Launch,
    memory: &DeviceMemory,
    config: &DeviceConfig,
) -> Result<KernelCounters, Box<Fault>> {
    launch_after(kernel, launch, memory, config, memory.epoch())
}

/// The same for a dependent launch that depends on the one with the number `before`.
pub fn launch_after(
    kernel: &Kernel,
    launch: &Launch,
    memory: &DeviceMemory,
    config: &DeviceConfig,
    before: u64,
) -> Result<KernelCounters, Box<Fault>> {
    refuse(kernel, launch, config)?;
    let allocations = memory.snapshot();
    let epoch = memory.next_epoch();
    if epoch == 1 {
        allocations.iter().for_each(|a| a.clear_race_shadow());
    }
    let grid = Grid {
        kernel,
        program: &kernel.program,
        launch,
        memory,
        config,
        allocations,
        alu: alu::select(),
        epoch,
        // A higher number is from before the shadows were cleared.
        after: Some(before).filter(|&before| launch.dependent && (1..epoch).contains(&before)),
        ordering: Ordering::default(),
        unfenced: Mutex::default(),
        loose: if launch.dependent { memory.loose(before) } else { Vec::new() },
        waited: AtomicBool::new(false),
        l2: config.l2_model.then(|| Mutex::new(L2::new(config.l2_bytes))),
        stop: AtomicBool::new(false),
        running: AtomicU64::new(0),
        polling: AtomicU64::new(0),
        progress: AtomicU64::new(0),
    };
    let blocks = launch.grid.iter().map(|&n| u64::from(n)).product::<u64>();
    let (tallies, result) = crew::run(&grid, blocks);
    result?;
    // A launch that waits for the one before ends after it; otherwise that one may still run.
    let before = grid.after.filter(|_| !grid.waited.load(Relaxed));
    memory.set_loose(epoch, grid.loose.iter().copied().chain(before).collect());
    let mut counters = KernelCounters {
        kernel: kernel.name.clone(),
        launches: 1,
        blocks,
        block_threads: launch.block.iter().map(|&n| u64::from(n)).product(),
        block_shared_bytes: kernel.program.shared_bytes(launch.dynamic_shared).into(),
        ..Default::default()
    };
    for tally in &tallies {
        tally.add_to(&mut counters);
    }
    if let Some(l2) = grid.l2 {
        let mut l2 = l2.into_inner().unwrap_or_else(|e| e.into_inner());
        l2.flush();
        counters.dram_read_bytes = Some(l2.read_bytes);
        counters.dram_write_bytes = Some(l2.write_bytes);
    }
    Ok(counters)
}

pub(super) fn invalid(kernel: &Kernel, kind: FaultKind, message: String) -> Box<Fault> {
    Box::new(Fault {
        kind,
        kernel: kernel.name.clone(),
        message,
        source: None,
        ptx_line: 0,
        instruction: String::new(),
        block: [0; 3],
        thread: [0; 3],
        address: None,
        space: None,
        allocation: None,
    })
}

/// Launches that the device or the kernel's own declarations rule out.
fn refuse(kernel: &Kernel, launch: &Launch, config: &DeviceConfig) -> Result<(), Box<Fault>> {
    let fail = |message: String| Err(invalid(kernel, FaultKind::InvalidLaunch, message));
    for axis in 0..3 {
        let (n, most) = (launch.block[axis], config.max_block[axis]);
        if n == 0 || n > most {
            return fail(format!("block dimension {axis} is {n}; it must be 1 to {most}"));
        }
        let (n, most) = (launch.grid[axis], config.max_grid[axis]);
        if n == 0 || n > most {
            return fail(format!("grid dimension {axis} is {n}; it must be 1 to {most}"));
        }
    }
    let threads: u32 = launch.block.iter().product();
    let most = kernel
        .max_threads
        .unwrap_or(config.max_threads_per_block)
        .min(config.max_threads_per_block)
        .min(1024);
    if threads > most {
        return fail(format!("{threads} threads in a block; this kernel takes at most {most}"));
    }
    if let Some(required) = kernel.required_block
        && required != launch.block
    {
        return fail(format!("the block is {:?}; this kernel requires {required:?}", launch.block));
    }
    if launch.params.len() != kernel.param_bytes as usize {
        return fail(format!(
            "{} bytes of parameters given; this kernel takes {} ({} parameters)",
            launch.params.len(),
            kernel.param_bytes,
            kernel.params.len()
        ));
    }
    let shared = u64::from(kernel.program.dynamic_offset).max(u64::from(kernel.static_shared))
        + u64::from(launch.dynamic_shared);
    if shared > u64::from(config.shared_per_block_optin.max(config.shared_per_block)) {
        return fail(format!(
            "{shared} bytes of shared memory ({} static, {} dynamic); the device has {} for a block",
            kernel.static_shared, launch.dynamic_shared, config.shared_per_block_optin
        ));
    }
    Ok(())
}
