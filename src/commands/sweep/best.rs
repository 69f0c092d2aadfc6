//! What a finished run's best state does: on rows that it was trained on, and row by row on those it was measured on.

use crate::backend::WeightType;
use crate::commands::train::{Texts, device_of, plan, task_spec};
use crate::commands::{programs, trained};
use crate::data::{BatchLimits, Dataset, evaluation_batches};
use crate::formats::delta::{Delta, DeltaInfo};
use crate::formats::model_files::{HEAD, WEIGHTS};
use crate::model::config::ModelConfig;
use crate::model::load::{init_head, load};
use crate::program::PoolKind;
use crate::ranks::Share;
use crate::results::bootstrap::DevAnswers;
use crate::session::{OpenOptions, Session, open, open_sharing};
use crate::settings::benchmark::NamedTask;
use crate::settings::method::Leaves;
use crate::settings::metric::Metric;
use crate::settings::task::Reads;
use crate::settings::train::TrainConfig;
use crate::tasks::evaluation::Evaluation;
use crate::tasks::examples::Prepared;
use crate::tasks::row_answers::RowAnswers;
use crate::train::evaluate::logits;
use crate::train::output::result_file;
use anyhow::{Context, Result};

/// What was found.
pub struct BestState {
    /// The run's measure on rows that it was trained on, as many as there are dev rows at most.
    pub train: f64,
    /// Of each dev row, where the measure comes from such.
    pub answers: Option<DevAnswers>,
}

/// Measures the best state of a run that is done; `None` where there are no dev rows, or the rows are no single texts or pairs.
///
/// # Errors
/// A result that cannot be read; a device without room.
pub fn measure(config: &TrainConfig, texts: &Texts, metric: Metric) -> Result<Option<BestState>> {
    let data = &texts.data;
    let (Some((part, dev)), Reads::Texts) = (data.dev.first(), config.task.kind().facts().reads)
    else {
        return Ok(None);
    };
    let some = some_of(&data.train.dataset, dev.dataset.len());
    let train = Prepared { dataset: some, documents: None };
    // Where memory is limited, batches are no longer than those of training.
    let tokens = match config.memory {
        Some(_) => Some(plan(config, texts)?.train.limits().tokens),
        None => config.batch_tokens,
    };
    let limits = BatchLimits { sequences: config.batch_size, tokens };
    let lengths = [&train, dev].map(|rows| rows.dataset.lengths());
    let batches = lengths.each_ref().map(|lengths| evaluation_batches(lengths, limits));
    let [of_train, of_dev] = batches;
    let (of_train, of_dev) = (of_train?, of_dev?);
    let largest = programs::larger(
        programs::limits(of_train.largest(&lengths[0])),
        programs::limits(of_dev.largest(&lengths[1])),
    );
    let mut session = best_state(config, texts)?;
    session.model().addressable(largest, session.device())?;
    let program = session.program(largest, None);
    session.allocate(None, Some(program))?;
    let positive = config.task.named().and_then(NamedTask::positive);
    let on_train = logits(&mut session, &train.dataset, &of_train, |_| {})?;
    let found = Evaluation::of(part, &train, &data.targets, &on_train, positive);
    let value = found.value(metric).with_context(|| format!("no {metric} was measured"))?;
    let on_dev = logits(&mut session, &dev.dataset, &of_dev, |_| {})?;
    let answers = RowAnswers::of(metric, &data.targets, dev.labels(), &on_dev, positive);
    let rows = data.dev_sha256.clone().unwrap_or_default();
    let answers = answers.map(|answers| DevAnswers { rows, answers });
    Ok(Some(BestState { train: value, answers }))
}

/// So many of the rows at most, evenly over all.
fn some_of(rows: &Dataset, most: usize) -> Dataset {
    let (all, count) = (rows.len(), rows.len().min(most));
    let picked: Vec<usize> = (0..count).map(|i| i * all / count).collect();
    rows.select(&picked)
}

/// The model as the run left it.
fn best_state(config: &TrainConfig, texts: &Texts) -> Result<Session> {
    let base = texts.base();
    let leaves = config.method.facts().leaves;
    let left = config.output.join(result_file(leaves));
    let options = device_of(config, Share::WHOLE);
    match leaves {
        Leaves::Delta => {
            let delta = Delta::read(&left)?;
            let spec = task_spec(config, base, &texts.data)?;
            let frozen = texts.of.frozen(config);
            let mut backend = open_sharing(options, frozen.clone())?;
            let mut model = {
                let _one = frozen.loading();
                load(&base.folder, &base.config, &spec, &mut *backend)?
            };
            trained::apply(&delta, &base.sha256, &mut model)
                .with_context(|| format!("delta {}", left.display()))?;
            Ok(Session::new(model, backend))
        }
        Leaves::Model => {
            let info = DeltaInfo::of_model(&left)?;
            let spec = trained::task_spec(&info);
            let folder = &config.output;
            // What it trained in f32 is its own, and read as it is.
            let options = OpenOptions { weights: WeightType::F32, ..options };
            let mut backend = open(options)?;
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
