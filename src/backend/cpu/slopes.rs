//! The kept derivative of an activation function: its elements, or the one-byte or half-byte codes that
//! [`Storage`](crate::program::Storage) defines.

use super::bf16;
use super::elements::{Elements, Stored};
use super::lanes::{LANES, Lanes};
use super::pointwise;
use super::share::Shared;
use super::simd::dispatch;
use crate::program::Activation;
use anyhow::{Result, bail};
use bytemuck::cast_slice_mut;
use std::ops::Range;

/// A `[rows, width]` tensor of derivatives that tiles write and read.
pub enum Slopes<'a> {
    /// With the columns per row.
    Whole(Elements<'a>, usize),
    /// With the columns per row.
    Bits8(Shared<'a, u8>, usize),
    /// With the bytes per row.
    Bits4(Shared<'a, u8>, usize),
}

impl<'a> Slopes<'a> {
    /// In `memory`.
    ///
    /// # Errors
    /// If these are not codes of slopes.
    pub fn new(stored: Stored, memory: &'a mut [f32], width: usize) -> Result<Self> {
        let half = width.div_ceil(2);
        Ok(match stored {
            Stored::F32 | Stored::Bf16 => Self::Whole(Elements::new(stored, memory)?, width),
            Stored::Slope8 => Self::Bits8(Shared::new(cast_slice_mut(memory)), width),
            Stored::Slope4 => Self::Bits4(Shared::new(cast_slice_mut(memory)), half),
            Stored::XHat8 => bail!("a slope is stored as {stored:?}"),
        })
    }

    /// `values = act(values + bias)`, keeping the derivatives of columns `from..from + values.len()` of `row`.
    ///
    /// # Safety
    /// No two threads work on the same columns of a row, and `from` is even.
    pub unsafe fn activate(
        &self,
        kind: Activation,
        values: &mut [f32],
        bias: &[f32],
        row: usize,
        from: usize,
    ) {
        if let Self::Whole(Elements::F32(memory), width) = self {
            // SAFETY: the caller's promise.
            let kept = unsafe { memory.slice(row * width + from, values.len()) };
            return pointwise::activate(kind, values, bias, Some(kept));
        }
        // Tiles in other storage are made from pieces of derivatives of this size, on the stack.
        const PIECE: usize = 128;
        let mut slopes = [0.0; PIECE];
        let pieces = values.chunks_mut(PIECE).zip(bias.chunks(PIECE));
        for (i, (values, bias)) in pieces.enumerate() {
            let (at, slopes) = (from + i * PIECE, &mut slopes[..values.len()]);
            pointwise::activate(kind, values, bias, Some(slopes));
            // SAFETY: the caller's promise; `PIECE` is even, so no byte is shared.
            unsafe {
                match self {
                    Self::Whole(elements, width) => elements.write(row * width + at, slopes),
                    Self::Bits8(memory, width) => {
                        pack8(slopes, memory.slice(row * width + at, slopes.len()));
                    }
                    Self::Bits4(memory, bytes) => {
                        let codes = memory.slice(row * bytes + at / 2, slopes.len().div_ceil(2));
                        pack4(slopes, codes);
                    }
                }
            }
        }
    }

    /// `values *= ` the derivatives of columns `from..from + values.len()` of `row`.
    ///
    /// # Safety
    /// As [`activate`](Self::activate).
    pub unsafe fn multiply(&self, values: &mut [f32], row: usize, from: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::Whole(Elements::F32(memory), width) => {
                    pointwise::multiply(values, memory.slice(row * width + from, values.len()));
                }
                Self::Whole(Elements::Bf16(memory), width) => {
                    bf16::multiply(values, memory.slice(row * width + from, values.len()));
                }
                Self::Bits8(memory, width) => {
                    multiply8(values, memory.slice(row * width + from, values.len()));
                }
                Self::Bits4(memory, bytes) => {
                    let codes = memory.slice(row * bytes + from / 2, values.len().div_ceil(2));
                    multiply4(values, codes);
                }
            }
        }
    }

    /// Stores `slope` as these columns of `row`, up to sixteen.
    ///
    /// # Safety
    /// As [`activate`](Self::activate).
    #[inline(always)]
    pub unsafe fn keep<L: Lanes>(
        &self,
        lanes: L,
        slope: L::Floats,
        row: usize,
        cols: Range<usize>,
    ) {
        let mut wide = [0.0; LANES];
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::Whole(to, width) => {
                    to.put(lanes, slope, row * width + cols.start, cols.len())
                }
                Self::Bits8(memory, width) => {
                    lanes.store(slope, &mut wide);
                    let codes = memory.slice(row * width + cols.start, cols.len());
                    pack8(&wide[..cols.len()], codes);
                }
                Self::Bits4(memory, bytes) => {
                    lanes.store(slope, &mut wide);
                    let count = cols.len().div_ceil(2);
                    let codes = memory.slice(row * bytes + cols.start / 2, count);
                    pack4(&wide[..cols.len()], codes);
                }
            }
        }
    }

    /// `x` times these columns of `row`.
    ///
    /// # Safety
    /// As [`activate`](Self::activate).
    #[inline(always)]
    pub unsafe fn times<L: Lanes>(
        &self,
        lanes: L,
        x: L::Floats,
        row: usize,
        cols: Range<usize>,
    ) -> L::Floats {
        // SAFETY: the caller's promise.
        unsafe {
            if let Self::Whole(from, width) = self {
                return lanes.mul(x, from.take(lanes, row * width + cols.start, cols.len()));
            }
            let mut wide = [0.0; LANES];
            lanes.store(x, &mut wide);
            self.multiply(&mut wide[..cols.len()], row, cols.start);
            lanes.load(&wide)
        }
    }
}

/// Steps of a one-byte code between 0 and 1, and the code of 0.
const BYTE: (f32, f32) = (200.0, 26.0);
/// As [`BYTE`], of a half-byte code, whose largest is 15.
const NIBBLE: (f32, f32) = (11.0, 2.0);

dispatch! {
    /// `codes = row`, one byte each.
    pub fn pack8(row: &[f32], codes: &mut [u8]) = pack8_body;
    /// `codes = row`, two per byte.
    pub fn pack4(row: &[f32], codes: &mut [u8]) = pack4_body;
    /// `row *= codes`.
    pub fn multiply8(row: &mut [f32], codes: &[u8]) = multiply8_body;
    /// `row *= codes`, two per byte.
    pub fn multiply4(row: &mut [f32], codes: &[u8]) = multiply4_body;
}

/// The nearest code; halves round up. A NaN, which has no code, becomes 0 here and a NaN loss elsewhere.
#[inline(always)]
fn code(d: f32, (steps, zero): (f32, f32), most: f32) -> u8 {
    // Adding a half and truncating is one conversion; `round` would be a call on older machines.
    (d * steps + zero + 0.5).clamp(0.0, most) as u8
}

#[inline(always)]
fn value(code: u8, (steps, zero): (f32, f32)) -> f32 {
    (f32::from(code) - zero) / steps
}

#[inline(always)]
fn pack8_body<const FMA: bool>(row: &[f32], codes: &mut [u8]) {
    for (d, c) in row.iter().zip(codes) {
        *c = code(*d, BYTE, 255.0);
    }
}

#[inline(always)]
fn pack4_body<const FMA: bool>(row: &[f32], codes: &mut [u8]) {
    let (pairs, last) = row.as_chunks::<2>();
    for (pair, c) in pairs.iter().zip(&mut *codes) {
        *c = code(pair[0], NIBBLE, 15.0) | code(pair[1], NIBBLE, 15.0) << 4;
    }
    if let ([d], Some(c)) = (last, codes.get_mut(pairs.len())) {
        *c = code(*d, NIBBLE, 15.0);
    }
}

#[inline(always)]
fn multiply8_body<const FMA: bool>(row: &mut [f32], codes: &[u8]) {
    for (x, c) in row.iter_mut().zip(codes) {
        *x *= value(*c, BYTE);
    }
}

#[inline(always)]
fn multiply4_body<const FMA: bool>(row: &mut [f32], codes: &[u8]) {
    for (pair, c) in row.chunks_mut(2).zip(codes) {
        pair[0] *= value(c & 15, NIBBLE);
        if let Some(x) = pair.get_mut(1) {
            *x *= value(c >> 4, NIBBLE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(d: &[f32], bits: u8) -> Vec<f32> {
        let mut out = vec![1.0; d.len()];
        let mut codes = vec![0xAA; d.len()];
        if bits == 8 {
            pack8(d, &mut codes);
            multiply8(&mut out, &codes);
        } else {
            codes.truncate(d.len().div_ceil(2));
            pack4(d, &mut codes);
            multiply4(&mut out, &codes);
        }
        out
    }

    #[test]
    fn every_derivative_of_gelu_returns_within_half_a_step_and_odd_rows_are_complete() {
        for (bits, steps) in [(8, 200.0), (4, 11.0)] {
            for count in 1..40 {
                let d: Vec<f32> = (0..count).map(|i| -0.129 + 1.258 * (i as f32) / 39.0).collect();
                for (got, want) in through(&d, bits).iter().zip(&d) {
                    assert!(
                        (got - want).abs() <= 0.5001 / steps,
                        "{want} came back as {got} in {bits} bits"
                    );
                }
            }
        }
    }

    #[test]
    fn zero_and_one_are_exact() {
        for bits in [8, 4] {
            assert_eq!(through(&[0.0, 1.0, 1.0], bits)[0], 0.0);
            let one = through(&[1.0; 3], bits);
            assert!(one.iter().all(|x| (x - 1.0).abs() < 1e-7), "{one:?}");
        }
    }
}
