//! How attention is split into tasks, in every arithmetic: one task is one head of one sequence.

use super::dropout::Mask;
use super::lanes::{LANES, Lanes};
use super::pointwise;
use super::share::Shared;
use super::workers::Workers;

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
    pub fn statistics(&self, at: Head) -> usize {
        let tokens = self.cu_seqlens[self.cu_seqlens.len() - 1] as usize;
        at.head * tokens + at.first
    }

    /// The mask row of query `from` of a head, and the distance to the next query's.
    pub fn mask_rows(&self, at: Head, from: usize) -> (u32, u32) {
        (((at.first + from) * self.heads + at.head) as u32, self.heads as u32)
    }

    /// The scale of `q·kᵀ` before softmax.
    pub fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// Calls `work` for each head of each sequence, with as much temporary memory as `room` gives for the sequence's
    /// length.
    pub fn tasks(
        &self,
        workers: &Workers,
        room: impl Fn(usize) -> usize,
        work: impl Fn(Head, &mut [f32]) + Sync,
    ) {
        let len =
            |sequence: usize| (self.cu_seqlens[sequence + 1] - self.cu_seqlens[sequence]) as usize;
        let sequences = self.cu_seqlens.len() - 1;
        let longest = (0..sequences).map(len).max().unwrap_or(0);
        workers.run_with(sequences * self.heads, room(longest), |task, room| {
            let (sequence, head) = (task / self.heads, task % self.heads);
            let first = self.cu_seqlens[sequence] as usize;
            work(Head { sequence, head, first, len: len(sequence) }, room);
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

/// Lines of `hidden` partial sums, one per sequence, to which the rows of a gradient are added before rounding.
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
    /// No two threads work on the same head of the same sequence.
    pub unsafe fn add(self, shape: Heads<'_>, at: Head, row: &[f32]) {
        if let Some(lines) = self.0 {
            let place = at.sequence * shape.hidden() + at.head * shape.head_dim;
            // SAFETY: the caller's promise.
            pointwise::add(unsafe { lines.slice(place, shape.head_dim) }, row);
        }
    }

    /// Adds the first `count` rows, each of which fills whole vectors.
    ///
    /// # Safety
    /// As [`add`](Self::add).
    #[inline(always)]
    pub unsafe fn add_rows<L: Lanes>(
        self,
        lanes: L,
        shape: Heads<'_>,
        at: Head,
        rows: &[f32],
        count: usize,
    ) {
        let Some(lines) = self.0 else {
            return;
        };
        let (dim, place) =
            (shape.head_dim, at.sequence * shape.hidden() + at.head * shape.head_dim);
        let wide = dim.next_multiple_of(LANES);
        // SAFETY: the caller's promise.
        let line = unsafe { lines.slice(place, dim) };
        for (col, line) in (0..dim).step_by(LANES).zip(line.chunks_mut(LANES)) {
            let mut sum = lanes.load(line);
            for row in rows.chunks_exact(wide).take(count) {
                sum = lanes.add(sum, lanes.load(&row[col..][..LANES]));
            }
            lanes.store(sum, line);
        }
    }
}
