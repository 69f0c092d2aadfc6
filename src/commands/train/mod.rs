//! `bitfit train`: reads and checks everything, plans memory, trains, and shows what came of it.

mod data;
mod keep;
mod summary;

use super::base::Base;
use super::programs::Programs;
use super::progress::Progress;
use super::{say, set_threads, show};
use crate::backend::DeviceKind;
use crate::backend::cpu::Arithmetic;
use crate::cli::TrainCommand;
use crate::data::{BatchLimits, Dataset, Order, Sampler};
use crate::error::UsageError;
use crate::files::{sha256_file, write_bytes_atomic};
use crate::formats::fingerprint::Fingerprint;
use crate::formats::run_state::Checkpoint;
use crate::methods::Trains;
use crate::model::Model;
use crate::model::load::{NEW_POOLER, TaskSpec, init_head, load};
use crate::model::params::{Param, ParamKind};
use crate::program::PoolKind;
use crate::rss;
use crate::session::{OpenOptions, Session, open};
use crate::settings::choice::{PoolerInit, Pooling};
use crate::settings::train::TrainConfig;
use crate::tasks::labels::Targets;
use crate::train::output::OutputFolder;
use crate::train::run::{Dev, End, Run};
use crate::train::steps::Steps;
use anyhow::{Context, Result, bail};
use data::Data;
use keep::{delta_info, keep};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use summary::Summary;

pub fn run(command: TrainCommand) -> Result<()> {
    let TrainCommand { config, resume, quiet } = command;
    set_threads(config.threads)?;
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
    let tokenizer = base.tokenizer(config.max_length)?;
    let data = Data::read(config, &tokenizer, quiet)?;

    let spec = task_spec(config, &base, &data.targets)?;
    let mut backend = open(OpenOptions {
        device: config.device,
        precision: config.precision,
        weights: config.weights.into(),
    })?;
    let in_bf16 = matches!(backend.kind(), DeviceKind::Cpu { arithmetic: Arithmetic::Bf16, .. });
    if in_bf16 && !config.method.facts().freezes_weights {
        let method = config.method;
        let problem =
            format!("--precision bf16: on a CPU --method {method} trains in f32; leave it out");
        return Err(UsageError::new(problem).into());
    }
    say(quiet, format_args!("device: {}", backend.describe()));
    let mut model = load(&base.folder, &base.config, &spec, &mut *backend)?;
    say_head(config, spec.pooling, &model, quiet);
    if let Some(path) = &config.init_head {
        init_head(&mut model, path).context("--init-head")?;
    }

    let order = match config.no_shuffle {
        true => Order::File,
        false => Order::Shuffled { seed: config.seed },
    };
    let limits = BatchLimits { sequences: config.batch_size, tokens: config.batch_tokens };
    let sampler = Sampler::new(data.train.lengths(), limits, order)?;
    let mut steps = Steps::new(&sampler, config.length, config.grad_accumulation);
    let dev_lengths = data.dev.as_ref().map(Dataset::lengths);
    let device = backend.kind();
    let programs = Programs::plan(&model, device, &mut steps, config, dev_lengths.as_deref())?;
    let mut session = Session::new(model, backend);
    let predict = programs.dev.as_ref().map(|(_, program)| program.clone());
    session.allocate(Some(programs.train.clone()), predict)?;
    say(quiet, programs.summary(session.allocated()));

    let mut fingerprint = fingerprint(config, &base, &data)?;
    if in_bf16 {
        // Runs from before a CPU had it recorded "bf16", too, and computed in f32.
        fingerprint = fingerprint.with("arithmetic on the CPU", "bf16");
    }
    let info = delta_info(config, &base, spec.pooling, &data.targets);
    let keep = |session: &Session| keep(output, &base, &info, session);
    let stop = stop_on_ctrl_c()?;
    let mut run = Run {
        session: &mut session,
        config,
        train: &data.train,
        dev: match (&data.dev, &programs.dev) {
            (Some(dataset), Some((batches, _))) => Some(Dev { dataset, batches }),
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

fn task_spec(config: &TrainConfig, base: &Base, targets: &Targets) -> Result<TaskSpec> {
    Ok(TaskSpec {
        outputs: match targets {
            Targets::Classes(classes) => classes.names().len(),
            Targets::Values | Targets::None => 1,
        },
        pooling: base.pooling(config.pooling)?,
        reinit_pooler: config.pooler == PoolerInit::Reinit,
        loss: config.task.loss(),
        trains: Trains::of(config.method, &config.biases),
        dropout: config.dropout.map(|p| p as f32),
        seed: config.seed,
    })
}

/// Says which head is put on the encoder, and why.
fn say_head(config: &TrainConfig, pooling: PoolKind, model: &Model, quiet: bool) {
    let why = match config.pooling {
        Pooling::Auto => ", as the checkpoint's makers do",
        _ => "",
    };
    let vector = match pooling {
        PoolKind::Mean => "the mean over all tokens",
        PoolKind::Cls => "the first token",
    };
    say(quiet, format_args!("pooling: {vector}{why}"));
    let new = |p: &Param| p.name == NEW_POOLER && p.kind == ParamKind::Head;
    if model.params.list().iter().any(new) {
        let drawn = match config.pooler {
            PoolerInit::Reinit => "the pooler is drawn anew, as asked",
            _ => "the checkpoint has no pooler: a new one is drawn",
        };
        say(quiet, format_args!("{drawn}, and trains with the head"));
    }
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

/// The first Ctrl-C asks the run to stop after its step; the second ends the process at once.
fn stop_on_ctrl_c() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("\nstopping after this step; press Ctrl-C again to stop at once");
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(stop)
}
