//! The cores of a machine, shared by backends that work at the same time: when one finishes, the others use its cores
//! from their next stretch of work on. Results do not depend on the sharing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A number of cores; clones share them.
#[derive(Clone, Debug)]
pub struct Cores {
    total: usize,
    /// Of each backend at work.
    shares: Arc<Mutex<Vec<CoreShare>>>,
}

/// How many of its threads a backend lets work at a time; clones share the number.
#[derive(Clone, Debug)]
pub struct CoreShare(Arc<AtomicUsize>);

/// A backend's share of the cores, returned on drop.
#[derive(Debug)]
pub struct Seat {
    cores: Cores,
    share: CoreShare,
}

impl Cores {
    pub fn new(total: usize) -> Self {
        Self { total, shares: Arc::default() }
    }

    pub fn total(&self) -> usize {
        self.total
    }

    /// Registers another backend at work.
    pub fn seat(&self) -> Seat {
        let share = CoreShare::default();
        let mut shares = self.lock();
        shares.push(share.clone());
        self.divide(&shares);
        Seat { cores: self.clone(), share }
    }

    /// Divides all cores among those at work; each gets at least one.
    fn divide(&self, shares: &[CoreShare]) {
        let (each, more) = (self.total / shares.len().max(1), self.total % shares.len().max(1));
        for (place, share) in shares.iter().enumerate() {
            share.0.store((each + usize::from(place < more)).max(1), Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<CoreShare>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CoreShare {
    /// The current number.
    pub fn now(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for CoreShare {
    /// No limit below its number of threads.
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(usize::MAX)))
    }
}

impl Seat {
    pub fn share(&self) -> &CoreShare {
        &self.share
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut shares = self.cores.lock();
        shares.retain(|share| !Arc::ptr_eq(&share.0, &self.share.0));
        self.cores.divide(&shares);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_divided_anew_whenever_someone_comes_or_goes() {
        let cores = Cores::new(5);
        let now = |seats: &[&Seat]| seats.iter().map(|seat| seat.share().now()).collect::<Vec<_>>();
        let first = cores.seat();
        assert_eq!(now(&[&first]), [5]);
        let (second, third) = (cores.seat(), cores.seat());
        assert_eq!(now(&[&first, &second, &third]), [2, 2, 1]);
        drop(first);
        assert_eq!(now(&[&second, &third]), [3, 2]);
        let more: Vec<Seat> = (0..5).map(|_| cores.seat()).collect();
        assert_eq!(now(&more.iter().collect::<Vec<_>>()), [1; 5]);
        drop((second, more));
        assert_eq!(now(&[&third]), [5]);
        assert_eq!(CoreShare::default().now(), usize::MAX);
    }
}
