//! `bitfit doctor`: what this program can run on here, and what is missing.

use super::show;
use crate::backend::cuda::device::{LOWEST_CAPABILITY, report};
use crate::words::count;
use anyhow::Result;
use std::fmt::Write;

pub fn run() -> Result<()> {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<10}{value}");
    };
    line("bitfit", env!("CARGO_PKG_VERSION").into());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    line("cpu", count(threads, "thread"));
    line("mpi", mpi());

    let report = report();
    match report.toolkit {
        Some(release) => line("kernels", format!("{} (made by CUDA {release})", report.images)),
        None => line(
            "kernels",
            "none: this program was built without a CUDA compiler; run scripts/fetch-cuda (needs pip) or set \
             CUDA_HOME, and build again"
                .into(),
        ),
    }
    match &report.driver {
        Ok(version) => line("driver", format!("speaks CUDA {version}")),
        Err(problem) => line("driver", format!("none usable: {problem}")),
    }
    let mib = |bytes: usize| bytes / (1 << 20);
    for (index, device) in report.devices.iter().enumerate() {
        let value = match device {
            Ok(info) => format!(
                "{}, compute capability {}.{}, {} multiprocessors, {} MiB free of {} MiB, {} KiB of shared memory \
                 per block",
                info.name,
                info.capability.0,
                info.capability.1,
                info.multiprocessors,
                mib(info.free_memory),
                mib(info.total_memory),
                info.shared_memory / 1024
            ),
            Err(problem) => format!("cannot be used: {problem}"),
        };
        line(&format!("cuda:{index}"), value);
    }
    if report.driver.is_ok() && report.devices.is_empty() {
        let (major, minor) = LOWEST_CAPABILITY;
        line("devices", format!("none; compute capability {major}.{minor} or higher is needed"));
    }
    show(text)
}

/// What joins several processes into one run.
#[cfg(feature = "mpi")]
fn mpi() -> String {
    crate::ranks::mpi::version()
}

#[cfg(not(feature = "mpi"))]
fn mpi() -> String {
    "none, a single process; build with --features mpi to train on several machines or GPUs".into()
}
