//! The paper's control with single parameters: as many as biases would train, drawn uniformly and without replacement
//! over the whole encoder. The draw uses only integer arithmetic, so a seed gives the same entries on every machine.

use crate::rng::{Purpose, Stream};
use std::collections::BTreeSet;

/// The entries of each tensor, in ascending order; `sizes` are the tensors' numbers of values.
pub fn choose(seed: u64, count: usize, sizes: &[usize]) -> Vec<Vec<u32>> {
    let all: u64 = sizes.iter().map(|&size| size as u64).sum();
    let mut stream = Stream::new(seed, Purpose::Entries, 0);
    let mut drawn = BTreeSet::new();
    while (drawn.len() as u64) < all.min(count as u64) {
        drawn.insert(stream.below(all));
    }
    let mut drawn = drawn.into_iter().peekable();
    let mut end = 0;
    let of_tensor = sizes.iter().map(|&size| {
        let start = end;
        end += size as u64;
        let mut of_tensor = Vec::new();
        while let Some(place) = drawn.next_if(|&place| place < end) {
            of_tensor.push((place - start) as u32);
        }
        of_tensor
    });
    of_tensor.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_asked_for_are_drawn_once_each_and_from_the_seed() {
        let sizes = [600, 0, 30, 370];
        let chosen = choose(7, 250, &sizes);
        assert_eq!(chosen.iter().map(Vec::len).sum::<usize>(), 250);
        for (of_tensor, size) in chosen.iter().zip(sizes) {
            assert!(of_tensor.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(of_tensor.iter().all(|&place| (place as usize) < size));
        }
        assert_eq!(chosen, choose(7, 250, &sizes));
        assert_ne!(chosen, choose(8, 250, &sizes));
        // Drawing more than exist would never end.
        assert_eq!(choose(7, 2000, &sizes).iter().map(Vec::len).sum::<usize>(), 1000);
    }

    #[test]
    fn every_value_is_as_likely_as_every_other() {
        let mut counts = [0; 40];
        for seed in 0..4000 {
            let chosen = choose(seed, 10, &[25, 15]);
            for (from, of_tensor) in [(0, &chosen[0]), (25, &chosen[1])] {
                of_tensor.iter().for_each(|&place| counts[from + place as usize] += 1);
            }
        }
        // 1000 of each, give or take four standard deviations.
        assert!(counts.iter().all(|count| (890..=1110).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_draw_of_a_seed_never_changes() {
        // A delta lists its entries, and a resumed run draws them again.
        assert_eq!(choose(1, 6, &[100, 1000]), PINNED);
    }

    /// What `scripts/fixture_entries.py` draws.
    const PINNED: [&[u32]; 2] = [&[], &[53, 183, 236, 455, 468, 636]];
}
