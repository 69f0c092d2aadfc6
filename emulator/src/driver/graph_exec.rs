//! Executable graphs: the calls that instantiate a graph, update it, and launch it as one queued operation.

use std::ffi::{c_char, c_int};
use std::sync::Arc;

use super::entry::api;
use super::error::{CudaResult, Error};
use super::fill_op::FillOp;
use super::graph::{order, unused_memory};
use super::graph_nodes::{copy_node, first_version, kernel_op, same_edges};
use super::memory::release_all;
use super::objects::{Exec, Graph};
use super::op::StreamOp;
use super::queue::submit;
use super::report;
use super::state::driver;
use super::types::{ExecUpdateInfo, Handle, In, KernelNodeParams, Memcpy3D, MemsetNodeParams, Out};

fn set_exec_node(exec: Handle, node: Handle, op: StreamOp) -> CudaResult {
    let mut state = driver()?.state();
    let exec = state.execs.get_mut(&exec).ok_or(Error::INVALID_VALUE)?;
    let index =
        exec.handles.iter().position(|handle| *handle == node).ok_or(Error::INVALID_VALUE)?;
    if std::mem::discriminant(&exec.nodes[index].op) != std::mem::discriminant(&op) {
        return Err(Error::INVALID_VALUE);
    }
    // Launches already queued keep the nodes they were queued with.
    let node = &mut Arc::make_mut(&mut exec.nodes)[index];
    node.op = same_edges(&node.op, op);
    Ok(())
}

fn instantiate(out: &Out<Handle>, graph: Handle, flags: u64) -> CudaResult {
    // Launch from the device (4) is unsupported; upload (2), free on launch (1) and priorities (8) need nothing.
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
        return Err(report::refuse(Error::INVALID_VALUE, "the graph has a cycle"));
    }
    let exec = Exec { nodes: Arc::new(found.nodes.clone()), handles: found.handles.clone(), graph };
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

api! {
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
}
