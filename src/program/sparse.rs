//! Single trained values added to a frozen matrix, and the operations that a layer with such values adds to its
//! products.

use super::{
    Activate, ActivateBack, Activated, Activation, Aside, Builder, In, LinearLayer, Over,
    ParamRange, SparseAdd, SparseGrad, Sum, Value, What,
};

/// The places of a sparse matrix's entries, by rows or by columns. They are integers stored as f32 bits in the
/// parameter vector: where each line begins and the last one ends (`lines + 1`), and then, `count` each in line order,
/// the columns read, the columns added to, and the numbers of the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entries {
    pub places: ParamRange,
    /// The rows or columns that have entries; for a table all rows.
    pub lines: usize,
    pub count: usize,
}

impl Entries {
    /// The number of integers for this many lines and entries.
    pub fn words(lines: usize, count: usize) -> usize {
        lines + 1 + 3 * count
    }
}

/// A sparse matrix next to a layer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sparse {
    pub by_rows: Entries,
    pub by_columns: Entries,
    /// They train, in row order.
    pub values: ParamRange,
}

/// Entries added to the tables of words, positions and token types, whose values are stored one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddedRows {
    /// By rows, including all of them.
    pub tables: [Entries; 3],
    pub values: ParamRange,
}

impl AddedRows {
    /// The values of each table.
    pub fn parts(self, of: ParamRange) -> [ParamRange; 3] {
        let mut offset = of.offset;
        self.tables.map(|table| {
            let part = ParamRange { offset, len: table.count };
            offset = part.end();
            part
        })
    }
}

impl Builder {
    /// Adds `x·Sᵀ` to a layer's output on `x`.
    pub(super) fn add_entries(&mut self, x: Value, y: Value, sparse: &Sparse) -> Value {
        self.sparse_add(x, y, sparse.by_rows, sparse.values)
    }

    /// The entries' own gradients.
    pub(super) fn entries_grad(&mut self, dy: Value, x: Value, sparse: &Sparse) {
        let grad = Sum(Some(sparse.values));
        self.push(SparseGrad { dy: In(dy), x: In(x), entries: sparse.by_rows, grad });
    }

    /// Adds `dy·S` to the gradient of the layer's input.
    pub(super) fn entries_back(&mut self, dy: Value, dx: Value, sparse: &Sparse) -> Value {
        self.sparse_add(dy, dx, sparse.by_columns, sparse.values)
    }

    fn sparse_add(&mut self, x: Value, y: Value, entries: Entries, values: ParamRange) -> Value {
        let now = self.like(self.info(y).what, y);
        self.push(SparseAdd { x: In(x), entries, values, y: Over { was: y, now } });
        now
    }

    /// Applies an activation to `x`, into existing tensors.
    pub(super) fn activate(&mut self, x: Value, act: Activation, to: Activated) {
        let Activated { out, slope } = to;
        self.push(Activate { x: In(x), act, out: Aside(Some(out)), slope: Aside(Some(slope)) });
    }

    /// Back through the activation after the layer `below`, which gets its bias gradient.
    pub(super) fn activate_back(&mut self, dx: Value, slope: Value, below: &LinearLayer) -> Value {
        let now = self.like(What::Gradient, dx);
        let dbias = Sum(below.bias.first().copied());
        self.push(ActivateBack { slope: In(slope), dx: Over { was: dx, now }, dbias });
        now
    }
}
