//! The processes that train one model together, each on its share of every batch: the ranks of a run.
//!
//! Little is exchanged: once per step the gradient of what trains (0.1 % of the model) and the loss, in one vector.
//! Every rank then makes the same update, so all hold the same values without sending them. Only rank 0 writes files
//! and messages. The connection is behind a trait: MPI, threads of one process, or nothing.

mod launched;
#[cfg(feature = "mpi")]
pub mod mpi;
mod share;
pub mod threads;

pub use launched::{Launcher, launched};
pub use share::Share;

#[cfg(not(feature = "mpi"))]
use crate::error::UsageError;
use anyhow::{Result, ensure};
use std::rc::Rc;

/// One rank's view of all.
///
/// All ranks must make these calls in the same order.
pub trait Ranks {
    /// Which one this is, and of how many.
    fn share(&self) -> Share;

    /// The same among the ranks on this machine.
    fn here(&self) -> Share;

    /// The machine's name.
    fn host(&self) -> String;

    /// Sums the vectors of all ranks element by element. Every rank gets the same bits.
    ///
    /// # Errors
    /// If another rank is gone.
    fn sum(&self, values: &mut [f32]) -> Result<()>;

    /// Every rank's bytes, in rank order, on every rank.
    ///
    /// # Errors
    /// If another rank is gone.
    fn gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Rank 0's bytes, on every rank; the others' `mine` is ignored.
    ///
    /// # Errors
    /// If another rank is gone.
    fn broadcast(&self, mine: &[u8]) -> Result<Vec<u8>>;

    /// Terminates the processes of all ranks with this exit code, wherever they are, without waiting for them.
    fn abort(&self, code: u8);

    /// Whether this one writes files and messages.
    fn first(&self) -> bool {
        self.share().rank == 0
    }

    /// Whether there are others.
    fn several(&self) -> bool {
        self.share().of > 1
    }
}

/// A process that trains alone.
pub struct Alone;

impl Ranks for Alone {
    fn share(&self) -> Share {
        Share::WHOLE
    }

    fn here(&self) -> Share {
        Share::WHOLE
    }

    fn host(&self) -> String {
        host_name()
    }

    fn sum(&self, _: &mut [f32]) -> Result<()> {
        Ok(())
    }

    fn gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(vec![mine.to_vec()])
    }

    fn broadcast(&self, mine: &[u8]) -> Result<Vec<u8>> {
        Ok(mine.to_vec())
    }

    fn abort(&self, _: u8) {}
}

/// This process among those that a launcher started with it.
///
/// # Errors
/// If it was built without MPI or with another one, so that each process would do all the work and write the same
/// files.
pub fn join() -> Result<Rc<dyn Ranks>> {
    match launched() {
        Some(launcher) if launcher.processes > 1 => with_mpi(launcher),
        _ => Ok(Rc::new(Alone)),
    }
}

#[cfg(feature = "mpi")]
fn with_mpi(launcher: Launcher) -> Result<Rc<dyn Ranks>> {
    Ok(Rc::new(mpi::MpiRank::join(launcher)?))
}

#[cfg(not(feature = "mpi"))]
fn with_mpi(Launcher { processes, variable }: Launcher) -> Result<Rc<dyn Ranks>> {
    Err(UsageError::new(format!(
        "a launcher started {processes} processes of this program ({variable}), which was built without MPI: each would do \
         all the work and write the same files; build it with `cargo build --release --features mpi`, or start a single process"
    ))
    .into())
}

/// Numbers of every rank, in rank order.
///
/// # Errors
/// As [`Ranks::gather`].
pub fn gather_numbers(ranks: &dyn Ranks, mine: Vec<f32>) -> Result<Vec<Vec<f32>>> {
    if !ranks.several() {
        return Ok(vec![mine]);
    }
    let all = ranks.gather(bytemuck::cast_slice(&mine))?;
    all.into_iter().map(|bytes| numbers(&bytes)).collect()
}

/// Numbers that were sent as bytes.
///
/// # Errors
/// If they are not a whole number of them.
pub fn numbers(bytes: &[u8]) -> Result<Vec<f32>> {
    ensure!(bytes.len().is_multiple_of(4), "{} bytes are no numbers of 32 bits", bytes.len());
    Ok(bytes.as_chunks::<4>().0.iter().map(|&word| f32::from_ne_bytes(word)).collect())
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "this machine".to_owned(),
        name => name.to_owned(),
    }
}
