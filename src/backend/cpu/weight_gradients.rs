//! The gradients that only full fine-tuning has: of matrices, LayerNorm gains and embedding tables.

use super::colsum::{CHUNK, Partials, finish};
use super::dropout::Mask;
use super::norm_row::{normalise, normalise_backward};
use super::params::{gradients, wide};
use super::pointwise::add;
use super::run::{Affine, at};
use super::scratch::Scratch;
use super::share::Shared;
use super::simd::{dispatch, fma};
use super::{CpuBackend, embed, gemm};
use crate::batch::Batch;
use crate::program::{EmbedBack, GainGrad, ParamRange, Program, Sum, WeightGrad};
use anyhow::{Result, ensure};
use rayon::prelude::*;

/// See [`WeightGrad`].
pub fn matrix(cpu: &mut CpuBackend, program: &Program, op: &WeightGrad) -> Result<()> {
    let (outputs, inputs) = (program.tensor(op.dy.0).width, program.tensor(op.x.0).width);
    let range = op
        .grad
        .0
        .map(|range| wide(range, outputs * inputs, "a matrix's gradient"))
        .transpose()?;
    let [grad] = gradients(&mut cpu.params.gradient, [range])?;
    let batch = &cpu.batch;
    let [dy, x] = cpu
        .arena
        .regions([at(program, batch, op.dy.0), at(program, batch, op.x.0)])?;
    if let Some(grad) = grad {
        gemm::weight_gradient(dy, x, grad, batch.rows(program.tensor(op.dy.0).rows));
    }
    Ok(())
}

/// See [`GainGrad`].
pub fn gain(cpu: &mut CpuBackend, program: &Program, op: &GainGrad) -> Result<()> {
    let [grad] = gradients(&mut cpu.params.gradient, [op.grad.0])?;
    let batch = &cpu.batch;
    let [dy, x_hat] = cpu
        .arena
        .regions([at(program, batch, op.dy.0), at(program, batch, op.x_hat.0)])?;
    if let Some(grad) = grad {
        ensure!(!grad.is_empty(), "LayerNorm over no columns");
        product_sums(dy, x_hat, grad, &mut cpu.partials);
    }
    Ok(())
}

/// See [`EmbedBack`].
pub fn embed_back(cpu: &mut CpuBackend, program: &Program, op: &EmbedBack) -> Result<()> {
    let values = &cpu.params.value;
    let ids = [op.word, op.position, op.token_type];
    let tables = embed::Tables::of(&cpu.weights, values, ids)?;
    let norm = Affine::of(values, op.norm)?;
    let hidden = norm.gamma.len();
    tables.check(&cpu.batch, hidden)?;
    let table = |table: embed::Matrix<'_>, Sum(range): Sum| -> Result<Option<ParamRange>> {
        range
            .map(|range| wide(range, table.rows * hidden, "a table's gradient"))
            .transpose()
    };
    let [dgamma, dbeta, word, position, token_type] = gradients(
        &mut cpu.params.gradient,
        [
            op.dgamma.0,
            op.dbeta.0,
            table(tables.word, op.dword)?,
            table(tables.position, op.dposition)?,
            table(tables.token_type, op.dtype)?,
        ],
    )?;
    let batch = &cpu.batch;
    let [dx] = cpu.arena.regions([at(program, batch, op.dx.now)])?;
    norm_backward(
        tables,
        batch,
        norm,
        Mask::new(op.dropout, cpu.key),
        dx,
        NormSums { dgamma, dbeta },
        &cpu.scratch,
        &mut cpu.partials,
    );
    let order = &mut cpu.token_order;
    let type_of = |token: u32| tables.type_of(batch, token as usize);
    scatter(order, |t| batch.ids[t as usize], dx, hidden, word);
    scatter(order, |t| batch.positions[t as usize], dx, hidden, position);
    scatter(order, type_of, dx, hidden, token_type);
    Ok(())
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
