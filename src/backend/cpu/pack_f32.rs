//! Panels of f32 for the kernels of f32 products: a cell is an element.

use super::panels::{Direction, Factors};
use super::transpose::transpose;
use super::weights::View;
use bytemuck::cast_slice_mut;
use std::ops::Range;

/// Packs columns `cols` of the right operand into panels of `width` columns, a multiple of sixteen, padded with zeros.
pub fn pack(factors: Factors<'_>, cols: Range<usize>, width: usize, panels: &mut [u32]) {
    match factors.direction {
        Direction::Forward => turned(factors, cols, width, panels),
        Direction::Backward => straight(factors, cols, width, panels),
    }
}

fn widen(weight: View<'_>, row: usize, width: usize, cols: Range<usize>, out: &mut [u32]) {
    weight.widen(row, width, cols, cast_slice_mut(out));
}

/// From rows of a matrix `[outputs, inputs]`: panels for `x·Wᵀ`.
fn turned(factors: Factors<'_>, cols: Range<usize>, width: usize, panels: &mut [u32]) {
    const AT_ONCE: usize = 256;
    let Factors { weight, depth, .. } = factors;
    let mut block = [0; 16 * AT_ONCE];
    for (p, panel) in panels.chunks_exact_mut((width * depth).max(1)).enumerate() {
        for sixteen in (0..width).step_by(16) {
            let first = cols.start + p * width + sixteen;
            for from in (0..depth).step_by(AT_ONCE) {
                let here = from..depth.min(from + AT_ONCE);
                for (row, line) in (first..).zip(block.chunks_exact_mut(AT_ONCE)) {
                    match row < cols.end {
                        true => widen(weight, row, depth, here.clone(), &mut line[..here.len()]),
                        false => line.fill(0),
                    }
                }
                for at in (0..here.len()).step_by(16) {
                    let to = &mut panel[(from + at) * width + sixteen..];
                    transpose(&block[at..], AT_ONCE, to, width, 16.min(here.len() - at));
                }
            }
        }
    }
}

/// From columns of a matrix `[depth, all columns]`: panels for `dy·W`.
fn straight(factors: Factors<'_>, cols: Range<usize>, width: usize, panels: &mut [u32]) {
    let Factors { weight, cols: all, depth, .. } = factors;
    // One row of the tile at a time, in whole panels.
    const MOST: usize = 256;
    let mut line = [0; MOST];
    let wide = cols.len().next_multiple_of(width);
    assert!(wide <= MOST);
    for row in 0..depth {
        widen(weight, row, all, cols.clone(), &mut line[..cols.len()]);
        let lines = line[..wide].chunks_exact(width);
        for (panel, line) in panels.chunks_exact_mut(width * depth).zip(lines) {
            panel[row * width..][..width].copy_from_slice(line);
        }
    }
}
