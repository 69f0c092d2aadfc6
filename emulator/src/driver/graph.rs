//! Graphs in the driver's tables: their nodes, the order in which these run, and the memory that ends with a graph.

use super::error::{CudaResult, Error};
use super::objects::{DriverAllocation, Graph, Kind};
use super::op::{Node, StreamOp};
use super::state::State;
use super::types::{DevicePtr, Handle};

/// An order of the nodes that keeps every dependency: the lowest index first, or, with a seed, any.
pub fn order(nodes: &[Node], seed: Option<u64>) -> Vec<usize> {
    let mut waiting: Vec<usize> = nodes.iter().map(|node| node.dependencies.len()).collect();
    let mut ready: Vec<usize> = (0..nodes.len()).filter(|node| waiting[*node] == 0).collect();
    let mut order = Vec::with_capacity(nodes.len());
    let mut random = seed.unwrap_or(0) | 1;
    while !ready.is_empty() {
        let pick = match seed {
            None => (0..ready.len()).min_by_key(|at| ready[*at]).unwrap_or(0),
            Some(_) => {
                // xorshift64: any spread will do.
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                (random % ready.len() as u64) as usize
            }
        };
        let node = ready.swap_remove(pick);
        order.push(node);
        for (other, found) in nodes.iter().enumerate() {
            let edges = found.dependencies.iter().filter(|dependency| **dependency == node).count();
            if edges > 0 {
                waiting[other] -= edges;
                if waiting[other] == 0 {
                    ready.push(other);
                }
            }
        }
    }
    order.retain(|node| !nodes[*node].removed);
    order
}

/// The longest chain of nodes that must run in sequence: a graph's time however much a device does in parallel.
pub fn longest_row(nodes: &[Node]) -> usize {
    let mut rows = vec![0; nodes.len()];
    for node in order(nodes, None) {
        let before = nodes[node].dependencies.iter().map(|before| rows[*before]).max();
        rows[node] = before.unwrap_or(0) + 1;
    }
    rows.into_iter().max().unwrap_or(0)
}

pub fn new_graph(state: &mut State) -> Handle {
    let graph = state.handle();
    state.graphs.insert(graph, Graph::default());
    graph
}

/// Adds a node; returns its place and handle.
pub fn add_node(
    state: &mut State,
    graph: Handle,
    op: StreamOp,
    dependencies: Vec<usize>,
) -> CudaResult<(usize, Handle)> {
    let node = state.handle();
    let found = state.graphs.get_mut(&graph).ok_or(Error::INVALID_VALUE)?;
    let index = found.nodes.len();
    found.nodes.push(Node { op, dependencies, removed: false });
    found.handles.push(node);
    state.nodes.insert(node, (graph, index));
    Ok((index, node))
}

/// Removes a graph from the tables. Returns the memory that nothing can use any more.
pub fn remove_graph(state: &mut State, graph: Handle) -> Vec<(DevicePtr, DriverAllocation)> {
    if let Some(removed) = state.graphs.remove(&graph) {
        for node in removed.handles {
            state.nodes.remove(&node);
        }
    }
    unused_memory(state, graph)
}

/// The allocations of a graph's nodes, once neither the graph nor an executable of it is left.
pub fn unused_memory(state: &mut State, graph: Handle) -> Vec<(DevicePtr, DriverAllocation)> {
    if state.graphs.contains_key(&graph) || state.execs.values().any(|exec| exec.graph == graph) {
        return vec![];
    }
    let kind = Kind::Graph(graph);
    let owned: Vec<_> =
        state.allocations.iter().filter(|(_, a)| a.kind == kind).map(|(b, a)| (*b, *a)).collect();
    for (base, _) in &owned {
        state.allocations.remove(base);
    }
    owned
}
