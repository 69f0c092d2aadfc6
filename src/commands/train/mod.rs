//! `bitfit train`: reads and checks everything, plans memory, trains, and shows what came of it.

mod data;
mod keep;
mod summary;

use super::base::Base;
use super::heads::{rows_of_head, say_unused_head, warn_of_unused_layers};
use super::programs::Programs;
use super::progress::Progress;
use super::{outputs, say, set_threads, show, stop, warn};
use crate::cli::TrainCommand;
use crate::data::{BatchLimits, Order, Sampler};
use crate::files::{sha256_file, write_bytes_atomic};
use crate::formats::delta::DeltaInfo;
use crate::formats::fingerprint::Fingerprint;
use crate::formats::run_state::Checkpoint;
use crate::formats::sentence::Makers;
use crate::methods::Trains;
use crate::model::Model;
use crate::model::config::Family;
use crate::model::load::{NEW_POOLER, TaskSpec, init_head, load};
use crate::model::params::{Param, ParamKind};
use crate::program::PoolKind;
use crate::rss;
use crate::session::{OpenOptions, Session, open};
use crate::settings::choice::{PoolerInit, Pooling};
use crate::settings::train::TrainConfig;
use crate::tasks::class_weights::class_weights;
use crate::tasks::targets::Targets;
use crate::train::output::OutputFolder;
use crate::train::run::{Dev, End, Run};
use crate::train::schedule::Schedule;
use crate::train::steps::Steps;
use anyhow::{Context, Result, bail};
use data::Data;
use keep::{delta_info, keep};
use serde_json::json;
use std::path::Path;
use summary::Summary;

pub fn run(command: TrainCommand) -> Result<()> {
    let TrainCommand { config, resume, quiet } = command;
    set_threads(config.threads)?;
    outputs::no_input_folder(&config.output, &[Path::new(&config.model)])?;
    let output = if resume {
        OutputFolder::for_resumed_run(&config.output)?
    } else {
        OutputFolder::for_new_run(&config.output)?
    };
    let result = train(&config, &output, resume, quiet);
    if result.is_err() {
        output.remove_if_unused();
    }
    result
}

fn train(config: &TrainConfig, output: &OutputFolder, resume: bool, quiet: bool) -> Result<()> {
    let base = Base::open(&config.model, quiet)?;
    let tokenizer = base.tokenizer(config.max_length, quiet)?;
    let data = Data::read(config, &tokenizer, quiet)?;

    let spec = task_spec(config, &base, &data)?;
    let mut backend = open(OpenOptions {
        device: config.device,
        half: config.precision.into(),
        weights: config.weights.into(),
    })?;
    say(quiet, format_args!("device: {}", backend.describe()));
    let mut model = load(&base.folder, &base.config, &spec, &mut *backend)?;
    base.unchanged()?;
    say_head(config, &base, &model, quiet)?;
    warn_of_unused_layers(&base);
    if let Some(path) = &config.init_head {
        let rows = rows_of_head(path, &base, &data.targets, quiet);
        init_head(&mut model, path, rows.as_deref()).context("--init-head")?;
    } else {
        say_unused_head(&base, &model, quiet);
    }

    let order = match config.no_shuffle {
        true => Order::File,
        false => Order::Shuffled { seed: config.seed },
    };
    let limits = BatchLimits { sequences: config.batch_size, tokens: config.batch_tokens };
    let sampler = Sampler::new(data.train.dataset.lengths(), limits, order)?;
    let mut steps = Steps::new(&sampler, config.length, config.grad_accumulation);
    let dev_lengths = data.dev.as_ref().map(|dev| dev.dataset.lengths());
    let device = backend.kind();
    let programs = Programs::plan(&model, device, &mut steps, config, dev_lengths.as_deref())?;
    let mut session = Session::new(model, backend);
    let predict = programs.dev.as_ref().map(|(_, program)| program.clone());
    session.allocate(Some(programs.train.clone()), predict)?;
    say(quiet, programs.summary(session.allocated()));

    let fingerprint = fingerprint(config, &base, &data)?;
    let info = delta_info(config, &base, spec.pooling, &data);
    let keep = |session: &Session, chosen: Option<&Targets>| {
        let no_answer = chosen.unwrap_or(&data.targets).no_answer();
        let info = DeltaInfo { no_answer, ..info.clone() };
        keep(output, &base, &info, session, quiet)
    };
    let stop = stop::when_asked()?;
    let mut run = Run {
        session: &mut session,
        config,
        train: &data.train.dataset,
        dev: match (&data.dev, &programs.dev) {
            (Some(prepared), Some((batches, _))) => {
                Some(Dev { targets: &data.targets, prepared, batches })
            }
            _ => None,
        },
        output,
        fingerprint: &fingerprint,
        keep: &keep,
        stop: &stop,
    };

    let checkpoint = output.checkpoint();
    let from = if resume && checkpoint.exists() {
        let trainable = run.session.model().params.trainable();
        let (from, vectors) = Checkpoint::load(&checkpoint, &fingerprint, trainable)?;
        run.restore(&from, &vectors)?;
        say(quiet, format_args!("going on after step {} of {}", from.step, steps.total));
        from
    } else {
        if resume {
            say(quiet, "no checkpoint yet: starting from the beginning");
        }
        Checkpoint::default()
    };
    if let Some(text) = Schedule::of(config, steps.total).never_reached() {
        warn(text);
    }
    write_bytes_atomic(&output.settings(), config.to_toml()?.as_bytes())?;
    let mut progress = Progress::new(steps.total, from.step, quiet);
    let outcome = run.train(&mut steps, from, &mut progress)?;
    progress.finish();

    if outcome.end == End::Interrupted {
        bail!(
            "stopped after step {} of {}, as asked; everything is saved: go on with `bitfit train --resume \
             --output {}`",
            outcome.step,
            steps.total,
            output.path().display()
        );
    }
    let summary = Summary {
        config,
        model: session.model(),
        base: &base,
        output,
        outcome: &outcome,
        memory: json!({
            "planned": programs.planned.total(),
            "allocated": session.allocated().total(),
            "saved_per_token": programs.saved_per_token(),
            "peak_rss": rss::peak(),
        }),
    };
    write_bytes_atomic(&output.result(), format!("{:#}\n", summary.json()).as_bytes())?;
    show(summary.table())
}

fn task_spec(config: &TrainConfig, base: &Base, data: &Data) -> Result<TaskSpec> {
    Ok(TaskSpec {
        outputs: data.targets.outputs(),
        class_weights: match (&config.class_weights, data.targets.named()) {
            (Some(weighting), Some(classes)) => {
                class_weights(weighting, classes, data.train.labels())?
            }
            _ => Vec::new(),
        },
        pooling: match config.task.facts().each_token {
            true => PoolKind::Each,
            false => base.pooling(config.pooling)?,
        },
        reinit_pooler: config.pooler == PoolerInit::Reinit,
        loss: config.task.facts().loss,
        trains: Trains::of(config.method, &config.biases),
        dropout: config.dropout.map(|p| p as f32),
        seed: config.seed,
    })
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
        PoolKind::Each => return Ok(()),
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

fn fingerprint(config: &TrainConfig, base: &Base, data: &Data) -> Result<Fingerprint> {
    let mut fingerprint = Fingerprint::of(config)?
        .with("base weights", &base.sha256)
        .with("training data", &data.train_sha256);
    if let Some(sha256) = &data.dev_sha256 {
        fingerprint = fingerprint.with("dev data", sha256);
    }
    if let Some(path) = &config.init_head {
        fingerprint = fingerprint.with("initial head", &sha256_file(path)?);
    }
    Ok(fingerprint)
}
