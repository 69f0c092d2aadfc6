//! What operations' launches share: where a program's values lie on the device, and room for column sums.

use super::allocated::Allocated;
use super::column_sums::{ColumnSums, Partial, Riders, Target, Tiles};
use super::launch::Lane;
use super::memory::Address;
use super::{CudaBackend, to_u32};
use crate::program::{ElementBytes, Placed, Program, Rows, Sum, Value};
use anyhow::{Result, ensure};
use std::cell::RefCell;

/// What an operation's launch works with: the device, its memory, and where the program's values lie in it.
#[derive(Clone, Copy)]
pub struct LaunchOperands<'a> {
    pub cuda: &'a CudaBackend,
    pub memory: &'a Allocated,
    pub program: &'a Program,
    /// Launches it.
    pub lane: Lane<'a>,
    /// Those of the running span.
    pub sums: &'a RefCell<ColumnSums>,
}

impl LaunchOperands<'_> {
    pub fn tensor(&self, value: Value) -> Placed {
        self.program.tensor(value)
    }

    pub fn width(&self, value: Value) -> usize {
        self.tensor(value).info.width
    }

    pub fn rows(&self, value: Value) -> Rows {
        self.tensor(value).info.rows
    }

    /// Rows for which launches and addresses of a value are sized.
    pub fn count(&self, value: Value) -> usize {
        self.memory.rows(self.rows(value))
    }

    /// The first rows of a value, as stored.
    pub fn at(&self, value: Value) -> Result<Address> {
        let Placed { region, info } = self.tensor(value);
        let row = info.storage.row_bytes(info.width, ElementBytes::all(super::ACTIVATION_BYTES));
        self.memory.bytes(region, self.memory.rows(info.rows) * row)
    }

    /// # Errors
    /// If a value has another shape: the kernels trust what they are given.
    pub fn expect(&self, value: Value, rows: Rows, width: usize) -> Result<()> {
        let tensor = self.tensor(value).info;
        ensure!(
            (tensor.rows, tensor.width) == (rows, width),
            "{value:?} is [{:?}, {}] where [{rows:?}, {width}] belongs",
            tensor.rows,
            tensor.width
        );
        Ok(())
    }

    /// The same for a value that may be left out.
    pub fn aside(&self, value: Option<Value>) -> Result<Address> {
        value.map_or(Ok(Address::NULL), |value| self.at(value))
    }

    /// Room for an operation's partial sums: one row per tile. See [`ColumnSums`].
    pub fn room<const N: usize>(
        &self,
        sums: [Sum; N],
        tiles: usize,
        width: usize,
    ) -> Result<[Option<Partial>; N]> {
        self.sums.borrow_mut().room(self.memory, self.lane, sums, tiles, width)
    }

    /// The same for sums of different widths.
    pub fn room_for<const N: usize>(
        &self,
        targets: [Option<Target>; N],
        tiles: usize,
    ) -> Result<[Option<Partial>; N]> {
        self.sums.borrow_mut().room_for(self.memory, self.lane, targets, tiles)
    }

    /// The same for an operation whose kernel also finishes pending sums.
    pub fn room_beside<const N: usize>(
        &self,
        sums: [Sum; N],
        tiles: usize,
        width: usize,
    ) -> Result<(Riders, [Option<Partial>; N])> {
        self.sums.borrow_mut().room_beside(self.memory, self.lane, sums, tiles, width)
    }

    /// Schedules partial sums to be finished later.
    pub fn finish<const N: usize>(
        &self,
        partials: [Option<Partial>; N],
        tiles: Tiles,
    ) -> Result<()> {
        self.sums.borrow_mut().add(partials, tiles)
    }

    /// All pending sums, for a kernel that finishes them. See [`ColumnSums::take`].
    pub fn take_sums(&self) -> Result<Riders> {
        self.sums.borrow_mut().take(self.memory)
    }

    /// Finishes all partial sums now, before their gradients are read.
    pub fn finish_all(&self) -> Result<()> {
        self.sums.borrow_mut().finish(self.memory, self.lane)
    }
}

/// Columns per head, for `heads` heads in `width`.
pub fn head_dim(width: usize, heads: usize) -> Result<usize> {
    ensure!(heads > 0 && width.is_multiple_of(heads), "{heads} heads of {width} columns together");
    super::check_width(width / heads, "a head dimension")?;
    to_u32(width)?;
    Ok(width / heads)
}
