//! Times launches with a pair of events around each, on request.

use crate::backend::timing::{Launch, Piece, TiledProduct};
use anyhow::{Context, Result};
use cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT;
use cudarc::driver::{CudaEvent, CudaFunction, CudaStream, LaunchConfig};
use std::sync::{Mutex, PoisonError};

/// Threads of a warp.
const WARP: u32 = 32;

/// Runs from [`Stopwatch::start`] to [`Stopwatch::stop`].
#[derive(Debug, Default)]
pub struct Stopwatch(Mutex<Option<Watched>>);

#[derive(Debug, Default)]
struct Watched {
    /// The current operation.
    op: Option<usize>,
    /// The product to be launched next.
    tiled: Option<TiledProduct>,
    launches: Vec<Timed>,
}

#[derive(Debug)]
struct Timed {
    op: Option<usize>,
    launch: Launch,
    events: [CudaEvent; 2],
}

impl Stopwatch {
    fn with<T>(&self, of: impl FnOnce(&mut Option<Watched>) -> T) -> T {
        of(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn start(&self) {
        self.with(|watched| *watched = Some(Watched::default()));
    }

    /// What is launched from now on belongs to this operation.
    pub fn enter(&self, op: Option<usize>) {
        self.with(|watched| watched.as_mut().map_or((), |watched| watched.op = op));
    }

    /// The next launch is this product.
    pub fn tiled(&self, product: &TiledProduct) {
        self.with(|watched| {
            if let Some(watched) = watched {
                watched.tiled = Some(product.clone());
            }
        });
    }

    /// Launches a kernel, timed while the watch runs.
    ///
    /// # Errors
    /// As `launch`; also if the device has no event.
    pub fn time(
        &self,
        stream: &CudaStream,
        (name, function): (&str, &CudaFunction),
        config: LaunchConfig,
        launch: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        if self.with(|watched| watched.is_none()) {
            return launch();
        }
        let event = || stream.record_event(Some(CU_EVENT_DEFAULT)).context("no event");
        let start = event()?;
        launch()?;
        let end = event()?;
        let dynamic = config.shared_mem_bytes as usize;
        let threads = config.block_dim.0;
        let at_once =
            function.occupancy_max_active_blocks_per_multiprocessor(threads, dynamic, None)?;
        let (x, y, z) = config.grid_dim;
        let launch = Launch {
            kernel: name.to_owned(),
            blocks: [x, y, z].map(|side| side as usize).iter().product(),
            threads: threads as usize,
            registers: usize::try_from(function.num_regs()?)?,
            shared: usize::try_from(function.shared_size_bytes()?)? + dynamic,
            warps: (at_once * threads.div_ceil(WARP)) as usize,
            tiled: None,
        };
        self.with(|watched| {
            if let Some(Watched { op, tiled, launches }) = watched {
                let launch = Launch { tiled: tiled.take(), ..launch };
                launches.push(Timed { op: *op, launch, events: [start, end] });
            }
        });
        Ok(())
    }

    /// Waits for everything launched since the start and returns the time of each launch.
    ///
    /// # Errors
    /// When the device failed.
    pub fn stop(&self) -> Result<Vec<Piece>> {
        let launches = self.with(Option::take).map(|watched| watched.launches);
        let pieces =
            launches.into_iter().flatten().map(|Timed { op, launch, events: [start, end] }| {
                let milliseconds = start.elapsed_ms(&end).context("cannot time a kernel")?;
                Ok(Piece { op, kernel: Some(launch), seconds: f64::from(milliseconds) / 1e3 })
            });
        pieces.collect()
    }
}
