//! `bitfit plan`: the memory that training would take, part by part, using only `config.json`.

use super::listing::{Listing, Rates};
use super::planned_step::{PlannedStep, device_of};
use super::programs::{fits_kernels, savings};
use super::{say_passed_over, show};
use crate::backend::cpu::Arithmetic;
use crate::backend::{Backend, DeviceKind, Footprint, WeightType};
use crate::cli::PlanArgs;
use crate::error::{UsageError, one_line};
use crate::methods::Trains;
use crate::model::Model;
use crate::model::fit::{Budget, Fit, TooSmall};
use crate::model::load::{TaskSpec, blank, outline};
use crate::program::{Limits, Program, Saving, Value, What};
use crate::ranks::Share;
use crate::session::{OpenOptions, open};
use crate::settings::biases::BiasSelection;
use crate::settings::choice::{Choice as _, Precision};
use crate::settings::method::{Facts, Method};
use crate::settings::saving::{SavingChoice, WAYS};
use crate::settings::validate;
use crate::table::{TextTable, grouped};
use crate::words::{count, named};
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub fn run(args: &PlanArgs) -> Result<()> {
    let (step, ranks) = (&args.step, args.ranks);
    let PlannedStep { folder, config, spec, limits } = PlannedStep::of(step, ranks)?;
    let methods = methods(args)?;
    let lora = step.lora.settings(&methods).map_err(UsageError::from)?;
    let column = |name: String, trains: Trains| {
        let device = device_of(step, trains.matrices())?;
        let spec = TaskSpec { trains, ..spec.clone() };
        let model = outline(&config, &spec)?;
        model.addressable(limits, device).with_context(|| name.clone())?;
        fits_kernels(&spec.trains, device)?;
        anyhow::Ok(Column { name, device, ranks, model, spec, saving: Saving::KEEP })
    };
    let all = BiasSelection::all();
    let mut columns = Vec::new();
    for &method in &methods {
        let takes_biases = method.facts().takes_biases();
        let biases = step.biases.as_ref().filter(|_| takes_biases);
        let trains = |biases| Trains::of(method, biases, lora.as_ref());
        if !args.list {
            columns.push(column(method.name().to_owned(), trains(&all))?);
        }
        if let Some(biases) = biases {
            columns.push(column(format!("biases {biases}"), trains(biases))?);
        } else if args.list {
            columns.push(column(method.name().to_owned(), trains(&all))?);
        }
    }
    let first = columns.first().context("no method can be planned here")?;
    say_passed_over(false, step.device, first.device, Share::WHOLE);
    let memory = args.memory.map(|size| size.0);
    let saving = first.choose(step.saving, limits, memory)?;
    let own = columns.iter_mut().filter(|column| !column.spec.trains.weights());
    own.for_each(|column| column.saving = saving);
    let plan = Planning { limits, memory, ranks, columns };
    let first = plan.first();
    if args.list {
        return first.show_list(args, limits);
    }
    let (device, weights) = match first.device {
        DeviceKind::Cpu { arithmetic, .. } => {
            let device = match arithmetic {
                Arithmetic::F32 => "CPU, f32 activations",
                Arithmetic::Bf16 if step.precision == Precision::Auto => {
                    "CPU, bf16 activations (f32 where matrices train)"
                }
                Arithmetic::Bf16 => "CPU, bf16 activations",
            };
            (device, step.weights.to_string())
        }
        DeviceKind::Cuda { weights } => {
            let stored = match weights {
                WeightType::F16 | WeightType::F32 => "16 bits".to_owned(),
                WeightType::Int8 | WeightType::Nf4 => step.weights.to_string(),
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
        step.model,
        count(config.layers, "layer"),
        config.hidden,
        grouped(limits.sequences),
        named(limits.sequences, "text"),
        grouped(limits.tokens),
        grouped(limits.max_len),
    ))?;

    plan.show_parts()?;
    plan.show_saved()?;
    plan.show_savings(&savings(step.saving, &first.model)?)?;
    if args.allocate {
        let (device, precision, weights) = (step.device, step.precision, step.weights.into());
        plan.allocate(&folder, |matrices_train| {
            open(OpenOptions { device, here: Share::WHOLE, precision, weights, matrices_train })
        })?;
    }
    Ok(())
}

/// The requested methods. Those of the default ones that cannot run here are omitted.
fn methods(args: &PlanArgs) -> Result<Vec<Method>, UsageError> {
    // On a CPU matrices train only in f32.
    let runs = |method: &Method| {
        validate::method_for(args.step.task, *method)?;
        device_of(&args.step, method.trains_matrices()).map(drop)
    };
    let takes_biases = |method: &Method| method.facts().takes_biases();
    if args.step.biases.is_some()
        && !args.method.is_empty()
        && !args.method.iter().any(takes_biases)
    {
        let takes: Vec<_> =
            Method::which(Facts::takes_biases).map(|method| method.to_string()).collect();
        let takes = takes.join(" or ");
        return Err(UsageError::new(format!(
            "--biases is for --method {takes}, which is not among the methods here: leave it out"
        )));
    }
    match args.method.as_slice() {
        [] if args.list => Ok(vec![Method::default()]),
        [] => Ok(Method::COMPARED.into_iter().filter(|method| runs(method).is_ok()).collect()),
        [_, _, ..] if args.list => Err(UsageError::new("--list prints the step of one --method")),
        asked => {
            asked.iter().try_for_each(runs)?;
            Ok(asked.to_vec())
        }
    }
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

/// What is planned.
struct Planning {
    limits: Limits,
    memory: Option<usize>,
    ranks: usize,
    columns: Vec<Column>,
}

impl Column {
    /// For a model that trains as this column says.
    fn budget<'a>(&self, model: &'a Model) -> Budget<'a> {
        Budget { model, device: self.device, ranks: self.ranks }
    }

    fn program(&self, limits: Limits, saving: Saving) -> Program {
        self.budget(&self.model).program(limits, Some(saving))
    }

    /// The way of saving that a run would choose.
    fn choose(
        &self,
        choice: SavingChoice,
        limits: Limits,
        memory: Option<usize>,
    ) -> Result<Saving> {
        let savings = savings(choice, &self.model)?;
        Ok(match memory {
            None => savings[0],
            Some(memory) => match self.budget(&self.model).choose(limits, memory, &savings) {
                Ok(fit) | Err(TooSmall(fit)) => fit.saving,
            },
        })
    }

    /// Its step, operation by operation.
    fn show_list(&self, args: &PlanArgs, limits: Limits) -> Result<()> {
        let per_second = |option: &str, given: Option<f64>, unit: f64| match given {
            Some(rate) if !(rate.is_finite() && rate > 0.0) => {
                Err(UsageError::new(format!("--{option} must be above 0, got {rate:?}")))
            }
            _ => Ok(given.map(|rate| rate * unit)),
        };
        let rates = Rates {
            flops: per_second("rate", args.rate, 1e12)?,
            bytes: per_second("bandwidth", args.bandwidth, 1e9)?,
        };
        let program = self.program(limits, self.saving);
        show(Listing { model: &self.model, program: &program, device: self.device, rates })
    }
}

impl Planning {
    /// The one whose tensors and ways of saving are shown.
    fn first(&self) -> &Column {
        &self.columns[0]
    }

    /// The parts of each method, and the largest batch that fits.
    fn show_parts(&self) -> Result<()> {
        let columns = &self.columns;
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
                let program = column.program(self.limits, column.saving);
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

    /// The largest number of texts of maximum length that fits, up to a million.
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

    /// What the first method keeps for backward, by tensor and layer.
    fn show_saved(&self) -> Result<()> {
        let first = self.first();
        let program = first.program(self.limits, first.saving);
        // By tensor: the bytes in each layer, in the tensors' order.
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
        let mut table =
            TextTable::new([&format!("kept by {}", first.name), "layers", "each", "together"]);
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

    /// Allocates each method's memory on the device, one after the other.
    ///
    /// # Errors
    /// If the device cannot be opened, one of the methods does not fit, or takes other than the planned memory.
    fn allocate(
        &self,
        folder: &Path,
        open: impl Fn(bool) -> Result<Box<dyn Backend>> + Sync,
    ) -> Result<()> {
        let mut table = TextTable::new(["allocated", "bytes", ""]);
        // Names of the methods by what refused them: a missing device refuses all of them.
        let mut refused: Vec<(String, Vec<&str>)> = Vec::new();
        let threads = match self.first().device {
            DeviceKind::Cpu { threads, .. } => threads,
            DeviceKind::Cuda { .. } => 1,
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let mut device = String::new();
        for column in &self.columns {
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
                    "planned {planned:?}, allocated {there:?}; this is a bug in bitfit: please report it"
                );
                Ok((backend.describe(), there.total()))
            });
            let name = &column.name;
            match allocated {
                Ok((described, bytes)) => {
                    device = described;
                    table.row([name.clone(), grouped(bytes), "as planned".to_owned()]);
                }
                Err(error) => {
                    table.row([name.clone(), String::new(), "refused".to_owned()]);
                    let why = one_line(&error);
                    match refused.iter_mut().find(|(known, _)| *known == why) {
                        Some((_, names)) => names.push(name),
                        None => refused.push((why, vec![name])),
                    }
                }
            }
        }
        show(format_args!("\n{device}\n{table}"))?;
        let refused: Vec<String> =
            refused.iter().map(|(why, names)| format!("{}: {why}", names.join(", "))).collect();
        ensure!(refused.is_empty(), "{}", refused.join("; "));
        Ok(())
    }

    /// The first method in each way of saving that it has; `choice` are those that a run would choose from.
    fn show_savings(&self, choice: &[Saving]) -> Result<()> {
        let first = self.first();
        let title = format!("saving, in {}", first.name);
        let mut heading = vec![title.as_str(), "kept per token and layer", "kept", "peak"];
        if self.memory.is_some() {
            heading.push("largest batch");
        }
        let mut table = TextTable::new(heading);
        let ways = WAYS.iter().map(|(_, saving)| *saving);
        for saving in ways.filter(|&saving| saving == Saving::KEEP || !first.spec.trains.weights())
        {
            let budget = first.budget(&first.model);
            let program = budget.program(self.limits, Some(saving));
            let parts = Parts::new(&program, budget.footprint(&program));
            let slots = self.limits.tokens * first.model.config.layers;
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
        let choice = first.budget(&first.model).choose(self.limits, memory, choice);
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

/// A footprint with its arena broken down.
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
        // Tensors of the head share places with others, so all of them together may not fit next to the rest.
        let head = head.min(footprint.arena - saved);
        Self { footprint, saved, transient: footprint.arena - saved - head, head }
    }
}
