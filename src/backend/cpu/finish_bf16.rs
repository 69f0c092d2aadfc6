//! Processes the sums of a bf16 product while they are in the first-level cache: adds bias and activation, or goes back
//! through one, takes column sums, then rounds to the destination.

use super::elements::Elements;
use super::lanes::{LANES, Lanes, on_lanes};
use super::lanes_math::activate;
use super::share::Shared;
use super::slopes::Slopes;
use crate::program::Activation;
use std::ops::Range;

/// See the module documentation.
pub struct Finish<'a> {
    /// `[rows, width]`
    pub to: Option<Elements<'a>>,
    pub width: usize,
    pub with: With<'a>,
}

pub enum With<'a> {
    /// `act(sums + bias)`
    Forward {
        bias: &'a [f32],
        act: Option<Activation>,
        /// Where the derivatives go.
        slopes: Option<Slopes<'a>>,
        /// Whether the derivative is the output.
        derivative: bool,
    },
    /// `sums ⊙ slopes`
    Backward {
        slopes: Option<Slopes<'a>>,
        /// Whether it adds to the output.
        adds: bool,
        /// Lines of column sums, and rows per line.
        sums: Option<(Shared<'a>, usize)>,
    },
}

on_lanes! {
    /// Processes a block of sums, whose rows are `stride` apart and whole vectors, into its rows and columns of the
    /// output.
    ///
    /// No two threads may work on the same part of the output; a line of column sums belongs to the thread that works
    /// on its rows, all of which lie in one line.
    pub fn finish(what: &Finish<'_>, rows: Range<usize>, cols: Range<usize>, block: &[f32], stride: usize) = finish_body;
}

#[inline(always)]
fn finish_body<L: Lanes>(
    lanes: L,
    what: &Finish<'_>,
    rows: Range<usize>,
    cols: Range<usize>,
    block: &[f32],
    stride: usize,
) {
    for (i, col) in cols.clone().step_by(LANES).enumerate() {
        let place = Place { col, count: LANES.min(cols.end - col), width: what.width };
        let column = block[i * LANES..].chunks(stride).map(|row| &row[..LANES]);
        let column = rows.clone().zip(column);
        match &what.with {
            With::Forward { bias, act: None, .. } => {
                let bias = lanes.load(&bias[place.cols()]);
                for (row, x) in column {
                    place.put(lanes, what.to, row, lanes.add(lanes.load(x), bias));
                }
            }
            With::Forward { bias, act: Some(act), slopes, derivative } => {
                let bias = lanes.load(&bias[place.cols()]);
                let each = |act: Activation| {
                    for (row, x) in column.clone() {
                        let (y, slope) = activate(lanes, act, lanes.add(lanes.load(x), bias));
                        place.put(lanes, what.to, row, if *derivative { slope } else { y });
                        if let Some(slopes) = slopes {
                            // SAFETY: what `finish` asks of its caller; a vector begins on an even column.
                            unsafe { slopes.keep(lanes, slope, row, place.cols()) };
                        }
                    }
                };
                // A separate loop for each, so that it has no branches.
                match act {
                    Activation::GeluErf => each(Activation::GeluErf),
                    Activation::GeluTanh => each(Activation::GeluTanh),
                    Activation::Relu => each(Activation::Relu),
                }
            }
            With::Backward { slopes, adds, sums } => {
                let mut sum = lanes.splat(0.0);
                for (row, x) in column {
                    let mut x = lanes.load(x);
                    if let Some(slopes) = slopes {
                        // SAFETY: as above.
                        x = unsafe { slopes.times(lanes, x, row, place.cols()) };
                    }
                    if let Some(to) = what.to.filter(|_| *adds) {
                        // SAFETY: as above.
                        let there = unsafe { to.take(lanes, place.at(row), place.count) };
                        x = lanes.add(x, there);
                    }
                    place.put(lanes, what.to, row, x);
                    sum = lanes.add(sum, x);
                }
                if let Some((lines, height)) = sums {
                    let line = rows.start / height * what.width + col;
                    // SAFETY: as above.
                    let line = unsafe { lines.slice(line, place.count) };
                    lanes.store(lanes.add(lanes.load(line), sum), line);
                }
            }
        }
    }
}

/// A vector's columns of an output.
struct Place {
    col: usize,
    count: usize,
    width: usize,
}

impl Place {
    #[inline(always)]
    fn cols(&self) -> Range<usize> {
        self.col..self.col + self.count
    }

    #[inline(always)]
    fn at(&self, row: usize) -> usize {
        row * self.width + self.col
    }

    #[inline(always)]
    fn put<L: Lanes>(&self, lanes: L, to: Option<Elements<'_>>, row: usize, x: L::Floats) {
        if let Some(to) = to {
            // SAFETY: what `finish` asks of its caller.
            unsafe { to.put(lanes, x, self.at(row), self.count) };
        }
    }
}
