//! Times of the pieces of a step, each timed separately: operations, or on a GPU their kernels.

/// A piece of a span.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The operation's index in the list; `None` for work that remains after the last.
    pub op: Option<usize>,
    /// On a GPU, where an operation may be several launches or none.
    pub kernel: Option<Launch>,
    pub seconds: f64,
}

/// A launch of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Launch {
    pub kernel: String,
    pub blocks: usize,
    /// Per block.
    pub threads: usize,
    /// Per thread.
    pub registers: usize,
    /// Bytes per block, static and dynamic.
    pub shared: usize,
    /// Warps that a multiprocessor can have active at once.
    pub warps: usize,
    /// If it is a product that could be cut into other tiles.
    pub tiled: Option<TiledProduct>,
}

/// A matrix product, as far as the choice of its tile depends on it: `rows` × `columns` sums over `depth`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TiledProduct {
    /// Its name without the tile's, which follows after `_`.
    pub kernel: String,
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
    /// Of the device.
    pub multiprocessors: usize,
}
