//! Which rows form which micro-batch: a pure function of the lengths, the limits, the seed and the epoch.
//!
//! Nothing is drawn as the run goes. A resumed run asks for (epoch, index) and gets the rows that it would have had.

use anyhow::{Result, bail};

use crate::rng::{Purpose, Stream};

/// When a micro-batch is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Most sequences in a batch.
    pub sequences: usize,
    /// Most tokens in a batch; a sequence that alone has more is a batch by itself.
    pub tokens: Option<usize>,
}

/// In which order an epoch goes through the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As in the file, every epoch.
    File,
    /// Another permutation each epoch, from the seed.
    Shuffled { seed: u64 },
}

/// How long a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    Epochs(u64),
    /// Micro-batches, through as many epochs as that takes.
    Batches(u64),
}

/// What a whole run will ask for, counted before it starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Micro-batches in the run.
    pub batches: u64,
    /// Epochs begun.
    pub epochs: u64,
    /// Tokens in the run.
    pub total_tokens: u64,
    /// Tokens of the batch that has most.
    pub max_tokens: usize,
    /// Sequences of the batch that has most (often another).
    pub max_sequences: usize,
    /// Length of the longest sequence.
    pub max_len: usize,
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
    /// Row numbers in the order of processing, `[rows]`.
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
        Ok(Self {
            lengths,
            limits,
            order,
        })
    }

    /// The micro-batches of an epoch (from 0); each row occurs exactly once.
    pub fn epoch(&self, epoch: u64) -> Batches {
        let mut order: Vec<usize> = (0..self.lengths.len()).collect();
        if let Order::Shuffled { seed } = self.order {
            Stream::new(seed, Purpose::Shuffle, epoch).shuffle(&mut order);
        }
        Batches::pack(order, &self.lengths, self.limits)
    }

    /// Simulates a run. Costs one shuffle an epoch, about 35 ms for 400,000 rows (cargo bench --bench data).
    pub fn plan(&self, run: Run) -> Plan {
        let mut plan = Plan::default();
        let mut epoch_batches = None;
        while match run {
            Run::Epochs(epochs) => plan.epochs < epochs,
            Run::Batches(batches) => plan.batches < batches,
        } {
            // File order packs the same batches every epoch.
            let fresh = match (self.order, epoch_batches.take()) {
                (Order::File, Some(same)) => same,
                _ => self.epoch(plan.epochs),
            };
            plan.epochs += 1;
            let left = match run {
                Run::Epochs(_) => usize::MAX,
                Run::Batches(batches) => {
                    usize::try_from(batches - plan.batches).unwrap_or(usize::MAX)
                }
            };
            for rows in fresh.iter().take(left) {
                plan.add(rows, &self.lengths);
            }
            epoch_batches = Some(fresh);
        }
        plan
    }
}

impl Plan {
    fn add(&mut self, rows: &[usize], lengths: &[u32]) {
        let tokens: usize = rows.iter().map(|&row| lengths[row] as usize).sum();
        let longest = rows
            .iter()
            .map(|&row| lengths[row] as usize)
            .max()
            .unwrap_or(0);
        self.batches += 1;
        self.total_tokens += tokens as u64;
        self.max_tokens = self.max_tokens.max(tokens);
        self.max_sequences = self.max_sequences.max(rows.len());
        self.max_len = self.max_len.max(longest);
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
    /// Cuts an order of rows into batches: a batch closes when the next row would exceed a limit.
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

    /// What these batches need at most.
    pub fn plan(&self, lengths: &[u32]) -> Plan {
        let mut plan = Plan {
            epochs: 1,
            ..Plan::default()
        };
        self.iter().for_each(|rows| plan.add(rows, lengths));
        plan
    }

    /// Puts results that were collected batch after batch back in row order; `width` values for each row.
    ///
    /// # Errors
    /// When there are not `width` results for each row.
    pub fn restore<T: Clone>(&self, results: &[T], width: usize) -> Result<Vec<T>> {
        if width == 0 || results.len() != self.order.len() * width {
            bail!(
                "{} results for {} rows of {width}",
                results.len(),
                self.order.len()
            );
        }
        // place[row] is where the results of that row are.
        let mut place = vec![0; self.order.len()];
        for (at, &row) in self.order.iter().enumerate() {
            place[row] = at;
        }
        Ok(place
            .iter()
            .flat_map(|at| &results[at * width..(at + 1) * width])
            .cloned()
            .collect())
    }
}

/// Batches for evaluation, each row once: sorted by length (longest first, so that the largest batch comes first),
/// which makes the work of the batches' sequences even.
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
