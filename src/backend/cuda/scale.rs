//! Columns multiplied by factors that train, and back.

use super::args::*;
use super::column_sums::{Tiles, address};
use super::linear::slope_kind;
use super::operands::LaunchOperands;
use super::{check_width, row_kind, to_u32};
use crate::program::{In, Scale, ScaleBack};
use anyhow::{Result, ensure};

/// See [`Scale`].
pub fn forward(at: &LaunchOperands<'_>, op: &Scale) -> Result<()> {
    let (rows, width) = (at.rows(op.out.0), at.width(op.out.0));
    at.expect(op.x.0, rows, width)?;
    check(width, op.factor.len)?;
    let args = ScaleArgs {
        batch: at.memory.batch.header()?,
        x: at.at(op.x.0)?,
        factor: at.memory.params.value(op.factor, op.factor.len)?,
        out: at.at(op.out.0)?,
        width: to_u32(width)?,
        scaled: to_u32(op.factor.len)?,
        rows: row_kind(rows),
        padding: 0,
    };
    at.lane.scale(at.count(op.out.0), args)
}

/// See [`ScaleBack`].
pub fn backward(at: &LaunchOperands<'_>, op: &ScaleBack) -> Result<()> {
    let (rows, width) = (at.rows(op.dx.now), at.width(op.dx.now));
    let (scaled, slope) = (op.factor.len, op.slope.map(|In(slope)| slope));
    for value in [Some(op.x.0), slope].into_iter().flatten() {
        at.expect(value, rows, width)?;
    }
    check(width, scaled)?;
    ensure!(slope.is_none() || scaled == width, "a slope beside columns without a factor");
    let partial = at.room([op.dfactor], at.count(op.dx.now).div_ceil(TILE_ROWS), scaled)?;
    let args = ScaleBackArgs {
        batch: at.memory.batch.header()?,
        dx: at.at(op.dx.now)?,
        x: at.at(op.x.0)?,
        factor: at.memory.params.value(op.factor, scaled)?,
        slope: at.aside(slope)?,
        partial: address(partial[0]),
        width: to_u32(width)?,
        scaled: to_u32(scaled)?,
        rows: row_kind(rows),
        slope_kind: slope.map_or(0, |slope| slope_kind(at.tensor(slope).info.storage)),
    };
    at.lane.scale_back(at.count(op.dx.now), args)?;
    at.finish(partial, Tiles::of(rows, TILE_ROWS))
}

fn check(width: usize, scaled: usize) -> Result<()> {
    ensure!(scaled <= width, "{scaled} factors of {width} columns");
    check_width(width, "a scaled tensor's width")?;
    check_width(scaled, "a number of factors")
}
