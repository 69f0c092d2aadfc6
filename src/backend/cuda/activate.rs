//! An activation, forward and backward, if something is added between its product and it.

use super::args::*;
use super::column_sums::{Tiles, address};
use super::linear::{activation_kind, slope_kind};
use super::operands::LaunchOperands;
use super::{check_width, row_kind, to_u32};
use crate::program::{Activate, ActivateBack};
use anyhow::Result;
use bytemuck::Zeroable;

/// See [`Activate`].
pub fn forward(at: &LaunchOperands<'_>, op: &Activate) -> Result<()> {
    let (rows, width) = (at.rows(op.x.0), at.width(op.x.0));
    check_width(width, "an activation's width")?;
    for value in [op.out.0, op.slope.0].into_iter().flatten() {
        at.expect(value, rows, width)?;
    }
    let args = ActivateArgs {
        batch: at.memory.batch.header()?,
        x: at.at(op.x.0)?,
        out: at.aside(op.out.0)?,
        slope: at.aside(op.slope.0)?,
        width: to_u32(width)?,
        rows: row_kind(rows),
        activation: activation_kind(op.act),
        slope_kind: op.slope.0.map_or(0, |slope| slope_kind(at.tensor(slope).info.storage)),
        ..Zeroable::zeroed()
    };
    at.lane.activate("activate_forward", at.count(op.x.0), args)
}

/// See [`ActivateBack`].
pub fn backward(at: &LaunchOperands<'_>, op: &ActivateBack) -> Result<()> {
    let (rows, width) = (at.rows(op.dx.now), at.width(op.dx.now));
    check_width(width, "an activation's width")?;
    at.expect(op.slope.0, rows, width)?;
    let count = at.count(op.dx.now);
    let partial = at.room([op.dbias], count.div_ceil(TILE_ROWS), width)?;
    let args = ActivateArgs {
        batch: at.memory.batch.header()?,
        slope: at.at(op.slope.0)?,
        dx: at.at(op.dx.now)?,
        partial: address(partial[0]),
        width: to_u32(width)?,
        rows: row_kind(rows),
        slope_kind: slope_kind(at.tensor(op.slope.0).info.storage),
        ..Zeroable::zeroed()
    };
    at.lane.activate("activate_backward", count, args)?;
    at.finish(partial, Tiles::of(rows, TILE_ROWS))
}
