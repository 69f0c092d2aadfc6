//! Column sums of `[rows, width]` tensors: the bias gradients.
//!
//! In two stages, so that the result does not depend on the number of threads: rows are cut into chunks of fixed size,
//! each chunk sums its rows into a line of partial sums, and the lines are added in order.

use super::CpuBackend;
use super::aligned::Aligned;
use super::dropout::Mask;
use super::operands::Operands;
use super::params::bias_gradients;
use super::pointwise::add;
use super::share::Shared;
use super::workers::Workers;
use crate::program::{ColumnSum, Program};
use anyhow::Result;

/// Rows summed into one line of partial sums; also the unit of work for row-wise operations.
pub const CHUNK: usize = 32;

/// See [`ColumnSum`].
pub fn run(cpu: &mut CpuBackend, program: &Program, op: &ColumnSum) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let shape = at.shape(op.dy.0)?;
    let mask = Mask::new(op.dropout, cpu.key, (shape.0, 1));
    let [grad] = bias_gradients(&mut cpu.params.gradient, [op.grad], shape.1)?;
    let [dy] = cpu.arena.regions([at.whole(op.dy.0, shape)?])?;
    if let Some(grad) = grad {
        column_sums(dy, shape.1, 0, mask, grad, &mut cpu.partials, &cpu.workers);
    }
    Ok(())
}

/// Partial sums of two tensors of `rows` rows and up to `widest` columns.
pub fn partials(rows: usize, widest: usize) -> usize {
    2 * rows.div_ceil(CHUNK) * widest
}

/// Room for the partial sums of two tensors at once.
#[derive(Default)]
pub struct Partials {
    memory: Aligned,
}

impl Partials {
    /// See [`partials`] for `count`.
    pub fn new(count: usize) -> Result<Self> {
        Ok(Self { memory: Aligned::new(count, 0.0, "partial sums")? })
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// Two zeroed groups of `lines` lines of `width` partial sums; grows only beyond what was planned.
    pub fn lines(&mut self, lines: usize, width: usize) -> (&mut [f32], &mut [f32]) {
        self.memory.reserve(2 * lines * width);
        let used = &mut self.memory.as_mut_slice()[..2 * lines * width];
        used.fill(0.0);
        used.split_at_mut(lines * width)
    }
}

/// `grad += sum of the lines`, in order. Destroys the first line.
pub fn finish(lines: &mut [f32], grad: &mut [f32]) {
    if lines.is_empty() {
        return;
    }
    let (total, rest) = lines.split_at_mut(grad.len());
    for line in rest.chunks_exact(grad.len()) {
        add(total, line);
    }
    add(grad, total);
}

/// `grad += column sums` of columns `from..from + grad.len()` of `x` `[rows, stride]`, under `mask` if any.
pub fn column_sums(
    x: &[f32],
    stride: usize,
    from: usize,
    mask: Option<Mask>,
    grad: &mut [f32],
    partials: &mut Partials,
    workers: &Workers,
) {
    let width = grad.len();
    let chunks = x.len().div_ceil(CHUNK * stride);
    let (lines, rows) = partials.lines(chunks, width);
    let rows = Shared::new(rows);
    workers.chunks(lines, width, |chunk, line| {
        let x = &x[chunk * CHUNK * stride..x.len().min((chunk + 1) * CHUNK * stride)];
        for (row, x) in x.chunks_exact(stride).enumerate() {
            let x = &x[from..from + width];
            match mask {
                None => add(line, x),
                Some(mask) => {
                    // SAFETY: each chunk uses its own line of the second group, as room for a masked row.
                    let masked = unsafe { rows.slice(chunk * width, width) };
                    mask.copy((chunk * CHUNK + row) as u32, x, masked);
                    add(line, masked);
                }
            }
        }
    });
    finish(lines, grad);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_accumulate_onto_the_gradient_and_cover_a_ragged_last_chunk() {
        let (rows, stride) = (CHUNK * 2 + 5, 7);
        let x: Vec<f32> = (0..rows * stride).map(|i| (i % 11) as f32).collect();
        let mut grad = vec![100.0; 3];
        column_sums(&x, stride, 2, None, &mut grad, &mut Partials::default(), &Workers::default());
        for (col, got) in grad.iter().enumerate() {
            let want: f32 = (0..rows).map(|r| x[r * stride + 2 + col]).sum();
            assert_eq!(*got, 100.0 + want);
        }
    }
}
