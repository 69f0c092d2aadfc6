//! All launches, one typed function a kernel: grid, block and shared memory are decided here and nowhere else.

use super::args::*;
pub use super::kernels::{ATTENTION_SHORT, ATTENTION_TILE, AttentionKind};
use super::kernels::{HEAD_DIMS, Kernels};
use super::to_u32;
use anyhow::{Context, Result, anyhow, bail, ensure};
use cudarc::driver::{DeviceRepr, LaunchConfig, PushKernelArg};

/// Threads of a block whose warps have a row each (`kRows`).
const ROW_THREADS: u32 = 256;
/// Rows of a LayerNorm or column-sum block's partial sums (`kTileRows`).
pub const ROW_TILE: usize = 32;
/// Elements of one partial sum of the gradient norm (`kChunk`).
pub const NORM_CHUNK: usize = 4096;
/// Bytes of shared memory for the scores of a first token: what a block has beside its sums without asking for more.
const FIRST_SCORES: usize = 44 * 1024;
/// Columns that one warp of a row-wise kernel covers.
const PART: usize = 256;
/// Widest row that stays in a warp's registers.
pub const WIDEST_NORM: usize = 4 * PART;

/// Which product a linear layer's kernel makes, and what it does to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GemmKind {
    /// `x·Wᵀ + bias`
    Bias,
    /// `act(x·Wᵀ + bias)`
    Activation,
    /// `x·W`
    Back,
    /// `out + x·W`
    BackAdd,
    /// `(x·W) ⊙ act′`
    BackSlope,
}

/// Tile of `out` that one block computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GemmTile {
    /// 128 × 128: fastest where it fills the device.
    Large,
    /// 64 × 64: four times the blocks.
    Small,
}

impl GemmTile {
    /// Rows and columns.
    pub fn side(self) -> usize {
        match self {
            Self::Large => 128,
            Self::Small => 64,
        }
    }

    /// The tile that should finish first on a device with `multiprocessors`, by counting waves: a large tile is
    /// four small ones of work, and a small one runs at about two thirds of its speed.
    pub fn choose(rows: usize, columns: usize, multiprocessors: usize) -> Self {
        let waves = |tile: Self| {
            let blocks = rows.div_ceil(tile.side()) * columns.div_ceil(tile.side());
            blocks.div_ceil(multiprocessors.max(1))
        };
        if waves(Self::Large) * 4 * 2 <= waves(Self::Small) * 3 { Self::Large } else { Self::Small }
    }
}

impl Kernels {
    /// Launches `name` with its one argument structure.
    ///
    /// # Safety
    /// `args` must be the structure that the kernel declares, its addresses must hold what the kernel reads and
    /// writes for the current batch, and block and shared memory must be what the kernel was written for.
    unsafe fn launch<A: DeviceRepr>(
        &self,
        name: &str,
        grid: [usize; 3],
        threads: u32,
        shared: usize,
        args: &A,
    ) -> Result<()> {
        let failed = || format!("kernel {name}, grid {grid:?}, {threads} threads");
        let side = |i: usize| u32::try_from(grid[i]).with_context(failed);
        let config = LaunchConfig {
            grid_dim: (side(0)?, side(1)?, side(2)?),
            block_dim: (threads, 1, 1),
            shared_mem_bytes: u32::try_from(shared)?,
        };
        if grid.contains(&0) {
            return Ok(());
        }
        let function = self.function(name)?;
        // SAFETY: the caller's promise; the argument outlives the call, which copies it.
        unsafe { self.device.stream.launch_builder(function).arg(args).launch(config) }
            .with_context(failed)?;
        Ok(())
    }

    pub fn gemm(&self, kind: GemmKind, tile: GemmTile, rows: usize, args: GemmArgs) -> Result<()> {
        let kind = match kind {
            GemmKind::Bias => "bias",
            GemmKind::Activation => "activation",
            GemmKind::Back => "back",
            GemmKind::BackAdd => "back_add",
            GemmKind::BackSlope => "back_slope",
        };
        let size = match tile {
            GemmTile::Large => "large",
            GemmTile::Small => "small",
        };
        let name = format!("{}_{kind}_{size}", args.w.format.products());
        let side = tile.side();
        let grid = [(args.n as usize).div_ceil(side), rows.div_ceil(side), 1];
        // Three stages of a 32-wide tile of both operands.
        let shared = 3 * 2 * side * 32 * 2;
        // SAFETY: the argument is a gemm kernel's, built in `linear.rs` of addresses that were checked for the sizes it
        // names. Of the other kernels' arguments the same holds, each built in the file of its operation.
        unsafe { self.launch(&name, grid, 128, shared, &args) }
    }

    pub fn norm_forward(&self, rows: usize, args: NormForwardArgs) -> Result<()> {
        let name = by_parts("norm_forward", args.width)?;
        // SAFETY: as for `gemm`; one warp a row.
        unsafe { self.launch(&name, warp_rows(rows), ROW_THREADS, 0, &args) }
    }

    pub fn norm_backward(&self, rows: usize, args: NormBackwardArgs) -> Result<()> {
        let name = by_parts("norm_backward", args.width)?;
        // SAFETY: as for `gemm`; a block has ROW_TILE rows.
        unsafe { self.launch(&name, [rows.div_ceil(ROW_TILE), 1, 1], 128, 0, &args) }
    }

    pub fn norm_restore(&self, rows: usize, args: NormRestoreArgs) -> Result<()> {
        let name = by_parts("norm_restore", args.width)?;
        // SAFETY: as for `gemm`; one warp a row.
        unsafe { self.launch(&name, warp_rows(rows), ROW_THREADS, 0, &args) }
    }

    /// The tables are all stored alike.
    pub fn embed_forward(&self, tokens: usize, args: EmbedArgs) -> Result<()> {
        let kernel = match args.word.format {
            Format::Half => "embed_forward",
            Format::Int8 => "embed_forward_int8",
            Format::Nf4 => bail!("an embedding table in 4 bits: tables have 8 at least"),
        };
        let name = by_parts(kernel, args.width)?;
        // SAFETY: as for `gemm`; one warp a token.
        unsafe { self.launch(&name, warp_rows(tokens), ROW_THREADS, 0, &args) }
    }

    pub fn weight_grad(&self, tile: GemmTile, args: WeightGradArgs) -> Result<()> {
        let name = match tile {
            GemmTile::Large => "weight_grad_large",
            GemmTile::Small => "weight_grad_small",
        };
        let side = tile.side();
        let grid = [(args.n as usize).div_ceil(side), (args.m as usize).div_ceil(side), 1];
        // SAFETY: as for `gemm`, whose stages these are.
        unsafe { self.launch(name, grid, 128, 3 * 2 * side * 32 * 2, &args) }
    }

    pub fn refresh(&self, args: RefreshArgs) -> Result<()> {
        let blocks = (args.count as usize).div_ceil(256 * 8);
        // SAFETY: as for `gemm`; a thread has eight elements.
        unsafe { self.launch("refresh", [blocks, 1, 1], 256, 0, &args) }
    }

    pub fn embed_backward(&self, tokens: usize, args: EmbedBackwardArgs) -> Result<()> {
        let name = by_parts("embed_backward", args.width)?;
        // SAFETY: as for `gemm`; a block has ROW_TILE rows.
        unsafe { self.launch(&name, [tokens.div_ceil(ROW_TILE), 1, 1], 128, 0, &args) }
    }

    pub fn table_grad(&self, tokens: usize, args: TableGradArgs) -> Result<()> {
        let grid = [tokens.div_ceil(4), (args.width as usize).div_ceil(PART), 1];
        // SAFETY: as for `gemm`; one warp a token, four a block.
        unsafe { self.launch("table_grad", grid, 128, 0, &args) }
    }

    pub fn column_partial(&self, tokens: usize, args: ColumnPartialArgs) -> Result<()> {
        let grid = [(args.width as usize).div_ceil(PART), tokens.div_ceil(ROW_TILE), 1];
        // SAFETY: as for `gemm`.
        unsafe { self.launch("column_partial", grid, 128, 0, &args) }
    }

    /// Finishes the first `sums` column sums of `args`.
    pub fn column_finish(&self, sums: usize, args: ColumnFinishArgs) -> Result<()> {
        let grid = [(args.width as usize).div_ceil(32), sums, 1];
        // SAFETY: as for `gemm`; 32 columns × 8 groups of rows a block.
        unsafe { self.launch("column_finish", grid, 256, 0, &args) }
    }

    /// [`AttentionKind::BackwardQ`] goes before [`AttentionKind::BackwardKv`]: it makes delta.
    pub fn attention(
        &self,
        kind: AttentionKind,
        max_len: usize,
        sequences: usize,
        args: AttentionArgs,
    ) -> Result<()> {
        let dim = padded_head(args.head_dim)?;
        let warps = kind.warps(max_len);
        let (threads, shared) = (to_u32(warps * 32)?, kind.shared(dim, warps));
        let tiles = match kind {
            AttentionKind::BackwardShort => {
                ensure!(
                    max_len <= ATTENTION_SHORT,
                    "sequences of {max_len} tokens in a kernel for {ATTENTION_SHORT}"
                );
                1
            }
            _ => max_len.div_ceil(ATTENTION_TILE),
        };
        let grid = [tiles, args.heads as usize, sequences];
        // SAFETY: as for `gemm`; the shared memory is that of the kernel's tiles.
        unsafe { self.launch(&kind.kernel(dim), grid, threads, shared, &args) }
    }

    pub fn gather_first(&self, sequences: usize, args: FirstTokenArgs) -> Result<()> {
        let grid = first_grid(args.width, sequences);
        // SAFETY: as for `gemm`; a warp has 256 columns of a row, a block four rows.
        unsafe { self.launch("gather_first", grid, 128, 0, &args) }
    }

    pub fn add_first(&self, sequences: usize, args: FirstTokenArgs) -> Result<()> {
        let grid = first_grid(args.width, sequences);
        // SAFETY: as for `gather_first`.
        unsafe { self.launch("add_first", grid, 128, 0, &args) }
    }

    /// Forward keeps a score a key in shared memory, backward its gradient, too.
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
        let shared = scores * max_len.next_multiple_of(4) * size_of::<f32>();
        ensure!(
            shared <= FIRST_SCORES,
            "sequences of up to {max_len} tokens: attention of the first token takes {} of them; shorten them, or \
             pool by the mean",
            FIRST_SCORES / (scores * size_of::<f32>())
        );
        let name = format!("{name}_{}", padded_head(args.head_dim)?);
        let grid = [sequences, args.heads as usize, 1];
        // SAFETY: as for `gemm`; a block has a head of a sequence, and room for the scores of the longest.
        unsafe { self.launch(&name, grid, 128, shared, &args) }
    }

    pub fn pool_forward(&self, sequences: usize, args: PoolArgs) -> Result<()> {
        let grid = [(args.width as usize).div_ceil(PART), sequences, 1];
        // SAFETY: as for `gemm`.
        unsafe { self.launch("pool_forward", grid, 256, 0, &args) }
    }

    pub fn pool_backward(&self, rows: usize, args: PoolArgs) -> Result<()> {
        let grid = [(args.width as usize).div_ceil(PART), rows.div_ceil(8), 1];
        // SAFETY: as for `gemm`.
        unsafe { self.launch("pool_backward", grid, 256, 0, &args) }
    }

    pub fn dense_forward(&self, sequences: usize, args: DenseArgs) -> Result<()> {
        let grid = [(args.outputs as usize).div_ceil(4), sequences.div_ceil(8), 1];
        let name = match args.frozen.format {
            Format::Half => "dense_forward",
            Format::Int8 | Format::Nf4 => "dense_forward_quantised",
        };
        // SAFETY: as for `gemm`.
        unsafe { self.launch(name, grid, 128, 0, &args) }
    }

    pub fn dense_backward_bias(&self, args: DenseArgs) -> Result<()> {
        let grid = [(args.outputs as usize).div_ceil(128), 1, 1];
        // SAFETY: as for `gemm`.
        unsafe { self.launch("dense_backward_bias", grid, 128, 0, &args) }
    }

    pub fn dense_backward_weight(&self, args: DenseArgs) -> Result<()> {
        let grid = [(args.inputs as usize).div_ceil(512), args.outputs as usize, 1];
        // SAFETY: as for `gemm`.
        unsafe { self.launch("dense_backward_weight", grid, 128, 0, &args) }
    }

    pub fn dense_backward_input(&self, sequences: usize, args: DenseArgs) -> Result<()> {
        let grid = [(args.inputs as usize).div_ceil(128), sequences, 1];
        let name = match args.frozen.format {
            Format::Half => "dense_backward_input",
            Format::Int8 | Format::Nf4 => "dense_backward_input_quantised",
        };
        // SAFETY: as for `gemm`.
        unsafe { self.launch(name, grid, 128, 0, &args) }
    }

    pub fn loss(&self, args: LossArgs) -> Result<()> {
        // SAFETY: as for `gemm`; one block.
        unsafe { self.launch("loss", [1, 1, 1], 256, 0, &args) }
    }

    pub fn grad_norm_partial(&self, args: NormPartialArgs) -> Result<()> {
        let chunks = usize::try_from(args.count)?.div_ceil(NORM_CHUNK);
        // SAFETY: as for `gemm`.
        unsafe { self.launch("grad_norm_partial", [chunks, 1, 1], 256, 0, &args) }
    }

    pub fn step_decision(&self, args: StepDecisionArgs) -> Result<()> {
        // SAFETY: as for `gemm`; one block.
        unsafe { self.launch("step_decision", [1, 1, 1], 256, 0, &args) }
    }

    pub fn adamw(&self, args: AdamWArgs) -> Result<()> {
        let blocks = usize::try_from(args.count)?.div_ceil(256);
        // SAFETY: as for `gemm`; a thread an element.
        unsafe { self.launch("adamw", [blocks, 1, 1], 256, 0, &args) }
    }
}

/// Blocks of [`ROW_THREADS`] that have a warp for each row.
fn warp_rows(rows: usize) -> [usize; 3] {
    [rows.div_ceil(ROW_THREADS as usize / 32), 1, 1]
}

fn first_grid(width: u32, sequences: usize) -> [usize; 3] {
    [(width as usize).div_ceil(PART), sequences.div_ceil(4), 1]
}

/// The kernel whose rows have enough 256-column parts.
fn by_parts(kernel: &str, width: u32) -> Result<String> {
    ensure!(
        (1..=WIDEST_NORM).contains(&(width as usize)),
        "a hidden size of {width}: the CUDA kernels take 8 to {WIDEST_NORM}"
    );
    Ok(format!("{kernel}_{}", (width as usize).div_ceil(PART)))
}

fn padded_head(head_dim: u32) -> Result<usize> {
    HEAD_DIMS
        .into_iter()
        .find(|&dim| head_dim as usize <= dim)
        .ok_or_else(|| anyhow!("a head dimension of {head_dim}: the CUDA kernels take up to 128"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_products_get_large_tiles_and_small_ones_small() {
        // BERT-base, 32 × 128 tokens, on an A100.
        assert_eq!(GemmTile::choose(4096, 3072, 108), GemmTile::Large);
        // One short sequence.
        assert_eq!(GemmTile::choose(16, 384, 108), GemmTile::Small);
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
