//! What the environment says about the driver itself; the device's own settings are in [`crate::config`].

use std::path::PathBuf;

/// Settings of the driver, from `CUDA_EMULATOR_*`.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where reports go instead of standard error.
    pub report: Option<PathBuf>,
    /// Where the counters go, as JSON.
    pub counters: Option<PathBuf>,
    /// Do not say at the start that this is the emulator.
    pub quiet: bool,
    /// Print every call and its result.
    pub trace: bool,
    /// Copies from the device to pageable host memory wait for their turn, too.
    pub defer_pageable: bool,
    /// Report what is still allocated when a context ends.
    pub leaks: bool,
    /// Report memory pools as supported, so that programs allocate in stream order.
    pub memory_pools: bool,
    /// How many operations a stream holds before the oldest runs.
    pub queue_limit: usize,
}

impl Options {
    pub fn from_env() -> Result<Self, String> {
        let path = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        Ok(Options {
            report: path("CUDA_EMULATOR_REPORT"),
            counters: path("CUDA_EMULATOR_COUNTERS"),
            quiet: switch("CUDA_EMULATOR_QUIET", false)?,
            trace: switch("CUDA_EMULATOR_TRACE", false)?,
            defer_pageable: switch("CUDA_EMULATOR_DEFER_PAGEABLE", false)?,
            leaks: switch("CUDA_EMULATOR_LEAKS", true)?,
            memory_pools: switch("CUDA_EMULATOR_MEMORY_POOLS", true)?,
            queue_limit: 1024,
        })
    }
}

fn switch(name: &str, default: bool) -> Result<bool, String> {
    match std::env::var(name).as_deref() {
        Err(_) | Ok("") => Ok(default),
        Ok("1" | "true" | "on" | "yes") => Ok(true),
        Ok("0" | "false" | "off" | "no") => Ok(false),
        Ok(other) => Err(format!("{name}: `{other}` is neither 1 nor 0")),
    }
}
