//! Logits of a whole dataset.

use crate::batch::{Batch, Labels};
use crate::data::{Batches, Dataset};
use crate::program::Rows;
use crate::ranks::{Share, gather_numbers};
use crate::session::Session;
use crate::tasks::masked_words;
use anyhow::{Result, bail};

/// Runs a dataset through the model, batch after batch; `done` is told the tokens of each. Returns the logits
/// in row order, `[rows, outputs]`, or of a head on tokens `[tokens, outputs]`; of hidden words what [`masked_words`] keeps of
/// theirs. Of several ranks each takes some of the
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
    let of_rows = session.model().head.pool.rows();
    let asks = dataset.asks_for_words();
    let kept_of_word = if asks { 2 * masked_words::BEST } else { masked_words::KEPT };
    let count = |row: usize| match of_rows {
        Rows::Sequences => outputs,
        Rows::Tokens => lengths[row] as usize * outputs,
        Rows::Labelled(_) => dataset.labelled(row) * kept_of_word,
    };
    let kept = |batch: &Batch, logits: Vec<f32>| match of_rows {
        Rows::Sequences | Rows::Tokens => logits,
        Rows::Labelled(_) if asks => masked_words::best(&logits, &batch.labels, outputs),
        Rows::Labelled(_) => masked_words::found(&logits, &batch.labels, outputs),
    };
    let Share { rank, of } = session.ranks().share();
    let mut mine = Vec::with_capacity(dataset.len().div_ceil(of) * outputs);
    // Batches come longest first, so every rank has its part of the long ones.
    for rows in batches.iter().skip(rank).step_by(of) {
        let mut batch = dataset.batch(rows);
        if !matches!(of_rows, Rows::Labelled(_)) {
            // A model that predicts reads no labels, but to know which tokens have one.
            batch.labels = Labels::None;
        }
        let logits = session.logits(&batch)?;
        mine.extend(kept(&batch, logits));
        done(batch.tokens());
    }
    let gathered = gather_numbers(session.ranks(), &mine)?;
    let mut of_ranks: Vec<_> = gathered.into_iter().map(Vec::into_iter).collect();
    let mut all = Vec::with_capacity(dataset.len() * outputs);
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
