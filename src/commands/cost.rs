//! The cost of a program's operations: a line per operation with its tensors, its work and its gradients.

use crate::backend::MatrixShape;
use crate::program::{
    HeadWeight, Info, Op, ParamRange, PoolKind, Program, Rows, Storage, TableIds, Value, WeightId,
};

/// The work of an operation on the largest batch, with all sequences at maximum length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiplications and additions of matrix products, including attention's. All others are few, and no device waits
    /// for them.
    pub flops: u128,
    /// Of what it reads and writes of tensors, counted once each, and of matrices in the parameter vector and their
    /// gradients.
    pub tensor_bytes: u64,
    /// Elements of the frozen matrices that it reads, however stored.
    pub matrix_elements: u64,
}

/// Bytes per element of the parameter vector: read, or added to in the gradient.
const READ: u64 = 4;
const ADDED: u64 = 8;

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

    /// Bytes to and from memory; matrices have `matrix_bits` per element.
    pub fn bytes(self, matrix_bits: f64) -> f64 {
        self.tensor_bytes as f64 + self.matrix_elements as f64 * matrix_bits / 8.0
    }

    /// Minimum seconds on a device, from its product rate and memory bandwidth per second; matrices have `matrix_bits`
    /// per element.
    pub fn least_seconds(self, flops: f64, bytes: f64, matrix_bits: f64) -> f64 {
        (self.flops as f64 / flops).max(self.bytes(matrix_bits) / bytes)
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

/// A line per operation of a program whose model has these matrices.
pub fn lines(program: &Program, matrices: &[MatrixShape]) -> Vec<Line> {
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
            cost: cost(program, matrices, op),
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

fn cost(program: &Program, matrices: &[MatrixShape], op: &Op) -> Cost {
    let width = |value: Value| program.list().info(value).width as u64;
    let rows = |value: Value| program.limits().rows(program.list().info(value).rows) as u64;
    let mut cost = Cost { tensor_bytes: tensor_bytes(program, op), ..Cost::default() };
    let tokens = program.limits().rows(Rows::Tokens) as u64;
    // Sizes in bytes fit 64 bits, or no program would have been made; the work on them may not.
    let pairs = u128::from(tokens) * program.limits().max_len as u128;
    let product = |rows: u64, matrix: u64| 2 * u128::from(rows) * u128::from(matrix);
    match op {
        Op::Linear(op) => {
            let outputs: usize = op.bias.iter().map(|range| range.len).sum();
            let matrix = width(op.x.0) * outputs as u64;
            cost.flops += product(rows(op.x.0), matrix);
            cost.matrix_elements += matrix;
        }
        Op::LinearBack(op) => {
            let matrix = width(op.dy.0) * width(op.dx.now());
            cost.flops += product(rows(op.dy.0), matrix);
            cost.matrix_elements += matrix;
        }
        Op::WeightGrad(op) => {
            let matrix = width(op.dy.0) * width(op.x.0);
            cost.flops += product(rows(op.dy.0), matrix);
            cost.tensor_bytes += ADDED * matrix;
        }
        Op::Dense(op) => {
            let matrix = width(op.x.0) * width(op.y.0);
            cost.flops += product(rows(op.x.0), matrix);
            cost.read_head(op.weight, matrix);
        }
        Op::DenseBack(op) => {
            let matrix = width(op.x.0) * width(op.dy.0);
            if op.dx.0.is_some() {
                cost.flops += product(rows(op.x.0), matrix);
                cost.read_head(op.weight, matrix);
            }
            if op.dweight.0.is_some() {
                cost.flops += product(rows(op.x.0), matrix);
                cost.tensor_bytes += ADDED * matrix;
            }
        }
        // Two products in forward; backward recomputes the scores and has four products for gradients.
        Op::Attention(op) => cost.flops += 4 * pairs * u128::from(width(op.out.0)),
        Op::AttentionBack(op) => cost.flops += 10 * pairs * u128::from(width(op.out.0)),
        Op::FirstAttention(op) => cost.flops += u128::from(4 * tokens * width(op.out.0)),
        Op::FirstAttentionBack(op) => cost.flops += u128::from(10 * tokens * width(op.dout.0)),
        Op::Embed(op) => {
            let rows: u64 = table_rows(program, matrices, op.tables).iter().sum();
            cost.matrix_elements += rows * width(op.out.0);
        }
        Op::EmbedBack(op) => {
            let rows = table_rows(program, matrices, op.tables);
            cost.matrix_elements += rows.iter().sum::<u64>() * width(op.dx.now);
            for (rows, grad) in rows.into_iter().zip([op.dword, op.dposition, op.dtype]) {
                cost.tensor_bytes += grad.0.map_or(0, |_| ADDED * rows * width(op.dx.now));
            }
        }
        _ => {}
    }
    cost
}

impl Cost {
    fn read_head(&mut self, weight: HeadWeight, matrix: u64) {
        match weight {
            HeadWeight::Frozen(_) => self.matrix_elements += matrix,
            HeadWeight::Param(_) => self.tensor_bytes += READ * matrix,
        }
    }
}

/// How many rows of the embedding tables a batch reads at most, each once: another token with the same row finds it in a
/// cache.
fn table_rows(program: &Program, matrices: &[MatrixShape], tables: TableIds) -> [u64; 3] {
    let limits = program.limits();
    let there = |WeightId(id): WeightId| matrices.get(id).map_or(usize::MAX, |shape| shape.rows);
    let TableIds { word, position, token_type } = tables;
    let rows = [(word, limits.tokens), (position, limits.max_len), (token_type, 2)];
    rows.map(|(table, most)| there(table).min(most).min(limits.tokens) as u64)
}

/// The bytes that an operation reads and writes of its tensors: of most all, of some only a few rows or columns.
fn tensor_bytes(program: &Program, op: &Op) -> u64 {
    let info = |value: Value| program.list().info(value);
    let rows = |rows: Rows| program.limits().rows(rows);
    let whole = |value: Value| program.region(value).len as u64;
    let share = |value: Value, part: usize, of: usize| {
        (u128::from(whole(value)) * part.min(of) as u128 / of.max(1) as u128) as u64
    };
    let some_rows = |value: Value, of: Rows| share(value, rows(of), rows(info(value).rows));
    let some_columns = |value: Value, columns: usize| share(value, columns, info(value).width);
    match op {
        Op::First(op) => some_rows(op.tokens.0, info(op.out.0).rows) + whole(op.out.0),
        Op::AddFirst(op) => whole(op.first.0) + 2 * some_rows(op.tokens.now, info(op.first.0).rows),
        // A mean reads every token.
        Op::Pool(op) if op.kind != PoolKind::Mean => {
            some_rows(op.x.0, info(op.out.0).rows) + whole(op.out.0)
        }
        Op::TakeColumns(op) => some_columns(op.x.0, info(op.out.0).width) + whole(op.out.0),
        Op::AddColumns(op) => whole(op.x.0) + 2 * some_columns(op.y.now, info(op.x.0).width),
        Op::ScaleBack(op) => {
            let slope = op.slope.map_or(0, |slope| whole(slope.0));
            2 * some_columns(op.dx.now, op.factor.len) + some_columns(op.x.0, op.factor.len) + slope
        }
        // At most a column per entry.
        Op::SparseAdd(op) => {
            some_columns(op.x.0, op.entries.count) + 2 * some_columns(op.y.now, op.entries.count)
        }
        Op::SparseGrad(op) => {
            some_columns(op.x.0, op.entries.count) + some_columns(op.dy.0, op.entries.count)
        }
        _ => op.reads().into_iter().chain(op.writes()).map(whole).sum(),
    }
}

#[cfg(test)]
#[path = "cost_tests.rs"]
mod tests;
