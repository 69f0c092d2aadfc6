//! Evaluates a finished run's best state: on rows that it was trained on, and row by row on those it was measured on.

use crate::backend::{CoreShare, WeightType};
use crate::commands::train::{Texts, device_of, plan, task_spec};
use crate::commands::{programs, trained};
use crate::data::{BatchLimits, Dataset, evaluation_batches};
use crate::formats::delta::{Delta, DeltaInfo};
use crate::formats::model_files::{HEAD, WEIGHTS};
use crate::model::config::ModelConfig;
use crate::model::load::{init_head, load};
use crate::program::{Limits, PoolKind};
use crate::ranks::Share;
use crate::session::{OpenOptions, Session, Sharing, open_sharing};
use crate::settings::method::Leaves;
use crate::settings::metric::Metric;
use crate::settings::task::Reads;
use crate::settings::train::TrainConfig;
use crate::tasks::evaluation::Evaluation;
use crate::tasks::examples::Prepared;
use crate::tasks::row_answers::RowAnswers;
use crate::train::evaluate::{Dev, ON_DEV_ROWS, measured};
use crate::train::output::result_file;
use anyhow::{Context, Result};

/// A finished run, with what is needed to evaluate its best state.
pub struct FinishedRun<'a> {
    pub config: &'a TrainConfig,
    pub texts: &'a Texts,
    pub cores: CoreShare,
}

/// The best state's answer to each dev row; `None` if the run's measure does not come from rows.
///
/// # Errors
/// A result that cannot be read; a device without room.
pub fn answers(run: &FinishedRun<'_>, metric: Metric) -> Result<Option<RowAnswers>> {
    let Some((part, prepared)) = run.dev() else { return Ok(None) };
    let Some((batches, program)) = plan(run.config, run.texts)?.dev else { return Ok(None) };
    let dev = Dev { part, prepared, batches: &batches[0] };
    let (_, answers) = run.measured(&dev, program.limits(), metric).context(ON_DEV_ROWS)?;
    Ok(answers)
}

/// The run's measure on rows that it was trained on, as many as there are dev rows and at most [`trained_rows`]; `None`
/// if there are none, or the rows are not single texts or pairs. `steps` are those that the run took.
///
/// # Errors
/// As [`answers`].
pub fn on_trained_rows(run: &FinishedRun<'_>, metric: Metric, steps: u64) -> Result<Option<f64>> {
    let &FinishedRun { config, texts, .. } = run;
    let Some((part, dev)) = run.dev() else { return Ok(None) };
    let most = trained_rows(steps, config.batch_size * config.grad_accumulation);
    let rows = some_of(&texts.data.train.dataset, dev.dataset.len().min(most));
    let lengths = rows.lengths();
    // If memory is limited, batches are at most as long as in training.
    let tokens = match config.memory {
        Some(_) => Some(plan(config, texts)?.train.limits().tokens),
        None => config.batch_tokens,
    };
    let limits = BatchLimits { sequences: config.batch_size, tokens };
    let batches = evaluation_batches(&lengths, limits)?;
    let prepared = Prepared { dataset: rows, documents: None };
    let trained = Dev { part, prepared: &prepared, batches: &batches };
    let largest = programs::limits(batches.largest(&lengths));
    let (found, _) = run.measured(&trained, largest, metric)?;
    found.value(metric).map(Some).with_context(|| format!("no {metric} was measured"))
}

/// This many training rows are enough to compare a state's measures on them. After a short run they are fewer, so that
/// measuring takes little time compared with the run.
fn trained_rows(steps: u64, rows_per_step: usize) -> usize {
    let seen = usize::try_from(steps).unwrap_or(usize::MAX).saturating_mul(rows_per_step);
    (seen / 8).clamp(64, 512)
}

/// Whether it is known which of a run's rows are right.
pub fn reads_texts(config: &TrainConfig) -> bool {
    config.task.kind().facts().reads == Reads::Texts
}

/// At most this many of the rows, evenly spread.
fn some_of(rows: &Dataset, most: usize) -> Dataset {
    let (all, count) = (rows.len(), rows.len().min(most));
    let picked: Vec<usize> = (0..count).map(|i| i * all / count).collect();
    rows.select(&picked)
}

impl<'a> FinishedRun<'a> {
    /// The dev rows that chose the best state, if it is known which of them are right.
    fn dev(&self) -> Option<(&'static str, &'a Prepared)> {
        let first = self.texts.data.dev.first().filter(|_| reads_texts(self.config));
        first.map(|(part, prepared)| (*part, prepared))
    }

    /// Evaluates rows with its best state.
    fn measured(
        &self,
        rows: &Dev<'_>,
        limits: Limits,
        metric: Metric,
    ) -> Result<(Evaluation, Option<RowAnswers>)> {
        let config = TrainConfig { metric: Some(metric), ..self.config.clone() };
        let mut session = self.best_state(limits)?;
        measured(&mut session, &self.texts.data.targets, &config, rows)
    }

    /// The model as the run left it, with memory to predict batches of up to `limits`.
    fn best_state(&self, limits: Limits) -> Result<Session> {
        let mut session = self.left()?;
        session.model().addressable(limits, session.device())?;
        let program = session.program(limits, None);
        session.allocate(None, Some(program))?;
        Ok(session)
    }

    fn left(&self) -> Result<Session> {
        let &Self { config, texts, ref cores, .. } = self;
        let base = texts.base();
        let leaves = config.method.facts().leaves;
        let left = config.output.join(result_file(leaves));
        let options = device_of(config, Share::WHOLE);
        match leaves {
            Leaves::Delta => {
                let delta = Delta::read(&left)?;
                let spec = task_spec(config, base, &texts.data)?;
                let frozen = texts.of.frozen(config);
                let sharing = Sharing { frozen: frozen.clone(), cores: cores.clone() };
                let mut backend = open_sharing(options, sharing)?;
                let mut model = {
                    let _one = frozen.loading();
                    load(&base.folder, &base.config, &spec, &mut *backend)?
                };
                trained::apply(&delta, base.sha256()?, &mut model)
                    .with_context(|| format!("delta {}", left.display()))?;
                Ok(Session::new(model, backend))
            }
            Leaves::Model => {
                let info = DeltaInfo::of_model(&left)?;
                let spec = trained::task_spec(&info);
                let folder = &config.output;
                // What it trained in f32 is not shared, and is read as it is.
                let options = OpenOptions { weights: WeightType::F32, ..options };
                let sharing = Sharing { cores: cores.clone(), ..Sharing::default() };
                let mut backend = open_sharing(options, sharing)?;
                let of_model = ModelConfig::read(folder)?;
                let mut model = load(folder, &of_model, &spec, &mut *backend)?;
                let file = match spec.pooling {
                    PoolKind::Mean => HEAD,
                    _ => WEIGHTS,
                };
                init_head(&mut model, &folder.join(file), None)?;
                Ok(Session::new(model, backend))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::trained_rows;

    #[test]
    fn a_short_run_is_looked_at_on_fewer_trained_rows() {
        let of = |steps| trained_rows(steps, 16);
        assert_eq!([of(1), of(150), of(10_000), of(u64::MAX)], [64, 300, 512, 512]);
    }
}
