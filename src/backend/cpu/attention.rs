//! Self-attention within each sequence. One task is one head of one sequence.
//!
//! Scores exist for [`QUERIES`] queries at a time, so temporary memory is linear in the sequence's length. The
//! backward pass recomputes the probabilities from q, k and the saved log-sum-exp.

use super::block::{Strided, product};
use super::dropout::Mask;
use super::elements::{Elements, Source};
use super::scratch::Scratch;
use super::share::Shared;
use super::simd::{LANES, dispatch, fma, lane_sum, lane_sum2};
use super::{math, pointwise};
use rayon::prelude::*;

/// Queries whose scores are held at once: a multiple of the block product's six rows.
const QUERIES: usize = 48;

/// Shape of one attention call.
#[derive(Clone, Copy)]
pub struct Heads<'a> {
    pub cu_seqlens: &'a [u32],
    pub heads: usize,
    pub head_dim: usize,
    pub mask: Option<Mask>,
}

impl Heads<'_> {
    pub fn hidden(&self) -> usize {
        self.heads * self.head_dim
    }

    /// The place of a head's first token in a `[heads, tokens]` tensor.
    fn statistics(&self, at: Head) -> usize {
        let tokens = self.cu_seqlens[self.cu_seqlens.len() - 1] as usize;
        at.head * tokens + at.first
    }

    /// Softmax is taken of `q·kᵀ` times this.
    pub fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// Calls `work` for each head of each sequence.
    pub fn tasks(&self, work: impl Fn(Head) + Sync) {
        let sequences = self.cu_seqlens.len() - 1;
        (0..sequences * self.heads).into_par_iter().for_each(|task| {
            let (sequence, head) = (task / self.heads, task % self.heads);
            let first = self.cu_seqlens[sequence] as usize;
            let len = self.cu_seqlens[sequence + 1] as usize - first;
            work(Head { sequence, head, first, len });
        });
    }
}

/// One head of one sequence: tokens `first..first + len`.
#[derive(Clone, Copy)]
pub struct Head {
    pub sequence: usize,
    pub head: usize,
    pub first: usize,
    pub len: usize,
}

/// Scratch elements that one task needs for a sequence of `len` tokens.
pub fn scratch_for(len: usize, head_dim: usize) -> usize {
    let (wide, dim) = (len.next_multiple_of(LANES), head_dim.next_multiple_of(LANES));
    // kᵀ and vᵀ; copies of q, k, v and dO, where they must be widened or padded; dK and dV; scores and their
    // gradient; a block of output rows; a row for the mask.
    2 * head_dim * wide + 6 * len * dim + QUERIES * (2 * wide + dim) + wide
}

/// Cuts pieces off a scratch buffer.
struct Pieces<'a>(&'a mut [f32]);

impl<'a> Pieces<'a> {
    fn take(&mut self, count: usize) -> &'a mut [f32] {
        let (piece, rest) = std::mem::take(&mut self.0).split_at_mut(count);
        self.0 = rest;
        piece
    }
}

/// Rows of one head inside a packed tensor, or a copy of them in f32, padded to whole vectors.
#[derive(Clone, Copy)]
struct Rows<'a> {
    elements: &'a [f32],
    stride: usize,
}

impl<'a> Rows<'a> {
    /// `len` rows of `dim` columns that begin at `start`; copied into `room` where they are not f32.
    fn new(
        x: Source<'a>,
        (start, stride): (usize, usize),
        len: usize,
        dim: usize,
        room: &mut Pieces<'a>,
    ) -> Self {
        match x {
            Source::F32(x) => Self { elements: &x[start..], stride },
            Source::Bf16(_) => Self::copied(x, (start, stride), len, dim, room),
        }
    }

    /// The same in whole vectors: copied also where `dim` is none.
    fn whole(
        x: Source<'a>,
        place: (usize, usize),
        len: usize,
        dim: usize,
        room: &mut Pieces<'a>,
    ) -> Self {
        match dim.is_multiple_of(LANES) {
            true => Self::new(x, place, len, dim, room),
            false => Self::copied(x, place, len, dim, room),
        }
    }

    fn copied(
        x: Source<'a>,
        (start, stride): (usize, usize),
        len: usize,
        dim: usize,
        room: &mut Pieces<'a>,
    ) -> Self {
        let wide = dim.next_multiple_of(LANES);
        let copy = room.take(len * wide);
        for (row, out) in copy.chunks_exact_mut(wide).enumerate() {
            x.copy(start + row * stride, &mut out[..dim]);
            out[dim..].fill(0.0);
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
fn transpose(rows: Rows<'_>, len: usize, dim: usize, wide: usize, scale: f32, out: &mut [f32]) {
    // Sixteen rows at a time: the strided side is the reading one, and these rows' cache lines stay.
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
    /// Turns rows of scores, `wide` apart and `len` long, into probabilities; `lse` gets the log of each row's
    /// sum of exponentials.
    pub fn softmax(scores: &mut [f32], wide: usize, len: usize, lse: &mut [f32]) = softmax_body;
    /// `row = exp(row - lse)`.
    pub fn probabilities(row: &mut [f32], lse: f32) = probabilities_body;
    /// Through the softmax and the scale: `d = p·(d - along)·scale`.
    pub fn softmax_backward(d: &mut [f32], p: &[f32], along: f32, scale: f32) = softmax_backward_body;
    pub fn dot(a: &[f32], b: &[f32]) -> f32 = dot_body;
}

#[inline(always)]
fn softmax_body<const FMA: bool>(scores: &mut [f32], wide: usize, len: usize, lse: &mut [f32]) {
    for (row, lse) in scores.chunks_exact_mut(wide).zip(lse) {
        // Whole vectors only: what pads a row weighs nothing.
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
pub fn forward(
    shape: Heads<'_>,
    qkv: Source<'_>,
    out: Elements<'_>,
    lse: &mut [f32],
    scratch: &Scratch,
) {
    let (hidden, dim) = (shape.hidden(), shape.head_dim);
    let keep = !lse.is_empty();
    let lse = Shared::new(lse);
    shape.tasks(|at| {
        scratch.with(scratch_for(at.len, dim), |buffer| {
            let mut room = Pieces(buffer);
            let (len, wide, wide_dim) =
                (at.len, at.len.next_multiple_of(LANES), dim.next_multiple_of(LANES));
            let start = at.first * 3 * hidden + at.head * dim;
            let k_transposed = room.take(dim * wide);
            let scores = room.take(QUERIES * wide);
            let output = room.take(QUERIES * wide_dim);
            let part = |part: usize| (start + part * hidden, 3 * hidden);
            let q = Rows::new(qkv, part(0), len, dim, &mut room);
            let k = Rows::new(qkv, part(1), len, dim, &mut room);
            let v = Rows::whole(qkv, part(2), len, dim, &mut room);
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
                    // SAFETY: these elements belong to this head of these tokens alone.
                    unsafe { lse.slice(shape.statistics(at) + from, queries) }
                        .copy_from_slice(&log_sums[..queries]);
                }
                if let Some(mask) = shape.mask {
                    for i in 0..queries {
                        let row = (at.first + from + i) * shape.heads + at.head;
                        mask.apply(row as u32, &mut scores[i * wide..][..len]);
                    }
                }
                let p = Strided { elements: scores, rows: wide, cols: 1 };
                product(output, wide_dim, p, v.elements, v.stride, (queries, dim, len), false);
                for i in 0..queries {
                    let place = (at.first + from + i) * hidden + at.head * dim;
                    // SAFETY: these columns of this row belong to this task alone.
                    unsafe { out.write(place, &output[i * wide_dim..][..dim]) };
                }
            }
        });
    });
}

/// What [`backward`] reads.
#[derive(Clone, Copy)]
pub struct SavedAttention<'a> {
    pub qkv: Source<'a>,
    pub out: Source<'a>,
    pub lse: &'a [f32],
}

/// Lines of `hidden` partial sums, one per sequence, to which the rows of a gradient are added before they are rounded.
#[derive(Clone, Copy)]
pub struct SequenceSums<'a>(Option<Shared<'a>>);

impl<'a> SequenceSums<'a> {
    /// None without lines.
    pub fn new(lines: &'a mut [f32]) -> Self {
        Self((!lines.is_empty()).then(|| Shared::new(lines)))
    }

    /// Adds a row of a head.
    ///
    /// # Safety
    /// No two threads work on one head of one sequence.
    pub unsafe fn add(self, shape: Heads<'_>, at: Head, row: &[f32]) {
        if let Some(lines) = self.0 {
            let place = at.sequence * shape.hidden() + at.head * shape.head_dim;
            // SAFETY: the caller's promise.
            pointwise::add(unsafe { lines.slice(place, shape.head_dim) }, row);
        }
    }
}

/// Where [`backward`] leaves the gradients of queries, keys and values.
#[derive(Clone, Copy)]
pub struct Gradients<'a> {
    /// `[tokens, 3·hidden]`, overwritten.
    pub dqkv: Elements<'a>,
    pub query: SequenceSums<'a>,
    pub value: SequenceSums<'a>,
}

/// Backward of [`forward`].
pub fn backward(
    shape: Heads<'_>,
    saved: SavedAttention<'_>,
    dout: Source<'_>,
    gradients: Gradients<'_>,
    scratch: &Scratch,
) {
    shape.tasks(|at| {
        scratch.with(scratch_for(at.len, shape.head_dim), |buffer| {
            backward_head(shape, at, saved, dout, gradients, Pieces(buffer));
        });
    });
}

fn backward_head<'a>(
    shape: Heads<'_>,
    at: Head,
    saved: SavedAttention<'a>,
    dout: Source<'a>,
    gradients: Gradients<'_>,
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
    let mask_row = room.take(wide);
    let part = |part: usize| (start + part * hidden, 3 * hidden);
    let q = Rows::whole(saved.qkv, part(0), len, dim, &mut room);
    let k = Rows::whole(saved.qkv, part(1), len, dim, &mut room);
    let v = Rows::new(saved.qkv, part(2), len, dim, &mut room);
    let d_out = Rows::whole(dout, (out_start, hidden), len, dim, &mut room);
    transpose(k, len, dim, wide, shape.scale(), k_transposed);
    transpose(v, len, dim, wide, 1.0, v_transposed);
    // SAFETY (of the three uses): a task alone writes its head's columns of its sequence's rows.
    let write = |part: usize, row: usize, values: &[f32]| {
        let place = (at.first + row) * 3 * hidden + part * hidden + at.head * dim;
        let values = &values[..dim];
        // SAFETY: as above; `part` is 0, 1 or 2 for q, k and v.
        unsafe {
            match part {
                0 => gradients.query.add(shape, at, values),
                2 => gradients.value.add(shape, at, values),
                _ => {}
            }
            gradients.dqkv.write(place, values);
        }
    };

    for from in (0..len).step_by(QUERIES) {
        let queries = QUERIES.min(len - from);
        product(p, wide, q.strided(from), k_transposed, wide, (queries, len, dim), false);
        product(ds, wide, d_out.strided(from), v_transposed, wide, (queries, len, dim), false);
        for i in 0..queries {
            // Whole vectors: what pads a row is computed and never read.
            let (p, ds) = (&mut p[i * wide..][..wide], &mut ds[i * wide..][..wide]);
            probabilities(p, saved.lse[shape.statistics(at) + from + i]);
            if let Some(mask) = shape.mask {
                let row = (at.first + from + i) * shape.heads + at.head;
                mask_row.fill(1.0);
                mask.apply(row as u32, mask_row);
                pointwise::multiply(ds, mask_row);
            }
            let along = match saved.out {
                // Σ_j p·dp equals dO·O, with dropout too, and costs less.
                Source::F32(out) => {
                    let out = &out[out_start + (from + i) * hidden..][..dim];
                    dot(d_out.row(from + i, dim), out)
                }
                // An O that was rounded is not the sum of these p.
                Source::Bf16(_) => dot(&p[..len], &ds[..len]) / lane_sum(&p[..len], |p| p),
            };
            softmax_backward(ds, p, along, shape.scale());
            if shape.mask.is_some() {
                pointwise::multiply(p, mask_row);
            }
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
