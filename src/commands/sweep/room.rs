//! Which runs are at work at a time: as many as there are workers, and no more than fit the memory. The frozen weights count
//! once for all runs that share them.

use crate::backend::Footprint;
use crate::settings::train::TrainConfig;
use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What a run takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Need {
    /// What it shares with others, by what names it, in bytes.
    shared: (String, usize),
    /// What it has for itself.
    own: usize,
}

impl Need {
    /// Of a run with these settings that was planned so.
    pub fn of(config: &TrainConfig, planned: Footprint) -> Self {
        let shared = match config.method.facts().freezes_weights {
            true => planned.weights,
            false => 0,
        };
        let name = format!("{} {}", config.model, config.weights);
        Self { shared: (name, shared), own: planned.total() - shared }
    }
}

/// Memory that runs take and give back.
pub struct Memory {
    /// `None`: as much as there is.
    limit: Option<usize>,
    taken: Mutex<Taken>,
    given_back: Condvar,
}

#[derive(Default)]
struct Taken {
    /// Frozen weights stay for the runs to come.
    shared: HashMap<String, usize>,
    own: usize,
    at_work: usize,
    /// The most that runs had at one time.
    most: usize,
}

impl Taken {
    fn with(&self, need: &Need) -> usize {
        let (name, bytes) = &need.shared;
        let others = self.shared.iter().filter(|(other, _)| *other != name);
        let before = self.shared.get(name).copied().unwrap_or(0);
        others.map(|(_, bytes)| bytes).sum::<usize>() + before.max(*bytes) + self.own + need.own
    }
}

/// A run's part of the memory, which goes back with this.
pub struct Place<'a> {
    memory: &'a Memory,
    own: usize,
}

impl Memory {
    pub fn new(limit: Option<usize>) -> Self {
        Self { limit, taken: Mutex::default(), given_back: Condvar::new() }
    }

    /// Waits until a run fits beside those at work. One that fits nowhere is let in alone: it says so itself, or the limit was
    /// no more than a guess.
    pub fn take(&self, need: &Need) -> Place<'_> {
        let mut taken = self.lock();
        while taken.at_work > 0 && self.limit.is_some_and(|limit| taken.with(need) > limit) {
            taken = self.given_back.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        taken.most = taken.most.max(taken.with(need));
        let (name, bytes) = &need.shared;
        let shared = taken.shared.entry(name.clone()).or_default();
        *shared = (*shared).max(*bytes);
        taken.own += need.own;
        taken.at_work += 1;
        Place { memory: self, own: need.own }
    }

    /// The most bytes that runs had at one time, as planned.
    pub fn most(&self) -> usize {
        self.lock().most
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.memory.lock();
        taken.own -= self.own;
        taken.at_work -= 1;
        drop(taken);
        self.memory.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn need(own: usize) -> Need {
        Need { shared: ("m f16".to_owned(), 100), own }
    }

    #[test]
    fn frozen_weights_count_once_and_a_run_waits_for_room() {
        let memory = Memory::new(Some(125));
        let (at_work, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let _place = memory.take(&need(10));
                    most.fetch_max(at_work.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(20));
                    at_work.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!((most.into_inner(), memory.most()), (2, 120));
    }

    #[test]
    fn a_run_that_fits_nowhere_is_let_in_alone() {
        let memory = Memory::new(Some(50));
        drop(memory.take(&need(10)));
        let _place = memory.take(&need(10));
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let memory = Memory::new(None);
        let (_one, _two) = (memory.take(&need(1000)), memory.take(&need(1000)));
        assert_eq!(memory.most(), 2100);
    }
}
