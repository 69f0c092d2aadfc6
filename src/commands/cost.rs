//! The cost of a program's operations: a line per operation with its tensors, its work and its gradients.

use crate::program::{HeadWeight, Info, Op, ParamRange, Program, Rows, Storage, Value};

/// The work of an operation on the largest batch, with all sequences at maximum length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiplications and additions of matrix products, including attention's. All others are few, and no device waits
    /// for them.
    pub flops: u128,
    /// Of the tensors it reads and writes, counted once each.
    pub tensor_bytes: u64,
    /// Elements of the matrices it reads, however stored.
    pub matrix_elements: u64,
}

impl Cost {
    /// The sum of two operations.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            flops: self.flops + other.flops,
            tensor_bytes: self.tensor_bytes + other.tensor_bytes,
            matrix_elements: self.matrix_elements + other.matrix_elements,
        }
    }

    /// Minimum seconds on a device, from its product rate and memory bandwidth per second; matrices have `matrix_bits`
    /// per element.
    pub fn least_seconds(self, flops: f64, bytes: f64, matrix_bits: f64) -> f64 {
        let moved = self.tensor_bytes as f64 + self.matrix_elements as f64 * matrix_bits / 8.0;
        (self.flops as f64 / flops).max(moved / bytes)
    }
}

/// An operation in a listing.
#[derive(Clone, Debug)]
pub struct Line {
    pub op: &'static str,
    pub block: Option<u16>,
    pub backward: bool,
    pub reads: Vec<String>,
    pub writes: Vec<String>,
    /// Bytes of its output that are kept for backward.
    pub kept: usize,
    pub gradients: Vec<ParamRange>,
    pub cost: Cost,
}

/// A line per operation.
pub fn lines(program: &Program) -> Vec<Line> {
    let list = program.list();
    let ops = list.ops.iter().enumerate();
    ops.map(|(i, op)| {
        let (reads, writes) = (op.reads(), op.writes());
        let named = |values: &[Value]| values.iter().map(|&value| shape(program, value)).collect();
        let kept = writes.iter().filter(|value| program.is_kept(value.index()));
        Line {
            op: op.name(),
            block: list.blocks[i],
            backward: i >= list.parts.backward,
            reads: named(&reads),
            writes: named(&writes),
            kept: kept.map(|&value| program.region(value).len).sum(),
            gradients: op.sums(),
            cost: cost(program, op),
        }
    })
    .collect()
}

/// `name %value [rows, width]`, and its storage if that is not an activation's.
fn shape(program: &Program, value: Value) -> String {
    let Info { what, rows, width, storage, .. } = *program.list().info(value);
    let rows = program.limits().rows(rows);
    let stored = match storage {
        Storage::Activation | Storage::Stream => "",
        Storage::F32 => " f32",
        Storage::XHat8 | Storage::Slope8 => " in 8 bits",
        Storage::Slope4 => " in 4 bits",
    };
    format!("{} %{} [{rows}, {width}]{stored}", what.name(), value.0)
}

fn cost(program: &Program, op: &Op) -> Cost {
    let width = |value: Value| program.list().info(value).width as u64;
    let rows = |value: Value| program.limits().rows(program.list().info(value).rows) as u64;
    let values = op.reads().into_iter().chain(op.writes());
    let mut cost = Cost {
        tensor_bytes: values.map(|value| program.region(value).len as u64).sum(),
        ..Cost::default()
    };
    let tokens = program.limits().rows(Rows::Tokens) as u64;
    // Sizes in bytes fit 64 bits, or no program would have been made; the work on them may not.
    let pairs = u128::from(tokens) * program.limits().max_len as u128;
    let mut product = |rows: u64, matrix: u64| {
        cost.flops += 2 * u128::from(rows) * u128::from(matrix);
        cost.matrix_elements += matrix;
    };
    match op {
        Op::Linear(op) => {
            let outputs: usize = op.bias.iter().map(|range| range.len).sum();
            product(rows(op.x.0), width(op.x.0) * outputs as u64);
        }
        Op::LinearBack(op) => product(rows(op.dy.0), width(op.dy.0) * width(op.dx.now())),
        Op::WeightGrad(op) => {
            let matrix = width(op.dy.0) * width(op.x.0);
            product(rows(op.dy.0), matrix);
        }
        Op::Dense(op) => product(rows(op.x.0), width(op.x.0) * width(op.y.0)),
        Op::DenseBack(op) => {
            let matrix = width(op.x.0) * width(op.dy.0);
            if op.dx.0.is_some() {
                product(rows(op.x.0), matrix);
            }
            if let HeadWeight::Param(_) = op.weight {
                product(rows(op.x.0), matrix);
            }
        }
        // Two products in forward; backward recomputes the scores and has four products for gradients.
        Op::Attention(op) => cost.flops += 4 * pairs * u128::from(width(op.out.0)),
        Op::AttentionBack(op) => cost.flops += 10 * pairs * u128::from(width(op.out.0)),
        Op::FirstAttention(op) => cost.flops += u128::from(4 * tokens * width(op.out.0)),
        Op::FirstAttentionBack(op) => cost.flops += u128::from(10 * tokens * width(op.dout.0)),
        Op::Embed(op) => cost.matrix_elements += 3 * tokens * width(op.out.0),
        Op::EmbedBack(op) => cost.matrix_elements += 3 * tokens * width(op.dx.now),
        _ => {}
    }
    cost
}
