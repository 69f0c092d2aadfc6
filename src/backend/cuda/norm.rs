//! Embeddings, LayerNorm, and the bias gradients that are column sums of gradients passing through.

use super::args::*;
use super::column_sums::{Tiles, address};
use super::memory::Address;
use super::operands::LaunchOperands;
use super::{check_width, row_kind, sparse, to_u32};
use crate::backend::MatrixKind;
use crate::program::{
    ColumnSum, Dropout, Embed, In, NormBack, Out, ResidualNorm, Restore, Rows, Storage, Sum,
};
use anyhow::{Result, ensure};

/// See [`Embed`].
pub fn embed(at: &LaunchOperands<'_>, op: &Embed) -> Result<()> {
    let memory = at.memory;
    let [word, position, types] = op.tables.ids().map(|id| at.cuda.weights.get(id));
    let (word, position, types) = (word?, position?, types?);
    let (tokens, width) = (at.count(op.out.0), word.cols);
    check_width(width, "an embedding width")?;
    at.expect(op.out.0, Rows::Tokens, width)?;
    ensure!(
        [position, types].iter().all(|table| (table.cols, table.format) == (width, word.format)),
        "embedding tables of {width}, {} and {} columns, in {:?}, {:?} and {:?}",
        position.cols,
        types.cols,
        word.format,
        position.format,
        types.format
    );
    let rows = [word.rows, position.rows, types.rows];
    let [beside_word, beside_position, beside_type] = sparse::beside(at, op.added, rows)?;
    let args = EmbedArgs {
        beside_word,
        beside_position,
        beside_type,
        batch: memory.batch.header()?,
        ids: memory.batch.ids()?,
        positions: memory.batch.positions()?,
        type_ids: memory.batch.types()?,
        word: word.matrix(MatrixKind::Table)?,
        position: position.matrix(MatrixKind::Table)?,
        token_type: types.matrix(MatrixKind::Table)?,
        gamma: memory.params.value(op.norm.gamma, width)?,
        beta: memory.params.value(op.norm.beta, width)?,
        out: at.at(op.out.0)?,
        dropout: op.dropout.into(),
        width: to_u32(width)?,
        eps: op.norm.eps,
        types: to_u32(types.rows)?,
        padding: 0,
    };
    at.lane.embed_forward(tokens, args)
}

/// See [`ResidualNorm`].
pub fn forward(at: &LaunchOperands<'_>, op: &ResidualNorm) -> Result<()> {
    let (rows, width) = (at.count(op.x.now), op.norm.gamma.len);
    check_width(width, "a LayerNorm width")?;
    let aside = [op.sum.0, op.x_hat.0].into_iter().flatten();
    for value in aside.chain([op.x.now, op.residual.0]) {
        at.expect(value, at.rows(op.x.now), width)?;
    }
    let args = NormForwardArgs {
        batch: at.memory.batch.header()?,
        x: at.at(op.x.now)?,
        residual: at.at(op.residual.0)?,
        gamma: at.memory.params.value(op.norm.gamma, width)?,
        beta: at.memory.params.value(op.norm.beta, width)?,
        sum: at.aside(op.sum.0)?,
        x_hat: at.aside(op.x_hat.0)?,
        rstd: at.aside(op.rstd.0)?,
        dropout: op.dropout.into(),
        width: to_u32(width)?,
        eps: op.norm.eps,
        rows: row_kind(at.rows(op.x.now)),
        x_hat_kind: op.x_hat.0.map_or(0, |x_hat| x_hat_kind(at.tensor(x_hat).info.storage)),
    };
    at.lane.norm_forward(rows, args)
}

/// See [`Restore`].
pub fn restore(at: &LaunchOperands<'_>, op: &Restore) -> Result<()> {
    ensure!(
        at.tensor(op.x_hat.0).info.storage == Storage::Activation,
        "an x̂ in fewer bits gives another output"
    );
    let (rows, width) = (at.count(op.out.0), op.norm.gamma.len);
    check_width(width, "a LayerNorm width")?;
    at.expect(op.x_hat.0, at.rows(op.out.0), width)?;
    at.expect(op.out.0, at.rows(op.out.0), width)?;
    let args = NormRestoreArgs {
        batch: at.memory.batch.header()?,
        x_hat: at.at(op.x_hat.0)?,
        gamma: at.memory.params.value(op.norm.gamma, width)?,
        beta: at.memory.params.value(op.norm.beta, width)?,
        out: at.at(op.out.0)?,
        width: to_u32(width)?,
        rows: row_kind(at.rows(op.out.0)),
    };
    at.lane.norm_restore(rows, args)
}

/// See [`NormBack`].
pub fn backward(at: &LaunchOperands<'_>, op: &NormBack) -> Result<()> {
    let (rows, width) = (at.count(op.dx.now), op.gamma.len);
    check_width(width, "a LayerNorm width")?;
    let beside = op.beside.map(|In(beside)| beside);
    let others = [beside, op.branch.map(|Out(branch)| branch)].into_iter().flatten();
    for value in others.chain([op.dx.now, op.x_hat.0]) {
        at.expect(value, at.rows(op.dx.now), width)?;
    }
    let blocks = at.lane.summing_blocks(rows);
    let (riders, [beta, bias]) = at.room_beside([op.dbeta, op.dbias], blocks, width)?;
    let args = NormBackwardArgs {
        batch: at.memory.batch.header()?,
        dx: at.at(op.dx.now)?,
        beside: at.aside(op.beside.map(|In(beside)| beside))?,
        x_hat: at.at(op.x_hat.0)?,
        rstd: at.at(op.rstd.0)?,
        gamma: at.memory.params.value(op.gamma, width)?,
        d_branch: at.aside(op.branch.map(|Out(branch)| branch))?,
        partial_beta: address(beta),
        partial_bias: address(bias),
        dropout: op.dropout.into(),
        width: to_u32(width)?,
        rows: row_kind(at.rows(op.dx.now)),
        x_hat_kind: x_hat_kind(at.tensor(op.x_hat.0).info.storage),
        blocks: to_u32(blocks)?,
        finish: riders.args,
    };
    at.lane.norm_backward(riders.count, args)?;
    let tiles = Tiles { most: blocks, ..Tiles::of(at.rows(op.dx.now), TILE_ROWS) };
    at.finish([beta, bias], tiles)
}

/// See [`ColumnSum`].
pub fn column_sum(at: &LaunchOperands<'_>, op: &ColumnSum) -> Result<()> {
    let dy = Summed { dropout: op.dropout, ..Summed::all(at.at(op.dy.0)?, at.rows(op.dy.0)) };
    sum_columns(at, op.grad, dy)
}

/// What is summed over rows by a separate kernel: `dropout'(dy) ⊙ factor`.
#[derive(Clone, Copy, Debug)]
pub struct Summed {
    pub dy: Address,
    /// Its address, null for none, and how it is stored.
    pub factor: (Address, Storage),
    /// A number per row; rows whose number differs from the second are left out. Null: no row is.
    pub only: (Address, u32),
    pub dropout: Dropout,
    pub rows: Rows,
}

impl Summed {
    pub fn all(dy: Address, rows: Rows) -> Self {
        let (factor, only) = ((Address::NULL, Storage::Activation), (Address::NULL, 0));
        Self { dy, factor, only, dropout: Dropout::NONE, rows }
    }
}

/// A separate column sum, added to `sum`.
pub fn sum_columns(at: &LaunchOperands<'_>, sum: Sum, summed: Summed) -> Result<()> {
    let Summed { dy, factor: (factor, stored), only: (ids, only), dropout, rows } = summed;
    let Sum(Some(grad)) = sum else {
        return Ok(());
    };
    let width = grad.len;
    check_width(width, "a gradient of columns")?;
    let count = at.memory.rows(rows);
    let partial = at.room([sum], count.div_ceil(TILE_ROWS), width)?;
    at.lane.column_partial(
        count,
        ColumnPartialArgs {
            batch: at.memory.batch.header()?,
            dy,
            factor,
            ids,
            partial: address(partial[0]),
            dropout: dropout.into(),
            width: to_u32(width)?,
            rows: row_kind(rows),
            only,
            factor_kind: x_hat_kind(stored),
        },
    )?;
    at.finish(partial, Tiles::of(rows, TILE_ROWS))
}

fn x_hat_kind(stored: Storage) -> u32 {
    match stored {
        Storage::XHat8 => X_HAT_BITS8,
        _ => X_HAT_FULL,
    }
}
