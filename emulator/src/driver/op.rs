//! Operations, as data: what a stream can hold, and what a graph is made of.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::exec::Launch;
use crate::module::Kernel;

use super::copy_op::CopyOp;
use super::fill_op::FillOp;
use super::graph;
use super::types::{DevicePtr, Handle, HostFn, StreamCallback};

/// One queued operation.
#[derive(Clone)]
pub enum StreamOp {
    Kernel(Arc<KernelOp>),
    Copy(CopyOp),
    Fill(FillOp),
    Host {
        function: HostFn,
        data: usize,
    },
    Callback {
        function: StreamCallback,
        data: usize,
        stream: Handle,
    },
    Record(Arc<Record>),
    /// Wait for another stream's work up to and including a number.
    Wait {
        stream: Handle,
        sequence: u64,
    },
    Free(DevicePtr),
    /// Memory of a graph's allocation node: fresh, so nothing in it is written.
    Refresh(DevicePtr),
    /// Write a 32- or 64-bit value (`cuStreamWriteValue`).
    Write {
        to: DevicePtr,
        value: u64,
        bytes: usize,
    },
    Graph(Arc<Vec<Node>>),
    Nothing,
}

impl std::fmt::Display for StreamOp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kernel(op) => write!(f, "kernel {}", op.kernel.name),
            Self::Copy(op) => write!(f, "{op}"),
            Self::Fill(_) => f.write_str("fill"),
            Self::Host { .. } | Self::Callback { .. } => f.write_str("host function"),
            Self::Record(_) => f.write_str("event"),
            Self::Wait { .. } => f.write_str("wait"),
            Self::Free(_) => f.write_str("free"),
            Self::Refresh(_) => f.write_str("allocation"),
            Self::Write { .. } => f.write_str("write of a value"),
            Self::Graph(nodes) => {
                let row = graph::longest_row(nodes);
                write!(f, "graph of {} nodes, {row} of them in a row", nodes.len())
            }
            Self::Nothing => f.write_str("nothing"),
        }
    }
}

/// A kernel launch, its parameters already copied.
#[derive(Clone)]
pub struct KernelOp {
    pub function: Handle,
    pub kernel: Arc<Kernel>,
    pub launch: Launch,
}

/// One `cuEventRecord`: done when the time is set.
#[derive(Debug)]
pub struct Record {
    pub stream: Handle,
    pub sequence: u64,
    pub time: OnceLock<Instant>,
}

/// A node: an operation and the nodes that must run before it.
#[derive(Clone)]
pub struct Node {
    pub op: StreamOp,
    pub dependencies: Vec<usize>,
    /// Destroyed by `cuGraphDestroyNode`; its place stays so that the others keep theirs.
    pub removed: bool,
}
