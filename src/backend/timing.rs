//! Times of the pieces of a step, each timed on its own: operations, or on a GPU their kernels.

/// A piece of a span.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The operation's place in the list; `None` for what is left to do behind the last.
    pub op: Option<usize>,
    /// On a GPU, where an operation may be several launches, or none.
    pub kernel: Option<Launch>,
    pub seconds: f64,
}

/// A launch of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Launch {
    pub kernel: String,
    pub blocks: usize,
    /// Of a block.
    pub threads: usize,
    /// Of a thread.
    pub registers: usize,
    /// Bytes of a block, static and dynamic.
    pub shared: usize,
    /// Warps that a multiprocessor has at work at once.
    pub warps: usize,
    /// Where it is a product that could be cut into other tiles.
    pub tiled: Option<TiledProduct>,
}

/// A product of matrices, as far as the choice of its tile depends on it: `rows` × `columns` sums over `depth`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TiledProduct {
    /// Its name without the tile's, which follows behind `_`.
    pub kernel: String,
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
    /// Of the device.
    pub multiprocessors: usize,
}
