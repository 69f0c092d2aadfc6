//! The frozen matrices, in 16 or 32 bits.

use super::widen::widen;
use crate::backend::{WeightId, WeightType};
use anyhow::{Context, Result, ensure};
use half::f16;

/// A frozen row-major `[rows, cols]` matrix.
pub struct Matrix {
    pub rows: usize,
    pub cols: usize,
    data: Data,
}

enum Data {
    F16(Vec<f16>),
    F32(Vec<f32>),
}

/// A matrix that a product reads: a frozen one, or one of the trained ones of the head.
#[derive(Clone, Copy)]
pub enum View<'a> {
    F16(&'a [f16]),
    F32(&'a [f32]),
}

impl View<'_> {
    /// Whether it must be widened to f32 before it can be multiplied with.
    pub fn is_narrow(self) -> bool {
        !matches!(self, Self::F32(_))
    }
}

impl Matrix {
    pub fn view(&self) -> View<'_> {
        match &self.data {
            Data::F16(v) => View::F16(v),
            Data::F32(v) => View::F32(v),
        }
    }

    /// `out = row`, widened to f32.
    pub fn copy_row(&self, row: usize, out: &mut [f32]) {
        let range = row * self.cols..(row + 1) * self.cols;
        match &self.data {
            Data::F16(v) => widen(&v[range], out),
            Data::F32(v) => out.copy_from_slice(&v[range]),
        }
    }

    /// `out += row`.
    pub fn add_row(&self, row: usize, out: &mut [f32]) {
        let range = row * self.cols..(row + 1) * self.cols;
        match &self.data {
            Data::F32(v) => super::pointwise::add(out, &v[range]),
            Data::F16(v) => {
                let mut wide = [0.0; 128];
                for (from, out) in v[range].chunks(128).zip(out.chunks_mut(128)) {
                    let wide = &mut wide[..from.len()];
                    widen(from, wide);
                    super::pointwise::add(out, wide);
                }
            }
        }
    }
}

/// All frozen matrices, addressed by [`WeightId`].
#[derive(Default)]
pub struct Weights {
    matrices: Vec<Matrix>,
    bytes: usize,
}

impl Weights {
    /// See [`Backend::upload`](crate::backend::Backend::upload).
    pub fn add(
        &mut self,
        weight_type: WeightType,
        name: &str,
        rows: usize,
        cols: usize,
        values: &[f32],
    ) -> Result<WeightId> {
        ensure!(
            rows.checked_mul(cols) == Some(values.len()),
            "{name}: {} values do not make a [{rows}, {cols}] matrix",
            values.len()
        );
        let data = match weight_type {
            WeightType::F16 => {
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
            WeightType::F32 => {
                if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                    anyhow::bail!("{name}[{}, {}] is {}", at / cols, at % cols, values[at]);
                }
                Data::F32(values.to_vec())
            }
        };
        self.bytes += values.len() * weight_type.bytes();
        self.matrices.push(Matrix { rows, cols, data });
        Ok(WeightId(self.matrices.len() - 1))
    }

    pub fn get(&self, id: WeightId) -> Result<&Matrix> {
        self.matrices
            .get(id.0)
            .with_context(|| format!("no matrix {} was uploaded", id.0))
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_beyond_16_bits_is_refused_with_its_place() {
        let mut weights = Weights::default();
        let error = weights
            .add(
                WeightType::F16,
                "layer.0.weight",
                2,
                2,
                &[0.0, 1.0, 70_000.0, 0.0],
            )
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("layer.0.weight[1, 0]") && error.contains("f32"),
            "{error}"
        );
        assert!(
            weights
                .add(WeightType::F32, "w", 1, 1, &[f32::NAN])
                .is_err()
        );
        assert!(weights.add(WeightType::F32, "w", 2, 1, &[1.0]).is_err());
    }

    #[test]
    fn bytes_count_the_storage_type() {
        let mut weights = Weights::default();
        weights.add(WeightType::F16, "a", 2, 3, &[1.0; 6]).unwrap();
        weights.add(WeightType::F32, "b", 1, 3, &[1.0; 3]).unwrap();
        assert_eq!(weights.bytes(), 24);
    }
}
