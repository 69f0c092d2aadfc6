//! Ranks that are threads of one process: for tests, on machines without MPI.

use super::{Ranks, Share, host_name};
use anyhow::{Result, bail, ensure};
use std::sync::{Arc, Barrier, Mutex, PoisonError};

/// One of them; each belongs to its own thread.
pub struct ThreadRank {
    share: Share,
    meeting: Arc<Meeting>,
}

struct Meeting {
    /// What each rank contributed.
    brought: Mutex<Vec<Vec<u8>>>,
    all: Barrier,
}

/// As many ranks as requested. As with MPI they wait for one another, so each must be used.
pub fn ranks(of: usize) -> Vec<ThreadRank> {
    let meeting =
        Arc::new(Meeting { brought: Mutex::new(vec![Vec::new(); of]), all: Barrier::new(of) });
    let one = |rank| ThreadRank { share: Share { rank, of }, meeting: Arc::clone(&meeting) };
    (0..of).map(one).collect()
}

impl Ranks for ThreadRank {
    fn share(&self) -> Share {
        self.share
    }

    fn here(&self) -> Share {
        self.share
    }

    fn host(&self) -> String {
        host_name()
    }

    fn sum(&self, values: &mut [f32]) -> Result<()> {
        let all = super::gather_numbers(self, values.to_vec())?;
        ensure!(all.iter().all(|one| one.len() == values.len()), "ranks bring unlike vectors");
        values.fill(0.0);
        for one in all {
            values.iter_mut().zip(one).for_each(|(sum, value)| *sum += value);
        }
        Ok(())
    }

    fn gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        let Meeting { brought, all } = &*self.meeting;
        brought.lock().unwrap_or_else(PoisonError::into_inner)[self.share.rank] = mine.to_vec();
        all.wait();
        let found = brought.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Nobody contributes anything new before all have seen this.
        all.wait();
        Ok(found)
    }

    fn broadcast(&self, mine: &[u8]) -> Result<Vec<u8>> {
        match self.gather(if self.first() { mine } else { &[] })?.into_iter().next() {
            Some(bytes) => Ok(bytes),
            None => bail!("there is no rank 0"),
        }
    }

    fn abort(&self, code: u8) {
        std::process::exit(code.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn every_rank_has_the_sum_and_what_each_brought() {
        for of in [1, 2, 5] {
            let threads: Vec<_> = ranks(of)
                .into_iter()
                .map(|rank| {
                    thread::spawn(move || {
                        for round in 0..20 {
                            let number = rank.share().rank as f32;
                            let mut values = [number, 1.0, round as f32];
                            rank.sum(&mut values).unwrap();
                            let n = of as f32;
                            assert_eq!(values, [n * (n - 1.0) / 2.0, n, n * round as f32]);
                            let all =
                                rank.gather(&[rank.share().rank as u8; 3][..round % 4]).unwrap();
                            for (i, one) in all.iter().enumerate() {
                                assert_eq!(one, &vec![i as u8; round % 4]);
                            }
                            let from_first = rank.broadcast(&[7 + rank.share().rank as u8]);
                            assert_eq!(from_first.unwrap(), [7]);
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
    }
}
