//! `bitfit plan`: what training would take, part by part, from `config.json` alone.

use super::base::not_mistaken;
use super::listing::{Listing, Rates};
use super::planned_head::task_spec;
use super::{fetching, max_len, show};
use crate::backend::cpu::Arithmetic;
use crate::backend::{Backend, DeviceKind, Footprint, WeightType};
use crate::cli::PlanArgs;
use crate::error::UsageError;
use crate::formats::sentence::LongestText;
use crate::methods::Trains;
use crate::model::Model;
use crate::model::config::ModelConfig;
use crate::model::fit::{Budget, Fit, TooSmall};
use crate::model::load::{TaskSpec, blank, outline};
use crate::program::{Limits, Program, Saving, Value, What};
use crate::ranks::Share;
use crate::session::{OpenOptions, gpu, open};
use crate::settings::biases::BiasSelection;
use crate::settings::choice::{Choice as _, Precision};
use crate::settings::method::{Adds, Method};
use crate::settings::saving::{SavingChoice, WAYS};
use crate::settings::task::Reads;
use crate::table::{TextTable, grouped};
use crate::words::{count, named};
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub fn run(args: &PlanArgs) -> Result<()> {
    let folder = fetching::model_folder(&args.model, true)?;
    not_mistaken(&folder)?;
    let config = ModelConfig::read(&folder)?;
    let makers = LongestText::of(&folder)?.map(|said| said.tokens.min(config.max_len()));
    let longest = max_len(args.max_length.or(makers), config.max_len())?;
    let tokens = args
        .batch_tokens
        .unwrap_or(usize::MAX)
        .min(args.batch_size.saturating_mul(longest))
        .max(longest);
    let ranks = args.ranks;
    if args.batch_size < ranks {
        return Err(UsageError::new(format!(
            "--ranks {ranks}: a batch of --batch-size {} has nothing for some of them",
            args.batch_size
        ))
        .into());
    }
    let sequences = args.batch_size.div_ceil(ranks);
    let tokens = tokens.min(sequences.saturating_mul(longest));
    let limits = Limits { tokens, sequences, max_len: longest };
    let spec = task_spec(args, &config, &folder)?;
    let plan = Planning {
        device: device_of(args, false)?,
        limits,
        memory: args.memory.map(|size| size.0),
        ranks,
        bitfit: outline(&config, &spec)?,
    };
    plan.bitfit.addressable(limits, plan.device)?;
    let saving = plan.saving(args.saving)?;
    if args.list {
        return plan.show_list(args, &config, &spec, saving);
    }
    let (device, weights) = match plan.device {
        DeviceKind::Cpu { arithmetic, .. } => {
            let device = match arithmetic {
                Arithmetic::F32 => "CPU, f32 activations",
                Arithmetic::Bf16 if args.precision == Precision::Auto => {
                    "CPU, bf16 activations (f32 in full and lora)"
                }
                Arithmetic::Bf16 => "CPU, bf16 activations",
            };
            (device, args.weights.to_string())
        }
        DeviceKind::Cuda { weights } => {
            let stored = match weights {
                WeightType::F16 | WeightType::F32 => "16 bits".to_owned(),
                WeightType::Int8 | WeightType::Nf4 => args.weights.to_string(),
            };
            ("GPU, 16-bit activations", stored)
        }
    };
    let of_each = match ranks {
        1 => String::new(),
        ranks => format!(" and rank of {ranks}"),
    };
    show(format_args!(
        "{}: {} × {}; up to {} {} and {} tokens per batch{of_each}, {} per text; {device}; weights {weights}; saving \
         {saving}; bytes\n\n",
        args.model,
        count(config.layers, "layer"),
        config.hidden,
        grouped(limits.sequences),
        named(limits.sequences, "text"),
        grouped(limits.tokens),
        grouped(longest),
    ))?;

    let column = |name: &str, trains: Trains| {
        let saving = if trains.weights() { Saving::KEEP } else { saving };
        let device = device_of(args, trains.matrices())?;
        let spec = TaskSpec { trains, ..spec.clone() };
        let model = outline(&config, &spec)?;
        model.addressable(limits, device).with_context(|| name.to_owned())?;
        anyhow::Ok(Column { name: name.to_owned(), device, ranks, model, spec, saving })
    };
    let mut columns = Vec::new();
    for &method in Method::ALL {
        // On a CPU matrices train in f32 alone, and under a head on masked words, which shares a table, not at all.
        let running = args.task.facts().reads == Reads::Running;
        if method.trains_matrices() && (running || device_of(args, true).is_err()) {
            continue;
        }
        if running && method.facts().adds == Adds::Entries {
            continue;
        }
        let trains = Trains::of(method, &BiasSelection::all(), None);
        // Of a configuration that no machine holds, single values are not drawn.
        let drawn = TaskSpec { trains: trains.clone(), ..spec.clone() };
        if trains.counted().is_some() && outline(&config, &drawn).is_err() {
            continue;
        }
        columns.push(column(method.name(), trains)?);
        if let Some(biases) = &args.biases
            && method == Method::default()
        {
            columns.push(column(&format!("biases {biases}"), Trains::of(method, biases, None))?);
        }
    }
    plan.show_parts(&columns)?;
    plan.show_saved(saving)?;
    plan.show_savings()?;
    if args.allocate {
        let (device, precision, weights) = (args.device, args.precision, args.weights.into());
        plan.allocate(&folder, &columns, |matrices_train| {
            open(OpenOptions { device, here: Share::WHOLE, precision, weights, matrices_train })
        })?;
    }
    Ok(())
}

/// A method in the table of parts.
struct Column {
    name: String,
    device: DeviceKind,
    ranks: usize,
    spec: TaskSpec,
    model: Model,
    saving: Saving,
}

fn device_of(args: &PlanArgs, matrices_train: bool) -> Result<DeviceKind, UsageError> {
    let weights = args.weights.into();
    let cuda = gpu(args.device, Share::WHOLE).is_some();
    if cuda {
        args.precision.on_gpu()?;
        return Ok(DeviceKind::Cuda { weights });
    }
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let arithmetic = args.precision.on_cpu(matrices_train)?;
    Ok(DeviceKind::Cpu { weights, threads: args.threads.unwrap_or_else(cores), arithmetic })
}

/// What is planned.
struct Planning {
    device: DeviceKind,
    limits: Limits,
    memory: Option<usize>,
    ranks: usize,
    /// All biases train.
    bitfit: Model,
}

impl Column {
    /// Of a model that trains as this column says.
    fn budget<'a>(&self, model: &'a Model) -> Budget<'a> {
        Budget { model, device: self.device, ranks: self.ranks }
    }
}

impl Planning {
    fn budget<'a>(&self, model: &'a Model) -> Budget<'a> {
        Budget { model, device: self.device, ranks: self.ranks }
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

    /// The step operation by operation: of all biases, or of those that are named.
    fn show_list(
        &self,
        args: &PlanArgs,
        config: &ModelConfig,
        spec: &TaskSpec,
        saving: Saving,
    ) -> Result<()> {
        let per_second = |option: &str, given: Option<f64>, unit: f64| match given {
            Some(rate) if !(rate.is_finite() && rate > 0.0) => {
                Err(UsageError::new(format!("--{option} must be above 0, got {rate}")))
            }
            _ => Ok(given.map(|rate| rate * unit)),
        };
        let rates = Rates {
            flops: per_second("rate", args.rate, 1e12)?,
            bytes: per_second("bandwidth", args.bandwidth, 1e9)?,
        };
        let biases = args.biases.clone().unwrap_or_else(BiasSelection::all);
        let spec = TaskSpec { trains: Trains::Biases(biases), ..spec.clone() };
        let model = outline(config, &spec)?;
        let program = self.budget(&model).program(self.limits, Some(saving));
        show(Listing { model: &model, program: &program, device: self.device, rates })
    }

    /// The parts of each method, and the largest batch that fits.
    fn show_parts(&self, columns: &[Column]) -> Result<()> {
        let heading = columns.iter().map(|column| column.name.clone());
        let mut table = TextTable::new(std::iter::once("part".to_owned()).chain(heading));
        let parts: Vec<Parts> = columns
            .iter()
            .map(|column| {
                let budget = column.budget(&column.model);
                let program = budget.program(self.limits, Some(column.saving));
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
        let trained = columns.iter().map(|column| grouped(column.model.params.trainable()));
        table.row(std::iter::once("trained values".to_owned()).chain(trained));
        if self.ranks > 1 {
            let exchanged = |column: &Column| {
                let program =
                    column.budget(&column.model).program(self.limits, Some(column.saving));
                4 * column.model.memory(&[&program], self.ranks).exchanged
            };
            let cells = columns.iter().map(|column| grouped(exchanged(column)));
            let name = "to other ranks and back per step".to_owned();
            table.row(std::iter::once(name).chain(cells));
        }
        if let Some(memory) = self.memory {
            let cells = columns
                .iter()
                .map(|column| self.largest(column.budget(&column.model), memory, column.saving));
            let name = format!("largest batch in {}, texts", grouped(memory));
            table.row(std::iter::once(name).chain(cells));
        }
        show(format_args!("{table}\n"))
    }

    /// The most texts of the longest length that fit, up to a million.
    fn largest(&self, budget: Budget<'_>, memory: usize, saving: Saving) -> String {
        let (list, element) = (budget.list(saving), budget.device.element_bytes());
        let fits = |texts: usize| {
            let limits = Limits {
                tokens: texts * self.limits.max_len,
                sequences: texts,
                max_len: self.limits.max_len,
            };
            budget.model.addressable(limits, budget.device).is_ok()
                && budget.footprint(&list.place(limits, element)).total() <= memory
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
        let mut order: Vec<What> = Vec::new();
        let mut tensors: BTreeMap<usize, BTreeMap<u16, usize>> = BTreeMap::new();
        for (info, region) in program.saved() {
            let Some(layer) = info.block else { continue };
            let place = order.iter().position(|&what| what == info.what);
            let place = place.unwrap_or_else(|| {
                order.push(info.what);
                order.len() - 1
            });
            let layers = tensors.entry(place).or_default();
            *layers.entry(layer).or_default() += region.len;
        }
        let mut table = TextTable::new(["kept by bitfit", "layers", "each", "together"]);
        for (place, what) in order.iter().enumerate() {
            let layers: Vec<_> = tensors[&place].iter().map(|(&l, &bytes)| (l, bytes)).collect();
            for run in layers.chunk_by(|a, b| a.0 + 1 == b.0 && a.1 == b.1) {
                let (first, bytes) = run[0];
                let last = run[run.len() - 1].0;
                let which = match first == last {
                    true => first.to_string(),
                    false => format!("{first}–{last}"),
                };
                table.row([
                    what.name().to_owned(),
                    which,
                    grouped(bytes),
                    grouped(bytes * run.len()),
                ]);
            }
        }
        show(format_args!("{table}\n"))
    }

    /// Takes each method's memory on the device, one after the other.
    ///
    /// # Errors
    /// When the device cannot be opened, one of the methods does not fit, or takes other than what was planned.
    fn allocate(
        &self,
        folder: &Path,
        columns: &[Column],
        open: impl Fn(bool) -> Result<Box<dyn Backend>> + Sync,
    ) -> Result<()> {
        let mut table = TextTable::new(["allocated", "bytes", ""]);
        let mut refused = Vec::new();
        let threads = match self.device {
            DeviceKind::Cpu { threads, .. } => threads,
            DeviceKind::Cuda { .. } => 1,
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let mut device = String::new();
        for column in columns {
            let config = &column.model.config;
            let allocated = pool.install(|| {
                let matrices_train = column.spec.trains.matrices();
                let mut backend = open(matrices_train)?;
                let model = blank(folder, config, &column.spec, &mut *backend)?;
                let budget = column.budget(&model);
                let program = budget.program(self.limits, Some(column.saving));
                let planned = budget.footprint(&program);
                model.allocate(&mut *backend, &[&program], self.ranks)?;
                let there = backend.allocated();
                ensure!(
                    there == planned,
                    "planned {planned:?}, allocated {there:?}; this is a fault of bitfit: please report it"
                );
                Ok((backend.describe(), there.total()))
            });
            let name = column.name.clone();
            match allocated {
                Ok((described, bytes)) => {
                    device = described;
                    table.row([name, grouped(bytes), "as planned".to_owned()]);
                }
                Err(error) => {
                    table.row([name.clone(), String::new(), "refused".to_owned()]);
                    refused.push(format!("{name}: {error:#}"));
                }
            }
        }
        show(format_args!("\n{device}\n{table}"))?;
        ensure!(refused.is_empty(), "{}", refused.join("; "));
        Ok(())
    }

    /// `bitfit` in each way of saving.
    fn show_savings(&self) -> Result<()> {
        let mut heading = vec!["saving", "kept a token and layer", "kept", "peak"];
        if self.memory.is_some() {
            heading.push("largest batch");
        }
        let mut table = TextTable::new(heading);
        for (_, saving) in WAYS {
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
                row.push(self.largest(budget, memory, saving));
            }
            table.row(row);
        }
        show(&table)?;
        let Some(memory) = self.memory else {
            return Ok(());
        };
        let choice = self.budget(&self.bitfit).choose(self.limits, memory, &Saving::EXACT);
        let said = |fit: Fit| {
            format!(
                "--saving {} and micro-batches of up to {} tokens: {} bytes",
                fit.saving,
                grouped(fit.tokens),
                grouped(fit.footprint.total())
            )
        };
        match choice {
            Ok(fit) => show(format_args!("\n`train --memory` would take {}\n", said(fit))),
            Err(TooSmall(fit)) => show(format_args!(
                "\nnothing fits {}; the smallest that runs is {}\n",
                grouped(memory),
                said(fit)
            )),
        }
    }
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
        let layers = program.saved().filter(|(info, _)| !info.what.of_head());
        let saved: usize = layers.map(|(_, region)| region.len).sum();
        let list = program.list();
        let used = list.ops.iter().flat_map(|op| [op.reads(), op.writes()].concat());
        let of_head: BTreeSet<Value> = used.filter(|&v| list.info(v).what.of_head()).collect();
        let head: usize = of_head.iter().map(|&value| program.region(value).len).sum();
        // Tensors of the head share places with others, so that all of them together may not fit beside the rest.
        let head = head.min(footprint.arena - saved);
        Self { footprint, saved, transient: footprint.arena - saved - head, head }
    }
}
