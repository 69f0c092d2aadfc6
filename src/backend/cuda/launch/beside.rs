//! Launches for methods other than bitfit, next to the products of a step.

use super::{Lane, TILE_THREADS, by_rows};
use crate::backend::cuda::args::*;
use anyhow::Result;

impl Lane<'_> {
    pub fn columns(&self, kernel: &str, rows: usize, args: ColumnsArgs) -> Result<()> {
        let grid = by_rows(rows, TILE_ROWS, args.taken, PART);
        // SAFETY: as for `gemm`.
        unsafe { self.launch(kernel, grid, TILE_THREADS, 0, &args) }
    }

    pub fn sparse_add(&self, rows: usize, args: SparseAddArgs) -> Result<()> {
        let grid = by_rows(rows, TILE_ROWS, args.outputs, PART);
        // SAFETY: as for `gemm`.
        unsafe { self.launch("sparse_add", grid, TILE_THREADS, 0, &args) }
    }

    pub fn sparse_grad(&self, args: SparseGradArgs) -> Result<()> {
        let grid = [(args.entries.count as usize).div_ceil(TILE_WARPS), 1, 1];
        // SAFETY: as for `gemm`; a warp has an entry.
        unsafe { self.launch("sparse_grad", grid, TILE_THREADS, 0, &args) }
    }

    /// Single values of vectors: `sparse_set` or `sparse_take`.
    pub fn sparse_vector(&self, kernel: &str, args: SparseVectorArgs) -> Result<()> {
        let grid = [(args.count as usize).div_ceil(TILE_THREADS), 1, 1];
        // SAFETY: as for `gemm`; a thread has an entry.
        unsafe { self.launch(kernel, grid, TILE_THREADS, 0, &args) }
    }

    /// `activate_forward` or `activate_backward`.
    pub fn activate(&self, kernel: &str, rows: usize, args: ActivateArgs) -> Result<()> {
        let grid = by_rows(rows, TILE_ROWS, args.width, PART);
        // SAFETY: as for `gemm`.
        unsafe { self.launch(kernel, grid, TILE_THREADS, 0, &args) }
    }

    pub fn scale(&self, rows: usize, args: ScaleArgs) -> Result<()> {
        let grid = by_rows(rows, TILE_ROWS, args.width, PART);
        // SAFETY: as for `gemm`.
        unsafe { self.launch("scale_forward", grid, TILE_THREADS, 0, &args) }
    }

    pub fn scale_back(&self, rows: usize, args: ScaleBackArgs) -> Result<()> {
        let grid = by_rows(rows, TILE_ROWS, args.scaled, PART);
        // SAFETY: as for `gemm`.
        unsafe { self.launch("scale_backward", grid, TILE_THREADS, 0, &args) }
    }
}
