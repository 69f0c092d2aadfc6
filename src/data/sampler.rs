//! Which rows form which micro-batch: a pure function of the lengths, the limits, the seed and the epoch.
//!
//! Nothing is drawn during the run. A resumed run asks for (epoch, index) and gets the rows it would have had.

use anyhow::{Result, bail};

use crate::ranks::Share;
use crate::rng::{Purpose, Stream};
use crate::room::room;

/// Rows drawn to find a run's largest batch before falling back to a bound: about two seconds.
const SIMULATED_ROWS: usize = 1 << 24;

/// When a micro-batch is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Most sequences per batch.
    pub sequences: usize,
    /// Most tokens per batch; a longer sequence is a batch by itself.
    pub tokens: Option<usize>,
}

/// The order of the rows in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As in the file, every epoch.
    File,
    /// Another permutation each epoch, from the seed.
    Shuffled { seed: u64 },
}

/// How long a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunLength {
    Epochs(u64),
    /// Micro-batches, over as many epochs as needed.
    Batches(u64),
}

/// What there must be room for: the maximum of each over all batches, not necessarily in the same one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Largest {
    /// Tokens per batch.
    pub tokens: usize,
    /// Sequences per batch.
    pub sequences: usize,
    /// Tokens per sequence.
    pub len: usize,
}

/// Training batches over a dataset.
#[derive(Clone, Debug)]
pub struct Sampler {
    lengths: Vec<u32>,
    limits: BatchLimits,
    order: Order,
}

/// The batches of one epoch or evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batches {
    /// Row numbers in processing order, `[rows]`.
    order: Vec<usize>,
    /// Start of each batch in `order`, and the number of rows, `[batches + 1]`.
    starts: Vec<usize>,
}

impl Sampler {
    /// # Errors
    /// No rows, or a limit of zero.
    pub fn new(lengths: Vec<u32>, limits: BatchLimits, order: Order) -> Result<Self> {
        limits.check()?;
        if lengths.is_empty() {
            bail!("there are no examples to draw batches from");
        }
        Ok(Self { lengths, limits, order })
    }

    /// The micro-batches of an epoch (from 0); each row occurs exactly once.
    pub fn epoch(&self, epoch: u64) -> Batches {
        let mut order: Vec<usize> = (0..self.lengths.len()).collect();
        if let Order::Shuffled { seed } = self.order {
            Stream::new(seed, Purpose::Shuffle, epoch).shuffle(&mut order);
        }
        Batches::pack(order, &self.lengths, self.limits)
    }

    /// The number of micro-batches per epoch, if it is the same for any order of the rows.
    pub fn batches_an_epoch(&self) -> Option<u64> {
        let any_order = self.limits.tokens.is_none();
        any_order.then(|| self.lengths.len().div_ceil(self.limits.sequences) as u64)
    }

    /// The most that a run's batches need, each split into `shares`.
    ///
    /// Simulates the first epochs, with a shuffle each (35 ms for 400,000 rows, `cargo bench --bench data`): as many as
    /// [`SIMULATED_ROWS`] allow. For the epochs of a longer run it uses a bound that no batch in any order exceeds.
    pub fn largest(&self, run: RunLength, shares: usize) -> Largest {
        let mut largest = Largest::default();
        let (mut epoch, mut batches, mut rows) = (0, 0, 0);
        loop {
            let left = match run {
                RunLength::Epochs(epochs) if epoch < epochs => usize::MAX,
                RunLength::Batches(all) if batches < all => {
                    usize::try_from(all - batches).unwrap_or(usize::MAX)
                }
                _ => return largest,
            };
            if rows >= SIMULATED_ROWS {
                return largest.join(self.bound(shares));
            }
            let fresh = self.epoch(epoch);
            for batch in fresh.iter().take(left) {
                for rank in 0..shares {
                    let share = Share { rank, of: shares }.of_batch(batch, &self.lengths);
                    largest = largest.join(Largest::of(&batch[share], &self.lengths));
                }
            }
            if self.order == Order::File && left >= fresh.len() {
                // Every epoch has the same batches.
                return largest;
            }
            epoch += 1;
            batches += fresh.len() as u64;
            rows += self.lengths.len();
        }
    }

    /// Tokens of each row.
    pub fn lengths(&self) -> &[u32] {
        &self.lengths
    }

    /// What no batch exceeds, whatever the order of the rows: the longest rows together.
    fn bound(&self, shares: usize) -> Largest {
        let mut lengths = self.lengths.clone();
        lengths.sort_unstable_by_key(|&length| std::cmp::Reverse(length));
        lengths.truncate(self.limits.sequences);
        let len = lengths.first().map_or(0, |&longest| longest as usize);
        let together: usize = lengths.iter().map(|&length| length as usize).sum();
        // A sequence longer than the limit is a batch by itself.
        let tokens = self.limits.tokens.map_or(together, |most| together.min(most.max(len)));
        Largest {
            // The rows at both ends of a share may lie half outside its part of the tokens.
            tokens: tokens.min(tokens / shares + len),
            sequences: lengths.len(),
            len,
        }
    }
}

impl Largest {
    fn of(rows: &[usize], lengths: &[u32]) -> Self {
        let lengths = || rows.iter().map(|&row| lengths[row] as usize);
        Self { tokens: lengths().sum(), sequences: rows.len(), len: lengths().max().unwrap_or(0) }
    }

    fn join(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.max(other.tokens),
            sequences: self.sequences.max(other.sequences),
            len: self.len.max(other.len),
        }
    }
}

impl BatchLimits {
    fn check(&self) -> Result<()> {
        if self.sequences == 0 || self.tokens == Some(0) {
            bail!("a batch must have room for at least one sequence and one token");
        }
        Ok(())
    }
}

impl Batches {
    /// Cuts a sequence of rows into batches: a batch closes when the next row would exceed a limit.
    fn pack(order: Vec<usize>, lengths: &[u32], limits: BatchLimits) -> Self {
        let most_tokens = limits.tokens.unwrap_or(usize::MAX);
        let mut starts = vec![0];
        let (mut first, mut tokens) = (0, 0usize);
        for (at, &row) in order.iter().enumerate() {
            let length = lengths[row] as usize;
            if at > first && (at - first == limits.sequences || tokens + length > most_tokens) {
                starts.push(at);
                (first, tokens) = (at, 0);
            }
            tokens += length;
        }
        starts.push(order.len());
        Self { order, starts }
    }

    /// Number of batches.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Never true: there is at least one row, hence one batch.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Row numbers of batch `index`, or `None` past the last.
    pub fn get(&self, index: usize) -> Option<&[usize]> {
        let end = *self.starts.get(index + 1)?;
        Some(&self.order[self.starts[index]..end])
    }

    pub fn iter(&self) -> impl Iterator<Item = &[usize]> {
        self.starts.windows(2).map(|w| &self.order[w[0]..w[1]])
    }

    /// The most that these batches need.
    pub fn largest(&self, lengths: &[u32]) -> Largest {
        self.iter().map(|rows| Largest::of(rows, lengths)).fold(Largest::default(), Largest::join)
    }

    /// Restores row order in results collected batch by batch; `count` says how many each row has.
    ///
    /// # Errors
    /// If there are more or fewer results, or none at all.
    pub fn restore<T: Clone>(
        &self,
        results: &[T],
        count: impl Fn(usize) -> usize,
    ) -> Result<Vec<T>> {
        // of[row] is where that row's results are.
        let mut of = vec![0..0; self.order.len()];
        let mut next = 0;
        for &row in &self.order {
            of[row] = next..next + count(row);
            next += count(row);
        }
        if next == 0 || results.len() != next {
            bail!("{} results where {next} belong to {} rows", results.len(), self.order.len());
        }
        let mut restored = room(next, "results")?;
        restored.extend(of.into_iter().flat_map(|range| &results[range]).cloned());
        Ok(restored)
    }
}

/// Batches for evaluation, each row once: sorted by length, so that the sequences of a batch take similar work, and
/// longest first, so that the largest batch comes first.
///
/// # Errors
/// No rows, or a limit of zero.
pub fn evaluation_batches(lengths: &[u32], limits: BatchLimits) -> Result<Batches> {
    limits.check()?;
    if lengths.is_empty() {
        bail!("there are no examples to evaluate");
    }
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    // Stable: rows of equal length stay in file order.
    order.sort_by_key(|&row| std::cmp::Reverse(lengths[row]));
    Ok(Batches::pack(order, lengths, limits))
}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;
