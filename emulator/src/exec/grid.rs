//! One launch: what is requested, and what all its blocks share.

use super::alu::AluFn;
use super::global_race::Ordering;
use crate::config::DeviceConfig;
use crate::decode::ir::Program;
use crate::l2::L2;
use crate::memory::{Allocation, DeviceMemory};
use crate::module::Kernel;
use std::sync::atomic::AtomicBool;
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
    pub l2: Option<Mutex<L2>>,
    /// A block has failed: the others stop at their next opportunity.
    pub stop: AtomicBool,
}
