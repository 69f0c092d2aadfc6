//! Embeddings, LayerNorm, and the bias gradients that are column sums of what passes there.

use super::args::*;
use super::launch::ROW_TILE;
use super::memory::Address;
use super::{CudaBackend, check_width, row_kind, to_u32};
use crate::backend::{
    BiasGrad, Dropout, EmbedForward, MatrixKind, NormRestore, ParamRange, ResidualNormBackward,
    ResidualNormForward, Rows, XHatType,
};
use anyhow::{Context, Result, ensure};

pub fn embed_forward(cuda: &CudaBackend, op: EmbedForward) -> Result<()> {
    let memory = cuda.memory()?;
    let word = cuda.weights.get(op.word)?;
    let position = cuda.weights.get(op.position)?;
    let types = cuda.weights.get(op.token_type)?;
    let (tokens, width) = (memory.batch.grid.tokens, word.cols);
    check_width(width, "an embedding width")?;
    ensure!(
        [position, types]
            .iter()
            .all(|table| (table.cols, table.format) == (width, word.format)),
        "embedding tables of {width}, {} and {} columns, in {:?}, {:?} and {:?}",
        position.cols,
        types.cols,
        word.format,
        position.format,
        types.format
    );
    let args = EmbedArgs {
        batch: memory.batch.header()?,
        ids: memory.batch.ids()?,
        positions: memory.batch.positions()?,
        type_ids: memory.batch.types()?,
        word: word.matrix(MatrixKind::Table)?,
        position: position.matrix(MatrixKind::Table)?,
        token_type: types.matrix(MatrixKind::Table)?,
        gamma: memory.params.value(op.norm.gamma, width)?,
        beta: memory.params.value(op.norm.beta, width)?,
        out: memory.activation(op.out, tokens, width)?,
        dropout: op.dropout.into(),
        width: to_u32(width)?,
        eps: op.norm.eps,
        types: to_u32(types.rows)?,
        padding: 0,
    };
    cuda.kernels
        .embed_forward(tokens, args)
        .context("embeddings")
}

pub fn forward(cuda: &CudaBackend, op: ResidualNormForward) -> Result<()> {
    let memory = cuda.memory()?;
    let (rows, width) = (memory.rows(op.rows), op.norm.gamma.len);
    check_width(width, "a LayerNorm width")?;
    let (x_hat, rstd) = match op.saved {
        Some(saved) => (
            memory.x_hat(saved, rows, width)?,
            memory.f32(saved.rstd, rows, 1)?,
        ),
        None => (Address::NULL, Address::NULL),
    };
    let args = NormForwardArgs {
        batch: memory.batch.header()?,
        x: memory.activation(op.x, rows, width)?,
        residual: memory.activation(op.residual, rows, width)?,
        gamma: memory.params.value(op.norm.gamma, width)?,
        beta: memory.params.value(op.norm.beta, width)?,
        x_hat,
        rstd,
        dropout: op.dropout.into(),
        width: to_u32(width)?,
        eps: op.norm.eps,
        rows: row_kind(op.rows),
        x_hat_kind: op.saved.map_or(0, |saved| x_hat_kind(saved.stored)),
    };
    cuda.kernels
        .norm_forward(rows, args)
        .context("LayerNorm, forward")
}

pub fn restore(cuda: &CudaBackend, op: NormRestore) -> Result<()> {
    let memory = cuda.memory()?;
    let (rows, width) = (memory.rows(op.rows), op.norm.gamma.len);
    check_width(width, "a LayerNorm width")?;
    let args = NormRestoreArgs {
        batch: memory.batch.header()?,
        x_hat: memory.activation(op.x_hat, rows, width)?,
        gamma: memory.params.value(op.norm.gamma, width)?,
        beta: memory.params.value(op.norm.beta, width)?,
        out: memory.activation(op.out, rows, width)?,
        width: to_u32(width)?,
        rows: row_kind(op.rows),
    };
    cuda.kernels
        .norm_restore(rows, args)
        .context("LayerNorm, restored")
}

pub fn backward(cuda: &CudaBackend, op: ResidualNormBackward) -> Result<()> {
    let memory = cuda.memory()?;
    let (rows, width) = (memory.rows(op.rows), op.gamma.len);
    check_width(width, "a LayerNorm width")?;
    let tiles = rows.div_ceil(ROW_TILE);
    let partial = |which, wanted: Option<ParamRange>| {
        wanted
            .map(|grad| anyhow::Ok((memory.partial(which, tiles * width)?, grad)))
            .transpose()
    };
    let beta: Option<(Address, ParamRange)> = partial(0, op.dbeta)?;
    let bias = partial(1, op.dbias)?;
    let address = |sums: Option<(Address, ParamRange)>| sums.map_or(Address::NULL, |s| s.0);
    let args = NormBackwardArgs {
        batch: memory.batch.header()?,
        dx: memory.activation(op.dx, rows, width)?,
        x_hat: memory.x_hat(op.saved, rows, width)?,
        rstd: memory.f32(op.saved.rstd, rows, 1)?,
        gamma: memory.params.value(op.gamma, width)?,
        d_branch: match op.d_branch {
            Some(region) => memory.activation(region, rows, width)?,
            None => Address::NULL,
        },
        partial_beta: address(beta),
        partial_bias: address(bias),
        dropout: op.dropout.into(),
        width: to_u32(width)?,
        rows: row_kind(op.rows),
        x_hat_kind: x_hat_kind(op.saved.stored),
        padding: 0,
    };
    cuda.kernels
        .norm_backward(rows, args)
        .context("LayerNorm, backward")?;
    if beta.is_none() && bias.is_none() {
        return Ok(());
    }
    memory
        .finish_columns(&cuda.kernels, [beta, bias], width, ROW_TILE, op.rows, false)
        .context("bias gradients at a LayerNorm")
}

pub fn bias_grad(cuda: &CudaBackend, op: BiasGrad) -> Result<()> {
    let memory = cuda.memory()?;
    let width = op.grad.len;
    check_width(width, "a bias gradient")?;
    let dy = memory.activation(op.dy, memory.rows(op.rows), width)?;
    let partial = partial_columns(cuda, dy, None, width, op.dropout, op.rows)?;
    memory
        .finish_columns(
            &cuda.kernels,
            [Some((partial, op.grad)), None],
            width,
            ROW_TILE,
            op.rows,
            false,
        )
        .context("bias gradient")
}

/// First stage of a column sum on its own: of `dropout'(dy)`, or of its product with `factor`.
pub fn partial_columns(
    cuda: &CudaBackend,
    dy: Address,
    factor: Option<Address>,
    width: usize,
    dropout: Dropout,
    rows: Rows,
) -> Result<Address> {
    let memory = cuda.memory()?;
    let count = memory.rows(rows);
    let partial = memory.partial(0, count.div_ceil(ROW_TILE) * width)?;
    cuda.kernels.column_partial(
        count,
        ColumnPartialArgs {
            batch: memory.batch.header()?,
            dy,
            factor: factor.unwrap_or(Address::NULL),
            partial,
            dropout: dropout.into(),
            width: to_u32(width)?,
            rows: row_kind(rows),
        },
    )?;
    Ok(partial)
}

fn x_hat_kind(stored: XHatType) -> u32 {
    match stored {
        XHatType::Full => 0,
        XHatType::Bits8 => 1,
    }
}
