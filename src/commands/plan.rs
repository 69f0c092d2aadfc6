//! `bitfit plan`: what training would take, part by part, from `config.json` alone.

use super::{max_len, show, trained::weight_type};
use crate::backend::any::{AnyBackend, DeviceChoice};
use crate::backend::{DeviceKind, Footprint, Limits, PoolKind, WeightType};
use crate::biases::BiasSelection;
use crate::cli::PlanArgs;
use crate::error::UsageError;
use crate::hub;
use crate::model::config::ModelConfig;
use crate::model::fit::{Budget, Fit, TooSmall};
use crate::model::load::{TaskSpec, checkpoint_pooling, outline};
use crate::model::saving::Saving;
use crate::model::{Model, Program};
use crate::table::{TextTable, grouped};
use crate::train::config::{Pooling, SavingChoice};
use anyhow::Result;
use std::collections::BTreeMap;

pub fn run(args: &PlanArgs) -> Result<()> {
    let folder = hub::resolve(&args.model, true)?;
    let config = ModelConfig::read(&folder)?;
    let longest = max_len(args.max_length, config.max_len())?;
    let tokens = args
        .batch_tokens
        .unwrap_or(usize::MAX)
        .min(args.batch_size.saturating_mul(longest))
        .max(longest);
    let limits = Limits {
        tokens,
        sequences: args.batch_size,
        max_len: longest,
    };
    let spec = TaskSpec {
        outputs: args.outputs,
        pooling: match args.pooling {
            Pooling::Auto => checkpoint_pooling(&folder)?,
            Pooling::Cls => PoolKind::Cls,
            Pooling::Mean => PoolKind::Mean,
        },
        reinit_pooler: false,
        biases: BiasSelection::all(),
        dropout: dropout(args.dropout)?,
        seed: 0,
    };
    let plan = Plan {
        device: device(args),
        limits,
        memory: args.memory.map(|size| size.0),
        bitfit: outline(&config, &spec, false)?,
    };
    let saving = plan.saving(args.saving)?;
    let (device, weights) = match plan.device {
        DeviceKind::Cpu { .. } => ("CPU, f32 activations", args.weights.to_string()),
        DeviceKind::Cuda { weights } => {
            let stored = match weights {
                WeightType::F16 | WeightType::F32 => "16 bits".to_owned(),
                WeightType::Int8 | WeightType::Nf4 => args.weights.to_string(),
            };
            ("GPU, 16-bit activations", stored)
        }
    };
    show(format_args!(
        "{}: {} layers × {}; up to {} texts and {} tokens a batch, {} a text; {device}; weights {weights}; saving \
         {saving}; bytes\n\n",
        args.model,
        config.layers,
        config.hidden,
        grouped(limits.sequences),
        grouped(limits.tokens),
        grouped(longest),
    ))?;

    let of = |biases: BiasSelection| {
        let spec = TaskSpec {
            biases,
            ..spec.clone()
        };
        outline(&config, &spec, false)
    };
    let mut columns = vec![("bitfit".to_owned(), plan.bitfit.clone(), saving)];
    if let Some(biases) = &args.biases {
        columns.push((format!("biases {biases}"), of(biases.clone())?, saving));
    }
    columns.push(("head".to_owned(), of(BiasSelection::none())?, saving));
    columns.push((
        "full".to_owned(),
        outline(&config, &spec, true)?,
        Saving::KEEP,
    ));
    plan.show_parts(&columns)?;
    plan.show_saved(saving)?;
    plan.show_savings()
}

fn dropout(p: Option<f64>) -> Result<Option<f32>, UsageError> {
    match p {
        Some(p) if !(0.0..1.0).contains(&p) => Err(UsageError::new(format!(
            "--dropout must be from 0 to below 1, got {p}"
        ))),
        _ => Ok(p.map(|p| p as f32)),
    }
}

fn device(args: &PlanArgs) -> DeviceKind {
    let weights = weight_type(args.weights);
    let cuda = match args.device {
        DeviceChoice::Cuda(_) => true,
        DeviceChoice::Cpu => false,
        DeviceChoice::Auto => AnyBackend::gpu_is_there(),
    };
    if cuda {
        return DeviceKind::Cuda { weights };
    }
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    DeviceKind::Cpu {
        weights,
        threads: args.threads.unwrap_or_else(cores),
    }
}

/// What is planned.
struct Plan {
    device: DeviceKind,
    limits: Limits,
    memory: Option<usize>,
    /// All biases train.
    bitfit: Model,
}

impl Plan {
    fn budget<'a>(&self, model: &'a Model) -> Budget<'a> {
        Budget {
            model,
            device: self.device,
        }
    }

    /// The way of saving that the tables show.
    fn saving(&self, choice: SavingChoice) -> Result<Saving> {
        match (choice, self.memory) {
            (SavingChoice::Only(saving), _) => Ok(saving),
            (SavingChoice::Auto, None) => Ok(Saving::KEEP),
            (SavingChoice::Auto, Some(memory)) => {
                let budget = self.budget(&self.bitfit);
                let fit = budget.choose(self.limits, memory, &Saving::EXACT);
                Ok(match fit {
                    Ok(fit) | Err(TooSmall(fit)) => fit.saving,
                })
            }
        }
    }

    /// The parts of each method, and the largest batch that fits.
    fn show_parts(&self, columns: &[(String, Model, Saving)]) -> Result<()> {
        let heading = columns.iter().map(|(name, ..)| name.clone());
        let mut table = TextTable::new(std::iter::once("part".to_owned()).chain(heading));
        let parts: Vec<Parts> = columns
            .iter()
            .map(|(_, model, saving)| {
                let budget = self.budget(model);
                let program = budget.program(self.limits, Some(*saving));
                Parts::new(&program, budget.footprint(&program))
            })
            .collect();
        let mut row = |name: &str, of: fn(&Parts) -> usize| {
            let cells = parts.iter().map(|parts| grouped(of(parts)));
            table.row(std::iter::once(name.to_owned()).chain(cells));
        };
        row("frozen weights", |p| p.footprint.weights);
        row("parameters, gradients, moments", |p| p.footprint.params);
        row("kept for backward", |p| p.saved);
        row("passing tensors", |p| p.transient);
        row("head and logits", |p| p.head);
        row("batch", |p| p.footprint.batch);
        row("workspace", |p| p.footprint.workspace);
        table.rule();
        let total = parts.iter().map(|p| grouped(p.footprint.total()));
        table.row(std::iter::once("peak".to_owned()).chain(total));
        let trained = columns
            .iter()
            .map(|(_, model, _)| grouped(model.params.trainable()));
        table.row(std::iter::once("trained values".to_owned()).chain(trained));
        if let Some(memory) = self.memory {
            let cells = columns
                .iter()
                .map(|(_, model, saving)| self.largest(model, memory, *saving));
            let name = format!("largest batch in {}, texts", grouped(memory));
            table.row(std::iter::once(name).chain(cells));
        }
        show(format_args!("{table}\n"))
    }

    /// The most texts of the longest length that fit, up to a million.
    fn largest(&self, model: &Model, memory: usize, saving: Saving) -> String {
        let budget = self.budget(model);
        let fits = |texts: usize| {
            let limits = Limits {
                tokens: texts * self.limits.max_len,
                sequences: texts,
                max_len: self.limits.max_len,
            };
            let program = budget.program(limits, Some(saving));
            budget.footprint(&program).total() <= memory
        };
        if !fits(1) {
            return "none".to_owned();
        }
        let (mut most, mut too_many) = (1usize, 1_000_000);
        while most + 1 < too_many {
            let middle = most.midpoint(too_many);
            if fits(middle) {
                most = middle;
            } else {
                too_many = middle;
            }
        }
        grouped(most)
    }

    /// What `bitfit` keeps for backward, by tensor and layer.
    fn show_saved(&self, saving: Saving) -> Result<()> {
        let program = self.budget(&self.bitfit).program(self.limits, Some(saving));
        // By tensor: the bytes in each layer, in the order in which tensors come.
        let mut order = Vec::new();
        let mut tensors: BTreeMap<String, BTreeMap<usize, usize>> = BTreeMap::new();
        for tensor in program.saved() {
            let Some((layer, name)) = layer_and_name(&tensor.name) else {
                continue;
            };
            if !tensors.contains_key(name) {
                order.push(name.to_owned());
            }
            let layers = tensors.entry(name.to_owned()).or_default();
            *layers.entry(layer).or_default() += tensor.region.len;
        }
        let mut table = TextTable::new(["kept by bitfit", "layers", "each", "together"]);
        for name in &order {
            let layers: Vec<_> = tensors[name]
                .iter()
                .map(|(&l, &bytes)| (l, bytes))
                .collect();
            for run in layers.chunk_by(|a, b| a.0 + 1 == b.0 && a.1 == b.1) {
                let (first, bytes) = run[0];
                let last = run[run.len() - 1].0;
                let which = match first == last {
                    true => first.to_string(),
                    false => format!("{first}–{last}"),
                };
                table.row([
                    name.clone(),
                    which,
                    grouped(bytes),
                    grouped(bytes * run.len()),
                ]);
            }
        }
        show(format_args!("{table}\n"))
    }

    /// `bitfit` in each way of saving.
    fn show_savings(&self) -> Result<()> {
        let mut heading = vec!["saving", "kept a token and layer", "kept", "peak"];
        if self.memory.is_some() {
            heading.push("largest batch");
        }
        let mut table = TextTable::new(heading);
        let lossy = [
            "gelu8",
            "gelu4",
            "xhat8",
            "gelu8,xhat8",
            "gelu4,xhat8",
            "recompute-qkv,gelu8",
            "recompute-qkv,gelu4",
        ];
        let lossy = lossy.iter().filter_map(|text| text.parse::<Saving>().ok());
        let savings = Saving::EXACT.into_iter().chain(lossy);
        for saving in savings {
            let budget = self.budget(&self.bitfit);
            let program = budget.program(self.limits, Some(saving));
            let parts = Parts::new(&program, budget.footprint(&program));
            let slots = self.limits.tokens * self.bitfit.config.layers;
            let mut row = vec![
                saving.to_string(),
                grouped(parts.saved.div_ceil(slots.max(1))),
                grouped(parts.saved),
                grouped(parts.footprint.total()),
            ];
            if let Some(memory) = self.memory {
                row.push(self.largest(&self.bitfit, memory, saving));
            }
            table.row(row);
        }
        show(&table)?;
        let Some(memory) = self.memory else {
            return Ok(());
        };
        let choice = self
            .budget(&self.bitfit)
            .choose(self.limits, memory, &Saving::EXACT);
        let said = |fit: Fit| {
            format!(
                "--saving {} and micro-batches of up to {} tokens: {} bytes",
                fit.saving,
                grouped(fit.tokens),
                grouped(fit.footprint.total())
            )
        };
        match choice {
            Ok(fit) => show(format_args!(
                "\n`train --memory` would take {}\n",
                said(fit)
            )),
            Err(TooSmall(fit)) => show(format_args!(
                "\nnothing fits {}; the smallest that runs is {}\n",
                grouped(memory),
                said(fit)
            )),
        }
    }
}

/// `layer.3.qkv` is `(3, "qkv")`.
fn layer_and_name(name: &str) -> Option<(usize, &str)> {
    let (layer, name) = name.strip_prefix("layer.")?.split_once('.')?;
    Some((layer.parse().ok()?, name))
}

/// A footprint whose arena is taken apart.
struct Parts {
    footprint: Footprint,
    saved: usize,
    transient: usize,
    head: usize,
}

impl Parts {
    fn new(program: &Program, footprint: Footprint) -> Self {
        let layers = program
            .saved()
            .filter(|tensor| layer_and_name(&tensor.name).is_some());
        let saved = layers.map(|tensor| tensor.region.len).sum();
        let head = program.head_bytes();
        Self {
            footprint,
            saved,
            transient: footprint.arena - saved - head,
            head,
        }
    }
}
