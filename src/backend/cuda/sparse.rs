//! Single trained values added to frozen matrices, tables and vectors, and their gradients.

use super::args::*;
use super::memory::Address;
use super::operands::LaunchOperands;
use super::{check_width, row_kind, to_u32};
use crate::program::{
    AddedRows, Entries, ParamRange, Rows, SparseAdd, SparseGrad, SparseSet, SparseTake,
};
use anyhow::{Result, ensure};
use bytemuck::Zeroable;

/// Where entries are, and their values if these are read.
fn entries(
    at: &LaunchOperands<'_>,
    entries: Entries,
    values: Option<ParamRange>,
) -> Result<EntriesArgs> {
    let Entries { places, lines, count } = entries;
    let params = &at.memory.params;
    Ok(EntriesArgs {
        places: params.value(places, Entries::words(lines, count))?,
        values: values.map_or(Ok(Address::NULL), |values| params.value(values, count))?,
        lines: to_u32(lines)?,
        count: to_u32(count)?,
    })
}

/// See [`SparseAdd`].
pub fn add(at: &LaunchOperands<'_>, op: &SparseAdd) -> Result<()> {
    let (rows, inputs, outputs) = (at.rows(op.y.now), at.width(op.x.0), at.width(op.y.now));
    at.expect(op.x.0, rows, inputs)?;
    let lines = op.entries.lines;
    ensure!(lines == outputs, "entries of {lines} lines are added to {outputs} columns");
    let args = SparseAddArgs {
        batch: at.memory.batch.header()?,
        x: at.at(op.x.0)?,
        y: at.at(op.y.now)?,
        entries: entries(at, op.entries, Some(op.values))?,
        inputs: to_u32(inputs)?,
        outputs: to_u32(outputs)?,
        rows: row_kind(rows),
        padding: 0,
    };
    at.lane.sparse_add(at.count(op.y.now), args)
}

/// See [`SparseGrad`].
pub fn gradient(at: &LaunchOperands<'_>, op: &SparseGrad) -> Result<()> {
    let Some(grad) = op.grad.0 else { return Ok(()) };
    let (rows, inputs, outputs) = (at.rows(op.dy.0), at.width(op.x.0), at.width(op.dy.0));
    at.expect(op.x.0, rows, inputs)?;
    let (lines, count) = (op.entries.lines, op.entries.count);
    ensure!(lines == outputs && grad.len == count, "{count} entries of {lines} lines: {grad:?}");
    at.lane.sparse_grad(SparseGradArgs {
        batch: at.memory.batch.header()?,
        state: at.memory.state()?,
        dy: at.at(op.dy.0)?,
        x: at.at(op.x.0)?,
        entries: entries(at, op.entries, None)?,
        grad: at.memory.params.gradient(grad)?,
        inputs: to_u32(inputs)?,
        outputs: to_u32(outputs)?,
        rows: row_kind(rows),
        ..Zeroable::zeroed()
    })
}

/// See [`SparseSet`].
pub fn set(at: &LaunchOperands<'_>, op: &SparseSet) -> Result<()> {
    let (params, count) = (&at.memory.params, op.places.len);
    let args = SparseVectorArgs {
        places: params.value(op.places, count)?,
        values: params.value(op.values, count)?,
        base: params.value(op.base, count)?,
        vector: params.whole()?,
        count: to_u32(count)?,
        ..Zeroable::zeroed()
    };
    at.lane.sparse_vector("sparse_set", args)
}

/// See [`SparseTake`].
pub fn take(at: &LaunchOperands<'_>, op: &SparseTake) -> Result<()> {
    let Some(grad) = op.grad.0 else { return Ok(()) };
    at.finish_all()?;
    let params = &at.memory.params;
    let args = SparseVectorArgs {
        places: params.value(op.places, grad.len)?,
        vector: params.gradient(ParamRange { offset: 0, len: grad.end() })?,
        grad: params.gradient(grad)?,
        count: to_u32(grad.len)?,
        ..Zeroable::zeroed()
    };
    at.lane.sparse_vector("sparse_take", args)
}

/// The entries added to the tables of words, positions and token types, with the given numbers of rows.
pub fn beside(
    at: &LaunchOperands<'_>,
    added: Option<AddedRows>,
    rows: [usize; 3],
) -> Result<[EntriesArgs; 3]> {
    let mut beside = [EntriesArgs::zeroed(); 3];
    let Some(added) = added else { return Ok(beside) };
    let tables = added.tables.into_iter().zip(added.parts(added.values)).zip(rows);
    for (to, ((table, values), rows)) in beside.iter_mut().zip(tables) {
        let (lines, count) = (table.lines, table.count);
        ensure!(lines == rows, "entries of {lines} rows of a table of {rows}");
        if count > 0 {
            *to = entries(at, table, Some(values))?;
        }
    }
    Ok(beside)
}

/// Their gradients, from that of the tables' sum `[tokens, width]`.
pub fn beside_back(
    at: &LaunchOperands<'_>,
    added: AddedRows,
    grad: ParamRange,
    (dx, width): (Address, usize),
) -> Result<()> {
    check_width(width, "an embedding width")?;
    let batch = &at.memory.batch;
    // A one-row table serves every token.
    let types = match added.tables[2].lines {
        1 => Address::NULL,
        _ => batch.types()?,
    };
    let ids = [batch.ids()?, batch.positions()?, types];
    for ((table, grad), ids) in added.tables.into_iter().zip(added.parts(grad)).zip(ids) {
        if table.count == 0 {
            continue;
        }
        at.lane.sparse_grad(SparseGradArgs {
            batch: batch.header()?,
            state: at.memory.state()?,
            dy: dx,
            ids,
            entries: entries(at, table, None)?,
            grad: at.memory.params.gradient(grad)?,
            outputs: to_u32(width)?,
            rows: row_kind(Rows::Tokens),
            ..Zeroable::zeroed()
        })?;
    }
    Ok(())
}
