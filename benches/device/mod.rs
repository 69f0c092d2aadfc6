//! Which device the benches run on, and how to time calls on a device that works asynchronously.

use bitfit::backend::{Backend, WeightType};
use bitfit::program::{Region, Storage};
use bitfit::ranks::Share;
use bitfit::session::OpenOptions;
use bitfit::settings::choice::{Choice, Precision};
use bitfit::settings::device::DeviceChoice;
use criterion::BenchmarkGroup;
use criterion::measurement::WallTime;
use std::time::Instant;

/// The value of `BITFIT_BENCH_DEVICE`.
pub fn choice() -> DeviceChoice {
    match std::env::var("BITFIT_BENCH_DEVICE") {
        Ok(text) => text.parse().unwrap_or_else(|e| panic!("BITFIT_BENCH_DEVICE: {e}")),
        Err(_) => DeviceChoice::Cpu,
    }
}

/// The value of `BITFIT_BENCH_PRECISION`; by default f32 on a CPU and f16 on a GPU.
fn precision() -> Precision {
    match std::env::var("BITFIT_BENCH_PRECISION") {
        Ok(text) => {
            Precision::from_name(&text).unwrap_or_else(|e| panic!("BITFIT_BENCH_PRECISION: {e}"))
        }
        Err(_) if matches!(choice(), DeviceChoice::Cuda(_)) => Precision::F16,
        Err(_) => Precision::F32,
    }
}

/// That device, with matrices in 16 bits or as asked.
pub fn open(weights: WeightType) -> Box<dyn Backend> {
    let options = OpenOptions {
        device: choice(),
        here: Share::WHOLE,
        precision: precision(),
        weights,
        matrices_train: false,
    };
    bitfit::session::open(options).unwrap_or_else(|e| panic!("{e:#}"))
}

/// Timing of calls that may only have been queued when they return.
pub trait Timed {
    fn timed(
        &mut self,
        name: impl Into<String>,
        backend: &mut dyn Backend,
        call: impl FnMut(&mut dyn Backend) -> anyhow::Result<()>,
    );
}

impl Timed for BenchmarkGroup<'_, WallTime> {
    fn timed(
        &mut self,
        name: impl Into<String>,
        backend: &mut dyn Backend,
        mut call: impl FnMut(&mut dyn Backend) -> anyhow::Result<()>,
    ) {
        self.bench_function(name.into(), |bench| {
            bench.iter_custom(|times| {
                wait(backend);
                let start = Instant::now();
                for _ in 0..times {
                    call(backend).unwrap();
                }
                wait(backend);
                start.elapsed()
            });
        });
    }
}

/// Reading waits for everything before it.
fn wait(backend: &dyn Backend) {
    let word = Region { offset: 0, len: 4 };
    backend.read(word, Storage::F32, 1).unwrap();
}
