//! Logits of a whole dataset, and the measures taken from them.

use crate::batch::{Batch, Labels};
use crate::data::{Batches, Dataset};
use crate::program::Rows;
use crate::ranks::{Share, gather_numbers};
use crate::room::room;
use crate::session::Session;
use crate::settings::benchmark::NamedTask;
use crate::settings::train::TrainConfig;
use crate::tasks::evaluation::Evaluation;
use crate::tasks::examples::Prepared;
use crate::tasks::masked_words;
use crate::tasks::row_answers::RowAnswers;
use crate::tasks::targets::Targets;
use anyhow::Result;

/// Rows a run evaluates on.
pub struct Dev<'a> {
    /// Distinguishes several; empty if there is only one.
    pub part: &'static str,
    pub prepared: &'a Prepared,
    pub batches: &'a Batches,
}

/// Where an error of [`measured`] occurred, for most of its callers.
pub const ON_DEV_ROWS: &str = "evaluation on the dev rows";

/// A logit that is not a usable number.
#[derive(Debug, thiserror::Error)]
#[error(
    "line {line}: the model's answer is {logit}: values of the delta or of the base are too large to compute \
     with"
)]
pub struct NotFinite {
    line: u64,
    logit: f32,
}

/// Measures of rows under the current values, and the answer to each row if the run's measure comes from rows.
///
/// # Errors
/// As [`logits`].
pub fn measured(
    session: &mut Session,
    targets: &Targets,
    config: &TrainConfig,
    dev: &Dev<'_>,
) -> Result<(Evaluation, Option<RowAnswers>)> {
    let Dev { part, prepared, batches } = dev;
    let positive = config.task.named().and_then(NamedTask::positive);
    let logits = logits(session, &prepared.dataset, batches, |_| {})?;
    let answers = match &prepared.documents {
        None => RowAnswers::of(config.metric(), targets, prepared.labels(), &logits, positive),
        Some(_) => None,
    };
    let targets = prepared.tuned(targets, &logits);
    Ok((Evaluation::of(part, prepared, &targets, &logits, positive), answers))
}

/// Runs a dataset through the model batch by batch; `done` is told the tokens of each. Returns the logits in row order:
/// `[rows, outputs]`; for a head on tokens `[tokens, outputs]`; for masked words what [`masked_words`] keeps of them.
/// With several ranks each takes some of the batches, and all get all the logits.
///
/// # Errors
/// [`NotFinite`], from which no answer follows; a device that failed.
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
    let expected: usize = (0..dataset.len()).map(count).sum();
    let mut mine = room(expected.div_ceil(of), "logits")?;
    // Batches come longest first, so every rank gets its share of the long ones.
    for rows in batches.iter().skip(rank).step_by(of) {
        let mut batch = dataset.batch(rows);
        if !matches!(of_rows, Rows::Labelled(_)) {
            // Prediction reads labels only to know which tokens have one.
            batch.labels = Labels::None;
        }
        let logits = session.logits(&batch)?;
        mine.extend(kept(&batch, logits));
        done(batch.tokens());
    }
    let gathered = gather_numbers(session.ranks(), mine)?;
    let mut of_ranks: Vec<_> = gathered.into_iter().map(Vec::into_iter).collect();
    let mut all = room(expected, "logits")?;
    for (batch, rows) in batches.iter().enumerate() {
        for &row in rows {
            let found = of_ranks[batch % of].by_ref().take(count(row));
            let from = all.len();
            all.extend(found);
            if let Some(&logit) = all[from..].iter().find(|logit| !logit.is_finite()) {
                return Err(NotFinite { line: dataset.line(row), logit }.into());
            }
        }
    }
    batches.restore(&all, count)
}
