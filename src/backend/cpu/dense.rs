//! One layer of the task head on pooled vectors, f32 throughout: `y = act(dropout(x)·Wᵀ + b)`.

use super::colsum::{Partials, column_sums};
use super::dropout::Mask;
use super::scratch::Scratch;
use super::weights::View;
use super::{gemm, pointwise};

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
pub struct Layer<'a> {
    pub rows: usize,
    pub inputs: usize,
    pub outputs: usize,
    pub weight: View<'a>,
    pub mask: Option<Mask>,
    pub tanh: bool,
    /// At least `rows · inputs` elements where there is a mask.
    pub room: &'a mut [f32],
    pub scratch: &'a Scratch,
}

/// `y = act(dropout(x)·Wᵀ + bias)`.
pub fn forward(layer: Layer<'_>, x: &[f32], bias: &[f32], y: &mut [f32]) {
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

/// Gradients that [`backward`] leaves; each may be absent.
pub struct Gradients<'a> {
    pub weight: Option<&'a mut [f32]>,
    pub bias: Option<&'a mut [f32]>,
    pub dx: Option<&'a mut [f32]>,
}

/// Backward of [`forward`]. `x` is read only for the weight's gradient, `y` only behind a tanh. `dy` becomes the
/// gradient before the tanh.
pub fn backward(
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
            false,
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
