//! Runs a program: the only place that knows every operation.

use super::{
    CpuBackend, act_norm, activate, attend, colsum, columns, dense, embed, head, linear, loss,
    norm, optim, scale, sparse, weight_gradients,
};
use crate::backend::check;
use crate::backend::timing::Piece;
use crate::program::{Numbers, Op, Program, Span};
use anyhow::{Context, Result};
use std::time::Instant;

/// See [`Backend::run`](crate::backend::Backend::run).
pub fn run(cpu: &mut CpuBackend, program: &Program, span: Span, numbers: Numbers) -> Result<()> {
    each(cpu, program, span, |cpu, _, op| one(cpu, program, op, numbers))
}

/// See [`Backend::run_timed`](crate::backend::Backend::run_timed).
pub fn run_timed(
    cpu: &mut CpuBackend,
    program: &Program,
    span: Span,
    numbers: Numbers,
) -> Result<Vec<Piece>> {
    let mut pieces = Vec::with_capacity(program.ops(span).len());
    each(cpu, program, span, |cpu, i, op| {
        let start = Instant::now();
        one(cpu, program, op, numbers)?;
        let seconds = start.elapsed().as_secs_f64();
        pieces.push(Piece { op: Some(i), kernel: None, seconds });
        Ok(())
    })?;
    Ok(pieces)
}

fn each(
    cpu: &mut CpuBackend,
    program: &Program,
    span: Span,
    mut run: impl FnMut(&mut CpuBackend, usize, &Op) -> Result<()>,
) -> Result<()> {
    // What begins or ends a step runs with whatever batch was set before.
    if span.has_batch() {
        check::fits(&cpu.batch, program.limits())?;
        check::labelled(program.list(), program.limits(), cpu.batch.labelled.len())?;
    }
    for i in program.list().range(span) {
        let op = &program.list().ops[i];
        run(cpu, i, op).with_context(|| program.list().name_of(i))?;
    }
    Ok(())
}

fn one(cpu: &mut CpuBackend, program: &Program, op: &Op, numbers: Numbers) -> Result<()> {
    match op {
        Op::Zero(_) => {
            optim::zero(cpu);
            Ok(())
        }
        Op::Embed(op) => embed::forward(cpu, program, op),
        Op::EmbedBack(op) => weight_gradients::embeddings(cpu, program, op),
        Op::Linear(op) => linear::forward(cpu, program, op),
        Op::LinearBack(op) => linear::backward(cpu, program, op),
        Op::SparseAdd(op) => sparse::add_to(cpu, program, op),
        Op::SparseGrad(op) => sparse::gradient(cpu, program, op),
        Op::SparseSet(op) => sparse::set(cpu, op),
        Op::SparseTake(op) => sparse::take(cpu, op),
        Op::Activate(op) => activate::forward(cpu, program, op),
        Op::ActivateBack(op) => activate::backward(cpu, program, op),
        Op::TakeColumns(op) => columns::take(cpu, program, op),
        Op::AddColumns(op) => columns::add_to(cpu, program, op),
        Op::Scale(op) => scale::forward(cpu, program, op),
        Op::ScaleBack(op) => scale::backward(cpu, program, op),
        Op::WeightGrad(op) => weight_gradients::matrix(cpu, program, op),
        Op::Attention(op) => attend::forward(cpu, program, op),
        Op::AttentionBack(op) => attend::backward(cpu, program, op),
        Op::FirstAttention(op) => attend::first_forward(cpu, program, op),
        Op::FirstAttentionBack(op) => attend::first_backward(cpu, program, op),
        Op::First(op) => head::first(cpu, program, op),
        Op::AddFirst(op) => head::add_first(cpu, program, op),
        Op::ResidualNorm(op) => norm::forward(cpu, program, op),
        Op::Restore(op) => norm::restore(cpu, program, op),
        Op::NormBack(op) => norm::backward(cpu, program, op),
        Op::GainGrad(op) => weight_gradients::gain(cpu, program, op),
        Op::ColumnSum(op) => colsum::run(cpu, program, op),
        Op::Pool(op) => head::pool(cpu, program, op),
        Op::PoolBack(op) => head::pool_back(cpu, program, op),
        Op::Dense(op) => dense::forward(cpu, program, op),
        Op::DenseBack(op) => dense::backward(cpu, program, op),
        Op::ActNorm(op) => act_norm::forward(cpu, program, op),
        Op::ActNormBack(op) => act_norm::backward(cpu, program, op),
        Op::Loss(op) => loss::loss(cpu, program, op, numbers.weight),
        Op::Update(_) => optim::update(cpu, numbers.update),
    }
}
