//! Attention of each sequence's first token over its whole sequence. One task is one head of one sequence.

use super::attention::{dot, probabilities, softmax, softmax_backward};
use super::elements::{Elements, Source};
use super::heads::{Heads, SequenceSums};
use super::pointwise;
use super::share::Shared;
use super::simd::{LANES, dispatch, fma, lane_sum};
use super::workers::Workers;

/// Scratch elements that one task needs for a sequence of `len` tokens.
pub fn scratch_for(len: usize, head_dim: usize) -> usize {
    3 * len.next_multiple_of(LANES) + 4 * head_dim
}

dispatch! {
    /// `out += x·factor`.
    fn add_scaled(out: &mut [f32], x: &[f32], factor: f32) = add_scaled_body;
    /// `out = x·factor`.
    fn scaled(out: &mut [f32], x: &[f32], factor: f32) = scaled_body;
}

#[inline(always)]
fn add_scaled_body<const FMA: bool>(out: &mut [f32], x: &[f32], factor: f32) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = fma::<FMA>(*x, factor, *out);
    }
}

#[inline(always)]
fn scaled_body<const FMA: bool>(out: &mut [f32], x: &[f32], factor: f32) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = x * factor;
    }
}

/// `out [sequences, hidden] = dropout(softmax(q·kᵀ·scale))·v`; `lse` `[sequences, heads]` may be empty.
pub fn forward(
    shape: Heads<'_>,
    query: Source<'_>,
    key_value: Source<'_>,
    out: Elements<'_>,
    lse: &mut [f32],
    workers: &Workers,
) {
    let (hidden, dim) = (shape.hidden(), shape.head_dim);
    let keep = !lse.is_empty();
    let lse = Shared::new(lse);
    shape.tasks(
        workers,
        |len| scratch_for(len, dim),
        |at, buffer| {
            let wide = at.len.next_multiple_of(LANES);
            let place = at.sequence * hidden + at.head * dim;
            let line = at.sequence * shape.heads + at.head;
            let row = |j: usize| (at.first + j) * 2 * hidden + at.head * dim;
            let (scores, room) = buffer.split_at_mut(wide);
            let (query_room, room) = room.split_at_mut(dim);
            let (room, sum) = room[..2 * dim].split_at_mut(dim);
            let q = query.get(place..place + dim, query_room);
            for (j, score) in scores.iter_mut().take(at.len).enumerate() {
                let key = key_value.get(row(j)..row(j) + dim, room);
                *score = dot(q, key) * shape.scale();
            }
            let mut log_sum = [0.0];
            softmax(scores, wide, at.len, &mut log_sum);
            if keep {
                // SAFETY: this element belongs only to this head of this sequence.
                let saved = unsafe { lse.slice(line, 1) };
                saved[0] = log_sum[0];
            }
            if let Some(mask) = shape.mask {
                mask.apply(line as u32, &mut scores[..at.len]);
            }
            sum.fill(0.0);
            for (j, p) in scores.iter().take(at.len).enumerate() {
                let value = row(j) + hidden;
                add_scaled(sum, key_value.get(value..value + dim, room), *p);
            }
            // SAFETY: these columns of this row belong only to this task.
            unsafe { out.write(place, sum) };
        },
    );
}

/// What [`backward`] reads.
#[derive(Clone, Copy)]
pub struct SavedFirst<'a> {
    pub query: Source<'a>,
    pub key_value: Source<'a>,
    pub lse: &'a [f32],
}

/// Where [`backward`] writes its gradients.
#[derive(Clone, Copy)]
pub struct FirstGradients<'a> {
    /// `[sequences, hidden]`, overwritten.
    pub d_query: Elements<'a>,
    /// `[tokens, 2·hidden]`, overwritten.
    pub d_key_value: Elements<'a>,
    pub query: SequenceSums<'a>,
    pub value: SequenceSums<'a>,
}

/// Backward of [`forward`].
pub fn backward(
    shape: Heads<'_>,
    saved: SavedFirst<'_>,
    dout: Source<'_>,
    gradients: FirstGradients<'_>,
    workers: &Workers,
) {
    let (hidden, dim) = (shape.hidden(), shape.head_dim);
    shape.tasks(
        workers,
        |len| scratch_for(len, dim),
        |at, buffer| {
            let wide = at.len.next_multiple_of(LANES);
            let place = at.sequence * hidden + at.head * dim;
            let line = at.sequence * shape.heads + at.head;
            let row = |j: usize| (at.first + j) * 2 * hidden + at.head * dim;
            let (p, rest) = buffer.split_at_mut(wide);
            let (ds, rest) = rest.split_at_mut(wide);
            let (mask_row, rest) = rest.split_at_mut(wide);
            let (query_room, rest) = rest.split_at_mut(dim);
            let (dout_room, rest) = rest.split_at_mut(dim);
            let (room, dq) = rest[..2 * dim].split_at_mut(dim);
            let q = saved.query.get(place..place + dim, query_room);
            let dout = dout.get(place..place + dim, dout_room);
            let (p, ds) = (&mut p[..at.len], &mut ds[..at.len]);
            for j in 0..at.len {
                let (key, value) = (row(j), row(j) + hidden);
                p[j] = dot(q, saved.key_value.get(key..key + dim, room)) * shape.scale();
                ds[j] = dot(dout, saved.key_value.get(value..value + dim, room));
            }
            probabilities(p, saved.lse[line]);
            let mask_row = &mut mask_row[..at.len];
            if let Some(mask) = shape.mask {
                mask_row.fill(1.0);
                mask.apply(line as u32, mask_row);
                pointwise::multiply(ds, mask_row);
            }
            // Divided by the sum of p, which rounding leaves slightly off 1: a single key's gradient is then exactly
            // zero.
            let along = dot(p, ds) / lane_sum(p, |p| p);
            softmax_backward(ds, p, along, shape.scale());
            if shape.mask.is_some() {
                pointwise::multiply(p, mask_row);
            }
            dq.fill(0.0);
            for j in 0..at.len {
                add_scaled(dq, saved.key_value.get(row(j)..row(j) + dim, room), ds[j]);
                // SAFETY: these columns of these rows belong only to this task.
                unsafe {
                    scaled(room, q, ds[j]);
                    gradients.d_key_value.write(row(j), room);
                    scaled(room, dout, p[j]);
                    gradients.value.add(shape, at, room);
                    gradients.d_key_value.write(row(j) + hidden, room);
                }
            }
            // SAFETY: as above.
            unsafe {
                gradients.query.add(shape, at, dq);
                gradients.d_query.write(place, dq);
            }
        },
    );
}
