//! Temporary memory of the operations, allocated once: a buffer for each thread and one for partial sums.

use super::aligned::Aligned;
use anyhow::Result;
use std::sync::Mutex;

/// One buffer a rayon thread.
#[derive(Default)]
pub struct Scratch {
    slots: Vec<Mutex<Aligned>>,
}

impl Scratch {
    /// `count` elements for each of `threads` threads.
    pub fn new(threads: usize, count: usize) -> Result<Self> {
        let slots = (0..threads)
            .map(|_| Ok(Mutex::new(Aligned::new(count, 0.0, "temporary memory")?)))
            .collect::<Result<_>>()?;
        Ok(Self { slots })
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        let of = |slot: &Mutex<Aligned>| {
            slot.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).bytes()
        };
        self.slots.iter().map(of).sum()
    }

    /// Runs `work` with `count` elements of this thread's buffer; their content is arbitrary.
    ///
    /// The buffer grows only where a caller needs more than was planned, or runs in a larger pool than the one
    /// that allocated; then two threads may take turns on one buffer, which is slower but right.
    pub fn with<R>(&self, count: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
        let thread = rayon::current_thread_index().unwrap_or(0);
        let Some(slot) = self.slots.get(thread % self.slots.len().max(1)) else {
            let mut own = Aligned::default();
            own.reserve(count);
            return work(&mut own.as_mut_slice()[..count]);
        };
        // A panic of another task left numbers half written, and content is arbitrary anyway.
        let mut buffer = slot.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        buffer.reserve(count);
        work(&mut buffer.as_mut_slice()[..count])
    }
}
