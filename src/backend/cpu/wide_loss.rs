//! Softmax cross-entropy of labelled tokens over a whole vocabulary. There are as many numbers as in the product that
//! made them so that, unlike other losses, this is worth all threads and f32.

use super::batch::HostBatch;
use super::colsum::Partials;
use super::math;
use super::pointwise::scale;
use super::share::Shared;
use super::simd::{dispatch, lane_sum};
use super::workers::Workers;

/// Exponentials summed in f32; those sums are summed in f64.
const PIECE: usize = 512;

dispatch! {
    /// `row = exp(row - most)`; returns the sum.
    fn exponentials(row: &mut [f32], most: f32) -> f32 = exponentials_body;
}

#[inline(always)]
fn exponentials_body<const FMA: bool>(row: &mut [f32], most: f32) -> f32 {
    for x in row.iter_mut() {
        *x = math::exp::<FMA>(*x - most);
    }
    lane_sum(row, |x| x)
}

/// Sum over the labelled tokens, one row each. `dlogits` (may be empty) gets `weight · (softmax - onehot)`.
pub fn cross_entropy(
    logits: &[f32],
    batch: &HostBatch,
    outputs: usize,
    weight: f32,
    dlogits: &mut [f32],
    partials: &mut Partials,
    workers: &Workers,
) -> f64 {
    let rows = batch.labelled.len();
    let (losses, _) = partials.lines(rows, 1);
    let asked = (!dlogits.is_empty()).then(|| Shared::new(dlogits));
    let found = Shared::new(losses);
    let room = if asked.is_some() { 0 } else { outputs };
    workers.run_with(rows, room, |row, room| {
        let d = match asked {
            // SAFETY: each task has its own row.
            Some(dlogits) => unsafe { dlogits.slice(row * outputs, outputs) },
            None => room,
        };
        let label = batch.labels[batch.labelled[row] as usize] as usize;
        let x = &logits[row * outputs..][..outputs];
        let most = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        d.copy_from_slice(x);
        let sum: f64 = d.chunks_mut(PIECE).map(|piece| f64::from(exponentials(piece, most))).sum();
        scale(d, (f64::from(weight) / sum) as f32);
        d[label] -= weight;
        // SAFETY: as above.
        let found = unsafe { found.slice(row, 1) };
        found[0] = (sum.ln() - f64::from(x[label] - most)) as f32;
    });
    losses.iter().map(|&loss| f64::from(loss)).sum()
}
