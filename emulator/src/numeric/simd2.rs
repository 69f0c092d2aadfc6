//! Packed pairs: `.f16x2 .bf16x2 .s16x2 .u16x2`. The first element is in the low half.

/// One-operand instruction on both halves.
#[inline(always)]
pub fn map1(a: u32, f: impl Fn(u16) -> u16) -> u32 {
    pack(f(low(a)), f(high(a)))
}
/// Two operands.
#[inline(always)]
pub fn map2(a: u32, b: u32, f: impl Fn(u16, u16) -> u16) -> u32 {
    pack(f(low(a), low(b)), f(high(a), high(b)))
}
/// Three operands.
#[inline(always)]
pub fn map3(a: u32, b: u32, c: u32, f: impl Fn(u16, u16, u16) -> u16) -> u32 {
    pack(f(low(a), low(b), low(c)), f(high(a), high(b), high(c)))
}
#[inline(always)]
pub fn low(a: u32) -> u16 {
    a as u16
}
#[inline(always)]
pub fn high(a: u32) -> u16 {
    (a >> 16) as u16
}
#[inline(always)]
pub fn pack(low: u16, high: u16) -> u32 {
    u32::from(low) | u32::from(high) << 16
}

/// add.u16x2 and add.s16x2
#[inline(always)]
pub fn add_16x2(a: u32, b: u32) -> u32 {
    map2(a, b, u16::wrapping_add)
}
/// min.u16x2
#[inline(always)]
pub fn min_u16x2(a: u32, b: u32) -> u32 {
    map2(a, b, Ord::min)
}
/// max.u16x2
#[inline(always)]
pub fn max_u16x2(a: u32, b: u32) -> u32 {
    map2(a, b, Ord::max)
}
/// min{.relu}.s16x2
#[inline(always)]
pub fn min_s16x2(a: u32, b: u32, relu: bool) -> u32 {
    map2(a, b, |a, b| relu_if((a as i16).min(b as i16), relu))
}
/// max{.relu}.s16x2
#[inline(always)]
pub fn max_s16x2(a: u32, b: u32, relu: bool) -> u32 {
    map2(a, b, |a, b| relu_if((a as i16).max(b as i16), relu))
}
#[inline(always)]
fn relu_if(x: i16, relu: bool) -> u16 {
    (if relu { x.max(0) } else { x }) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_do_not_touch() {
        assert_eq!(add_16x2(0xffff_ffff, 0x0001_0001), 0);
        assert_eq!(add_16x2(0x0001_ffff, 0x0001_0001), 0x0002_0000);
        assert_eq!(min_s16x2(0x8000_0001, 0x0001_ffff, false), 0x8000_ffff);
        assert_eq!(min_s16x2(0x8000_0005, 0x0001_0003, true), 0x0000_0003);
        assert_eq!(max_u16x2(0x8000_0001, 0x0001_ffff), 0x8000_ffff);
        assert_eq!(max_s16x2(0x8000_8001, 0x0001_ffff, true), 0x0001_0000);
    }
}
