//! One launch: what is requested, and what all its blocks share.

use super::alu::AluFn;
use super::global_race::Ordering;
use crate::config::DeviceConfig;
use crate::decode::ir::Program;
use crate::l2::L2;
use crate::memory::{Allocation, DeviceMemory};
use crate::module::Kernel;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

/// One kernel launch. `params` is the parameter block, each parameter at its declared offset.
#[derive(Clone, Debug)]
pub struct Launch {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub dynamic_shared: u32,
    pub params: Vec<u8>,
    /// It may begin before another has ended, either the last one run or one named by a graph (programmatic dependent
    /// launch): what that one wrote is available only after `griddepcontrol.wait`.
    pub dependent: bool,
    /// Device memory for the barrier of a cooperative launch; 0 if it is none.
    pub workspace: u64,
}

/// What all blocks of a launch share.
pub struct Grid<'l> {
    pub kernel: &'l Kernel,
    pub program: &'l Program,
    pub launch: &'l Launch,
    pub memory: &'l DeviceMemory,
    pub config: &'l DeviceConfig,
    pub allocations: Vec<Arc<Allocation>>,
    pub alu: AluFn,
    /// Marks this launch's entries in the race shadow.
    pub epoch: u64,
    /// The epoch of the previous launch, if this one depends on it.
    pub after: Option<u64>,
    pub ordering: Ordering,
    /// Pieces of global memory that blocks have published with no proxy fence, each with its block.
    pub unfenced: Mutex<HashMap<u64, u64>>,
    /// Earlier launches that may still run when the one this depends on has ended.
    pub loose: Vec<u64>,
    /// A thread has run griddepcontrol.wait.
    pub waited: AtomicBool,
    pub l2: Option<Mutex<L2>>,
    /// A block has failed: the others stop at their next opportunity.
    pub stop: AtomicBool,
    /// Threads that run blocks, and how many of their blocks poll global memory: these may wait for others.
    pub running: AtomicU64,
    pub polling: AtomicU64,
    /// Counts what blocks achieve while others poll.
    pub progress: AtomicU64,
}
