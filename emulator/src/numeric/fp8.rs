//! The 8-bit floats of cvt: `.e4m3x2` and `.e5m2x2`.

use super::half::{f16_to_f32, f32_to_f16_rn};
use super::simd2::{high, low, pack};

/// The two formats; both write NaN as 0x7f.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fp8 {
    /// 4 exponent bits, 3 mantissa bits, no infinity, largest value 448.
    E4m3,
    /// 5 exponent bits, 2 mantissa bits, largest finite value 57344.
    E5m2,
}

impl Fp8 {
    /// (mantissa bits, exponent of the smallest normal, code of the largest finite value)
    #[inline(always)]
    fn format(self) -> (i32, i32, u32) {
        match self {
            Fp8::E4m3 => (3, -6, 0x7e),
            Fp8::E5m2 => (2, -14, 0x7b),
        }
    }

    /// f32 to fp8, `.rn.satfinite` (the only form that PTX has)
    pub fn from_f32(self, x: f32, relu: bool) -> u8 {
        let (mant, emin, largest) = self.format();
        if x.is_nan() {
            return 0x7f;
        }
        if relu && x.is_sign_negative() {
            return 0;
        }
        let sign = (x.to_bits() >> 24) as u8 & 0x80;
        let a = f64::from(x.abs());
        let exponent = ((a.to_bits() >> 52) as i32 - 1023).max(emin);
        // In units of the last place; at the smallest exponent this covers the subnormals too.
        let units = (a * 2f64.powi(mant - exponent)).round_ties_even();
        let code = if a >= 65536.0 {
            largest
        } else {
            (((exponent - emin) as u32) << mant) + units as u32
        };
        sign | code.min(largest) as u8
    }
    /// fp8 to f32, exact
    pub fn to_f32(self, code: u8) -> f32 {
        let (mant, emin, largest) = self.format();
        let body = u32::from(code & 0x7f);
        let fields = (body >> mant, body & ((1 << mant) - 1));
        let magnitude = if body > largest {
            if self == Fp8::E5m2 && body == 0x7c { f32::INFINITY } else { f32::NAN }
        } else if fields.0 == 0 {
            fields.1 as f32 * 2f32.powi(emin - mant)
        } else {
            (fields.1 + (1 << mant)) as f32 * 2f32.powi(emin - mant + fields.0 as i32 - 1)
        };
        if code & 0x80 != 0 { -magnitude } else { magnitude }
    }
    /// cvt.rn.satfinite{.relu}.e4m3x2.f32 d, a, b: a in the high byte
    pub fn pack_f32(self, a: f32, b: f32, relu: bool) -> u16 {
        u16::from(self.from_f32(a, relu)) << 8 | u16::from(self.from_f32(b, relu))
    }
    /// cvt.rn.satfinite{.relu}.e4m3x2.f16x2
    pub fn pack_f16x2(self, a: u32, relu: bool) -> u16 {
        self.pack_f32(f16_to_f32(high(a)), f16_to_f32(low(a)), relu)
    }
    /// cvt.rn{.relu}.f16x2.e4m3x2
    pub fn unpack_f16x2(self, codes: u16, relu: bool) -> u32 {
        let one = |code: u8| {
            let h = f32_to_f16_rn(self.to_f32(code));
            if relu && h & 0x8000 != 0 { 0 } else { h }
        };
        pack(one(codes as u8), one((codes >> 8) as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives() {
        for format in [Fp8::E4m3, Fp8::E5m2] {
            for code in 0..=255u8 {
                let x = format.to_f32(code);
                if x.is_finite() {
                    assert_eq!(format.from_f32(x, false), code, "{format:?} {code:#x} {x}");
                }
            }
        }
    }

    #[test]
    fn hand_worked() {
        assert_eq!(Fp8::E4m3.from_f32(1.0, false), 0x38);
        assert_eq!(Fp8::E4m3.from_f32(1.0625, false), 0x38);
        assert_eq!(Fp8::E4m3.from_f32(1.1875, false), 0x3a);
        assert_eq!(Fp8::E4m3.from_f32(500.0, false), 0x7e);
        assert_eq!(Fp8::E4m3.from_f32(f32::NEG_INFINITY, false), 0xfe);
        assert_eq!(Fp8::E4m3.from_f32(-1.0, true), 0);
        assert_eq!(Fp8::E4m3.from_f32(2f32.powi(-10), false), 0);
        assert_eq!(Fp8::E4m3.from_f32(1.5 * 2f32.powi(-10), false), 1);
        assert_eq!(Fp8::E5m2.from_f32(57344.0, false), 0x7b);
        assert_eq!(Fp8::E5m2.from_f32(1e9, false), 0x7b);
        assert_eq!(Fp8::E5m2.from_f32(f32::NAN, true), 0x7f);
        assert_eq!(Fp8::E4m3.pack_f32(1.0, -2.0, false), 0x38c0);
        assert_eq!(Fp8::E5m2.unpack_f16x2(0x3cc0, false), 0x3c00_c000);
        assert_eq!(Fp8::E5m2.unpack_f16x2(0x7c7f, false), 0x7c00_7fff);
    }
}
