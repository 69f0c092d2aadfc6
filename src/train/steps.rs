//! Which micro-batches make up which optimizer step: a cursor over epochs that can be at any position.
//!
//! A step has the same batches in the same order however it is split: among ranks, and into micro-batches that fit in
//! memory. Its parts know where in their batch they start, so dropout is the same too.

use crate::backend::FirstRow;
use crate::data::{Batches, Largest, RunLength, Sampler};
use crate::error::UsageError;
use crate::ranks::Share;
use crate::settings::train::Length;
use crate::train::micro::micro_batches;

/// Rows drawn before a run to count its steps: some minutes of work.
const MOST_DRAWN_ROWS: u64 = 1 << 32;

/// A place between two optimizer steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Optimizer steps done.
    pub step: u64,
    /// Current epoch, from 0.
    pub epoch: u64,
    /// Finished micro-batches of the current epoch; fewer than it has.
    pub batch: u64,
}

/// The optimizer steps of a run, each of up to `accumulation` micro-batches of one epoch.
pub struct Steps<'a> {
    sampler: &'a Sampler,
    accumulation: u64,
    /// This process's part of each batch.
    share: Share,
    /// If set, its part is split into micro-batches of up to this many tokens.
    tokens: Option<usize>,
    /// Optimizer steps in the whole run.
    pub total: u64,
    /// The current epoch's batches, built on first use.
    current: Option<(u64, Batches)>,
}

/// Rows that go through the model together.
#[derive(Clone, Debug, PartialEq)]
pub struct MicroBatch {
    pub rows: Vec<usize>,
    /// The number, within the run, of the batch they belong to.
    pub batch: u64,
    /// Where in that batch they start.
    pub first: FirstRow,
}

/// One optimizer step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Row numbers of each batch, for all ranks.
    pub batches: Vec<Vec<usize>>,
    /// This process's part of them; empty if there are fewer rows than ranks.
    pub parts: Vec<MicroBatch>,
    /// The run's position after this step.
    pub after: Position,
    /// Whether it is the last of an epoch.
    pub ends_epoch: bool,
    /// Epochs done after this step, including fractions.
    pub epochs: f64,
}

impl<'a> Steps<'a> {
    /// # Errors
    /// More steps or micro-batches than can be counted; names the options.
    pub fn new(
        sampler: &'a Sampler,
        length: Length,
        accumulation: usize,
    ) -> Result<Self, UsageError> {
        let accumulation = accumulation as u64;
        let total = match length {
            Length::Steps(steps) => steps,
            Length::Epochs(epochs) => steps_of(sampler, epochs, accumulation)?,
        };
        let steps =
            Self { sampler, accumulation, share: Share::WHOLE, tokens: None, total, current: None };
        steps.countable()?;
        Ok(steps)
    }

    /// Checks that the run's number of batches fits 63 bits, so that no sum or product of counts overflows.
    fn countable(&self) -> Result<(), UsageError> {
        let batches = self.accumulation.checked_mul(self.total);
        if batches.is_some_and(|batches| batches < 1 << 63) {
            return Ok(());
        }
        Err(UsageError::new(format!(
            "--grad-accumulation {} in {} steps gives too many batches to count; an epoch has fewer than {}, and no \
             step takes more than an epoch",
            self.accumulation,
            self.total,
            self.sampler.lengths().len().saturating_add(1)
        )))
    }

    /// Leaves the rest of each batch to other ranks.
    pub fn take(&mut self, share: Share) {
        self.share = share;
    }

    /// Splits this process's part of a batch into micro-batches of up to `tokens` tokens. What a step learns from stays
    /// the same, up to rounding.
    pub fn split(&mut self, tokens: usize) {
        self.tokens = Some(tokens);
    }

    /// The largest part of a batch that a rank takes in this run, before splitting; counted before the run starts.
    pub fn largest(&self, length: Length) -> Largest {
        let run = match length {
            Length::Epochs(epochs) => RunLength::Epochs(epochs),
            // An epoch's last step may take fewer, so this may look slightly past the end of the run.
            Length::Steps(steps) => RunLength::Batches(steps.saturating_mul(self.accumulation)),
        };
        self.sampler.largest(run, self.share.of)
    }

    /// Tokens of rows.
    pub fn tokens(&self, rows: &[usize]) -> usize {
        rows.iter().map(|&row| self.sampler.lengths()[row] as usize).sum()
    }

    /// Whether the run passes through `position`.
    pub fn passes(&self, position: Position) -> bool {
        let Position { step, epoch, batch } = position;
        // Each epoch has a step, so there is no need to look at more epochs than the run has.
        if step > self.total || epoch > step {
            return false;
        }
        let (before, batches) = match self.sampler.batches_an_epoch() {
            Some(batches) => (batches.div_ceil(self.accumulation).checked_mul(epoch), batches),
            None => {
                let len = |epoch| self.sampler.epoch(epoch).len() as u64;
                (Some((0..epoch).map(|e| len(e).div_ceil(self.accumulation)).sum()), len(epoch))
            }
        };
        let within = batch < batches && batch.is_multiple_of(self.accumulation);
        within
            && before.and_then(|before| before.checked_add(batch / self.accumulation)) == Some(step)
    }

    /// The step at `position`, or `None` when the run is over.
    pub fn at(&mut self, position: Position) -> Option<Step> {
        if position.step >= self.total {
            return None;
        }
        let batches = match self.current.take() {
            Some((epoch, batches)) if epoch == position.epoch => batches,
            _ => self.sampler.epoch(position.epoch),
        };
        let len = batches.len() as u64;
        let end = position.batch.saturating_add(self.accumulation).min(len);
        let whole = (position.batch..end).filter_map(|i| batches.get(i as usize));
        let batches_of_step: Vec<_> = whole.map(<[usize]>::to_vec).collect();
        let first = position.step * self.accumulation;
        let parts =
            (first..).zip(&batches_of_step).flat_map(|(batch, rows)| self.parts(batch, rows));
        let step = Step {
            parts: parts.collect(),
            batches: batches_of_step,
            after: Position {
                step: position.step + 1,
                epoch: position.epoch + u64::from(end == len),
                batch: if end == len { 0 } else { end },
            },
            ends_epoch: end == len,
            epochs: position.epoch as f64 + end as f64 / len as f64,
        };
        self.current = Some((position.epoch, batches));
        Some(step)
    }

    /// This process's part of a batch.
    fn parts(&self, batch: u64, rows: &[usize]) -> Vec<MicroBatch> {
        let lengths = self.sampler.lengths();
        let mine = self.share.of_batch(rows, lengths);
        let mut at = mine.start;
        let length = |row: usize| lengths[row] as usize;
        let cut = micro_batches(&rows[mine], self.tokens.unwrap_or(usize::MAX), length);
        let part = |part: &[usize]| {
            let first = FirstRow { tokens: self.tokens(&rows[..at]) as u32, sequences: at as u32 };
            at += part.len();
            MicroBatch { rows: part.to_vec(), batch, first }
        };
        cut.into_iter().map(part).collect()
    }
}

/// The optimizer steps of this many epochs.
fn steps_of(sampler: &Sampler, epochs: u64, accumulation: u64) -> Result<u64, UsageError> {
    if let Some(batches) = sampler.batches_an_epoch() {
        return batches.div_ceil(accumulation).checked_mul(epochs).ok_or_else(|| {
            UsageError::new(format!("--epochs {epochs} gives too many steps to count"))
        });
    }
    // Each epoch is drawn to count it.
    let rows = sampler.lengths().len() as u64;
    if rows.checked_mul(epochs).is_none_or(|rows| rows > MOST_DRAWN_ROWS) {
        return Err(UsageError::new(format!(
            "--epochs {epochs} with --batch-tokens: batches differ from epoch to epoch, and {epochs} times {rows} \
             rows are too many to count them; use --steps instead"
        )));
    }
    Ok((0..epochs).map(|epoch| (sampler.epoch(epoch).len() as u64).div_ceil(accumulation)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{BatchLimits, Order};

    fn sampler() -> Sampler {
        let limits = BatchLimits { sequences: 2, tokens: None };
        Sampler::new(vec![3; 11], limits, Order::Shuffled { seed: 5 }).unwrap()
    }

    fn run(length: Length, accumulation: usize) -> Vec<Step> {
        let sampler = sampler();
        let mut steps = Steps::new(&sampler, length, accumulation).unwrap();
        let mut position = Position::default();
        std::iter::from_fn(|| {
            let step = steps.at(position)?;
            position = step.after;
            Some(step)
        })
        .collect()
    }

    #[test]
    fn a_run_comes_by_the_places_after_its_steps_and_by_no_others() {
        let whole = sampler();
        let limits = BatchLimits { sequences: 4, tokens: Some(7) };
        let varying = Sampler::new(
            (1..=11).map(|n| n % 4 + 1).collect(),
            limits,
            Order::Shuffled { seed: 5 },
        )
        .unwrap();
        for sampler in [whole, varying] {
            let mut steps = Steps::new(&sampler, Length::Epochs(3), 2).unwrap();
            let mut places = vec![Position::default()];
            while let Some(step) = steps.at(places[places.len() - 1]) {
                places.push(step.after);
            }
            for step in 0..=steps.total + 2 {
                for (epoch, batch) in
                    (0..5).flat_map(|epoch| (0..13).map(move |batch| (epoch, batch)))
                {
                    let place = Position { step, epoch, batch };
                    assert_eq!(steps.passes(place), places.contains(&place), "{place:?}");
                }
            }
            for far in [u64::MAX, 1 << 63, 1_000_000] {
                let zero = Position::default();
                assert!(!steps.passes(Position { step: far, ..zero }));
                assert!(!steps.passes(Position { epoch: far, ..zero }));
                assert!(!steps.passes(Position { batch: far, ..zero }));
                assert!(!steps.passes(Position { step: far, epoch: far, batch: far }));
            }
        }
    }

    #[test]
    fn every_row_is_seen_once_an_epoch_and_no_step_spans_two() {
        // 11 rows in pairs: 6 micro-batches; four at a time: 2 steps per epoch.
        let steps = run(Length::Epochs(2), 4);
        assert_eq!(steps.iter().map(|s| s.batches.len()).collect::<Vec<_>>(), [4, 2, 4, 2]);
        for epoch in steps.chunks(2) {
            let mut rows: Vec<usize> =
                epoch.iter().flat_map(|s| s.batches.iter().flatten().copied()).collect();
            rows.sort_unstable();
            assert_eq!(rows, (0..11).collect::<Vec<_>>());
        }
        assert_eq!(
            steps.iter().map(|s| s.ends_epoch).collect::<Vec<_>>(),
            [false, true, false, true]
        );
        assert_eq!(steps[3].after, Position { step: 4, epoch: 2, batch: 0 });
        assert_eq!(steps[2].epochs, 1.0 + 4.0 / 6.0);
    }

    #[test]
    fn cut_batches_have_the_rows_and_positions_of_whole_ones_and_know_where_in_them_they_begin() {
        let whole = run(Length::Epochs(2), 2);
        let sampler = sampler();
        let mut steps = Steps::new(&sampler, Length::Epochs(2), 2).unwrap();
        // Pairs of rows of three tokens; the limit leaves one row per part.
        steps.split(5);
        let mut number = 0;
        for (at, step) in whole.iter().enumerate() {
            let position = at.checked_sub(1).map_or(Position::default(), |at| whole[at].after);
            let cut = steps.at(position).unwrap();
            assert_eq!((&cut.batches, cut.after), (&step.batches, step.after));
            let mut parts = cut.parts.iter();
            for rows in &step.batches {
                for (i, &row) in rows.iter().enumerate() {
                    let first = FirstRow { tokens: 3 * i as u32, sequences: i as u32 };
                    let part = MicroBatch { rows: vec![row], batch: number, first };
                    assert_eq!(parts.next(), Some(&part));
                }
                number += 1;
            }
            assert_eq!(parts.next(), None);
            // If an epoch's last step has fewer, the next epoch still starts at a multiple.
            number = number.next_multiple_of(2);
        }
        // A limit that every batch already meets splits nothing.
        steps.split(6);
        assert_eq!(steps.at(Position::default()).as_ref(), Some(&whole[0]));
    }

    #[test]
    fn the_ranks_of_a_run_share_each_batch_and_each_knows_where_its_part_begins() {
        let lengths: Vec<u32> = (1..=23).map(|n| n * 7 % 11 + 1).collect();
        let limits = BatchLimits { sequences: 5, tokens: None };
        let sampler = Sampler::new(lengths, limits, Order::Shuffled { seed: 5 }).unwrap();
        for of in 1..=7 {
            let mut all: Vec<_> = (0..of)
                .map(|rank| {
                    let mut steps = Steps::new(&sampler, Length::Epochs(2), 2).unwrap();
                    steps.take(Share { rank, of });
                    steps
                })
                .collect();
            let mut position = Position::default();
            loop {
                let steps: Vec<_> = all.iter_mut().filter_map(|steps| steps.at(position)).collect();
                let Some(first) = steps.first() else { break };
                assert_eq!(steps.len(), of);
                position = first.after;
                let mut parts: Vec<_> = steps.iter().flat_map(|step| &step.parts).collect();
                parts.sort_by_key(|part| (part.batch, part.first.sequences));
                let rows = |part: &&MicroBatch| part.rows.clone();
                assert_eq!(parts.iter().flat_map(rows).collect::<Vec<_>>(), first.batches.concat());
                for pair in parts.windows(2).filter(|pair| pair[0].batch == pair[1].batch) {
                    let tokens = all[0].tokens(&pair[0].rows) as u32;
                    assert_eq!(pair[1].first.tokens, pair[0].first.tokens + tokens);
                    let sequences = pair[0].rows.len() as u32;
                    assert_eq!(pair[1].first.sequences, pair[0].first.sequences + sequences);
                }
                let largest = all[0].largest(Length::Epochs(2));
                assert!(parts.iter().all(|part| all[0].tokens(&part.rows) <= largest.tokens));
            }
        }
    }

    #[test]
    fn runs_with_more_batches_than_can_be_counted_are_refused_by_option() {
        let sampler = sampler();
        let refused = |length, accumulation| {
            Steps::new(&sampler, length, accumulation).err().map(|error| error.to_string())
        };
        const LARGE: u64 = 1 << 62;
        for (length, accumulation) in [
            (Length::Epochs(3), LARGE as usize),
            (Length::Steps(2), LARGE as usize),
            (Length::Steps(LARGE), 2),
            (Length::Epochs(LARGE), 4),
            (Length::Steps(1), usize::MAX),
        ] {
            let error = refused(length, accumulation).unwrap();
            assert!(error.starts_with("--grad-accumulation"), "{error}");
        }
        assert!(refused(Length::Epochs(u64::MAX), 1).unwrap().starts_with("--epochs"));
        assert_eq!(refused(Length::Steps(1), LARGE as usize), None);
        let mut steps = Steps::new(&sampler, Length::Steps(1), LARGE as usize).unwrap();
        let whole = steps.at(Position::default()).unwrap();
        assert_eq!((whole.batches.len(), whole.ends_epoch), (6, true));
    }

    #[test]
    fn epochs_that_would_be_drawn_for_hours_to_be_counted_are_refused() {
        let limits = BatchLimits { sequences: 4, tokens: Some(7) };
        let sampler = Sampler::new(vec![3; 11], limits, Order::Shuffled { seed: 5 }).unwrap();
        let error = Steps::new(&sampler, Length::Epochs(1 << 40), 1).err().unwrap().to_string();
        assert!(error.starts_with("--epochs") && error.contains("--steps"), "{error}");
    }

    #[test]
    fn a_run_of_steps_ends_inside_an_epoch() {
        let steps = run(Length::Steps(8), 1);
        assert_eq!(steps.len(), 8);
        assert_eq!(steps[7].after, Position { step: 8, epoch: 1, batch: 2 });
    }

    #[test]
    fn any_position_gives_the_step_that_a_run_from_the_start_has_there() {
        let all = run(Length::Epochs(3), 4);
        let sampler = sampler();
        for pair in all.windows(2) {
            let mut fresh = Steps::new(&sampler, Length::Epochs(3), 4).unwrap();
            assert_eq!(fresh.at(pair[0].after).as_ref(), Some(&pair[1]));
        }
    }

    #[test]
    fn dropout_never_sees_the_same_batch_number_twice() {
        let steps = run(Length::Epochs(3), 4);
        let mut numbers: Vec<u64> =
            steps.iter().flat_map(|step| step.parts.iter().map(|part| part.batch)).collect();
        let count = numbers.len();
        numbers.dedup();
        assert_eq!(numbers.len(), count);
    }
}
