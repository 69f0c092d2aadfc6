//! The gradients of matrices, LayerNorm gains and embedding tables, which bias-only training does not have.

use super::colsum::{CHUNK, Partials, finish};
use super::dropout::Mask;
use super::norm::Affine;
use super::normalise::{normalise, normalise_backward};
use super::operands::Operands;
use super::params::{bias_gradients, gradients, wide};
use super::pointwise::{add, add_product};
use super::share::Shared;
use super::workers::Workers;
use super::x_hat::XHats;
use super::{CpuBackend, embed, gemm, sparse};
use crate::batch::Batch;
use crate::program::{EmbedBack, GainGrad, Program, Rows, WeightGrad};
use anyhow::{Result, ensure};

/// See [`WeightGrad`].
pub fn matrix(cpu: &mut CpuBackend, program: &Program, op: &WeightGrad) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let (dy, x) = (at.shape(op.dy.0)?, at.shape(op.x.0)?);
    if let Some(range) = op.grad.0 {
        wide(range, dy.1 * x.1, "a matrix's gradient")?;
    }
    let [grad] = gradients(&mut cpu.params.gradient, [op.grad.0])?;
    let rows = cpu.batch.rows(dy.0);
    let [dy, x] = cpu.arena.regions([at.whole(op.dy.0, dy)?, at.whole(op.x.0, (dy.0, x.1))?])?;
    if let Some(grad) = grad {
        gemm::weight_gradient(dy, x, grad, rows, &cpu.workers);
    }
    Ok(())
}

/// See [`GainGrad`].
pub fn gain(cpu: &mut CpuBackend, program: &Program, op: &GainGrad) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let shape = at.shape(op.dy.0)?;
    let [grad] = bias_gradients(&mut cpu.params.gradient, [op.grad], shape.1)?;
    let (x_hat, storage) = at.stored(op.x_hat.0, shape)?;
    let [dy, x_hat] = cpu.arena.regions([at.whole(op.dy.0, shape)?, x_hat])?;
    if let Some(grad) = grad {
        let x_hat = XHats::new(storage, x_hat)?;
        product_sums(dy, &x_hat, grad, &mut cpu.partials, &cpu.workers);
    }
    Ok(())
}

/// See [`EmbedBack`].
pub fn embeddings(cpu: &mut CpuBackend, program: &Program, op: &EmbedBack) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let hidden = at.shape(op.dx.now)?.1;
    let values = &cpu.params.value;
    let ids = op.tables.ids();
    let tables = embed::Tables::get(&cpu.weights, values, ids)?;
    let norm = Affine::read(values, op.norm, hidden)?;
    tables.check(&cpu.batch, hidden)?;
    let tables = tables.with(values, op.added)?;
    for (sum, rows) in [
        (op.dgamma, 1),
        (op.dbeta, 1),
        (op.dword, tables.word.rows),
        (op.dposition, tables.position.rows),
        (op.dtype, tables.token_type.rows),
    ] {
        if let Some(range) = sum.0 {
            wide(range, rows * hidden, "a gradient of the embeddings")?;
        }
    }
    let sums = [op.dgamma, op.dbeta, op.dword, op.dposition, op.dtype, op.dadded];
    let sums = sums.map(|sum| sum.0);
    let [dgamma, dbeta, word, position, token_type, beside] =
        gradients(&mut cpu.params.gradient, sums)?;
    let [dx] = cpu.arena.regions([at.over(op.dx, (Rows::Tokens, hidden))?])?;
    norm_backward(
        tables,
        &cpu.batch,
        norm,
        Mask::new(op.dropout, cpu.key, (Rows::Tokens, 1)),
        dx,
        NormSums { dgamma, dbeta },
        &mut cpu.partials,
        &cpu.workers,
    );
    let batch = &cpu.batch;
    let order = &mut cpu.token_order;
    let type_of = |token: u32| tables.type_of(batch, token as usize);
    scatter(order, |t| batch.ids[t as usize], dx, hidden, word, &cpu.workers);
    scatter(order, |t| batch.positions[t as usize], dx, hidden, position, &cpu.workers);
    scatter(order, type_of, dx, hidden, token_type, &cpu.workers);
    if let (Some(added), Some(grad)) = (op.added, beside) {
        ensure!(grad.len() == added.values.len, "a gradient of {} elements", grad.len());
        sparse::beside_tables(values, added, &tables, batch, dx, grad)?;
    }
    Ok(())
}

/// `grad += column sums of dy ⊙ x̂`, in two stages like all column sums.
fn product_sums(
    dy: &[f32],
    x_hat: &XHats<'_>,
    grad: &mut [f32],
    partials: &mut Partials,
    workers: &Workers,
) {
    let width = grad.len();
    let (lines, _) = partials.lines(dy.len().div_ceil(CHUNK * width), width);
    workers.chunks(lines, width, |chunk, line| {
        let rows = &dy[chunk * CHUNK * width..dy.len().min((chunk + 1) * CHUNK * width)];
        for (row, dy) in (chunk * CHUNK..).zip(rows.chunks_exact(width)) {
            // SAFETY: nobody writes x̂ here, and each row is read by one task.
            unsafe { x_hat.add_product(row, dy, line) };
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
    partials: &mut Partials,
    workers: &Workers,
) {
    let hidden = norm.gamma.len();
    let (gamma_lines, beta_lines) = partials.lines(dx.len().div_ceil(CHUNK * hidden), hidden);
    let (len, gammas, betas) = (dx.len(), Shared::new(gamma_lines), Shared::new(beta_lines));
    let dx = Shared::new(dx);
    workers.run_with(len.div_ceil(CHUNK * hidden), hidden, |chunk, x_hat| {
        let from = chunk * CHUNK * hidden;
        // SAFETY: each chunk has its own rows and lines.
        let (dx, gamma_line, beta_line) = unsafe {
            (
                dx.slice(from, (CHUNK * hidden).min(len - from)),
                gammas.slice(chunk * hidden, hidden),
                betas.slice(chunk * hidden, hidden),
            )
        };
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
    for (lines, grad) in [(gamma_lines, sums.dgamma), (beta_lines, sums.dbeta)] {
        if let Some(grad) = grad {
            finish(lines, grad);
        }
    }
}

/// Adds each token's row of `rows` to the row of `grad` given by its id. Tokens with the same id are added by one task,
/// in order, so the sum does not depend on the number of threads.
fn scatter(
    order: &mut Vec<u32>,
    id: impl Fn(u32) -> u32 + Sync,
    rows: &[f32],
    width: usize,
    grad: Option<&mut [f32]>,
    workers: &Workers,
) {
    let Some(grad) = grad else { return };
    order.clear();
    order.extend(0..(rows.len() / width) as u32);
    order.sort_unstable_by_key(|&token| (id(token), token));
    let order = &*order;
    let grad = Shared::new(grad);
    workers.run(order.len(), |first| {
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
