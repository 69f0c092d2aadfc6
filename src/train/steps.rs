//! Which micro-batches make which optimizer step: a cursor over epochs that can stand anywhere.

use crate::data::{Batches, Largest, RunLength, Sampler};
use crate::error::UsageError;
use crate::settings::train::Length;
use crate::train::micro::micro_batches;

/// Rows that are drawn before a run to count its steps: some minutes of work.
const MOST_DRAWN_ROWS: u64 = 1 << 32;

/// A place between two optimizer steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Optimizer steps done.
    pub step: u64,
    /// Current epoch, from 0.
    pub epoch: u64,
    /// Micro-batches of the current epoch that are done; fewer than it has.
    pub batch: u64,
}

/// The optimizer steps of a run, each of up to `accumulation` micro-batches of one epoch.
pub struct Steps<'a> {
    sampler: &'a Sampler,
    accumulation: u64,
    /// Batches are cut into parts of so many tokens, at most so many of them.
    parts: Option<(usize, u64)>,
    /// Optimizer steps in the whole run.
    pub total: u64,
    /// The current epoch's batches, made when first asked for.
    current: Option<(u64, Batches)>,
}

/// One optimizer step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Row numbers of each micro-batch.
    pub batches: Vec<Vec<usize>>,
    /// Counts the run's micro-batches: the number of this step's first.
    pub first_batch: u64,
    /// Where the run stands after this step.
    pub after: Position,
    /// Whether it is an epoch's last.
    pub ends_epoch: bool,
    /// Epochs done after this step, fractions included.
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
        let steps = Self { sampler, accumulation, parts: None, total, current: None };
        steps.countable()?;
        Ok(steps)
    }

    /// Cuts every batch into micro-batches of up to `tokens` tokens. What a step learns from stays the same, up to
    /// rounding and the masks of dropout.
    ///
    /// # Errors
    /// More micro-batches than can be counted.
    pub fn split(&mut self, tokens: usize, largest: Largest) -> Result<(), UsageError> {
        self.parts = (tokens < largest.tokens).then_some((tokens, largest.sequences as u64));
        self.countable()
    }

    /// Micro-batches for which a step has numbers.
    fn numbers_per_step(&self) -> Option<u64> {
        self.accumulation.checked_mul(self.parts.map_or(1, |(_, most)| most))
    }

    /// Holds the largest numbers that the run can come to against 63 bits, so that no sum or product of them overflows.
    fn countable(&self) -> Result<(), UsageError> {
        let numbers = self.numbers_per_step().and_then(|step| step.checked_mul(self.total));
        if numbers.is_some_and(|numbers| numbers < 1 << 63) {
            return Ok(());
        }
        Err(UsageError::new(format!(
            "--grad-accumulation {} in {} steps makes more micro-batches than can be counted; an epoch has fewer than \
             {} of them, and no step takes more than an epoch",
            self.accumulation,
            self.total,
            self.sampler.lengths().len().saturating_add(1)
        )))
    }

    /// The largest batch of the run before it is cut, counted before the run starts.
    pub fn largest(&self, length: Length) -> Largest {
        self.sampler.largest(match length {
            Length::Epochs(epochs) => RunLength::Epochs(epochs),
            // An epoch's last step may take fewer, so this may look a little further than the run goes.
            Length::Steps(steps) => RunLength::Batches(steps.saturating_mul(self.accumulation)),
        })
    }

    /// Whether the run comes by `position`.
    pub fn passes(&self, position: Position) -> bool {
        let Position { step, epoch, batch } = position;
        // Each epoch has a step, so no more epochs are looked at than the run has.
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
        let parts = |rows| match self.parts {
            None => vec![rows],
            Some((tokens, _)) => {
                let lengths = self.sampler.lengths();
                micro_batches(rows, tokens, |row| lengths[row] as usize)
            }
        };
        let step = Step {
            batches: whole.flat_map(parts).map(<[usize]>::to_vec).collect(),
            // `countable` has multiplied larger ones.
            first_batch: position.step * self.numbers_per_step().unwrap_or(1),
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
}

/// The optimizer steps of so many epochs.
fn steps_of(sampler: &Sampler, epochs: u64, accumulation: u64) -> Result<u64, UsageError> {
    if let Some(batches) = sampler.batches_an_epoch() {
        return batches.div_ceil(accumulation).checked_mul(epochs).ok_or_else(|| {
            UsageError::new(format!("--epochs {epochs} makes more steps than can be counted"))
        });
    }
    // Each epoch is drawn to be counted.
    let rows = sampler.lengths().len() as u64;
    if rows.checked_mul(epochs).is_none_or(|rows| rows > MOST_DRAWN_ROWS) {
        return Err(UsageError::new(format!(
            "--epochs {epochs} with --batch-tokens: batches differ from epoch to epoch, and those of {epochs} times \
             {rows} rows are too many to count; give the length of the run with --steps"
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
        // 11 rows in pairs: 6 micro-batches; four at a time: 2 steps an epoch.
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
    fn cut_batches_have_the_rows_and_positions_of_whole_ones_and_numbers_of_their_own() {
        let whole = run(Length::Epochs(2), 2);
        let sampler = sampler();
        let mut steps = Steps::new(&sampler, Length::Epochs(2), 2).unwrap();
        // Pairs of rows of three tokens; the limit leaves one row a part.
        let largest = steps.largest(Length::Epochs(2));
        steps.split(5, largest).unwrap();
        let mut numbers = Vec::new();
        for step in &whole {
            let position = Position {
                step: step.after.step - 1,
                ..whole
                    .iter()
                    .find(|s| s.after.step + 1 == step.after.step)
                    .map_or(Position::default(), |s| s.after)
            };
            let cut = steps.at(position).unwrap();
            assert_eq!(cut.batches.concat(), step.batches.concat());
            assert!(cut.batches.iter().all(|rows| rows.len() == 1));
            assert_eq!(cut.after, step.after);
            numbers.extend((0..cut.batches.len() as u64).map(|i| cut.first_batch + i));
        }
        let count = numbers.len();
        numbers.dedup();
        assert_eq!(numbers.len(), count);
        // A limit that every batch keeps cuts nothing.
        steps.split(6, largest).unwrap();
        assert_eq!(steps.at(Position::default()).as_ref(), Some(&whole[0]));
    }

    #[test]
    fn runs_with_more_micro_batches_than_can_be_counted_are_refused_by_option() {
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
        // Where batches are cut, a step has more numbers, and is refused later.
        let mut steps = Steps::new(&sampler, Length::Steps(1), LARGE as usize).unwrap();
        let whole = steps.at(Position::default()).unwrap();
        assert_eq!((whole.batches.len(), whole.ends_epoch), (6, true));
        assert!(steps.split(5, Largest { tokens: 6, sequences: 2, len: 3 }).is_err());
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
        let mut numbers: Vec<u64> = steps
            .iter()
            .flat_map(|s| (0..s.batches.len() as u64).map(|i| s.first_batch + i))
            .collect();
        let count = numbers.len();
        numbers.dedup();
        assert_eq!(numbers.len(), count);
    }
}
