//! Which device the benches run on, and how a call is timed on one that works on its own.

use bitfit::backend::cuda::HalfType;
use bitfit::backend::{Backend, WeightType};
use bitfit::program::Region;
use bitfit::session::OpenOptions;
use bitfit::settings::device::DeviceChoice;
use criterion::BenchmarkGroup;
use criterion::measurement::WallTime;
use std::time::Instant;

/// What `BITFIT_BENCH_DEVICE` says.
pub fn choice() -> DeviceChoice {
    match std::env::var("BITFIT_BENCH_DEVICE") {
        Ok(text) => text.parse().unwrap_or_else(|e| panic!("BITFIT_BENCH_DEVICE: {e}")),
        Err(_) => DeviceChoice::Cpu,
    }
}

/// That device, with matrices in 16 bits or as asked.
pub fn open(weights: WeightType) -> Box<dyn Backend> {
    let options = OpenOptions { device: choice(), half: HalfType::F16, weights };
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
    backend.read_f32(word, 1).unwrap();
}
