//! One run, from checked settings to its result: `train` does one, and a sweep several in parallel.

use super::data::Data;
use super::inputs::Texts;
use super::keep::{Kept, delta_info, is_kept, keep};
use super::saved::checkpoint;
use super::summary::Summary;
use super::told::{say_added, say_head};
use super::{identity, rate, start};
use crate::backend::{Backend, CoreShare};
use crate::commands::base::Base;
use crate::commands::heads::{
    rows_of_head, say_unused_head, warn_of_adapter, warn_of_other_head, warn_of_quantization,
    warn_of_unused_layers,
};
use crate::commands::labelled::say_beyond_limit;
use crate::commands::programs::{Programs, fits_kernels};
use crate::commands::progress::Progress;
use crate::commands::ranks as agreement;
use crate::commands::stop::Stop;
use crate::commands::{say, say_passed_over, show, warn};
use crate::data::{BatchLimits, Order, Sampler};
use crate::files::write_bytes_atomic;
use crate::formats::delta::DeltaInfo;
use crate::formats::run_state::Checkpoint;
use crate::methods::Trains;
use crate::model::Model;
use crate::model::load::{TaskSpec, init_head, load, outline};
use crate::program::PoolKind;
use crate::ranks::{Ranks, Share};
use crate::rss;
use crate::session::{OpenOptions, Session, Sharing, open, open_sharing};
use crate::settings::choice::PoolerInit;
use crate::settings::metric::Metric;
use crate::settings::no_answer::NoAnswer;
use crate::settings::rate::Rate;
use crate::settings::train::TrainConfig;
use crate::tasks::class_weights;
use crate::tasks::remarks::{in_order, same_answer};
use crate::tasks::row_answers::RowAnswers;
use crate::train::evaluate::Dev;
use crate::train::output::OutputFolder;
use crate::train::run::{End, Run, Writer};
use crate::train::schedule::Schedule;
use crate::train::steps::Steps;
use crate::train::trial::{ChosenRate, Trial};
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::rc::Rc;

/// A run to execute.
pub struct Job<'a> {
    pub config: &'a TrainConfig,
    /// Cores used by a CPU device.
    pub cores: CoreShare,
    /// Only the first of several ranks has it.
    pub output: Option<&'a OutputFolder>,
    pub resume: bool,
    pub quiet: bool,
}

/// How far a run got.
pub enum Ended {
    /// With its best state's answers to the dev rows, as far as they are known.
    Done(Option<RowAnswers>),
    /// Stopped on request; everything is saved.
    Stopped { step: u64, total: u64 },
}

/// Trains.
///
/// # Errors
/// Whatever keeps the run from finishing, including [`Diverged`](crate::train::run::Diverged).
pub fn train(job: &Job<'_>, texts: &Texts, stop: &Stop, ranks: &Rc<dyn Ranks>) -> Result<Ended> {
    let &Job { config, output, resume, quiet, .. } = job;
    let (base, Texts { tokenizer, data, .. }) = (texts.base(), texts);
    // The run's files keep what was requested: resuming and comparing use that.
    let asked = config;
    let config = &TrainConfig { metric: Some(chosen_metric(asked, data, quiet)?), ..asked.clone() };

    let spec = task_spec(config, base, data)?;
    let (model, backend) = loaded(job, texts, &spec, ranks.here())?;
    say_order(config, data, quiet);
    let sampler = sampler(config, data)?;
    let mut steps = Steps::new(&sampler, config.length, config.grad_accumulation)?;
    steps.take(ranks.share());
    let device = backend.kind();
    let programs =
        Programs::plan(&model, (device, ranks.share().of), &mut steps, config, &lengths(data))?;
    let mut session = Session::new(model, backend).among(Rc::clone(ranks));
    let predict = programs.dev.as_ref().map(|(_, program)| program.clone());
    session.allocate(Some(programs.train.clone()), predict)?;
    say(quiet, programs.summary(session.allocated()));

    let precision = config.precision.on(device)?;
    let info = delta_info(asked, base, tokenizer, spec.pooling, data)?;
    let identity = |asked: &TrainConfig| identity::of_run(asked, precision, base, &info, data);
    agreement::agree(&**ranks, &identity(asked)?)?;
    let saved = resume.then(|| checkpoint(output, config, &**ranks)).transpose()?.flatten();
    if resume && saved.is_none() {
        say(quiet, "no checkpoint yet: starting from the beginning");
    }
    let dev: Vec<_> = (programs.dev.iter().flat_map(|(batches, _)| batches))
        .zip(&data.dev)
        .map(|(batches, (part, prepared))| Dev { part, prepared, batches })
        .collect();
    let stop = stop.after_the_step();

    let mut choice = match (output, &saved) {
        (Some(output), Some(_)) => rate::recorded(output)?,
        _ => None,
    };
    let lr = match (asked.lr, &saved) {
        (Rate::Is(lr), _) => lr,
        (Rate::Auto, Some(_)) => rate::chosen(choice.as_ref(), &**ranks)?,
        (Rate::Auto, None) => {
            if let Some(output) = output {
                write_bytes_atomic(&output.settings(), asked.to_toml()?.as_bytes())?;
            }
            let session = &mut session;
            let (train, targets) = (&data.train.dataset, &data.targets);
            let trial = Trial { session, config, train, targets, dev: dev.first(), stop };
            choice.insert(tried(trial, &mut steps, quiet)?).chosen
        }
    };
    let asked = &TrainConfig { lr: Rate::Is(lr), ..asked.clone() };
    let info = DeltaInfo { settings: asked.without_places(), ..info.clone() };
    let fingerprint = match config.memory {
        // With several ranks each splits its own share.
        Some(_) if !ranks.several() => {
            identity::of_cut_run(identity(asked)?, programs.train.limits().tokens)
        }
        _ => identity(asked)?,
    };
    let keep = |session: &Session, chosen: Option<NoAnswer>| {
        let info = DeltaInfo { no_answer: chosen.or(info.no_answer), ..info.clone() };
        let kept = Kept { base, tokenizer, info, quiet };
        output.map_or(Ok(()), |output| keep(output, &kept, session))
    };
    let is_kept = |changed: bool| {
        output.map_or(Ok(()), |output| is_kept(output, &info, tokenizer.options(), changed))
    };
    let writer = output.map(|output| Writer {
        output,
        fingerprint: &fingerprint,
        keep: &keep,
        is_kept: &is_kept,
    });
    let new = match (&choice, &saved) {
        (Some(choice), None) => rate::begin(writer.as_ref(), &session, choice, steps.total)?,
        _ => Checkpoint::default(),
    };
    let mut run = Run {
        session: &mut session,
        config,
        lr,
        train: &data.train.dataset,
        targets: &data.targets,
        dev,
        writer,
        stop,
    };

    let from = match saved {
        Some(bytes) => {
            let trainable = run.session.model().params.trainable();
            let (from, vectors) = Checkpoint::from_bytes(&bytes, &fingerprint, trainable)
                .with_context(|| match output {
                    Some(output) => format!("checkpoint {}", output.checkpoint().display()),
                    None => "rank 0's checkpoint".to_owned(),
                })?;
            run.restore(&from, &vectors)?;
            say(quiet, format_args!("continuing after step {} of {}", from.step, steps.total));
            from
        }
        None => new,
    };
    if let Some(text) = Schedule::of(config, lr, steps.total).never_reached() {
        warn(text);
    }
    if let Some(output) = output {
        let settings = rate::settings(asked, choice.as_ref())?;
        write_bytes_atomic(&output.settings(), settings.as_bytes())?;
    }
    let mut progress = Progress::new(steps.total, from.step, quiet);
    let outcome = run.train(&mut steps, from, &mut progress)?;
    progress.finish();

    if outcome.end == End::Interrupted {
        return Ok(Ended::Stopped { step: outcome.step, total: steps.total });
    }
    if let Some(output) = output {
        sum_up(&Summary {
            config,
            targets: &data.targets,
            model: session.model(),
            base,
            output,
            outcome: &outcome,
            choice: choice.as_ref(),
            baselines: &data.baselines,
            memory: json!({
                "planned": programs.planned.total(),
                "allocated": session.allocated().total(),
                "saved_per_token": programs.saved_per_token(),
                "peak_rss": rss::peak(),
            }),
        })?;
    }
    Ok(Ended::Done(outcome.answers))
}

/// The run's initial model on its device; reports what there is to say about it.
fn loaded(
    job: &Job<'_>,
    texts: &Texts,
    spec: &TaskSpec,
    here: Share,
) -> Result<(Model, Box<dyn Backend>)> {
    let &Job { config, ref cores, quiet, .. } = job;
    let (base, Texts { of, data, .. }) = (texts.base(), texts);
    if let (Some(classes), false) = (data.targets.named(), spec.class_weights.is_empty()) {
        let table = class_weights::table(classes, data.train.labels(), &spec.class_weights);
        say(quiet, format_args!("class weights:\n{}", table.trim_end()));
    }
    let frozen = of.frozen(config);
    let sharing = Sharing { frozen: frozen.clone(), cores: cores.clone() };
    let mut backend = open_sharing(device_of(config, here), sharing)?;
    say(quiet, format_args!("device: {}", backend.describe()));
    say_passed_over(quiet, config.device, backend.kind(), here);
    fits_kernels(&spec.trains, backend.kind())?;
    let mut model = {
        let _one = frozen.loading();
        load(&base.folder, &base.config, spec, &mut *backend)?
    };
    base.unchanged()?;
    say_head(config, base, &model, quiet)?;
    say_added(&spec.trains, &model, quiet);
    warn_of_unused_layers(base);
    warn_of_adapter(base);
    warn_of_quantization(base);
    if let Some(path) = &config.init_head {
        warn_of_other_head(path, config.task.kind(), spec.pooling);
        let rows = rows_of_head(path, base, &data.targets, quiet);
        init_head(&mut model, path, rows.as_deref()).context("--init-head")?;
    } else {
        say_unused_head(base, &model, quiet);
    }
    if let Some(path) = &config.init_delta {
        start::with_delta(path, base, &mut model, quiet)?;
    }
    Ok((model, backend))
}

/// Reports oddities in the rows of batches.
fn say_order(config: &TrainConfig, data: &Data, quiet: bool) {
    if config.no_shuffle && in_order(data.train.labels(), data.targets.outputs()) {
        warn(
            "--no-shuffle: the rows to train on are sorted by label, so a batch has mostly one label and the last label \
             dominates: shuffle the file, or leave the option out",
        );
    }
    say_beyond_limit(quiet, &data.train.dataset.lengths(), config.batch_tokens);
}

/// The rate found by a trial of several.
fn tried(trial: Trial<'_>, steps: &mut Steps<'_>, quiet: bool) -> Result<ChosenRate> {
    let mut progress = Progress::new(trial.steps(steps.total), 0, quiet);
    let found = trial.choose(steps, &mut progress)?;
    progress.finish();
    say(quiet, format_args!("--lr auto: {}\n{}", found.said(), rate::table(&found)));
    found.at_the_edge().iter().for_each(|text| say(quiet, text));
    Ok(found)
}

/// Writes the result, and displays it.
fn sum_up(summary: &Summary<'_>) -> Result<()> {
    let Summary { config, output, outcome, .. } = summary;
    if outcome.last.iter().any(|evaluation| evaluation.one_answer) {
        warn(format_args!("in the last evaluation {}", same_answer(config.task.kind())));
    }
    let best = summary.best()?;
    write_bytes_atomic(&output.result(), format!("{:#}\n", summary.json(&best)).as_bytes())?;
    show(summary.table(&best))?;
    summary.details(&best)?;
    summary.doubts(&best).iter().for_each(warn);
    Ok(())
}

/// What a run would put on its device, before anything is loaded.
///
/// # Errors
/// As [`train`].
pub fn plan(config: &TrainConfig, texts: &Texts) -> Result<Programs> {
    let (base, data) = (texts.base(), &texts.data);
    let spec = task_spec(config, base, data)?;
    let model = outline(&base.config, &spec)?;
    let sampler = sampler(config, data)?;
    let mut steps = Steps::new(&sampler, config.length, config.grad_accumulation)?;
    let device = open(device_of(config, Share::WHOLE))?.kind();
    fits_kernels(&spec.trains, device)?;
    Programs::plan(&model, (device, 1), &mut steps, config, &lengths(data))
}

/// The device that a run requests.
pub fn device_of(config: &TrainConfig, here: Share) -> OpenOptions {
    OpenOptions {
        device: config.device,
        here,
        precision: config.precision,
        weights: config.weights.into(),
        matrices_train: config.method.trains_matrices(),
    }
}

fn sampler(config: &TrainConfig, data: &Data) -> Result<Sampler> {
    let order = match config.no_shuffle {
        true => Order::File,
        false => Order::Shuffled { seed: config.seed },
    };
    let limits = BatchLimits { sequences: config.batch_size, tokens: config.batch_tokens };
    Sampler::new(data.train.dataset.lengths(), limits, order)
}

/// Of the dev rows.
fn lengths(data: &Data) -> Vec<Vec<u32>> {
    data.dev.iter().map(|(_, rows)| rows.dataset.lengths()).collect()
}

/// The measure that chooses the best state. For some tasks only the labels determine what can be measured.
fn chosen_metric(config: &TrainConfig, data: &Data, quiet: bool) -> Result<Metric> {
    let metric = config.metric();
    let dev = data.dev.first().map(|(_, dev)| dev);
    let measures = data.targets.measures(config.task.kind(), dev);
    if config.task.named().is_some() || metric == Metric::Loss || measures.contains(&metric) {
        return Ok(metric);
    }
    if config.metric.is_some() {
        let names: Vec<_> = measures.iter().map(|metric| metric.name()).collect();
        bail!("--metric {metric} is not defined for these labels; use {}, loss", names.join(", "));
    }
    say(
        quiet,
        format_args!(
            "{metric} is not defined for these labels: {} chooses the best state",
            measures[0]
        ),
    );
    Ok(measures[0])
}

/// How the tokens of a text become the head's input.
///
/// # Errors
/// A pooling that the user has to choose.
pub fn pooling(config: &TrainConfig, base: &Base) -> Result<PoolKind> {
    match config.task.kind().facts().each_token {
        true => Ok(config.pooling_of_tokens()),
        false => base.pooling(config.pooling),
    }
}

/// What a run's model is used for.
///
/// # Errors
/// Class weights that do not fit; a pooling that the user has to choose.
pub fn task_spec(config: &TrainConfig, base: &Base, data: &Data) -> Result<TaskSpec> {
    Ok(TaskSpec {
        outputs: data.targets.outputs(),
        class_weights: match (&config.class_weights, data.targets.named()) {
            (Some(weighting), Some(classes)) => {
                class_weights::class_weights(weighting, classes, data.train.labels())?
            }
            _ => Vec::new(),
        },
        pooling: pooling(config, base)?,
        reinit_pooler: config.pooler == PoolerInit::Reinit,
        loss: config.task.kind().facts().loss,
        trains: Trains::of(config.method, &config.biases, config.lora.as_ref()),
        dropout: config.dropout.map(|p| p as f32),
        seed: config.seed,
    })
}
