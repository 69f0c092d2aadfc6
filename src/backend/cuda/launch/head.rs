//! The launches of the task head: pooling, dense layers and losses.

use super::{Lane, ROW_THREADS, by_parts, by_rows, warp_rows};
use crate::backend::cuda::args::*;
use crate::backend::cuda::memory::Address;
use anyhow::Result;

impl Lane<'_> {
    pub fn pool_forward(&self, pooled: usize, args: PoolArgs) -> Result<()> {
        let grid = by_rows(pooled, 1, args.width, PART);
        // SAFETY: as for `gemm`.
        unsafe { self.launch("pool_forward", grid, POOL_WARPS * WARP, 0, &args) }
    }

    pub fn pool_backward(&self, rows: usize, args: PoolArgs) -> Result<()> {
        let grid = by_rows(rows, POOL_WARPS, args.width, PART);
        // SAFETY: as for `gemm`.
        unsafe { self.launch("pool_backward", grid, POOL_WARPS * WARP, 0, &args) }
    }

    pub fn dense_forward(&self, rows: usize, args: DenseArgs) -> Result<()> {
        let grid = by_rows(rows, DENSE_ROWS, args.outputs, DENSE_THREADS / WARP);
        let name = match args.frozen.format {
            Format::Half => "dense_forward",
            Format::Int8 | Format::Nf4 => "dense_forward_quantised",
        };
        // SAFETY: as for `gemm`.
        unsafe { self.launch(name, grid, DENSE_THREADS, 0, &args) }
    }

    pub fn dense_backward_bias(&self, args: DenseArgs) -> Result<()> {
        let grid = [(args.outputs as usize).div_ceil(DENSE_THREADS), 1, 1];
        // SAFETY: as for `gemm`.
        unsafe { self.launch("dense_backward_bias", grid, DENSE_THREADS, 0, &args) }
    }

    /// The gradients of input, weight and bias that have an address.
    pub fn dense_backward(&self, rows: usize, args: DenseArgs) -> Result<()> {
        const THREADS: usize = DENSE_BACK_WARPS * WARP;
        let (inputs, outputs) = (args.inputs as usize, args.outputs as usize);
        let wanted =
            |place: Address, blocks: usize| if place == Address::NULL { 0 } else { blocks };
        let input = wanted(args.dx, rows.div_ceil(DENSE_ROWS) * inputs.div_ceil(WARP));
        let weight = wanted(args.dweight, outputs * inputs.div_ceil(THREADS * DENSE_BACK_WEIGHTS));
        let bias = wanted(args.dbias, outputs.div_ceil(THREADS));
        let args = DenseArgs {
            input_blocks: u32::try_from(input)?,
            weight_blocks: u32::try_from(weight)?,
            ..args
        };
        let name = match args.frozen.format {
            Format::Half => "dense_backward",
            Format::Int8 | Format::Nf4 => "dense_backward_quantised",
        };
        // SAFETY: as for `gemm`.
        unsafe { self.launch(name, [input + weight + bias, 1, 1], THREADS, 0, &args) }
    }

    /// For `rows` labelled tokens.
    pub fn wide_forward(&self, rows: usize, args: DenseArgs) -> Result<()> {
        let name = match args.frozen.format {
            Format::Half => "wide_forward",
            Format::Int8 | Format::Nf4 => "wide_forward_quantised",
        };
        let grid = by_rows(rows, WIDE_TILE, args.outputs, WIDE_TILE);
        // SAFETY: as for `gemm`; a block has a tile of the result.
        unsafe { self.launch(name, grid, WIDE_THREADS, 0, &args) }
    }

    pub fn wide_backward(&self, rows: usize, args: DenseArgs) -> Result<()> {
        let name = match args.frozen.format {
            Format::Half => "wide_backward",
            Format::Int8 | Format::Nf4 => "wide_backward_quantised",
        };
        let grid = by_rows(rows, WIDE_TILE, args.inputs, WIDE_TILE);
        // SAFETY: as for `wide_forward`.
        unsafe { self.launch(name, grid, WIDE_THREADS, 0, &args) }
    }

    pub fn classify(&self, sequences: usize, args: ClassifyArgs) -> Result<()> {
        let name = by_parts("classify", args.dense.inputs)?;
        let grid = [sequences.div_ceil(CLASSIFY_ROWS), 1, 1];
        // SAFETY: as for `gemm`; a warp has a sequence.
        unsafe { self.launch(&name, grid, CLASSIFY_ROWS * WARP, 0, &args) }
    }

    pub fn act_norm(&self, rows: usize, args: ActNormArgs) -> Result<()> {
        let name = by_parts("act_norm", args.width)?;
        // SAFETY: as for `gemm`; a warp has a row.
        unsafe { self.launch(&name, warp_rows(rows), ROW_THREADS, 0, &args) }
    }

    pub fn act_norm_backward(&self, rows: usize, args: ActNormArgs) -> Result<()> {
        let name = by_parts("act_norm_backward", args.width)?;
        // SAFETY: as for `act_norm`.
        unsafe { self.launch(&name, warp_rows(rows), ROW_THREADS, 0, &args) }
    }

    /// For sequences.
    pub fn loss(&self, args: LossArgs) -> Result<()> {
        // SAFETY: as for `gemm`; one block.
        unsafe { self.launch("loss", [1, 1, 1], LOSS_WARPS * WARP, 0, &args) }
    }

    pub fn loss_tokens(&self, args: LossArgs) -> Result<()> {
        // SAFETY: as for `gemm`; one block.
        unsafe { self.launch("loss_tokens", [1, 1, 1], TOKEN_LOSS_WARPS * WARP, 0, &args) }
    }

    pub fn loss_spans(&self, args: LossArgs) -> Result<()> {
        // SAFETY: as for `gemm`; one block.
        unsafe { self.launch("loss_spans", [1, 1, 1], TOKEN_LOSS_WARPS * WARP, 0, &args) }
    }

    /// For up to `rows` labelled tokens: the loss of each, and their sum.
    pub fn loss_labelled(&self, rows: usize, args: LossArgs) -> Result<()> {
        // SAFETY: as for `gemm`; a block has a row.
        unsafe { self.launch("loss_labelled", [rows, 1, 1], WORD_LOSS_WARPS * WARP, 0, &args)? };
        let threads = TOKEN_LOSS_WARPS * WARP;
        // SAFETY: as for `gemm`; one block.
        unsafe { self.launch("loss_labelled_sum", [1, 1, 1], threads, 0, &args) }
    }
}
