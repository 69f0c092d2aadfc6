//! The threads that do a backend's work, with temporary memory for each, allocated once.

use super::aligned::Aligned;
use super::team::Team;
use crate::backend::CoreShare;
use anyhow::{Context, Result};
use std::sync::Mutex;

pub struct Workers {
    team: Team,
    rooms: Vec<Mutex<Aligned>>,
}

impl Workers {
    /// This many threads with `count` elements each; those with a core work.
    pub fn new(threads: usize, count: usize, cores: CoreShare) -> Result<Self> {
        let team = Team::new(threads, cores).context("no threads to compute with")?;
        let rooms = (0..team.threads())
            .map(|_| Ok(Mutex::new(Aligned::new(count, 0.0, "temporary memory")?)))
            .collect::<Result<_>>()?;
        Ok(Self { team, rooms })
    }

    pub fn threads(&self) -> usize {
        self.team.threads()
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        let of = |room: &Mutex<Aligned>| {
            room.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).bytes()
        };
        self.rooms.iter().map(of).sum()
    }

    /// Calls `work` for each of `tasks`. For the same number of tasks, each mostly goes to the same thread.
    pub fn run(&self, tasks: usize, work: impl Fn(usize) + Sync) {
        self.team.run(tasks, &|_, task| work(task));
    }

    /// The same with `count` elements of temporary memory, whose contents are arbitrary. It grows only if more is
    /// needed than planned.
    pub fn run_with(&self, tasks: usize, count: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
        let rooms = &self.rooms;
        self.team.run(tasks, &|thread, task| {
            // A thread's own, so nobody waits. A panic in another task left half-written numbers, and the contents are
            // arbitrary anyway.
            let mut room = rooms[thread].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            room.reserve(count);
            work(task, &mut room.as_mut_slice()[..count]);
        });
    }

    /// Calls `work` with the number of each piece of `size` elements of `x`, and the piece.
    pub fn chunks<T: Send>(&self, x: &mut [T], size: usize, work: impl Fn(usize, &mut [T]) + Sync) {
        let (len, x) = (x.len(), super::share::Shared::new(x));
        self.run(len.div_ceil(size), |i| {
            // SAFETY: pieces do not overlap.
            work(i, unsafe { x.slice(i * size, size.min(len - i * size)) });
        });
    }
}

impl Default for Workers {
    /// One thread without room, until there is a plan.
    fn default() -> Self {
        let team = Team::new(1, CoreShare::default())
            .expect("a team of the calling thread alone starts no other");
        Self { team, rooms: vec![Mutex::new(Aligned::default())] }
    }
}
