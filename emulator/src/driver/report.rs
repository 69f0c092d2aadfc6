//! What the emulator tells the user: failed checks, leaks, counters.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use crate::check::{Fault, FaultKind};
use crate::counters::KernelCounters;
use crate::memory::MemoryError;

use super::error::Error;
use super::objects::{DriverAllocation, Kind};
use super::op::StreamOp;
use super::state::driver;
use super::types::{DevicePtr, Handle};

/// Counters by kernel name, summed over launches.
static COUNTERS: Mutex<BTreeMap<String, KernelCounters>> = Mutex::new(BTreeMap::new());
/// Keeps the lines of two reports from mixing.
static OUTPUT: Mutex<()> = Mutex::new(());

/// Writes a report to the chosen place.
pub fn emit(text: &str) {
    let _guard = OUTPUT.lock().unwrap_or_else(PoisonError::into_inner);
    let text = format!("CUDA emulator: {text}\n");
    if let Ok(driver) = driver()
        && let Some(path) = &driver.options.report
    {
        let file = OpenOptions::new().create(true).append(true).open(path);
        if file.and_then(|mut file| file.write_all(text.as_bytes())).is_ok() {
            return;
        }
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// A warning that explains why a call returns an error.
pub fn warn(text: &str) {
    emit(text);
}

/// Warns about a refused call and returns the error.
pub fn refuse(error: Error, text: &str) -> Error {
    emit(&format!("{}: {text}", error.name()));
    error
}

pub fn trace(name: &str, code: i32) {
    if driver().is_ok_and(|driver| driver.options.trace) {
        emit(&format!("{name} -> {code}"));
    }
}

/// An operation whose turn has come.
pub fn trace_run(stream: Handle, op: &StreamOp) {
    if driver().is_ok_and(|driver| driver.options.trace) {
        emit(&format!("stream {:#x} runs: {op}", stream.0));
    }
}

/// Reports a failed check of a kernel; the result is what every later call in the context returns.
pub fn fault(fault: &Fault) -> Error {
    let error = match fault.kind {
        FaultKind::OutOfBounds | FaultKind::UseAfterFree => Error::ILLEGAL_ADDRESS,
        FaultKind::Misaligned => Error::MISALIGNED_ADDRESS,
        FaultKind::Trap if fault.message.contains("assert") => Error::ASSERT,
        FaultKind::IllegalInstruction => Error::ILLEGAL_INSTRUCTION,
        FaultKind::Deadlock => Error::LAUNCH_TIMEOUT,
        FaultKind::InvalidLaunch => Error::INVALID_VALUE,
        _ => Error::LAUNCH_FAILED,
    };
    emit(&format!("{} ({}) {fault}", error.name(), error.0));
    error
}

/// Reports a copy or fill that failed when its turn came.
pub fn memory_fault(operation: &str, error: &MemoryError) -> Error {
    refuse(Error::ILLEGAL_ADDRESS, &format!("{operation}: {error}"))
}

pub fn count(counters: KernelCounters) {
    let mut all = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
    match all.get_mut(&counters.kernel) {
        Some(sum) => sum.add(&counters),
        None => {
            all.insert(counters.kernel.clone(), counters);
        }
    }
}

/// Lists what is still allocated.
pub fn leaks(when: &str, left: &[(DevicePtr, DriverAllocation)]) {
    let Ok(driver) = driver() else { return };
    let left: Vec<_> =
        left.iter().filter(|(_, a)| !matches!(a.kind, Kind::Registered | Kind::Graph(_))).collect();
    if left.is_empty() || !driver.options.leaks {
        return;
    }
    let bytes: usize = left.iter().map(|(_, a)| a.size).sum();
    let mut text =
        format!("leak {when}: {} allocations, {bytes} bytes were never freed", left.len());
    for (base, allocation) in left.iter().take(16) {
        let kind = match allocation.kind {
            Kind::Device => "device",
            Kind::Pooled(_) => "stream-ordered device",
            Kind::Managed => "managed",
            _ => "pinned host",
        };
        text += &format!(
            "\n  {kind} allocation {} at {base:#x}, {} bytes",
            allocation.id, allocation.size
        );
    }
    if left.len() > 16 {
        text += &format!("\n  and {} more", left.len() - 16);
    }
    emit(&text);
}

/// Writes the counters' JSON, if asked for.
pub fn write_counters() {
    let Ok(driver) = driver() else { return };
    let Some(path) = &driver.options.counters else {
        return;
    };
    let kernels: Vec<_> = COUNTERS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .values()
        .map(KernelCounters::to_json)
        .collect();
    let (major, minor) = driver.config.capability;
    let report = serde_json::json!({
        "device": driver.config.name,
        "capability": format!("{major}.{minor}"),
        "kernels": kernels,
    });
    let text = serde_json::to_string_pretty(&report).unwrap_or_default();
    if let Err(error) = std::fs::write(path, text + "\n") {
        emit(&format!("cannot write the counters to {}: {error}", path.display()));
    }
}

/// When a context ends: reports its leaks and writes the counters so far.
pub fn context_ended(context: Handle, left: &[(DevicePtr, DriverAllocation)]) {
    leaks(&format!("at the end of context {:#x}", context.0), left);
    write_counters();
}
