//! Intervals by the percentile bootstrap: seeds are drawn with replacement, and so are the measured rows, the same ones
//! for both sides of a difference. If all seeds were measured on the same rows, these are drawn once for all of them;
//! if each has its own, separately for each.

use super::statistics::percentile;
use crate::rng::{Purpose, Stream};
use crate::tasks::row_answers::RowAnswers;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How many times seeds and rows are drawn.
pub const RESAMPLES: u64 = 10_000;
/// The share of the resamples inside the interval.
pub const SHARE: f64 = 0.95;
/// The same draws for every sweep.
const SEED: u64 = 2106_10199;

/// A run's answers to its dev rows in its best state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevAnswers {
    /// The sha256 of the rows: equal for runs that were measured on the same rows.
    pub rows: String,
    pub answers: RowAnswers,
}

/// The result of one seed: a value, or its difference from another.
#[derive(Debug, Clone, Copy)]
pub struct OfSeed<'a> {
    pub value: f64,
    /// The answers behind it: of the value itself, and of the one it is compared with.
    pub rows: Option<(&'a DevAnswers, Option<&'a DevAnswers>)>,
}

/// The middle 95 % of the resamples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
    /// Whether rows were drawn too, or only seeds.
    pub rows: bool,
}

/// For the mean over seeds; `None` with fewer than two, which cannot be resampled.
pub fn interval(seeds: &[OfSeed<'_>]) -> Option<Interval> {
    if seeds.len() < 2 {
        return None;
    }
    let usable = |seed: &OfSeed<'_>| match seed.rows {
        Some((own, None)) => own.answers.rows().is_some_and(|rows| rows > 0),
        Some((own, Some(other))) => {
            let some = own.answers.rows().is_some_and(|rows| rows > 0);
            some && own.rows == other.rows && own.answers.pairs_with(&other.answers)
        }
        None => false,
    };
    let known: Vec<_> = seeds.iter().filter(|seed| usable(seed)).filter_map(|s| s.rows).collect();
    let rows = match known.len() == seeds.len() {
        false => Draws::Seeds,
        true if known.windows(2).all(|pair| pair[0].0.rows == pair[1].0.rows) => Draws::SharedRows,
        true => Draws::OwnRows,
    };
    let mut means: Vec<f64> =
        (0..RESAMPLES).into_par_iter().map(|resample| mean(seeds, rows, resample)).collect();
    means.sort_by(f64::total_cmp);
    let outside = (1.0 - SHARE) / 2.0;
    let (low, high) = (percentile(&means, outside)?, percentile(&means, 1.0 - outside)?);
    Some(Interval { low, high, rows: rows != Draws::Seeds })
}

/// What is drawn in addition to seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Draws {
    Seeds,
    SharedRows,
    OwnRows,
}

/// The mean over the seeds of a resample.
fn mean(seeds: &[OfSeed<'_>], draws: Draws, resample: u64) -> f64 {
    let mut stream = Stream::new(SEED, Purpose::Resample, resample);
    let mut below = |bound: usize| stream.below(bound as u64) as usize;
    let mut rows: Vec<usize> = Vec::new();
    let mut sum = 0.0;
    for _ in 0..seeds.len() {
        let seed = &seeds[below(seeds.len())];
        sum += match seed.rows {
            Some((own, other)) if draws != Draws::Seeds => {
                if rows.is_empty() || draws == Draws::OwnRows {
                    let count = own.answers.rows().unwrap_or_default();
                    rows.clear();
                    rows.extend((0..count).map(|_| below(count)));
                }
                own.answers.value(&rows) - other.map_or(0.0, |other| other.answers.value(&rows))
            }
            _ => seed.value,
        };
    }
    sum / seeds.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(values: &[f64]) -> Vec<OfSeed<'static>> {
        values.iter().map(|&value| OfSeed { value, rows: None }).collect()
    }

    #[test]
    fn the_mean_of_a_few_seeds_has_the_interval_of_all_their_resamples() {
        // numpy.percentile of the means of all 27 ordered draws of three with replacement.
        let all = |v: [f64; 3]| -> Vec<f64> {
            let draws = (0..27).map(|i| (v[i % 3] + v[i / 3 % 3] + v[i / 9]) / 3.0);
            let mut draws: Vec<f64> = draws.collect();
            draws.sort_by(f64::total_cmp);
            draws
        };
        let exact = all([0.80, 0.84, 0.85]);
        let found = interval(&values(&[0.80, 0.84, 0.85])).unwrap();
        assert!(!found.rows);
        // One of 27 is 3.7 %: the 2.5 % lie within the lowest draw, and the highest.
        assert!((found.low - exact[0]).abs() < 1e-12 && (found.high - exact[26]).abs() < 1e-12);
    }

    #[test]
    fn one_seed_has_no_interval_and_the_same_seeds_have_the_same() {
        assert_eq!(interval(&values(&[0.5])), None);
        assert_eq!(interval(&[]), None);
        let (first, second) = (values(&[0.1, 0.4, 0.2]), values(&[0.1, 0.4, 0.2]));
        assert_eq!(interval(&first), interval(&second));
        let flat = interval(&values(&[0.5, 0.5])).unwrap();
        assert_eq!((flat.low, flat.high), (0.5, 0.5));
    }

    fn right(rows: &str, each: Vec<f32>) -> DevAnswers {
        DevAnswers { rows: rows.to_owned(), answers: RowAnswers::Mean { each } }
    }

    #[test]
    fn rows_are_drawn_where_they_are_known_and_as_wide_as_theory_has_them() {
        // Two identical seeds, so that only rows vary: a mean of 400 rows, 60 % of them right.
        let each: Vec<f32> = (0..400).map(|row| f32::from(row % 5 < 3)).collect();
        let (one, other) = (right("a", each.clone()), right("b", each));
        let seed = |answers| OfSeed { value: 0.6, rows: Some((answers, None)) };
        let deviation = (0.6_f64 * 0.4 / 400.0).sqrt();
        // On the same rows the second seed adds nothing; on others it halves the variance, if both were drawn.
        let cases = [
            (interval(&[seed(&one), seed(&one)]), 1.0),
            (interval(&[seed(&one), seed(&other)]), 0.5),
        ];
        for (found, share) in cases {
            let found = found.unwrap();
            assert!(found.rows);
            let wide = 2.0 * 1.96 * deviation * f64::sqrt(share);
            let off = ((found.high - found.low) / wide - 1.0).abs();
            assert!(off < 0.05, "{found:?}, {off}");
        }
        // The difference of something from itself is zero, whichever rows are drawn.
        let same = OfSeed { value: 0.0, rows: Some((&one, Some(&one))) };
        let none = interval(&[same, same]).unwrap();
        assert_eq!((none.low, none.high, none.rows), (0.0, 0.0, true));
    }

    #[test]
    fn answers_on_other_rows_are_not_compared_row_by_row() {
        let one = right("a", vec![1.0; 4]);
        for other in [right("a", vec![0.0; 5]), right("b", vec![0.0; 4])] {
            let seed = OfSeed { value: 0.25, rows: Some((&one, Some(&other))) };
            let found = interval(&[seed, seed]).unwrap();
            assert_eq!((found.low, found.high, found.rows), (0.25, 0.25, false));
        }
        let empty = right("a", vec![]);
        let seed = OfSeed { value: 0.25, rows: Some((&empty, None)) };
        assert!(!interval(&[seed, seed]).unwrap().rows);
    }
}
