//! `bitfit profile`: where the time of a training step goes, operation by operation, and how close each is to the
//! device's limits.
//!
//! The model has random weights: a step's time depends only on shapes. On the GPU emulator times are meaningless, and
//! launches are counted instead.

use super::ceilings::Ceilings;
use super::cost::{Cost, Line, lines};
use super::listing::matrix_bits;
use super::planned_step::{PlannedStep, device_of};
use super::tile_sweep::{self, SweptProduct};
use super::{set_threads, show};
use crate::backend::timing::{Launch, Piece};
use crate::backend::{Backend, DeviceKind, DropoutKey};
use crate::batch::{Batch, Labels};
use crate::cli::ProfileArgs;
use crate::error::UsageError;
use crate::files::write_bytes_atomic;
use crate::methods::Trains;
use crate::model::Model;
use crate::model::load::{TaskSpec, drawn};
use crate::program::{AdamW, LossKind, Numbers, Program, Rows, Saving, Span};
use crate::ranks::{Alone, Share};
use crate::results::pictures::Picture;
use crate::results::pictures::roofline::{self, Roofs, Spot};
use crate::session::{OpenOptions, open};
use crate::settings::biases::BiasSelection;
use crate::settings::choice::Choice as _;
use crate::settings::saving::SavingChoice;
use crate::settings::validate;
use crate::table::{TextTable, grouped};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

/// Minimum and maximum rows, and width, of the product that measures a device's limit, and how much larger the copy is:
/// more than any cache holds.
const LARGE_ON_CPU: (([usize; 2], usize), usize) = (([64, 4096], 1024), 8);
const LARGE_ON_GPU: (([usize; 2], usize), usize) = (([16_384, 16_384], 4096), 2);

pub fn run(args: &ProfileArgs) -> Result<()> {
    let step = &args.step;
    if let Some(path) = &args.picture
        && !["svg", "png"].iter().any(|known| path.extension().is_some_and(|has| has == *known))
    {
        let path = path.display();
        return Err(UsageError::new(format!(
            "--picture {path}: the name must end in .svg or .png"
        ))
        .into());
    }
    // Checked before spending minutes on something that cannot be written.
    let outputs = [("--json", &args.json), ("--picture", &args.picture), ("--tiles", &args.tiles)];
    for (option, path) in outputs {
        if let Some(path) = path
            && let Some(folder) = path.parent().filter(|folder| *folder != Path::new(""))
        {
            let path = path.display();
            ensure!(folder.is_dir(), "{option} {path}: there is no folder {}", folder.display());
        }
    }
    set_threads(step.threads, &Alone)?;
    validate::method_for(step.task, args.method).map_err(UsageError::from)?;
    let lora = step.lora.settings(&[args.method]).map_err(UsageError::from)?;
    let planned = PlannedStep::of(step, 1)?;
    let biases = step.biases.clone().unwrap_or_else(BiasSelection::all);
    let trains = Trains::of(args.method, &biases, lora.as_ref());
    let kind = device_of(step, trains.matrices())?;
    if args.tiles.is_some() && matches!(kind, DeviceKind::Cpu { .. }) {
        let said = "--tiles is for --device cuda: a CPU has no choice of tiles";
        return Err(UsageError::new(said).into());
    }
    let open = || {
        open(OpenOptions {
            device: step.device,
            here: Share::WHOLE,
            precision: step.precision,
            weights: step.weights.into(),
            matrices_train: trains.matrices(),
        })
    };
    let mut backend = open()?;
    let device = backend.describe();
    let emulated = device.contains("CUDA emulator");
    let (product, copied) = match kind {
        DeviceKind::Cpu { .. } => LARGE_ON_CPU,
        DeviceKind::Cuda { .. } => LARGE_ON_GPU,
    };
    let ceilings = (!emulated).then(|| Ceilings::measure(&open, product, copied)).transpose()?;
    let spec = TaskSpec { trains: trains.clone(), ..planned.spec.clone() };
    let model = drawn(&planned.folder, &planned.config, &spec, &mut *backend)?;
    let saving = match step.saving {
        SavingChoice::Only(saving) => saving,
        SavingChoice::Auto => Saving::KEEP,
    };
    let element = backend.kind().element_bytes();
    let program = model.program(planned.limits, element, Some(saving));
    model.addressable(planned.limits, kind)?;
    model.allocate(&mut *backend, &[&program], 1)?;
    let batch = batch(&model, &program);
    let mut stepping = Stepping { backend, program: &program, batch, done: 0 };
    // One-time work such as recording a graph is not part of a step.
    stepping.whole()?;
    let whole = (0..args.repeat).map(|_| stepping.whole()).collect::<Result<Vec<f64>>>()?;
    let apart = (0..args.repeat).map(|_| stepping.apart(None)).collect::<Result<Vec<_>>>()?;
    let tiles = match &args.tiles {
        Some(_) => tile_sweep::sweep(&apart[0], |tile| {
            (0..args.repeat).map(|_| stepping.apart(Some(tile.name()))).collect()
        })?,
        None => Vec::new(),
    };

    let bits = matrix_bits(kind);
    let rows = group(&lines(&program), &program, &apart, bits);
    let profile = Profile {
        model: step.model.clone(),
        method: args.method.name(),
        device,
        saving: saving.to_string(),
        sequences: planned.limits.sequences,
        tokens: planned.limits.tokens,
        repeated: args.repeat,
        seconds_per_step: (!emulated).then(|| median(whole)),
        product_flops_per_second: ceilings.map(|ceilings| ceilings.flops),
        copy_bytes_per_second: ceilings.map(|ceilings| ceilings.bytes),
        operations: rows,
        tiles,
    };
    let mut text = profile.table(ceilings);
    if let Some(path) = &args.tiles {
        let about = format!(
            "bitfit {}, {}; medians of {}",
            env!("CARGO_PKG_VERSION"),
            profile.device,
            args.repeat
        );
        let lines = tile_sweep::file(&profile.tiles, &about, !emulated);
        write_bytes_atomic(path, lines.as_bytes())?;
        text += &tile_sweep::table(&profile.tiles, !emulated);
    }
    show(text)?;
    if let Some(path) = &args.picture {
        let picture = ceilings.and_then(|ceilings| profile.picture(ceilings));
        let picture = picture.with_context(|| {
            format!("--picture {}: nothing was timed that could be drawn", path.display())
        })?;
        let bytes = match path.extension().is_some_and(|extension| extension == "png") {
            true => picture.canvas.png()?,
            false => picture.canvas.svg()?.into_bytes(),
        };
        write_bytes_atomic(path, &bytes)?;
    }
    if let Some(path) = &args.json {
        write_bytes_atomic(
            path,
            format!("{}\n", serde_json::to_string_pretty(&profile)?).as_bytes(),
        )?;
    }
    Ok(())
}

/// Texts of equal length over the whole vocabulary, with labels for the head's loss.
fn batch(model: &Model, program: &Program) -> Batch {
    let limits = program.limits();
    let len = limits.max_len;
    let sequences = limits.sequences.min(limits.tokens / len);
    let tokens = (sequences * len) as u32;
    let outputs = model.head.outputs() as u32;
    let offset = model.config.position_offset() as u32;
    let labels = match (model.head.loss, model.head.pool.rows()) {
        (LossKind::CrossEntropy, Rows::Sequences) => {
            Labels::Classes((0..sequences as u32).map(|s| s % outputs).collect())
        }
        (LossKind::CrossEntropy, Rows::Tokens) => {
            Labels::Tokens((0..tokens).map(|t| t % outputs).collect())
        }
        (LossKind::CrossEntropy, Rows::Labelled(_)) => {
            let most = program.list().labelled(limits).map_or(1, |[rows, _]| rows as u32).max(1);
            let every = tokens.div_ceil(most);
            let label =
                |t: u32| if t.is_multiple_of(every) { t % outputs } else { Labels::IGNORED };
            Labels::Tokens((0..tokens).map(label).collect())
        }
        (LossKind::MeanSquared | LossKind::Binary, _) => {
            Labels::Values((0..sequences as u32 * outputs).map(|i| (i % 2) as f32).collect())
        }
        (LossKind::Span, _) => Labels::Spans(vec![[0, len as u32 - 1]; sequences]),
    };
    Batch {
        ids: (0..tokens).map(|i| i.wrapping_mul(7919) % model.config.vocab as u32).collect(),
        type_ids: vec![0; tokens as usize],
        positions: (0..tokens).map(|i| i % len as u32 + offset).collect(),
        cu_seqlens: (0..=sequences).map(|s| (s * len) as u32).collect(),
        labels,
    }
}

/// Runs one step after another.
struct Stepping<'a> {
    backend: Box<dyn Backend>,
    program: &'a Program,
    batch: Batch,
    done: u64,
}

impl Stepping<'_> {
    fn begin(&mut self) -> Result<Numbers> {
        self.backend.set_batch(&self.batch, DropoutKey::new(1, self.done))?;
        self.done += 1;
        let update = AdamW {
            lr: 1e-5,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-6,
            weight_decay: 0.0,
            clip_norm: 1.0,
            step: self.done,
        };
        let weight = 1.0 / self.batch.labels.weight(&[]) as f32;
        Ok(Numbers { weight, update: Some(update) })
    }

    /// Seconds per step, run as in training.
    fn whole(&mut self) -> Result<f64> {
        let start = Instant::now();
        let numbers = self.begin()?;
        self.backend.run(self.program, Span::WHOLE, numbers)?;
        self.backend.step_report()?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// A step's pieces, timed separately, with products in the given tile or the device's choice.
    fn apart(&mut self, tile: Option<&str>) -> Result<Vec<Piece>> {
        let numbers = self.begin()?;
        let pieces = self.backend.run_timed(self.program, Span::WHOLE, numbers, tile)?;
        self.backend.step_report()?;
        Ok(pieces)
    }
}

/// All operations of one kind, shape and kernel.
#[derive(Debug, Serialize)]
struct Row {
    operation: &'static str,
    backward: bool,
    /// Rows and columns of input and output.
    shape: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<Kernel>,
    /// Per step.
    times: usize,
    /// The median of one.
    seconds: f64,
    /// The total per step.
    seconds_per_step: f64,
    /// The total per step; the kernels of an operation share it.
    flops: f64,
    bytes: f64,
}

/// See [`Launch`].
#[derive(Debug, Serialize)]
struct Kernel {
    name: String,
    blocks: usize,
    threads: usize,
    registers: usize,
    shared_bytes: usize,
    warps_per_multiprocessor: usize,
}

impl From<&Launch> for Kernel {
    fn from(launch: &Launch) -> Self {
        Self {
            name: launch.kernel.clone(),
            blocks: launch.blocks,
            threads: launch.threads,
            registers: launch.registers,
            shared_bytes: launch.shared,
            warps_per_multiprocessor: launch.warps,
        }
    }
}

/// Groups equal pieces; those with the longest times come first.
fn group(lines: &[Line], program: &Program, steps: &[Vec<Piece>], matrix_bits: f64) -> Vec<Row> {
    let Some(first) = steps.first() else { return Vec::new() };
    // Only the longest of an operation's kernels gets its cost: a second one would count it twice.
    let mut longest: HashMap<usize, usize> = HashMap::new();
    for (place, piece) in first.iter().enumerate() {
        let Some(op) = piece.op else { continue };
        let held = longest.entry(op).or_insert(place);
        if first[*held].seconds < piece.seconds {
            *held = place;
        }
    }
    let mut places: HashMap<(&str, bool, String, Option<&Launch>), usize> = HashMap::new();
    let mut rows: Vec<Row> = Vec::new();
    for (place, piece) in first.iter().enumerate() {
        let line = piece.op.map(|op| &lines[op]);
        let shape = piece.op.map_or(String::new(), |op| shape(program, op));
        let name = line.map_or("finish sums", |line| line.op);
        let backward = line.is_none_or(|line| line.backward);
        let seconds: Vec<f64> = steps.iter().map(|step| step[place].seconds).collect();
        let seconds = median(seconds);
        let has_cost = piece.op.is_some_and(|op| longest[&op] == place);
        let cost = line.filter(|_| has_cost).map_or(Cost::default(), |line| line.cost);
        let key = (name, backward, shape.clone(), piece.kernel.as_ref());
        let at = *places.entry(key).or_insert_with(|| {
            rows.push(Row {
                operation: name,
                backward,
                shape,
                kernel: piece.kernel.as_ref().map(Kernel::from),
                times: 0,
                seconds: 0.0,
                seconds_per_step: 0.0,
                flops: 0.0,
                bytes: 0.0,
            });
            rows.len() - 1
        });
        let row = &mut rows[at];
        row.times += 1;
        row.seconds_per_step += seconds;
        row.flops += cost.flops as f64;
        row.bytes += cost.tensor_bytes as f64 + cost.matrix_elements as f64 * matrix_bits / 8.0;
    }
    rows.iter_mut().for_each(|row| row.seconds = row.seconds_per_step / row.times as f64);
    rows.sort_by(|a, b| b.seconds_per_step.total_cmp(&a.seconds_per_step));
    rows
}

/// `4096 × 768 → 3072`: rows, and the width of an operation's first input and first output.
fn shape(program: &Program, op: usize) -> String {
    let (list, limits) = (program.list(), program.limits());
    let (reads, writes) = (list.ops[op].reads(), list.ops[op].writes());
    let [read, written] = [reads.first(), writes.first()].map(|value| value.map(|&v| list.info(v)));
    match (read, written) {
        (Some(read), Some(written)) => {
            format!("{} × {} → {}", limits.rows(read.rows), read.width, written.width)
        }
        (Some(one), None) | (None, Some(one)) => {
            format!("{} × {}", limits.rows(one.rows), one.width)
        }
        (None, None) => String::new(),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// The cost of a step.
#[derive(Debug, Serialize)]
struct Profile {
    model: String,
    method: &'static str,
    device: String,
    saving: String,
    sequences: usize,
    tokens: usize,
    repeated: usize,
    /// As in training; `None` if times are meaningless.
    seconds_per_step: Option<f64>,
    product_flops_per_second: Option<f64>,
    copy_bytes_per_second: Option<f64>,
    operations: Vec<Row>,
    /// If requested.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tiles: Vec<SweptProduct>,
}

impl Profile {
    fn picture(&self, ceilings: Ceilings) -> Option<Picture> {
        let spots: Vec<Spot> = self
            .operations
            .iter()
            .map(|row| Spot {
                name: format!("{} {}", row.operation, row.shape),
                flops: row.flops,
                bytes: row.bytes,
                seconds: row.seconds_per_step,
            })
            .collect();
        let title = format!("{} and the roofs of the device", self.model);
        let Ceilings { flops, bytes } = ceilings;
        roofline::draw(&title, Roofs { flops, bytes }, &spots)
    }

    fn table(&self, ceilings: Option<Ceilings>) -> String {
        let launched = self.operations.iter().any(|row| row.kernel.is_some());
        let mut heading = vec!["operation", "", "rows × in → out", "times"];
        if ceilings.is_some() {
            heading.extend(["µs each", "ms", "share", "GFLOP/s", "GB/s", "of the roof"]);
        } else {
            heading.extend(["MFLOP", "bytes"]);
        }
        if launched {
            heading.extend(["kernel", "blocks", "registers", "shared", "warps"]);
        }
        let mut table = TextTable::new(heading);
        let together: f64 = self.operations.iter().map(|row| row.seconds_per_step).sum();
        for row in &self.operations {
            let way = if row.backward { "back" } else { "" };
            let name = row.operation.to_owned();
            let mut cells = vec![name, way.to_owned(), row.shape.clone(), row.times.to_string()];
            match ceilings {
                Some(ceilings) => cells.extend(row.timed(ceilings, together)),
                None => cells.extend([
                    grouped((row.flops / 1e6).round() as usize),
                    grouped(row.bytes.round() as usize),
                ]),
            }
            if launched {
                cells.extend(row.kernel.as_ref().map_or([const { String::new() }; 5], |kernel| {
                    let Kernel { name, blocks, registers, shared_bytes, .. } = kernel;
                    [
                        name.clone(),
                        grouped(*blocks),
                        registers.to_string(),
                        grouped(*shared_bytes),
                        kernel.warps_per_multiprocessor.to_string(),
                    ]
                }));
            }
            table.row(cells);
        }
        let Self { model, method, device, saving, sequences, tokens, repeated, .. } = self;
        let mut text = format!(
            "{model}: {method}, {sequences} texts and {} tokens per batch, saving {saving}; {device}\n\n{table}",
            grouped(*tokens)
        );
        match (self.seconds_per_step, ceilings) {
            (Some(seconds), Some(ceilings)) => {
                text += &format!(
                    "\na step as training does it: {:.3} ms, {:.0} tokens/s; its pieces, each alone: {:.3} ms (medians of \
                     {repeated})\nroofs, measured with a large product and a large copy: {:.0} GFLOP/s, {:.1} GB/s\n",
                    seconds * 1e3,
                    *tokens as f64 / seconds,
                    together * 1e3,
                    ceilings.flops / 1e9,
                    ceilings.bytes / 1e9,
                );
            }
            _ => {
                let launches: usize = self.operations.iter().map(|row| row.times).sum();
                text += &format!("\n{launches} launches; on the emulator times mean nothing\n");
            }
        }
        text
    }
}

impl Row {
    /// Its time, and the share of the device's limits that it reaches.
    fn timed(&self, ceilings: Ceilings, together: f64) -> [String; 6] {
        let seconds = self.seconds_per_step;
        let rate = |of: f64| match of > 0.0 && seconds > 0.0 {
            true => format!("{:.1}", of / seconds / 1e9),
            false => String::new(),
        };
        let least = (self.flops / ceilings.flops).max(self.bytes / ceilings.bytes);
        let roof = match least > 0.0 && seconds > 0.0 {
            true => format!("{:.0} %", 1e2 * least / seconds),
            false => String::new(),
        };
        [
            format!("{:.1}", self.seconds * 1e6),
            format!("{:.3}", seconds * 1e3),
            format!("{:.1} %", 1e2 * seconds / together),
            rate(self.flops),
            rate(self.bytes),
            roof,
        ]
    }
}
