//! Drawing rows: those held out for evaluation if there is no dev file, and those to train on if not all are used.

use anyhow::{Result, bail};

use crate::rng::{Purpose, Stream};
use crate::words::{are, count};

/// Row numbers of the two parts, ascending, so that file order is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    pub train: Vec<usize>,
    pub dev: Vec<usize>,
}

/// Draws round(`rows` x `fraction`) of the rows for dev, at least one for each side, using only the seed.
///
/// # Errors
/// A fraction outside 0..1, or fewer than two rows.
pub fn split(rows: usize, fraction: f64, seed: u64) -> Result<Split> {
    if !(fraction > 0.0 && fraction < 1.0) {
        bail!("the dev fraction is {fraction}; it must be greater than 0 and less than 1");
    }
    if rows < 2 {
        bail!(
            "{} cannot be split into training and dev rows; at least two are needed",
            count(rows, "row")
        );
    }
    let held_out = ((rows as f64 * fraction).round() as usize).clamp(1, rows - 1);
    let mut dev: Vec<usize> = (0..rows).collect();
    Stream::new(seed, Purpose::Split, 0).shuffle(&mut dev);
    let mut train = dev.split_off(held_out);
    train.sort_unstable();
    dev.sort_unstable();
    Ok(Split { train, dev })
}

/// Draws `count` of `rows` rows, ascending, using only the seed, so that file order is kept. A smaller count draws a
/// subset of a larger one.
///
/// # Errors
/// Fewer rows than that.
pub fn draw(rows: usize, wanted: usize, seed: u64) -> Result<Vec<usize>> {
    if wanted > rows {
        bail!(
            "--train-rows {wanted}: there {} {} to train on; ask for fewer, or leave it out to take all",
            are(rows),
            count(rows, "row")
        );
    }
    let mut drawn: Vec<usize> = (0..rows).collect();
    Stream::new(seed, Purpose::TrainRows, 0).shuffle(&mut drawn);
    drawn.truncate(wanted);
    drawn.sort_unstable();
    Ok(drawn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_parts_are_disjoint_ascending_and_cover_all_rows() {
        let Split { train, dev } = split(103, 0.1, 42).unwrap();
        assert_eq!((train.len(), dev.len()), (93, 10));
        assert!(train.is_sorted() && dev.is_sorted());
        let mut all = [train, dev].concat();
        all.sort_unstable();
        assert_eq!(all, (0..103).collect::<Vec<_>>());
    }

    #[test]
    fn the_seed_alone_decides() {
        assert_eq!(split(500, 0.2, 1).unwrap(), split(500, 0.2, 1).unwrap());
        assert_ne!(split(500, 0.2, 1).unwrap(), split(500, 0.2, 2).unwrap());
    }

    #[test]
    fn the_count_is_rounded_and_each_side_keeps_a_row() {
        let dev = |rows, fraction| split(rows, fraction, 0).unwrap().dev.len();
        assert_eq!(dev(10_065, 0.1), 1_007);
        assert_eq!(dev(5, 0.5), 3);
        assert_eq!(dev(10, 0.001), 1);
        assert_eq!(dev(10, 0.999), 9);
    }

    #[test]
    fn fewer_rows_are_among_more_and_the_seed_alone_draws_them() {
        let some = draw(1000, 100, 7).unwrap();
        assert!(some.len() == 100 && some.is_sorted());
        let more = draw(1000, 300, 7).unwrap();
        assert!(some.iter().all(|row| more.contains(row)));
        assert_ne!(some, draw(1000, 100, 8).unwrap());
        assert_eq!(draw(5, 5, 1).unwrap(), [0, 1, 2, 3, 4]);
        let error = draw(5, 6, 1).unwrap_err().to_string();
        assert!(error.contains("--train-rows 6") && error.contains("there are 5 rows"), "{error}");
    }

    #[test]
    fn impossible_splits_are_refused() {
        for fraction in [0.0, 1.0, -0.1, 1.5, f64::NAN] {
            assert!(split(10, fraction, 0).is_err(), "{fraction}");
        }
        assert!(split(1, 0.5, 0).unwrap_err().to_string().contains("at least two"));
    }
}
