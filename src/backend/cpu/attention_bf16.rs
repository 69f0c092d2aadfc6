//! Self-attention in bf16 with f32 sums: q, k, v and the results are read and written as bf16, and so are probabilities
//! and their gradients when used in products.
//!
//! Scores exist for only [`QUERIES`] queries at a time, as in [`attention`](super::attention). Products over keys read
//! k and v transposed; products over queries read pairs of neighbouring rows. Probabilities and their gradients are
//! therefore also stored as pairs of rows as soon as they are known.

use super::attention::Pieces;
use super::heads::{Head, Heads, SequenceSums};
use super::lanes::{LANES, Lanes, on_lanes};
use super::pairs::{Left, pack_pairs, pack_turned, product};
use super::share::Shared;
use super::workers::Workers;
use bytemuck::cast_slice_mut;
use half::bf16;
use std::f32::consts::{LN_2, LOG2_E};

/// Queries whose scores are held at once; even.
const QUERIES: usize = 64;

/// Scratch elements that one task needs for a sequence of `len` tokens.
pub fn scratch_for(len: usize, head_dim: usize) -> usize {
    let (wide, dim) = (len.next_multiple_of(LANES), head_dim.next_multiple_of(LANES));
    let pairs = head_dim.div_ceil(2);
    // kᵀ, vᵀ; pairs of rows of k or v, q and dO; copies of q, k, v and dO if a head's width is odd; dQ; dK and dV;
    // scores and their gradient; the same rounded, as rows and as pairs of rows; their mask.
    2 * pairs * wide
        + wide / 2 * dim
        + QUERIES * dim
        + 4 * len * pairs
        + QUERIES * dim
        + 2 * len * dim
        + 2 * QUERIES * wide
        + 2 * QUERIES * wide
        + QUERIES * wide
}

impl<'a> Pieces<'a> {
    fn pairs(&mut self, count: usize) -> &'a mut [[bf16; 2]] {
        cast_slice_mut(self.take(count))
    }
}

/// Rows of one head.
#[derive(Clone, Copy)]
struct Bf16Rows<'a> {
    elements: &'a [bf16],
    stride: usize,
}

impl<'a> Bf16Rows<'a> {
    /// `len` rows of `dim` columns in a packed tensor; if `dim` is odd, a copy padded with one zero per row.
    fn new(
        x: &'a [bf16],
        (start, stride): (usize, usize),
        (len, dim): (usize, usize),
        room: &mut Pieces<'a>,
    ) -> Self {
        if dim.is_multiple_of(2) {
            return Self { elements: &x[start..], stride };
        }
        let copy: &mut [bf16] = cast_slice_mut(room.take(len * dim.div_ceil(2)));
        for (row, out) in copy.chunks_exact_mut(dim + 1).enumerate() {
            out[..dim].copy_from_slice(&x[start + row * stride..][..dim]);
            out[dim] = bf16::ZERO;
        }
        Self { elements: copy, stride: dim + 1 }
    }

    /// Those of q, k and v for a head.
    fn of_qkv(qkv: &'a [bf16], shape: Heads<'_>, at: Head, room: &mut Pieces<'a>) -> [Self; 3] {
        let (hidden, dim) = (shape.hidden(), shape.head_dim);
        let start = at.first * 3 * hidden + at.head * dim;
        [0, 1, 2]
            .map(|part| Self::new(qkv, (start + part * hidden, 3 * hidden), (at.len, dim), room))
    }

    fn from(&self, row: usize) -> (&'a [bf16], usize) {
        (&self.elements[row * self.stride..], self.stride)
    }

    fn left(&self, row: usize) -> Left<'a> {
        Left { elements: &self.elements[row * self.stride..], row: self.stride, pair: 2 }
    }
}

/// Rounded rows of `wide` columns as a left operand.
fn rows_of(pairs: &[[bf16; 2]], wide: usize) -> Left<'_> {
    Left { elements: bytemuck::cast_slice(pairs), row: wide, pair: 2 }
}

/// Pairs of such rows as a left operand whose rows are their columns.
fn columns_of(pairs: &[[bf16; 2]], wide: usize) -> Left<'_> {
    Left { elements: bytemuck::cast_slice(pairs), row: 2, pair: 2 * wide }
}

/// What [`forward`] reads and writes.
#[derive(Clone, Copy)]
pub struct Forward<'a> {
    pub qkv: &'a [bf16],
    pub out: Shared<'a, bf16>,
    /// `[heads, tokens]`, or nothing.
    pub lse: Option<Shared<'a>>,
}

on_lanes! {
    fn forward_head(shape: Heads<'_>, at: Head, tensors: Forward<'_>, buffer: &mut [f32]) = forward_body;
    fn backward_head(shape: Heads<'_>, at: Head, saved: Saved<'_>, gradients: Gradients<'_>, buffer: &mut [f32]) = backward_body;
}

/// `out = dropout(softmax(q·kᵀ·scale))·v`
pub fn forward(shape: Heads<'_>, tensors: Forward<'_>, workers: &Workers) {
    shape.tasks(
        workers,
        |len| scratch_for(len, shape.head_dim),
        |at, buffer| {
            forward_head(shape, at, tensors, buffer);
        },
    );
}

/// The part of the scores' factor that turns the exponential into a power of 2.
fn factor(shape: Heads<'_>) -> f32 {
    shape.scale() * LOG2_E
}

#[inline(always)]
fn forward_body<L: Lanes>(
    lanes: L,
    shape: Heads<'_>,
    at: Head,
    tensors: Forward<'_>,
    buffer: &mut [f32],
) {
    let (hidden, dim, len) = (shape.hidden(), shape.head_dim, at.len);
    let (wide, wide_dim) = (len.next_multiple_of(LANES), dim.next_multiple_of(LANES));
    let pairs = dim.div_ceil(2);
    let mut room = Pieces(buffer);
    let [q, k, v] = Bf16Rows::of_qkv(tensors.qkv, shape, at, &mut room);
    let k_turned = room.pairs(pairs * wide);
    let v_pairs = room.pairs(wide / 2 * wide_dim);
    let scores = room.take(QUERIES * wide);
    let p = room.pairs(QUERIES * wide / 2);
    let output = room.take(QUERIES * wide_dim);
    pack_turned(lanes, k.from(0), (len, dim), wide, k_turned);
    pack_pairs(lanes, v.from(0), (len, dim), wide_dim, v_pairs);
    let factor = factor(shape);
    for from in (0..len).step_by(QUERIES) {
        let queries = QUERIES.min(len - from);
        let of_scores = (queries, wide, pairs);
        product(q.left(from), k_turned, scores, wide, of_scores, false);
        let mut inverse = [0.0; QUERIES];
        for i in 0..queries {
            let row = &mut scores[i * wide..][..wide];
            let most = most(lanes, row, len) * factor;
            let rounded: &mut [bf16] = cast_slice_mut(&mut p[i * wide / 2..][..wide / 2]);
            let sum = exponentials(lanes, row, (factor, most), rounded);
            inverse[i] = 1.0 / sum;
            if let Some(lse) = tensors.lse {
                // SAFETY: this element belongs only to this head of this token.
                let lse = unsafe { lse.slice(shape.statistics(at) + from + i, 1) };
                lse[0] = most * LN_2 + sum.ln();
            }
        }
        let of_output = (queries, wide_dim, len.div_ceil(2));
        if let Some(mask) = shape.mask {
            let scores = &mut scores[..queries * wide];
            mask.apply_rows(shape.mask_rows(at, from), wide, scores);
            let rounded: &mut [bf16] = cast_slice_mut(&mut p[..queries * wide / 2]);
            for (x, out) in scores.chunks_exact(LANES).zip(rounded.chunks_exact_mut(LANES)) {
                lanes.store_halves(lanes.load(x), out);
            }
        }
        product(rows_of(p, wide), v_pairs, output, wide_dim, of_output, false);
        for (i, row) in output.chunks_exact(wide_dim).take(queries).enumerate() {
            let place = (at.first + from + i) * hidden + at.head * dim;
            // SAFETY: these columns of this row belong only to this task.
            let out = unsafe { tensors.out.slice(place, dim) };
            let inverse = lanes.splat(inverse[i]);
            for (x, out) in row.chunks_exact(LANES).zip(out.chunks_mut(LANES)) {
                lanes.store_halves(lanes.mul(lanes.load(x), inverse), out);
            }
        }
    }
}

/// The maximum of a row's first `len`; sets the others to -∞.
#[inline(always)]
fn most<L: Lanes>(lanes: L, row: &mut [f32], len: usize) -> f32 {
    let none = lanes.splat(f32::NEG_INFINITY);
    let last = row.len() - LANES;
    let tail = lanes.first(len - last, lanes.load(&row[last..]), none);
    lanes.store(tail, &mut row[last..]);
    let mut most = tail;
    for x in row[..last].chunks_exact(LANES) {
        most = lanes.max(lanes.load(x), most);
    }
    lanes.most(most)
}

/// `row = 2^(row·factor - most)`, also in rounded form; returns its sum.
#[inline(always)]
fn exponentials<L: Lanes>(
    lanes: L,
    row: &mut [f32],
    (factor, most): (f32, f32),
    rounded: &mut [bf16],
) -> f32 {
    let (factor, below) = (lanes.splat(factor), lanes.splat(-most));
    let mut sum = lanes.splat(0.0);
    for (x, out) in row.chunks_exact_mut(LANES).zip(rounded.chunks_exact_mut(LANES)) {
        let e = lanes.exp2(lanes.fma(lanes.load(x), factor, below));
        sum = lanes.add(sum, e);
        lanes.store(e, x);
        lanes.store_halves(e, out);
    }
    lanes.sum(sum)
}

/// What [`backward`] reads.
#[derive(Clone, Copy)]
pub struct Saved<'a> {
    pub qkv: &'a [bf16],
    pub lse: &'a [f32],
    pub dout: &'a [bf16],
}

/// Where [`backward`] writes the gradients of queries, keys and values.
#[derive(Clone, Copy)]
pub struct Gradients<'a> {
    /// `[tokens, 3·hidden]`, overwritten.
    pub dqkv: Shared<'a, bf16>,
    pub query: SequenceSums<'a>,
    pub value: SequenceSums<'a>,
}

/// Backward of [`forward`].
pub fn backward(shape: Heads<'_>, saved: Saved<'_>, gradients: Gradients<'_>, workers: &Workers) {
    shape.tasks(
        workers,
        |len| scratch_for(len, shape.head_dim),
        |at, buffer| {
            backward_head(shape, at, saved, gradients, buffer);
        },
    );
}

#[inline(always)]
fn backward_body<L: Lanes>(
    lanes: L,
    shape: Heads<'_>,
    at: Head,
    saved: Saved<'_>,
    gradients: Gradients<'_>,
    buffer: &mut [f32],
) {
    let (hidden, dim, len) = (shape.hidden(), shape.head_dim, at.len);
    let (wide, wide_dim) = (len.next_multiple_of(LANES), dim.next_multiple_of(LANES));
    let pairs = dim.div_ceil(2);
    let mut room = Pieces(buffer);
    let [q, k, v] = Bf16Rows::of_qkv(saved.qkv, shape, at, &mut room);
    let out_place = (at.first * hidden + at.head * dim, hidden);
    let d_out = Bf16Rows::new(saved.dout, out_place, (len, dim), &mut room);
    let k_turned = room.pairs(pairs * wide);
    let v_turned = room.pairs(pairs * wide);
    let k_pairs = room.pairs(wide / 2 * wide_dim);
    let q_pairs = room.pairs(QUERIES / 2 * wide_dim);
    let d_out_pairs = room.pairs(QUERIES / 2 * wide_dim);
    let p = room.take(QUERIES * wide);
    let ds = room.take(QUERIES * wide);
    let ds_rows = room.pairs(QUERIES / 2 * wide);
    let p_pairs = room.pairs(QUERIES / 2 * wide);
    let ds_pairs = room.pairs(QUERIES / 2 * wide);
    let dq = room.take(QUERIES * wide_dim);
    let dk = room.take(len * wide_dim);
    let dv = room.take(len * wide_dim);
    let masks = room.take(QUERIES * wide);
    pack_turned(lanes, k.from(0), (len, dim), wide, k_turned);
    pack_turned(lanes, v.from(0), (len, dim), wide, v_turned);
    pack_pairs(lanes, k.from(0), (len, dim), wide_dim, k_pairs);
    let place =
        |part: usize, row: usize| (at.first + row) * 3 * hidden + part * hidden + at.head * dim;
    let factor = factor(shape);
    for from in (0..len).step_by(QUERIES) {
        let queries = QUERIES.min(len - from);
        let of_scores = (queries, wide, pairs);
        product(q.left(from), k_turned, p, wide, of_scores, false);
        product(d_out.left(from), v_turned, ds, wide, of_scores, false);
        let rounded: &mut [bf16] = cast_slice_mut(ds_rows);
        if let Some(mask) = shape.mask {
            let masks = &mut masks[..queries * wide];
            masks.fill(1.0);
            mask.apply_rows(shape.mask_rows(at, from), wide, masks);
            multiply(lanes, &mut ds[..queries * wide], masks);
        }
        for i in 0..queries {
            let (p, ds) = (&mut p[i * wide..][..wide], &mut ds[i * wide..][..wide]);
            let lse = saved.lse[shape.statistics(at) + from + i];
            probabilities(lanes, p, (factor, lse * LOG2_E), len);
            through_softmax(lanes, p, ds, shape.scale(), &mut rounded[i * wide..][..wide]);
        }
        if shape.mask.is_some() {
            multiply(lanes, &mut p[..queries * wide], &masks[..queries * wide]);
        }
        if queries % 2 == 1 {
            p[queries * wide..][..wide].fill(0.0);
            ds[queries * wide..][..wide].fill(0.0);
        }
        for (rows, out) in [(&*p, &mut *p_pairs), (&*ds, &mut *ds_pairs)] {
            for pair in 0..queries.div_ceil(2) {
                let (first, second) = rows[2 * pair * wide..][..2 * wide].split_at(wide);
                for col in (0..wide).step_by(LANES) {
                    let both = (lanes.load(&first[col..]), lanes.load(&second[col..]));
                    let both = lanes.round_together(both.0, both.1);
                    lanes.store_pairs(both, &mut out[pair * wide + col..][..LANES]);
                }
            }
        }
        pack_pairs(lanes, q.from(from), (queries, dim), wide_dim, q_pairs);
        pack_pairs(lanes, d_out.from(from), (queries, dim), wide_dim, d_out_pairs);
        let of_query = (queries, wide_dim, len.div_ceil(2));
        product(rows_of(ds_rows, wide), k_pairs, dq, wide_dim, of_query, false);
        let (of_key, later) = ((len, wide_dim, queries.div_ceil(2)), from > 0);
        let (ds, p) = (columns_of(ds_pairs, wide), columns_of(p_pairs, wide));
        product(ds, q_pairs, dk, wide_dim, of_key, later);
        product(p, d_out_pairs, dv, wide_dim, of_key, later);
        write(lanes, dq, (queries, dim), |i| place(0, from + i), gradients.dqkv);
        // SAFETY: only this task works on this head of this sequence.
        unsafe { gradients.query.add_rows(lanes, shape, at, dq, queries) };
    }
    write(lanes, dk, (len, dim), |i| place(1, i), gradients.dqkv);
    write(lanes, dv, (len, dim), |i| place(2, i), gradients.dqkv);
    // SAFETY: as above.
    unsafe { gradients.value.add_rows(lanes, shape, at, dv, len) };
}

/// `p = 2^(p·factor - lse)` for the first `len`; zeroes the others.
#[inline(always)]
fn probabilities<L: Lanes>(lanes: L, p: &mut [f32], (factor, lse): (f32, f32), len: usize) {
    let (factor, below) = (lanes.splat(factor), lanes.splat(-lse));
    for (i, x) in p.chunks_exact_mut(LANES).enumerate() {
        let e = lanes.exp2(lanes.fma(lanes.load(x), factor, below));
        lanes.store(lanes.first(len - i * LANES, e, lanes.splat(0.0)), x);
    }
}

/// `x *= factor`
#[inline(always)]
fn multiply<L: Lanes>(lanes: L, x: &mut [f32], factor: &[f32]) {
    for (x, factor) in x.chunks_exact_mut(LANES).zip(factor.chunks_exact(LANES)) {
        let product = lanes.mul(lanes.load(x), lanes.load(factor));
        lanes.store(product, x);
    }
}

/// `ds = p·(ds - Σ p·ds)·scale`, also in rounded form. A rounded output is not the sum of these p, so dO·O would not
/// do. Dividing by the sum of p, which rounding leaves slightly off 1, makes a single key's gradient exactly zero.
#[inline(always)]
fn through_softmax<L: Lanes>(
    lanes: L,
    p: &[f32],
    ds: &mut [f32],
    scale: f32,
    rounded: &mut [bf16],
) {
    let (mut along, mut all) = (lanes.splat(0.0), lanes.splat(0.0));
    for (p, ds) in p.chunks_exact(LANES).zip(ds.chunks_exact(LANES)) {
        let p = lanes.load(p);
        along = lanes.fma(p, lanes.load(ds), along);
        all = lanes.add(all, p);
    }
    let along = lanes.splat(lanes.sum(along) / lanes.sum(all));
    let scale = lanes.splat(scale);
    let rows = p.chunks_exact(LANES).zip(ds.chunks_exact_mut(LANES));
    for ((p, ds), rounded) in rows.zip(rounded.chunks_exact_mut(LANES)) {
        let beyond = lanes.sub(lanes.load(ds), along);
        let through = lanes.mul(lanes.mul(lanes.load(p), beyond), scale);
        lanes.store(through, ds);
        lanes.store_halves(through, rounded);
    }
}

/// Rounds rows of `dim` columns into their destination.
#[inline(always)]
fn write<L: Lanes>(
    lanes: L,
    rows: &[f32],
    (count, dim): (usize, usize),
    place: impl Fn(usize) -> usize,
    to: Shared<'_, bf16>,
) {
    let wide = dim.next_multiple_of(LANES);
    for (i, row) in rows.chunks_exact(wide).take(count).enumerate() {
        // SAFETY: only one task writes its head's columns of its sequence's rows.
        let out = unsafe { to.slice(place(i), dim) };
        for (x, out) in row.chunks_exact(LANES).zip(out.chunks_mut(LANES)) {
            lanes.store_halves(lanes.load(x), out);
        }
    }
}
