//! Rounding of f32, f16 and bf16 arithmetic against exact integers: operands are integers times a power of two, sums
//! and products are formed in i128, and the result is rounded once, by counting in units of the last place.

use super::half::{Bf16, F16, Half, HalfMode};
use super::{Round, f32ops, half};

/// An exact value n·2^e.
#[derive(Clone, Copy, Debug)]
struct Scaled {
    n: i128,
    e: i32,
}

/// A format: bits of precision, exponent of the smallest subnormal, largest finite value.
#[derive(Clone, Copy)]
struct Format {
    precision: i32,
    least: i32,
    largest: f64,
}
const F32: Format = Format { precision: 24, least: -149, largest: f32::MAX as f64 };
const BINARY16: Format = Format { precision: 11, least: -24, largest: 65504.0 };
const BFLOAT16: Format = Format { precision: 8, least: -133, largest: 3.3895313892515355e38 };

impl Scaled {
    fn from_f32(x: f32) -> Scaled {
        let bits = x.to_bits();
        let field = (bits >> 23 & 255) as i32;
        let frac = i128::from(bits & 0x7f_ffff);
        let (n, e) = if field == 0 { (frac, -149) } else { (frac | 1 << 23, field - 150) };
        // Odd numbers only, so that alignments stay short.
        let zeros = if n == 0 { 0 } else { n.trailing_zeros() as i32 };
        Scaled { n: if bits >> 31 == 1 { -(n >> zeros) } else { n >> zeros }, e: e + zeros }
    }
    fn times(self, o: Scaled) -> Scaled {
        Scaled { n: self.n * o.n, e: self.e + o.e }
    }
    /// None if the terms are too far apart for i128.
    fn plus(self, o: Scaled) -> Option<Scaled> {
        if self.n == 0 || o.n == 0 {
            return Some(if self.n == 0 { o } else { self });
        }
        let e = self.e.min(o.e);
        let up = |x: Scaled| {
            let shift = (x.e - e) as u32;
            (shift + 128 - x.n.unsigned_abs().leading_zeros() < 126).then(|| x.n << shift)
        };
        Some(Scaled { n: up(self)? + up(o)?, e })
    }
    /// Rounded to a format, as f64.
    fn round(self, f: Format, mode: Round) -> f64 {
        let magnitude = self.n.unsigned_abs();
        let negative = self.n < 0;
        if magnitude == 0 {
            return 0.0;
        }
        let length = 128 - magnitude.leading_zeros() as i32;
        let unit = (self.e + length - f.precision).max(f.least);
        let drop = unit - self.e;
        let units = if drop <= 0 {
            magnitude << -drop
        } else {
            let (whole, rest, half) = if drop > 127 {
                (0, 1u128, 2)
            } else {
                (magnitude >> drop, magnitude & ((1 << drop) - 1), 1u128 << (drop - 1))
            };
            let up = match mode {
                Round::Rn => rest > half || rest == half && whole % 2 == 1,
                Round::Rz => false,
                Round::Rm => negative && rest > 0,
                Round::Rp => !negative && rest > 0,
                Round::Rna => rest >= half && rest > 0,
            };
            whole + u128::from(up)
        };
        let value = units as f64 * 2f64.powi(unit);
        let value = if value > f.largest {
            let stop = match mode {
                Round::Rz => true,
                Round::Rm => !negative,
                Round::Rp => negative,
                _ => false,
            };
            if stop { f.largest } else { f64::INFINITY }
        } else {
            value
        };
        if negative { -value } else { value }
    }
}

struct Random(u64);
impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 32) as u32
    }
    /// Finite, with few or many mantissa bits, exponents within `spread` of `centre`.
    fn float(&mut self, centre: i32, spread: u32) -> f32 {
        let exponent = (centre + (self.next() % spread) as i32).clamp(0, 254) as u32;
        let mantissa =
            self.next() & [0x7f_ffff, 0x7f_f000, 0x40_0001, 0x00_0001][(self.next() % 4) as usize];
        f32::from_bits(self.next() & 0x8000_0000 | exponent << 23 | mantissa)
    }
}

const MODES: [Round; 4] = [Round::Rn, Round::Rz, Round::Rm, Round::Rp];

#[test]
fn f32_sums_products_and_fused() {
    let mut random = Random(1);
    let mut checked = 0;
    for (centre, spread) in [(110, 30), (0, 20), (240, 15), (50, 50), (0, 255)] {
        for _ in 0..20_000 {
            let (a, b, c) = (
                random.float(centre, spread),
                random.float(centre, spread),
                random.float(centre, spread),
            );
            // A sum near the product, so that it cancels.
            let c = if random.next().is_multiple_of(3) { -(a * b) } else { c };
            if !c.is_finite() {
                continue;
            }
            let (ea, eb, ec) = (Scaled::from_f32(a), Scaled::from_f32(b), Scaled::from_f32(c));
            for mode in MODES {
                let product = ea.times(eb);
                let got = f32ops::mul(a, b, mode, false, false);
                assert_eq!(f64::from(got), product.round(F32, mode), "{a:e}·{b:e} {mode:?}");
                if let Some(sum) = ea.plus(eb) {
                    let got = f32ops::add(a, b, mode, false, false);
                    assert_eq!(f64::from(got), sum.round(F32, mode), "{a:e}+{b:e} {mode:?}");
                }
                if let Some(sum) = product.plus(ec) {
                    let want = sum.round(F32, mode);
                    let got = f32ops::fma(a, b, c, mode, false, false);
                    assert_eq!(f64::from(got), want, "{a:e}·{b:e}+{c:e} {mode:?}");
                    if mode == Round::Rn {
                        assert_eq!(f64::from(f32ops::fma_rn_host(a, b, c, false, false)), want);
                    }
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 100_000);
}

/// Quotients and roots: the rounded result and its neighbours bracket the exact value, tested by multiplying back.
#[test]
fn f32_quotients_and_roots() {
    let mut random = Random(2);
    // Is x·y < z, exactly? All are finite and positive.
    let less = |x: f32, y: f32, z: f32| {
        let (p, z) = (Scaled::from_f32(x).times(Scaled::from_f32(y)), Scaled::from_f32(z));
        let e = p.e.min(z.e);
        (p.n << (p.e - e)) < (z.n << (z.e - e))
    };
    for _ in 0..50_000 {
        let (a, b) = (random.float(110, 30).abs(), random.float(110, 30).abs());
        let (down, up) = (f32ops::div(a, b, Round::Rm, false), f32ops::div(a, b, Round::Rp, false));
        let exact = down == up;
        assert!(exact || down.next_up() == up);
        // down·b ≤ a ≤ up·b
        assert!(less(down, b, a) != exact && !less(up, b, a), "{a:e}/{b:e}");
        assert_eq!(f32ops::div(a, b, Round::Rz, false), down);
        assert_eq!(f32ops::div(-a, b, Round::Rm, false), -up);
        let (down, up) = (f32ops::sqrt(a, Round::Rm, false), f32ops::sqrt(a, Round::Rp, false));
        let exact = down == up;
        assert!(exact || down.next_up() == up);
        assert!(less(down, down, a) != exact && !less(up, up, a), "√{a:e}");
    }
}

fn finite<H: Half>(bits: u32) -> Option<u16> {
    let h = bits as u16;
    H::to_f32(h).is_finite().then_some(h)
}

fn half_arithmetic<H: Half>(format: Format, seed: u64, exponents: Option<(u16, u16)>) {
    let mut random = Random(seed);
    let m = HalfMode::default();
    let mut checked = 0;
    for i in 0..400_000u32 {
        let mut value = || {
            let mut h = random.next() as u16;
            if let Some((low, count)) = exponents {
                h = h & 0x807f | (low + (h >> 7 & 255) % count) << 7;
            }
            finite::<H>(h.into())
        };
        let (Some(a), Some(b), Some(mut c)) = (value(), value(), value()) else {
            continue;
        };
        if i % 3 == 0 {
            // Cancel against the product, or land half a unit from it.
            c = half::mul::<H>(a, b, m) ^ 0x8000;
        }
        if !H::to_f32(c).is_finite() {
            continue;
        }
        let exact = |h| Scaled::from_f32(H::to_f32(h));
        let same = |got: u16, want: f64, what: &str| {
            assert_eq!(f64::from(H::to_f32(got)), want, "{what} {a:#06x} {b:#06x} {c:#06x}");
        };
        let product = exact(a).times(exact(b));
        same(half::mul::<H>(a, b, m), product.round(format, Round::Rn), "mul");
        if let Some(sum) = exact(a).plus(exact(b)) {
            same(half::add::<H>(a, b, m), sum.round(format, Round::Rn), "add");
        }
        if let Some(sum) = product.plus(exact(c)) {
            same(half::fma::<H>(a, b, c, m), sum.round(format, Round::Rn), "fma");
            checked += 1;
        }
    }
    assert!(checked > 100_000);
}

#[test]
fn f16_arithmetic_rounds_once() {
    half_arithmetic::<F16>(BINARY16, 3, None);
}
#[test]
fn bf16_arithmetic_rounds_once() {
    half_arithmetic::<Bf16>(BFLOAT16, 4, None);
    // Products and sums around the subnormals.
    half_arithmetic::<Bf16>(BFLOAT16, 5, Some((0, 10)));
    half_arithmetic::<Bf16>(BFLOAT16, 6, Some((50, 20)));
}

/// A fused product whose exact sum lies just off a midpoint: rounding first to f32 or f64 would lose the side.
#[test]
fn fused_products_next_to_a_midpoint() {
    let m = HalfMode::default();
    // 2048 + 1·1 = 2049 is the midpoint of 2048 and 2050: to even.
    assert_eq!(half::fma::<F16>(0x3c00, 0x3c00, 0x6800, m), 0x6800);
    // 2050 − 1.0009766 is just below that midpoint, 2050 − 0.9995117 just above.
    assert_eq!(half::fma::<F16>(0x3c01, 0xbc00, 0x6801, m), 0x6800);
    assert_eq!(half::fma::<F16>(0x3bff, 0xbc00, 0x6801, m), 0x6801);
    // 1 + 2^-24 is far below half a unit.
    assert_eq!(half::fma::<F16>(0x0001, 0x3c00, 0x3c00, m), 0x3c00);
    // bf16: 256 + 1.5·1.5 = 258.25 is past the midpoint 257 and below 259.
    assert_eq!(half::fma::<Bf16>(0x3fc0, 0x3fc0, 0x4380, m), 0x4381);
}

#[test]
fn all_f16_values_convert_both_ways() {
    for h in 0..=u16::MAX {
        let x = half::f16_to_f32(h);
        if F16::is_nan(h) {
            assert!(x.is_nan());
            continue;
        }
        assert_eq!(half::f32_to_f16_rn(x), h);
        let want = match h >> 10 & 31 {
            31 => f32::INFINITY,
            0 => f32::from(h & 0x3ff) * 2f32.powi(-24),
            e => f32::from(h & 0x3ff | 0x400) * 2f32.powi(i32::from(e) - 25),
        };
        assert_eq!(x.abs(), want);
        assert_eq!(x.is_sign_negative(), h & 0x8000 != 0);
    }
}

#[test]
fn f32_to_halves_in_every_mode() {
    let mut random = Random(8);
    for _ in 0..200_000 {
        let x = random.float(95, 50);
        let wide = random.float(0, 255);
        for mode in MODES {
            let got = half::f16_to_f32(half::f32_to_f16(x, mode));
            assert_eq!(f64::from(got), Scaled::from_f32(x).round(BINARY16, mode), "{x:e} {mode:?}");
            let got = half::bf16_to_f32(half::f32_to_bf16(wide, mode));
            assert_eq!(
                f64::from(got),
                Scaled::from_f32(wide).round(BFLOAT16, mode),
                "{wide:e} {mode:?}"
            );
            // From f64, just next to an f32 value.
            let beside = f64::from(x) * (1.0 + f64::EPSILON);
            let n = Scaled::from_f32(x).n;
            let e = Scaled::from_f32(x).e;
            let beside_exact = Scaled { n: (n << 60) + n.signum(), e: e - 60 };
            let got = half::f16_to_f32(half::f64_to_f16(beside, mode));
            assert_eq!(f64::from(got), beside_exact.round(BINARY16, mode), "{beside:e} {mode:?}");
            let got = f32ops::narrow(beside, mode);
            assert_eq!(f64::from(got), beside_exact.round(F32, mode), "{beside:e} {mode:?}");
        }
        let away = f32ops::narrow(f64::from(x), Round::Rna);
        assert_eq!(away, x);
    }
}

#[test]
fn flushes_and_saturation() {
    use f32ops::{add, fma, mul, sub};
    let (sub1, nan) = (f32::from_bits(1), f32::NAN);
    let rn = Round::Rn;
    assert_eq!(add(sub1, sub1, rn, true, false).to_bits(), 0);
    assert_eq!(add(-sub1, -sub1, rn, true, false).to_bits(), 0x8000_0000);
    assert_eq!(mul(f32::MIN_POSITIVE, 0.5, rn, true, false), 0.0);
    assert_eq!(mul(f32::MIN_POSITIVE, 0.5, rn, false, false).to_bits(), 0x0040_0000);
    assert_eq!(add(nan, 1.0, rn, false, true), 0.0);
    assert_eq!(add(nan, 1.0, rn, false, false).to_bits(), 0x7fff_ffff);
    assert_eq!(sub(1.0, 3.0, rn, false, true).to_bits(), 0);
    assert_eq!(fma(2.0, 3.0, 1.0, rn, false, true), 1.0);
    assert_eq!(add(1.0, -1.0, Round::Rm, false, false).to_bits(), 0x8000_0000);
    assert_eq!(add(0.0, 0.0, Round::Rm, false, false).to_bits(), 0);
    assert_eq!(fma(1.0, 1.0, -1.0, Round::Rm, false, false).to_bits(), 0x8000_0000);
    let m = HalfMode { ftz: true, ..Default::default() };
    assert_eq!(half::add::<F16>(0x0001, 0x0001, m), 0);
    assert_eq!(
        half::fma::<F16>(0xbc00, 0x3c00, 0, HalfMode { relu: true, ..Default::default() }),
        0
    );
    let sat = HalfMode { sat: true, ..Default::default() };
    assert_eq!(half::add::<F16>(0x4000, 0x4000, sat), 0x3c00);
    assert_eq!(half::add::<F16>(0x7e00, 0x4000, sat), 0);
    assert_eq!(half::mul::<F16>(0xc000, 0x4000, sat), 0);
}
