//! Batches split into micro-batches that fit in memory.

/// Splits `rows` into runs of at most `tokens` tokens; a longer row is a run by itself.
pub fn micro_batches(
    rows: &[usize],
    tokens: usize,
    length: impl Fn(usize) -> usize,
) -> Vec<&[usize]> {
    let mut parts = Vec::new();
    let (mut first, mut sum) = (0, 0);
    for (at, &row) in rows.iter().enumerate() {
        let length = length(row);
        if at > first && sum + length > tokens {
            parts.push(&rows[first..at]);
            (first, sum) = (at, 0);
        }
        sum += length;
    }
    if first < rows.len() {
        parts.push(&rows[first..]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_one_part_in_order_and_no_part_of_several_exceeds_the_limit() {
        let lengths = [5, 3, 9, 1, 1, 1, 20, 2];
        let rows = [7, 0, 1, 2, 3, 4, 5, 6];
        for limit in 1..60 {
            let parts = micro_batches(&rows, limit, |row| lengths[row]);
            assert_eq!(parts.concat(), rows);
            for part in &parts {
                let sum: usize = part.iter().map(|&row| lengths[row]).sum();
                assert!(sum <= limit || part.len() == 1, "{limit}: {part:?}");
            }
        }
        assert_eq!(micro_batches(&rows, 42, |row| lengths[row]).len(), 1);
        assert_eq!(micro_batches(&[], 4, |_| 1), Vec::<&[usize]>::new());
    }
}
