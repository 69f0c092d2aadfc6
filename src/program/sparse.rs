//! Single trained values added to a frozen matrix, and the operations that a layer with such values adds to its products.

use super::{
    Activate, ActivateBack, Activated, Activation, Aside, Builder, In, LinearLayer, Over,
    ParamRange, SparseAdd, SparseGrad, Sum, Value, What,
};

/// The places of a sparse matrix's entries, one way round: by its rows or by its columns. They are whole numbers, which lie as
/// the bits of f32 in the parameter vector: where each line begins and the last one ends (`lines + 1`), and then, `count` each
/// in the order of the lines, the columns that are read, those that are added to, and the numbers of the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entries {
    pub places: ParamRange,
    /// The rows or columns that there are entries of; of a table all rows.
    pub lines: usize,
    pub count: usize,
}

impl Entries {
    /// Whole numbers for so many lines and entries.
    pub fn words(lines: usize, count: usize) -> usize {
        lines + 1 + 3 * count
    }
}

/// A sparse matrix beside a layer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sparse {
    pub by_rows: Entries,
    pub by_columns: Entries,
    /// They train, in the order of the rows.
    pub values: ParamRange,
}

/// Entries beside the tables of words, positions and token types, whose values lie one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddedRows {
    /// By rows, all of which are there.
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
    /// Adds `x·Sᵀ` to what a layer makes of `x`.
    pub(super) fn add_entries(&mut self, x: Value, y: Value, sparse: &Sparse) -> Value {
        self.sparse_add(x, y, sparse.by_rows, sparse.values)
    }

    /// The entries' own gradients.
    pub(super) fn entries_grad(&mut self, dy: Value, x: Value, sparse: &Sparse) {
        let grad = Sum(Some(sparse.values));
        self.push(SparseGrad { dy: In(dy), x: In(x), entries: sparse.by_rows, grad });
    }

    /// Adds `dy·S` to the gradient of what the layer took.
    pub(super) fn entries_back(&mut self, dy: Value, dx: Value, sparse: &Sparse) -> Value {
        self.sparse_add(dy, dx, sparse.by_columns, sparse.values)
    }

    fn sparse_add(&mut self, x: Value, y: Value, entries: Entries, values: ParamRange) -> Value {
        let now = self.like(self.info(y).what, y);
        self.push(SparseAdd { x: In(x), entries, values, y: Over { was: y, now } });
        now
    }

    /// What an activation makes of `x`, into tensors that are there.
    pub(super) fn activate(&mut self, x: Value, act: Activation, to: Activated) {
        let Activated { out, slope } = to;
        self.push(Activate { x: In(x), act, out: Aside(Some(out)), slope: Aside(Some(slope)) });
    }

    /// Back through the activation behind the layer `below`, which gets its bias's gradient.
    pub(super) fn activate_back(&mut self, dx: Value, slope: Value, below: &LinearLayer) -> Value {
        let now = self.like(What::Gradient, dx);
        let dbias = Sum(below.bias.first().copied());
        self.push(ActivateBack { slope: In(slope), dx: Over { was: dx, now }, dbias });
        now
    }
}
