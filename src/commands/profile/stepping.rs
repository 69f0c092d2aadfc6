//! Runs the steps that `profile` times: as training does, and piece by piece.

use crate::backend::timing::Piece;
use crate::backend::{Backend, DropoutKey};
use crate::batch::{Batch, Labels};
use crate::model::Model;
use crate::program::{AdamW, LossKind, Numbers, Program, Rows, Span};
use anyhow::{Context, Result};
use std::time::Instant;

/// Texts of equal length over the whole vocabulary, with labels for the head's loss.
///
/// # Errors
/// More tokens than a batch can count.
fn batch(model: &Model, program: &Program) -> Result<Batch> {
    let limits = program.limits();
    let len = limits.max_len;
    let sequences = limits.sequences.min(limits.tokens / len);
    let tokens = u32::try_from(sequences * len).context("a batch has fewer than 2^32 tokens")?;
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
    Ok(Batch {
        ids: (0..tokens).map(|i| i.wrapping_mul(7919) % model.config.vocab as u32).collect(),
        type_ids: vec![0; tokens as usize],
        positions: (0..tokens).map(|i| i % len as u32 + offset).collect(),
        cu_seqlens: (0..=sequences).map(|s| (s * len) as u32).collect(),
        labels,
    })
}

/// Runs one step after another.
pub struct Stepping<'a> {
    backend: Box<dyn Backend>,
    program: &'a Program,
    batch: Batch,
    done: u64,
}

impl<'a> Stepping<'a> {
    /// Steps of this program on a device that has memory for it.
    ///
    /// # Errors
    /// More tokens than a batch can count.
    pub fn new(backend: Box<dyn Backend>, model: &Model, program: &'a Program) -> Result<Self> {
        Ok(Self { backend, program, batch: batch(model, program)?, done: 0 })
    }

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
    pub fn whole(&mut self) -> Result<f64> {
        let start = Instant::now();
        let numbers = self.begin()?;
        self.backend.run(self.program, Span::WHOLE, numbers)?;
        self.backend.step_report()?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// A step's pieces, timed separately, with products in the given tile or the device's choice.
    pub fn apart(&mut self, tile: Option<&str>) -> Result<Vec<Piece>> {
        let numbers = self.begin()?;
        let pieces = self.backend.run_timed(self.program, Span::WHOLE, numbers, tile)?;
        self.backend.step_report()?;
        Ok(pieces)
    }
}
