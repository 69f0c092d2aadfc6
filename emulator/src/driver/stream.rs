//! Streams: `cuStream*` except capture, which is in [`super::capture_calls`].

use std::ffi::{c_int, c_uint};

use super::capture;
use super::entry::api;
use super::error::{CudaResult, Error};
use super::objects::NON_BLOCKING;
use super::op::StreamOp;
use super::queue::{enqueue, is_pending, run_one, submit, synchronize_stream};
use super::report;
use super::state::driver;
use super::types::{DevicePtr, Handle, HostFn, In, Out, StreamCallback};

fn create(out: &Out<Handle>, flags: c_uint, priority: c_int) -> CudaResult {
    if out.is_null() || flags & !NON_BLOCKING != 0 {
        return Err(Error::INVALID_VALUE);
    }
    let mut state = driver()?.state();
    let context = state.current()?;
    let stream = state.new_stream(context, flags, priority.clamp(-5, 0), false);
    out.set(stream)
}

/// Stream memory operations: a wait that nothing enqueued earlier can satisfy would never end here.
fn wait_value(name: &str) -> CudaResult {
    driver()?;
    Err(report::refuse(Error::NOT_SUPPORTED, &format!("{name}: waiting on a memory value")))
}

api! {
    fn cuStreamCreate(out: Out<Handle>, flags: c_uint) {
        create(&out, flags, 0)
    }

    fn cuStreamCreateWithPriority(out: Out<Handle>, flags: c_uint, priority: c_int) {
        create(&out, flags, priority)
    }

    fn cuStreamDestroy(stream: Handle) {
        destroy(stream)
    }

    fn cuStreamDestroy_v2(stream: Handle) {
        destroy(stream)
    }

    fn cuStreamSynchronize | cuStreamSynchronize_ptsz(stream: Handle) {
        let driver = driver()?;
        let stream = {
            let mut state = driver.state();
            let stream = state.stream(stream)?;
            capture::refuse_captured(&mut state, stream)?;
            capture::refuse_implicit(&mut state, stream)?;
            stream
        };
        synchronize_stream(driver, stream)
    }

    /// A query runs one operation, so that a polling program makes progress.
    fn cuStreamQuery | cuStreamQuery_ptsz(stream: Handle) {
        let driver = driver()?;
        let (stream, pending) = {
            let mut state = driver.state();
            let stream = state.stream(stream)?;
            capture::refuse_captured(&mut state, stream)?;
            capture::refuse_implicit(&mut state, stream)?;
            (stream, is_pending(&state, stream, u64::MAX))
        };
        if !pending {
            return Ok(());
        }
        run_one(driver, stream, u64::MAX)?;
        Err(Error::NOT_READY)
    }

    fn cuStreamWaitEvent | cuStreamWaitEvent_ptsz(stream: Handle, event: Handle, flags: c_uint) {
        if flags & !1 != 0 {
            return Err(Error::INVALID_VALUE);
        }
        let mut state = driver()?.state();
        let stream = state.stream(stream)?;
        let (last, captured) = {
            let event = state.event(event)?;
            (event.last.clone(), event.captured.clone())
        };
        if let Some((capture, nodes)) = captured {
            return capture::join(&mut state, stream, capture, &nodes);
        }
        let Some(last) = last else { return Ok(()) };
        if capture::capture_of(&state, stream)?.is_some() {
            capture::invalidate(&mut state, stream);
            return Err(report::refuse(
                Error::STREAM_CAPTURE_ISOLATION,
                "a capturing stream cannot wait for an event that was recorded outside the capture",
            ));
        }
        if last.time.get().is_some() {
            return Ok(());
        }
        enqueue(&mut state, stream, StreamOp::Wait { stream: last.stream, sequence: last.sequence }).map(drop)
    }

    fn cuStreamAddCallback | cuStreamAddCallback_ptsz(stream: Handle, function: StreamCallback, data: usize, _flags: c_uint) {
        if function.is_none() {
            return Err(Error::INVALID_VALUE);
        }
        submit(stream, StreamOp::Callback { function, data, stream })
    }

    fn cuLaunchHostFunc | cuLaunchHostFunc_ptsz(stream: Handle, function: HostFn, data: usize) {
        if function.is_none() {
            return Err(Error::INVALID_VALUE);
        }
        submit(stream, StreamOp::Host { function, data })
    }

    fn cuStreamGetPriority | cuStreamGetPriority_ptsz(stream: Handle, out: Out<c_int>) {
        let mut state = driver()?.state();
        let stream = state.stream(stream)?;
        out.set(state.streams[&stream].priority)
    }

    fn cuStreamGetFlags | cuStreamGetFlags_ptsz(stream: Handle, out: Out<c_uint>) {
        let mut state = driver()?.state();
        let stream = state.stream(stream)?;
        out.set(state.streams[&stream].flags)
    }

    fn cuStreamGetId | cuStreamGetId_ptsz(stream: Handle, out: Out<u64>) {
        let mut state = driver()?.state();
        let stream = state.stream(stream)?;
        out.set(state.streams[&stream].id)
    }

    fn cuStreamGetCtx | cuStreamGetCtx_ptsz(stream: Handle, out: Out<Handle>) {
        let mut state = driver()?.state();
        let stream = state.stream(stream)?;
        out.set(state.streams[&stream].context)
    }

    fn cuStreamGetCtx_v2 | cuStreamGetCtx_v2_ptsz(stream: Handle, out: Out<Handle>, green: Out<Handle>) {
        let mut state = driver()?.state();
        let stream = state.stream(stream)?;
        green.set_optional(Handle::NULL);
        out.set(state.streams[&stream].context)
    }

    fn cuStreamGetDevice | cuStreamGetDevice_ptsz(stream: Handle, out: Out<c_int>) {
        driver()?.state().stream(stream)?;
        out.set(0)
    }

    fn cuStreamAttachMemAsync | cuStreamAttachMemAsync_ptsz(stream: Handle, _address: DevicePtr, _length: usize, _flags: c_uint) {
        driver()?.state().stream(stream).map(drop)
    }

    fn cuStreamCopyAttributes | cuStreamCopyAttributes_ptsz(to: Handle, from: Handle) {
        let mut state = driver()?.state();
        state.stream(to)?;
        state.stream(from).map(drop)
    }

    fn cuStreamSetAttribute | cuStreamSetAttribute_ptsz(stream: Handle, _attribute: c_int, _value: In<u8>) {
        // Cache windows, priorities and synchronisation policies do not change results.
        driver()?.state().stream(stream).map(drop)
    }

    fn cuStreamGetAttribute | cuStreamGetAttribute_ptsz(stream: Handle, _attribute: c_int, value: Out<[u8; 64]>) {
        driver()?.state().stream(stream)?;
        value.set([0; 64])
    }

    fn cuStreamWriteValue32_v2 | cuStreamWriteValue32_v2_ptsz(stream: Handle, to: DevicePtr, value: u32, _flags: c_uint) {
        submit(stream, StreamOp::Write { to, value: value.into(), bytes: 4 })
    }

    fn cuStreamWriteValue64_v2 | cuStreamWriteValue64_v2_ptsz(stream: Handle, to: DevicePtr, value: u64, _flags: c_uint) {
        submit(stream, StreamOp::Write { to, value, bytes: 8 })
    }

    fn cuStreamWaitValue32_v2 | cuStreamWaitValue32_v2_ptsz(_stream: Handle, _at: DevicePtr, _value: u32, _flags: c_uint) {
        wait_value("cuStreamWaitValue32")
    }

    fn cuStreamWaitValue64_v2 | cuStreamWaitValue64_v2_ptsz(_stream: Handle, _at: DevicePtr, _value: u64, _flags: c_uint) {
        wait_value("cuStreamWaitValue64")
    }
}

/// The stream's queued work still runs, at the latest when the context is synchronised.
fn destroy(stream: Handle) -> CudaResult {
    if stream.0 <= Handle::PER_THREAD.0 {
        return Err(Error::INVALID_HANDLE);
    }
    let mut state = driver()?.state();
    let stream = state.stream(stream)?;
    capture::invalidate(&mut state, stream);
    let Some(found) = state.streams.get_mut(&stream).filter(|stream| !stream.is_legacy) else {
        return Err(Error::INVALID_HANDLE);
    };
    found.destroyed = true;
    if found.queue.is_empty() {
        state.streams.remove(&stream);
    }
    Ok(())
}
