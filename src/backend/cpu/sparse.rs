//! Single trained values added to frozen matrices, tables and vectors, and their gradients.

use super::CpuBackend;
use super::colsum::CHUNK;
use super::elements::{Elements, Source};
use super::embed::Tables;
use super::operands::Operands;
use super::params::{gradients, read, wide};
use super::pointwise::add;
use super::share::Shared;
use crate::batch::Batch;
use crate::program::{
    AddedRows, Entries, ParamRange, Program, SparseAdd, SparseGrad, SparseSet, SparseTake,
};
use anyhow::{Result, ensure};
use bytemuck::cast_slice;
use std::ops::Range;

/// The places of entries: see [`Entries`].
#[derive(Clone, Copy)]
struct EntryPlaces<'a> {
    starts: &'a [u32],
    from: &'a [u32],
    to: &'a [u32],
    number: &'a [u32],
}

impl<'a> EntryPlaces<'a> {
    /// For a matrix from `from` columns to `to`.
    fn read(values: &'a [f32], entries: Entries, from: usize, to: usize) -> Result<Self> {
        let Entries { places, lines, count } = entries;
        let places = wide(places, Entries::words(lines, count), "the places of entries")?;
        let words: &[u32] = cast_slice(read(values, places)?);
        let (starts, words) = words.split_at(lines + 1);
        let (reads, words) = words.split_at(count);
        let (adds, number) = words.split_at(count);
        let below = |words: &[u32], end: usize| words.iter().all(|&word| (word as usize) < end);
        ensure!(
            below(reads, from) && below(adds, to) && below(number, count),
            "entries that lie outside a matrix between {from} and {to} columns"
        );
        Ok(Self { starts, from: reads, to: adds, number })
    }

    /// Those of a line.
    fn line(self, line: usize) -> Range<usize> {
        self.starts[line] as usize..self.starts[line + 1] as usize
    }
}

/// See [`SparseAdd`].
pub fn add_to(cpu: &mut CpuBackend, program: &Program, op: &SparseAdd) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let (shape, inputs) = (at.shape(op.y.now)?, at.shape(op.x.0)?.1);
    at.together(op.y)?;
    let params = &cpu.params.value;
    let places = EntryPlaces::read(params, op.entries, inputs, shape.1)?;
    let values = read(params, wide(op.values, op.entries.count, "the values of entries")?)?;
    let (x, x_stored) = at.stored(op.x.0, (shape.0, inputs))?;
    let (y, y_stored) = at.stored(op.y.now, shape)?;
    let [x, y] = cpu.arena.regions([x, y])?;
    let (x, y) = (Source::new(x_stored, x)?, Elements::new(y_stored, y)?);
    let (rows, width) = (cpu.batch.rows(shape.0), shape.1);
    cpu.workers.run_with(rows.div_ceil(CHUNK), inputs + width, |chunk, room| {
        let (taken, sums) = room.split_at_mut(inputs);
        for row in chunk * CHUNK..rows.min((chunk + 1) * CHUNK) {
            x.copy(row * inputs, taken);
            // SAFETY: every row belongs to one task.
            unsafe { y.read(row * width, sums) };
            for ((&from, &to), &number) in places.from.iter().zip(places.to).zip(places.number) {
                sums[to as usize] += values[number as usize] * taken[from as usize];
            }
            // SAFETY: as above.
            unsafe { y.write(row * width, sums) };
        }
    });
    Ok(())
}

/// See [`SparseGrad`]. In two stages like all sums over rows, for as many entries at a time as a tensor has columns.
pub fn gradient(cpu: &mut CpuBackend, program: &Program, op: &SparseGrad) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let (shape, inputs) = (at.shape(op.dy.0)?, at.shape(op.x.0)?.1);
    let outputs = shape.1;
    let places = EntryPlaces::read(&cpu.params.value, op.entries, inputs, outputs)?;
    let (dy, dy_stored) = at.stored(op.dy.0, shape)?;
    let (x, x_stored) = at.stored(op.x.0, (shape.0, inputs))?;
    let [grad] = gradients(&mut cpu.params.gradient, [op.grad.0])?;
    let Some(grad) = grad else { return Ok(()) };
    ensure!(grad.len() == op.entries.count, "a gradient of {} elements", grad.len());
    let [dy, x] = cpu.arena.regions([dy, x])?;
    let (dy, x) = (Source::new(dy_stored, dy)?, Source::new(x_stored, x)?);
    let rows = cpu.batch.rows(shape.0);
    let chunks = rows.div_ceil(CHUNK);
    let most = outputs.max(inputs);
    for first in (0..grad.len()).step_by(most) {
        let part = first..grad.len().min(first + most);
        let count = part.len();
        let (lines, _) = cpu.partials.lines(chunks, count);
        let sums = Shared::new(lines);
        cpu.workers.run_with(chunks, outputs + inputs, |chunk, room| {
            let (of_dy, of_x) = room.split_at_mut(outputs);
            // SAFETY: each chunk has its own line.
            let line = unsafe { sums.slice(chunk * count, count) };
            for row in chunk * CHUNK..rows.min((chunk + 1) * CHUNK) {
                dy.copy(row * outputs, of_dy);
                x.copy(row * inputs, of_x);
                let entries = places.to[part.clone()].iter().zip(&places.from[part.clone()]);
                for (sum, (&to, &from)) in line.iter_mut().zip(entries) {
                    *sum += of_dy[to as usize] * of_x[from as usize];
                }
            }
        });
        let (total, rest) = lines.split_at_mut(count);
        rest.chunks_exact(count).for_each(|line| add(total, line));
        for (&number, sum) in places.number[part].iter().zip(total) {
            grad[number as usize] += *sum;
        }
    }
    Ok(())
}

/// See [`SparseSet`].
pub fn set(cpu: &mut CpuBackend, op: &SparseSet) -> Result<()> {
    for i in 0..op.places.len {
        let one = |range: ParamRange| ParamRange { offset: range.offset + i, len: 1 };
        let of =
            |range: ParamRange| Ok::<_, anyhow::Error>(read(&cpu.params.value, one(range))?[0]);
        let (place, value) = (of(op.places)?.to_bits() as usize, of(op.base)? + of(op.values)?);
        let at = cpu.params.value.get_mut(place);
        *at.ok_or_else(|| outside(place))? = value;
    }
    Ok(())
}

/// See [`SparseTake`].
pub fn take(cpu: &mut CpuBackend, op: &SparseTake) -> Result<()> {
    let Some(grad) = op.grad.0 else { return Ok(()) };
    let places: &[u32] = cast_slice(read(&cpu.params.value, op.places)?);
    let gradient = &mut cpu.params.gradient;
    ensure!(places.len() == grad.len && grad.end() <= gradient.len(), "a gradient of {grad:?}");
    for (to, &place) in (grad.offset..).zip(places) {
        let place = place as usize;
        ensure!(place < gradient.len() && place >= grad.end(), outside(place));
        gradient[to] += gradient[place];
        gradient[place] = 0.0;
    }
    Ok(())
}

fn outside(place: usize) -> anyhow::Error {
    anyhow::anyhow!("a single value at {place}, where no parameter or gradient lies")
}

/// The entries added to the tables of words, positions and token types.
#[derive(Clone, Copy)]
pub struct BesideTables<'a> {
    places: [EntryPlaces<'a>; 3],
    values: [&'a [f32]; 3],
}

impl<'a> BesideTables<'a> {
    pub fn read(params: &'a [f32], added: AddedRows, tables: &Tables<'_>) -> Result<Self> {
        let rows = [tables.word, tables.position, tables.token_type].map(|table| table.rows);
        let (mut places, mut values) = (Vec::new(), Vec::new());
        for ((entries, part), rows) in
            added.tables.into_iter().zip(added.parts(added.values)).zip(rows)
        {
            ensure!(
                entries.lines == rows,
                "entries of {} rows of a table of {rows}",
                entries.lines
            );
            places.push(EntryPlaces::read(params, entries, tables.word.cols, rows)?);
            values.push(read(params, part)?);
        }
        Ok(Self {
            places: [places[0], places[1], places[2]],
            values: [values[0], values[1], values[2]],
        })
    }

    /// Adds the entries of a token's rows.
    pub fn add(&self, rows: [usize; 3], to: &mut [f32]) {
        for ((places, values), row) in self.places.iter().zip(&self.values).zip(rows) {
            for entry in places.line(row) {
                to[places.from[entry] as usize] += values[places.number[entry] as usize];
            }
        }
    }
}

/// Adds to each entry's gradient that of its column, over the tokens of its row in order. A token has few entries, so
/// one thread does it.
pub fn beside_tables(
    params: &[f32],
    added: AddedRows,
    tables: &Tables<'_>,
    batch: &Batch,
    dx: &[f32],
    grad: &mut [f32],
) -> Result<()> {
    let beside = BesideTables::read(params, added, tables)?;
    let (word, rest) = grad.split_at_mut(added.tables[0].count);
    let (position, token_type) = rest.split_at_mut(added.tables[1].count);
    let mut grads = [word, position, token_type];
    for (token, dx) in dx.chunks_exact(tables.word.cols).enumerate() {
        let rows = tables.rows(batch, token);
        for ((places, grad), row) in beside.places.iter().zip(&mut grads).zip(rows) {
            for entry in places.line(row) {
                grad[places.number[entry] as usize] += dx[places.from[entry] as usize];
            }
        }
    }
    Ok(())
}
