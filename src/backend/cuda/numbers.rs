// Numbers shared by host and kernels: the codes of kinds, and the sizes on which a launch and its kernel must agree.
// Like structs.rs this is a macro call, from which args.rs makes constants and against which build.rs checks those of
// kernels/: TILE_ROWS is kTileRows.

numbers! {
    /// How the codes of a matrix are stored.
    MatrixFormat: u32 {
        FORMAT_HALF = 0,
        FORMAT_INT8 = 1,
        FORMAT_NF4 = 2,
    }

    /// How many rows an operation has.
    RowKind: u32 {
        ROWS_TOKENS = 0,
        ROWS_SEQUENCES = 1,
        ROWS_LABELLED = 2,
    }

    LossKind: u32 {
        LOSS_CROSS_ENTROPY = 0,
        LOSS_SQUARED = 1,
        LOSS_BINARY = 2,
    }

    ActivationKind: u32 {
        GELU_ERF = 0,
        GELU_TANH = 1,
        RELU = 2,
    }

    /// How the derivative of an activation is stored.
    DerivativeKind: u32 {
        DERIVATIVE_FULL = 0,
        DERIVATIVE_BITS8 = 1,
        DERIVATIVE_BITS4 = 2,
    }

    /// How a LayerNorm's x̂ is stored.
    XHatKind: u32 {
        X_HAT_FULL = 0,
        X_HAT_BITS8 = 1,
    }

    /// `StepOutcome::skip` if the loss scale was lowered.
    SkipKind: u32 {
        SKIP_OVERFLOW = 2,
    }

    /// Threads per warp, and the columns it covers at eight per thread.
    Warp: usize {
        WARP = 32,
        PART = 256,
    }

    /// Products: rows and columns of a block's tile of the result, the depth of its operand tiles and how many are in
    /// flight, and threads per block.
    ProductTile: usize {
        LARGE_TILE = 128,
        MEDIUM_ROWS = 96,
        MEDIUM_COLUMNS = 128,
        SMALL_TILE = 64,
        TILE_DEPTH = 32,
        TILE_STAGES = 3,
        PRODUCT_THREADS = 128,
    }

    /// Products on Hopper: rows of a block's tile, its depth, threads per block, and its most stages by the tile's
    /// columns.
    RingTile: usize {
        RING_ROWS = 128,
        RING_DEPTH = 64,
        RING_THREADS = 384,
        RING_STAGES_96 = 7,
        RING_STAGES_192 = 5,
        RING_STAGES_256 = 4,
    }

    /// The map of a product's left operand on Hopper: the kernel sets the bound of its rows, or it has one of its own.
    LeftMap: u32 {
        LEFT_RAGGED = 0,
        LEFT_PLAIN = 1,
    }

    /// The codes of a matrix are divided into groups of this many columns.
    Stretch: usize {
        STRETCH = 32,
    }

    /// NF4: elements per scale, and scales per group scale.
    Nf4Blocks: usize {
        NF4_BLOCK = 64,
        NF4_GROUP = 256,
    }

    /// Rows of a block with one row per warp.
    RowBlock: usize {
        BLOCK_ROWS = 8,
    }

    /// Rows that a block reduces to one row of partial sums, and its warps.
    RowTile: usize {
        TILE_ROWS = 32,
        TILE_WARPS = 4,
    }

    /// The second stage of column sums: columns per block, and groups of rows.
    ColumnFinish: usize {
        FINISH_COLUMNS = 32,
        FINISH_GROUPS = 8,
    }

    /// Attention: rows and warps of a block (at most, in forward), and rows of the tiles that it iterates over; fewer
    /// if heads are 128 wide. Rows of a warp in forward, and with such heads.
    AttentionTile: usize {
        ATTENTION_ROWS = 64,
        ATTENTION_WARPS = 4,
        ATTENTION_STEP = 64,
        ATTENTION_STEP_WIDE = 32,
        FORWARD_ROWS = 32,
        FORWARD_ROWS_WIDE = 16,
    }

    /// The longest sequence whose keys fit one attention block, and the elements of the tiles that it iterates over.
    ShortAttention: usize {
        SHORT_KEYS = 128,
        SHORT_ELEMENTS = 2048,
    }

    /// First tokens: warps of a block that moves rows, and of one that computes attention.
    FirstToken: usize {
        FIRST_ROW_WARPS = 4,
        FIRST_WARPS = 4,
    }

    HeadBlocks: usize {
        POOL_WARPS = 8,
        DENSE_THREADS = 128,
        DENSE_ROWS = 8,
        DENSE_BACK_WARPS = 8,
        DENSE_BACK_WEIGHTS = 4,
        LOSS_WARPS = 8,
        TOKEN_LOSS_WARPS = 32,
        WORD_LOSS_WARPS = 8,
    }

    /// Sequences of a block that classifies them.
    ClassifyBlock: usize {
        CLASSIFY_ROWS = 8,
    }

    /// Dense layers of labelled tokens: rows and columns of a block's tile of the result, and its threads.
    WideBlocks: usize {
        WIDE_TILE = 64,
        WIDE_THREADS = 256,
    }

    /// The optimizer: threads per block, and elements per partial sum of the gradient norm.
    UpdateBlocks: usize {
        UPDATE_THREADS = 256,
        NORM_CHUNK = 4096,
    }

    /// Working copies of trained matrices.
    RefreshBlock: usize {
        REFRESH_THREADS = 256,
    }
}
