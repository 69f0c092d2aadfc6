//! All launches, one typed function per kernel: grid, block and shared memory are decided only here.

mod beside;
pub(super) mod early;
mod head;

use super::args::*;
pub use super::kernels::{AttentionKind, GemmKind, Products};
use super::kernels::{HEAD_DIMS, Kernels};
use super::ring::{LeftRows, RingSettings};
use super::tensor_map::TensorMap;
use super::tiles::GemmTile;
use crate::backend::timing::TiledProduct;
use anyhow::{Context, Result, anyhow, bail, ensure};
use cudarc::driver::{CudaStream, DeviceRepr, LaunchConfig, PushKernelArg};
use std::sync::Arc;

/// Threads of a block with one row per warp.
const ROW_THREADS: usize = BLOCK_ROWS * WARP;
/// Blocks per multiprocessor for a kernel that makes one row of partial sums per block.
const SUMMING_BLOCKS: usize = 2;
/// Threads of a block that makes a row of partial sums.
const TILE_THREADS: usize = TILE_WARPS * WARP;
/// Bytes of shared memory that a block has without requesting more.
const UNASKED_SHARED: usize = 48 * 1024;
/// Elements that a thread reads and writes at a time.
const EIGHT: usize = 8;
/// The most blocks of a grid in its second and third dimension, on any device; the first allows 2³¹ - 1. So what grows
/// with the batch goes in the first, unless the order of blocks matters to the caches.
const MOST_BLOCKS: usize = 65_535;
/// Widest row that stays in a warp's registers.
pub const WIDEST_NORM: usize = 4 * PART;

/// When a kernel begins.
#[derive(Clone, Copy)]
enum Begins {
    /// When the previous launch has ended.
    Behind,
    /// As soon as there is room.
    Early,
}

/// Kernels, and the stream they are launched on.
#[derive(Clone, Copy, Debug)]
pub struct Lane<'a> {
    pub kernels: &'a Kernels,
    pub stream: &'a Arc<CudaStream>,
    /// How products on Hopper run.
    pub ring: RingSettings,
    /// Whether an operation's first kernel may begin while the kernel before it ends.
    pub early: bool,
}

impl Lane<'_> {
    /// Launches `name` with its one argument structure.
    ///
    /// # Safety
    /// `args` must be the structure that the kernel declares, its addresses must hold what the kernel reads and writes
    /// for the current batch, and block and shared memory must be what the kernel was written for.
    unsafe fn launch<A: DeviceRepr>(
        &self,
        name: &str,
        grid: [usize; 3],
        threads: usize,
        shared: usize,
        args: &A,
    ) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.launch_after(Begins::Behind, name, grid, threads, shared, args) }
    }

    /// The same for a kernel that may begin early.
    ///
    /// # Safety
    /// As `launch`; and a kernel that may begin early must wait before it touches what others write.
    unsafe fn launch_after<A: DeviceRepr>(
        &self,
        begins: Begins,
        name: &str,
        grid: [usize; 3],
        threads: usize,
        shared: usize,
        args: &A,
    ) -> Result<()> {
        let failed = || format!("kernel {name}, grid {grid:?}, {threads} threads");
        ensure!(
            grid[0] <= i32::MAX as usize && grid[1].max(grid[2]) <= MOST_BLOCKS,
            "{}: more blocks than a device takes; use fewer tokens or sequences per batch",
            failed()
        );
        let side = |i: usize| u32::try_from(grid[i]).with_context(failed);
        let config = LaunchConfig {
            grid_dim: (side(0)?, side(1)?, side(2)?),
            block_dim: (u32::try_from(threads)?, 1, 1),
            shared_mem_bytes: u32::try_from(shared)?,
        };
        if grid.contains(&0) {
            return Ok(());
        }
        let function = self.kernels.function(name)?;
        self.kernels.stopwatch.time(self.stream, (name, function), config, || {
            // SAFETY: the caller's promise; the argument outlives the call, which copies it.
            unsafe {
                match begins {
                    Begins::Behind => {
                        self.stream.launch_builder(function).arg(args).launch(config).map(drop)
                    }
                    Begins::Early => early::launch(self.stream, function, config, args),
                }
            }
            .with_context(failed)
        })
    }

    /// `product` must be of this kind; `args` are its sizes and addresses.
    pub fn gemm(
        &self,
        kind: GemmKind,
        product: &TiledProduct,
        tile: GemmTile,
        args: GemmArgs,
    ) -> Result<()> {
        let name = format!("{}_{}", product.kernel, tile.name());
        let grid = product_grid(product.rows, product.columns, tile);
        self.kernels.stopwatch.tiled(product);
        if self.kernels.products == Products::Hopper {
            let args = self.by_map(kind, tile, product.rows, args)?;
            let blocks = grid.iter().product::<usize>().min(product.multiprocessors);
            let early = self.early && self.kernels.begin_early && self.ring.overlapping;
            let begins = if early { Begins::Early } else { Begins::Behind };
            let (grid, shared) = ([blocks, 1, 1], tile.shared());
            // SAFETY: as below; any number of blocks goes through all tiles, and each waits before it reads.
            return unsafe { self.launch_after(begins, &name, grid, RING_THREADS, shared, &args) };
        }
        // SAFETY: the argument is a gemm kernel's, built in `linear.rs` from addresses that were checked for the sizes
        // it names. The same holds for the other kernels' arguments, each built in the file of its operation.
        unsafe { self.launch(&name, grid, PRODUCT_THREADS, tile.shared(), &args) }
    }

    /// The same product with operands that Hopper copies by tensor map. x has room for `rows`.
    fn by_map(
        &self,
        kind: GemmKind,
        tile: GemmTile,
        rows: usize,
        args: GemmArgs,
    ) -> Result<RingArgs> {
        let (n, k, half) = (args.n as usize, args.k as usize, self.kernels.half);
        let (x, left_map) = match self.ring.left {
            LeftRows::Ragged => (TensorMap::left(half, args.x, k)?, LEFT_RAGGED),
            LeftRows::Plain => {
                (TensorMap::matrix(half, args.x, [rows, k], [RING_ROWS, RING_DEPTH])?, LEFT_PLAIN)
            }
        };
        // Panels of the matrix as wide as a swizzle allows, unless its rows are the tile's depth.
        let panel = if tile.columns().is_multiple_of(64) { 64 } else { 32 };
        let w = match (args.w.format, kind.transposed()) {
            (Format::Half, false) => {
                TensorMap::matrix(half, args.w.codes, [n, k], [tile.columns(), RING_DEPTH])?
            }
            (Format::Half, true) => {
                TensorMap::matrix(half, args.w.codes, [k, n], [RING_DEPTH, panel])?
            }
            _ => TensorMap::none(),
        };
        let stages = u32::try_from(self.ring.stages.min(tile.stages()))?;
        Ok(RingArgs { x, w, gemm: args, stages, left_map, padding: [0; 14] })
    }

    pub fn norm_forward(&self, rows: usize, args: NormForwardArgs) -> Result<()> {
        let name = by_parts("norm_forward", args.width)?;
        // SAFETY: as for `gemm`; one warp per row.
        unsafe { self.launch(&name, warp_rows(rows), ROW_THREADS, 0, &args) }
    }

    /// Blocks of a kernel that sums columns in addition to its work on rows: one per tile, but at most a few per
    /// multiprocessor, to keep the rows of partial sums few.
    pub fn summing_blocks(&self, rows: usize) -> usize {
        let most = SUMMING_BLOCKS * self.kernels.device.info.multiprocessors as usize;
        rows.div_ceil(TILE_ROWS).min(most.max(1))
    }

    /// Also finishes this many column sums.
    pub fn norm_backward(&self, sums: usize, args: NormBackwardArgs) -> Result<()> {
        let name = by_parts("norm_backward", args.width)?;
        let blocks = args.blocks as usize + sums * args.finish.blocks as usize;
        // SAFETY: as for `gemm`; any number of blocks goes through all rows.
        unsafe { self.launch(&name, [blocks, 1, 1], TILE_THREADS, 0, &args) }
    }

    pub fn norm_restore(&self, rows: usize, args: NormRestoreArgs) -> Result<()> {
        let name = by_parts("norm_restore", args.width)?;
        // SAFETY: as for `gemm`; one warp per row.
        unsafe { self.launch(&name, warp_rows(rows), ROW_THREADS, 0, &args) }
    }

    /// All tables are stored in the same format.
    pub fn embed_forward(&self, tokens: usize, args: EmbedArgs) -> Result<()> {
        let kernel = match args.word.format {
            Format::Half => "embed_forward",
            Format::Int8 => "embed_forward_int8",
            Format::Nf4 => bail!("an embedding table in 4 bits; tables have at least 8"),
        };
        let name = by_parts(kernel, args.width)?;
        // SAFETY: as for `gemm`; one warp per token.
        unsafe { self.launch(&name, warp_rows(tokens), ROW_THREADS, 0, &args) }
    }

    pub fn weight_grad(
        &self,
        product: &TiledProduct,
        tile: GemmTile,
        args: WeightGradArgs,
    ) -> Result<()> {
        let name = format!("{}_{}", product.kernel, tile.name());
        let blocks = |size: u32, tile: usize| (size as usize).div_ceil(tile);
        let grid = [blocks(args.n, tile.columns()), blocks(args.m, tile.rows()), 1];
        self.kernels.stopwatch.tiled(product);
        // SAFETY: as for `gemm`, whose stages these are.
        unsafe { self.launch(&name, grid, PRODUCT_THREADS, tile.shared(), &args) }
    }

    pub fn refresh(&self, args: RefreshArgs) -> Result<()> {
        let blocks = (args.count as usize).div_ceil(REFRESH_THREADS * EIGHT);
        // SAFETY: as for `gemm`; a thread has eight elements.
        unsafe { self.launch("refresh", [blocks, 1, 1], REFRESH_THREADS, 0, &args) }
    }

    pub fn embed_backward(&self, tokens: usize, args: EmbedBackwardArgs) -> Result<()> {
        let kernel = match args.word.format {
            Format::Half => "embed_backward",
            Format::Int8 => "embed_backward_int8",
            Format::Nf4 => bail!("an embedding table in 4 bits; tables have at least 8"),
        };
        let name = by_parts(kernel, args.width)?;
        // SAFETY: as for `gemm`; any number of blocks goes through all rows.
        unsafe { self.launch(&name, [self.summing_blocks(tokens), 1, 1], TILE_THREADS, 0, &args) }
    }

    pub fn table_grad(&self, tokens: usize, args: TableGradArgs) -> Result<()> {
        let grid = by_rows(tokens, TILE_WARPS, args.width, PART);
        // SAFETY: as for `gemm`; one warp per token.
        unsafe { self.launch("table_grad", grid, TILE_THREADS, 0, &args) }
    }

    pub fn column_partial(&self, tokens: usize, args: ColumnPartialArgs) -> Result<()> {
        let grid = by_rows(tokens, TILE_ROWS, args.width, PART);
        // SAFETY: as for `gemm`.
        unsafe { self.launch("column_partial", grid, TILE_THREADS, 0, &args) }
    }

    /// Finishes the first `sums` column sums of `args`.
    pub fn column_finish(&self, sums: usize, args: ColumnFinishArgs) -> Result<()> {
        let grid = [sums * args.blocks as usize, 1, 1];
        let threads = FINISH_COLUMNS * FINISH_GROUPS;
        // SAFETY: as for `gemm`; a block has columns × groups of rows.
        unsafe { self.launch("column_finish", grid, threads, 0, &args) }
    }

    /// [`AttentionKind::BackwardQ`] must precede [`AttentionKind::BackwardKv`]: it computes delta.
    pub fn attention(
        &self,
        kind: AttentionKind,
        max_len: usize,
        sequences: usize,
        args: AttentionArgs,
    ) -> Result<()> {
        let dim = padded_head(args.head_dim)?;
        let warps = kind.warps(dim, max_len);
        let (threads, shared) = (warps * WARP, kind.shared(dim, warps));
        let tiles = match kind {
            AttentionKind::BackwardShort => {
                ensure!(
                    max_len <= SHORT_KEYS,
                    "sequences of {max_len} tokens in a kernel for {SHORT_KEYS}"
                );
                1
            }
            _ => max_len.div_ceil(kind.rows(dim, warps)),
        };
        for (first, count) in by_sequences(sequences) {
            let grid = [tiles, args.heads as usize, count];
            let args = AttentionArgs { first_sequence: u32::try_from(first)?, ..args };
            // SAFETY: as for `gemm`; the shared memory is that of the kernel's tiles.
            unsafe { self.launch(&kind.kernel(dim), grid, threads, shared, &args)? };
        }
        Ok(())
    }

    pub fn gather_first(&self, sequences: usize, args: FirstTokenArgs) -> Result<()> {
        let grid = by_rows(sequences, FIRST_ROW_WARPS, args.width, PART);
        // SAFETY: as for `gemm`; a warp has 256 columns of a row.
        unsafe { self.launch("gather_first", grid, FIRST_ROW_WARPS * WARP, 0, &args) }
    }

    pub fn add_first(&self, sequences: usize, args: FirstTokenArgs) -> Result<()> {
        let grid = by_rows(sequences, FIRST_ROW_WARPS, args.width, PART);
        // SAFETY: as for `gather_first`.
        unsafe { self.launch("add_first", grid, FIRST_ROW_WARPS * WARP, 0, &args) }
    }

    /// Forward keeps a score per key in shared memory; backward also keeps its gradient.
    pub fn first_attention(
        &self,
        backward: bool,
        max_len: usize,
        sequences: usize,
        args: FirstAttentionArgs,
    ) -> Result<()> {
        let (name, scores) = match backward {
            false => ("first_attention_forward", 1),
            true => ("first_attention_backward", 2),
        };
        let name = format!("{name}_{}", padded_head(args.head_dim)?);
        let shared = scores * max_len.next_multiple_of(4) * size_of::<f32>();
        // In addition to what the compiled kernel has for its sums.
        let own = usize::try_from(self.kernels.function(&name)?.shared_size_bytes()?)?;
        let room = UNASKED_SHARED.saturating_sub(own);
        ensure!(
            shared <= room,
            "sequences of up to {max_len} tokens: attention of the first token takes {} of them; shorten them, or \
             pool by the mean",
            room / (scores * size_of::<f32>())
        );
        let grid = [sequences, args.heads as usize, 1];
        // SAFETY: as for `gemm`; a block has a head of a sequence, and room for the scores of the longest.
        unsafe { self.launch(&name, grid, FIRST_WARPS * WARP, shared, &args) }
    }

    /// `blocks` are those of the sums that it finishes, and one per chunk.
    pub fn grad_norm(&self, blocks: usize, args: GradNormArgs) -> Result<()> {
        // SAFETY: as for `gemm`; each block has a place for its sum.
        unsafe { self.launch("grad_norm", [blocks, 1, 1], UPDATE_THREADS, 0, &args) }
    }

    pub fn adamw(&self, args: AdamWArgs) -> Result<()> {
        let blocks = usize::try_from(args.count)?.div_ceil(UPDATE_THREADS);
        // SAFETY: as for `gemm`; a thread per element.
        unsafe { self.launch("adamw", [blocks, 1, 1], UPDATE_THREADS, 0, &args) }
    }
}

/// Blocks of [`ROW_THREADS`] that have a warp for each row.
fn warp_rows(rows: usize) -> [usize; 3] {
    [rows.div_ceil(BLOCK_ROWS), 1, 1]
}

/// Blocks of this many rows and columns each.
fn by_rows(rows: usize, block_rows: usize, columns: u32, block_columns: usize) -> [usize; 3] {
    [rows.div_ceil(block_rows), (columns as usize).div_ceil(block_columns), 1]
}

/// Tiles of a product: all of a row before the next, so that x is read once. Rows beyond what the second dimension
/// allows continue in the third.
fn product_grid(rows: usize, columns: usize, tile: GemmTile) -> [usize; 3] {
    let tiles = rows.div_ceil(tile.rows());
    [columns.div_ceil(tile.columns()), tiles.min(MOST_BLOCKS), tiles.div_ceil(MOST_BLOCKS)]
}

/// The first sequence of each launch, and how many it has: the tiles of a sequence, which share its keys, stay
/// together.
fn by_sequences(sequences: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..sequences)
        .step_by(MOST_BLOCKS)
        .map(move |first| (first, MOST_BLOCKS.min(sequences - first)))
}

/// The kernel variant whose rows have enough 256-column parts.
fn by_parts(kernel: &str, width: u32) -> Result<String> {
    ensure!(
        (1..=WIDEST_NORM).contains(&(width as usize)),
        "a hidden size of {width}: the CUDA kernels support 8 to {WIDEST_NORM}"
    );
    Ok(format!("{kernel}_{}", (width as usize).div_ceil(PART)))
}

fn padded_head(head_dim: u32) -> Result<usize> {
    HEAD_DIMS.into_iter().find(|&dim| head_dim as usize <= dim).ok_or_else(|| {
        anyhow!("a head dimension of {head_dim}: the CUDA kernels support up to 128")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Planned, not allocated: 2²⁷ tokens of a MiniLM would take a terabyte.
    #[test]
    fn no_batch_has_more_blocks_than_a_grid_takes() {
        let (tokens, sequences) = (1 << 27, 1 << 24);
        let grids = [
            product_grid(tokens, 4096, GemmTile::Small),
            warp_rows(tokens),
            by_rows(tokens, POOL_WARPS, 1024, PART),
            by_rows(sequences, 1, 1024, PART),
            by_rows(sequences, DENSE_ROWS, 100_000, DENSE_THREADS / WARP),
        ];
        for [x, y, z] in grids {
            assert!(x <= i32::MAX as usize && y.max(z) <= MOST_BLOCKS, "{x} {y} {z}");
        }
        // Every tile of a product has its place.
        let [_, y, z] = product_grid(tokens, 768, GemmTile::Small);
        assert!(y * z >= tokens / SMALL_TILE && y * z < tokens / SMALL_TILE + MOST_BLOCKS);
        let large = |rows| product_grid(rows, 768, GemmTile::Large);
        assert_eq!(large(128 * MOST_BLOCKS), [6, MOST_BLOCKS, 1]);
        assert_eq!(large(128 * MOST_BLOCKS + 1), [6, MOST_BLOCKS, 2]);
        // And every sequence of attention its launch.
        assert_eq!(by_sequences(MOST_BLOCKS).collect::<Vec<_>>(), [(0, MOST_BLOCKS)]);
        let two: Vec<_> = by_sequences(MOST_BLOCKS + 3).collect();
        assert_eq!(two, [(0, MOST_BLOCKS), (MOST_BLOCKS, 3)]);
    }

    #[test]
    fn sizes_without_a_kernel_are_refused_with_the_limits() {
        assert_eq!(padded_head(8).unwrap(), 32);
        assert_eq!(padded_head(48).unwrap(), 64);
        assert!(padded_head(136).unwrap_err().to_string().contains("136"));
        assert_eq!(by_parts("norm", 8).unwrap(), "norm_1");
        assert_eq!(by_parts("norm", 768).unwrap(), "norm_3");
        assert_eq!(by_parts("norm", 1024).unwrap(), "norm_4");
        for width in [0, 1032] {
            let refused = by_parts("norm", width).unwrap_err().to_string();
            assert!(refused.contains("1024"), "{refused}");
        }
    }
}
