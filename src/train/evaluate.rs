//! Logits of a whole dataset.

use crate::batch::{Batch, Labels};
use crate::data::{Batches, Dataset};
use crate::program::Rows;
use crate::ranks::{Share, gather_numbers};
use crate::room::room;
use crate::session::Session;
use anyhow::{Result, bail};

/// Runs a dataset through the model, batch after batch; `done` is told the tokens of each. Returns the logits
/// in row order, `[rows, outputs]`, or of a head on tokens `[tokens, outputs]`. Of several ranks each takes some of the
/// batches, and all have the logits of all.
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
    let Share { rank, of } = session.ranks().share();
    // More than one per row has a head on tokens.
    let all_of = |rows: usize| if each_token { dataset.tokens() } else { rows } * outputs;
    let mut mine = room(all_of(dataset.len()).div_ceil(of), "logits")?;
    // Batches come longest first, so every rank has its part of the long ones.
    for rows in batches.iter().skip(rank).step_by(of) {
        // A model that predicts reads no labels.
        let batch = Batch { labels: Labels::None, ..dataset.batch(rows) };
        mine.extend(session.logits(&batch)?);
        done(batch.tokens());
    }
    let gathered = gather_numbers(session.ranks(), mine)?;
    let mut of_ranks: Vec<_> = gathered.into_iter().map(Vec::into_iter).collect();
    let mut all = room(all_of(dataset.len()), "logits")?;
    for (batch, rows) in batches.iter().enumerate() {
        for &row in rows {
            let found = of_ranks[batch % of].by_ref().take(count(row));
            let from = all.len();
            all.extend(found);
            if let Some(logit) = all[from..].iter().find(|logit| !logit.is_finite()) {
                bail!(
                    "line {}: the model answers with {logit}, which is no number to go by: values of the delta or of the base \
                     are too large to compute with",
                    dataset.line(row)
                );
            }
        }
    }
    batches.restore(&all, count)
}
