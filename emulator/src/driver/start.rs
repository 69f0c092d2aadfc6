//! Start and end: what `cuInit` does, and what is reported when the process ends.

use super::error::{CudaResult, Error};
use super::report::{emit, leaks, write_counters};
use super::state::{driver, make};

unsafe extern "C" {
    fn atexit(function: extern "C" fn()) -> std::ffi::c_int;
}

/// `cuInit`: reads the environment once.
pub fn initialise() -> CudaResult {
    let (first, made) = make();
    match made {
        Ok(made) => {
            if first {
                at_start();
            }
            match made.options.devices {
                0 => Err(Error::NO_DEVICE),
                _ => Ok(()),
            }
        }
        Err(message) => {
            if first {
                eprintln!("CUDA emulator: {message}");
            }
            Err(Error::INVALID_VALUE)
        }
    }
}

/// Runs once, at the first `cuInit`.
fn at_start() {
    let Ok(driver) = driver() else { return };
    if !driver.options.quiet {
        let (major, minor) = driver.config.capability;
        eprintln!(
            "CUDA emulator: this process runs on {}, capability {major}.{minor}",
            driver.config.name
        );
    }
    // SAFETY: C's atexit with a function that lives as long as this library.
    unsafe { atexit(at_exit) };
}

extern "C" fn at_exit() {
    let _ = std::panic::catch_unwind(|| {
        let Ok(driver) = driver() else { return };
        let state = driver.state();
        // A context that has failed drops its work, as already reported.
        let waiting: usize = state
            .streams
            .values()
            .filter(|stream| state.check(stream.context).is_ok())
            .map(|stream| stream.queue.len())
            .sum();
        if waiting > 0 {
            emit(&format!(
                "never run: {waiting} operations were enqueued and nothing ever waited for them"
            ));
        }
        let left: Vec<_> = state.allocations.iter().map(|(base, a)| (*base, *a)).collect();
        drop(state);
        leaks("at exit", &left);
        write_counters();
    });
}
