//! `bitfit train`: reads and checks everything, plans memory, trains, and shows what came of it.

mod data;
pub mod identity;
mod keep;
pub mod rate;
mod saved;
mod start;
mod summary;

use super::base::Base;
use super::heads::{
    rows_of_head, say_unused_head, warn_of_adapter, warn_of_other_head, warn_of_quantization,
    warn_of_unused_layers,
};
use super::labelled::say_beyond_limit;
use super::programs::Programs;
use super::progress::Progress;
use super::ranks as agreement;
use super::stop::{self, Stop};
use super::{named, outputs, say, set_threads, show, submission, warn};
use crate::cli::TrainCommand;
use crate::data::{BatchLimits, Order, Sampler};
use crate::error::{OfAllRanks, UsageError};
use crate::files::write_bytes_atomic;
use crate::formats::delta::DeltaInfo;
use crate::formats::run_state::Checkpoint;
use crate::formats::sentence::Makers;
use crate::methods::Trains;
use crate::model::Model;
use crate::model::config::Family;
use crate::model::load::{NEW_POOLER, TaskSpec, init_head, load};
use crate::model::params::{Param, ParamKind};
use crate::program::PoolKind;
use crate::ranks::Ranks;
use crate::rss;
use crate::session::{OpenOptions, Session, open};
use crate::settings::choice::{PoolerInit, Pooling};
use crate::settings::metric::Metric;
use crate::settings::no_answer::NoAnswer;
use crate::settings::rate::Rate;
use crate::settings::train::TrainConfig;
use crate::tasks::class_weights;
use crate::tasks::remarks::{in_order, same_answer};
use crate::train::evaluate::Dev;
use crate::train::output::OutputFolder;
use crate::train::run::{End, Run, Writer};
use crate::train::schedule::Schedule;
use crate::train::steps::Steps;
use crate::train::trial::Trial;
use crate::words::count;
use anyhow::{Context, Result, bail};
use data::Data;
use keep::{Kept, delta_info, is_kept, keep};
use saved::checkpoint;
use serde_json::json;
use std::path::Path;
use std::rc::Rc;
use summary::Summary;

pub fn run(command: TrainCommand, ranks: &Rc<dyn Ranks>) -> Result<()> {
    let TrainCommand { config, resume, predict_test, quiet } = command;
    set_threads(config.threads, &**ranks)?;
    let of = ranks.share().of;
    if config.batch_size < of {
        return Err(UsageError::new(format!(
            "--batch-size {}: {of} ranks share each batch, and some would have nothing to do; give at least {of}",
            config.batch_size
        ))
        .into());
    }
    outputs::no_input_folder(&config.output, &[Path::new(&config.model)])?;
    if let Some(folder) = &predict_test {
        submission::possible(&config, folder)?;
    }
    let stop = stop::when_asked()?;
    let output = match (ranks.first(), resume) {
        (false, _) => None,
        (true, true) => Some(OutputFolder::for_resumed_run(&config.output)?),
        (true, false) => {
            let leaves = config.method.facts().leaves;
            Some(OutputFolder::for_new_run(&config.output, leaves)?)
        }
    };
    if let Some(output) = &output {
        stop.undo_before_steps(output.undo());
    }
    let result = train(&config, output.as_ref(), &stop, resume, quiet, ranks);
    if let (Some(output), Err(_)) = (output, &result) {
        output.remove_if_unused();
    }
    result?;
    match predict_test {
        // One process is enough.
        Some(folder) if ranks.first() => submission::after_training(&config, &folder, quiet),
        _ => Ok(()),
    }
}

fn train(
    config: &TrainConfig,
    output: Option<&OutputFolder>,
    stop: &Stop,
    resume: bool,
    quiet: bool,
    ranks: &Rc<dyn Ranks>,
) -> Result<()> {
    if ranks.several() {
        let (described, threads) = (agreement::describe(&**ranks)?, rayon::current_num_threads());
        let threads = count(threads, "thread");
        say(quiet, format_args!("{described}; {threads} each, and each its share of every batch"));
    }
    named::say_recipe(config, quiet);
    let base = Base::open(&config.model, quiet)?;
    let tokenizer = base.tokenizer(config.max_length(base.config.max_len()), quiet)?;
    let data = Data::read(config, &tokenizer, quiet)?;
    // What was asked for stays in what the run leaves behind: it is resumed and compared by that.
    let asked = config;
    let config =
        &TrainConfig { metric: Some(chosen_metric(asked, &data, quiet)?), ..asked.clone() };

    let spec = task_spec(config, &base, &data)?;
    if let (Some(classes), false) = (data.targets.named(), spec.class_weights.is_empty()) {
        let table = class_weights::table(classes, data.train.labels(), &spec.class_weights);
        say(quiet, format_args!("class weights:\n{}", table.trim_end()));
    }
    let mut backend = open(OpenOptions {
        device: config.device,
        here: ranks.here(),
        precision: config.precision,
        weights: config.weights.into(),
        matrices_train: config.method.trains_matrices(),
    })?;
    say(quiet, format_args!("device: {}", backend.describe()));
    let mut model = load(&base.folder, &base.config, &spec, &mut *backend)?;
    base.unchanged()?;
    say_head(config, &base, &model, quiet)?;
    say_added(&spec.trains, &model, quiet);
    warn_of_unused_layers(&base);
    warn_of_adapter(&base);
    warn_of_quantization(&base);
    if let Some(path) = &config.init_head {
        warn_of_other_head(path, config.task.kind(), spec.pooling);
        let rows = rows_of_head(path, &base, &data.targets, quiet);
        init_head(&mut model, path, rows.as_deref()).context("--init-head")?;
    } else {
        say_unused_head(&base, &model, quiet);
    }

    if let Some(path) = &config.init_delta {
        start::with_delta(path, &base, &mut model, quiet)?;
    }

    let order = match config.no_shuffle {
        true => Order::File,
        false => Order::Shuffled { seed: config.seed },
    };
    if config.no_shuffle && in_order(data.train.labels(), data.targets.outputs()) {
        warn(
            "--no-shuffle: the rows to train on stand in the order of their labels, so that a batch has little but one label and \
             the last is learned best: shuffle the file, or leave the option out",
        );
    }
    let limits = BatchLimits { sequences: config.batch_size, tokens: config.batch_tokens };
    say_beyond_limit(quiet, &data.train.dataset.lengths(), limits.tokens);
    let sampler = Sampler::new(data.train.dataset.lengths(), limits, order)?;
    let mut steps = Steps::new(&sampler, config.length, config.grad_accumulation)?;
    steps.take(ranks.share());
    let dev_lengths: Vec<_> = data.dev.iter().map(|(_, rows)| rows.dataset.lengths()).collect();
    let device = backend.kind();
    let programs =
        Programs::plan(&model, (device, ranks.share().of), &mut steps, config, &dev_lengths)?;
    let mut session = Session::new(model, backend).among(Rc::clone(ranks));
    let predict = programs.dev.as_ref().map(|(_, program)| program.clone());
    session.allocate(Some(programs.train.clone()), predict)?;
    say(quiet, programs.summary(session.allocated()));

    let precision = config.precision.on(device)?;
    let info = delta_info(asked, &base, &tokenizer, spec.pooling, &data)?;
    let identity = |asked: &TrainConfig| identity::of_run(asked, precision, &base, &info, &data);
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
            let mut progress = Progress::new(trial.steps(steps.total), 0, quiet);
            let found = trial.choose(&mut steps, &mut progress)?;
            progress.finish();
            say(quiet, format_args!("--lr auto: {}\n{}", found.said(), rate::table(&found)));
            found.at_the_edge().iter().for_each(|text| say(quiet, text));
            choice.insert(found).chosen
        }
    };
    let asked = &TrainConfig { lr: Rate::Is(lr), ..asked.clone() };
    let info = DeltaInfo { settings: asked.without_places(), ..info.clone() };
    let fingerprint = identity(asked)?;
    let keep = |session: &Session, chosen: Option<NoAnswer>| {
        let info = DeltaInfo { no_answer: chosen.or(info.no_answer), ..info.clone() };
        let kept = Kept { base: &base, tokenizer: &tokenizer, info, quiet };
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
            say(quiet, format_args!("going on after step {} of {}", from.step, steps.total));
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
        bail!(OfAllRanks::new(format!(
            "stopped after step {} of {}, as asked; everything is saved: go on with `bitfit train --resume --output {}`",
            outcome.step,
            steps.total,
            config.output.display()
        )));
    }
    let Some(output) = output else {
        return Ok(());
    };
    if outcome.last.iter().any(|evaluation| evaluation.one_answer) {
        warn(format_args!("in the last evaluation {}", same_answer(config.task.kind())));
    }
    let summary = Summary {
        config,
        targets: &data.targets,
        model: session.model(),
        base: &base,
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
    };
    let best = summary.best()?;
    write_bytes_atomic(&output.result(), format!("{:#}\n", summary.json(&best)).as_bytes())?;
    show(summary.table(&best))?;
    summary.details(&best)?;
    summary.doubts(&best).iter().for_each(warn);
    Ok(())
}

/// What chooses the best state. Of some tasks only the labels say what can be measured.
fn chosen_metric(config: &TrainConfig, data: &Data, quiet: bool) -> Result<Metric> {
    let metric = config.metric();
    let dev = data.dev.first().map(|(_, dev)| dev);
    let measures = data.targets.measures(config.task.kind(), dev);
    if config.task.named().is_some() || metric == Metric::Loss || measures.contains(&metric) {
        return Ok(metric);
    }
    if config.metric.is_some() {
        let names: Vec<_> = measures.iter().map(|metric| metric.name()).collect();
        bail!("--metric {metric}: these labels have none; use {}, loss", names.join(", "));
    }
    say(
        quiet,
        format_args!("these labels have no {metric}: {} chooses the best state", measures[0]),
    );
    Ok(measures[0])
}

fn task_spec(config: &TrainConfig, base: &Base, data: &Data) -> Result<TaskSpec> {
    Ok(TaskSpec {
        outputs: data.targets.outputs(),
        class_weights: match (&config.class_weights, data.targets.named()) {
            (Some(weighting), Some(classes)) => {
                class_weights::class_weights(weighting, classes, data.train.labels())?
            }
            _ => Vec::new(),
        },
        pooling: match config.task.kind().facts().each_token {
            true => config.pooling_of_tokens(),
            false => base.pooling(config.pooling)?,
        },
        reinit_pooler: config.pooler == PoolerInit::Reinit,
        loss: config.task.kind().facts().loss,
        trains: Trains::of(config.method, &config.biases, config.lora.as_ref()),
        dropout: config.dropout.map(|p| p as f32),
        seed: config.seed,
    })
}

/// Says how much the checkpoint lacks: that it is not damaged is for the user to know.
fn say_added(trains: &Trains, model: &Model, quiet: bool) {
    if let Trains::Added(_) = trains {
        let added = model.params.trained().filter(|p| matches!(p.kind, ParamKind::Bias(_)));
        let (layers, values) = added.fold((0, 0), |(n, all), p| (n + 1, all + p.range.len));
        let layers = count(layers, "linear layer");
        say(
            quiet,
            format_args!("{layers} without a bias: {} are added", count(values, "bias value")),
        );
    }
    if let Some(biases) = trains.counted() {
        let values: usize = model.chosen.values().map(Vec::len).sum();
        let about = if trains.in_vectors() { "as many as" } else { "about as many as" };
        say(
            quiet,
            format_args!(
                "{} of {} of the encoder train, {about} --biases {biases} has",
                count(values, "value"),
                count(model.chosen.len(), "tensor"),
            ),
        );
    }
}

/// Says which head is put on the encoder, and why.
fn say_head(config: &TrainConfig, base: &Base, model: &Model, quiet: bool) -> Result<()> {
    let makers = match config.pooling {
        Pooling::Auto => Some(Makers::of(&base.folder)?),
        _ => None,
    };
    let why = match makers {
        Some(_) => ", as the checkpoint's makers do",
        None => "",
    };
    let pooling = model.head.pool;
    let vector = match pooling {
        PoolKind::Mean => "the mean over all tokens",
        PoolKind::Cls => "the first token",
        // Nothing is pooled.
        PoolKind::Each | PoolKind::Labelled(_) => return Ok(()),
    };
    say(quiet, format_args!("pooling: {vector}{why}"));
    let new = |p: &Param| p.name == NEW_POOLER && p.kind == ParamKind::Head;
    let new_pooler = model.params.list().iter().any(new);
    if let Some(Makers::Pool { besides, .. }) = makers {
        if pooling == PoolKind::Cls && base.config.family == Family::Bert && !new_pooler {
            say(
                quiet,
                "the makers take the first token as it is; here it goes through the checkpoint's pooler, which they may \
                 never have trained (--pooler reinit draws a new one)",
            );
        }
        besides.iter().for_each(|note| say(quiet, note));
    }
    if new_pooler {
        let drawn = match config.pooler {
            PoolerInit::Reinit => "the pooler is drawn anew, as asked",
            _ => "the checkpoint has no pooler: a new one is drawn",
        };
        say(quiet, format_args!("{drawn}, and trains with the head"));
    }
    Ok(())
}
