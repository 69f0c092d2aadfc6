//! The programs of a run: how its batches are split and what is kept, so that they fit in memory.

use crate::backend::{DeviceKind, Footprint};
use crate::data::{BatchLimits, Batches, Largest, evaluation_batches};
use crate::error::UsageError;
use crate::methods::Trains;
use crate::model::Model;
use crate::model::fit::{Budget, Fit, TooSmall};
use crate::program::{Limits, Program, Saving};
use crate::settings::saving::SavingChoice;
use crate::settings::train::TrainConfig;
use crate::table::grouped;
use crate::train::steps::Steps;
use anyhow::{Result, bail};

/// Checks what trains against the kernels of the device.
///
/// # Errors
/// A rank that the kernels of a GPU do not support.
pub fn fits_kernels(trains: &Trains, device: DeviceKind) -> Result<(), UsageError> {
    match (trains.low_rank(), device) {
        (Some(lora), DeviceKind::Cuda { .. }) if !lora.rank.is_multiple_of(8) => {
            Err(UsageError::new(format!(
                "--lora-rank {}: the CUDA kernels need a multiple of 8",
                lora.rank
            )))
        }
        _ => Ok(()),
    }
}

/// Those for training and evaluation; they share one arena.
pub struct Programs {
    pub train: Program,
    /// The batches of each set of dev rows, and the program that runs them all.
    pub dev: Option<(Vec<Batches>, Program)>,
    /// What training keeps.
    pub saving: Saving,
    /// What the device will hold.
    pub planned: Footprint,
}

impl Programs {
    /// Plans them for each device of this many ranks; `steps` are split into micro-batches if `--memory` requires it.
    ///
    /// # Errors
    /// A way of saving that the method does not have; a memory limit in which nothing fits.
    pub fn plan(
        model: &Model,
        (device, ranks): (DeviceKind, usize),
        steps: &mut Steps<'_>,
        config: &TrainConfig,
        dev_lengths: &[Vec<u32>],
    ) -> Result<Self> {
        let budget = Budget { model, device, ranks };
        let savings = savings(config.saving, model)?;
        let batch = BatchLimits { sequences: config.batch_size, tokens: config.batch_tokens };
        let largest = steps.largest(config.length);
        let dev_batches = |tokens| {
            let limits = BatchLimits { tokens, ..batch };
            let batches = dev_lengths.iter().map(|lengths| evaluation_batches(lengths, limits));
            batches.collect::<Result<Vec<_>>>()
        };
        model.addressable(limits(largest), device)?;
        let (saving, tokens) = match config.memory {
            None => (savings[0], None),
            Some(memory) => {
                let longest = dev_lengths.iter().flatten().max();
                let max_len = largest.len.max(longest.map_or(0, |&len| len as usize));
                let both = Limits {
                    tokens: largest.tokens.max(max_len),
                    sequences: config.batch_size,
                    max_len,
                };
                match budget.choose(both, memory.0, &savings) {
                    Ok(fit) => (fit.saving, Some(fit.tokens)),
                    Err(TooSmall(fit)) => bail!(too_small(memory.0, fit)),
                }
            }
        };
        if let Some(tokens) = tokens {
            steps.split(tokens);
        }
        let train = Limits {
            tokens: largest.tokens.min(tokens.unwrap_or(usize::MAX)),
            sequences: largest.sequences.min(tokens.unwrap_or(usize::MAX)),
            ..limits(largest)
        };
        let train = budget.program(train, Some(saving));
        let dev_tokens = match (tokens, batch.tokens) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let dev = dev_batches(dev_tokens)?;
        let largest =
            dev.iter().zip(dev_lengths).map(|(batches, lengths)| batches.largest(lengths));
        let largest = largest.map(limits).reduce(larger);
        let dev = largest.map(|limits| (dev, budget.program(limits, None)));
        let mut programs = Self { train, dev, saving, planned: Footprint::default() };
        programs.planned =
            budget.device.footprint(&model.matrices, &model.memory(&programs.all(), ranks));
        Ok(programs)
    }

    fn all(&self) -> Vec<&Program> {
        let dev = self.dev.iter().map(|(_, program)| program);
        std::iter::once(&self.train).chain(dev).collect()
    }

    /// Bytes kept for backward, per token of the largest batch.
    pub fn saved_per_token(&self) -> f64 {
        let saved: usize = self.train.saved().map(|(_, region)| region.len).sum();
        saved as f64 / self.train.limits().tokens.max(1) as f64
    }

    /// A line on the memory that the run takes.
    pub fn summary(&self, allocated: Footprint) -> String {
        let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        let Footprint { weights, params, arena, batch, workspace } = allocated;
        format!(
            "memory: {:.2} MiB: frozen weights {:.2}, parameters with optimizer {:.2}, activations {:.2}, workspace {:.2}; \
             saving {}, up to {} tokens at a time",
            mib(allocated.total()),
            mib(weights),
            mib(params),
            mib(arena),
            mib(batch + workspace),
            self.saving,
            grouped(self.train.limits().tokens)
        )
    }
}

pub fn limits(largest: Largest) -> Limits {
    Limits { tokens: largest.tokens, sequences: largest.sequences, max_len: largest.len }
}

/// Limits that cover both.
pub fn larger(one: Limits, other: Limits) -> Limits {
    Limits {
        tokens: one.tokens.max(other.tokens),
        sequences: one.sequences.max(other.sequences),
        max_len: one.max_len.max(other.max_len),
    }
}

/// The choices that `--saving` leaves, fastest first.
///
/// # Errors
/// A way of saving that is not available for what trains.
pub fn savings(choice: SavingChoice, model: &Model) -> Result<Vec<Saving>> {
    match choice {
        SavingChoice::Auto if model.trains_weights() => Ok(vec![Saving::KEEP]),
        SavingChoice::Auto => Ok(Saving::EXACT.to_vec()),
        SavingChoice::Only(saving) if model.trains_weights() && saving != Saving::KEEP => {
            Err(UsageError::new(format!(
                "--saving {saving} does not work with --method full, whose weight gradients need what it does not keep"
            ))
            .into())
        }
        SavingChoice::Only(saving) => Ok(vec![saving]),
    }
}

fn too_small(memory: usize, least: Fit) -> String {
    format!(
        "--memory {} bytes is too little: the smallest that runs is {} (--saving {}, micro-batches of {} tokens, the \
         longest text); shorten texts with --max-length, store --weights in fewer bits, or give more",
        grouped(memory),
        grouped(least.footprint.total()),
        least.saving,
        grouped(least.tokens)
    )
}
