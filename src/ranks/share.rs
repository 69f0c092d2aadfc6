//! One process's part of each batch, when there are several.

use std::ops::Range;

/// One process's part of each batch: consecutive rows, with the tokens divided as evenly as rows allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// From 0.
    pub rank: usize,
    /// Processes in all.
    pub of: usize,
}

impl Share {
    /// All of it.
    pub const WHOLE: Self = Self { rank: 0, of: 1 };

    /// The indices in a batch's `rows` of its part; the parts of all ranks follow one another.
    pub fn of_batch(self, rows: &[usize], lengths: &[u32]) -> Range<usize> {
        if self == Self::WHOLE {
            return 0..rows.len();
        }
        let total: u64 = rows.iter().map(|&row| u64::from(lengths[row])).sum();
        let of = self.of as u64;
        // A row belongs to the rank whose part of the tokens contains its middle.
        let mut before = 0;
        let rank_of = |&row: &usize| {
            let middle = 2 * before + u64::from(lengths[row]);
            before += u64::from(lengths[row]);
            (middle * of / (2 * total).max(1)) as usize
        };
        let ranks: Vec<usize> = rows.iter().map(rank_of).collect();
        let first = |rank: usize| ranks.partition_point(|&of_row| of_row < rank);
        first(self.rank)..first(self.rank + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_one_another_and_are_as_even_as_whole_rows_allow() {
        let lengths: Vec<u32> = (0..40).map(|n| n * 13 % 29 + 1).collect();
        for rows in [0..0, 0..1, 3..7, 0..40] {
            let rows: Vec<usize> = rows.collect();
            let total: u32 = rows.iter().map(|&row| lengths[row]).sum();
            for of in 1..9 {
                let mut next = 0;
                for rank in 0..of {
                    let share = Share { rank, of }.of_batch(&rows, &lengths);
                    assert_eq!(share.start, next);
                    next = share.end;
                    let tokens: u32 = rows[share].iter().map(|&row| lengths[row]).sum();
                    assert!(tokens <= total / of as u32 + 29, "rank {rank} of {of}: {tokens}");
                }
                assert_eq!(next, rows.len());
            }
        }
        let even = [8, 8, 8, 8];
        let shares = [0, 1].map(|rank| Share { rank, of: 2 }.of_batch(&[0, 1, 2, 3], &even));
        assert_eq!(shares, [0..2, 2..4]);
    }
}
