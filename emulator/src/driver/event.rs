//! Events: records in streams, queries, waiting and timing.

use std::ffi::c_uint;
use std::sync::{Arc, OnceLock};

use super::capture;
use super::entry::api;
use super::error::{CudaResult, Error};
use super::objects::Event;
use super::op::{Record, StreamOp};
use super::queue::{enqueue, run_one, run_until};
use super::report;
use super::state::driver;
use super::types::{Handle, Out};

const DISABLE_TIMING: c_uint = 2;

fn record(event: Handle, stream: Handle, flags: c_uint) -> CudaResult {
    let mut state = driver()?.state();
    let stream = state.stream(stream)?;
    let context = state.streams[&stream].context;
    if state.event(event)?.context != context {
        return Err(report::refuse(
            Error::INVALID_HANDLE,
            "cuEventRecord: event and stream are of different contexts",
        ));
    }
    if let Some(capture) = capture::capture_of(&state, stream)? {
        if flags & 1 != 0 {
            return Err(report::refuse(
                Error::NOT_SUPPORTED,
                "cuEventRecordWithFlags: external event nodes",
            ));
        }
        let nodes = capture::heads(&state, capture, stream);
        let event = state.event(event)?;
        event.captured = Some((capture, nodes));
        event.last = None;
        return Ok(());
    }
    // The record's own number is only known once it is queued.
    let sequence = state.sequence + 1;
    let record = Arc::new(Record { stream, sequence, time: OnceLock::new() });
    let queued = enqueue(&mut state, stream, StreamOp::Record(record.clone()))?;
    debug_assert_eq!(queued, Some(sequence));
    let event = state.event(event)?;
    event.last = Some(record);
    event.captured = None;
    Ok(())
}

/// The last record of an event that must not be part of a capture.
fn last_record(event: Handle) -> CudaResult<Option<Arc<Record>>> {
    let mut state = driver()?.state();
    let context = state.event(event)?.context;
    state.check(context)?;
    let event = state.event(event)?;
    if let Some((capture, _)) = event.captured {
        capture::invalidate_capture(&mut state, capture);
        return Err(Error::CAPTURED_EVENT);
    }
    Ok(event.last.clone())
}

fn elapsed(milliseconds: &Out<f32>, start: Handle, end: Handle) -> CudaResult {
    let driver = driver()?;
    {
        let mut state = driver.state();
        if state.event(start)?.flags & DISABLE_TIMING != 0
            || state.event(end)?.flags & DISABLE_TIMING != 0
        {
            return Err(Error::INVALID_HANDLE);
        }
    }
    let (Some(start), Some(end)) = (last_record(start)?, last_record(end)?) else {
        return Err(Error::INVALID_HANDLE);
    };
    let (Some(from), Some(to)) = (start.time.get(), end.time.get()) else {
        return Err(Error::NOT_READY);
    };
    let seconds =
        if to >= from { (*to - *from).as_secs_f64() } else { -(*from - *to).as_secs_f64() };
    milliseconds.set((seconds * 1e3) as f32)
}

fn destroy(event: Handle) -> CudaResult {
    let mut state = driver()?.state();
    state.events.remove(&event).map(drop).ok_or(Error::INVALID_HANDLE)
}

api! {
    fn cuEventCreate(out: Out<Handle>, flags: c_uint) {
        // Inter-process events would need another process's driver.
        if out.is_null() || flags & !3 != 0 {
            return Err(Error::INVALID_VALUE);
        }
        let mut state = driver()?.state();
        let context = state.current()?;
        let event = state.handle();
        state.events.insert(event, Event { context, flags, last: None, captured: None });
        out.set(event)
    }

    fn cuEventDestroy(event: Handle) {
        destroy(event)
    }

    fn cuEventDestroy_v2(event: Handle) {
        destroy(event)
    }

    fn cuEventRecord | cuEventRecord_ptsz(event: Handle, stream: Handle) {
        record(event, stream, 0)
    }

    fn cuEventRecordWithFlags | cuEventRecordWithFlags_ptsz(event: Handle, stream: Handle, flags: c_uint) {
        record(event, stream, flags)
    }

    fn cuEventSynchronize(event: Handle) {
        match last_record(event)? {
            Some(last) if last.time.get().is_none() => run_until(driver()?, &[(last.stream, last.sequence)]),
            _ => Ok(()),
        }
    }

    /// A query runs one operation, so that a polling program makes progress.
    fn cuEventQuery(event: Handle) {
        let Some(last) = last_record(event)?.filter(|last| last.time.get().is_none()) else { return Ok(()) };
        let driver = driver()?;
        run_one(driver, last.stream, last.sequence)?;
        Err(Error::NOT_READY)
    }

    fn cuEventElapsedTime(milliseconds: Out<f32>, start: Handle, end: Handle) {
        elapsed(&milliseconds, start, end)
    }

    fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: Handle, end: Handle) {
        elapsed(&milliseconds, start, end)
    }
}
