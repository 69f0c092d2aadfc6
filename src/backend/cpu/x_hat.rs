//! The kept x̂ of a LayerNorm: its elements, or the one-byte codes that [`Storage`] defines.

use super::bf16::wide;
use super::elements::{Elements, Stored};
use super::normalise::{normalise_backward, through};
use super::pointwise::{add_product, products};
use super::share::Shared;
use super::simd::dispatch;
use crate::program::Storage;
use anyhow::{Result, bail};
use bytemuck::cast_slice_mut;
use half::bf16;

/// A `[tokens, hidden]` tensor of x̂, written and read by row.
pub enum XHats<'a> {
    Whole(Elements<'a>),
    Bits8(Shared<'a, i8>),
}

impl<'a> XHats<'a> {
    /// In `memory`.
    ///
    /// # Errors
    /// If these are not codes of x̂.
    pub fn new(stored: Stored, memory: &'a mut [f32]) -> Result<Self> {
        Ok(match stored {
            Stored::F32 | Stored::Bf16 => Self::Whole(Elements::new(stored, memory)?),
            Stored::XHat8 => Self::Bits8(Shared::new(cast_slice_mut(memory))),
            Stored::Slope8 | Stored::Slope4 => bail!("x̂ is stored as {stored:?}"),
        })
    }

    /// Stores `x_hat` as row `row`.
    ///
    /// # Safety
    /// No two threads work on the same row.
    pub unsafe fn keep(&self, row: usize, x_hat: &[f32]) {
        let hidden = x_hat.len();
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::Whole(elements) => elements.write(row * hidden, x_hat),
                Self::Bits8(memory) => {
                    let codes = memory.slice(row * hidden, hidden);
                    pack8(x_hat, codes, Storage::x_hat_unit(hidden));
                }
            }
        }
    }

    /// `sum += dy ⊙ x̂` for a row: γ's gradient.
    ///
    /// # Safety
    /// As [`keep`](Self::keep).
    pub unsafe fn add_product(&self, row: usize, dy: &[f32], sum: &mut [f32]) {
        let hidden = dy.len();
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::Whole(Elements::F32(memory)) => {
                    add_product(sum, dy, memory.slice(row * hidden, hidden));
                }
                Self::Whole(Elements::Bf16(memory)) => {
                    add_product16(sum, dy, memory.slice(row * hidden, hidden));
                }
                Self::Bits8(memory) => {
                    let unit = Storage::x_hat_unit(hidden);
                    add_product8(sum, dy, memory.slice(row * hidden, hidden), unit);
                }
            }
        }
    }

    /// Takes `dy`, the gradient of a row, back through LayerNorm ([`normalise_backward`]).
    ///
    /// # Safety
    /// As [`keep`](Self::keep).
    pub unsafe fn back(&self, row: usize, dy: &mut [f32], gamma: &[f32], rstd: f32) {
        let hidden = dy.len();
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::Whole(Elements::F32(memory)) => {
                    normalise_backward(dy, memory.slice(row * hidden, hidden), gamma, rstd);
                }
                Self::Whole(Elements::Bf16(memory)) => {
                    normalise_backward16(dy, memory.slice(row * hidden, hidden), gamma, rstd);
                }
                Self::Bits8(memory) => {
                    let (codes, unit) =
                        (memory.slice(row * hidden, hidden), Storage::x_hat_unit(hidden));
                    normalise_backward8(dy, codes, unit, gamma, rstd);
                }
            }
        }
    }
}

dispatch! {
    /// [`add_product`] with x̂ in bf16.
    fn add_product16(sum: &mut [f32], dy: &[f32], x_hat: &[bf16]) = product16_body;
    /// [`add_product`] with the codes of x̂.
    fn add_product8(sum: &mut [f32], dy: &[f32], codes: &[i8], unit: f32) = product8_body;
    /// `codes = row`, one byte each.
    fn pack8(row: &[f32], codes: &mut [i8], unit: f32) = pack8_body;
    /// [`normalise_backward`] with x̂ in bf16.
    fn normalise_backward16(dy: &mut [f32], x_hat: &[bf16], gamma: &[f32], rstd: f32) = backward16_body;
    /// [`normalise_backward`] with the codes of x̂.
    fn normalise_backward8(dy: &mut [f32], codes: &[i8], unit: f32, gamma: &[f32], rstd: f32) = backward8_body;
}

#[inline(always)]
fn product16_body<const FMA: bool>(sum: &mut [f32], dy: &[f32], x_hat: &[bf16]) {
    products::<FMA, _>(sum, dy, x_hat, wide);
}

#[inline(always)]
fn product8_body<const FMA: bool>(sum: &mut [f32], dy: &[f32], codes: &[i8], unit: f32) {
    products::<FMA, _>(sum, dy, codes, |code| value(code, unit));
}

#[inline(always)]
fn backward16_body<const FMA: bool>(dy: &mut [f32], x_hat: &[bf16], gamma: &[f32], rstd: f32) {
    through::<FMA, _>(dy, x_hat, wide, gamma, rstd);
}

#[inline(always)]
fn backward8_body<const FMA: bool>(
    dy: &mut [f32],
    codes: &[i8],
    unit: f32,
    gamma: &[f32],
    rstd: f32,
) {
    through::<FMA, _>(dy, codes, |code| value(code, unit), gamma, rstd);
}

#[inline(always)]
fn pack8_body<const FMA: bool>(row: &[f32], codes: &mut [i8], unit: f32) {
    let squares = 1.0 / unit;
    for (x, c) in row.iter().zip(codes) {
        // Adding a half and truncating is one conversion; `round` would be a call on older machines. A NaN becomes 0
        // here and a NaN loss elsewhere.
        *c = ((x.abs() * squares).sqrt() + 0.5).copysign(*x) as i8;
    }
}

/// The x̂ of a code.
#[inline(always)]
fn value(code: i8, unit: f32) -> f32 {
    let c = f32::from(code);
    c * c.abs() * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_x_hat_returns_within_half_a_step_of_its_root() {
        for hidden in [8, 384, 1024] {
            let (unit, most) = (Storage::x_hat_unit(hidden), (hidden as f32).sqrt());
            let row: Vec<f32> = (0..=1000).map(|i| most * (i as f32 / 500.0 - 1.0)).collect();
            let mut codes = vec![0x55; row.len()];
            pack8(&row, &mut codes, unit);
            for (&x, &code) in row.iter().zip(&codes) {
                let y = value(code, unit);
                let off = (x.abs().sqrt() - y.abs().sqrt()).abs() / unit.sqrt();
                assert!(off <= 0.501 && x * y >= 0.0, "{x} came back as {y}");
            }
            assert_eq!(value(codes[500], unit), 0.0);
            assert!((value(codes[1000], unit) / most - 1.0).abs() < 1e-6);
        }
    }
}
