//! Which micro-batches and which way of saving fit in a device's memory.

use super::Model;
use crate::backend::{DeviceKind, Footprint};
use crate::program::{Limits, List, Program, Saving};
use std::sync::Arc;

/// A way of running batches, and the memory it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    pub saving: Saving,
    /// The most tokens of a micro-batch.
    pub tokens: usize,
    pub footprint: Footprint,
}

/// The memory a model takes on a device.
#[derive(Clone, Copy)]
pub struct Budget<'a> {
    pub model: &'a Model,
    pub device: DeviceKind,
    /// That train it together.
    pub ranks: usize,
}

/// Nothing fits; this would be the smallest that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall(pub Fit);

/// From this many tokens on, a larger micro-batch is hardly faster per token, so splitting a batch costs less than any
/// recomputation.
fn efficient_tokens(device: DeviceKind) -> usize {
    match device {
        DeviceKind::Cpu { .. } => 512,
        DeviceKind::Cuda { .. } => 8192,
    }
}

impl Budget<'_> {
    /// Training on batches of up to `limits`, or prediction for `None`.
    pub fn program(&self, limits: Limits, saving: Option<Saving>) -> Program {
        self.model.program(limits, self.device.element_bytes(), saving)
    }

    pub fn footprint(&self, program: &Program) -> Footprint {
        self.device.footprint(&self.model.matrices, &self.model.memory(&[program], self.ranks))
    }

    /// The step that [`program`](Self::program) places.
    pub fn list(&self, saving: Saving) -> Arc<List> {
        self.model.list(Some(saving), false)
    }

    fn fit(&self, list: &Arc<List>, limits: Limits, tokens: usize, saving: Saving) -> Fit {
        let limits = Limits { tokens, sequences: limits.sequences.min(tokens), ..limits };
        let program = list.place(limits, self.device.element_bytes());
        Fit { saving, tokens, footprint: self.footprint(&program) }
    }

    /// For batches of up to `limits`, the largest micro-batches that fit in `memory` bytes, in whole tokens and never
    /// less than the longest sequence.
    pub fn largest(&self, limits: Limits, memory: usize, saving: Saving) -> Result<Fit, TooSmall> {
        let list = self.list(saving);
        let of = |tokens| self.fit(&list, limits, tokens, saving);
        let fits = |fit: &Fit| fit.footprint.total() <= memory;
        let whole = of(limits.tokens);
        if fits(&whole) {
            return Ok(whole);
        }
        let mut best = of(limits.max_len);
        if !fits(&best) {
            return Err(TooSmall(best));
        }
        let mut too_many = limits.tokens;
        while best.tokens + 1 < too_many {
            let middle = of(best.tokens.midpoint(too_many));
            if fits(&middle) {
                best = middle;
            } else {
                too_many = middle.tokens;
            }
        }
        Ok(best)
    }

    /// The fastest of `savings`, given fastest first, that fits in `memory` bytes: the first whose micro-batches are
    /// whole batches or large enough to be efficient; otherwise the one with the largest.
    pub fn choose(
        &self,
        limits: Limits,
        memory: usize,
        savings: &[Saving],
    ) -> Result<Fit, TooSmall> {
        let enough = efficient_tokens(self.device).min(limits.tokens);
        let mut best: Result<Fit, Option<TooSmall>> = Err(None);
        for &saving in savings {
            match (self.largest(limits, memory, saving), &best) {
                (Ok(fit), _) if fit.tokens >= enough => return Ok(fit),
                (Ok(fit), Ok(other)) if fit.tokens <= other.tokens => {}
                (Ok(fit), _) => best = Ok(fit),
                (Err(_), Ok(_)) => {}
                (Err(small), Err(other)) => {
                    let least = |fit: &TooSmall| fit.0.footprint.total();
                    if other.as_ref().is_none_or(|o| least(&small) < least(o)) {
                        best = Err(Some(small));
                    }
                }
            }
        }
        best.map_err(|small| {
            small.unwrap_or_else(|| {
                let list = self.list(Saving::KEEP);
                TooSmall(self.fit(&list, limits, limits.max_len, Saving::KEEP))
            })
        })
    }
}
