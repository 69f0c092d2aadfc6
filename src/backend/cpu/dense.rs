//! One layer of the task head on pooled vectors, f32 throughout: `y = act(dropout(x)·Wᵀ + b)`.

use super::colsum::{Partials, column_sums};
use super::dropout::Mask;
use super::params::{gradients, read, wide};
use super::scratch::Scratch;
use super::weights::{View, Weights};
use super::{CpuBackend, gemm, pointwise};
use crate::backend::{Dense, DenseBackward, HeadWeight};
use anyhow::{Result, ensure};

/// Copies `x` `[rows, width]` to `room` under the mask; without one, `x` itself is the result.
fn masked<'a>(x: &'a [f32], width: usize, mask: Option<Mask>, room: &'a mut [f32]) -> &'a [f32] {
    let Some(mask) = mask else { return x };
    let room = &mut room[..x.len()];
    for (row, (from, out)) in x
        .chunks_exact(width)
        .zip(room.chunks_exact_mut(width))
        .enumerate()
    {
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
    tanh: bool,
    /// At least `rows · inputs` elements where there is a mask.
    room: &'a mut [f32],
    scratch: &'a Scratch,
}

/// `y = act(dropout(x)·Wᵀ + bias)`.
fn compute_forward(layer: Layer<'_>, x: &[f32], bias: &[f32], y: &mut [f32]) {
    let x = masked(x, layer.inputs, layer.mask, layer.room);
    gemm::forward(x, layer.weight, y, layer.rows, layer.scratch, |mut tile| {
        for row in tile.rows.clone() {
            let cols = tile.cols.clone();
            let values = tile.row(row);
            pointwise::add(values, &bias[cols]);
            if layer.tanh {
                pointwise::tanh(values);
            }
        }
    });
}

/// Gradients that [`compute_backward`] leaves; each may be absent.
struct Gradients<'a> {
    weight: Option<&'a mut [f32]>,
    bias: Option<&'a mut [f32]>,
    dx: Option<&'a mut [f32]>,
}

/// Backward of [`compute_forward`]. `x` is read only for the weight's gradient, `y` only behind a tanh. `dy` becomes the
/// gradient before the tanh.
fn compute_backward(
    layer: Layer<'_>,
    x: &[f32],
    y: &[f32],
    dy: &mut [f32],
    gradients: Gradients<'_>,
    partials: &mut Partials,
) {
    if layer.tanh {
        pointwise::tanh_backward(dy, y);
    }
    if let Some(grad) = gradients.bias {
        column_sums(dy, layer.outputs, 0, None, grad, partials);
    }
    if let Some(grad) = gradients.weight {
        let x = masked(x, layer.inputs, layer.mask, layer.room);
        gemm::weight_gradient(dy, x, grad, layer.rows);
    }
    if let Some(dx) = gradients.dx {
        gemm::backward(
            dy,
            layer.weight,
            dx,
            gemm::Output::Overwrite,
            layer.rows,
            layer.scratch,
            |_| {},
        );
        if let Some(mask) = layer.mask {
            for (row, dx) in dx.chunks_exact_mut(layer.inputs).enumerate() {
                mask.apply(row as u32, dx);
            }
        }
    }
}

/// The matrix of a head layer, checked against the layer's shape.
fn dense_weight<'a>(weights: &'a Weights, value: &'a [f32], op: Dense) -> Result<View<'a>> {
    ensure!(
        op.inputs > 0 && op.outputs > 0,
        "a dense layer without inputs or outputs"
    );
    match op.weight {
        HeadWeight::Frozen(id) => {
            let matrix = weights.get(id, value)?;
            ensure!(
                (matrix.rows, matrix.cols) == (op.outputs, op.inputs),
                "a dense layer's matrix is [{}, {}], not [{}, {}]",
                matrix.rows,
                matrix.cols,
                op.outputs,
                op.inputs
            );
            Ok(matrix.view())
        }
        HeadWeight::Param(range) => {
            let range = wide(range, op.outputs * op.inputs, "a dense layer's matrix")?;
            Ok(View::F32(read(value, range)?))
        }
    }
}

/// See [`Dense`].
pub fn forward(backend: &mut CpuBackend, op: Dense) -> Result<()> {
    let rows = backend.batch.sequences();
    let bias = read(
        &backend.params.value,
        wide(op.bias, op.outputs, "a dense layer's bias")?,
    )?;
    let weight = dense_weight(&backend.weights, &backend.params.value, op)?;
    let [x, y] = backend.arena.regions([
        (Some(op.x), rows * op.inputs),
        (Some(op.y), rows * op.outputs),
    ])?;
    backend.head_input.reserve(rows * op.inputs);
    let layer = Layer {
        rows,
        inputs: op.inputs,
        outputs: op.outputs,
        weight,
        mask: Mask::new(op.dropout, backend.key),
        tanh: op.tanh,
        room: backend.head_input.as_mut_slice(),
        scratch: &backend.scratch,
    };
    compute_forward(layer, x, bias, y);
    Ok(())
}

/// See [`DenseBackward`].
pub fn backward(
    backend: &mut CpuBackend,
    DenseBackward { layer: op, dy, dx }: DenseBackward,
) -> Result<()> {
    let rows = backend.batch.sequences();
    let trained = match op.weight {
        HeadWeight::Param(range) => Some(range),
        HeadWeight::Frozen(_) => None,
    };
    let bias = wide(op.bias, op.outputs, "a dense layer's bias")?;
    let bias = backend.params.trains(bias).then_some(bias);
    let weight = dense_weight(&backend.weights, &backend.params.value, op)?;
    let [dw, db] = gradients(&mut backend.params.gradient, [trained, bias])?;
    let (inputs, outputs) = (rows * op.inputs, rows * op.outputs);
    let wants_dx = dx.is_some();
    let [x, y, dy, dx] = backend.arena.regions([
        (trained.map(|_| op.x), inputs),
        (op.tanh.then_some(op.y), outputs),
        (Some(dy), outputs),
        (dx, inputs),
    ])?;
    backend.head_input.reserve(inputs);
    let layer = Layer {
        rows,
        inputs: op.inputs,
        outputs: op.outputs,
        weight,
        mask: Mask::new(op.dropout, backend.key),
        tanh: op.tanh,
        room: backend.head_input.as_mut_slice(),
        scratch: &backend.scratch,
    };
    let out = Gradients {
        weight: dw,
        bias: db,
        dx: wants_dx.then_some(dx),
    };
    compute_backward(layer, x, y, dy, out, &mut backend.partials);
    Ok(())
}
