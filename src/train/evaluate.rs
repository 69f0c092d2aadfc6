//! Logits of a whole dataset.

use crate::data::{Batches, Dataset};
use crate::session::Session;
use anyhow::Result;

/// Runs a dataset through the model, batch after batch; `done` is told the tokens of each. Returns the logits
/// `[rows, outputs]` in row order.
pub fn logits(
    session: &mut Session,
    dataset: &Dataset,
    batches: &Batches,
    mut done: impl FnMut(usize),
) -> Result<Vec<f32>> {
    let outputs = session.model().head.outputs();
    let mut all = Vec::with_capacity(dataset.len() * outputs);
    for rows in batches.iter() {
        let batch = dataset.batch(rows);
        all.extend(session.logits(&batch)?);
        done(batch.tokens());
    }
    batches.restore(&all, outputs)
}
