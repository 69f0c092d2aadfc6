//! Streams as ordered queues, and the engine that runs them.
//!
//! Nothing runs when it is enqueued. Work runs when something waits for it: a synchronising call, a blocking copy, an
//! event that is waited for, a query (which runs one operation, so that a polling loop ends), or a queue grown past its
//! limit. Only the awaited work and its dependencies run: a program that forgets to wait sees stale data here, every
//! time.
//!
//! Order. Every operation has a number from one counter, the order of the program's calls, and an operation can depend
//! only on lower numbers:
//! - the operations before it in its stream;
//! - for `cuStreamWaitEvent`, the event's record;
//! - in the legacy default stream, everything enqueued before it in the context's blocking streams; in a blocking
//!   stream, everything enqueued before it in the legacy default stream.
//!
//! So the needed operations, run in the order of their numbers, are a valid schedule.

use std::collections::HashMap;
use std::ffi::c_int;
use std::sync::PoisonError;
use std::time::Instant;

use crate::exec::launch_after;

use super::capture;
use super::entry;
use super::error::CudaResult;
use super::graph;
use super::op::{KernelOp, StreamOp};
use super::report;
use super::state::{Driver, State, driver};
use super::types::{Handle, StreamCallback};

/// Enqueues an operation, or adds it to the graph that the stream is capturing. Returns its number, or `None`
/// while capturing.
pub fn enqueue(state: &mut State, stream: Handle, op: StreamOp) -> CudaResult<Option<u64>> {
    let stream = state.stream(stream)?;
    if capture::capture_of(state, stream)?.is_some() {
        capture::add_captured(state, stream, op)?;
        return Ok(None);
    }
    capture::refuse_implicit(state, stream)?;
    let sequence = state.next_sequence();
    if let Some(stream) = state.streams.get_mut(&stream) {
        stream.queue.push_back((sequence, op));
    }
    Ok(Some(sequence))
}

/// Enqueues, then runs the oldest work if the queue has grown past its limit, as a driver does.
pub fn submit(stream: Handle, op: StreamOp) -> CudaResult {
    let driver = driver()?;
    let oldest = {
        let mut state = driver.state();
        let handle = state.stream(stream)?;
        enqueue(&mut state, handle, op)?;
        let queue = &state.streams[&handle].queue;
        if queue.len() > driver.options.queue_limit {
            queue.front().map(|(number, _)| (handle, *number))
        } else {
            None
        }
    };
    match oldest {
        Some((stream, number)) => run_until(driver, &[(stream, number)]),
        None => Ok(()),
    }
}

/// Enqueues on the legacy default stream and waits: the blocking forms of the API.
pub fn submit_and_wait(stream: Handle, op: StreamOp) -> CudaResult {
    let driver = driver()?;
    let target = {
        let mut state = driver.state();
        let handle = state.stream(stream)?;
        enqueue(&mut state, handle, op)?.map(|number| (handle, number))
    };
    // A blocking call cannot be captured: calls made while capturing have already been refused.
    run_until(driver, &target.map_or(vec![], |target| vec![target]))
}

/// Runs all work of a stream.
pub fn synchronize_stream(driver: &Driver, stream: Handle) -> CudaResult {
    run_until(driver, &[(stream, u64::MAX)])
}

/// Runs all work of a context.
pub fn synchronize_context(driver: &Driver, context: Handle) -> CudaResult {
    let streams: Vec<_> = {
        let state = driver.state();
        state.check(context)?;
        state
            .streams
            .iter()
            .filter(|(_, s)| s.context == context)
            .map(|(handle, _)| (*handle, u64::MAX))
            .collect()
    };
    run_until(driver, &streams)
}

/// Whether an operation of the stream up to the number is still queued.
pub fn is_pending(state: &State, stream: Handle, number: u64) -> bool {
    state
        .streams
        .get(&stream)
        .is_some_and(|s| s.queue.front().is_some_and(|(first, _)| *first <= number))
}

/// Runs the next operation that the target needs: what a query does.
pub fn run_one(driver: &Driver, stream: Handle, number: u64) -> CudaResult {
    let first = {
        let state = driver.state();
        state
            .streams
            .get(&stream)
            .and_then(|s| s.queue.front())
            .map(|(first, _)| *first)
            .filter(|first| *first <= number)
    };
    match first {
        Some(first) => run_until(driver, &[(stream, first)]),
        None => Ok(()),
    }
}

/// Runs what the targets (stream, up to number) need. The error is the sticky error of the first target's context.
pub fn run_until(driver: &Driver, targets: &[(Handle, u64)]) -> CudaResult {
    if targets.is_empty() {
        return Ok(());
    }
    let _engine = driver.engine.lock().unwrap_or_else(PoisonError::into_inner);
    let plan = plan(&driver.state(), targets);
    for (number, stream) in plan {
        let (op, context) = {
            let mut state = driver.state();
            let Some(found) = state.streams.get_mut(&stream) else {
                continue;
            };
            let Some((first, op)) = found.queue.pop_front() else {
                continue;
            };
            debug_assert_eq!(first, number, "the engine alone takes from the queues");
            let context = found.context;
            (op, context)
        };
        report::trace_run(stream, &op);
        run_in_context(driver, context, op);
    }
    let mut state = driver.state();
    state.streams.retain(|_, stream| !(stream.destroyed && stream.queue.is_empty()));
    let context = targets
        .iter()
        .find_map(|(stream, _)| state.streams.get(stream))
        .map(|stream| stream.context);
    context.map_or(Ok(()), |context| state.check(context))
}

/// The (number, stream) pairs of everything the targets need, ordered by number.
fn plan(state: &State, targets: &[(Handle, u64)]) -> Vec<(u64, Handle)> {
    let mut wanted: HashMap<Handle, u64> = HashMap::new();
    let mut open: Vec<(Handle, u64)> = targets.to_vec();
    while let Some((handle, number)) = open.pop() {
        let Some(stream) = state.streams.get(&handle) else {
            continue;
        };
        let known = wanted.get(&handle).copied().unwrap_or(0);
        if number <= known {
            continue;
        }
        wanted.insert(handle, number);
        let mut newest = None;
        for (at, op) in
            stream.queue.iter().take_while(|(at, _)| *at <= number).filter(|(at, _)| *at > known)
        {
            newest = Some(*at);
            if let StreamOp::Wait { stream, sequence } = op {
                open.push((*stream, *sequence));
            }
        }
        // The legacy default stream and the blocking streams wait for each other.
        let Some(newest) = newest else { continue };
        if stream.is_legacy {
            open.extend(
                state
                    .streams
                    .iter()
                    .filter(|(_, other)| other.context == stream.context && other.is_blocking())
                    .map(|(other, _)| (*other, newest - 1)),
            );
        } else if stream.is_blocking()
            && let Some(context) = state.contexts.get(&stream.context)
        {
            open.push((context.legacy, newest - 1));
        }
    }
    let mut plan: Vec<(u64, Handle)> = wanted
        .iter()
        .flat_map(|(handle, last)| {
            let queue = state.streams.get(handle).map(|stream| stream.queue.iter());
            queue
                .into_iter()
                .flatten()
                .take_while(|(at, _)| at <= last)
                .map(|(at, _)| (*at, *handle))
        })
        .collect();
    plan.sort_unstable();
    plan
}

/// Runs one operation and makes its failure the context's sticky error. In a context that has failed, only bookkeeping
/// still happens.
fn run_in_context(driver: &Driver, context: Handle, op: StreamOp) {
    let failed = driver.state().check(context).err();
    let result = match (failed, op) {
        (_, StreamOp::Record(record)) => {
            let _ = record.time.set(Instant::now());
            Ok(())
        }
        // A stream callback is always called, with the status.
        (Some(error), StreamOp::Callback { function, data, stream }) => {
            run_callback(function, data, stream, error.0);
            Ok(())
        }
        // Memory the program has freed is released in any case.
        (Some(_), op @ StreamOp::Free(_)) => run(driver, &op),
        (Some(_), _) => Ok(()),
        (None, op) => run(driver, &op),
    };
    if let Err(error) = result {
        let mut state = driver.state();
        if let Some(context) = state.contexts.get_mut(&context) {
            context.sticky.get_or_insert(error);
        }
    }
}

fn run_callback(function: StreamCallback, data: usize, stream: Handle, status: c_int) {
    if let Some(function) = function {
        // SAFETY: the program gave this function to be called with this argument.
        entry::callback(|| unsafe { function(stream, status, data as *mut _) });
    }
}

/// Runs one operation now.
pub fn run(driver: &Driver, op: &StreamOp) -> CudaResult {
    match op {
        StreamOp::Kernel(kernel) => run_kernel(driver, kernel, driver.memory.epoch()),
        StreamOp::Copy(copy) => {
            copy.run(&driver.memory).map_err(|error| report::memory_fault("a queued copy", &error))
        }
        StreamOp::Fill(fill) => {
            fill.run(&driver.memory).map_err(|error| report::memory_fault("a queued fill", &error))
        }
        StreamOp::Host { function, data } => {
            if let Some(function) = *function {
                // SAFETY: the program gave this function to be called with this argument.
                entry::callback(|| unsafe { function(*data as *mut _) });
            }
            Ok(())
        }
        StreamOp::Callback { function, data, stream } => {
            run_callback(*function, *data, *stream, 0);
            Ok(())
        }
        StreamOp::Record(record) => {
            let _ = record.time.set(Instant::now());
            Ok(())
        }
        StreamOp::Wait { .. } | StreamOp::Nothing => Ok(()),
        StreamOp::Free(address) => driver
            .memory
            .free(*address)
            .map_err(|error| report::memory_fault("cuMemFreeAsync", &error)),
        StreamOp::Refresh(_) => Ok(()),
        StreamOp::Write { to, value, bytes } => driver
            .memory
            .copy_from_host(*to, &value.to_le_bytes()[..*bytes])
            .map_err(|error| report::memory_fault("cuStreamWriteValue", &error)),
        StreamOp::Graph(nodes) => {
            let mut ran = vec![0; nodes.len()];
            for index in graph::order(nodes, driver.config.warp_order_seed) {
                match (&nodes[index].op, &nodes[index].dependencies[..]) {
                    (StreamOp::Kernel(kernel), &[before]) => {
                        run_kernel(driver, kernel, ran[before])?;
                    }
                    (op, _) => run(driver, op)?,
                }
                ran[index] = driver.memory.epoch();
            }
            Ok(())
        }
    }
}

/// A dependent launch depends on the one with the number `before`.
fn run_kernel(driver: &Driver, op: &KernelOp, before: u64) -> CudaResult {
    match launch_after(&op.kernel, &op.launch, &driver.memory, &driver.config, before) {
        Ok(counters) => {
            report::count(counters);
            Ok(())
        }
        Err(fault) => Err(report::fault(&fault)),
    }
}
