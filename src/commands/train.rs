//! `bitfit train`: reads and checks everything, plans memory, trains, and shows what came of it.

use super::base::{Base, say_counts};
use super::counter::Counter;
use super::model_folder::write_full;
use super::programs::Programs;
use super::progress::Progress;
use super::{format, say, set_threads, show};
use crate::cli::TrainCommand;
use crate::data::{
    self, BatchLimits, ColumnNames, Dataset, LabelUse, Order, ReadOptions, Sampler, Table,
    TextTokenizer,
};
use crate::files::{sha256_file, write_bytes_atomic};
use crate::formats::container::Tensor;
use crate::formats::delta::{Delta, DeltaInfo};
use crate::formats::fingerprint::Fingerprint;
use crate::formats::run_state::Checkpoint;
use crate::methods::Trains;
use crate::model::Model;
use crate::model::load::{NEW_POOLER, TaskSpec, init_head, load};
use crate::model::params::{Param, ParamKind};
use crate::program::PoolKind;
use crate::rss;
use crate::session::{OpenOptions, Session, open};
use crate::settings::choice::{Method, PoolerInit, Pooling, Task};
use crate::settings::train::{DevSource, TrainConfig};
use crate::table::{TextTable, grouped};
use crate::tasks::labels::{ClassNames, Targets};
use crate::train::output::{MODEL_FILE, OutputFolder};
use crate::train::run::{Dev, End, Outcome, Run};
use crate::train::steps::Steps;
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
        half: config.precision.into(),
        weights: config.weights.into(),
    })?;
    say(quiet, format_args!("device: {}", backend.describe()));
    let mut model = load(&base.folder, &base.config, &spec, &mut *backend)?;
    base.unchanged()?;
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

    let fingerprint = fingerprint(config, &base, &data)?;
    let info = delta_info(config, &base, spec.pooling, &data.targets);
    let keep = |session: &Session| match config.method {
        Method::Full => write_full(output, &base, &info, session),
        Method::Bitfit | Method::Head => {
            delta(&info, session.model(), &session.trained_values()?).write(&output.delta())
        }
    };
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

/// Tokenized training and dev rows.
struct Data {
    targets: Targets,
    train: Dataset,
    dev: Option<Dataset>,
    /// Of the rows as read, before a split.
    train_sha256: String,
    /// Where the dev rows are a file of their own.
    dev_sha256: Option<String>,
}

impl Data {
    fn read(config: &TrainConfig, tokenizer: &TextTokenizer, quiet: bool) -> Result<Self> {
        let options = ReadOptions {
            format: format(config.format),
            columns: ColumnNames {
                text: config.text_column.clone(),
                text_pair: config.text_pair_column.clone(),
                label: config.label_column.clone(),
            },
            label_use: LabelUse::Required,
        };
        let whole = Table::read(&config.train, &options)?;
        // From the whole file, so that a rare class is known whichever side of a split it is on.
        let targets = match config.task {
            Task::Classification => Targets::Classes(ClassNames::from_table(&whole)?),
            Task::Regression => Targets::Values,
        };
        let train_sha256 = whole.sha256();
        let mut dev_sha256 = None;
        let (train, dev) = match &config.dev {
            None => (whole, None),
            Some(DevSource::File(path)) => {
                let dev = Table::read(path, &options)?;
                dev_sha256 = Some(dev.sha256());
                (whole, Some(dev))
            }
            Some(DevSource::Fraction(fraction)) => {
                let split = data::split(whole.rows.len(), *fraction, config.seed)?;
                (whole.select(&split.train), Some(whole.select(&split.dev)))
            }
        };
        let tokenize = |table: &Table| {
            let labels = targets.read(table)?;
            let counter = Counter::new("tokenizing", Some(table.rows.len() as u64), quiet);
            let (dataset, counts) =
                Dataset::build(&table.rows, labels, tokenizer, &|rows| counter.add(rows))
                    .with_context(|| table.name.clone())?;
            drop(counter);
            say_counts(quiet, &table.name, counts, tokenizer.options().max_len);
            anyhow::Ok(dataset)
        };
        let train = tokenize(&train)?;
        let dev = dev.as_ref().map(tokenize).transpose()?;
        Ok(Self { targets, train, dev, train_sha256, dev_sha256 })
    }
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
        trains: Trains::of(config),
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

fn delta_info(
    config: &TrainConfig,
    base: &Base,
    pooling: PoolKind,
    targets: &Targets,
) -> DeltaInfo {
    DeltaInfo {
        base_sha256: base.sha256.clone(),
        model_type: base.config.model_type.clone(),
        task: config.task,
        labels: match targets {
            Targets::Classes(classes) => classes.names().to_vec(),
            Targets::Values | Targets::None => Vec::new(),
        },
        pooling: pooling.into(),
        method: config.method,
        biases: config.trained_biases(),
        settings: config.clone(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// The trained values by their Hugging Face names.
fn delta(info: &DeltaInfo, model: &Model, values: &[f32]) -> Delta {
    let tensors = model
        .params
        .trained()
        .map(|p| {
            let data = values[p.range.offset..p.range.offset + p.range.len].to_vec();
            (p.name.clone(), Tensor { shape: p.shape.clone(), data })
        })
        .collect();
    Delta { info: info.clone(), tensors }
}

/// The first Ctrl-C asks the run to stop after its step; the second ends the process at once.
fn stop_on_ctrl_c() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        say(false, "\nstopping after this step; press Ctrl-C again to stop at once");
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(stop)
}

/// What a finished run has to show.
struct Summary<'a> {
    config: &'a TrainConfig,
    model: &'a Model,
    base: &'a Base,
    output: &'a OutputFolder,
    outcome: &'a Outcome,
    /// In bytes.
    memory: Value,
}

impl Summary<'_> {
    /// What the run is for: its name and file.
    fn result_file(&self) -> (&'static str, PathBuf) {
        match self.config.method {
            Method::Full => ("model", self.output.path().join(MODEL_FILE)),
            Method::Bitfit | Method::Head => ("delta", self.output.delta()),
        }
    }

    fn json(&self) -> Value {
        let Outcome { end, step, last, best, tokens, seconds } = self.outcome;
        let last: Map<String, Value> =
            last.iter().map(|&(metric, value)| (metric.key().to_owned(), value.into())).collect();
        json!({
            "end": match end { End::OutOfPatience => "patience", _ => "finished" },
            "steps": step,
            "best": best.map(|(step, value)| json!({
                "step": step, "metric": self.config.metric.key(), "value": value
            })),
            "last": last,
            "trained_parameters": self.model.params.trainable(),
            "tokens": tokens,
            "seconds": seconds,
            "memory": self.memory,
        })
    }

    fn table(&self) -> TextTable {
        let Outcome { end, step, last, best, tokens, seconds } = self.outcome;
        let mut table = TextTable::new(["result", ""]);
        let mut row = |name: &str, value: String| {
            table.row([name.to_owned(), value]);
        };
        row("model", self.base.folder.display().to_string());
        row(
            "method",
            match self.config.method {
                Method::Bitfit => format!("bitfit, biases {}", self.config.biases),
                method => method.to_string(),
            },
        );
        row("trained parameters", grouped(self.model.params.trainable()));
        row(
            "steps",
            match end {
                End::OutOfPatience => {
                    format!("{step} (no better value for --patience evaluations)")
                }
                _ => step.to_string(),
            },
        );
        if let Some((step, value)) = best {
            row(&format!("best {}", self.config.metric), format!("{value:.4} at step {step}"));
        }
        for (metric, value) in last {
            row(&format!("last {metric}"), format!("{value:.4}"));
        }
        if *seconds > 0.0 {
            row(
                "training time",
                format!("{seconds:.1} s, {:.0} tokens/s", *tokens as f64 / seconds),
            );
        }
        let (what, file) = self.result_file();
        row(what, size_of_file(&file));
        table
    }
}

fn size_of_file(path: &Path) -> String {
    match std::fs::metadata(path) {
        Ok(meta) => format!("{} ({:.0} KiB)", path.display(), meta.len() as f64 / 1024.0),
        Err(_) => path.display().to_string(),
    }
}
