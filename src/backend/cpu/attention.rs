//! Self-attention within each sequence. One task is one head of one sequence.
//!
//! Scores exist for only [`QUERIES`] queries at a time, so temporary memory is linear in the sequence's length. The
//! backward pass recomputes the probabilities from q, k and the saved log-sum-exp.

use super::block::{Strided, product};
use super::heads::{Head, Heads};
use super::share::Shared;
use super::simd::{LANES, dispatch, fma, lane_sum, lane_sum2};
use super::workers::Workers;
use super::{math, pointwise};

/// Queries whose scores are held at once: a multiple of the block product's six rows.
const QUERIES: usize = 48;

/// Scratch elements that one task needs for a sequence of `len` tokens.
pub fn scratch_for(len: usize, head_dim: usize) -> usize {
    let (wide, dim) = (len.next_multiple_of(LANES), head_dim.next_multiple_of(LANES));
    // kᵀ and vᵀ; padded q, k, v and dO, if the head's width is not whole vectors; dK and dV; scores and their gradient,
    // and their mask; a block of output rows.
    2 * head_dim * wide + 6 * len * dim + QUERIES * (3 * wide + dim)
}

/// Cuts pieces off a scratch buffer.
pub(super) struct Pieces<'a>(pub(super) &'a mut [f32]);

impl<'a> Pieces<'a> {
    pub(super) fn take(&mut self, count: usize) -> &'a mut [f32] {
        let (piece, rest) = std::mem::take(&mut self.0).split_at_mut(count);
        self.0 = rest;
        piece
    }
}

/// Rows of one head inside a packed tensor, or a copy of them padded to whole vectors.
#[derive(Clone, Copy)]
struct HeadRows<'a> {
    elements: &'a [f32],
    stride: usize,
}

impl<'a> HeadRows<'a> {
    /// `len` rows of `dim` columns from `start` on; copied into `room` only if `dim` is not a whole number of vectors.
    fn new(
        x: &'a [f32],
        start: usize,
        stride: usize,
        len: usize,
        dim: usize,
        room: &mut Pieces<'a>,
    ) -> Self {
        let x = &x[start..];
        if dim.is_multiple_of(LANES) {
            return Self { elements: x, stride };
        }
        let wide = dim.next_multiple_of(LANES);
        let copy = room.take(len * wide);
        copy.fill(0.0);
        for (row, out) in copy.chunks_exact_mut(wide).enumerate() {
            out[..dim].copy_from_slice(&x[row * stride..][..dim]);
        }
        Self { elements: copy, stride: wide }
    }

    fn strided(&self, row: usize) -> Strided<'a> {
        Strided { elements: &self.elements[row * self.stride..], rows: self.stride, cols: 1 }
    }

    fn row(&self, row: usize, dim: usize) -> &'a [f32] {
        &self.elements[row * self.stride..][..dim]
    }
}

/// `out [dim, wide] = (scale · rows)ᵀ`, padded with zeros.
fn transpose(rows: HeadRows<'_>, len: usize, dim: usize, wide: usize, scale: f32, out: &mut [f32]) {
    // Sixteen rows at a time: the strided side is the one being read, and these rows' cache lines stay.
    for from in (0..len).step_by(LANES) {
        let count = LANES.min(len - from);
        let block: [&[f32]; LANES] =
            std::array::from_fn(|r| rows.row(from + r.min(count - 1), dim));
        for (col, line) in out.chunks_exact_mut(wide).enumerate().take(dim) {
            let line = &mut line[from..from + LANES];
            for (r, x) in line.iter_mut().enumerate() {
                *x = if r < count { block[r][col] * scale } else { 0.0 };
            }
        }
    }
}

dispatch! {
    /// Turns rows of scores, `wide` apart and `len` long, into probabilities; `lse` gets the log of each row's sum of
    /// exponentials.
    pub fn softmax(scores: &mut [f32], wide: usize, len: usize, lse: &mut [f32]) = softmax_body;
    /// `row = exp(row - lse)`.
    pub fn probabilities(row: &mut [f32], lse: f32) = probabilities_body;
    /// Back through the softmax and the scale: `d = p·(d - along)·scale`.
    pub fn softmax_backward(d: &mut [f32], p: &[f32], along: f32, scale: f32) = softmax_backward_body;
    pub fn dot(a: &[f32], b: &[f32]) -> f32 = dot_body;
}

#[inline(always)]
fn softmax_body<const FMA: bool>(scores: &mut [f32], wide: usize, len: usize, lse: &mut [f32]) {
    for (row, lse) in scores.chunks_exact_mut(wide).zip(lse) {
        // Only whole vectors: the padding of a row has no weight.
        row[len..].fill(f32::NEG_INFINITY);
        let mut most = [f32::NEG_INFINITY; LANES];
        let (vectors, _) = row.as_chunks_mut::<LANES>();
        for x in &*vectors {
            for l in 0..LANES {
                most[l] = if x[l] > most[l] { x[l] } else { most[l] };
            }
        }
        let mut width = LANES / 2;
        while width > 0 {
            for l in 0..width {
                most[l] = if most[l + width] > most[l] { most[l + width] } else { most[l] };
            }
            width /= 2;
        }
        for x in &mut *vectors {
            for x in x {
                *x = math::exp::<FMA>(*x - most[0]);
            }
        }
        let sum = lane_sum(row, |x| x);
        let inverse = 1.0 / sum;
        for x in row {
            *x *= inverse;
        }
        *lse = most[0] + sum.ln();
    }
}

#[inline(always)]
fn probabilities_body<const FMA: bool>(row: &mut [f32], lse: f32) {
    for x in row {
        *x = math::exp::<FMA>(*x - lse);
    }
}

#[inline(always)]
fn softmax_backward_body<const FMA: bool>(d: &mut [f32], p: &[f32], along: f32, scale: f32) {
    for (d, p) in d.iter_mut().zip(p) {
        *d = p * (*d - along) * scale;
    }
}

#[inline(always)]
fn dot_body<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    lane_sum2(a, b, |a, b| fma::<FMA>(a, b, 0.0))
}

/// `out = dropout(softmax(q·kᵀ·scale))·v`; `lse` `[heads, tokens]` may be empty.
pub fn forward(shape: Heads<'_>, qkv: &[f32], out: &mut [f32], lse: &mut [f32], workers: &Workers) {
    let (hidden, dim) = (shape.hidden(), shape.head_dim);
    let keep = !lse.is_empty();
    let (out, lse) = (Shared::new(out), Shared::new(lse));
    shape.tasks(
        workers,
        |len| scratch_for(len, dim),
        |at, buffer| {
            let mut room = Pieces(buffer);
            let (len, wide, wide_dim) =
                (at.len, at.len.next_multiple_of(LANES), dim.next_multiple_of(LANES));
            let start = at.first * 3 * hidden + at.head * dim;
            let k_transposed = room.take(dim * wide);
            let scores = room.take(QUERIES * wide);
            let output = room.take(QUERIES * wide_dim);
            let q = HeadRows { elements: &qkv[start..], stride: 3 * hidden };
            let k = HeadRows { elements: &qkv[start + hidden..], stride: 3 * hidden };
            let v = HeadRows::new(qkv, start + 2 * hidden, 3 * hidden, len, dim, &mut room);
            transpose(k, len, dim, wide, shape.scale(), k_transposed);
            for from in (0..len).step_by(QUERIES) {
                let queries = QUERIES.min(len - from);
                product(
                    scores,
                    wide,
                    q.strided(from),
                    k_transposed,
                    wide,
                    (queries, len, dim),
                    false,
                );
                let mut log_sums = [0.0; QUERIES];
                softmax(&mut scores[..queries * wide], wide, len, &mut log_sums);
                if keep {
                    // SAFETY: these elements belong only to this head of these tokens.
                    unsafe { lse.slice(shape.statistics(at) + from, queries) }
                        .copy_from_slice(&log_sums[..queries]);
                }
                if let Some(mask) = shape.mask {
                    let scores = &mut scores[..queries * wide];
                    mask.apply_rows(shape.mask_rows(at, from), wide, scores);
                }
                let p = Strided { elements: scores, rows: wide, cols: 1 };
                product(output, wide_dim, p, v.elements, v.stride, (queries, dim, len), false);
                for i in 0..queries {
                    let place = (at.first + from + i) * hidden + at.head * dim;
                    // SAFETY: these columns of this row belong only to this task.
                    unsafe { out.slice(place, dim) }
                        .copy_from_slice(&output[i * wide_dim..][..dim]);
                }
            }
        },
    );
}

/// What [`backward`] reads.
#[derive(Clone, Copy)]
pub struct SavedAttention<'a> {
    pub qkv: &'a [f32],
    pub out: &'a [f32],
    pub lse: &'a [f32],
}

/// Backward of [`forward`]: `dqkv` `[tokens, 3·hidden]` is overwritten.
pub fn backward(
    shape: Heads<'_>,
    saved: SavedAttention<'_>,
    dout: &[f32],
    dqkv: &mut [f32],
    workers: &Workers,
) {
    let dqkv = Shared::new(dqkv);
    shape.tasks(
        workers,
        |len| scratch_for(len, shape.head_dim),
        |at, buffer| {
            backward_head(shape, at, saved, dout, &dqkv, Pieces(buffer));
        },
    );
}

fn backward_head<'a>(
    shape: Heads<'_>,
    at: Head,
    saved: SavedAttention<'a>,
    dout: &'a [f32],
    dqkv: &Shared<'_>,
    mut room: Pieces<'a>,
) {
    let (hidden, dim, len) = (shape.hidden(), shape.head_dim, at.len);
    let (wide, wide_dim) = (len.next_multiple_of(LANES), dim.next_multiple_of(LANES));
    let start = at.first * 3 * hidden + at.head * dim;
    let out_start = at.first * hidden + at.head * dim;
    let k_transposed = room.take(dim * wide);
    let v_transposed = room.take(dim * wide);
    let p = room.take(QUERIES * wide);
    let ds = room.take(QUERIES * wide);
    let dq = room.take(QUERIES * wide_dim);
    let dk = room.take(len * wide_dim);
    let dv = room.take(len * wide_dim);
    let masks = room.take(QUERIES * wide);
    let q = HeadRows::new(saved.qkv, start, 3 * hidden, len, dim, &mut room);
    let k = HeadRows::new(saved.qkv, start + hidden, 3 * hidden, len, dim, &mut room);
    let v = HeadRows { elements: &saved.qkv[start + 2 * hidden..], stride: 3 * hidden };
    let out = HeadRows { elements: &saved.out[out_start..], stride: hidden };
    let d_out = HeadRows::new(dout, out_start, hidden, len, dim, &mut room);
    transpose(k, len, dim, wide, shape.scale(), k_transposed);
    transpose(v, len, dim, wide, 1.0, v_transposed);
    // SAFETY (of the three uses): only one task writes its head's columns of its sequence's rows.
    let write = |part: usize, row: usize, values: &[f32]| {
        let place = (at.first + row) * 3 * hidden + part * hidden + at.head * dim;
        // SAFETY: as above; `part` is 0, 1 or 2 for q, k and v.
        unsafe { dqkv.slice(place, dim) }.copy_from_slice(&values[..dim]);
    };

    for from in (0..len).step_by(QUERIES) {
        let queries = QUERIES.min(len - from);
        product(p, wide, q.strided(from), k_transposed, wide, (queries, len, dim), false);
        product(ds, wide, d_out.strided(from), v_transposed, wide, (queries, len, dim), false);
        if let Some(mask) = shape.mask {
            let masks = &mut masks[..queries * wide];
            masks.fill(1.0);
            mask.apply_rows(shape.mask_rows(at, from), wide, masks);
            pointwise::multiply(&mut ds[..queries * wide], masks);
        }
        for i in 0..queries {
            // Whole vectors: the padding of a row is computed but never read.
            let (p, ds) = (&mut p[i * wide..][..wide], &mut ds[i * wide..][..wide]);
            probabilities(p, saved.lse[shape.statistics(at) + from + i]);
            // Σ_j p·dp equals dO·O, even with dropout, and dO·O is cheaper.
            let along = dot(d_out.row(from + i, dim), out.row(from + i, dim));
            softmax_backward(ds, p, along, shape.scale());
        }
        if shape.mask.is_some() {
            pointwise::multiply(&mut p[..queries * wide], &masks[..queries * wide]);
        }
        let plain = |elements| Strided { elements, rows: wide, cols: 1 };
        let transposed = |elements| Strided { elements, rows: 1, cols: wide };
        let shape = (queries, dim, len);
        product(dq, wide_dim, plain(ds), k.elements, k.stride, shape, false);
        let shape = (len, dim, queries);
        let later = from > 0;
        let (q, d_out) = (q.strided(from), d_out.strided(from));
        product(dk, wide_dim, transposed(ds), q.elements, q.rows, shape, later);
        product(dv, wide_dim, transposed(p), d_out.elements, d_out.rows, shape, later);
        for i in 0..queries {
            write(0, from + i, &dq[i * wide_dim..]);
        }
    }
    for row in 0..len {
        write(1, row, &dk[row * wide_dim..]);
        write(2, row, &dv[row * wide_dim..]);
    }
}
