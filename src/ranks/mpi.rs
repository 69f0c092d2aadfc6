//! Ranks connected by MPI, as started by mpirun or srun.

use super::{Launcher, Ranks, Share, host_name};
use anyhow::{Context, Result, ensure};
use mpi::Count;
use mpi::collective::SystemOperation;
use mpi::datatype::PartitionMut;
use mpi::environment::{Universe, library_version};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Root};

/// This process among the others of its job.
pub struct MpiRank {
    world: SimpleCommunicator,
    share: Share,
    here: Share,
    /// Finalises MPI on drop.
    _universe: Universe,
}

impl MpiRank {
    /// Joins the job that `launcher` started.
    ///
    /// # Errors
    /// If MPI cannot be started, or reports another number of processes than the launcher, which then belongs to
    /// another MPI.
    pub fn join(launcher: Launcher) -> Result<Self> {
        let (universe, _) = mpi::initialize_with_threading(mpi::Threading::Funneled)
            .context("MPI could not be started")?;
        let world = universe.world();
        let of = |comm: &SimpleCommunicator| -> Result<Share> {
            Ok(Share { rank: comm.rank().try_into()?, of: comm.size().try_into()? })
        };
        let (share, here) = (of(&world)?, of(&world.split_shared(world.rank()))?);
        let Launcher { processes, variable } = launcher;
        ensure!(
            share.of == processes,
            "the launcher started {processes} processes ({variable}), but MPI sees {}: the launcher belongs to another MPI \
             than this program's, {}",
            share.of,
            version()
        );
        Ok(Self { world, share, here, _universe: universe })
    }

    /// Bytes, of which each rank may contribute a different number.
    fn gather_bytes(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        // Each message begins with a dummy byte: some MPIs treat empty messages as an error.
        let mine = [&[0], mine].concat();
        let mut counts: Vec<Count> = vec![0; self.share.of];
        let count = Count::try_from(mine.len()).context("too much for one message of MPI")?;
        self.world.all_gather_into(&count, &mut counts[..]);
        let mut places = Vec::with_capacity(counts.len());
        let mut total: Count = 0;
        for &count in &counts {
            places.push(total);
            total = total.checked_add(count).context("too much for one message of MPI")?;
        }
        let mut all = vec![0u8; usize::try_from(total)?];
        let mut parts = PartitionMut::new(&mut all[..], &counts[..], &places[..]);
        self.world.all_gather_varcount_into(&mine[..], &mut parts);
        let cut = |(&count, &place): (&Count, &Count)| {
            let place = place as usize;
            all[place + 1..place + count as usize].to_vec()
        };
        Ok(counts.iter().zip(&places).map(cut).collect())
    }
}

impl Ranks for MpiRank {
    fn share(&self) -> Share {
        self.share
    }

    fn here(&self) -> Share {
        self.here
    }

    fn host(&self) -> String {
        mpi::environment::processor_name().unwrap_or_else(|_| host_name())
    }

    fn sum(&self, values: &mut [f32]) -> Result<()> {
        let mine = values.to_vec();
        self.world.all_reduce_into(&mine[..], values, SystemOperation::sum());
        Ok(())
    }

    fn gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.gather_bytes(mine)
    }

    fn broadcast(&self, mine: &[u8]) -> Result<Vec<u8>> {
        let root = self.world.process_at_rank(0);
        let mut length = mine.len() as u64;
        root.broadcast_into(&mut length);
        let mut bytes =
            if self.first() { mine.to_vec() } else { vec![0; usize::try_from(length)?] };
        // MPI counts in 31 bits.
        for piece in bytes.chunks_mut(1 << 30) {
            root.broadcast_into(piece);
        }
        Ok(bytes)
    }

    fn abort(&self, code: u8) {
        self.world.abort(code.into());
    }
}

/// The library that the program was built with.
pub fn version() -> String {
    let text = library_version().unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    line.trim_end_matches(|c: char| c == '\0' || c == ',' || c.is_whitespace()).to_owned()
}
