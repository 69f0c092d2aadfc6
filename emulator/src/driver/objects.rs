//! What the handles of the API name: contexts, streams, events, modules, functions, graphs, pools, allocations.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ffi::{CString, c_int, c_uint};
use std::sync::Arc;
use std::thread::ThreadId;

use crate::module::{Kernel, Module};

use super::error::Error;
use super::op::{Node, Record, StreamOp};
use super::types::Handle;

/// The device's primary context.
#[derive(Default)]
pub struct Primary {
    pub context: Option<Handle>,
    pub retained: usize,
    pub flags: c_uint,
}

pub struct Context {
    pub flags: c_uint,
    pub id: u64,
    /// The first failed check: from then on every call in this context returns it.
    pub sticky: Option<Error>,
    pub limits: BTreeMap<c_int, usize>,
    pub cache_config: c_int,
    pub shared_config: c_int,
    /// The legacy default stream.
    pub legacy: Handle,
    pub per_thread: HashMap<ThreadId, Handle>,
    pub peers: HashSet<Handle>,
}

pub struct Stream {
    pub context: Handle,
    pub id: u64,
    pub flags: c_uint,
    pub priority: c_int,
    pub is_legacy: bool,
    /// Destroyed by the program, but its queued work still has to run.
    pub destroyed: bool,
    pub queue: VecDeque<(u64, StreamOp)>,
    pub capture: Option<Handle>,
}

/// `CU_STREAM_NON_BLOCKING`.
pub const NON_BLOCKING: c_uint = 1;

impl Stream {
    /// Whether the stream waits for the legacy default stream, and vice versa.
    pub fn is_blocking(&self) -> bool {
        !self.is_legacy && self.flags & NON_BLOCKING == 0
    }
}

pub struct Event {
    pub context: Handle,
    pub flags: c_uint,
    pub last: Option<Arc<Record>>,
    /// Last recorded in a stream that was capturing: the capture, and the nodes it represents.
    pub captured: Option<(Handle, Vec<usize>)>,
}

pub struct LoadedModule {
    pub context: Handle,
    pub module: Arc<Module>,
    /// Handles already given out for its kernels, so that one kernel has one handle.
    pub functions: HashMap<String, Handle>,
}

pub struct LoadedFunction {
    pub module: Handle,
    pub kernel: Arc<Kernel>,
    pub name: CString,
    pub max_dynamic_shared: u32,
    pub carveout: c_int,
}

pub struct Pool {
    pub release_threshold: u64,
    pub flags: [c_int; 3],
    pub destroyed: bool,
}

/// A capture in progress.
pub struct Capture {
    pub graph: Handle,
    pub origin: Handle,
    pub mode: c_int,
    pub thread: ThreadId,
    pub invalid: bool,
    /// For each stream in it, the nodes that its next operation depends on.
    pub heads: HashMap<Handle, Vec<usize>>,
    pub id: u64,
}

#[derive(Default)]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub handles: Vec<Handle>,
    /// Pointers into the nodes' parameters, for `cuGraphKernelNodeGetParams`.
    pub pointers: HashMap<usize, Vec<usize>>,
}

/// An executable graph.
pub struct Exec {
    pub nodes: Arc<Vec<Node>>,
    pub handles: Vec<Handle>,
    pub graph: Handle,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Device,
    /// Stream-ordered, from a pool.
    Pooled(Handle),
    Pinned,
    Registered,
    Managed,
    /// Owned by a graph.
    Graph(Handle),
}

#[derive(Clone, Copy, Debug)]
pub struct DriverAllocation {
    pub size: usize,
    pub kind: Kind,
    pub context: Handle,
    pub flags: c_uint,
    pub id: u64,
}

impl DriverAllocation {
    pub fn is_host(&self) -> bool {
        matches!(self.kind, Kind::Pinned | Kind::Registered | Kind::Managed)
    }
}
