//! The gradients of matrices, gains and tables, and the 16-bit copies of trained matrices.

use super::args::*;
use super::column_sums::{Tiles, address};
use super::memory::Address;
use super::norm::{Summed, sum_columns};
use super::operands::LaunchOperands;
use super::tiles::GemmTile;
use super::{CudaBackend, check_width, sparse, to_u32};
use crate::backend::MatrixKind;
use crate::program::{EmbedBack, GainGrad, ParamRange, Rows, Sum, WeightGrad};
use anyhow::{Context, Result, ensure};

/// Rounds every trained matrix to its working copy, after its values have changed.
pub fn refresh(cuda: &CudaBackend) -> Result<()> {
    let memory = cuda.memory()?;
    for (weight, range) in cuda.weights.trained() {
        let args = RefreshArgs {
            value: memory.params.value(range, range.len)?,
            copy: weight.halves()?,
            count: range.len as u64,
        };
        cuda.lane().refresh(args).context("copies of trained matrices")?;
    }
    Ok(())
}

/// See [`WeightGrad`].
pub fn matrix(at: &LaunchOperands<'_>, op: &WeightGrad) -> Result<()> {
    let Sum(Some(grad)) = op.grad else {
        return Ok(());
    };
    let (outputs, inputs) = (at.width(op.dy.0), at.width(op.x.0));
    check_width(outputs, "a linear layer's output width")?;
    check_width(inputs, "a linear layer's input width")?;
    ensure!(
        grad.len == outputs * inputs,
        "a gradient of {} elements for a {outputs}×{inputs} matrix",
        grad.len,
    );
    ensure!(at.rows(op.dy.0) == Rows::Tokens, "the gradient of a matrix is taken over all tokens");
    let args = WeightGradArgs {
        batch: at.memory.batch.header()?,
        state: at.memory.state()?,
        dy: at.at(op.dy.0)?,
        x: at.at(op.x.0)?,
        grad: at.memory.params.gradient(grad)?,
        m: to_u32(outputs)?,
        n: to_u32(inputs)?,
    };
    let sizes = [outputs, inputs, at.count(op.x.0)];
    let (product, tile) = at.cuda.tiled("weight_grad".into(), sizes, &GemmTile::SQUARE);
    at.lane.weight_grad(&product, tile, args)
}

/// See [`GainGrad`].
pub fn gain(at: &LaunchOperands<'_>, op: &GainGrad) -> Result<()> {
    let (dy, x_hat) = (at.at(op.dy.0)?, at.at(op.x_hat.0)?);
    let factor = (x_hat, at.tensor(op.x_hat.0).info.storage);
    sum_columns(at, op.grad, Summed { factor, ..Summed::all(dy, at.rows(op.dy.0)) })
}

/// See [`EmbedBack`].
pub fn embed_back(at: &LaunchOperands<'_>, op: &EmbedBack) -> Result<()> {
    let batch = &at.memory.batch;
    let [word, position, types] = op.tables.ids().map(|id| at.cuda.weights.get(id));
    let (word, position, types) = (word?, position?, types?);
    let (tokens, width) = (at.count(op.dx.now), op.norm.gamma.len);
    check_width(width, "an embedding width")?;
    for (table, Sum(grad)) in [(word, op.dword), (position, op.dposition), (types, op.dtype)] {
        let len = grad.map_or(table.rows * width, |grad| grad.len);
        ensure!(
            table.cols == width && len == table.rows * width,
            "a gradient of {len} elements for an embedding table of {} rows of {}",
            table.rows,
            table.cols
        );
        ensure!(
            table.format == word.format,
            "embedding tables in {:?} and {:?}",
            word.format,
            table.format
        );
    }
    let blocks = at.lane.summing_blocks(tokens);
    let [gamma, beta] = at.room([op.dgamma, op.dbeta], blocks, width)?;
    ensure!(
        gamma.is_some() && beta.is_some(),
        "the gain and the bias of the embeddings' LayerNorm train together"
    );
    let dx = at.at(op.dx.now)?;
    let rows = [word.rows, position.rows, types.rows];
    let [beside_word, beside_position, beside_type] = sparse::beside(at, op.added, rows)?;
    let args = EmbedBackwardArgs {
        beside_word,
        beside_position,
        beside_type,
        batch: batch.header()?,
        ids: batch.ids()?,
        positions: batch.positions()?,
        type_ids: batch.types()?,
        word: word.matrix(MatrixKind::Table)?,
        position: position.matrix(MatrixKind::Table)?,
        token_type: types.matrix(MatrixKind::Table)?,
        gamma: at.memory.params.value(op.norm.gamma, width)?,
        dx,
        partial_gamma: address(gamma),
        partial_beta: address(beta),
        dropout: op.dropout.into(),
        width: to_u32(width)?,
        eps: op.norm.eps,
        types: to_u32(types.rows)?,
        padding: 0,
    };
    at.lane.embed_backward(tokens, args)?;
    at.finish([gamma, beta], Tiles { most: blocks, ..Tiles::of(Rows::Tokens, TILE_ROWS) })?;
    if let (Some(added), Sum(Some(grad))) = (op.added, op.dadded) {
        ensure!(grad.len == added.values.len, "a gradient of {} elements", grad.len);
        sparse::beside_back(at, added, grad, (dx, width))?;
    }
    types_back(at, op.dtype, types.rows, dx)?;
    for (ids, Sum(grad)) in [(batch.ids()?, op.dword), (batch.positions()?, op.dposition)] {
        let Some(grad) = grad else { continue };
        let args = TableGradArgs {
            batch: batch.header()?,
            state: at.memory.state()?,
            ids,
            dx,
            grad: at.memory.params.gradient(grad)?,
            width: to_u32(width)?,
            padding: 0,
        };
        at.lane.table_grad(tokens, args)?;
    }
    Ok(())
}

/// Every row of the token-type table gets a large part of all tokens: one column sum per row.
fn types_back(at: &LaunchOperands<'_>, grad: Sum, types: usize, dx: Address) -> Result<()> {
    let Sum(Some(grad)) = grad else {
        return Ok(());
    };
    let width = grad.len / types;
    for row in 0..types {
        let of_row = ParamRange { offset: grad.offset + row * width, len: width };
        // A one-row table (RoBERTa) serves every token.
        let ids = if types == 1 { Address::NULL } else { at.memory.batch.types()? };
        let only = (ids, to_u32(row)?);
        let tokens = Summed { only, ..Summed::all(dx, Rows::Tokens) };
        sum_columns(at, Sum(Some(of_row)), tokens)?;
    }
    Ok(())
}
