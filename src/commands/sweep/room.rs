//! Which runs are active at a time: as many as there are workers, and no more than fit in memory. Frozen weights count
//! once for all runs that share them. They stay for later runs, and are released if another run needs their room.

use crate::backend::Footprint;
use crate::commands::train::frozen_name;
use crate::settings::train::TrainConfig;
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What a run needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Need {
    /// The weights that it shares with others: their name, and bytes.
    frozen: Option<(String, usize)>,
    /// Memory that it does not share.
    own: usize,
}

impl Need {
    /// For a run with these settings and this plan.
    pub fn of(config: &TrainConfig, planned: Footprint) -> Self {
        let shares = config.method.facts().freezes_weights;
        let frozen = shares.then(|| (frozen_name(config), planned.weights));
        let own = planned.total() - frozen.as_ref().map_or(0, |(_, bytes)| *bytes);
        Self { frozen, own }
    }
}

/// Room that runs take and return.
pub struct Room {
    /// `None`: no limit.
    limit: Option<usize>,
    taken: Mutex<Taken>,
    given_back: Condvar,
}

/// Peak bytes in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Most {
    pub all: usize,
    /// The frozen part of these.
    pub frozen: usize,
}

#[derive(Default)]
struct Taken {
    frozen: BTreeMap<String, Frozen>,
    own: usize,
    at_work: usize,
    most: Most,
}

/// Frozen weights in memory.
#[derive(Default)]
struct Frozen {
    bytes: usize,
    /// How many active runs use them.
    users: usize,
}

impl Taken {
    /// The use if this run joined the others.
    fn with(&self, need: &Need) -> Most {
        let mut frozen = self.frozen.values().map(|frozen| frozen.bytes).sum();
        if let Some((name, bytes)) = &need.frozen {
            frozen += bytes.saturating_sub(self.frozen.get(name).map_or(0, |frozen| frozen.bytes));
        }
        Most { all: frozen + self.own + need.own, frozen }
    }

    /// Frozen weights that neither the active runs nor this run use.
    fn unused(&self, need: &Need) -> Option<String> {
        let wanted = need.frozen.as_ref().map(|(name, _)| name);
        let mut unused = self.frozen.iter().filter(|(_, frozen)| frozen.users == 0);
        unused.find(|(name, _)| Some(*name) != wanted).map(|(name, _)| name.clone())
    }
}

/// A run's share of the memory, returned on drop.
pub struct Lease<'a> {
    memory: &'a Room,
    need: Need,
}

impl Room {
    pub fn new(limit: Option<usize>) -> Self {
        Self { limit, taken: Mutex::default(), given_back: Condvar::new() }
    }

    /// Waits until a run fits next to the active ones; frozen weights that none of them uses are first freed by
    /// `release`. A run that never fits is admitted alone: it reports that itself, or the limit was only a guess.
    pub fn take(&self, need: &Need, release: impl Fn(&str)) -> Lease<'_> {
        let mut taken = self.lock();
        while self.limit.is_some_and(|limit| taken.with(need).all > limit) {
            if let Some(name) = taken.unused(need) {
                release(&name);
                taken.frozen.remove(&name);
            } else if taken.at_work > 0 {
                taken = self.given_back.wait(taken).unwrap_or_else(PoisonError::into_inner);
            } else {
                break;
            }
        }
        let now = taken.with(need);
        if now.all > taken.most.all {
            taken.most = now;
        }
        if let Some((name, bytes)) = &need.frozen {
            let frozen = taken.frozen.entry(name.clone()).or_default();
            frozen.bytes = frozen.bytes.max(*bytes);
            frozen.users += 1;
        }
        taken.own += need.own;
        taken.at_work += 1;
        Lease { memory: self, need: need.clone() }
    }

    /// The peak bytes of active runs, as planned.
    pub fn most(&self) -> Most {
        self.lock().most
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut taken = self.memory.lock();
        taken.own -= self.need.own;
        taken.at_work -= 1;
        let frozen = self.need.frozen.as_ref().and_then(|(name, _)| taken.frozen.get_mut(name));
        if let Some(frozen) = frozen {
            frozen.users -= 1;
        }
        drop(taken);
        self.memory.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn of_type(weights: &str, own: usize) -> Need {
        Need { frozen: Some((format!("m {weights}"), 100)), own }
    }

    fn need(own: usize) -> Need {
        of_type("f16", own)
    }

    fn nothing_goes(name: &str) {
        panic!("{name} is in use")
    }

    #[test]
    fn frozen_weights_count_once_and_a_run_waits_for_room() {
        let memory = Room::new(Some(125));
        let (at_work, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let _place = memory.take(&need(10), nothing_goes);
                    most.fetch_max(at_work.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(20));
                    at_work.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        let (most, planned) = (most.into_inner(), memory.most());
        assert_eq!((most, planned), (2, Most { all: 120, frozen: 100 }));
    }

    #[test]
    fn frozen_weights_that_nobody_has_go_where_a_run_needs_their_room() {
        let memory = Room::new(Some(230));
        let gone = Mutex::new(Vec::new());
        let take =
            |need: &Need| memory.take(need, |name| gone.lock().unwrap().push(name.to_owned()));
        let full = Need { frozen: None, own: 150 };
        drop(take(&of_type("nf4", 10)));
        let f16 = take(&need(10));
        assert!(gone.lock().unwrap().is_empty(), "both fit");
        drop(take(&of_type("nf4", 10)));
        assert!(gone.lock().unwrap().is_empty(), "they are still there");
        drop(f16);
        drop(take(&full));
        assert_eq!(*gone.lock().unwrap(), ["m f16", "m nf4"]);
        // They are loaded again by their next run, and count again.
        drop(take(&need(40)));
        assert_eq!(memory.most(), Most { all: 220, frozen: 200 });
    }

    #[test]
    fn a_run_that_fits_nowhere_is_let_in_alone() {
        let memory = Room::new(Some(50));
        drop(memory.take(&need(10), nothing_goes));
        let _place = memory.take(&need(10), nothing_goes);
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let memory = Room::new(None);
        let take = || memory.take(&need(1000), nothing_goes);
        let (_one, _two) = (take(), take());
        assert_eq!(memory.most(), Most { all: 2100, frozen: 100 });
    }
}
