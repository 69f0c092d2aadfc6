//! Logits of a whole dataset.

use crate::batch::{Batch, Labels};
use crate::data::{Batches, Dataset};
use crate::program::Rows;
use crate::session::Session;
use anyhow::Result;

/// Runs a dataset through the model, batch after batch; `done` is told the tokens of each. Returns the logits
/// in row order, `[rows, outputs]`, or of a head on tokens `[tokens, outputs]`.
pub fn logits(
    session: &mut Session,
    dataset: &Dataset,
    batches: &Batches,
    mut done: impl FnMut(usize),
) -> Result<Vec<f32>> {
    let outputs = session.model().head.outputs();
    let mut all = Vec::with_capacity(dataset.len() * outputs);
    for rows in batches.iter() {
        // A model that predicts reads no labels.
        let batch = Batch { labels: Labels::None, ..dataset.batch(rows) };
        all.extend(session.logits(&batch)?);
        done(batch.tokens());
    }
    let lengths = dataset.lengths();
    let each_token = session.model().head.pool.rows() == Rows::Tokens;
    batches.restore(&all, |row| if each_token { lengths[row] as usize * outputs } else { outputs })
}
