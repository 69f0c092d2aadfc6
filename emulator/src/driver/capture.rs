//! Stream capture: operations of a capturing stream become nodes of a graph instead of queued work.
//!
//! The rules are those of the runtime guide's chapter on graphs: an event recorded in the capture pulls the stream
//! that waits for it in, the capture ends where it began with everything joined, and calls that would wait
//! for, or tie, uncaptured work are refused and spoil the capture.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::ffi::{c_int, c_uint};
use std::thread::ThreadId;

use super::entry::api;
use super::error::{CudaResult, Error};
use super::graph::{add_node, new_graph, remove_graph};
use super::queue::StreamOp;
use super::report;
use super::state::{State, driver};
use super::types::{Handle, In, Out};

const GLOBAL: c_int = 0;
const RELAXED: c_int = 2;

/// A capture under way.
pub struct Capture {
    pub graph: Handle,
    origin: Handle,
    mode: c_int,
    thread: ThreadId,
    invalid: bool,
    /// For each stream in it, the nodes that its next operation depends on.
    heads: HashMap<Handle, Vec<usize>>,
    id: u64,
}

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

/// The nodes that an event recorded now in the stream stands for.
pub fn heads(state: &State, capture: Handle, stream: Handle) -> Vec<usize> {
    state
        .captures
        .get(&capture)
        .and_then(|capture| capture.heads.get(&stream).cloned())
        .unwrap_or_default()
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

/// Spoils the capture that a stream is in, if any.
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

/// Refuses to wait for, or ask about, a capturing stream.
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

/// Refuses calls that may wait for the device (`cuMemAlloc`, `cuMemFree` …) during a capture, as the capture's and
/// the thread's modes say.
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

fn begin(stream: Handle, mode: c_int) -> CudaResult {
    let mut state = driver()?.state();
    let stream = state.stream(stream)?;
    if !(GLOBAL..=RELAXED).contains(&mode) {
        return Err(Error::INVALID_VALUE);
    }
    let found = &state.streams[&stream];
    if found.is_legacy {
        return Err(report::refuse(
            Error::STREAM_CAPTURE_UNSUPPORTED,
            "the legacy default stream cannot capture",
        ));
    }
    if found.capture.is_some() {
        return Err(Error::ILLEGAL_STATE);
    }
    let (graph, handle) = (new_graph(&mut state), state.handle());
    state.captures.insert(
        handle,
        Capture {
            graph,
            origin: stream,
            mode,
            thread: std::thread::current().id(),
            invalid: false,
            heads: HashMap::from([(stream, vec![])]),
            id: handle.0 as u64,
        },
    );
    if let Some(stream) = state.streams.get_mut(&stream) {
        stream.capture = Some(handle);
    }
    Ok(())
}

/// Ends the capture: takes it out of the tables and out of its streams.
fn finish(state: &mut State, handle: Handle) -> CudaResult<Capture> {
    let capture = state.captures.remove(&handle).ok_or(Error::ILLEGAL_STATE)?;
    for stream in state.streams.values_mut().filter(|stream| stream.capture == Some(handle)) {
        stream.capture = None;
    }
    Ok(capture)
}

/// Whether some stream's captured work is not behind the origin's.
fn has_unjoined(state: &State, capture: &Capture) -> bool {
    let Some(graph) = state.graphs.get(&capture.graph) else {
        return false;
    };
    let mut open: Vec<usize> = capture.heads.get(&capture.origin).cloned().unwrap_or_default();
    let mut joined: HashSet<usize> = HashSet::new();
    while let Some(node) = open.pop() {
        if joined.insert(node) {
            open.extend(&graph.nodes[node].dependencies);
        }
    }
    capture.heads.values().flatten().any(|node| !joined.contains(node))
}

fn end(stream: Handle, out: &Out<Handle>) -> CudaResult {
    if out.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let mut state = driver()?.state();
    let stream = state.stream(stream)?;
    let handle = state.streams[&stream].capture.ok_or(Error::ILLEGAL_STATE)?;
    let found = &state.captures[&handle];
    if found.mode != RELAXED && found.thread != std::thread::current().id() {
        return Err(Error::STREAM_CAPTURE_WRONG_THREAD);
    }
    let (matched, unjoined) = (found.origin == stream, has_unjoined(&state, found));
    let capture = finish(&mut state, handle)?;
    let error = match () {
        () if capture.invalid => Error::STREAM_CAPTURE_INVALIDATED,
        () if !matched => Error::STREAM_CAPTURE_UNMATCHED,
        () if unjoined => Error::STREAM_CAPTURE_UNJOINED,
        () => return out.set(capture.graph),
    };
    let freed = remove_graph(&mut state, capture.graph);
    drop(state);
    super::graph::release_all(freed)?;
    out.set(Handle::NULL)?;
    Err(report::refuse(error, "the capture did not end well; there is no graph"))
}

fn status(state: &State, stream: Handle) -> (c_int, Option<&Capture>) {
    match state.streams[&stream].capture.and_then(|capture| state.captures.get(&capture)) {
        None => (0, None),
        Some(capture) if capture.invalid => (2, None),
        Some(capture) => (1, Some(capture)),
    }
}

fn info(
    stream: Handle,
    out: &Out<c_int>,
    id: &Out<u64>,
    graph: &Out<Handle>,
    count: &Out<usize>,
) -> CudaResult {
    let mut state = driver()?.state();
    let stream = state.stream(stream)?;
    let (status, capture) = status(&state, stream);
    out.set(status)?;
    if let Some(capture) = capture {
        id.set_optional(capture.id);
        graph.set_optional(capture.graph);
        count.set_optional(capture.heads.get(&stream).map_or(0, Vec::len));
    }
    Ok(())
}

api! {
    fn cuStreamBeginCapture_v2 | cuStreamBeginCapture_v2_ptsz(stream: Handle, mode: c_int) {
        begin(stream, mode)
    }

    fn cuStreamEndCapture | cuStreamEndCapture_ptsz(stream: Handle, graph: Out<Handle>) {
        end(stream, &graph)
    }

    fn cuStreamIsCapturing | cuStreamIsCapturing_ptsz(stream: Handle, out: Out<c_int>) {
        let mut state = driver()?.state();
        let stream = state.stream(stream)?;
        out.set(status(&state, stream).0)
    }

    fn cuStreamGetCaptureInfo(stream: Handle, out: Out<c_int>, id: Out<u64>) {
        info(stream, &out, &id, &Out::NULL, &Out::NULL)
    }

    fn cuStreamGetCaptureInfo_v2(
        stream: Handle, out: Out<c_int>, id: Out<u64>, graph: Out<Handle>, nodes: Out<In<Handle>>, count: Out<usize>,
    ) {
        if !nodes.is_null() {
            return Err(report::refuse(Error::NOT_SUPPORTED, "cuStreamGetCaptureInfo: the list of dependencies"));
        }
        info(stream, &out, &id, &graph, &count)
    }

    fn cuThreadExchangeStreamCaptureMode(mode: Out<c_int>) {
        driver()?;
        let new = mode.get()?;
        if !(GLOBAL..=RELAXED).contains(&new) {
            return Err(Error::INVALID_VALUE);
        }
        mode.set(THREAD_MODE.replace(new))
    }

    fn cuStreamUpdateCaptureDependencies(
        _stream: Handle, _nodes: In<Handle>, _count: usize, _flags: c_uint,
    ) {
        driver()?;
        Err(report::refuse(Error::NOT_SUPPORTED, "cuStreamUpdateCaptureDependencies"))
    }
}
