//! One layer of the task head on the vectors of sequences or tokens, all in f32: `y = act(dropout(x)·Wᵀ + b)`.

use super::colsum::{Partials, column_sums};
use super::dropout::Mask;
use super::gemm::{self, Output};
use super::operands::Operands;
use super::params::{gradients, read, wide};
use super::weights::{HostMatrices, View};
use super::workers::Workers;
use super::{CpuBackend, pointwise};
use crate::program::{Dense, DenseBack, HeadWeight, Program};
use anyhow::{Result, ensure};

/// Copies `x` `[rows, width]` to `room` under the mask; without a mask the result is `x` itself.
fn masked<'a>(x: &'a [f32], width: usize, mask: Option<Mask>, room: &'a mut [f32]) -> &'a [f32] {
    let Some(mask) = mask else { return x };
    let room = &mut room[..x.len()];
    for (row, (from, out)) in x.chunks_exact(width).zip(room.chunks_exact_mut(width)).enumerate() {
        mask.copy(row as u32, from, out);
    }
    room
}

/// What both directions need.
struct Layer<'a> {
    rows: usize,
    inputs: usize,
    outputs: usize,
    weight: View<'a>,
    mask: Option<Mask>,
    /// Forward: after the product. Backward: in the layer below, whose output is `x`.
    tanh: bool,
    /// At least `rows · inputs` elements if there is a mask.
    room: &'a mut [f32],
    workers: &'a Workers,
}

/// `y = act(dropout(x)·Wᵀ + bias)`.
fn compute_forward(layer: Layer<'_>, x: &[f32], bias: &[f32], y: &mut [f32]) {
    let x = masked(x, layer.inputs, layer.mask, layer.room);
    let factors = gemm::forward(layer.weight, (layer.rows, layer.outputs, layer.inputs));
    gemm::product(x, factors, Output::new(y), layer.workers, |_, cols, values| {
        pointwise::add(values, &bias[cols]);
        if layer.tanh {
            pointwise::tanh(values);
        }
    });
}

/// Gradients that [`compute_backward`] writes; each may be absent.
struct Gradients<'a> {
    weight: Option<&'a mut [f32]>,
    bias: Option<&'a mut [f32]>,
    dx: Option<&'a mut [f32]>,
}

/// Backward of [`compute_forward`]. `x` is read only for the weight's gradient, and if it is the output of a tanh: then
/// the layer's `tanh` is set, and `dx` is the gradient before the tanh.
fn compute_backward(
    layer: Layer<'_>,
    x: &[f32],
    dy: &[f32],
    gradients: Gradients<'_>,
    partials: &mut Partials,
) {
    if let Some(grad) = gradients.bias {
        column_sums(dy, layer.outputs, 0, None, grad, partials, layer.workers);
    }
    if let Some(grad) = gradients.weight {
        let x = masked(x, layer.inputs, layer.mask, layer.room);
        gemm::weight_gradient(dy, x, grad, layer.rows, layer.workers);
    }
    if let Some(dx) = gradients.dx {
        let factors = gemm::backward(layer.weight, (layer.rows, layer.outputs, layer.inputs));
        gemm::product(dy, factors, Output::new(dx), layer.workers, |_, _, _| {});
        if let Some(mask) = layer.mask {
            for (row, dx) in dx.chunks_exact_mut(layer.inputs).enumerate() {
                mask.apply(row as u32, dx);
            }
        }
        if layer.tanh {
            pointwise::tanh_backward(dx, x);
        }
    }
}

/// The matrix of a head layer, checked against the layer's shape.
fn dense_weight<'a>(
    weights: &'a HostMatrices,
    value: &'a [f32],
    weight: HeadWeight,
    (outputs, inputs): (usize, usize),
) -> Result<View<'a>> {
    match weight {
        HeadWeight::Frozen(id) => {
            let matrix = weights.get(id, value)?;
            ensure!(
                (matrix.rows, matrix.cols) == (outputs, inputs),
                "a dense layer's matrix is [{}, {}], not [{outputs}, {inputs}]",
                matrix.rows,
                matrix.cols,
            );
            Ok(matrix.view())
        }
        HeadWeight::Param(range) => {
            let range = wide(range, outputs * inputs, "a dense layer's matrix")?;
            Ok(View::F32(read(value, range)?))
        }
    }
}

/// See [`Dense`].
pub fn forward(cpu: &mut CpuBackend, program: &Program, op: &Dense) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let outputs = at.shape(op.y.0)?.1;
    let (of_rows, inputs) = at.shape(op.x.0)?;
    let rows = cpu.batch.rows(of_rows);
    let bias = wide(op.bias, outputs, "a dense layer's bias")?;
    let bias = read(&cpu.params.value, bias)?;
    let shape = (outputs, inputs);
    let weight = dense_weight(&cpu.weights, &cpu.params.value, op.weight, shape)?;
    let [x, y] = cpu
        .arena
        .regions([at.whole(op.x.0, (of_rows, inputs))?, at.whole(op.y.0, (of_rows, outputs))?])?;
    let mask = Mask::new(op.dropout, cpu.key, (of_rows, 1));
    if mask.is_some() {
        cpu.head_input.reserve(rows * inputs);
    }
    let layer = Layer {
        rows,
        inputs,
        outputs,
        weight,
        mask,
        tanh: op.tanh,
        room: cpu.head_input.as_mut_slice(),
        workers: &cpu.workers,
    };
    compute_forward(layer, x, bias, y);
    Ok(())
}

/// See [`DenseBack`].
pub fn backward(cpu: &mut CpuBackend, program: &Program, op: &DenseBack) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let (of_x, of_y) = (at.shape(op.x.0)?, at.shape(op.dy.0)?);
    let (inputs, outputs) = (of_x.1, of_y.1);
    let rows = cpu.batch.rows(of_x.0);
    let shape = (outputs, inputs);
    let weight = dense_weight(&cpu.weights, &cpu.params.value, op.weight, shape)?;
    for (range, width) in [(op.dweight.0, outputs * inputs), (op.dbias.0, outputs)] {
        if let Some(range) = range {
            wide(range, width, "a dense layer's gradient")?;
        }
    }
    let sums = [op.dweight.0, op.dbias.0];
    let [dw, db] = gradients(&mut cpu.params.gradient, sums)?;
    let reads_x = op.dweight.0.is_some() || (op.tanh && op.dx.0.is_some());
    let [x, dy, dx] = cpu.arena.regions([
        at.aside(reads_x.then_some(op.x.0), of_x)?,
        at.whole(op.dy.0, of_y)?,
        at.aside(op.dx.0, of_x)?,
    ])?;
    let mask = Mask::new(op.dropout, cpu.key, (of_x.0, 1));
    if mask.is_some() {
        cpu.head_input.reserve(rows * inputs);
    }
    let layer = Layer {
        rows,
        inputs,
        outputs,
        weight,
        mask,
        tanh: op.tanh,
        room: cpu.head_input.as_mut_slice(),
        workers: &cpu.workers,
    };
    let out = Gradients { weight: dw, bias: db, dx: op.dx.0.is_some().then_some(dx) };
    compute_backward(layer, x, dy, out, &mut cpu.partials);
    Ok(())
}
