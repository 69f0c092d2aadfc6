//! Stream capture: operations of a capturing stream become nodes of a graph instead of queued work.
//!
//! The rules are those of the runtime guide's chapter on graphs: an event recorded in the capture pulls in the stream
//! that waits for it, the capture ends where it began with everything joined, and calls that would wait for uncaptured
//! work, or tie it to the capture, are refused and invalidate the capture.

use std::cell::Cell;
use std::ffi::c_int;

use super::error::{CudaResult, Error};
use super::graph::add_node;
use super::op::StreamOp;
use super::report;
use super::state::State;
use super::types::Handle;

pub const GLOBAL: c_int = 0;
pub const RELAXED: c_int = 2;

thread_local! {
    /// Which calls this thread may make during captures (`cuThreadExchangeStreamCaptureMode`).
    static THREAD_MODE: Cell<c_int> = const { Cell::new(GLOBAL) };
}

/// The capture that a stream takes part in.
pub fn capture_of(state: &State, stream: Handle) -> CudaResult<Option<Handle>> {
    let Some(capture) = state.streams.get(&stream).and_then(|stream| stream.capture) else {
        return Ok(None);
    };
    match state.captures.get(&capture) {
        Some(found) if found.invalid => Err(Error::STREAM_CAPTURE_INVALIDATED),
        Some(_) => Ok(Some(capture)),
        None => Ok(None),
    }
}

/// Adds an operation of a capturing stream to the graph.
pub fn add_captured(state: &mut State, stream: Handle, op: StreamOp) -> CudaResult {
    let capture = capture_of(state, stream)?.ok_or(Error::ILLEGAL_STATE)?;
    let (graph, dependencies) = {
        let capture = &state.captures[&capture];
        (capture.graph, capture.heads.get(&stream).cloned().unwrap_or_default())
    };
    let (index, _) = add_node(state, graph, op, dependencies)?;
    if let Some(capture) = state.captures.get_mut(&capture) {
        capture.heads.insert(stream, vec![index]);
    }
    Ok(())
}

/// The nodes that an event recorded now in the stream represents.
pub fn heads(state: &State, capture: Handle, stream: Handle) -> Vec<usize> {
    state
        .captures
        .get(&capture)
        .and_then(|capture| capture.heads.get(&stream).cloned())
        .unwrap_or_default()
}

/// The only operation that a capturing stream's next one will follow, if there is just one.
pub fn last_op(state: &State, capture: Handle, stream: Handle) -> Option<&StreamOp> {
    let capture = state.captures.get(&capture)?;
    match capture.heads.get(&stream)?[..] {
        [head] => state.graphs.get(&capture.graph)?.nodes.get(head).map(|node| &node.op),
        _ => None,
    }
}

/// A stream waits for an event of a capture: it joins, or its next operation gets more dependencies.
pub fn join(state: &mut State, stream: Handle, capture: Handle, nodes: &[usize]) -> CudaResult {
    let mine = capture_of(state, stream)?;
    if state.captures.get(&capture).is_none_or(|capture| capture.invalid) {
        return Err(report::refuse(
            Error::CAPTURED_EVENT,
            "waiting for an event of a capture that has ended",
        ));
    }
    if mine.is_some_and(|mine| mine != capture) {
        invalidate(state, stream);
        return Err(Error::STREAM_CAPTURE_MERGE);
    }
    if mine.is_none() && state.streams[&stream].is_legacy {
        invalidate_capture(state, capture);
        return Err(Error::STREAM_CAPTURE_IMPLICIT);
    }
    if let Some(stream) = state.streams.get_mut(&stream) {
        stream.capture = Some(capture);
    }
    if let Some(capture) = state.captures.get_mut(&capture) {
        let heads = capture.heads.entry(stream).or_default();
        for node in nodes {
            if !heads.contains(node) {
                heads.push(*node);
            }
        }
    }
    Ok(())
}

/// Invalidates the capture that a stream is in, if any.
pub fn invalidate(state: &mut State, stream: Handle) {
    if let Some(capture) = state.streams.get(&stream).and_then(|stream| stream.capture) {
        invalidate_capture(state, capture);
    }
}

pub fn invalidate_capture(state: &mut State, capture: Handle) {
    if let Some(capture) = state.captures.get_mut(&capture) {
        capture.invalid = true;
    }
}

/// Refuses work in the legacy default stream while a blocking stream captures: it would tie them.
pub fn refuse_implicit(state: &mut State, stream: Handle) -> CudaResult {
    let found = &state.streams[&stream];
    if !found.is_legacy {
        return Ok(());
    }
    let context = found.context;
    let tied: Vec<_> = state
        .streams
        .values()
        .filter(|other| other.context == context && other.is_blocking())
        .filter_map(|other| other.capture)
        .collect();
    if tied.is_empty() {
        return Ok(());
    }
    tied.into_iter().for_each(|capture| invalidate_capture(state, capture));
    Err(report::refuse(
        Error::STREAM_CAPTURE_IMPLICIT,
        "the legacy default stream was used while a blocking stream captures",
    ))
}

/// Refuses to wait for, or query, a capturing stream.
pub fn refuse_captured(state: &mut State, stream: Handle) -> CudaResult {
    if capture_of(state, stream)?.is_none() {
        return Ok(());
    }
    invalidate(state, stream);
    Err(report::refuse(
        Error::STREAM_CAPTURE_UNSUPPORTED,
        "a capturing stream cannot be waited for or queried",
    ))
}

/// Refuses to synchronise a context in which a stream captures.
pub fn refuse_synchronize(state: &mut State, context: Handle) -> CudaResult {
    let capturing: Vec<_> = state
        .streams
        .iter()
        .filter(|(_, s)| s.context == context && s.capture.is_some())
        .map(|(h, _)| *h)
        .collect();
    if capturing.is_empty() {
        return Ok(());
    }
    capturing.into_iter().for_each(|stream| invalidate(state, stream));
    Err(report::refuse(
        Error::STREAM_CAPTURE_UNSUPPORTED,
        "the context was synchronised while a stream captures",
    ))
}

/// Refuses calls that may wait for the device (`cuMemAlloc`, `cuMemFree` …) during a capture, depending on the
/// capture's and the thread's modes.
pub fn refuse_unsafe(state: &mut State) -> CudaResult {
    let (mode, here) = (THREAD_MODE.get(), std::thread::current().id());
    let mut refused = false;
    for capture in state.captures.values_mut().filter(|capture| !capture.invalid) {
        let own = capture.thread == here && capture.mode != RELAXED;
        let anyone = capture.thread != here && capture.mode == GLOBAL && mode == GLOBAL;
        if mode != RELAXED && (own || anyone) {
            capture.invalid = true;
            refused = true;
        }
    }
    if refused {
        let text = "a call that may wait for the device was made while a stream captures";
        return Err(report::refuse(Error::STREAM_CAPTURE_UNSUPPORTED, text));
    }
    Ok(())
}

/// Replaces the calling thread's mode; returns the old one.
pub fn exchange_mode(mode: c_int) -> c_int {
    THREAD_MODE.replace(mode)
}
