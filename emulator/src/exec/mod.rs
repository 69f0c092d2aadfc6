//! Runs kernels: a grid's blocks over the host's cores, a block's warps in turn, 32 lanes at a time.

use crate::check::{Fault, FaultKind};
use crate::config::DeviceConfig;
use crate::counters::KernelCounters;
use crate::memory::DeviceMemory;
use crate::module::Kernel;

/// One kernel launch. `params` is the parameter block, each parameter at its declared offset.
#[derive(Clone, Debug)]
pub struct Launch {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub dynamic_shared: u32,
    pub params: Vec<u8>,
}

/// Runs a kernel to its end, or to the first failed check.
pub fn launch(
    kernel: &Kernel,
    launch: &Launch,
    _memory: &DeviceMemory,
    _config: &DeviceConfig,
) -> Result<KernelCounters, Box<Fault>> {
    Err(Box::new(Fault {
        kind: FaultKind::InvalidLaunch,
        kernel: kernel.name.clone(),
        message: "execution is not there yet".into(),
        source: None,
        ptx_line: 0,
        instruction: String::new(),
        block: launch.block,
        thread: [0; 3],
        address: None,
        space: None,
        allocation: None,
    }))
}
