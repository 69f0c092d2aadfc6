//! f64 arithmetic in the directed rounding modes, by integers: exact mantissas in u128 with a sticky bit, rounded
//! once. Slow next to the host's instructions, and rare in real kernels.

use super::Round;

/// A finite non-zero value ±mant·2^exp; `mant` has no particular width.
#[derive(Clone, Copy)]
struct Unpacked {
    negative: bool,
    mant: u128,
    exp: i32,
}

fn unpack(x: f64) -> Unpacked {
    let bits = x.to_bits();
    let field = (bits >> 52 & 0x7ff) as i32;
    let frac = u128::from(bits & ((1 << 52) - 1));
    let (mant, exp) = if field == 0 { (frac, -1074) } else { (frac | 1 << 52, field - 1075) };
    Unpacked { negative: bits >> 63 == 1, mant, exp }
}

/// Rounds to f64. The lowest bit of `mant` may be sticky (stand for anything non-zero below), if `mant` is at least
/// 56 bits long.
fn round(x: Unpacked, mode: Round) -> f64 {
    let sign = if x.negative { 1u64 << 63 } else { 0 };
    if x.mant == 0 {
        return f64::from_bits(sign);
    }
    let length = 128 - x.mant.leading_zeros() as i32;
    // The exponent of the last place of the result: 53 bits of precision, or the subnormal grid.
    let last = (x.exp + length - 53).max(-1074);
    let shift = last - x.exp;
    let (kept, lost, half) = if shift <= 0 {
        (x.mant << -shift, 0, 0)
    } else if shift >= 128 {
        // All of it is below half of the last place.
        (0, 1, 2)
    } else {
        (x.mant >> shift, x.mant & ((1 << shift) - 1), 1u128 << (shift - 1))
    };
    let up = lost != 0
        && match mode {
            Round::Rz => false,
            Round::Rm => x.negative,
            Round::Rp => !x.negative,
            Round::Rn => lost > half || (lost == half && kept & 1 == 1),
            Round::Rna => lost >= half,
        };
    let kept = kept as u64 + u64::from(up);
    // A carry out of the mantissa runs into the exponent field, which is exactly right.
    let field = (last + 1074) as u64;
    let magnitude = if kept >= 1 << 52 { (field << 52) + kept } else { kept };
    const INFINITE: u64 = 0x7ff << 52;
    let magnitude = if magnitude >= INFINITE {
        let stop = match mode {
            Round::Rz => true,
            Round::Rm => !x.negative,
            Round::Rp => x.negative,
            Round::Rn | Round::Rna => false,
        };
        if stop { INFINITE - 1 } else { INFINITE }
    } else {
        magnitude
    };
    f64::from_bits(sign | magnitude)
}

/// a · b
pub fn mul(a: f64, b: f64, mode: Round) -> f64 {
    let host = a * b;
    if !a.is_finite() || !b.is_finite() || a == 0.0 || b == 0.0 {
        return host;
    }
    let (a, b) = (unpack(a), unpack(b));
    round(
        Unpacked { negative: a.negative != b.negative, mant: a.mant * b.mant, exp: a.exp + b.exp },
        mode,
    )
}

/// a · b + c
pub fn fma(a: f64, b: f64, c: f64, mode: Round) -> f64 {
    if !a.is_finite() || !b.is_finite() || !c.is_finite() {
        return a.mul_add(b, c);
    }
    let negative_zero = |p: bool, c: bool| if p == c { p } else { matches!(mode, Round::Rm) };
    let product_negative = a.is_sign_negative() != b.is_sign_negative();
    if a == 0.0 || b == 0.0 {
        if c != 0.0 {
            return c;
        }
        let negative = negative_zero(product_negative, c.is_sign_negative());
        return if negative { -0.0 } else { 0.0 };
    }
    if c == 0.0 {
        return mul(a, b, mode);
    }
    let (ua, ub, uc) = (unpack(a), unpack(b), unpack(c));
    // Both terms with the top bit at 125: room for a carry, and a distance of 2^-125 for what is shifted out.
    let top = |x: Unpacked| {
        let up = x.mant.leading_zeros() as i32 - 2;
        Unpacked { mant: x.mant << up, exp: x.exp - up, ..x }
    };
    let p =
        top(Unpacked { negative: product_negative, mant: ua.mant * ub.mant, exp: ua.exp + ub.exp });
    let c = top(uc);
    let (big, small) = if (p.exp, p.mant) >= (c.exp, c.mant) { (p, c) } else { (c, p) };
    let distance = (big.exp - small.exp) as u32;
    let aligned = if distance == 0 {
        small.mant
    } else if distance >= 127 {
        1
    } else {
        (small.mant >> distance) | u128::from(small.mant & ((1 << distance) - 1) != 0)
    };
    let mant = if big.negative == small.negative { big.mant + aligned } else { big.mant - aligned };
    if mant == 0 {
        return if matches!(mode, Round::Rm) { -0.0 } else { 0.0 };
    }
    round(Unpacked { negative: big.negative, mant, exp: big.exp }, mode)
}

/// a / b
pub fn div(a: f64, b: f64, mode: Round) -> f64 {
    if !a.is_finite() || !b.is_finite() || a == 0.0 || b == 0.0 {
        return a / b;
    }
    let (ua, ub) = (unpack(a), unpack(b));
    // A dividend of 127 bits over a divisor of at most 53 leaves at least 74 bits of quotient.
    let up = ua.mant.leading_zeros() - 1;
    let dividend = ua.mant << up;
    let quotient = (dividend / ub.mant) << 1 | u128::from(dividend % ub.mant != 0);
    let exp = ua.exp - up as i32 - ub.exp - 1;
    round(Unpacked { negative: ua.negative != ub.negative, mant: quotient, exp }, mode)
}

/// √a
pub fn sqrt(a: f64, mode: Round) -> f64 {
    if !a.is_finite() || a <= 0.0 {
        return a.sqrt();
    }
    let u = unpack(a);
    // An even exponent and 125 or 126 bits give a root of 63 bits.
    let mut up = u.mant.leading_zeros() as i32 - 2;
    if (u.exp - up) % 2 != 0 {
        up -= 1;
    }
    let radicand = u.mant << up;
    let root = radicand.isqrt();
    let mant = root << 1 | u128::from(root * root != radicand);
    round(Unpacked { negative: false, mant, exp: (u.exp - up) / 2 - 1 }, mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Vec<f64> {
        let mut v = vec![
            0.0,
            -0.0,
            1.0,
            -1.0,
            1.5,
            3.0,
            f64::MAX,
            f64::MIN,
            f64::MIN_POSITIVE,
            5e-324,
            f64::INFINITY,
        ];
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for i in 0..400 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            // Half of them near each other in exponent, so that sums interact.
            let bits = if i % 2 == 0 {
                state
            } else {
                state & !(0x7ff << 52) | (1000 + (state >> 52) % 60) << 52
            };
            v.push(f64::from_bits(bits));
        }
        v.retain(|x| !x.is_nan());
        v
    }

    /// The integer path agrees with the host in nearest-even: the rounding step is shared by all modes.
    #[test]
    fn nearest_even_agrees_with_the_host() {
        let v = values();
        let same = |got: f64, want: f64, what: &str, a: f64, b: f64| {
            assert!(
                got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(),
                "{what} {a:e} {b:e}: {got:e}"
            );
        };
        for &a in &v {
            same(sqrt(a, Round::Rn), a.sqrt(), "sqrt", a, a);
            for &b in &v {
                same(mul(a, b, Round::Rn), a * b, "mul", a, b);
                same(div(a, b, Round::Rn), a / b, "div", a, b);
                same(fma(a, 1.0, b, Round::Rn), a + b, "add", a, b);
                let c = -(a * b) * 1.000_000_1;
                same(fma(a, b, c, Round::Rn), a.mul_add(b, c), "fma", a, b);
                same(fma(a, b, -(a * b), Round::Rn), a.mul_add(b, -(a * b)), "fma", a, b);
            }
        }
    }

    /// The directed results bracket the exact one and are at most one step apart.
    #[test]
    fn directed_modes_bracket() {
        let v = values();
        for &a in v.iter().filter(|x| x.is_finite()) {
            for &b in v.iter().filter(|x| x.is_finite()) {
                for op in [mul, div, |a, b, m| fma(a, 1.0, b, m)] {
                    let (near, low, high) =
                        (op(a, b, Round::Rn), op(a, b, Round::Rm), op(a, b, Round::Rp));
                    if near.is_nan() || b == 0.0 {
                        continue;
                    }
                    assert!(low <= near && near <= high);
                    assert!(low == high || low.next_up() == high, "{a:e} {b:e} {low:e} {high:e}");
                    let toward_zero = op(a, b, Round::Rz);
                    assert!(toward_zero == if near.is_sign_negative() { high } else { low });
                }
            }
        }
    }

    #[test]
    fn hand_worked() {
        let tiny = 2f64.powi(-60);
        assert_eq!(fma(1.0, 1.0, tiny, Round::Rp), 1.0 + f64::EPSILON);
        assert_eq!(fma(1.0, 1.0, tiny, Round::Rm), 1.0);
        assert_eq!(fma(1.0, 1.0, -tiny, Round::Rz), 1.0 - f64::EPSILON / 2.0);
        assert_eq!(mul(f64::MAX, 2.0, Round::Rz), f64::MAX);
        assert_eq!(mul(f64::MAX, -2.0, Round::Rp), f64::MIN);
        assert_eq!(mul(5e-324, 0.5, Round::Rp), 5e-324);
        assert_eq!(mul(5e-324, 0.5, Round::Rm), 0.0);
        assert_eq!(div(1.0, 3.0, Round::Rp), (1.0f64 / 3.0).next_up());
        assert_eq!(sqrt(2.0, Round::Rm), 2f64.sqrt().next_down());
        assert!(fma(1.0, 1.0, -1.0, Round::Rm).is_sign_negative());
        assert!(fma(1.0, 1.0, -1.0, Round::Rn).is_sign_positive());
    }
}
