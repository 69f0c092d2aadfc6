//! What the sampler promises: every row once per epoch, limits respected, the same batches whenever asked.

use super::*;
use proptest::prelude::*;

const SHUFFLED: Order = Order::Shuffled { seed: 7 };

fn sampler(lengths: &[u32], sequences: usize, tokens: Option<usize>, order: Order) -> Sampler {
    Sampler::new(lengths.to_vec(), BatchLimits { sequences, tokens }, order).unwrap()
}

fn collected(batches: &Batches) -> Vec<Vec<usize>> {
    batches.iter().map(<[usize]>::to_vec).collect()
}

#[test]
fn file_order_fills_batches_and_keeps_the_rest() {
    let sampler = sampler(&[1; 5], 2, None, Order::File);
    assert_eq!(collected(&sampler.epoch(0)), [vec![0, 1], vec![2, 3], vec![4]]);
    assert_eq!(sampler.epoch(0), sampler.epoch(3));
}

#[test]
fn a_batch_closes_at_whichever_limit_comes_first() {
    let lengths = [4, 4, 2, 9, 1, 1, 1, 1];
    let sampler = sampler(&lengths, 3, Some(8), Order::File);
    assert_eq!(
        collected(&sampler.epoch(0)),
        [vec![0, 1], vec![2], vec![3], vec![4, 5, 6], vec![7]]
    );
}

#[test]
fn shuffled_epochs_differ_and_repeat_exactly() {
    let first = sampler(&[3; 100], 8, None, SHUFFLED);
    let resumed = sampler(&[3; 100], 8, None, SHUFFLED);
    assert_ne!(first.epoch(0), first.epoch(1));
    assert_ne!(first.epoch(0), sampler(&[3; 100], 8, None, Order::Shuffled { seed: 8 }).epoch(0));
    assert_eq!(first.epoch(5).get(9), resumed.epoch(5).get(9));
    assert_eq!(first.epoch(0).get(13), None);
}

#[test]
fn the_order_of_a_seed_never_changes() {
    // Pinned so that checkpoints of older versions resume on the same rows. The value was computed independently, from
    // the definitions of Philox, of the stream's counter and of Fisher-Yates.
    let epoch = sampler(&[1; 8], 8, None, Order::Shuffled { seed: 42 }).epoch(1);
    assert_eq!(epoch.get(0), Some(&[7, 4, 1, 0, 5, 6, 2, 3][..]));
}

#[test]
fn a_run_by_batches_stops_inside_an_epoch() {
    let sampler = sampler(&[2, 2, 2, 2, 5], 2, None, Order::File);
    let largest = |run| sampler.largest(run, 1);
    assert_eq!(largest(RunLength::Batches(3)).tokens, 5);
    assert_eq!(
        largest(RunLength::Batches(2)),
        Largest { tokens: 4, sequences: 2, len: 2 },
        "the long row is not reached"
    );
    assert_eq!(largest(RunLength::Epochs(0)), Largest::default());
}

#[test]
fn a_run_too_long_to_simulate_has_room_for_its_longest_rows() {
    let lengths = [2, 9, 2, 3, 7];
    let endless =
        |tokens| sampler(&lengths, 3, tokens, SHUFFLED).largest(RunLength::Batches(u64::MAX), 1);
    let of = |tokens| Largest { tokens, sequences: 3, len: 9 };
    assert_eq!(endless(None), of(19));
    assert_eq!(endless(Some(12)), of(12));
    assert_eq!(endless(Some(4)), of(9));
}

#[test]
fn evaluation_goes_from_long_to_short_and_back_to_file_order() {
    let lengths = [3, 9, 3, 5];
    let batches = evaluation_batches(&lengths, BatchLimits { sequences: 2, tokens: None }).unwrap();
    assert_eq!(collected(&batches), [vec![1, 3], vec![0, 2]]);
    assert_eq!(batches.restore(&["b", "d", "a", "c"], |_| 1).unwrap(), ["a", "b", "c", "d"]);
    assert_eq!(
        batches.restore(&[10, 11, 30, 31, 0, 1, 20, 21], |_| 2).unwrap(),
        [0, 1, 10, 11, 20, 21, 30, 31]
    );
    let by_row = |row: usize| row;
    assert_eq!(
        batches.restore(&[11, 31, 32, 33, 21, 22], by_row).unwrap(),
        [11, 21, 22, 31, 32, 33]
    );
    assert!(batches.restore(&[1, 2, 3], |_| 1).is_err());
}

#[test]
fn nothing_to_batch_and_limits_of_zero_are_refused() {
    let limits = BatchLimits { sequences: 1, tokens: None };
    assert!(Sampler::new(vec![], limits, Order::File).is_err());
    assert!(evaluation_batches(&[], limits).is_err());
    for limits in
        [BatchLimits { sequences: 0, tokens: None }, BatchLimits { sequences: 1, tokens: Some(0) }]
    {
        assert!(Sampler::new(vec![1], limits, Order::File).is_err());
    }
}

proptest! {
    #[test]
    fn every_row_occurs_once_an_epoch_within_the_limits(
        lengths in prop::collection::vec(1u32..40, 1..80),
        sequences in 1usize..12,
        tokens in prop::option::of(1usize..100),
        shuffle in any::<bool>(),
        epoch in 0u64..5,
    ) {
        let order = if shuffle { SHUFFLED } else { Order::File };
        let epoch = sampler(&lengths, sequences, tokens, order).epoch(epoch);
        let mut seen: Vec<usize> = epoch.iter().flatten().copied().collect();
        let in_order = seen.clone();
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
        let sum = |rows: &[usize]| rows.iter().map(|&row| lengths[row] as usize).sum::<usize>();
        let most = tokens.unwrap_or(usize::MAX);
        let mut at = 0;
        for index in 0..epoch.len() {
            let rows = epoch.get(index).unwrap();
            prop_assert!(!rows.is_empty() && rows.len() <= sequences);
            prop_assert!(sum(rows) <= most || rows.len() == 1);
            at += rows.len();
            // No batch closes early: the next row would not have fit.
            if let Some(&next) = in_order.get(at) {
                prop_assert!(rows.len() == sequences || sum(rows) + lengths[next] as usize > most);
            }
        }
    }

    #[test]
    fn the_largest_batch_is_what_the_run_then_asks_for(
        lengths in prop::collection::vec(1u32..40, 1..60),
        sequences in 1usize..9,
        tokens in prop::option::of(1usize..100),
        shuffle in any::<bool>(),
        run in prop_oneof![(1u64..5).prop_map(RunLength::Epochs), (1u64..60).prop_map(RunLength::Batches)],
    ) {
        let order = if shuffle { SHUFFLED } else { Order::File };
        let sampler = sampler(&lengths, sequences, tokens, order);
        let largest = sampler.largest(run, 1);
        let all: Vec<Vec<usize>> = match run {
            RunLength::Epochs(epochs) => (0..epochs).flat_map(|epoch| collected(&sampler.epoch(epoch))).collect(),
            RunLength::Batches(batches) => (0..)
                .flat_map(|epoch| collected(&sampler.epoch(epoch)))
                .take(batches as usize)
                .collect(),
        };
        let most = |of: fn(&[u32]) -> u32| {
            let batch = |rows: &Vec<usize>| of(&rows.iter().map(|&row| lengths[row]).collect::<Vec<_>>());
            all.iter().map(batch).max().unwrap() as usize
        };
        prop_assert_eq!(largest.tokens, most(|batch| batch.iter().sum()));
        prop_assert_eq!(largest.sequences, most(|batch| batch.len() as u32));
        prop_assert_eq!(largest.len, most(|batch| *batch.iter().max().unwrap()));
        if let Some(batches) = sampler.batches_an_epoch() {
            prop_assert_eq!(batches, sampler.epoch(3).len() as u64);
        }
    }
}
