//! A product's element types and shape, and the registers these take.

use crate::numeric::fp8::Fp8;
use crate::numeric::half::{bf16_to_f32, f16_to_f32};

/// One 32-bit register of a warp.
pub type Reg = [u32; 32];

/// Element types of A and B.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MmaType {
    F16,
    Bf16,
    Tf32,
    S8,
    U8,
    S4,
    U4,
    E4m3,
    E5m2,
}

impl MmaType {
    /// Elements in a 32-bit word.
    pub fn per_word(self) -> usize {
        match self {
            MmaType::Tf32 => 1,
            MmaType::F16 | MmaType::Bf16 => 2,
            MmaType::S8 | MmaType::U8 | MmaType::E4m3 | MmaType::E5m2 => 4,
            MmaType::S4 | MmaType::U4 => 8,
        }
    }
    pub fn is_int(self) -> bool {
        matches!(self, MmaType::S8 | MmaType::U8 | MmaType::S4 | MmaType::U4)
    }
    #[cfg(target_arch = "x86_64")]
    pub(super) fn is_fp8(self) -> bool {
        matches!(self, MmaType::E4m3 | MmaType::E5m2)
    }
    /// Element `i` of a word, for the integer types.
    #[inline(always)]
    pub(super) fn int(self, word: u32, i: usize) -> i32 {
        match self {
            MmaType::S8 => i32::from((word >> (8 * i)) as i8),
            MmaType::U8 => i32::from((word >> (8 * i)) as u8),
            MmaType::S4 => ((word << (28 - 4 * i)) as i32) >> 28,
            _ => (word >> (4 * i) & 15) as i32,
        }
    }
    /// Element `i` of a word, for the float types.
    #[inline(always)]
    pub(super) fn float(self, word: u32, i: usize) -> f32 {
        match self {
            MmaType::F16 => f16_to_f32((word >> (16 * i)) as u16),
            MmaType::Bf16 => bf16_to_f32((word >> (16 * i)) as u16),
            // The lower 13 bits are ignored.
            MmaType::Tf32 => f32::from_bits(word & 0xffff_e000),
            MmaType::E4m3 => Fp8::E4m3.to_f32((word >> (8 * i)) as u8),
            _ => Fp8::E5m2.to_f32((word >> (8 * i)) as u8),
        }
    }
}

/// An m16n8k* product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mma {
    pub k: u8,
    pub a: MmaType,
    pub b: MmaType,
    /// C is f16 in two registers rather than f32 (or s32) in four.
    pub c_half: bool,
    /// D likewise.
    pub d_half: bool,
    /// Integers only: the sum clamps instead of wrapping.
    pub satfinite: bool,
    /// m8n8 of integers: the upper eight rows of m16n8.
    pub m8: bool,
}

impl Mma {
    pub fn rows(self) -> usize {
        if self.m8 { 8 } else { 16 }
    }
    /// Registers of A (B has half as many).
    pub fn a_regs(self) -> usize {
        self.k as usize / self.a.per_word() / 2
    }
    pub fn b_regs(self) -> usize {
        self.a_regs() / 2
    }
    pub fn c_regs(self) -> usize {
        if self.c_half { 2 } else { 4 }
    }
    pub fn d_regs(self) -> usize {
        if self.d_half { 2 } else { 4 }
    }
    /// The shapes of the manual's table for mma.sync with these types.
    pub fn is_valid(self) -> bool {
        let fits = match self.a {
            MmaType::Tf32 => matches!(self.k, 4 | 8),
            MmaType::F16 | MmaType::Bf16 => matches!(self.k, 8 | 16),
            MmaType::E4m3 | MmaType::E5m2 => matches!(self.k, 16 | 32),
            MmaType::S8 | MmaType::U8 => matches!(self.k, 16 | 32),
            MmaType::S4 | MmaType::U4 => matches!(self.k, 32 | 64),
        };
        let pair = self.a == self.b
            || self.a.is_int() && self.b.is_int() && self.a.per_word() == self.b.per_word()
            || matches!(
                (self.a, self.b),
                (MmaType::E4m3, MmaType::E5m2) | (MmaType::E5m2, MmaType::E4m3)
            );
        let half_ok = matches!(self.a, MmaType::F16 | MmaType::E4m3 | MmaType::E5m2);
        fits && pair
            && (half_ok || !(self.c_half || self.d_half))
            && (self.a.is_int() || !self.satfinite)
            && (!self.m8 || self.a.is_int() && self.a_regs() == 2)
    }
}
