//! `bitfit profile`: where the time of a training step goes, operation by operation, and how close each is to the
//! device's limits.
//!
//! The model has random weights: a step's time depends only on shapes. On the GPU emulator times are meaningless, and
//! launches are counted instead.

mod ceilings;
mod rows;
mod stepping;
mod tile_sweep;
mod told;

use super::cost::lines;
use super::listing::matrix_bits;
use super::planned_step::{PlannedStep, device_of};
use super::programs::fits_kernels;
use super::{outputs, say_passed_over, set_threads, show};
use crate::backend::DeviceKind;
use crate::cli::ProfileArgs;
use crate::error::UsageError;
use crate::files::write_named;
use crate::methods::Trains;
use crate::model::load::{TaskSpec, drawn, outline};
use crate::program::Saving;
use crate::ranks::{Alone, Share};
use crate::results::statistics::median;
use crate::session::{OpenOptions, open};
use crate::settings::biases::BiasSelection;
use crate::settings::choice::Choice as _;
use crate::settings::saving::SavingChoice;
use crate::settings::validate;
use anyhow::{Context, Result};
use ceilings::Ceilings;
use std::path::Path;
use stepping::Stepping;
use told::Profile;

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
    let files = [("--json", &args.json), ("--picture", &args.picture), ("--tiles", &args.tiles)];
    let files = files.iter().filter_map(|(option, path)| Some((*option, path.as_deref()?)));
    let files: Vec<(&str, &Path)> = files.collect();
    outputs::can_all_be_written(&files)?;
    set_threads(step.threads, &Alone)?;
    validate::method_for(step.task, args.method).map_err(UsageError::from)?;
    let lora = step.lora.settings(&[args.method]).map_err(UsageError::from)?;
    let planned = PlannedStep::of(step, 1)?;
    for (option, path) in &files {
        outputs::no_input(option, path, &[&planned.folder])?;
    }
    let biases = step.biases.clone().unwrap_or_else(BiasSelection::all);
    let trains = Trains::of(args.method, &biases, lora.as_ref());
    let kind = device_of(step, trains.matrices())?;
    if args.tiles.is_some() && matches!(kind, DeviceKind::Cpu { .. }) {
        let said = "--tiles is for --device cuda: a CPU has no choice of tiles";
        return Err(UsageError::new(said).into());
    }
    fits_kernels(&trains, kind)?;
    say_passed_over(false, step.device, kind, Share::WHOLE);
    let spec = TaskSpec { trains: trains.clone(), ..planned.spec.clone() };
    outline(&planned.config, &spec)?.addressable(planned.limits, kind)?;
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
    let timed = !device.contains("CUDA emulator");
    if let (Some(path), false) = (&args.picture, timed) {
        return Err(UsageError::new(format!(
            "--picture {}: nothing is timed on the emulator, so there is nothing to draw; leave it out",
            path.display()
        ))
        .into());
    }
    let (product, copied) = match kind {
        DeviceKind::Cpu { .. } => LARGE_ON_CPU,
        DeviceKind::Cuda { .. } => LARGE_ON_GPU,
    };
    let ceilings = timed.then(|| Ceilings::measure(&open, product, copied)).transpose()?;
    let model = drawn(&planned.folder, &planned.config, &spec, &mut *backend)?;
    let saving = match step.saving {
        SavingChoice::Only(saving) => saving,
        SavingChoice::Auto => Saving::KEEP,
    };
    let element = backend.kind().element_bytes();
    let program = model.program(planned.limits, element, Some(saving));
    model.allocate(&mut *backend, &[&program], 1)?;
    let mut stepping = Stepping::new(backend, &model, &program)?;
    // One-time work such as recording a graph is not part of a step.
    stepping.whole()?;
    let whole = (0..args.repeat).map(|_| stepping.whole()).collect::<Result<Vec<f64>>>()?;
    let apart = (0..args.repeat).map(|_| stepping.apart(None)).collect::<Result<Vec<_>>>()?;
    let tiles = match &args.tiles {
        Some(_) => tile_sweep::sweep(&apart[0], timed, |tile| {
            (0..args.repeat).map(|_| stepping.apart(Some(tile.name()))).collect()
        })?,
        None => Vec::new(),
    };

    let bits = matrix_bits(kind);
    let operations = rows::group(&lines(&program, &model.matrices), &program, &apart, bits, timed);
    let profile = Profile {
        model: step.model.clone(),
        method: args.method.name(),
        device,
        saving: saving.to_string(),
        sequences: planned.limits.sequences,
        tokens: planned.limits.tokens,
        repeated: args.repeat,
        seconds_per_step: median(&whole).filter(|_| timed),
        product_flops_per_second: ceilings.map(|ceilings| ceilings.flops),
        copy_bytes_per_second: ceilings.map(|ceilings| ceilings.bytes),
        operations,
        tiles,
    };
    finish(args, &profile, ceilings)
}

/// Writes what was measured. It took minutes, so what fails does not keep the rest from being written.
///
/// # Errors
/// The first that failed.
fn finish(args: &ProfileArgs, profile: &Profile, ceilings: Option<Ceilings>) -> Result<()> {
    let write = |path: &Path, bytes: Result<Vec<u8>>| {
        let bytes = bytes?;
        write_named(path, |file| Ok(file.write_all(&bytes)?))
    };
    let mut done = Vec::new();
    let mut text = profile.table(ceilings);
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(profile).context("--json");
        done.push(write(path, json.map(|json| format!("{json}\n").into_bytes())));
    }
    if let Some(path) = &args.tiles {
        let version = env!("CARGO_PKG_VERSION");
        let about =
            format!("bitfit {version}, {}; medians of {}", profile.device, profile.repeated);
        let lines = tile_sweep::file(&profile.tiles, &about, ceilings.is_some());
        done.push(write(path, Ok(lines.into_bytes())));
        text += &tile_sweep::table(&profile.tiles, ceilings.is_some());
    }
    if let Some(path) = &args.picture {
        done.push(write(path, drawn_as(path, profile, ceilings)));
    }
    done.push(show(text));
    done.into_iter().collect()
}

/// The picture in the format that its name asks for.
fn drawn_as(path: &Path, profile: &Profile, ceilings: Option<Ceilings>) -> Result<Vec<u8>> {
    let picture = ceilings.and_then(|ceilings| profile.picture(ceilings));
    let picture = picture.with_context(|| {
        format!("--picture {}: nothing was timed that could be drawn", path.display())
    })?;
    match path.extension().is_some_and(|extension| extension == "png") {
        true => picture.canvas.png(),
        false => Ok(picture.canvas.svg()?.into_bytes()),
    }
}
