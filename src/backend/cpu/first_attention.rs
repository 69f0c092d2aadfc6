//! Attention of each sequence's first token over its whole sequence. One task is one head of one sequence.

use super::attention::{Heads, dot, probabilities, softmax, softmax_backward};
use super::pointwise;
use super::scratch::Scratch;
use super::share::Shared;
use super::simd::{LANES, dispatch, fma, lane_sum};

/// Scratch elements that one task needs for a sequence of `len` tokens.
pub fn scratch_for(len: usize) -> usize {
    3 * len.next_multiple_of(LANES)
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
    query: &[f32],
    key_value: &[f32],
    out: &mut [f32],
    lse: &mut [f32],
    scratch: &Scratch,
) {
    let (hidden, dim) = (shape.hidden(), shape.head_dim);
    let keep = !lse.is_empty();
    let (out, lse) = (Shared::new(out), Shared::new(lse));
    shape.tasks(|at| {
        scratch.with(scratch_for(at.len), |buffer| {
            let wide = at.len.next_multiple_of(LANES);
            let place = at.sequence * hidden + at.head * dim;
            let line = at.sequence * shape.heads + at.head;
            let q = &query[place..][..dim];
            let keys = |j: usize| &key_value[(at.first + j) * 2 * hidden + at.head * dim..];
            let scores = &mut buffer[..wide];
            for (j, score) in scores.iter_mut().take(at.len).enumerate() {
                *score = dot(q, &keys(j)[..dim]) * shape.scale();
            }
            let mut log_sum = [0.0];
            softmax(scores, wide, at.len, &mut log_sum);
            if keep {
                // SAFETY: this element belongs to this head of this sequence alone.
                let saved = unsafe { lse.slice(line, 1) };
                saved[0] = log_sum[0];
            }
            if let Some(mask) = shape.mask {
                mask.apply(line as u32, &mut scores[..at.len]);
            }
            // SAFETY: these columns of this row belong to this task alone.
            let out = unsafe { out.slice(place, dim) };
            out.fill(0.0);
            for (j, p) in scores.iter().take(at.len).enumerate() {
                add_scaled(out, &keys(j)[hidden..][..dim], *p);
            }
        });
    });
}

/// What [`backward`] reads.
#[derive(Clone, Copy)]
pub struct SavedFirst<'a> {
    pub query: &'a [f32],
    pub key_value: &'a [f32],
    pub lse: &'a [f32],
}

/// Backward of [`forward`]: `d_query` and `d_key_value` are overwritten.
pub fn backward(
    shape: Heads<'_>,
    saved: SavedFirst<'_>,
    dout: &[f32],
    d_query: &mut [f32],
    d_key_value: &mut [f32],
    scratch: &Scratch,
) {
    let (hidden, dim) = (shape.hidden(), shape.head_dim);
    let (d_query, d_key_value) = (Shared::new(d_query), Shared::new(d_key_value));
    shape.tasks(|at| {
        scratch.with(scratch_for(at.len), |buffer| {
            let wide = at.len.next_multiple_of(LANES);
            let place = at.sequence * hidden + at.head * dim;
            let line = at.sequence * shape.heads + at.head;
            let (q, dout) = (&saved.query[place..][..dim], &dout[place..][..dim]);
            let row = |j: usize| (at.first + j) * 2 * hidden + at.head * dim;
            let (p, rest) = buffer.split_at_mut(wide);
            let (ds, mask_row) = rest.split_at_mut(wide);
            let (p, ds) = (&mut p[..at.len], &mut ds[..at.len]);
            for j in 0..at.len {
                p[j] = dot(q, &saved.key_value[row(j)..][..dim]) * shape.scale();
                ds[j] = dot(dout, &saved.key_value[row(j) + hidden..][..dim]);
            }
            probabilities(p, saved.lse[line]);
            let mask_row = &mut mask_row[..at.len];
            if let Some(mask) = shape.mask {
                mask_row.fill(1.0);
                mask.apply(line as u32, mask_row);
                pointwise::multiply(ds, mask_row);
            }
            // Over the sum of p, which rounding leaves a little off 1: a lone key's gradient is then exactly zero.
            let along = dot(p, ds) / lane_sum(p, |p| p);
            softmax_backward(ds, p, along, shape.scale());
            if shape.mask.is_some() {
                pointwise::multiply(p, mask_row);
            }
            // SAFETY: these columns of this row belong to this task alone.
            let dq = unsafe { d_query.slice(place, dim) };
            dq.fill(0.0);
            for j in 0..at.len {
                add_scaled(dq, &saved.key_value[row(j)..][..dim], ds[j]);
                // SAFETY: as above; k's and v's columns do not overlap.
                let (dk, dv) = unsafe {
                    (d_key_value.slice(row(j), dim), d_key_value.slice(row(j) + hidden, dim))
                };
                scaled(dk, q, ds[j]);
                scaled(dv, dout, p[j]);
            }
        });
    });
}
