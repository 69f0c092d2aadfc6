//! The calls that begin, end and query a capture; its rules are in [`super::capture`].

use std::collections::{HashMap, HashSet};
use std::ffi::{c_int, c_uint};

use super::capture::{GLOBAL, RELAXED, exchange_mode};
use super::entry::api;
use super::error::{CudaResult, Error};
use super::graph::{new_graph, remove_graph};
use super::memory::release_all;
use super::objects::Capture;
use super::report;
use super::state::{State, driver};
use super::types::{Handle, In, Out};

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

/// Ends the capture: removes it from the tables and from its streams.
fn finish(state: &mut State, handle: Handle) -> CudaResult<Capture> {
    let capture = state.captures.remove(&handle).ok_or(Error::ILLEGAL_STATE)?;
    for stream in state.streams.values_mut().filter(|stream| stream.capture == Some(handle)) {
        stream.capture = None;
    }
    Ok(capture)
}

/// Whether some stream's captured work is not joined to the origin's.
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
    release_all(freed)?;
    out.set(Handle::NULL)?;
    Err(report::refuse(error, "the capture failed; there is no graph"))
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
        mode.set(exchange_mode(new))
    }

    fn cuStreamUpdateCaptureDependencies(
        _stream: Handle, _nodes: In<Handle>, _count: usize, _flags: c_uint,
    ) {
        driver()?;
        Err(report::refuse(Error::NOT_SUPPORTED, "cuStreamUpdateCaptureDependencies"))
    }
}
