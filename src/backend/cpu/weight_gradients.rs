//! The gradients that only full fine-tuning has: of matrices, LayerNorm gains and embedding tables.

use super::colsum::{CHUNK, Partials, finish};
use super::dropout::Mask;
use super::norm::{Affine, normalise, normalise_backward};
use super::params::{gradients, wide};
use super::pointwise::add;
use super::scratch::Scratch;
use super::share::Shared;
use super::simd::{dispatch, fma};
use super::{CpuBackend, embed, gemm};
use crate::backend::weight_gradients::{
    EmbedBackward, GainGrad, TrainedTable, WeightGrad, WeightGradients,
};
use crate::backend::{ParamRange, WeightId};
use crate::batch::Batch;
use anyhow::{Result, ensure};
use rayon::prelude::*;

impl WeightGradients for CpuBackend {
    /// Reads the parameter vector itself: there is no copy.
    fn trained_matrix(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
        range: ParamRange,
    ) -> Result<WeightId> {
        self.weights.add_trained(name, rows, cols, range)
    }

    fn weight_grad(&mut self, op: WeightGrad) -> Result<()> {
        let rows = self.batch.tokens();
        let range = wide(op.grad, op.outputs * op.inputs, "a matrix's gradient")?;
        let [grad] = gradients(&mut self.params.gradient, [Some(range)])?;
        let [dy, x] = self.arena.regions([
            (Some(op.dy), rows * op.outputs),
            (Some(op.x), rows * op.inputs),
        ])?;
        if let Some(grad) = grad {
            gemm::weight_gradient(dy, x, grad, rows);
        }
        Ok(())
    }

    fn gain_grad(&mut self, op: GainGrad) -> Result<()> {
        let width = op.grad.len;
        ensure!(width > 0, "LayerNorm over no columns");
        let count = self.batch.tokens() * width;
        let [grad] = gradients(&mut self.params.gradient, [Some(op.grad)])?;
        let [dy, x_hat] = self
            .arena
            .regions([(Some(op.dy), count), (Some(op.x_hat), count)])?;
        if let Some(grad) = grad {
            product_sums(dy, x_hat, grad, &mut self.partials);
        }
        Ok(())
    }

    fn embed_backward(&mut self, op: EmbedBackward) -> Result<()> {
        let values = &self.params.value;
        let tables = embed::Tables {
            word: self.weights.get(op.word.weight, values)?,
            position: self.weights.get(op.position.weight, values)?,
            token_type: self.weights.get(op.token_type.weight, values)?,
        };
        let norm = super::affine(values, op.norm)?;
        let hidden = norm.gamma.len();
        tables.check(&self.batch, hidden)?;
        let table = |table: embed::Matrix<'_>, trained: TrainedTable| {
            wide(trained.grad, table.rows * hidden, "a table's gradient").map(Some)
        };
        let [dgamma, dbeta, word, position, token_type] = gradients(
            &mut self.params.gradient,
            [
                Some(op.norm.gamma),
                Some(op.norm.beta),
                table(tables.word, op.word)?,
                table(tables.position, op.position)?,
                table(tables.token_type, op.token_type)?,
            ],
        )?;
        let count = self.batch.tokens() * hidden;
        let [dx] = self.arena.regions([(Some(op.dx), count)])?;
        let sums = NormSums { dgamma, dbeta };
        norm_backward(
            tables,
            &self.batch,
            norm,
            Mask::new(op.dropout, self.key),
            dx,
            sums,
            &self.scratch,
            &mut self.partials,
        );
        let batch = &self.batch;
        let order = &mut self.token_order;
        let type_of = |token: u32| tables.type_of(batch, token as usize);
        scatter(order, |t| batch.ids[t as usize], dx, hidden, word);
        scatter(order, |t| batch.positions[t as usize], dx, hidden, position);
        scatter(order, type_of, dx, hidden, token_type);
        Ok(())
    }
}

dispatch! {
    /// `sum += a ⊙ b`.
    fn add_product(sum: &mut [f32], a: &[f32], b: &[f32]) = add_product_body;
}

#[inline(always)]
fn add_product_body<const FMA: bool>(sum: &mut [f32], a: &[f32], b: &[f32]) {
    for ((sum, a), b) in sum.iter_mut().zip(a).zip(b) {
        *sum = fma::<FMA>(*a, *b, *sum);
    }
}

/// `grad += column sums of a ⊙ b`, in two stages as all column sums.
fn product_sums(a: &[f32], b: &[f32], grad: &mut [f32], partials: &mut Partials) {
    let width = grad.len();
    let (lines, _) = partials.lines(a.len().div_ceil(CHUNK * width), width);
    lines
        .par_chunks_exact_mut(width)
        .zip(a.par_chunks(CHUNK * width))
        .zip(b.par_chunks(CHUNK * width))
        .for_each(|((line, a), b)| {
            for (a, b) in a.chunks_exact(width).zip(b.chunks_exact(width)) {
                add_product(line, a, b);
            }
        });
    finish(lines, grad);
}

struct NormSums<'a> {
    dgamma: Option<&'a mut [f32]>,
    dbeta: Option<&'a mut [f32]>,
}

/// `dx` becomes the gradient of the tables' sum; γ and β get theirs.
#[allow(clippy::too_many_arguments)]
fn norm_backward(
    tables: embed::Tables<'_>,
    batch: &Batch,
    norm: Affine<'_>,
    mask: Option<Mask>,
    dx: &mut [f32],
    sums: NormSums<'_>,
    scratch: &Scratch,
    partials: &mut Partials,
) {
    let hidden = norm.gamma.len();
    let (gamma_lines, beta_lines) = partials.lines(dx.len().div_ceil(CHUNK * hidden), hidden);
    dx.par_chunks_mut(CHUNK * hidden)
        .zip(gamma_lines.par_chunks_exact_mut(hidden))
        .zip(beta_lines.par_chunks_exact_mut(hidden))
        .enumerate()
        .for_each(|(chunk, ((dx, gamma_line), beta_line))| {
            scratch.with(hidden, |x_hat| {
                for (token, dx) in (chunk * CHUNK..).zip(dx.chunks_exact_mut(hidden)) {
                    tables.sum(batch, token, x_hat);
                    let rstd = normalise(x_hat, norm.eps);
                    if let Some(mask) = mask {
                        mask.apply(token as u32, dx);
                    }
                    add_product(gamma_line, dx, x_hat);
                    add(beta_line, dx);
                    normalise_backward(dx, x_hat, norm.gamma, rstd);
                }
            });
        });
    for (lines, grad) in [(gamma_lines, sums.dgamma), (beta_lines, sums.dbeta)] {
        if let Some(grad) = grad {
            finish(lines, grad);
        }
    }
}

/// Adds each token's row of `rows` to the row of `grad` that its id names. Tokens of one id are added by one task,
/// in their order, so the sum does not depend on the number of threads.
fn scatter(
    order: &mut Vec<u32>,
    id: impl Fn(u32) -> u32 + Sync,
    rows: &[f32],
    width: usize,
    grad: Option<&mut [f32]>,
) {
    let Some(grad) = grad else { return };
    order.clear();
    order.extend(0..(rows.len() / width) as u32);
    order.sort_unstable_by_key(|&token| (id(token), token));
    let order = &*order;
    let grad = Shared::new(grad);
    (0..order.len()).into_par_iter().for_each(|first| {
        let row = id(order[first]);
        if first > 0 && id(order[first - 1]) == row {
            return;
        }
        // SAFETY: only the first of an id's tokens comes here, so each row belongs to one task.
        let sum = unsafe { grad.slice(row as usize * width, width) };
        for &token in order[first..].iter().take_while(|&&t| id(t) == row) {
            add(sum, &rows[token as usize * width..][..width]);
        }
    });
}
