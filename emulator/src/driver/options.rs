//! The environment's settings for the driver itself; those for the device are in [`crate::config`].

use std::ffi::c_int;
use std::path::PathBuf;

/// Settings of the driver, from `CUDA_EMULATOR_*`.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where reports go instead of standard error.
    pub report: Option<PathBuf>,
    /// Where the counters go, as JSON.
    pub counters: Option<PathBuf>,
    /// Do not announce the emulator at the start.
    pub quiet: bool,
    /// Print every call and its result.
    pub trace: bool,
    /// Copies from the device to pageable host memory also wait for their turn.
    pub defer_pageable: bool,
    /// Report what is still allocated when a context ends.
    pub leaks: bool,
    /// Report memory pools as supported, so that programs allocate in stream order.
    pub memory_pools: bool,
    /// The CUDA version that the driver reports: 1000 · major + 10 · minor.
    pub version: c_int,
    /// The newest PTX it takes; `None`: whatever it knows.
    pub ptx: Option<(u32, u32)>,
    /// Devices it lists: none or one.
    pub devices: c_int,
    /// How many operations a stream holds before the oldest runs.
    pub queue_limit: usize,
}

impl Options {
    pub fn from_env() -> Result<Self, String> {
        let path =
            |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Ok(Options {
            report: path("CUDA_EMULATOR_REPORT"),
            counters: path("CUDA_EMULATOR_COUNTERS"),
            quiet: switch("CUDA_EMULATOR_QUIET", false)?,
            trace: switch("CUDA_EMULATOR_TRACE", false)?,
            defer_pageable: switch("CUDA_EMULATOR_DEFER_PAGEABLE", false)?,
            leaks: switch("CUDA_EMULATOR_LEAKS", true)?,
            memory_pools: switch("CUDA_EMULATOR_MEMORY_POOLS", true)?,
            version: version_of("CUDA_EMULATOR_DRIVER")?
                .map_or(VERSION, |(major, minor)| (1000 * major + 10 * minor) as c_int),
            ptx: version_of("CUDA_EMULATOR_PTX")?,
            devices: c_int::from(switch("CUDA_EMULATOR_DEVICES", true)?),
            queue_limit: 1024,
        })
    }
}

/// What `cuDriverGetVersion` reports by default.
const VERSION: c_int = 13000;

/// A setting such as `12.8`.
fn version_of(name: &str) -> Result<Option<(u32, u32)>, String> {
    let Some(text) = std::env::var(name).ok().filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let parts = text.split_once('.');
    let numbers = parts.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let sound = numbers.filter(|&(major, minor)| major < 100 && minor < 100);
    let bad = || format!("{name}: `{text}` is not a version such as 12.8");
    sound.map(Some).ok_or_else(bad)
}

fn switch(name: &str, default: bool) -> Result<bool, String> {
    match std::env::var(name).as_deref() {
        Err(_) | Ok("") => Ok(default),
        Ok("1" | "true" | "on" | "yes") => Ok(true),
        Ok("0" | "false" | "off" | "no") => Ok(false),
        Ok(other) => Err(format!("{name}: `{other}` is neither 1 nor 0")),
    }
}
