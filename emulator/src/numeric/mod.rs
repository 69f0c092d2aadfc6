//! The arithmetic of PTX as pure functions: one lane at a time (or one warp-wide matrix product), no state, no heap,
//! independent of the rest of the emulator.
//!
//! One file per family, each function naming the instruction it implements. Lane functions are `#[inline(always)]` so
//! that a caller's loop over 32 lanes is compiled for the caller's instruction set; the rounding mode and the other
//! modifiers are meant to be constants there.
//!
//! The host's rounding mode is never touched: directed roundings come from exact residuals in a wider format.

#![allow(
    clippy::double_comparisons,
    clippy::nonminimal_bool,
    clippy::neg_cmp_op_on_partial_ord,
    reason = "the manual's definitions, in which NaN makes every plain comparison false"
)]

pub mod approx;
pub mod bits;
pub mod cmp;
pub mod cvt;
pub mod f32ops;
pub mod f64ops;
pub mod fp8;
pub mod half;
pub mod int;
pub mod logic;
pub mod mma;
#[cfg(test)]
mod rounding_tests;
pub mod simd2;
pub mod soft64;
pub mod video;
pub mod wmma;

/// Rounding of a floating-point result: `.rn`, `.rz`, `.rm`, `.rp`, and `.rna` (cvt to tf32).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Round {
    /// To nearest, ties to even.
    Rn,
    /// Towards zero.
    Rz,
    /// Towards minus infinity.
    Rm,
    /// Towards plus infinity.
    Rp,
    /// To nearest, ties away from zero.
    Rna,
}

/// The NaN that f32 instructions produce: PTX keeps no payloads.
pub const NAN_F32: u32 = 0x7fff_ffff;
/// The NaN that f64 instructions produce.
pub const NAN_F64: u64 = 0x7fff_ffff_ffff_ffff;
/// The NaN that f16 and bf16 instructions produce.
pub const NAN_HALF: u16 = 0x7fff;
