//! Logits of a whole dataset.

use crate::batch::{Batch, Labels};
use crate::data::{Batches, Dataset};
use crate::program::Rows;
use crate::session::Session;
use anyhow::{Result, bail};

/// Runs a dataset through the model, batch after batch; `done` is told the tokens of each. Returns the logits
/// in row order, `[rows, outputs]`, or of a head on tokens `[tokens, outputs]`.
///
/// # Errors
/// A logit that is not finite, from which no answer follows: names the line.
pub fn logits(
    session: &mut Session,
    dataset: &Dataset,
    batches: &Batches,
    mut done: impl FnMut(usize),
) -> Result<Vec<f32>> {
    let outputs = session.model().head.outputs();
    let lengths = dataset.lengths();
    let each_token = session.model().head.pool.rows() == Rows::Tokens;
    let count = |row: usize| if each_token { lengths[row] as usize * outputs } else { outputs };
    let mut all = Vec::with_capacity(dataset.len() * outputs);
    for rows in batches.iter() {
        // A model that predicts reads no labels.
        let batch = Batch { labels: Labels::None, ..dataset.batch(rows) };
        let found = session.logits(&batch)?;
        if let Some(at) = found.iter().position(|logit| !logit.is_finite()) {
            let mut ends = rows.iter().scan(0, |end, &row| {
                *end += count(row);
                Some((row, *end))
            });
            let line = ends.find(|&(_, end)| at < end).map_or(0, |(row, _)| dataset.line(row));
            bail!(
                "line {line}: the model answers with {}, which is no number to go by: values of the delta or of the base \
                 are too large to compute with",
                found[at]
            );
        }
        all.extend(found);
        done(batch.tokens());
    }
    batches.restore(&all, count)
}
