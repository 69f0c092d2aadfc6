//! Kernels for products of bf16 operands with f32 sums. A cell is a pair of neighbours along the depth; each sum adds
//! the product of the second, then that of the first, as `VDPBF16PS` does.

use super::bf16::narrow;
use super::elements::Source;
use super::pack_bf16::pack;
use super::panels::{CellRows, Factors, Kernel};
use super::simd::{dispatch, fma};
use bytemuck::{cast_slice, cast_slice_mut, try_cast_slice};
use half::bf16;
use std::ops::Range;

const ROWS: usize = 6;
const VECTORS: usize = 4;
const COLS: usize = 16 * VECTORS;

/// With AVX512-BF16: six rows of four vectors are 24 sums in flight.
#[cfg(target_arch = "x86_64")]
pub struct Bf16Avx512;

/// In f32 arithmetic, for every other processor. Bit-identical to [`Bf16Avx512`], except for sums below the smallest
/// normal number, which that flushes to zero.
pub struct Portable;

fn cells(depth: usize) -> usize {
    depth.div_ceil(2)
}

dispatch! {
    fn multiply(left: CellRows<'_>, rows: usize, panel: &[u32], out: &mut [f32], stride: usize) = multiply_body;
}

/// Rows that are bf16 and whole pairs are read in place.
fn left<'a>(
    left: Source<'a>,
    depth: usize,
    rows: Range<usize>,
    room: &'a mut [u32],
) -> CellRows<'a> {
    let cells = cells(depth);
    let of = rows.start * depth..rows.end * depth;
    if let Source::Bf16(x) = left
        && depth.is_multiple_of(2)
        && let Ok(cells) = try_cast_slice(&x[of.clone()])
    {
        return CellRows { cells, stride: depth / 2 };
    }
    let lines: &mut [bf16] = cast_slice_mut(room);
    for (row, line) in rows.clone().zip(lines.chunks_exact_mut(2 * cells.max(1))) {
        let of = row * depth..(row + 1) * depth;
        match left {
            Source::Bf16(x) => line[..depth].copy_from_slice(&x[of]),
            Source::F32(x) => narrow(&x[of], &mut line[..depth]),
        }
        line[depth..].fill(bf16::ZERO);
    }
    CellRows { cells: cast_slice(lines), stride: cells }
}

#[inline(always)]
fn multiply_body<const FMA: bool>(
    left: CellRows<'_>,
    rows: usize,
    panel: &[u32],
    out: &mut [f32],
    stride: usize,
) {
    let (panel, _) = cast_slice::<u32, [u16; 2]>(panel).as_chunks::<COLS>();
    let wide = |x: u16| f32::from_bits(u32::from(x) << 16);
    for row in 0..rows {
        let mut sums = [0.0f32; COLS];
        let pairs: &[[u16; 2]] = cast_slice(&left.cells[row * left.stride..][..panel.len()]);
        for (x, line) in pairs.iter().zip(panel) {
            let x = x.map(wide);
            for (sum, y) in sums.iter_mut().zip(line) {
                *sum = fma::<FMA>(x[0], wide(y[0]), fma::<FMA>(x[1], wide(y[1]), *sum));
            }
        }
        out[row * stride..][..COLS].copy_from_slice(&sums);
    }
}

/// What both kernels have in common.
macro_rules! kernel {
    ($name:ident, $multiply:path) => {
        impl Kernel for $name {
            type Left<'a> = Source<'a>;
            const ROWS: usize = ROWS;
            const COLS: usize = COLS;

            fn cells(depth: usize) -> usize {
                cells(depth)
            }

            fn pack(factors: Factors<'_>, cols: Range<usize>, panels: &mut [u32]) {
                pack(factors, cols, COLS, cast_slice_mut(panels));
            }

            fn left<'a, 'b: 'a>(
                x: Source<'b>,
                depth: usize,
                rows: Range<usize>,
                room: &'a mut [u32],
            ) -> CellRows<'a> {
                left(x, depth, rows, room)
            }

            fn multiply(
                left: CellRows<'_>,
                rows: usize,
                panel: &[u32],
                out: &mut [f32],
                stride: usize,
            ) {
                $multiply(left, rows, panel, out, stride);
            }
        }
    };
}

kernel!(Portable, multiply);
#[cfg(target_arch = "x86_64")]
kernel!(Bf16Avx512, avx512);

#[cfg(target_arch = "x86_64")]
fn avx512(left: CellRows<'_>, rows: usize, panel: &[u32], out: &mut [f32], stride: usize) {
    let cells = panel.len() / COLS;
    assert!((1..=ROWS).contains(&rows) && left.cells.len() >= (rows - 1) * left.stride + cells);
    assert!(out.len() >= (rows - 1) * stride + COLS);
    let (left, of, out) = (left.cells.as_ptr(), left.stride, out.as_mut_ptr());
    // SAFETY: this kernel is chosen only with AVX512-BF16; all three were checked to hold the tile.
    unsafe {
        match rows {
            1 => tile::<1>(left, of, panel, out, stride),
            2 => tile::<2>(left, of, panel, out, stride),
            3 => tile::<3>(left, of, panel, out, stride),
            4 => tile::<4>(left, of, panel, out, stride),
            5 => tile::<5>(left, of, panel, out, stride),
            _ => tile::<6>(left, of, panel, out, stride),
        }
    }
}

/// `R` rows of one panel.
///
/// # Safety
/// `left` holds `R` rows as deep as the panel, `of` apart, and `out` as many of a panel's columns, `stride` apart.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn tile<const R: usize>(
    left: *const u32,
    of: usize,
    panel: &[u32],
    out: *mut f32,
    stride: usize,
) {
    use std::arch::x86_64::{
        __m512bh, __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_dpbf16_ps, _mm512_loadu_si512,
        _mm512_set1_epi32, _mm512_setzero_ps, _mm512_storeu_ps,
    };
    // SAFETY: both are plain bits.
    let pairs = |x: __m512i| unsafe { std::mem::transmute::<__m512i, __m512bh>(x) };
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; R];
    let mut columns = panel.as_ptr();
    for cell in 0..panel.len() / COLS {
        // SAFETY: the panel has a row of these vectors for each cell; a prefetch may name any address.
        let row = unsafe {
            for v in 0..VECTORS {
                _mm_prefetch::<_MM_HINT_T0>(columns.wrapping_add(16 * (8 * VECTORS + v)).cast());
            }
            let row: [_; VECTORS] =
                std::array::from_fn(|v| pairs(_mm512_loadu_si512(columns.add(16 * v).cast())));
            columns = columns.add(COLS);
            row
        };
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let x = pairs(_mm512_set1_epi32(unsafe { *left.add(r * of + cell) } as i32));
            for v in 0..VECTORS {
                sums[v] = _mm512_dpbf16_ps(sums[v], x, row[v]);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        for (v, sum) in sums.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { _mm512_storeu_ps(out.add(r * stride + 16 * v), *sum) };
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::backend::cpu::simd::{Level, level};
    use crate::rng::{Purpose, Stream};

    #[test]
    fn the_processors_sums_have_the_bits_of_the_portable_ones() {
        if level() < Level::Avx512Bf16 {
            eprintln!("skipped: this processor has no bf16 dot products");
            return;
        }
        let mut numbers = Stream::new(3, Purpose::HeadInit, 0);
        let mut pairs = |count: usize| -> Vec<u32> {
            let values: Vec<f32> = (0..2 * count)
                .map(|i| numbers.normal() * f32::powi(2.0, i as i32 % 40 - 20))
                .collect();
            let mut cells = vec![0; count];
            narrow(&values, cast_slice_mut(&mut cells));
            cells
        };
        for depth in [1, 2, 37, 192] {
            let (left, panel) = (pairs(ROWS * depth), pairs(COLS * depth));
            let left = CellRows { cells: &left, stride: depth };
            for rows in 1..=ROWS {
                let (mut got, mut want) = (vec![7.0; ROWS * COLS], vec![7.0; ROWS * COLS]);
                Bf16Avx512::multiply(left, rows, &panel, &mut got, COLS);
                Portable::multiply(left, rows, &panel, &mut want, COLS);
                let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert!(bits(&got) == bits(&want), "{rows} rows, {depth} pairs deep");
            }
        }
    }
}
