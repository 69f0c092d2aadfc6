//! Elements of tensors: f32 or bf16 in storage, f32 in arithmetic.

use super::bf16::{narrow, widen};
use super::lanes::Lanes;
use super::share::Shared;
use super::simd::{Level, level};
use crate::program::{ElementBytes, Storage};
use anyhow::{Result, bail};
use bytemuck::{cast_slice, cast_slice_mut};
use half::bf16;
use std::ops::Range;

/// The arithmetic of encoders; heads and optimizers always compute in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arithmetic {
    #[default]
    F32,
    /// Operands of products and what is kept for backward are bf16; sums, the residual stream and its gradient are f32.
    Bf16,
}

impl Arithmetic {
    /// The fastest on this processor: bf16 if the program uses its bf16 dot products.
    pub fn fastest() -> Self {
        if level() >= Level::Avx512Bf16 { Self::Bf16 } else { Self::F32 }
    }

    pub fn element_bytes(self) -> ElementBytes {
        match self {
            Self::F32 => ElementBytes::all(4),
            Self::Bf16 => ElementBytes { activation: 2, stream: 4 },
        }
    }

    /// How a tensor is stored in the arena.
    pub fn stored(self, storage: Storage) -> Stored {
        match (storage, self) {
            (Storage::Activation, Self::Bf16) => Stored::Bf16,
            (Storage::Activation | Storage::Stream | Storage::F32, _) => Stored::F32,
            (Storage::XHat8, _) => Stored::XHat8,
            (Storage::Slope8, _) => Stored::Slope8,
            (Storage::Slope4, _) => Stored::Slope4,
        }
    }
}

/// How a tensor is stored in the arena; see [`Storage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    F32,
    Bf16,
    XHat8,
    Slope8,
    Slope4,
}

/// Elements for reading.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
}

impl<'a> Source<'a> {
    /// Those in `memory`.
    ///
    /// # Errors
    /// If they are codes.
    pub fn new(stored: Stored, memory: &'a [f32]) -> Result<Self> {
        Ok(match stored {
            Stored::F32 => Self::F32(memory),
            Stored::Bf16 => Self::Bf16(cast_slice(memory)),
            codes => bail!("elements that are stored as {codes:?}"),
        })
    }

    /// `out = ` the elements from `at` on.
    pub fn copy(self, at: usize, out: &mut [f32]) {
        let range = at..at + out.len();
        match self {
            Self::F32(x) => out.copy_from_slice(&x[range]),
            Self::Bf16(x) => widen(&x[range], out),
        }
    }

    /// These elements in place, or copied to `room`.
    pub fn get<'b>(self, range: Range<usize>, room: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        match self {
            Self::F32(x) => &x[range],
            Self::Bf16(x) => {
                let room = &mut room[..range.len()];
                widen(&x[range], room);
                room
            }
        }
    }
}

/// Elements that several tasks write at disjoint places. A copy refers to the same elements.
#[derive(Clone, Copy)]
pub enum Elements<'a> {
    F32(Shared<'a>),
    Bf16(Shared<'a, bf16>),
}

impl<'a> Elements<'a> {
    /// As [`Source::new`].
    pub fn new(stored: Stored, memory: &'a mut [f32]) -> Result<Self> {
        Ok(match stored {
            Stored::F32 => Self::F32(Shared::new(memory)),
            Stored::Bf16 => Self::Bf16(Shared::new(cast_slice_mut(memory))),
            codes => bail!("elements that are stored as {codes:?}"),
        })
    }

    /// `values = ` the elements from `at` on.
    ///
    /// # Safety
    /// No other thread writes these elements.
    pub unsafe fn read(self, at: usize, values: &mut [f32]) {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::F32(x) => values.copy_from_slice(x.slice(at, values.len())),
                Self::Bf16(x) => widen(x.slice(at, values.len()), values),
            }
        }
    }

    /// Sets the elements from `at` on to `values`.
    ///
    /// # Safety
    /// No other thread works on these elements.
    pub unsafe fn write(self, at: usize, values: &[f32]) {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::F32(out) => out.slice(at, values.len()).copy_from_slice(values),
                Self::Bf16(out) => narrow(values, out.slice(at, values.len())),
            }
        }
    }

    /// Sets the `count` elements from `at` on to the first of `x`.
    ///
    /// # Safety
    /// As [`write`](Self::write).
    #[inline(always)]
    pub unsafe fn put<L: Lanes>(self, lanes: L, x: L::Floats, at: usize, count: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::F32(out) => lanes.store(x, out.slice(at, count)),
                Self::Bf16(out) => lanes.store_halves(x, out.slice(at, count)),
            }
        }
    }

    /// The `count` elements from `at` on.
    ///
    /// # Safety
    /// As [`write`](Self::write).
    #[inline(always)]
    pub unsafe fn take<L: Lanes>(self, lanes: L, at: usize, count: usize) -> L::Floats {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::F32(x) => lanes.load(x.slice(at, count)),
                Self::Bf16(x) => lanes.load_halves(x.slice(at, count)),
            }
        }
    }
}
