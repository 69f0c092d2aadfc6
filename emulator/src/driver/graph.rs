//! Graphs: made by capture or node by node, instantiated, updated, launched as one queued operation.

use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_uint};
use std::sync::Arc;

use super::copy::CopyOp;
use super::entry::api;
use super::error::{CudaResult, Error};
use super::launch::{self, LaunchShape};
use super::memory::release;
use super::memset::FillOp;
use super::queue::{StreamOp, submit, synchronize_context};
use super::report;
use super::state::{DriverAllocation, Kind, State, driver};
use super::types::{
    DevicePtr, ExecUpdateInfo, Handle, HostNodeParams, In, KernelNodeParams, Memcpy3D,
    MemsetNodeParams, Out,
};

/// A node: an operation and the nodes that must come before it.
#[derive(Clone)]
pub struct Node {
    pub op: StreamOp,
    pub dependencies: Vec<usize>,
    /// Destroyed by `cuGraphDestroyNode`; its place stays so that the others keep theirs.
    pub removed: bool,
}

#[derive(Default)]
pub struct Graph {
    pub nodes: Vec<Node>,
    handles: Vec<Handle>,
    /// Pointers into the nodes' parameters, for `cuGraphKernelNodeGetParams`.
    pointers: HashMap<usize, Vec<usize>>,
}

/// An executable graph.
pub struct Exec {
    nodes: Arc<Vec<Node>>,
    handles: Vec<Handle>,
    graph: Handle,
}

/// An order of the nodes that keeps every dependency: the lowest index first, or, with a seed, any.
pub fn order(nodes: &[Node], seed: Option<u64>) -> Vec<usize> {
    let mut waiting: Vec<usize> = nodes.iter().map(|node| node.dependencies.len()).collect();
    let mut ready: Vec<usize> = (0..nodes.len())
        .filter(|node| waiting[*node] == 0)
        .collect();
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
            let edges = found
                .dependencies
                .iter()
                .filter(|dependency| **dependency == node)
                .count();
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

pub fn new_graph(state: &mut State) -> Handle {
    let graph = state.handle();
    state.graphs.insert(graph, Graph::default());
    graph
}

/// Adds a node; gives its place and handle.
pub fn add_node(
    state: &mut State,
    graph: Handle,
    op: StreamOp,
    dependencies: Vec<usize>,
) -> CudaResult<(usize, Handle)> {
    let node = state.handle();
    let found = state.graphs.get_mut(&graph).ok_or(Error::INVALID_VALUE)?;
    let index = found.nodes.len();
    found.nodes.push(Node {
        op,
        dependencies,
        removed: false,
    });
    found.handles.push(node);
    state.nodes.insert(node, (graph, index));
    Ok((index, node))
}

/// Takes a graph out of the tables. Gives the memory that nothing can use any more.
pub fn remove_graph(state: &mut State, graph: Handle) -> Vec<(DevicePtr, DriverAllocation)> {
    if let Some(removed) = state.graphs.remove(&graph) {
        for node in removed.handles {
            state.nodes.remove(&node);
        }
    }
    unused_memory(state, graph)
}

/// The allocations of a graph's nodes, once neither the graph nor an executable of it is left.
fn unused_memory(state: &mut State, graph: Handle) -> Vec<(DevicePtr, DriverAllocation)> {
    if state.graphs.contains_key(&graph) || state.execs.values().any(|exec| exec.graph == graph) {
        return vec![];
    }
    let kind = Kind::Graph(graph);
    let owned: Vec<_> = state
        .allocations
        .iter()
        .filter(|(_, a)| a.kind == kind)
        .map(|(b, a)| (*b, *a))
        .collect();
    for (base, _) in &owned {
        state.allocations.remove(base);
    }
    owned
}

/// Frees memory taken out of the tables, after the work that may use it.
pub fn release_all(freed: Vec<(DevicePtr, DriverAllocation)>) -> CudaResult {
    let driver = driver()?;
    if let Some((_, first)) = freed.first() {
        let _ = synchronize_context(driver, first.context);
    }
    freed
        .into_iter()
        .try_for_each(|(base, allocation)| release(driver, base, allocation))
}

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
    nodes
        .list(count)?
        .into_iter()
        .map(|node| place(state, graph, node))
        .collect()
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

fn kernel_op(params: &KernelNodeParams) -> CudaResult<StreamOp> {
    let shape = LaunchShape {
        grid: params.grid,
        block: params.block,
        shared: params.shared,
    };
    let function = if params.function.is_null() {
        params.kernel
    } else {
        params.function
    };
    Ok(StreamOp::Kernel(Arc::new(launch::prepare(
        function,
        shape,
        params.params,
        params.extra,
    )?)))
}

/// Version 1 of the node parameters has no kernel and context.
fn first_version(params: &In<[u64; 7]>) -> CudaResult<KernelNodeParams> {
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
    graph.nodes[index].op = op;
    graph.pointers.remove(&index);
    Ok(())
}

fn set_exec_node(exec: Handle, node: Handle, op: StreamOp) -> CudaResult {
    let mut state = driver()?.state();
    let exec = state.execs.get_mut(&exec).ok_or(Error::INVALID_VALUE)?;
    let index = exec
        .handles
        .iter()
        .position(|handle| *handle == node)
        .ok_or(Error::INVALID_VALUE)?;
    if std::mem::discriminant(&exec.nodes[index].op) != std::mem::discriminant(&op) {
        return Err(Error::INVALID_VALUE);
    }
    // Launches already queued keep the nodes they were queued with.
    Arc::make_mut(&mut exec.nodes)[index].op = op;
    Ok(())
}

fn kernel_params(node: Handle) -> CudaResult<KernelNodeParams> {
    let mut state = driver()?.state();
    let (graph, index) = *state.nodes.get(&node).ok_or(Error::INVALID_VALUE)?;
    let graph = state.graphs.get_mut(&graph).ok_or(Error::INVALID_VALUE)?;
    let StreamOp::Kernel(op) = &graph.nodes[index].op else {
        return Err(Error::INVALID_VALUE);
    };
    let base = op.launch.params.as_ptr() as usize;
    let pointers: Vec<usize> = op
        .kernel
        .params
        .iter()
        .map(|param| base + param.offset as usize)
        .collect();
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

fn instantiate(out: &Out<Handle>, graph: Handle, flags: u64) -> CudaResult {
    // Launch from the device (4) is not there; upload (2), free on launch (1) and priorities (8) need nothing.
    if out.is_null() || flags & !15 != 0 || (flags & 4 != 0 && flags & !4 != 0) {
        return Err(Error::INVALID_VALUE);
    }
    if flags & 4 != 0 {
        return Err(report::refuse(
            Error::NOT_SUPPORTED,
            "graphs that are launched from the device",
        ));
    }
    let mut state = driver()?.state();
    let found = state.graphs.get(&graph).ok_or(Error::INVALID_VALUE)?;
    let left = found.nodes.iter().filter(|node| !node.removed).count();
    if order(&found.nodes, None).len() != left {
        return Err(report::refuse(
            Error::INVALID_VALUE,
            "the graph has a cycle",
        ));
    }
    let exec = Exec {
        nodes: Arc::new(found.nodes.clone()),
        handles: found.handles.clone(),
        graph,
    };
    let handle = state.handle();
    state.execs.insert(handle, exec);
    out.set(handle)
}

/// Why an executable cannot take over a graph's parameters; 0 when it can (`CUgraphExecUpdateResult`).
fn difference(exec: &Exec, graph: &Graph) -> c_int {
    if exec.nodes.len() != graph.nodes.len() {
        return 2;
    }
    for (old, new) in exec.nodes.iter().zip(&graph.nodes) {
        if std::mem::discriminant(&old.op) != std::mem::discriminant(&new.op) {
            return 3;
        }
        if old.dependencies != new.dependencies || old.removed != new.removed {
            return 2;
        }
    }
    0
}

fn update(exec: Handle, graph: Handle) -> CudaResult<c_int> {
    let mut state = driver()?.state();
    let state = &mut *state;
    let exec = state.execs.get_mut(&exec).ok_or(Error::INVALID_VALUE)?;
    let graph = state.graphs.get(&graph).ok_or(Error::INVALID_VALUE)?;
    let result = difference(exec, graph);
    if result == 0 {
        exec.nodes = Arc::new(graph.nodes.clone());
    }
    Ok(result)
}

/// Fills a caller's list the way the graph queries do: with a null list only the count.
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
    let (graph, index) = *driver()?
        .state()
        .nodes
        .get(&node)
        .ok_or(Error::INVALID_VALUE)?;
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

fn copy_node(params: &In<Memcpy3D>) -> CudaResult<StreamOp> {
    let op: CopyOp = params.get()?.op()?;
    Ok(StreamOp::Copy(op))
}

fn edges(graph: Handle, from: &Out<Handle>, to: &Out<Handle>, count: &Out<usize>) -> CudaResult {
    let (sources, targets): (Vec<_>, Vec<_>) = {
        let state = driver()?.state();
        let graph = state.graphs.get(&graph).ok_or(Error::INVALID_VALUE)?;
        let nodes = graph
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| !node.removed);
        nodes
            .flat_map(|(index, node)| {
                node.dependencies
                    .iter()
                    .map(move |d| (graph.handles[*d], graph.handles[index]))
            })
            .unzip()
    };
    if from.is_null() || to.is_null() {
        return count.set(sources.len());
    }
    let room = count.get()?;
    list(from, &Out::from(&mut room.clone()), &sources)?;
    list(to, count, &targets)
}

/// `CUgraphEdgeData` of edges without special meaning: eight zero bytes each.
fn plain_edges(data: &Out<u64>, count: &Out<usize>) -> CudaResult {
    if data.is_null() {
        return Ok(());
    }
    (0..count.get()?).try_for_each(|index| data.set_at(index, 0))
}

fn change_edges(
    graph: Handle,
    from: &In<Handle>,
    to: &In<Handle>,
    count: usize,
    add: bool,
) -> CudaResult {
    let mut state = driver()?.state();
    let (from, to) = (
        places(&state, graph, from, count)?,
        places(&state, graph, to, count)?,
    );
    let graph = state.graphs.get_mut(&graph).ok_or(Error::INVALID_VALUE)?;
    for (from, to) in from.into_iter().zip(to) {
        let dependencies = &mut graph.nodes[to].dependencies;
        match (add, dependencies.iter().position(|node| *node == from)) {
            (true, None) => dependencies.push(from),
            (false, Some(at)) => drop(dependencies.remove(at)),
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
        change_edges(graph, &from, &to, count, true)
    }

    fn cuGraphRemoveDependencies(graph: Handle, from: In<Handle>, to: In<Handle>, count: usize) {
        change_edges(graph, &from, &to, count, false)
    }

    fn cuGraphGetNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) {
        list(&nodes, &count, &select(graph, |_, _| true)?)
    }

    fn cuGraphGetRootNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) {
        list(&nodes, &count, &select(graph, |graph, index| graph.nodes[index].dependencies.is_empty())?)
    }

    fn cuGraphGetEdges(graph: Handle, from: Out<Handle>, to: Out<Handle>, count: Out<usize>) {
        edges(graph, &from, &to, &count)
    }

    fn cuGraphNodeGetDependencies(node: Handle, nodes: Out<Handle>, count: Out<usize>) {
        list(&nodes, &count, &neighbours(node, false)?)
    }

    fn cuGraphNodeGetDependentNodes(node: Handle, nodes: Out<Handle>, count: Out<usize>) {
        list(&nodes, &count, &neighbours(node, true)?)
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

    fn cuGraphExecKernelNodeSetParams(exec: Handle, node: Handle, params: In<[u64; 7]>) {
        set_exec_node(exec, node, kernel_op(&first_version(&params)?)?)
    }

    fn cuGraphExecKernelNodeSetParams_v2(exec: Handle, node: Handle, params: In<KernelNodeParams>) {
        set_exec_node(exec, node, kernel_op(&params.get()?)?)
    }

    fn cuGraphExecMemcpyNodeSetParams(exec: Handle, node: Handle, params: In<Memcpy3D>, _context: Handle) {
        set_exec_node(exec, node, copy_node(&params)?)
    }

    fn cuGraphExecMemsetNodeSetParams(exec: Handle, node: Handle, params: In<MemsetNodeParams>, _context: Handle) {
        set_exec_node(exec, node, StreamOp::Fill(FillOp::from_node(&params.get()?)?))
    }

    fn cuGraphInstantiate(out: Out<Handle>, graph: Handle, _error: Out<Handle>, _log: Out<c_char>, _size: usize) {
        instantiate(&out, graph, 0)
    }

    fn cuGraphInstantiate_v2(out: Out<Handle>, graph: Handle, _error: Out<Handle>, _log: Out<c_char>, _size: usize) {
        instantiate(&out, graph, 0)
    }

    fn cuGraphInstantiateWithFlags(out: Out<Handle>, graph: Handle, flags: u64) {
        instantiate(&out, graph, flags)
    }

    fn cuGraphInstantiateWithParams | cuGraphInstantiateWithParams_ptsz(out: Out<Handle>, graph: Handle, params: Out<[u64; 4]>) {
        let mut words = params.get()?;
        let made = instantiate(&out, graph, words[0]);
        words[2] = 0;
        words[3] = made.is_err().into();
        params.set(words)?;
        made
    }

    fn cuGraphExecUpdate(exec: Handle, graph: Handle, node: Out<Handle>, result: Out<c_int>) {
        let code = update(exec, graph)?;
        node.set_optional(Handle::NULL);
        result.set_optional(code);
        if code == 0 { Ok(()) } else { Err(Error::GRAPH_EXEC_UPDATE_FAILURE) }
    }

    fn cuGraphExecUpdate_v2(exec: Handle, graph: Handle, info: Out<ExecUpdateInfo>) {
        let result = update(exec, graph)?;
        info.set_optional(ExecUpdateInfo { result, error_node: Handle::NULL, error_from: Handle::NULL });
        if result == 0 { Ok(()) } else { Err(Error::GRAPH_EXEC_UPDATE_FAILURE) }
    }

    fn cuGraphExecGetFlags(exec: Handle, flags: Out<u64>) {
        driver()?.state().execs.get(&exec).ok_or(Error::INVALID_VALUE)?;
        flags.set(0)
    }

    fn cuGraphUpload | cuGraphUpload_ptsz(exec: Handle, stream: Handle) {
        let mut state = driver()?.state();
        state.execs.get(&exec).ok_or(Error::INVALID_VALUE)?;
        state.stream(stream).map(drop)
    }

    fn cuGraphLaunch | cuGraphLaunch_ptsz(exec: Handle, stream: Handle) {
        let nodes = driver()?.state().execs.get(&exec).ok_or(Error::INVALID_VALUE)?.nodes.clone();
        submit(stream, StreamOp::Graph(nodes))
    }

    fn cuGraphExecDestroy(exec: Handle) {
        let freed = {
            let mut state = driver()?.state();
            let exec = state.execs.remove(&exec).ok_or(Error::INVALID_VALUE)?;
            unused_memory(&mut state, exec.graph)
        };
        release_all(freed)
    }

    // The forms of CUDA 13, with data for each edge. Only plain edges exist here, so that there is none to give.
    fn cuGraphAddDependencies_v2(graph: Handle, from: In<Handle>, to: In<Handle>, _data: In<u64>, count: usize) {
        change_edges(graph, &from, &to, count, true)
    }

    fn cuGraphRemoveDependencies_v2(graph: Handle, from: In<Handle>, to: In<Handle>, _data: In<u64>, count: usize) {
        change_edges(graph, &from, &to, count, false)
    }

    fn cuGraphGetEdges_v2(graph: Handle, from: Out<Handle>, to: Out<Handle>, data: Out<u64>, count: Out<usize>) {
        edges(graph, &from, &to, &count)?;
        plain_edges(&data, &count)
    }

    fn cuGraphNodeGetDependencies_v2(node: Handle, nodes: Out<Handle>, data: Out<u64>, count: Out<usize>) {
        list(&nodes, &count, &neighbours(node, false)?)?;
        plain_edges(&data, &count)
    }

    fn cuGraphNodeGetDependentNodes_v2(node: Handle, nodes: Out<Handle>, data: Out<u64>, count: Out<usize>) {
        list(&nodes, &count, &neighbours(node, true)?)?;
        plain_edges(&data, &count)
    }
}
