//! The 16-bit matrices on the device, frozen or working copies of trained ones, and the conversion between f32 and the 16-bit types.

use super::HalfType;
use super::device::Device;
use super::memory::{Address, Buffer};
use crate::backend::{ParamRange, WeightId};
use anyhow::{Context, Result, bail, ensure};
use half::{bf16, f16};
use std::ops::Range;
use std::sync::Arc;

/// All matrices, in the order in which they were given.
#[derive(Debug)]
pub struct Weights {
    half: HalfType,
    list: Vec<Weight>,
}

/// A row-major `[rows, cols]` matrix.
#[derive(Debug)]
pub struct Weight {
    /// Views share their matrix's.
    buffer: Arc<Buffer>,
    /// First of its rows in that of the matrix that it is a view of.
    view: Option<usize>,
    pub rows: usize,
    pub cols: usize,
    /// It is a copy of these parameters, which train.
    trained: Option<ParamRange>,
}

impl Weight {
    pub fn address(&self) -> Result<Address> {
        let row = self.cols * 2;
        self.buffer
            .at(self.view.unwrap_or(0) * row, self.rows * row)
    }
}

impl Weights {
    pub fn new(half: HalfType) -> Self {
        Self {
            half,
            list: Vec::new(),
        }
    }

    pub fn upload(
        &mut self,
        device: &Device,
        name: &str,
        rows: usize,
        cols: usize,
        data: &[f32],
    ) -> Result<WeightId> {
        ensure!(
            data.len() == rows * cols,
            "{name}: {} values for a {rows}×{cols} matrix",
            data.len()
        );
        let stored = narrow(self.half, data);
        // Both types: an exponent of ones is an infinity or a NaN.
        let overflown = |&bits: &u16| match self.half {
            HalfType::F16 => !f16::from_bits(bits).is_finite(),
            HalfType::Bf16 => !bf16::from_bits(bits).is_finite(),
        };
        if let Some(at) = stored.iter().position(overflown) {
            bail!(
                "{name}: element {at} is {}, which {} cannot hold{}",
                data[at],
                self.half,
                if self.half == HalfType::F16 && data[at].is_finite() {
                    ": use --precision bf16"
                } else {
                    ""
                }
            );
        }
        let mut buffer = Buffer::new(device, "frozen matrix", stored.len() * 2)
            .with_context(|| format!("cannot upload {name}"))?;
        buffer.write(0, &stored)?;
        self.list.push(Weight {
            buffer: Arc::new(buffer),
            view: None,
            rows,
            cols,
            trained: None,
        });
        Ok(WeightId(self.list.len() - 1))
    }

    /// Makes room for the working copy of a matrix that trains.
    pub fn add_trained(
        &mut self,
        device: &Device,
        name: &str,
        rows: usize,
        cols: usize,
        range: ParamRange,
    ) -> Result<WeightId> {
        ensure!(
            range.len == rows * cols && cols.is_multiple_of(8),
            "{name}: {} parameters for a {rows}×{cols} matrix; the CUDA kernels take widths that are multiples of 8",
            range.len
        );
        let buffer = Buffer::new(device, "copy of a trained matrix", range.len * 2)
            .with_context(|| format!("no room for {name}"))?;
        self.list.push(Weight {
            buffer: Arc::new(buffer),
            view: None,
            rows,
            cols,
            trained: Some(range),
        });
        Ok(WeightId(self.list.len() - 1))
    }

    /// See [`Backend::view_rows`](crate::backend::Backend::view_rows).
    pub fn view_rows(&mut self, of: WeightId, rows: Range<usize>) -> Result<WeightId> {
        let whole = self.get(of)?;
        ensure!(
            rows.start <= rows.end && rows.end <= whole.rows,
            "rows {rows:?} of a matrix that has {}",
            whole.rows
        );
        ensure!(whole.trained.is_none(), "rows of a matrix that trains");
        let view = Weight {
            buffer: Arc::clone(&whole.buffer),
            view: Some(whole.view.unwrap_or(0) + rows.start),
            rows: rows.len(),
            cols: whole.cols,
            trained: None,
        };
        self.list.push(view);
        Ok(WeightId(self.list.len() - 1))
    }

    /// The working copies, and the parameters that each follows.
    pub fn trained(&self) -> impl Iterator<Item = (&Weight, ParamRange)> {
        self.list
            .iter()
            .filter_map(|weight| weight.trained.map(|range| (weight, range)))
    }

    pub fn get(&self, id: WeightId) -> Result<&Weight> {
        self.list
            .get(id.0)
            .with_context(|| format!("there is no matrix {}", id.0))
    }

    pub fn bytes(&self) -> usize {
        let own = self.list.iter().filter(|weight| weight.view.is_none());
        own.map(|weight| weight.buffer.bytes()).sum()
    }
}

/// The bits of each value in the 16-bit type, rounded to nearest even.
pub fn narrow(half: HalfType, values: &[f32]) -> Vec<u16> {
    match half {
        HalfType::F16 => values.iter().map(|&v| f16::from_f32(v).to_bits()).collect(),
        HalfType::Bf16 => values
            .iter()
            .map(|&v| bf16::from_f32(v).to_bits())
            .collect(),
    }
}

/// The values of stored bits.
pub fn widen(half: HalfType, stored: &[u16]) -> Vec<f32> {
    match half {
        HalfType::F16 => stored.iter().map(|&b| f16::from_bits(b).to_f32()).collect(),
        HalfType::Bf16 => stored
            .iter()
            .map(|&b| bf16::from_bits(b).to_f32())
            .collect(),
    }
}
