//! Processor time for tests: on a clock, a machine that pauses would fail what is bounded in time.

use std::time::Duration;

/// The processor time of this thread since a moment.
pub struct ProcessorTime(Duration);

impl ProcessorTime {
    pub fn begin() -> Self {
        Self(of_thread())
    }

    pub fn taken(&self) -> Duration {
        of_thread().saturating_sub(self.0)
    }
}

#[cfg(unix)]
fn of_thread() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock writes to `time`, which outlives the call.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(done, 0, "no clock of processor time");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Elsewhere nothing is bounded.
#[cfg(not(unix))]
fn of_thread() -> Duration {
    Duration::ZERO
}
