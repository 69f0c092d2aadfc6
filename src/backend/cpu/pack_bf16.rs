//! Panels of bf16 for the kernels of bf16 products: a cell is a pair of neighbours along the depth. Other storage types
//! are rounded on the way.

use super::lanes::{LANES, Lanes, on_lanes};
use super::panels::{Direction, Factors};
use super::weights::View;
use half::bf16;
use std::ops::Range;

on_lanes! {
    /// Packs columns `cols` of the right operand into panels of `width` columns, a multiple of sixteen, padded with
    /// zeros.
    pub fn pack(factors: Factors<'_>, cols: Range<usize>, width: usize, panels: &mut [[bf16; 2]]) = pack_body;
}

#[inline(always)]
fn pack_body<L: Lanes>(
    lanes: L,
    factors: Factors<'_>,
    cols: Range<usize>,
    width: usize,
    panels: &mut [[bf16; 2]],
) {
    match factors.direction {
        Direction::Forward => turned(lanes, factors, cols, width, panels),
        Direction::Backward => straight(lanes, factors, cols, width, panels),
    }
}

/// Up to sixteen elements of a row of a matrix of `width` columns, starting at an even one.
#[inline(always)]
fn load<L: Lanes>(
    lanes: L,
    weight: View<'_>,
    row: usize,
    width: usize,
    cols: Range<usize>,
) -> L::Floats {
    let here = row * width + cols.start..row * width + cols.end;
    match weight {
        View::F16(w) => lanes.load_f16(&w[here]),
        View::F32(w) => lanes.load(&w[here]),
        codes => {
            let mut room = [0.0; LANES];
            let room = &mut room[..cols.len()];
            codes.widen(row, width, cols, room);
            lanes.load(room)
        }
    }
}

/// How many rows ahead to prefetch: matrices come from main memory, in pieces too short for the hardware prefetcher.
const AHEAD: usize = 32;

/// Prefetches an element of a matrix of `width` columns; it need not exist.
#[inline(always)]
fn ask<L: Lanes>(lanes: L, weight: View<'_>, row: usize, width: usize, col: usize) {
    match weight {
        View::F16(w) => lanes.prefetch(w.as_ptr().wrapping_add(row * width + col).cast()),
        View::F32(w) => lanes.prefetch(w.as_ptr().wrapping_add(row * width + col).cast()),
        _ => {}
    }
}

/// From rows of a matrix `[outputs, inputs]`: panels for `x·Wᵀ`.
#[inline(always)]
fn turned<L: Lanes>(
    lanes: L,
    factors: Factors<'_>,
    cols: Range<usize>,
    width: usize,
    panels: &mut [[bf16; 2]],
) {
    let Factors { weight, depth, .. } = factors;
    let cells = depth.div_ceil(2);
    for (p, panel) in panels.chunks_exact_mut((width * cells).max(1)).enumerate() {
        for sixteen in (0..width).step_by(LANES) {
            let first = cols.start + p * width + sixteen;
            for cell in (0..cells).step_by(LANES) {
                let from = 2 * cell;
                let (middle, end) = ((from + LANES).min(depth), (from + 2 * LANES).min(depth));
                // A loop, since a closure would not get the vector instructions.
                let mut rows = [lanes.load_pairs(&[]); LANES];
                for (row, pairs) in (first..cols.end).zip(&mut rows) {
                    ask(lanes, weight, row + AHEAD, depth, from);
                    let low = load(lanes, weight, row, depth, from..middle);
                    let high = load(lanes, weight, row, depth, middle..end);
                    *pairs = lanes.round_in_order(low, high);
                }
                for (cell, turned) in (cell..cells).zip(lanes.turn(rows)) {
                    lanes.store_pairs(turned, &mut panel[cell * width + sixteen..][..LANES]);
                }
            }
        }
    }
}

/// From columns of a matrix `[depth, all columns]`: panels for `dy·W`.
#[inline(always)]
fn straight<L: Lanes>(
    lanes: L,
    factors: Factors<'_>,
    cols: Range<usize>,
    width: usize,
    panels: &mut [[bf16; 2]],
) {
    let Factors { weight, cols: all, depth, .. } = factors;
    let cells = depth.div_ceil(2);
    let wide = cols.len().next_multiple_of(width);
    for cell in 0..cells {
        for at in (0..wide).step_by(LANES) {
            let here = (cols.start + at).min(cols.end)..(cols.start + at + LANES).min(cols.end);
            let mut both = [lanes.splat(0.0); 2];
            if !here.is_empty() {
                for (row, x) in (2 * cell..depth).zip(&mut both) {
                    ask(lanes, weight, row + AHEAD, all, here.start);
                    *x = load(lanes, weight, row, all, here.clone());
                }
            }
            let both = lanes.round_together(both[0], both[1]);
            let (panel, col) = (at / width, at % width);
            let to = panel * width * cells + cell * width + col;
            lanes.store_pairs(both, &mut panels[to..][..LANES]);
        }
    }
}
