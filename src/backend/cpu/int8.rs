//! Matrices in 8 bits, as products read them.

use super::simd::dispatch;
use crate::backend::int8::Int8;
use std::ops::Range;

/// Bytes of a matrix.
pub fn bytes(rows: usize, cols: usize) -> usize {
    rows * cols + 4 * rows
}

impl Int8 {
    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.codes.capacity() + 4 * self.scales.capacity()
    }

    /// `out = ` these columns of a row.
    pub fn widen(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
        let codes = &self.codes[row * self.cols + cols.start..row * self.cols + cols.end];
        widen(codes, self.scales[row], out);
    }
}

dispatch! {
    fn widen(codes: &[i8], scale: f32, out: &mut [f32]) = widen_body;
}

#[inline(always)]
fn widen_body<const FMA: bool>(codes: &[i8], scale: f32, out: &mut [f32]) {
    for (x, code) in out.iter_mut().zip(codes) {
        *x = f32::from(*code) * scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_back_within_half_a_step_of_their_row_and_zeros_are_exact() {
        let (rows, cols) = (4, 37);
        let mut values: Vec<f32> =
            (0..rows * cols).map(|i| ((i * 7919) % 1000) as f32 / 1000.0 - 0.5).collect();
        values[2 * cols..3 * cols].fill(0.0);
        values.iter_mut().skip(3 * cols).for_each(|x| *x *= 1e-4);
        let matrix = Int8::new(&values, cols);
        assert_eq!(matrix.bytes(), bytes(rows, cols));
        for (r, want) in values.chunks_exact(cols).enumerate() {
            let most = want.iter().fold(0.0, |most: f32, x| x.abs().max(most));
            let mut got = vec![f32::NAN; cols - 3];
            matrix.widen(r, 2..cols - 1, &mut got);
            for (got, want) in got.iter().zip(&want[2..]) {
                assert!((got - want).abs() <= 0.501 * most / 127.0, "{got} {want}");
            }
        }
    }
}
