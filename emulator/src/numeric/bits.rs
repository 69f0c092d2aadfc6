//! Bits of integers: counts, searches and fields (PTX ISA, integer arithmetic instructions).

use super::int::Int;

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

/// bfe: `len` bits from `pos`; signed types extend the field's top bit, or the register's if the field runs past it
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
