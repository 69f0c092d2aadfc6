//! Runs a program, operation by operation, and what the operations share: where a value lies, and which gradients are
//! asked for.

use super::params::{gradients, read, wide};
use super::{CpuBackend, attend, dense, embed, head, linear, norm, optim, weight_gradients};
use crate::backend::{check, name_of};
use crate::batch::Batch;
use crate::program::{Norm, Numbers, Op, Program, Region, Span, Sum, Value};
use anyhow::{Context, Result, ensure};

pub fn run(cpu: &mut CpuBackend, program: &Program, span: Span, numbers: Numbers) -> Result<()> {
    check::fits(&cpu.batch, program.limits())?;
    for op in program.ops(span) {
        execute(cpu, program, op, numbers).with_context(|| name_of(op, program))?;
    }
    Ok(())
}

fn execute(cpu: &mut CpuBackend, program: &Program, op: &Op, numbers: Numbers) -> Result<()> {
    match op {
        Op::Zero(_) => {
            cpu.zero_gradients();
            Ok(())
        }
        Op::Embed(op) => embed::forward(cpu, program, op),
        Op::EmbedBack(op) => weight_gradients::embed_back(cpu, program, op),
        Op::Linear(op) => linear::forward(cpu, program, op),
        Op::LinearBack(op) => linear::backward(cpu, program, op),
        Op::WeightGrad(op) => weight_gradients::matrix(cpu, program, op),
        Op::Attention(op) => attend::forward(cpu, program, op),
        Op::AttentionBack(op) => attend::backward(cpu, program, op),
        Op::FirstAttention(op) => attend::first_forward(cpu, program, op),
        Op::FirstAttentionBack(op) => attend::first_backward(cpu, program, op),
        Op::First(op) => head::first(cpu, program, op),
        Op::AddFirst(op) => head::add_to_first(cpu, program, op),
        Op::ResidualNorm(op) => norm::forward(cpu, program, op),
        Op::Restore(op) => norm::restored(cpu, program, op),
        Op::NormBack(op) => norm::backward(cpu, program, op),
        Op::GainGrad(op) => weight_gradients::gain(cpu, program, op),
        Op::ColumnSum(op) => norm::column_sum(cpu, program, op),
        Op::Pool(op) => head::pool(cpu, program, op),
        Op::PoolBack(op) => head::pool_back(cpu, program, op),
        Op::Dense(op) => dense::forward(cpu, program, op),
        Op::DenseBack(op) => dense::backward(cpu, program, op),
        Op::Loss(op) => head::loss(cpu, program, op, numbers.weight),
        Op::Update(_) => {
            let update = numbers.update.context("no numbers were given for it")?;
            optim::update(cpu, update)
        }
    }
}

/// Where a value lies, and how many words of 32 bits it has on this batch.
pub fn at(program: &Program, batch: &Batch, value: Value) -> (Option<Region>, usize) {
    let tensor = program.tensor(value);
    let rows = batch.rows(tensor.rows);
    let bytes = tensor
        .storage
        .bytes(rows, tensor.width, super::ACTIVATION_BYTES);
    (Some(tensor.region), bytes / 4)
}

/// The same of a value that may be left out.
pub fn aside(program: &Program, batch: &Batch, value: Option<Value>) -> (Option<Region>, usize) {
    value.map_or((None, 0), |value| at(program, batch, value))
}

/// Two bias gradients of `width` elements, where they are asked for.
pub fn bias_gradients(
    gradient: &mut [f32],
    sums: [Sum; 2],
    width: usize,
) -> Result<[Option<&mut [f32]>; 2]> {
    let [first, second] = sums.map(|Sum(range)| {
        range
            .map(|range| wide(range, width, "a bias gradient"))
            .transpose()
    });
    gradients(gradient, [first?, second?])
}

/// Gain, shift and ε of one LayerNorm.
#[derive(Clone, Copy)]
pub struct Affine<'a> {
    pub gamma: &'a [f32],
    pub beta: &'a [f32],
    pub eps: f32,
}

impl<'a> Affine<'a> {
    /// From the parameter vector.
    pub fn of(values: &'a [f32], norm: Norm) -> Result<Self> {
        wide(norm.beta, norm.gamma.len, "LayerNorm's bias")?;
        ensure!(norm.gamma.len > 0, "LayerNorm over no columns");
        Ok(Self {
            gamma: read(values, norm.gamma)?,
            beta: read(values, norm.beta)?,
            eps: norm.eps,
        })
    }
}
