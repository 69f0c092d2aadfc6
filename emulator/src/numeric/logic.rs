//! Logic, shifts and byte permutation, prmt.

/// cnot: 1 if the source is 0
#[inline(always)]
pub fn cnot_u32(a: u32) -> u32 {
    u32::from(a == 0)
}
/// cnot.b64
#[inline(always)]
pub fn cnot_u64(a: u64) -> u64 {
    u64::from(a == 0)
}

/// lop3.b32: bit i of the table is the result if (a, b, c) spells i
#[inline(always)]
pub fn lop3(a: u32, b: u32, c: u32, lut: u8) -> u32 {
    let mut d = 0;
    for i in 0..8u32 {
        // A mask of all ones or zeros, so that a constant table folds to a few operations.
        let on = 0u32.wrapping_sub(u32::from(lut >> i & 1));
        let ta = if i & 4 != 0 { a } else { !a };
        let tb = if i & 2 != 0 { b } else { !b };
        let tc = if i & 1 != 0 { c } else { !c };
        d |= on & ta & tb & tc;
    }
    d
}

/// shf.l: the high word of (b:a) << c
#[inline(always)]
pub fn shf_l(a: u32, b: u32, c: u32, wrap: bool) -> u32 {
    let n = if wrap { c & 31 } else { c.min(32) };
    ((((u64::from(b) << 32) | u64::from(a)) << n) >> 32) as u32
}
/// shf.r: the low word of (b:a) >> c
#[inline(always)]
pub fn shf_r(a: u32, b: u32, c: u32, wrap: bool) -> u32 {
    let n = if wrap { c & 31 } else { c.min(32) };
    (((u64::from(b) << 32) | u64::from(a)) >> n) as u32
}

/// shl: amounts of the width or more give 0
#[inline(always)]
pub fn shl_u16(a: u16, n: u32) -> u16 {
    if n > 15 { 0 } else { a << n }
}
/// shl.b32
#[inline(always)]
pub fn shl_u32(a: u32, n: u32) -> u32 {
    if n > 31 { 0 } else { a << (n & 31) }
}
/// shl.b64
#[inline(always)]
pub fn shl_u64(a: u64, n: u32) -> u64 {
    if n > 63 { 0 } else { a << (n & 63) }
}
/// shr.u16/.b16
#[inline(always)]
pub fn shr_u16(a: u16, n: u32) -> u16 {
    if n > 15 { 0 } else { a >> n }
}
/// shr.u32/.b32
#[inline(always)]
pub fn shr_u32(a: u32, n: u32) -> u32 {
    if n > 31 { 0 } else { a >> (n & 31) }
}
/// shr.u64/.b64
#[inline(always)]
pub fn shr_u64(a: u64, n: u32) -> u64 {
    if n > 63 { 0 } else { a >> (n & 63) }
}
/// shr.s16: amounts of the width or more fill with the sign
#[inline(always)]
pub fn shr_s16(a: i16, n: u32) -> i16 {
    a >> n.min(15)
}
/// shr.s32
#[inline(always)]
pub fn shr_s32(a: i32, n: u32) -> i32 {
    a >> n.min(31)
}
/// shr.s64
#[inline(always)]
pub fn shr_s64(a: i64, n: u32) -> i64 {
    a >> n.min(63)
}

/// How prmt reads its selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PrmtMode {
    /// No modifier: four nibbles, bit 3 of each replicates the byte's sign.
    Index,
    /// Forward 4 extract.
    F4e,
    /// Backward 4 extract.
    B4e,
    /// Replicate 8.
    Rc8,
    /// Edge clamp left.
    Ecl,
    /// Edge clamp right.
    Ecr,
    /// Replicate 16.
    Rc16,
}

/// prmt.b32: picks four of the eight bytes of (b:a)
#[inline(always)]
pub fn prmt(a: u32, b: u32, c: u32, mode: PrmtMode) -> u32 {
    let bytes = (u64::from(b) << 32) | u64::from(a);
    let pick = |i: u32| (bytes >> (8 * (i & 7))) as u8;
    let n = c & 3;
    let mut d = 0u32;
    for i in 0..4u32 {
        let byte = match mode {
            PrmtMode::Index => {
                let sel = c >> (4 * i);
                let byte = pick(sel);
                if sel & 8 != 0 { ((byte as i8) >> 7) as u8 } else { byte }
            }
            PrmtMode::F4e => pick(n + i),
            PrmtMode::B4e => pick(n.wrapping_sub(i)),
            PrmtMode::Rc8 => pick(n),
            PrmtMode::Ecl => pick(n.max(i)),
            PrmtMode::Ecr => pick(n.min(i)),
            PrmtMode::Rc16 => pick(2 * (n & 1) + (i & 1)),
        };
        d |= u32::from(byte) << (8 * i);
    }
    d
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_input_logic() {
        let (a, b, c) = (0xf0f0_1234, 0xcc55_5678, 0xaa99_9abc);
        assert_eq!(lop3(a, b, c, 0x80), a & b & c);
        assert_eq!(lop3(a, b, c, 0xfe), a | b | c);
        assert_eq!(lop3(a, b, c, 0x96), a ^ b ^ c);
        assert_eq!(lop3(a, b, c, 0xca), (a & b) | (!a & c));
        assert_eq!(lop3(a, b, c, 0x00), 0);
        assert_eq!(lop3(a, b, c, 0xff), u32::MAX);
    }

    #[test]
    fn shifts_past_the_width() {
        assert_eq!(shl_u32(1, 32), 0);
        assert_eq!(shr_u32(u32::MAX, 200), 0);
        assert_eq!(shr_s32(-2, 99), -1);
        assert_eq!(shr_s16(i16::MIN, 16), -1);
        assert_eq!(shl_u64(1, 63), 1 << 63);
        assert_eq!(shl_u64(1, 64), 0);
        assert_eq!(shf_l(0x1111_1111, 0x8000_0001, 4, true), 0x0000_0011);
        assert_eq!(shf_l(0x1234_5678, 0xdead_beef, 32, false), 0x1234_5678);
        assert_eq!(shf_l(0x1234_5678, 0xdead_beef, 32, true), 0xdead_beef);
        assert_eq!(shf_r(0x1234_5678, 0xdead_beef, 8, true), 0xef12_3456);
        assert_eq!(shf_r(0x1234_5678, 0xdead_beef, 77, false), 0xdead_beef);
    }

    #[test]
    fn permutation_modes() {
        let (a, b) = (0x8322_1100, 0x7766_5584);
        assert_eq!(prmt(a, b, 0x7410, PrmtMode::Index), 0x7784_1100);
        assert_eq!(prmt(a, b, 0xcb98, PrmtMode::Index), 0xffff_0000);
        assert_eq!(prmt(a, b, 1, PrmtMode::F4e), 0x8483_2211);
        assert_eq!(prmt(a, b, 1, PrmtMode::B4e), 0x6677_0011);
        assert_eq!(prmt(a, b, 2, PrmtMode::Rc8), 0x2222_2222);
        assert_eq!(prmt(a, b, 1, PrmtMode::Ecl), 0x8322_1111);
        assert_eq!(prmt(a, b, 1, PrmtMode::Ecr), 0x1111_1100);
        assert_eq!(prmt(a, b, 1, PrmtMode::Rc16), 0x8322_8322);
    }
}
