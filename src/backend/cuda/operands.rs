//! What the operations' launches share: where a program's values lie on the device, and room for column sums.

use super::allocated::Allocated;
use super::memory::Address;
use super::{CudaBackend, to_u32};
use crate::program::{ElementBytes, ParamRange, Placed, Program, Rows, Sum, Value};
use anyhow::{Result, ensure};

/// What an operation's launch works with: the device, its memory, and where the program's values lie in it.
#[derive(Clone, Copy)]
pub struct LaunchOperands<'a> {
    pub cuda: &'a CudaBackend,
    pub memory: &'a Allocated,
    pub program: &'a Program,
}

/// Partial column sums, and the gradient that they are added to.
pub type Partial = (Address, ParamRange);

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

    /// Rows that launches and addresses of a value are sized for.
    pub fn count(&self, value: Value) -> usize {
        self.memory.rows(self.rows(value))
    }

    /// The first rows of a value, as it is stored.
    pub fn at(&self, value: Value) -> Result<Address> {
        let Placed { region, info } = self.tensor(value);
        let row = info.storage.row_bytes(info.width, ElementBytes::all(super::ACTIVATION_BYTES));
        self.memory.bytes(region, self.memory.rows(info.rows) * row)
    }

    /// # Errors
    /// When a value has another shape: the kernels trust what they are told.
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

    /// The same of a value that may be left out.
    pub fn aside(&self, value: Option<Value>) -> Result<Address> {
        value.map_or(Ok(Address::NULL), |value| self.at(value))
    }

    /// Room for partial sums of a gradient, where it is asked for: the first or the second of two.
    pub fn partial(&self, which: usize, sum: Sum, len: usize) -> Result<Option<Partial>> {
        sum.0.map(|grad| Ok((self.memory.partial(which, len)?, grad))).transpose()
    }

    /// The second stage of one or two column sums of tiles of `tile_rows` rows.
    pub fn finish(
        &self,
        sums: [Option<Partial>; 2],
        width: usize,
        tile_rows: usize,
        rows: Rows,
        by_sequence: bool,
    ) -> Result<()> {
        if sums.iter().all(Option::is_none) {
            return Ok(());
        }
        let kernels = &self.cuda.kernels;
        self.memory.finish_columns(kernels, sums, width, tile_rows, rows, by_sequence)
    }
}

/// Where partial sums are, if anywhere.
pub fn address(partial: Option<Partial>) -> Address {
    partial.map_or(Address::NULL, |(address, _)| address)
}

/// Columns of one of `heads` in `width`.
pub fn head_dim(width: usize, heads: usize) -> Result<usize> {
    ensure!(heads > 0 && width.is_multiple_of(heads), "{heads} heads of {width} columns together");
    super::check_width(width / heads, "a head dimension")?;
    to_u32(width)?;
    Ok(width / heads)
}
