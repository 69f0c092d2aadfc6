//! Integer arithmetic, and the carries of extended-precision integer arithmetic.

/// An integer register type: `.u16 .s16 .u32 .s32 .u64 .s64`.
pub trait Int: Copy + PartialEq + Ord {
    type Wide: Copy;
    type Unsigned: Int;
    const BITS: u32;
    const SIGNED: bool;
    const ZERO: Self;
    const MAX: Self;
    const MIN: Self;
    fn wadd(self, o: Self) -> Self;
    fn wsub(self, o: Self) -> Self;
    fn sadd(self, o: Self) -> Self;
    fn ssub(self, o: Self) -> Self;
    fn mul_lo(self, o: Self) -> Self;
    fn mul_hi(self, o: Self) -> Self;
    fn mul_wide(self, o: Self) -> Self::Wide;
    fn wdiv(self, o: Self) -> Self;
    fn wrem(self, o: Self) -> Self;
    fn wneg(self) -> Self;
    fn wabs(self) -> Self;
    /// All ones.
    fn ones() -> Self;
    fn to_u64(self) -> u64;
    fn from_u64(bits: u64) -> Self;
    fn leading_zeros_(self) -> u32;
    fn popcount_(self) -> u32;
    fn reverse_(self) -> Self;
}

macro_rules! int_impl {
    ($t:ty, $u:ty, $wide:ty, $double:ty, $signed:expr, $abs:expr) => {
        impl Int for $t {
            type Wide = $wide;
            type Unsigned = $u;
            const BITS: u32 = <$t>::BITS;
            const SIGNED: bool = $signed;
            const ZERO: Self = 0;
            const MAX: Self = <$t>::MAX;
            const MIN: Self = <$t>::MIN;
            #[inline(always)]
            fn wadd(self, o: Self) -> Self {
                self.wrapping_add(o)
            }
            #[inline(always)]
            fn wsub(self, o: Self) -> Self {
                self.wrapping_sub(o)
            }
            #[inline(always)]
            fn sadd(self, o: Self) -> Self {
                self.saturating_add(o)
            }
            #[inline(always)]
            fn ssub(self, o: Self) -> Self {
                self.saturating_sub(o)
            }
            #[inline(always)]
            fn mul_lo(self, o: Self) -> Self {
                self.wrapping_mul(o)
            }
            #[inline(always)]
            fn mul_hi(self, o: Self) -> Self {
                ((self as $double).wrapping_mul(o as $double) >> <$t>::BITS) as $t
            }
            #[inline(always)]
            fn mul_wide(self, o: Self) -> $wide {
                (self as $wide).wrapping_mul(o as $wide)
            }
            #[inline(always)]
            fn wdiv(self, o: Self) -> Self {
                self.wrapping_div(o)
            }
            #[inline(always)]
            fn wrem(self, o: Self) -> Self {
                self.wrapping_rem(o)
            }
            #[inline(always)]
            fn wneg(self) -> Self {
                self.wrapping_neg()
            }
            #[inline(always)]
            fn wabs(self) -> Self {
                let abs: fn($t) -> $t = $abs;
                abs(self)
            }
            #[inline(always)]
            fn ones() -> Self {
                !0
            }
            #[inline(always)]
            fn to_u64(self) -> u64 {
                self as $u as u64
            }
            #[inline(always)]
            fn from_u64(bits: u64) -> Self {
                bits as $t
            }
            #[inline(always)]
            fn leading_zeros_(self) -> u32 {
                self.leading_zeros()
            }
            #[inline(always)]
            fn popcount_(self) -> u32 {
                self.count_ones()
            }
            #[inline(always)]
            fn reverse_(self) -> Self {
                self.reverse_bits()
            }
        }
    };
}

int_impl!(u8, u8, u16, u16, false, |x| x);
int_impl!(i8, u8, i16, i16, true, |x| x.wrapping_abs());
int_impl!(u16, u16, u32, u32, false, |x| x);
int_impl!(i16, u16, i32, i32, true, |x| x.wrapping_abs());
int_impl!(u32, u32, u64, u64, false, |x| x);
int_impl!(i32, u32, i64, i64, true, |x| x.wrapping_abs());
int_impl!(u64, u64, u128, u128, false, |x| x);
int_impl!(i64, u64, i128, i128, true, |x| x.wrapping_abs());

/// add
#[inline(always)]
pub fn add<T: Int>(a: T, b: T) -> T {
    a.wadd(b)
}
/// add.sat (s32 only in PTX)
#[inline(always)]
pub fn add_sat<T: Int>(a: T, b: T) -> T {
    a.sadd(b)
}
/// sub
#[inline(always)]
pub fn sub<T: Int>(a: T, b: T) -> T {
    a.wsub(b)
}
/// sub.sat (s32 only in PTX)
#[inline(always)]
pub fn sub_sat<T: Int>(a: T, b: T) -> T {
    a.ssub(b)
}
/// mul.lo
#[inline(always)]
pub fn mul_lo<T: Int>(a: T, b: T) -> T {
    a.mul_lo(b)
}
/// mul.hi
#[inline(always)]
pub fn mul_hi<T: Int>(a: T, b: T) -> T {
    a.mul_hi(b)
}
/// mul.wide
#[inline(always)]
pub fn mul_wide<T: Int>(a: T, b: T) -> T::Wide {
    a.mul_wide(b)
}
/// mad.lo
#[inline(always)]
pub fn mad_lo<T: Int>(a: T, b: T, c: T) -> T {
    a.mul_lo(b).wadd(c)
}
/// mad.hi
#[inline(always)]
pub fn mad_hi<T: Int>(a: T, b: T, c: T) -> T {
    a.mul_hi(b).wadd(c)
}
/// mad.hi.sat.s32
#[inline(always)]
pub fn mad_hi_sat(a: i32, b: i32, c: i32) -> i32 {
    a.mul_hi(b).saturating_add(c)
}
/// mad.wide for 16-bit sources
#[inline(always)]
pub fn mad_wide_u16(a: u16, b: u16, c: u32) -> u32 {
    a.mul_wide(b).wrapping_add(c)
}
/// mad.wide for 16-bit sources
#[inline(always)]
pub fn mad_wide_s16(a: i16, b: i16, c: i32) -> i32 {
    a.mul_wide(b).wrapping_add(c)
}
/// mad.wide for 32-bit sources
#[inline(always)]
pub fn mad_wide_u32(a: u32, b: u32, c: u64) -> u64 {
    a.mul_wide(b).wrapping_add(c)
}
/// mad.wide for 32-bit sources
#[inline(always)]
pub fn mad_wide_s32(a: i32, b: i32, c: i64) -> i64 {
    a.mul_wide(b).wrapping_add(c)
}

/// The low 24 bits as an unsigned number.
#[inline(always)]
fn low24u(x: u32) -> u64 {
    u64::from(x & 0x00ff_ffff)
}
/// The low 24 bits as a signed number.
#[inline(always)]
fn low24s(x: i32) -> i64 {
    i64::from((x << 8) >> 8)
}
/// mul24.lo.u32: the low 32 of the 48 bits
#[inline(always)]
pub fn mul24_lo_u32(a: u32, b: u32) -> u32 {
    (low24u(a) * low24u(b)) as u32
}
/// mul24.hi.u32: the high 32 of the 48 bits
#[inline(always)]
pub fn mul24_hi_u32(a: u32, b: u32) -> u32 {
    ((low24u(a) * low24u(b)) >> 16) as u32
}
/// mul24.lo.s32
#[inline(always)]
pub fn mul24_lo_s32(a: i32, b: i32) -> i32 {
    (low24s(a) * low24s(b)) as i32
}
/// mul24.hi.s32
#[inline(always)]
pub fn mul24_hi_s32(a: i32, b: i32) -> i32 {
    ((low24s(a) * low24s(b)) >> 16) as i32
}
/// mad24.lo.u32
#[inline(always)]
pub fn mad24_lo_u32(a: u32, b: u32, c: u32) -> u32 {
    mul24_lo_u32(a, b).wrapping_add(c)
}
/// mad24.hi.u32
#[inline(always)]
pub fn mad24_hi_u32(a: u32, b: u32, c: u32) -> u32 {
    mul24_hi_u32(a, b).wrapping_add(c)
}
/// mad24.lo.s32
#[inline(always)]
pub fn mad24_lo_s32(a: i32, b: i32, c: i32) -> i32 {
    mul24_lo_s32(a, b).wrapping_add(c)
}
/// mad24.hi.s32
#[inline(always)]
pub fn mad24_hi_s32(a: i32, b: i32, c: i32) -> i32 {
    mul24_hi_s32(a, b).wrapping_add(c)
}
/// mad24.hi.sat.s32
#[inline(always)]
pub fn mad24_hi_sat_s32(a: i32, b: i32, c: i32) -> i32 {
    mul24_hi_s32(a, b).saturating_add(c)
}

/// sad: c + |a − b|
#[inline(always)]
pub fn sad<T: Int>(a: T, b: T, c: T) -> T {
    c.wadd(if a < b { b.wsub(a) } else { a.wsub(b) })
}

/// div. By zero the manual leaves the value undefined; the hardware gives all ones. MIN / −1 wraps to MIN.
#[inline(always)]
pub fn div<T: Int>(a: T, b: T) -> T {
    if b == T::ZERO { T::ones() } else { a.wdiv(b) }
}
/// rem, with the dividend's sign. By zero the hardware gives all ones, as for div; MIN rem −1 is 0.
#[inline(always)]
pub fn rem<T: Int>(a: T, b: T) -> T {
    if b == T::ZERO { T::ones() } else { a.wrem(b) }
}

/// abs (MIN stays MIN)
#[inline(always)]
pub fn abs<T: Int>(a: T) -> T {
    a.wabs()
}
/// neg
#[inline(always)]
pub fn neg<T: Int>(a: T) -> T {
    a.wneg()
}
/// min
#[inline(always)]
pub fn min<T: Int>(a: T, b: T) -> T {
    Ord::min(a, b)
}
/// max
#[inline(always)]
pub fn max<T: Int>(a: T, b: T) -> T {
    Ord::max(a, b)
}
/// `.relu` of negative becomes 0
#[inline(always)]
pub fn relu<T: Int>(a: T) -> T {
    Ord::max(a, T::ZERO)
}

/// The `i`-th byte of `x`, sign- or zero-extended.
#[inline(always)]
fn byte(x: u32, i: u32, signed: bool) -> i32 {
    let b = (x >> (8 * i)) as u8;
    if signed { i32::from(b as i8) } else { i32::from(b) }
}
/// dp4a
#[inline(always)]
pub fn dp4a(a: u32, a_signed: bool, b: u32, b_signed: bool, c: u32) -> u32 {
    let mut d = c;
    for i in 0..4 {
        d = d.wrapping_add((byte(a, i, a_signed) * byte(b, i, b_signed)) as u32);
    }
    d
}
/// dp2a.lo / .hi: two 16-bit values of `a` with the low or high two bytes of `b`
#[inline(always)]
pub fn dp2a(a: u32, a_signed: bool, b: u32, b_signed: bool, hi: bool, c: u32) -> u32 {
    let half = |i: u32| {
        let h = (a >> (16 * i)) as u16;
        if a_signed { i32::from(h as i16) } else { i32::from(h) }
    };
    let at = if hi { 2 } else { 0 };
    let mut d = c;
    for i in 0..2 {
        d = d.wrapping_add(half(i).wrapping_mul(byte(b, at + i, b_signed)) as u32);
    }
    d
}

/// add.cc, addc: the sum and the carry out. Signed and unsigned are the same bits.
#[inline(always)]
pub fn add_carry_u32(a: u32, b: u32, carry_in: bool) -> (u32, bool) {
    let (s, c1) = a.overflowing_add(b);
    let (s, c2) = s.overflowing_add(u32::from(carry_in));
    (s, c1 | c2)
}
/// add.cc, addc in 64 bits
#[inline(always)]
pub fn add_carry_u64(a: u64, b: u64, carry_in: bool) -> (u64, bool) {
    let (s, c1) = a.overflowing_add(b);
    let (s, c2) = s.overflowing_add(u64::from(carry_in));
    (s, c1 | c2)
}
/// sub.cc, subc: the difference and the borrow out
#[inline(always)]
pub fn sub_borrow_u32(a: u32, b: u32, borrow_in: bool) -> (u32, bool) {
    let (s, c1) = a.overflowing_sub(b);
    let (s, c2) = s.overflowing_sub(u32::from(borrow_in));
    (s, c1 | c2)
}
/// sub.cc, subc in 64 bits
#[inline(always)]
pub fn sub_borrow_u64(a: u64, b: u64, borrow_in: bool) -> (u64, bool) {
    let (s, c1) = a.overflowing_sub(b);
    let (s, c2) = s.overflowing_sub(u64::from(borrow_in));
    (s, c1 | c2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn division_edges() {
        assert_eq!(div(7i32, 0), -1);
        assert_eq!(div(7u64, 0), u64::MAX);
        assert_eq!(rem(7u32, 0), u32::MAX);
        assert_eq!(div(i32::MIN, -1), i32::MIN);
        assert_eq!(rem(i32::MIN, -1), 0);
        assert_eq!(rem(-7i32, 3), -1);
        assert_eq!(div(-7i16, 2), -3);
    }

    #[test]
    fn high_halves() {
        assert_eq!(mul_hi(0xffff_ffffu32, 0xffff_ffff), 0xffff_fffe);
        assert_eq!(mul_hi(-1i32, 1), -1);
        assert_eq!(mul_hi(u64::MAX, u64::MAX), u64::MAX - 1);
        assert_eq!(mul_hi(i64::MIN, i64::MIN), 1 << 62);
        assert_eq!(mul_hi(0x8000u16, 0x8000), 0x4000);
        assert_eq!(mul_wide(-2i32, 3), -6i64);
        assert_eq!(mul24_hi_s32(0x0080_0000, 2), -256);
        assert_eq!(mul24_lo_u32(0xff00_0002, 3), 6);
    }

    #[test]
    fn dot_products_and_carries() {
        assert_eq!(dp4a(0x0102_0304, false, 0x0101_0101, false, 5), 15);
        assert_eq!(dp4a(0xffff_ffff, true, 0xff00_0000, false, 0), (-255i32) as u32);
        assert_eq!(dp2a(0xffff_0002, true, 0x0000_0503, false, false, 0), 1);
        assert_eq!(dp2a(0x0001_0002, false, 0x0403_0000, false, true, 1), 11);
        assert_eq!(add_carry_u32(u32::MAX, 0, true), (0, true));
        assert_eq!(sub_borrow_u32(0, 0, true), (u32::MAX, true));
        assert_eq!(sad(3u32, 7, 1), 5);
        assert_eq!(sad(-3i32, 4, 0), 7);
    }
}
