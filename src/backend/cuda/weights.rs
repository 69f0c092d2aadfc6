//! The matrices on the device: frozen ones in 16, 8 or 4 bits, working copies of trained ones in 16; and the conversion
//! between f32 and the 16-bit types.
//!
//! A 16-bit matrix and an int8 table are stored row by row. Matrices in 8 and 4 bits for products are stored in pieces
//! of 16 bytes: those of one column position in all rows follow one another, so that a product reads whole lines of a
//! tile in both directions. Rows are padded to whole stretches of 32 columns.

use super::args::{Format, MatrixArgs, STRETCH};
use super::device::Device;
use super::memory::{Address, Buffer};
use super::{HalfType, to_u32};
use crate::backend::int8::Int8;
use crate::backend::nf4::{BLOCK, GROUP, Nf4};
use crate::backend::resident::Label;
use crate::backend::{MatrixKind, MatrixShape, Resident, WeightType};
use crate::program::{ParamRange, WeightId};
use anyhow::{Context, Result, bail, ensure};
use half::{bf16, f16};
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a piece.
const PIECE: usize = 16;

/// The parts of a matrix, in the order in which its allocation holds them.
#[derive(Clone, Copy, Debug)]
struct Layout {
    rows: usize,
    /// Bytes.
    codes: usize,
    /// i8, padded to whole f32.
    block_scales: usize,
    /// f32.
    scales: usize,
}

impl Layout {
    fn new(format: Format, shape: MatrixShape) -> Self {
        let MatrixShape { rows, cols, .. } = shape;
        let (codes, block_scales, scales) = match (format, shape.kind) {
            (Format::Half, _) => (rows * cols * 2, 0, 0),
            (Format::Int8, MatrixKind::Table) => ((rows * cols).next_multiple_of(4), 0, rows),
            (Format::Int8, MatrixKind::Linear) => (rows * cols.next_multiple_of(STRETCH), 0, rows),
            (Format::Nf4, _) => {
                let blocks = rows * cols.div_ceil(BLOCK);
                let codes = rows * cols.next_multiple_of(STRETCH) / 2;
                (codes, blocks.next_multiple_of(4), blocks.div_ceil(GROUP))
            }
        };
        Self { rows, codes, block_scales, scales }
    }

    /// The offset of the scales.
    fn scales_at(self) -> usize {
        self.codes + self.block_scales
    }

    fn bytes(self) -> usize {
        self.scales_at() + 4 * self.scales
    }
}

/// Bytes of a matrix on the device.
pub fn bytes(weights: WeightType, shape: MatrixShape) -> usize {
    Layout::new(Format::of(weights, shape), shape).bytes()
}

/// All matrices, in the order given.
#[derive(Debug)]
pub struct DeviceMatrices {
    half: HalfType,
    weights: WeightType,
    list: Vec<Weight>,
    /// Shared with other backends.
    resident: Option<Resident>,
}

/// A `[rows, cols]` matrix.
#[derive(Clone, Debug)]
pub struct Weight {
    /// Views share their matrix's.
    buffer: Arc<Buffer>,
    /// For a view, its first row in the original matrix.
    view: Option<usize>,
    pub kind: MatrixKind,
    pub format: Format,
    /// Of the whole matrix.
    layout: Layout,
    mean_scale: f32,
    pub rows: usize,
    pub cols: usize,
    /// What it is a copy of.
    trained: Option<Trained>,
}

/// Parameters that train, and their matrix.
#[derive(Clone, Debug)]
struct Trained {
    name: String,
    range: ParamRange,
}

impl Weight {
    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.buffer.bytes()
    }

    /// The elements of a 16-bit matrix.
    pub fn halves(&self) -> Result<Address> {
        ensure!(
            self.format == Format::Half,
            "a matrix in {:?} where 16 bits are needed",
            self.format
        );
        let row = self.cols * 2;
        self.buffer.at(self.view.unwrap_or(0) * row, self.rows * row)
    }

    /// The matrix in the form that kernels using it as a `kind` expect.
    pub fn matrix(&self, kind: MatrixKind) -> Result<MatrixArgs> {
        ensure!(
            self.kind == kind || self.format == Format::Half,
            "a matrix in {:?} that was laid out as a {:?} serves as a {kind:?}",
            self.format,
            self.kind
        );
        let (layout, first) = (self.layout, self.view.unwrap_or(0));
        // The distance of consecutive rows, or of their first pieces.
        let row_bytes = match (self.format, self.kind) {
            (Format::Half, _) => 2 * self.cols,
            (Format::Int8, MatrixKind::Table) => self.cols,
            (Format::Int8 | Format::Nf4, _) => PIECE,
        };
        // Per row, or per whole group.
        let scales = match self.format {
            Format::Int8 => 4 * first..4 * (first + self.rows),
            Format::Half | Format::Nf4 => 0..4 * layout.scales,
        };
        let from_first = |start: usize, len: usize, row: usize| {
            let skipped = (first * row).min(len);
            self.buffer.at(start + skipped, len - skipped)
        };
        Ok(MatrixArgs {
            codes: from_first(0, layout.codes, row_bytes)?,
            scales: self.buffer.at(layout.scales_at() + scales.start, scales.len())?,
            block_scales: from_first(layout.codes, layout.block_scales, 1)?,
            mean_scale: self.mean_scale,
            format: self.format,
            stored_rows: to_u32(layout.rows)?,
            first: to_u32(first)?,
        })
    }
}

impl DeviceMatrices {
    pub fn new(half: HalfType, weights: WeightType, resident: Option<Resident>) -> Self {
        Self { half, weights, list: Vec::new(), resident }
    }

    fn label(&self, device: &Device, name: &str, shape: MatrixShape) -> Label {
        let Self { half, weights, .. } = self;
        Label::new(name, shape, format!("cuda:{} {half} {weights:?}", device.info.index))
    }

    /// See [`Backend::resident`](crate::backend::Backend::resident).
    pub fn resident(
        &mut self,
        device: &Device,
        name: &str,
        shape: MatrixShape,
    ) -> Option<WeightId> {
        let label = self.label(device, name, shape);
        self.list.push(self.resident.as_ref()?.device().get(&label)?);
        Some(WeightId(self.list.len() - 1))
    }

    pub fn upload(
        &mut self,
        device: &Device,
        name: &str,
        shape: MatrixShape,
        data: &[f32],
    ) -> Result<WeightId> {
        let MatrixShape { rows, cols, .. } = shape;
        ensure!(
            data.len() == rows * cols,
            "{name}: {} values for a {rows}×{cols} matrix",
            data.len()
        );
        self.check_range(name, data)?;
        let format = Format::of(self.weights, shape);
        let layout = Layout::new(format, shape);
        let mut buffer = Buffer::new(device, "frozen matrix", layout.bytes())
            .with_context(|| format!("cannot upload {name}"))?;
        let mut mean_scale = 0.0;
        match format {
            Format::Half => buffer.write(0, &narrow(self.half, data))?,
            Format::Int8 => {
                let matrix = Int8::new(data, cols);
                let codes: &[u8] = bytemuck::cast_slice(&matrix.codes);
                match shape.kind {
                    MatrixKind::Table => buffer.write(0, codes)?,
                    MatrixKind::Linear => buffer.write(0, &in_pieces(codes, cols, STRETCH, 0))?,
                }
                buffer.write(layout.scales_at(), &matrix.scales)?;
            }
            Format::Nf4 => {
                let matrix = Nf4::new(data, cols);
                let row_bytes = cols.div_ceil(2);
                // Two codes of the level 0.
                let codes = in_pieces(&matrix.codes, row_bytes, STRETCH / 2, 0x77);
                buffer.write(0, &codes)?;
                let block_scales = transposed(&matrix.scales, cols.div_ceil(BLOCK));
                buffer.write(layout.codes, &block_scales)?;
                buffer.write(layout.scales_at(), &matrix.group_scales)?;
                mean_scale = matrix.mean_scale;
            }
        }
        let weight = Weight {
            buffer: Arc::new(buffer),
            view: None,
            kind: shape.kind,
            format,
            layout,
            mean_scale,
            rows,
            cols,
            trained: None,
        };
        if let Some(resident) = &self.resident {
            resident.device().put(self.label(device, name, shape), weight.clone());
        }
        self.list.push(weight);
        Ok(WeightId(self.list.len() - 1))
    }

    /// Values are rounded to the 16-bit type when stored, or when used in a product.
    fn check_range(&self, name: &str, data: &[f32]) -> Result<()> {
        let largest = match self.half {
            HalfType::F16 => f16::MAX.to_f32(),
            HalfType::Bf16 => bf16::MAX.to_f32(),
        };
        // NaN must not count as inside.
        let inside = |value: &f32| value.abs() <= largest;
        let Some(at) = data.iter().position(|value| !inside(value)) else {
            return Ok(());
        };
        bail!(
            "{name}: element {at} is {}, too large for {} (at most {largest}){}",
            data[at],
            self.half,
            if self.half == HalfType::F16 && data[at].is_finite() { ": choose bf16" } else { "" }
        );
    }

    /// Refuses new values of trained matrices that their working copies cannot hold. `values` are the parameters from
    /// `range` on.
    pub fn check_trained(&self, range: ParamRange, values: &[f32]) -> Result<()> {
        for Trained { name, range: matrix } in self.list.iter().filter_map(|w| w.trained.as_ref()) {
            let start = matrix.offset.max(range.offset);
            let end = (matrix.offset + matrix.len).min(range.offset + values.len());
            if start < end {
                self.check_range(name, &values[start - range.offset..end - range.offset])?;
            }
        }
        Ok(())
    }

    /// Allocates the working copy of a matrix that trains.
    pub fn add_trained(
        &mut self,
        device: &Device,
        name: &str,
        MatrixShape { rows, cols, .. }: MatrixShape,
        range: ParamRange,
    ) -> Result<WeightId> {
        ensure!(
            range.len == rows * cols && cols.is_multiple_of(8),
            "{name}: {} parameters for a {rows}×{cols} matrix; the CUDA kernels need widths that are multiples of 8",
            range.len
        );
        // In 16 bits all kinds have the same layout.
        let shape = MatrixShape { kind: MatrixKind::Linear, rows, cols, trains: true };
        let layout = Layout::new(Format::Half, shape);
        let buffer = Buffer::new(device, "copy of a trained matrix", layout.bytes())
            .with_context(|| format!("no room for {name}"))?;
        self.list.push(Weight {
            buffer: Arc::new(buffer),
            view: None,
            kind: shape.kind,
            format: Format::Half,
            layout,
            mean_scale: 0.0,
            rows,
            cols,
            trained: Some(Trained { name: name.to_owned(), range }),
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
            kind: whole.kind,
            format: whole.format,
            layout: whole.layout,
            mean_scale: whole.mean_scale,
            rows: rows.len(),
            cols: whole.cols,
            trained: None,
        };
        self.list.push(view);
        Ok(WeightId(self.list.len() - 1))
    }

    /// The working copies, and the parameters that each one copies.
    pub fn trained(&self) -> impl Iterator<Item = (&Weight, ParamRange)> {
        self.list.iter().filter_map(|weight| Some((weight, weight.trained.as_ref()?.range)))
    }

    pub fn get(&self, id: WeightId) -> Result<&Weight> {
        self.list.get(id.0).with_context(|| format!("there is no matrix {}", id.0))
    }

    pub fn bytes(&self) -> usize {
        let own = self.list.iter().filter(|weight| weight.view.is_none());
        own.map(|weight| weight.buffer.bytes()).sum()
    }
}

/// Rows of codes, each padded with `filler` to a multiple of `stretch` bytes, in piece order.
fn in_pieces(codes: &[u8], row_bytes: usize, stretch: usize, filler: u8) -> Vec<u8> {
    let rows = codes.len() / row_bytes.max(1);
    let mut out = vec![filler; rows * row_bytes.next_multiple_of(stretch)];
    for (r, row) in codes.chunks_exact(row_bytes.max(1)).enumerate() {
        for (p, piece) in row.chunks(PIECE).enumerate() {
            let at = (p * rows + r) * PIECE;
            out[at..at + piece.len()].copy_from_slice(piece);
        }
    }
    out
}

/// Transposes values with `cols` columns.
fn transposed(values: &[i8], cols: usize) -> Vec<i8> {
    (0..cols).flat_map(|c| values.iter().skip(c).step_by(cols)).copied().collect()
}

/// The bits of each value in the 16-bit type, rounded to nearest even.
pub fn narrow(half: HalfType, values: &[f32]) -> Vec<u16> {
    match half {
        HalfType::F16 => values.iter().map(|&v| f16::from_f32(v).to_bits()).collect(),
        HalfType::Bf16 => values.iter().map(|&v| bf16::from_f32(v).to_bits()).collect(),
    }
}

/// The values of stored bits.
pub fn widen(half: HalfType, stored: &[u16]) -> Vec<f32> {
    match half {
        HalfType::F16 => stored.iter().map(|&b| f16::from_bits(b).to_f32()).collect(),
        HalfType::Bf16 => stored.iter().map(|&b| bf16::from_bits(b).to_f32()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_filled_up_and_lie_piece_after_piece() {
        let (rows, row_bytes) = (3, 40);
        let codes: Vec<u8> = (0..rows * row_bytes).map(|i| i as u8).collect();
        let laid = in_pieces(&codes, row_bytes, 32, 0xEE);
        assert_eq!(laid.len(), rows * 64);
        for (i, byte) in laid.iter().enumerate() {
            let (piece, row, at) = (i / 16 / rows, i / 16 % rows, i % 16);
            let column = piece * 16 + at;
            let want = match column < row_bytes {
                true => codes[row * row_bytes + column],
                false => 0xEE,
            };
            assert_eq!(*byte, want, "byte {i}");
        }
        assert_eq!(transposed(&[1, 2, 3, 4, 5, 6], 3), [1, 4, 2, 5, 3, 6]);
    }

    #[test]
    fn four_bits_are_four_and_an_eighth_and_eight_bits_eight_and_a_row_scale() {
        let shape = |kind| MatrixShape { kind, rows: 3072, cols: 768, trains: false };
        let elements = 3072 * 768;
        let linear = |weights| bytes(weights, shape(MatrixKind::Linear));
        assert_eq!(linear(WeightType::Nf4), elements / 2 + elements / 64 + elements / 64 / 256 * 4);
        assert_eq!(linear(WeightType::Int8), elements + 3072 * 4);
        assert_eq!(linear(WeightType::F32), elements * 2);
        let table = |weights| bytes(weights, shape(MatrixKind::Table));
        assert_eq!(table(WeightType::Nf4), table(WeightType::Int8));
        // A trained matrix has a working copy in 16 bits.
        let trained = MatrixShape { trains: true, ..shape(MatrixKind::Linear) };
        assert_eq!(bytes(WeightType::Nf4, trained), elements * 2);
    }
}
