//! The matrices: frozen ones in 32, 16, 8 or 4 bits, trained ones in place in the parameter vector.

use super::params::read;
use super::widen::widen;
use super::{int8, nf4};
use crate::backend::int8::Int8;
use crate::backend::nf4::Nf4;
use crate::backend::resident::Label;
use crate::backend::{MatrixKind, MatrixShape, Resident, WeightType};
use crate::finite::first_not_finite;
use crate::program::{ParamRange, WeightId};
use crate::room::{copied, filled, room};
use anyhow::{Context, Result, ensure};
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use std::ops::Range;
use std::sync::Arc;

/// A row-major `[rows, cols]` matrix.
struct Stored {
    rows: usize,
    cols: usize,
    data: Data,
}

/// The elements of a frozen matrix.
#[derive(Debug)]
pub enum FrozenMatrix {
    F16(Vec<f16>),
    F32(Vec<f32>),
    Int8(Int8),
    Nf4(Nf4),
}

impl FrozenMatrix {
    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        match self {
            Self::F16(v) => 2 * v.capacity(),
            Self::F32(v) => 4 * v.capacity(),
            Self::Int8(matrix) => matrix.bytes(),
            Self::Nf4(matrix) => matrix.bytes(),
        }
    }
}

enum Data {
    /// May be shared with other models.
    Frozen(Arc<FrozenMatrix>),
    /// Trains: these elements of the parameter vector.
    Param(ParamRange),
    /// Rows of another matrix, from this one on.
    Rows { of: WeightId, first: usize },
}

/// A row-major `[rows, cols]` matrix, for reading.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub rows: usize,
    pub cols: usize,
    data: View<'a>,
}

/// The elements of a matrix as a product reads them, frozen or trained.
#[derive(Clone, Copy)]
pub enum View<'a> {
    F16(&'a [f16]),
    F32(&'a [f32]),
    /// From this row on, as is the next.
    Int8(&'a Int8, usize),
    Nf4(&'a Nf4, usize),
}

impl<'a> View<'a> {
    /// The same matrix from row `rows` on, `width` columns wide.
    fn below(self, rows: usize, width: usize) -> Self {
        match self {
            Self::F16(v) => Self::F16(&v[rows * width..]),
            Self::F32(v) => Self::F32(&v[rows * width..]),
            Self::Int8(matrix, first) => Self::Int8(matrix, first + rows),
            Self::Nf4(matrix, first) => Self::Nf4(matrix, first + rows),
        }
    }

    /// Whether it must be widened to f32 before use in a product.
    pub fn is_narrow(self) -> bool {
        !matches!(self, Self::F32(_))
    }

    /// `out = ` these columns of a row of a matrix of `width` columns; the first column is even.
    pub fn widen(self, row: usize, width: usize, cols: Range<usize>, out: &mut [f32]) {
        let here = row * width + cols.start..row * width + cols.end;
        match self {
            Self::F16(v) => widen(&v[here], out),
            Self::F32(v) => out.copy_from_slice(&v[here]),
            Self::Int8(matrix, first) => matrix.widen(first + row, cols, out),
            Self::Nf4(matrix, first) => matrix.widen(first + row, cols, out),
        }
    }
}

impl<'a> Matrix<'a> {
    pub fn view(&self) -> View<'a> {
        self.data
    }

    /// `out = row`, widened to f32.
    pub fn copy_row(&self, row: usize, out: &mut [f32]) {
        self.data.widen(row, self.cols, 0..self.cols, out);
    }

    /// `out += row`.
    pub fn add_row(&self, row: usize, out: &mut [f32]) {
        let mut wide = [0.0; 128];
        for (i, out) in out.chunks_mut(128).enumerate() {
            let wide = &mut wide[..out.len()];
            let cols = i * 128..i * 128 + out.len();
            self.data.widen(row, self.cols, cols, wide);
            super::pointwise::add(out, wide);
        }
    }
}

/// A matrix with the values it has after storing.
///
/// # Errors
/// A value that the type cannot hold.
pub fn rounded(
    weight_type: WeightType,
    name: &str,
    shape: MatrixShape,
    values: &[f32],
) -> Result<Vec<f32>> {
    let mut weights = HostMatrices::default();
    let id = weights.add(weight_type, name, shape, values)?;
    let matrix = weights.get(id, &[])?;
    let mut out = filled(0.0, values.len(), name)?;
    for (row, out) in out.chunks_exact_mut(shape.cols.max(1)).enumerate() {
        matrix.copy_row(row, out);
    }
    Ok(out)
}

/// Rounded to nearest, many at a time.
fn in_f16(values: &[f32], name: &str) -> Result<Vec<f16>> {
    let mut halves: Vec<f16> = room(values.len(), name)?;
    let mut piece = [f16::ZERO; 1024];
    for values in values.chunks(piece.len()) {
        let piece = &mut piece[..values.len()];
        piece.convert_from_f32_slice(values);
        halves.extend_from_slice(piece);
    }
    Ok(halves)
}

/// Bytes of a frozen matrix.
pub fn bytes(weight_type: WeightType, shape: MatrixShape) -> usize {
    let MatrixShape { rows, cols, .. } = shape;
    match (weight_type, shape.kind) {
        (WeightType::F32, _) => 4 * rows * cols,
        (WeightType::F16, _) => 2 * rows * cols,
        (WeightType::Int8, _) | (WeightType::Nf4, MatrixKind::Table) => int8::bytes(rows, cols),
        (WeightType::Nf4, MatrixKind::Linear) => nf4::bytes(rows, cols),
    }
}

/// All matrices, addressed by [`WeightId`].
#[derive(Default)]
pub struct HostMatrices {
    matrices: Vec<Stored>,
    /// Shared with other backends.
    resident: Option<Resident>,
}

fn label(weight_type: WeightType, name: &str, shape: MatrixShape) -> Label {
    Label::new(name, shape, format!("{weight_type:?}"))
}

impl HostMatrices {
    /// Empty; what others have uploaded is taken from `resident`, and what is new is put there.
    pub fn sharing(resident: Resident) -> Self {
        Self { matrices: Vec::new(), resident: Some(resident) }
    }

    /// See [`Backend::resident`](crate::backend::Backend::resident).
    pub fn resident(
        &mut self,
        weight_type: WeightType,
        name: &str,
        shape: MatrixShape,
    ) -> Option<WeightId> {
        let found = self.resident.as_ref()?.host().get(&label(weight_type, name, shape))?;
        Some(self.push(shape, Data::Frozen(found)))
    }

    fn push(&mut self, MatrixShape { rows, cols, .. }: MatrixShape, data: Data) -> WeightId {
        self.matrices.push(Stored { rows, cols, data });
        WeightId(self.matrices.len() - 1)
    }

    /// See [`Backend::upload`](crate::backend::Backend::upload).
    pub fn add(
        &mut self,
        weight_type: WeightType,
        name: &str,
        shape: MatrixShape,
        values: &[f32],
    ) -> Result<WeightId> {
        let MatrixShape { rows, cols, .. } = shape;
        ensure!(
            rows.checked_mul(cols) == Some(values.len()),
            "{name}: {} values do not make a [{rows}, {cols}] matrix",
            values.len()
        );
        if let Some(at) = first_not_finite(values) {
            anyhow::bail!("{name}[{}, {}] is {}", at / cols, at % cols, values[at]);
        }
        let data = match (weight_type, shape.kind) {
            (WeightType::F16, _) => {
                let halves = in_f16(values, name)?;
                if let Some(at) = first_not_finite(&halves) {
                    anyhow::bail!(
                        "{name}[{}, {}] = {} does not fit into 16 bits (at most 65504); store the weights as f32",
                        at / cols,
                        at % cols,
                        values[at]
                    );
                }
                FrozenMatrix::F16(halves)
            }
            (WeightType::F32, _) => FrozenMatrix::F32(copied(values, name)?),
            (WeightType::Int8, _) | (WeightType::Nf4, MatrixKind::Table) => {
                FrozenMatrix::Int8(Int8::new(values, cols))
            }
            (WeightType::Nf4, MatrixKind::Linear) => FrozenMatrix::Nf4(Nf4::new(values, cols)),
        };
        let data = Arc::new(data);
        if let Some(resident) = &self.resident {
            resident.host().put(label(weight_type, name, shape), Arc::clone(&data));
        }
        Ok(self.push(shape, Data::Frozen(data)))
    }

    /// See [`trained_matrix`](crate::backend::Backend::trained_matrix).
    pub fn add_trained(
        &mut self,
        name: &str,
        shape: MatrixShape,
        range: ParamRange,
    ) -> Result<WeightId> {
        let MatrixShape { rows, cols, .. } = shape;
        ensure!(
            rows.checked_mul(cols) == Some(range.len),
            "{name}: {} parameters do not make a [{rows}, {cols}] matrix",
            range.len
        );
        Ok(self.push(shape, Data::Param(range)))
    }

    /// See [`Backend::view_rows`](crate::backend::Backend::view_rows).
    pub fn view_rows(&mut self, of: WeightId, rows: Range<usize>) -> Result<WeightId> {
        let whole =
            self.matrices.get(of.0).with_context(|| format!("there is no matrix {}", of.0))?;
        ensure!(
            rows.start <= rows.end && rows.end <= whole.rows,
            "rows {rows:?} of a matrix that has {}",
            whole.rows
        );
        ensure!(!matches!(whole.data, Data::Param(_)), "rows of a matrix that trains");
        let (cols, first) = (whole.cols, rows.start);
        self.matrices.push(Stored { rows: rows.len(), cols, data: Data::Rows { of, first } });
        Ok(WeightId(self.matrices.len() - 1))
    }

    /// A matrix; `params` is the parameter vector, which holds the trained ones.
    pub fn get<'a>(&'a self, id: WeightId, params: &'a [f32]) -> Result<Matrix<'a>> {
        let stored =
            self.matrices.get(id.0).with_context(|| format!("there is no matrix {}", id.0))?;
        Ok(Matrix {
            rows: stored.rows,
            cols: stored.cols,
            data: match &stored.data {
                Data::Frozen(frozen) => match &**frozen {
                    FrozenMatrix::F16(v) => View::F16(v),
                    FrozenMatrix::F32(v) => View::F32(v),
                    FrozenMatrix::Int8(matrix) => View::Int8(matrix, 0),
                    FrozenMatrix::Nf4(matrix) => View::Nf4(matrix, 0),
                },
                Data::Rows { of, first } => self.get(*of, params)?.data.below(*first, stored.cols),
                Data::Param(range) => View::F32(read(params, *range)?),
            },
        })
    }

    /// Bytes of the frozen matrices, including shared ones.
    pub fn bytes(&self) -> usize {
        let of = |stored: &Stored| match &stored.data {
            Data::Frozen(frozen) => frozen.bytes(),
            Data::Param(_) | Data::Rows { .. } => 0,
        };
        self.matrices.iter().map(of).sum()
    }

    /// Whether any matrix trains.
    pub fn train(&self) -> bool {
        let trained = |stored: &Stored| matches!(stored.data, Data::Param(_));
        self.matrices.iter().any(trained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::MatrixKind;

    fn linear(rows: usize, cols: usize) -> MatrixShape {
        MatrixShape { kind: MatrixKind::Linear, rows, cols, trains: false }
    }

    #[test]
    fn a_view_has_the_values_of_its_rows_in_every_type_and_takes_no_memory() {
        let (rows, cols) = (10, 70);
        let values: Vec<f32> = (0..rows * cols).map(|i| (i as f32 * 0.7).sin()).collect();
        for weight_type in [WeightType::F32, WeightType::F16, WeightType::Int8, WeightType::Nf4] {
            let mut weights = HostMatrices::default();
            let whole = weights.add(weight_type, "w", linear(rows, cols), &values).unwrap();
            let bytes = weights.bytes();
            let part = weights.view_rows(whole, 3..7).unwrap();
            let inner = weights.view_rows(part, 1..4).unwrap();
            assert_eq!(weights.bytes(), bytes);
            let row = |id, row| {
                let mut out = vec![f32::NAN; cols];
                weights.get(id, &[]).unwrap().copy_row(row, &mut out);
                out
            };
            assert_eq!(weights.get(part, &[]).unwrap().rows, 4);
            assert_eq!(row(part, 2), row(whole, 5));
            assert_eq!(row(inner, 2), row(whole, 6));
            assert!(weights.view_rows(part, 2..5).is_err());
        }
    }

    #[test]
    fn a_shared_matrix_is_there_once_and_each_type_of_it_is_another() {
        let resident = Resident::default();
        let values: Vec<f32> = (0..6).map(|i| i as f32).collect();
        let mut first = HostMatrices::sharing(resident.clone());
        assert!(first.resident(WeightType::F16, "w", linear(2, 3)).is_none());
        first.add(WeightType::F16, "w", linear(2, 3), &values).unwrap();
        let mut second = HostMatrices::sharing(resident.clone());
        let id = second.resident(WeightType::F16, "w", linear(2, 3)).unwrap();
        let mut row = [0.0; 3];
        second.get(id, &[]).unwrap().copy_row(1, &mut row);
        assert_eq!(row, [3.0, 4.0, 5.0]);
        assert_eq!((first.bytes(), second.bytes(), resident.bytes()), (12, 12, 12));
        for (weight_type, name, shape) in [
            (WeightType::F32, "w", linear(2, 3)),
            (WeightType::F16, "v", linear(2, 3)),
            (WeightType::F16, "w", linear(3, 2)),
            (WeightType::F16, "w", MatrixShape { kind: MatrixKind::Table, ..linear(2, 3) }),
        ] {
            assert!(second.resident(weight_type, name, shape).is_none(), "{name} {shape:?}");
        }
        assert!(HostMatrices::default().resident(WeightType::F16, "w", linear(2, 3)).is_none());
    }

    #[test]
    fn a_value_beyond_16_bits_is_refused_with_its_place() {
        let mut weights = HostMatrices::default();
        let values = [0.0, 1.0, 70_000.0, 0.0];
        let error = weights
            .add(WeightType::F16, "layer.0.weight", linear(2, 2), &values)
            .unwrap_err()
            .to_string();
        assert!(error.contains("layer.0.weight[1, 0]") && error.contains("f32"), "{error}");
        let mut add = |shape, values: &[f32]| weights.add(WeightType::F32, "w", shape, values);
        assert!(add(linear(1, 1), &[f32::NAN]).is_err());
        assert!(add(linear(2, 1), &[1.0]).is_err());
    }
}
