//! The matrices: frozen ones in 32, 16, 8 or 4 bits, trained ones where they lie in the parameter vector.

use super::params::read;
use super::widen::widen;
use super::{int8, nf4};
use crate::backend::int8::Int8;
use crate::backend::nf4::Nf4;
use crate::backend::{MatrixKind, MatrixShape, ParamRange, WeightId, WeightType};
use anyhow::{Context, Result, ensure};
use half::f16;
use std::ops::Range;

/// A row-major `[rows, cols]` matrix.
struct Stored {
    rows: usize,
    cols: usize,
    data: Data,
}

enum Data {
    F16(Vec<f16>),
    F32(Vec<f32>),
    Int8(Int8),
    Nf4(Nf4),
    /// Trains: these elements of the parameter vector.
    Param(ParamRange),
}

/// A row-major `[rows, cols]` matrix, to be read.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub rows: usize,
    pub cols: usize,
    data: View<'a>,
}

/// The elements of a matrix that a product reads, frozen or trained.
#[derive(Clone, Copy)]
pub enum View<'a> {
    F16(&'a [f16]),
    F32(&'a [f32]),
    Int8(&'a Int8),
    Nf4(&'a Nf4),
}

impl View<'_> {
    /// Whether it must be widened to f32 before it can be multiplied with.
    pub fn is_narrow(self) -> bool {
        !matches!(self, Self::F32(_))
    }

    /// `out = ` these columns of a row of a matrix of `width` columns; the first of them is even.
    pub fn widen(self, row: usize, width: usize, cols: Range<usize>, out: &mut [f32]) {
        let here = row * width + cols.start..row * width + cols.end;
        match self {
            Self::F16(v) => widen(&v[here], out),
            Self::F32(v) => out.copy_from_slice(&v[here]),
            Self::Int8(matrix) => matrix.widen(row, cols, out),
            Self::Nf4(matrix) => matrix.widen(row, cols, out),
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

/// A matrix as it is after storing.
///
/// # Errors
/// A value that the type cannot hold.
pub fn rounded(
    weight_type: WeightType,
    name: &str,
    shape: MatrixShape,
    values: &[f32],
) -> Result<Vec<f32>> {
    let mut weights = Weights::default();
    let id = weights.add(weight_type, name, shape, values)?;
    let matrix = weights.get(id, &[])?;
    let mut out = vec![0.0; values.len()];
    for (row, out) in out.chunks_exact_mut(shape.cols.max(1)).enumerate() {
        matrix.copy_row(row, out);
    }
    Ok(out)
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
pub struct Weights {
    matrices: Vec<Stored>,
}

impl Weights {
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
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            anyhow::bail!("{name}[{}, {}] is {}", at / cols, at % cols, values[at]);
        }
        let data = match (weight_type, shape.kind) {
            (WeightType::F16, _) => {
                let halves: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
                if let Some(at) = halves.iter().position(|h| !h.is_finite()) {
                    anyhow::bail!(
                        "{name}[{}, {}] = {} does not fit 16 bits (at most 65504); use --weights f32",
                        at / cols,
                        at % cols,
                        values[at]
                    );
                }
                Data::F16(halves)
            }
            (WeightType::F32, _) => Data::F32(values.to_vec()),
            (WeightType::Int8, _) | (WeightType::Nf4, MatrixKind::Table) => {
                Data::Int8(Int8::new(values, cols))
            }
            (WeightType::Nf4, MatrixKind::Linear) => Data::Nf4(Nf4::new(values, cols)),
        };
        self.matrices.push(Stored { rows, cols, data });
        Ok(WeightId(self.matrices.len() - 1))
    }

    /// See [`trained_matrix`](crate::backend::weight_gradients::WeightGradients::trained_matrix).
    pub fn add_trained(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
        range: ParamRange,
    ) -> Result<WeightId> {
        ensure!(
            rows.checked_mul(cols) == Some(range.len),
            "{name}: {} parameters do not make a [{rows}, {cols}] matrix",
            range.len
        );
        let data = Data::Param(range);
        self.matrices.push(Stored { rows, cols, data });
        Ok(WeightId(self.matrices.len() - 1))
    }

    /// A matrix; `params` is the parameter vector, in which the trained ones lie.
    pub fn get<'a>(&'a self, id: WeightId, params: &'a [f32]) -> Result<Matrix<'a>> {
        let stored = self
            .matrices
            .get(id.0)
            .with_context(|| format!("there is no matrix {}", id.0))?;
        Ok(Matrix {
            rows: stored.rows,
            cols: stored.cols,
            data: match &stored.data {
                Data::F16(v) => View::F16(v),
                Data::F32(v) => View::F32(v),
                Data::Int8(matrix) => View::Int8(matrix),
                Data::Nf4(matrix) => View::Nf4(matrix),
                Data::Param(range) => View::F32(read(params, *range)?),
            },
        })
    }

    /// Bytes allocated for the frozen matrices.
    pub fn bytes(&self) -> usize {
        let of = |stored: &Stored| match &stored.data {
            Data::F16(v) => 2 * v.capacity(),
            Data::F32(v) => 4 * v.capacity(),
            Data::Int8(matrix) => matrix.bytes(),
            Data::Nf4(matrix) => matrix.bytes(),
            Data::Param(_) => 0,
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
        MatrixShape {
            kind: MatrixKind::Linear,
            rows,
            cols,
            trains: false,
        }
    }

    #[test]
    fn a_value_beyond_16_bits_is_refused_with_its_place() {
        let mut weights = Weights::default();
        let values = [0.0, 1.0, 70_000.0, 0.0];
        let error = weights
            .add(WeightType::F16, "layer.0.weight", linear(2, 2), &values)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("layer.0.weight[1, 0]") && error.contains("f32"),
            "{error}"
        );
        let mut add = |shape, values: &[f32]| weights.add(WeightType::F32, "w", shape, values);
        assert!(add(linear(1, 1), &[f32::NAN]).is_err());
        assert!(add(linear(2, 1), &[1.0]).is_err());
    }
}
