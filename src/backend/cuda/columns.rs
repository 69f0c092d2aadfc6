//! Some columns of a tensor: taken, and added to.

use super::args::*;
use super::operands::LaunchOperands;
use super::{check_width, row_kind, to_u32};
use crate::program::{AddColumns, Dropout, TakeColumns, Times, Value};
use anyhow::{Result, ensure};

/// See [`TakeColumns`].
pub fn take(at: &LaunchOperands<'_>, op: &TakeColumns) -> Result<()> {
    launch(at, "take_columns", [op.x.0, op.out.0], (op.x.0, op.from), (op.times, op.dropout))
}

/// See [`AddColumns`].
pub fn add(at: &LaunchOperands<'_>, op: &AddColumns) -> Result<()> {
    let y = op.y.now;
    launch(at, "add_columns", [op.x.0, y], (y, op.from), (op.times, op.dropout))
}

/// From the first tensor to the second; `wide` is the one with more columns.
fn launch(
    at: &LaunchOperands<'_>,
    kernel: &str,
    [x, y]: [Value; 2],
    (wide, from): (Value, usize),
    (times, dropout): (Times, Dropout),
) -> Result<()> {
    let (rows, width) = (at.rows(wide), at.width(wide));
    let narrow = if wide == x { y } else { x };
    let taken = at.width(narrow);
    at.expect(narrow, rows, taken)?;
    ensure!(from <= width && taken <= width - from, "{taken} columns from {from} on, of {width}");
    check_width(width, "a tensor's width")?;
    check_width(taken, "a number of columns")?;
    ensure!(from.is_multiple_of(8), "columns from {from} on: the CUDA kernels take multiples of 8");
    let args = ColumnsArgs {
        batch: at.memory.batch.header()?,
        x: at.at(x)?,
        y: at.at(y)?,
        dropout: dropout.into(),
        width: to_u32(width)?,
        taken: to_u32(taken)?,
        from: to_u32(from)?,
        rows: row_kind(rows),
        times: times.0,
        padding: 0,
    };
    at.lane.columns(kernel, at.count(wide), args)
}
