//! The paper's control with whole rows and columns: those of linear layers' matrices, drawn uniformly until about as
//! many parameters are chosen as biases would train.

use crate::rng::{Purpose, Stream};
use std::collections::{BTreeSet, HashSet};

/// The entries of each matrix, in ascending order; `shapes` are rows and columns. The last line is taken if it brings
/// the count nearer to `count`; at least one line is taken.
pub fn choose(seed: u64, count: usize, shapes: &[[usize; 2]]) -> Vec<Vec<u32>> {
    let all: usize = shapes.iter().flatten().sum();
    let mut stream = Stream::new(seed, Purpose::EntryLines, 0);
    let mut chosen = vec![BTreeSet::new(); shapes.len()];
    let (mut total, mut seen) = (0, HashSet::new());
    while total < count && seen.len() < all {
        let line = stream.below(all as u64) as usize;
        if !seen.insert(line) {
            continue;
        }
        let (matrix, places) = places(line, shapes);
        // A row and a column share a value.
        let new: Vec<u32> = places.filter(|place| !chosen[matrix].contains(place)).collect();
        if total > 0 && total + new.len() > count && total + new.len() - count >= count - total {
            break;
        }
        total += new.len();
        chosen[matrix].extend(new);
    }
    chosen.into_iter().map(|places| places.into_iter().collect()).collect()
}

/// The matrix of a line and the places in it. Lines count through the matrices, rows before columns.
fn places(mut line: usize, shapes: &[[usize; 2]]) -> (usize, impl Iterator<Item = u32> + use<>) {
    let mut matrix = 0;
    while line >= shapes[matrix][0] + shapes[matrix][1] {
        line -= shapes[matrix][0] + shapes[matrix][1];
        matrix += 1;
    }
    let [rows, columns] = shapes[matrix];
    let (first, step, len) = match line.checked_sub(rows) {
        None => (line * columns, 1, columns),
        Some(column) => (column, columns, rows),
    };
    (matrix, (0..len).map(move |i| (first + i * step) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_are_chosen_about_as_many_values_as_asked_for() {
        let shapes = [[8, 5], [3, 16]];
        for seed in 0..200 {
            let chosen = choose(seed, 40, &shapes);
            let total: usize = chosen.iter().map(Vec::len).sum();
            // It can be off by at most half of the longest line.
            assert!(total.abs_diff(40) <= 8, "{total}");
            for (places, [rows, columns]) in chosen.iter().zip(shapes) {
                let has = |row: usize, column: usize| {
                    places.binary_search(&((row * columns + column) as u32)).is_ok()
                };
                let row = |row: usize| (0..columns).all(|column| has(row, column));
                let column = |column: usize| (0..rows).all(|row| has(row, column));
                let whole = |&place: &u32| {
                    row(place as usize / columns) || column(place as usize % columns)
                };
                assert!(places.iter().all(whole), "seed {seed}: {places:?}");
                assert!(places.windows(2).all(|pair| pair[0] < pair[1]));
            }
            assert_eq!(chosen, choose(seed, 40, &shapes));
        }
    }

    #[test]
    fn one_line_is_chosen_at_least_and_all_values_at_most() {
        let few = choose(3, 1, &[[4, 4]]);
        assert_eq!(few[0].len(), 4);
        assert_eq!(choose(3, 1000, &[[4, 4]])[0].len(), 16);
    }
}
