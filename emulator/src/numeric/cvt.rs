//! Conversions: cvt. Integers are passed as 64-bit patterns, sign- or zero-extended from their type.

use super::f32ops::{canonical, flush, narrow, saturate};
use super::half::{f32_to_bf16, f32_to_f16};
use super::{NAN_F64, Round};

/// Integer types of cvt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IntType {
    U8,
    S8,
    U16,
    S16,
    U32,
    S32,
    U64,
    S64,
}

impl IntType {
    #[inline(always)]
    pub fn signed(self) -> bool {
        matches!(self, IntType::S8 | IntType::S16 | IntType::S32 | IntType::S64)
    }
    #[inline(always)]
    pub fn bits(self) -> u32 {
        match self {
            IntType::U8 | IntType::S8 => 8,
            IntType::U16 | IntType::S16 => 16,
            IntType::U32 | IntType::S32 => 32,
            IntType::U64 | IntType::S64 => 64,
        }
    }
    /// The low bits of a register as this type, extended to 64 bits.
    #[inline(always)]
    pub fn extend(self, bits: u64) -> u64 {
        match self {
            IntType::U8 => bits as u8 as u64,
            IntType::S8 => bits as i8 as i64 as u64,
            IntType::U16 => bits as u16 as u64,
            IntType::S16 => bits as i16 as i64 as u64,
            IntType::U32 => bits as u32 as u64,
            IntType::S32 => bits as i32 as i64 as u64,
            IntType::U64 | IntType::S64 => bits,
        }
    }
    /// Smallest and largest value.
    #[inline(always)]
    fn range(self) -> (i128, i128) {
        let bits = self.bits();
        if self.signed() {
            (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
        } else {
            (0, (1i128 << bits) - 1)
        }
    }
}

/// Rounding to an integer: `.rni .rzi .rmi .rpi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IntRound {
    Rni,
    Rzi,
    Rmi,
    Rpi,
}

/// Integer to integer. The result is extended to 64 bits by its type; a wider register takes as many bits as it has.
#[inline(always)]
pub fn int_to_int(bits: u64, from: IntType, to: IntType, sat: bool) -> u64 {
    let x = from.extend(bits);
    if !sat {
        return to.extend(x);
    }
    let value = if from.signed() { i128::from(x as i64) } else { i128::from(x) };
    let (low, high) = to.range();
    value.clamp(low, high) as u64
}

/// Rounds to an integral value in the same format (cvt.rni.f64.f64 and the like).
#[inline(always)]
pub fn round_f64(x: f64, round: IntRound) -> f64 {
    match round {
        IntRound::Rni => x.round_ties_even(),
        IntRound::Rzi => x.trunc(),
        IntRound::Rmi => x.floor(),
        IntRound::Rpi => x.ceil(),
    }
}
/// cvt.rni.f32.f32 and the like
#[inline(always)]
pub fn round_f32(x: f32, round: IntRound, ftz: bool, sat: bool) -> f32 {
    let x = if ftz { flush(x) } else { x };
    let r = canonical(match round {
        IntRound::Rni => x.round_ties_even(),
        IntRound::Rzi => x.trunc(),
        IntRound::Rmi => x.floor(),
        IntRound::Rpi => x.ceil(),
    });
    if sat { saturate(r) } else { r }
}

/// Float to integer, from f64 (f32 and f16 sources widen exactly). Out of range clamps. NaN gives only the highest bit
/// if either side has 64 bits (`double` says that the source has), else 0.
#[inline(always)]
pub fn float_to_int(x: f64, to: IntType, round: IntRound, double: bool) -> u64 {
    if x.is_nan() {
        return match to {
            IntType::U64 | IntType::S64 => 1 << 63,
            _ if !double => 0,
            IntType::U32 => 1 << 31,
            IntType::S32 => i64::from(i32::MIN) as u64,
            IntType::U16 => 1 << 15,
            IntType::S16 => i64::from(i16::MIN) as u64,
            IntType::U8 => 1 << 7,
            IntType::S8 => i64::from(i8::MIN) as u64,
        };
    }
    let r = round_f64(x, round);
    // Rust's casts clamp, as cvt does.
    match to {
        IntType::U8 => u64::from(r as u8),
        IntType::S8 => i64::from(r as i8) as u64,
        IntType::U16 => u64::from(r as u16),
        IntType::S16 => i64::from(r as i16) as u64,
        IntType::U32 => u64::from(r as u32),
        IntType::S32 => i64::from(r as i32) as u64,
        IntType::U64 => r as u64,
        IntType::S64 => r as i64 as u64,
    }
}
/// cvt.rzi.s32.f32 and its kin, with `.ftz`
#[inline(always)]
pub fn f32_to_int(x: f32, to: IntType, round: IntRound, ftz: bool) -> u64 {
    float_to_int(f64::from(if ftz { flush(x) } else { x }), to, round, false)
}

/// An integer as f64, rounded to odd when it has more than 53 bits.
#[inline(always)]
fn int_to_f64_odd(bits: u64, from: IntType) -> f64 {
    let x = from.extend(bits);
    let negative = from.signed() && (x as i64) < 0;
    let magnitude = if negative { x.wrapping_neg() } else { x };
    let shift = 11u32.saturating_sub(magnitude.leading_zeros());
    let kept = magnitude >> shift;
    let kept = kept | u64::from(kept << shift != magnitude);
    let r = kept as f64 * (1u64 << shift) as f64;
    if negative { -r } else { r }
}
/// Integer to f32 in any rounding
#[inline(always)]
pub fn int_to_f32(bits: u64, from: IntType, round: Round) -> f32 {
    match (from, round) {
        (IntType::S32, Round::Rn) => bits as i32 as f32,
        (IntType::U32, Round::Rn) => bits as u32 as f32,
        (IntType::S64, Round::Rn) => bits as i64 as f32,
        (IntType::U64, Round::Rn) => bits as f32,
        (IntType::U8 | IntType::S8 | IntType::U16 | IntType::S16, _) => {
            from.extend(bits) as i64 as f32
        }
        _ => narrow(int_to_f64_odd(bits, from), round),
    }
}
/// Integer to f64 in any rounding
#[inline(always)]
pub fn int_to_f64(bits: u64, from: IntType, round: Round) -> f64 {
    let x = from.extend(bits);
    let near = if from.signed() { x as i64 as f64 } else { x as f64 };
    let exact = if from.signed() { i128::from(x as i64) } else { i128::from(x) };
    let back = near as i128;
    match round {
        Round::Rm if back > exact => near.next_down(),
        Round::Rp if back < exact => near.next_up(),
        Round::Rz if back.abs() > exact.abs() => f64::from_bits(near.to_bits() - 1),
        _ => near,
    }
}
/// Integer to f16 in any rounding
#[inline(always)]
pub fn int_to_f16(bits: u64, from: IntType, round: Round) -> u16 {
    super::half::f64_to_f16(int_to_f64_odd(bits, from), round)
}
/// Integer to bf16 in any rounding
#[inline(always)]
pub fn int_to_bf16(bits: u64, from: IntType, round: Round) -> u16 {
    super::half::f64_to_bf16(int_to_f64_odd(bits, from), round)
}

/// cvt.rn.f32.f64 and the other roundings
#[inline(always)]
pub fn f64_to_f32(x: f64, round: Round, ftz: bool, sat: bool) -> f32 {
    let r = canonical(narrow(x, round));
    let r = if ftz { flush(r) } else { r };
    if sat { saturate(r) } else { r }
}
/// cvt.f64.f32
#[inline(always)]
pub fn f32_to_f64(x: f32, ftz: bool, sat: bool) -> f64 {
    let x = if ftz { flush(x) } else { x };
    let x = if sat { saturate(x) } else { x };
    if x.is_nan() { f64::from_bits(NAN_F64) } else { f64::from(x) }
}
/// cvt.f64.f64 with `.sat`
#[inline(always)]
pub fn saturate_f64(x: f64) -> f64 {
    if x > 0.0 { if x < 1.0 { x } else { 1.0 } } else { 0.0 }
}

/// Modifiers of a narrowing to 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Narrow {
    pub round: Round,
    pub ftz: bool,
    pub sat: bool,
    /// Negative results become +0.
    pub relu: bool,
    /// Overflow stops at the largest finite value.
    pub satfinite: bool,
}

impl Narrow {
    /// `.rn` and nothing else
    pub const RN: Narrow =
        Narrow { round: Round::Rn, ftz: false, sat: false, relu: false, satfinite: false };
}

#[inline(always)]
fn narrowed(h: u16, infinity: u16, m: Narrow) -> u16 {
    let mut h = h;
    if m.satfinite && h & 0x7fff == infinity {
        h -= 1;
    }
    if m.relu && h & 0x8000 != 0 {
        h = 0;
    }
    h
}
/// cvt.{rn,rz}{.relu}{.satfinite}.f16.f32
#[inline(always)]
pub fn f32_to_f16_mode(x: f32, m: Narrow) -> u16 {
    let x = if m.ftz { flush(x) } else { x };
    let x = if m.sat { saturate(x) } else { x };
    narrowed(f32_to_f16(x, m.round), 0x7c00, m)
}
/// cvt.{rn,rz}{.relu}{.satfinite}.bf16.f32
#[inline(always)]
pub fn f32_to_bf16_mode(x: f32, m: Narrow) -> u16 {
    let x = if m.ftz { flush(x) } else { x };
    let x = if m.sat { saturate(x) } else { x };
    narrowed(f32_to_bf16(x, m.round), 0x7f80, m)
}
/// cvt.rn.f16x2.f32 d, a, b: `a` goes to the high half
#[inline(always)]
pub fn pack_f16x2(a: f32, b: f32, m: Narrow) -> u32 {
    u32::from(f32_to_f16_mode(a, m)) << 16 | u32::from(f32_to_f16_mode(b, m))
}
/// cvt.rn.bf16x2.f32 d, a, b: `a` goes to the high half
#[inline(always)]
pub fn pack_bf16x2(a: f32, b: f32, m: Narrow) -> u32 {
    u32::from(f32_to_bf16_mode(a, m)) << 16 | u32::from(f32_to_bf16_mode(b, m))
}
/// cvt.f32.f16
#[inline(always)]
pub fn f16_to_f32(h: u16, ftz: bool, sat: bool) -> f32 {
    // Every f16 subnormal is a normal f32, so `.ftz` has nothing to flush after widening.
    let x = canonical(super::half::f16_to_f32(h));
    let x = if ftz { flush(x) } else { x };
    if sat { saturate(x) } else { x }
}
/// cvt.f32.bf16
#[inline(always)]
pub fn bf16_to_f32(h: u16, ftz: bool, sat: bool) -> f32 {
    let x = canonical(super::half::bf16_to_f32(h));
    let x = if ftz { flush(x) } else { x };
    if sat { saturate(x) } else { x }
}

/// cvt.{rna,rn,rz}{.relu}{.satfinite}.tf32.f32: 10 mantissa bits, the lower 13 zero
#[inline(always)]
pub fn f32_to_tf32(x: f32, round: Round, relu: bool, satfinite: bool) -> u32 {
    if x.is_nan() {
        return super::NAN_F32;
    }
    let bits = x.to_bits();
    if relu && x.is_sign_negative() {
        return 0;
    }
    let add = match round {
        Round::Rna => 0x1000,
        Round::Rn => 0xfff + (bits >> 13 & 1),
        _ => 0,
    };
    let finite = x.is_finite();
    let r = if finite { bits.wrapping_add(add) & !0x1fff } else { bits };
    if satfinite && r & 0x7fff_ffff == 0x7f80_0000 { (r & 0x8000_0000) | 0x7f7f_e000 } else { r }
}

#[cfg(test)]
mod tests {
    use super::*;
    use IntType::*;

    #[test]
    fn integers() {
        assert_eq!(int_to_int(0xffff_ffff, S32, S64, false), u64::MAX);
        assert_eq!(int_to_int(0xffff_ffff, U32, S64, false), 0xffff_ffff);
        assert_eq!(int_to_int(0x180, S32, S8, false), (-128i64) as u64);
        assert_eq!(int_to_int(0x180, S32, S8, true), 127);
        assert_eq!(int_to_int((-5i32) as u64, S32, U8, true), 0);
        assert_eq!(int_to_int(u64::MAX, U64, S64, true), i64::MAX as u64);
        assert_eq!(int_to_int(u64::MAX, S64, U64, true), 0);
    }

    #[test]
    fn floats_to_integers() {
        assert_eq!(f32_to_int(2.5, S32, IntRound::Rni, false), 2);
        assert_eq!(f32_to_int(-2.5, S32, IntRound::Rzi, false), (-2i64) as u64);
        assert_eq!(f32_to_int(-2.5, S32, IntRound::Rmi, false), (-3i64) as u64);
        assert_eq!(f32_to_int(2.1, U8, IntRound::Rpi, false), 3);
        assert_eq!(f32_to_int(3e9, S32, IntRound::Rzi, false), i32::MAX as u64);
        assert_eq!(f32_to_int(-1.0, U32, IntRound::Rzi, false), 0);
        assert_eq!(f32_to_int(f32::NAN, S32, IntRound::Rni, false), 0);
        assert_eq!(f32_to_int(f32::from_bits(1), S32, IntRound::Rpi, false), 1);
        assert_eq!(f32_to_int(f32::from_bits(1), S32, IntRound::Rpi, true), 0);
        assert_eq!(float_to_int(1e300, U64, IntRound::Rzi, true), u64::MAX);
    }

    #[test]
    fn integers_to_floats() {
        let odd = (1u64 << 24) + 1;
        assert_eq!(int_to_f32(odd, U32, Round::Rn), 16_777_216.0);
        assert_eq!(int_to_f32(odd, U32, Round::Rp), 16_777_218.0);
        assert_eq!(int_to_f32(odd, U32, Round::Rz), 16_777_216.0);
        assert_eq!(int_to_f32(odd.wrapping_neg(), S64, Round::Rm), -16_777_218.0);
        // Just above a midpoint: rounding twice, through f64, would go down.
        let above = (1u64 << 63) + (1 << 39) + 1;
        assert_eq!(int_to_f32(above, U64, Round::Rn), above as f32);
        assert_eq!(narrow(int_to_f64_odd(above, U64), Round::Rn), above as f32);
        assert_eq!(int_to_f64(u64::MAX, U64, Round::Rz), 18_446_744_073_709_549_568.0);
        assert_eq!(int_to_f64(u64::MAX, U64, Round::Rn), 18_446_744_073_709_551_616.0);
        assert_eq!(int_to_f64(i64::MIN as u64, S64, Round::Rm), i64::MIN as f64);
        assert_eq!(int_to_f16(2049, S32, Round::Rn), 0x6800);
        assert_eq!(int_to_f16(2049, S32, Round::Rp), 0x6801);
        assert_eq!(int_to_f16(70000, U32, Round::Rn), 0x7c00);
        assert_eq!(int_to_f16(70000, U32, Round::Rz), 0x7bff);
    }

    #[test]
    fn to_sixteen_bits() {
        let m = Narrow::RN;
        assert_eq!(pack_f16x2(1.0, -2.0, m), 0x3c00_c000);
        assert_eq!(pack_bf16x2(1.0, -2.0, m), 0x3f80_c000);
        assert_eq!(pack_f16x2(-1.0, 1e9, Narrow { relu: true, satfinite: true, ..m }), 0x0000_7bff);
        assert_eq!(f32_to_f16_mode(65519.0, m), 0x7bff);
        assert_eq!(f32_to_f16_mode(65520.0, m), 0x7c00);
        assert_eq!(f32_to_f16_mode(1e9, Narrow { round: Round::Rz, ..m }), 0x7bff);
        assert_eq!(f32_to_bf16_mode(f32::MAX, m), 0x7f80);
        assert_eq!(f32_to_bf16_mode(f32::MAX, Narrow { round: Round::Rz, ..m }), 0x7f7f);
        assert_eq!(f32_to_f16_mode(f32::NAN, Narrow { relu: true, ..m }), 0x7fff);
        assert_eq!(f32_to_tf32(f32::from_bits(0x3f80_1000), Round::Rna, false, false), 0x3f80_2000);
        assert_eq!(f32_to_tf32(f32::from_bits(0x3f80_1000), Round::Rn, false, false), 0x3f80_0000);
        assert_eq!(f32_to_tf32(f32::from_bits(0x3f80_1fff), Round::Rz, false, false), 0x3f80_0000);
    }
}
