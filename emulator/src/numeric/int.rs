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

/// div. By zero the manual leaves the value open; the machine gives all ones. MIN / −1 wraps to MIN.
#[inline(always)]
pub fn div<T: Int>(a: T, b: T) -> T {
    if b == T::ZERO { T::ones() } else { a.wdiv(b) }
}
/// rem, with the dividend's sign. By zero the machine gives all ones, as for div; MIN rem −1 is 0.
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

/// popc
#[inline(always)]
pub fn popc<T: Int>(a: T) -> u32 {
    a.popcount_()
}
/// clz
#[inline(always)]
pub fn clz<T: Int>(a: T) -> u32 {
    a.leading_zeros_()
}
/// bfind: bit position of the most significant bit that differs from the sign, or 0xffffffff
#[inline(always)]
pub fn bfind<T: Int>(a: T) -> u32 {
    let x = if T::SIGNED && a < T::ZERO { !a.to_u64() } else { a.to_u64() };
    let x = x & width_mask(T::BITS);
    if x == 0 { u32::MAX } else { 63 - x.leading_zeros() }
}
/// bfind.shiftamt: the left shift that brings that bit to the top, or 0xffffffff
#[inline(always)]
pub fn bfind_shiftamt<T: Int>(a: T) -> u32 {
    let d = bfind(a);
    if d == u32::MAX { d } else { T::BITS - 1 - d }
}
#[inline(always)]
fn width_mask(bits: u32) -> u64 {
    if bits == 64 { u64::MAX } else { (1u64 << bits) - 1 }
}

/// fns.b32: position of the n-th set bit, counting from `base` up (n > 0) or down (n < 0)
#[inline]
pub fn fns(mask: u32, base: u32, offset: i32) -> u32 {
    if base > 31 {
        return u32::MAX;
    }
    if offset == 0 {
        return if mask >> base & 1 == 1 { base } else { u32::MAX };
    }
    let (mut pos, step) = (i64::from(base), if offset > 0 { 1 } else { -1 });
    let mut left = offset.unsigned_abs();
    while (0..32).contains(&pos) {
        if mask >> pos & 1 == 1 {
            left -= 1;
            if left == 0 {
                return pos as u32;
            }
        }
        pos += step;
    }
    u32::MAX
}

/// brev
#[inline(always)]
pub fn brev<T: Int>(a: T) -> T {
    a.reverse_()
}

/// bfe: `len` bits from `pos`; signed types extend the field's top bit, or the register's where the
/// field runs past it
#[inline(always)]
pub fn bfe<T: Int>(a: T, pos: u32, len: u32) -> T {
    let (pos, len) = (pos & 0xff, len & 0xff);
    let msb = T::BITS - 1;
    let bits = a.to_u64();
    let field = if pos > 63 { 0 } else { (bits & width_mask(T::BITS)) >> pos };
    if len == 0 {
        return T::ZERO;
    }
    let top = Ord::min(pos + len - 1, msb);
    let sign = T::SIGNED && bits >> top & 1 == 1;
    // How many bits of the field lie inside the register.
    let inside = if pos > msb { 0 } else { top - pos + 1 };
    let keep = width_mask(inside);
    let value = if sign { (field & keep) | !keep } else { field & keep };
    T::from_u64(value)
}

/// bfi: `len` bits of `a` placed at `pos` in `b`
#[inline(always)]
pub fn bfi<T: Int>(a: T, b: T, pos: u32, len: u32) -> T {
    let (pos, len) = (pos & 0xff, len & 0xff);
    if pos >= T::BITS || len == 0 {
        return b;
    }
    let mask = width_mask(Ord::min(len, 64)) << pos;
    T::from_u64((b.to_u64() & !mask) | ((a.to_u64() << pos) & mask))
}

/// szext.clamp / .wrap: keep the low `n` bits, sign- or zero-extended
#[inline(always)]
pub fn szext<T: Int>(a: T, n: u32, wrap: bool) -> T {
    let n = if wrap { n & 31 } else { Ord::min(n, 32) };
    if n == 0 {
        return T::ZERO;
    }
    if n >= 32 {
        return a;
    }
    let low = a.to_u64() & width_mask(n);
    if T::SIGNED && low >> (n - 1) & 1 == 1 {
        T::from_u64(low | !width_mask(n))
    } else {
        T::from_u64(low)
    }
}

/// bmsk.clamp / .wrap: a run of `b` ones from bit `a`
#[inline(always)]
pub fn bmsk(a: u32, b: u32, wrap: bool) -> u32 {
    let (a, b) = if wrap { (a & 31, b & 31) } else { (Ord::min(a, 32), Ord::min(b, 32)) };
    ((width_mask(b)) << a) as u32
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
    fn bit_fields() {
        assert_eq!(bfe(0x1234_5678u32, 8, 8), 0x56);
        assert_eq!(bfe(0x0000_8000i32, 12, 4), -8);
        assert_eq!(bfe(0x8000_0000u32, 31, 8), 1);
        assert_eq!(bfe(i32::MIN, 31, 8), -1);
        assert_eq!(bfe(i32::MIN, 40, 4), -1);
        assert_eq!(bfe(5u32, 40, 4), 0);
        assert_eq!(bfe(0x1ffu32, 0, 0), 0);
        assert_eq!(bfe(-5i64, 0, 64), -5);
        assert_eq!(bfe(0x7fi32, 0, 255), 0x7f);
        assert_eq!(bfi(0xfu32, 0, 28, 8), 0xf000_0000);
        assert_eq!(bfi(0xau32, 0xffff_ffff, 4, 4), 0xffff_ffaf);
        assert_eq!(bfi(0xau32, 7, 32, 4), 7);
        assert_eq!(bfi(u64::MAX, 0, 0, 64), u64::MAX);
        assert_eq!(bmsk(4, 4, false), 0xf0);
        assert_eq!(bmsk(40, 4, false), 0);
        assert_eq!(bmsk(33, 4, true), 0b11110);
        assert_eq!(bmsk(0, 32, false), u32::MAX);
        assert_eq!(bmsk(0, 32, true), 0);
        assert_eq!(szext(0xffi32, 8, false), -1);
        assert_eq!(szext(0xffu32, 4, false), 15);
        assert_eq!(szext(0xffi32, 40, true), -1);
    }

    #[test]
    fn bit_searches() {
        assert_eq!(bfind(0x0000_8000u32), 15);
        assert_eq!(bfind(-1i32), u32::MAX);
        assert_eq!(bfind(-9i32), 3);
        assert_eq!(bfind_shiftamt(1u64), 63);
        assert_eq!(bfind(-1i64), u32::MAX);
        assert_eq!(fns(0b1011_0000, 0, 2), 5);
        assert_eq!(fns(0b1011_0000, 7, -2), 5);
        assert_eq!(fns(0b1011_0000, 4, 0), 4);
        assert_eq!(fns(0b1011_0000, 3, 0), u32::MAX);
        assert_eq!(fns(0b1, 1, 1), u32::MAX);
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
