//! Graphs built and inspected node by node: the calls about nodes, their parameters and edges.

use std::ffi::{c_int, c_uint};
use std::sync::Arc;

use super::copy_op::CopyOp;
use super::entry::api;
use super::error::{CudaResult, Error};
use super::fill_op::FillOp;
use super::graph::{add_node, new_graph, remove_graph};
use super::launch::{self, LaunchShape};
use super::memory::release_all;
use super::objects::Graph;
use super::op::{Node, StreamOp};
use super::state::{State, driver};
use super::types::{Handle, HostNodeParams, In, KernelNodeParams, Memcpy3D, MemsetNodeParams, Out};

/// The places of nodes given by handle, all of this graph.
fn places(
    state: &State,
    graph: Handle,
    nodes: &In<Handle>,
    count: usize,
) -> CudaResult<Vec<usize>> {
    if count == 0 {
        return Ok(vec![]);
    }
    nodes.list(count)?.into_iter().map(|node| place(state, graph, node)).collect()
}

fn place(state: &State, graph: Handle, node: Handle) -> CudaResult<usize> {
    match state.nodes.get(&node) {
        Some((of, index)) if *of == graph => Ok(*index),
        _ => Err(Error::INVALID_VALUE),
    }
}

fn add(
    out: &Out<Handle>,
    graph: Handle,
    dependencies: &In<Handle>,
    count: usize,
    op: StreamOp,
) -> CudaResult {
    if out.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let mut state = driver()?.state();
    let dependencies = places(&state, graph, dependencies, count)?;
    let (_, node) = add_node(&mut state, graph, op, dependencies)?;
    out.set(node)
}

pub fn kernel_op(params: &KernelNodeParams) -> CudaResult<StreamOp> {
    let shape = LaunchShape { grid: params.grid, block: params.block, shared: params.shared };
    let function = if params.function.is_null() { params.kernel } else { params.function };
    Ok(StreamOp::Kernel(Arc::new(launch::prepare(function, shape, params.params, params.extra)?)))
}

/// Version 1 of the node parameters has no kernel and context.
pub fn first_version(params: &In<[u64; 7]>) -> CudaResult<KernelNodeParams> {
    let words = params.get()?;
    let half = |index: usize| (words[1 + index / 2] >> (32 * (index % 2))) as u32;
    Ok(KernelNodeParams {
        function: Handle(words[0] as usize),
        grid: [half(0), half(1), half(2)],
        block: [half(3), half(4), half(5)],
        shared: half(6),
        params: words[5] as usize,
        extra: words[6] as usize,
        kernel: Handle::NULL,
        context: Handle::NULL,
    })
}

fn set_node(node: Handle, op: StreamOp) -> CudaResult {
    let mut state = driver()?.state();
    let (graph, index) = *state.nodes.get(&node).ok_or(Error::INVALID_VALUE)?;
    let graph = state.graphs.get_mut(&graph).ok_or(Error::INVALID_VALUE)?;
    if std::mem::discriminant(&graph.nodes[index].op) != std::mem::discriminant(&op) {
        return Err(Error::INVALID_VALUE);
    }
    graph.nodes[index].op = same_edges(&graph.nodes[index].op, op);
    graph.pointers.remove(&index);
    Ok(())
}

/// New parameters for a node leave its edges unchanged.
pub fn same_edges(old: &StreamOp, mut new: StreamOp) -> StreamOp {
    if let (StreamOp::Kernel(old), StreamOp::Kernel(new)) = (old, &mut new) {
        Arc::make_mut(new).launch.dependent = old.launch.dependent;
    }
    new
}

fn kernel_params(node: Handle) -> CudaResult<KernelNodeParams> {
    let mut state = driver()?.state();
    let (graph, index) = *state.nodes.get(&node).ok_or(Error::INVALID_VALUE)?;
    let graph = state.graphs.get_mut(&graph).ok_or(Error::INVALID_VALUE)?;
    let StreamOp::Kernel(op) = &graph.nodes[index].op else {
        return Err(Error::INVALID_VALUE);
    };
    let base = op.launch.params.as_ptr() as usize;
    let pointers: Vec<usize> =
        op.kernel.params.iter().map(|param| base + param.offset as usize).collect();
    let (function, launch) = (op.function, op.launch.clone());
    let kept = graph.pointers.entry(index).or_insert(pointers);
    Ok(KernelNodeParams {
        function,
        grid: launch.grid,
        block: launch.block,
        shared: launch.dynamic_shared,
        params: kept.as_ptr() as usize,
        extra: 0,
        kernel: Handle::NULL,
        context: Handle::NULL,
    })
}

/// Fills a caller's list the way the graph queries do: if the list is null, only the count.
fn list(out: &Out<Handle>, count: &Out<usize>, nodes: &[Handle]) -> CudaResult {
    if out.is_null() {
        return count.set(nodes.len());
    }
    let room = count.get()?;
    for index in 0..room {
        out.set_at(index, nodes.get(index).copied().unwrap_or_default())?;
    }
    count.set(room.min(nodes.len()))
}

/// Handles of the nodes that a test accepts.
fn select(graph: Handle, accept: impl Fn(&Graph, usize) -> bool) -> CudaResult<Vec<Handle>> {
    let state = driver()?.state();
    let graph = state.graphs.get(&graph).ok_or(Error::INVALID_VALUE)?;
    let chosen = (0..graph.nodes.len())
        .filter(|index| !graph.nodes[*index].removed && accept(graph, *index));
    Ok(chosen.map(|index| graph.handles[index]).collect())
}

fn neighbours(node: Handle, after: bool) -> CudaResult<Vec<Handle>> {
    let (graph, index) = *driver()?.state().nodes.get(&node).ok_or(Error::INVALID_VALUE)?;
    select(graph, |graph, other| match after {
        true => graph.nodes[other].dependencies.contains(&index),
        false => graph.nodes[index].dependencies.contains(&other),
    })
}

/// `CUgraphNodeType`.
fn node_type(op: &StreamOp) -> c_int {
    match op {
        StreamOp::Kernel(_) => 0,
        StreamOp::Copy(_) => 1,
        StreamOp::Fill(_) | StreamOp::Write { .. } => 2,
        StreamOp::Host { .. } | StreamOp::Callback { .. } => 3,
        StreamOp::Graph(_) => 4,
        StreamOp::Wait { .. } | StreamOp::Nothing => 5,
        StreamOp::Record(_) => 7,
        StreamOp::Refresh(_) => 10,
        StreamOp::Free(_) => 11,
    }
}

pub fn copy_node(params: &In<Memcpy3D>) -> CudaResult<StreamOp> {
    let op: CopyOp = params.get()?.op()?;
    Ok(StreamOp::Copy(op))
}

fn edges(
    graph: Handle,
    from: &Out<Handle>,
    to: &Out<Handle>,
    data: &Out<u64>,
    count: &Out<usize>,
) -> CudaResult {
    let (mut sources, mut targets, mut kinds) = (vec![], vec![], vec![]);
    {
        let state = driver()?.state();
        let graph = state.graphs.get(&graph).ok_or(Error::INVALID_VALUE)?;
        for (index, node) in graph.nodes.iter().enumerate().filter(|(_, node)| !node.removed) {
            for before in &node.dependencies {
                sources.push(graph.handles[*before]);
                targets.push(graph.handles[index]);
                kinds.push(edge_data(node));
            }
        }
    }
    if from.is_null() || to.is_null() {
        return count.set(sources.len());
    }
    tell_edges(data, count, &kinds)?;
    let room = count.get()?;
    list(from, &Out::from(&mut room.clone()), &sources)?;
    list(to, count, &targets)
}

/// The nodes before or after one, and the data of the edges to them.
fn list_neighbours(
    node: Handle,
    after: bool,
    nodes: &Out<Handle>,
    data: &Out<u64>,
    count: &Out<usize>,
) -> CudaResult {
    let found = neighbours(node, after)?;
    if !nodes.is_null() {
        let kinds: Vec<u64> = {
            let state = driver()?.state();
            let kind = |of: &Handle| {
                let (graph, index) = state.nodes.get(of)?;
                Some(edge_data(state.graphs.get(graph)?.nodes.get(*index)?))
            };
            let targets = found.iter().map(|other| if after { other } else { &node });
            targets.map(|of| kind(of).unwrap_or(PLAIN)).collect()
        };
        tell_edges(data, count, &kinds)?;
    }
    list(nodes, count, &found)
}

/// `CUgraphEdgeData` of an ordinary edge, and of one that lets a launch begin before the other has ended: source port,
/// target port, type and five unused bytes.
const PLAIN: u64 = 0;
const PROGRAMMATIC: u64 = u64::from_le_bytes([1, 0, 1, 0, 0, 0, 0, 0]);

/// The data of the edges into a node.
fn edge_data(node: &Node) -> u64 {
    match &node.op {
        StreamOp::Kernel(op) if op.launch.dependent && node.dependencies.len() == 1 => PROGRAMMATIC,
        _ => PLAIN,
    }
}

/// Returns the edges' data if there is room for it; without room, edges with data are not reported.
fn tell_edges(data: &Out<u64>, count: &Out<usize>, edges: &[u64]) -> CudaResult {
    if data.is_null() {
        let lost = edges.iter().any(|&edge| edge != PLAIN);
        return if lost { Err(Error::LOSSY_QUERY) } else { Ok(()) };
    }
    let given = edges.iter().take(count.get()?);
    given.enumerate().try_for_each(|(index, &edge)| data.set_at(index, edge))
}

fn change_edges(
    graph: Handle,
    from: &In<Handle>,
    to: &In<Handle>,
    count: usize,
    data: Option<&In<u64>>,
    add: bool,
) -> CudaResult {
    let kinds = match data {
        Some(data) if !data.is_null() => data.list(count)?,
        _ => vec![PLAIN; count],
    };
    let mut state = driver()?.state();
    let (from, to) = (places(&state, graph, from, count)?, places(&state, graph, to, count)?);
    let graph = state.graphs.get_mut(&graph).ok_or(Error::INVALID_VALUE)?;
    for ((from, to), kind) in from.into_iter().zip(to).zip(kinds) {
        let from_kernel = matches!(graph.nodes[from].op, StreamOp::Kernel(_));
        let node = &mut graph.nodes[to];
        match (add, node.dependencies.iter().position(|node| *node == from)) {
            (true, None) => node.dependencies.push(from),
            (false, Some(at)) => drop(node.dependencies.remove(at)),
            _ => return Err(Error::INVALID_VALUE),
        }
        match (kind, &mut node.op) {
            (PLAIN, _) => {}
            (PROGRAMMATIC, StreamOp::Kernel(op)) if from_kernel => {
                Arc::make_mut(op).launch.dependent = add;
            }
            _ => return Err(Error::INVALID_VALUE),
        }
    }
    Ok(())
}

api! {
    fn cuGraphCreate(out: Out<Handle>, flags: c_uint) {
        if out.is_null() || flags != 0 {
            return Err(Error::INVALID_VALUE);
        }
        let graph = new_graph(&mut driver()?.state());
        out.set(graph)
    }

    fn cuGraphDestroy(graph: Handle) {
        let freed = {
            let mut state = driver()?.state();
            if !state.graphs.contains_key(&graph) {
                return Err(Error::INVALID_VALUE);
            }
            remove_graph(&mut state, graph)
        };
        release_all(freed)
    }

    fn cuGraphClone(out: Out<Handle>, graph: Handle) {
        let mut state = driver()?.state();
        let nodes = state.graphs.get(&graph).ok_or(Error::INVALID_VALUE)?.nodes.clone();
        let clone = new_graph(&mut state);
        for node in nodes {
            let (index, _) = add_node(&mut state, clone, node.op, node.dependencies)?;
            if let Some(clone) = state.graphs.get_mut(&clone) {
                clone.nodes[index].removed = node.removed;
            }
        }
        out.set(clone)
    }

    fn cuGraphAddKernelNode(
        out: Out<Handle>, graph: Handle, dependencies: In<Handle>, count: usize, params: In<[u64; 7]>,
    ) {
        add(&out, graph, &dependencies, count, kernel_op(&first_version(&params)?)?)
    }

    fn cuGraphAddKernelNode_v2(
        out: Out<Handle>, graph: Handle, dependencies: In<Handle>, count: usize, params: In<KernelNodeParams>,
    ) {
        add(&out, graph, &dependencies, count, kernel_op(&params.get()?)?)
    }

    fn cuGraphAddMemcpyNode(
        out: Out<Handle>, graph: Handle, dependencies: In<Handle>, count: usize, params: In<Memcpy3D>, _context: Handle,
    ) {
        add(&out, graph, &dependencies, count, copy_node(&params)?)
    }

    fn cuGraphAddMemsetNode(
        out: Out<Handle>, graph: Handle, dependencies: In<Handle>, count: usize, params: In<MemsetNodeParams>,
        _context: Handle,
    ) {
        add(&out, graph, &dependencies, count, StreamOp::Fill(FillOp::from_node(&params.get()?)?))
    }

    fn cuGraphAddHostNode(
        out: Out<Handle>, graph: Handle, dependencies: In<Handle>, count: usize, params: In<HostNodeParams>,
    ) {
        let params = params.get()?;
        add(&out, graph, &dependencies, count, StreamOp::Host { function: params.function, data: params.data })
    }

    fn cuGraphAddEmptyNode(out: Out<Handle>, graph: Handle, dependencies: In<Handle>, count: usize) {
        add(&out, graph, &dependencies, count, StreamOp::Nothing)
    }

    fn cuGraphAddChildGraphNode(
        out: Out<Handle>, graph: Handle, dependencies: In<Handle>, count: usize, child: Handle,
    ) {
        let nodes = driver()?.state().graphs.get(&child).ok_or(Error::INVALID_VALUE)?.nodes.clone();
        add(&out, graph, &dependencies, count, StreamOp::Graph(Arc::new(nodes)))
    }

    fn cuGraphDestroyNode(node: Handle) {
        let mut state = driver()?.state();
        let (graph, index) = state.nodes.remove(&node).ok_or(Error::INVALID_VALUE)?;
        let graph = state.graphs.get_mut(&graph).ok_or(Error::INVALID_VALUE)?;
        graph.nodes[index] = Node { op: StreamOp::Nothing, dependencies: vec![], removed: true };
        for other in &mut graph.nodes {
            other.dependencies.retain(|dependency| *dependency != index);
        }
        Ok(())
    }

    fn cuGraphAddDependencies(graph: Handle, from: In<Handle>, to: In<Handle>, count: usize) {
        change_edges(graph, &from, &to, count, None, true)
    }

    fn cuGraphRemoveDependencies(graph: Handle, from: In<Handle>, to: In<Handle>, count: usize) {
        change_edges(graph, &from, &to, count, None, false)
    }

    fn cuGraphGetNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) {
        list(&nodes, &count, &select(graph, |_, _| true)?)
    }

    fn cuGraphGetRootNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) {
        list(&nodes, &count, &select(graph, |graph, index| graph.nodes[index].dependencies.is_empty())?)
    }

    fn cuGraphGetEdges(graph: Handle, from: Out<Handle>, to: Out<Handle>, count: Out<usize>) {
        edges(graph, &from, &to, &Out::NULL, &count)
    }

    fn cuGraphNodeGetDependencies(node: Handle, nodes: Out<Handle>, count: Out<usize>) {
        list_neighbours(node, false, &nodes, &Out::NULL, &count)
    }

    fn cuGraphNodeGetDependentNodes(node: Handle, nodes: Out<Handle>, count: Out<usize>) {
        list_neighbours(node, true, &nodes, &Out::NULL, &count)
    }

    fn cuGraphNodeGetType(node: Handle, out: Out<c_int>) {
        let state = driver()?.state();
        let (graph, index) = state.nodes.get(&node).ok_or(Error::INVALID_VALUE)?;
        out.set(node_type(&state.graphs.get(graph).ok_or(Error::INVALID_VALUE)?.nodes[*index].op))
    }

    fn cuGraphKernelNodeGetParams(node: Handle, out: Out<[u64; 7]>) {
        let p = kernel_params(node)?;
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        out.set([
            p.function.0 as u64,
            pair(p.grid[0], p.grid[1]),
            pair(p.grid[2], p.block[0]),
            pair(p.block[1], p.block[2]),
            pair(p.shared, 0),
            p.params as u64,
            p.extra as u64,
        ])
    }

    fn cuGraphKernelNodeGetParams_v2(node: Handle, out: Out<KernelNodeParams>) {
        out.set(kernel_params(node)?)
    }

    fn cuGraphKernelNodeSetParams(node: Handle, params: In<[u64; 7]>) {
        set_node(node, kernel_op(&first_version(&params)?)?)
    }

    fn cuGraphKernelNodeSetParams_v2(node: Handle, params: In<KernelNodeParams>) {
        set_node(node, kernel_op(&params.get()?)?)
    }

    fn cuGraphMemsetNodeSetParams(node: Handle, params: In<MemsetNodeParams>) {
        set_node(node, StreamOp::Fill(FillOp::from_node(&params.get()?)?))
    }

    fn cuGraphMemcpyNodeSetParams(node: Handle, params: In<Memcpy3D>) {
        set_node(node, copy_node(&params)?)
    }

    // The forms of CUDA 13, with data for each edge.
    fn cuGraphAddDependencies_v2(graph: Handle, from: In<Handle>, to: In<Handle>, data: In<u64>, count: usize) {
        change_edges(graph, &from, &to, count, Some(&data), true)
    }

    fn cuGraphRemoveDependencies_v2(graph: Handle, from: In<Handle>, to: In<Handle>, data: In<u64>, count: usize) {
        change_edges(graph, &from, &to, count, Some(&data), false)
    }

    fn cuGraphGetEdges_v2(graph: Handle, from: Out<Handle>, to: Out<Handle>, data: Out<u64>, count: Out<usize>) {
        edges(graph, &from, &to, &data, &count)
    }

    fn cuGraphNodeGetDependencies_v2(node: Handle, nodes: Out<Handle>, data: Out<u64>, count: Out<usize>) {
        list_neighbours(node, false, &nodes, &data, &count)
    }

    fn cuGraphNodeGetDependentNodes_v2(node: Handle, nodes: Out<Handle>, data: Out<u64>, count: Out<usize>) {
        list_neighbours(node, true, &nodes, &data, &count)
    }
}
