//! Sixteen numbers at once, for hand-written bf16 code: the processor's vectors if it has bf16 dot products
//! ([`Avx512`]), otherwise arrays ([`Plain`]). [`on_lanes!`] lets a body be written once for both; it rounds the same
//! way in both, and is bit-identical if the compiler's target has fused multiply-add.

use super::simd::fma;
use half::{bf16, f16};
use std::f32::consts::LN_2;

/// Numbers per vector.
pub const LANES: usize = 16;

/// The operations of one kind of vector. Slices shorter than a vector are read as if padded with zeros, and written
/// only to their end.
pub trait Lanes: Copy {
    /// Whether there are registers for many of these in products: two dozen.
    const MANY: bool;
    /// Sixteen f32.
    type Floats: Copy;
    /// Sixteen pairs of bf16.
    type Pairs: Copy;

    fn splat(self, x: f32) -> Self::Floats;
    fn load(self, from: &[f32]) -> Self::Floats;
    fn store(self, x: Self::Floats, to: &mut [f32]);
    fn load_halves(self, from: &[bf16]) -> Self::Floats;
    fn load_f16(self, from: &[f16]) -> Self::Floats;
    /// Rounds to nearest, ties to even, subnormal numbers to zero.
    fn store_halves(self, x: Self::Floats, to: &mut [bf16]);

    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn div(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a·b + c`
    fn fma(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// `a` if it is greater, else `b`; a NaN in `b` is kept.
    fn max(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn abs(self, x: Self::Floats) -> Self::Floats;
    /// To the nearest integer, ties to even; for magnitudes below 2²².
    fn round(self, x: Self::Floats) -> Self::Floats;
    /// `x·2ⁿ` for whole `n` within ±250.
    fn times_power(self, x: Self::Floats, n: Self::Floats) -> Self::Floats;
    /// `yes` if `x <= limit`, else `no`, including for a NaN.
    fn where_least(
        self,
        x: Self::Floats,
        limit: Self::Floats,
        yes: Self::Floats,
        no: Self::Floats,
    ) -> Self::Floats;
    /// The first `count` of `a`, and the others from `b`.
    fn first(self, count: usize, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// Of all sixteen, by halving.
    fn sum(self, x: Self::Floats) -> f32;
    /// Of all sixteen, by halving, as [`max`](Self::max).
    fn most(self, x: Self::Floats) -> f32;

    /// From up to 32 elements, pairing neighbours.
    fn load_pairs(self, from: &[bf16]) -> Self::Pairs;
    fn store_pairs(self, x: Self::Pairs, to: &mut [[bf16; 2]]);
    /// Pairs the elements of both, up to sixteen each.
    fn interleave(self, first: &[bf16], second: &[bf16]) -> Self::Pairs;
    /// Rounds both as in [`store_halves`](Self::store_halves) and pairs their elements.
    fn round_together(self, first: Self::Floats, second: Self::Floats) -> Self::Pairs;
    /// Rounds all and pairs neighbours: those of `first`, then those of `second`.
    fn round_in_order(self, first: Self::Floats, second: Self::Floats) -> Self::Pairs;
    /// Transposes: pair `r` of vector `c` becomes pair `c` of vector `r`.
    fn turn(self, rows: [Self::Pairs; LANES]) -> [Self::Pairs; LANES];

    /// One pair repeated sixteen times.
    ///
    /// # Safety
    /// `at` is the first of two elements.
    unsafe fn splat_pair(self, at: *const bf16) -> Self::Pairs;
    /// # Safety
    /// `at` is the first of sixteen pairs.
    unsafe fn pairs_at(self, at: *const [bf16; 2]) -> Self::Pairs;
    /// Prefetches an address, which may be invalid.
    fn prefetch(self, at: *const u8);
    /// `sum + a₁·b₁ + a₀·b₀` for each pair, rounding each of the two additions.
    fn dot(self, sum: Self::Floats, a: Self::Pairs, b: Self::Pairs) -> Self::Floats;

    /// `2ˣ`, relative error below 3e-7; zero below the normal numbers, NaN for a NaN.
    #[inline(always)]
    fn exp2(self, x: Self::Floats) -> Self::Floats {
        let x = self.max(self.splat(-160.0), x);
        let n = self.round(x);
        let r = self.sub(x, n);
        let mut p = self.splat(1.326_474_2e-3);
        for c in [9.671_518e-3, 5.550_733_6e-2, 2.402_224_2e-1, LN_2, 1.0] {
            p = self.fma(p, r, self.splat(c));
        }
        self.times_power(p, n)
    }
}

/// Arrays; with `FMA`, multiply-add rounds once.
#[derive(Clone, Copy)]
pub struct Plain<const FMA: bool>;

impl<const FMA: bool> Plain<FMA> {
    #[inline(always)]
    fn map2(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
        std::array::from_fn(|l| f(a[l], b[l]))
    }

    #[inline(always)]
    fn halve(mut x: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
        let mut width = LANES / 2;
        while width > 0 {
            for l in 0..width {
                x[l] = f(x[l], x[l + width]);
            }
            width /= 2;
        }
        x[0]
    }
}

#[inline(always)]
fn wide(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

impl<const FMA: bool> Lanes for Plain<FMA> {
    const MANY: bool = false;
    type Floats = [f32; LANES];
    type Pairs = [[bf16; 2]; LANES];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Floats {
        [x; LANES]
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> Self::Floats {
        std::array::from_fn(|l| from.get(l).copied().unwrap_or(0.0))
    }

    #[inline(always)]
    fn store(self, x: Self::Floats, to: &mut [f32]) {
        for (to, x) in to.iter_mut().zip(x) {
            *to = x;
        }
    }

    #[inline(always)]
    fn load_halves(self, from: &[bf16]) -> Self::Floats {
        std::array::from_fn(|l| from.get(l).map_or(0.0, |x| wide(x.to_bits())))
    }

    #[inline(always)]
    fn load_f16(self, from: &[f16]) -> Self::Floats {
        std::array::from_fn(|l| from.get(l).map_or(0.0, |x| x.to_f32()))
    }

    #[inline(always)]
    fn store_halves(self, x: Self::Floats, to: &mut [bf16]) {
        for (to, x) in to.iter_mut().zip(x) {
            *to = super::bf16::rounded(x);
        }
    }

    #[inline(always)]
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        Self::map2(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        Self::map2(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        Self::map2(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        Self::map2(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn fma(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        std::array::from_fn(|l| fma::<FMA>(a[l], b[l], c[l]))
    }

    #[inline(always)]
    fn max(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        Self::map2(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn abs(self, x: Self::Floats) -> Self::Floats {
        x.map(f32::abs)
    }

    #[inline(always)]
    fn round(self, x: Self::Floats) -> Self::Floats {
        // Adding 1.5·2²³ leaves no room for a fraction.
        const ROUND: f32 = 12_582_912.0;
        x.map(|x| ((x + ROUND) - ROUND).copysign(x))
    }

    #[inline(always)]
    fn times_power(self, x: Self::Floats, n: Self::Floats) -> Self::Floats {
        // As two factors, since n exceeds the exponents of one f32.
        let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
        Self::map2(x, n, |x, n| {
            let n = (n as i32).clamp(-250, 250);
            let half = n >> 1;
            x * power(half) * power(n - half)
        })
    }

    #[inline(always)]
    fn where_least(
        self,
        x: Self::Floats,
        limit: Self::Floats,
        yes: Self::Floats,
        no: Self::Floats,
    ) -> Self::Floats {
        std::array::from_fn(|l| if x[l] <= limit[l] { yes[l] } else { no[l] })
    }

    #[inline(always)]
    fn first(self, count: usize, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        std::array::from_fn(|l| if l < count { a[l] } else { b[l] })
    }

    #[inline(always)]
    fn sum(self, x: Self::Floats) -> f32 {
        Self::halve(x, |a, b| a + b)
    }

    #[inline(always)]
    fn most(self, x: Self::Floats) -> f32 {
        Self::halve(x, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn load_pairs(self, from: &[bf16]) -> Self::Pairs {
        let at = |i: usize| from.get(i).copied().unwrap_or(bf16::ZERO);
        std::array::from_fn(|l| [at(2 * l), at(2 * l + 1)])
    }

    #[inline(always)]
    fn store_pairs(self, x: Self::Pairs, to: &mut [[bf16; 2]]) {
        for (to, x) in to.iter_mut().zip(x) {
            *to = x;
        }
    }

    #[inline(always)]
    fn interleave(self, first: &[bf16], second: &[bf16]) -> Self::Pairs {
        let at = |x: &[bf16], i: usize| x.get(i).copied().unwrap_or(bf16::ZERO);
        std::array::from_fn(|l| [at(first, l), at(second, l)])
    }

    #[inline(always)]
    fn round_together(self, first: Self::Floats, second: Self::Floats) -> Self::Pairs {
        let rounded = super::bf16::rounded;
        std::array::from_fn(|l| [rounded(first[l]), rounded(second[l])])
    }

    #[inline(always)]
    fn round_in_order(self, first: Self::Floats, second: Self::Floats) -> Self::Pairs {
        let at = |i: usize| if i < LANES { first[i] } else { second[i - LANES] };
        let rounded = super::bf16::rounded;
        std::array::from_fn(|l| [rounded(at(2 * l)), rounded(at(2 * l + 1))])
    }

    #[inline(always)]
    fn turn(self, rows: [Self::Pairs; LANES]) -> [Self::Pairs; LANES] {
        std::array::from_fn(|r| std::array::from_fn(|c| rows[c][r]))
    }

    #[inline(always)]
    unsafe fn splat_pair(self, at: *const bf16) -> Self::Pairs {
        // SAFETY: the caller's promise.
        [unsafe { at.cast::<[bf16; 2]>().read_unaligned() }; LANES]
    }

    #[inline(always)]
    unsafe fn pairs_at(self, at: *const [bf16; 2]) -> Self::Pairs {
        // SAFETY: the caller's promise.
        unsafe { at.cast::<Self::Pairs>().read_unaligned() }
    }

    #[inline(always)]
    fn prefetch(self, _at: *const u8) {}

    #[inline(always)]
    fn dot(self, sum: Self::Floats, a: Self::Pairs, b: Self::Pairs) -> Self::Floats {
        let wide = |x: bf16| wide(x.to_bits());
        std::array::from_fn(|l| {
            let later = fma::<FMA>(wide(a[l][1]), wide(b[l][1]), sum[l]);
            fma::<FMA>(wide(a[l][0]), wide(b[l][0]), later)
        })
    }
}

#[cfg(target_arch = "x86_64")]
pub use super::lanes_avx512::Avx512;

/// `on_lanes! { pub fn name(args) -> ret = body; }` defines `name`, which runs `body(lanes, args)` with the best kind
/// of vectors on this machine. `body` must be `#[inline(always)]`, otherwise it keeps the baseline's code.
macro_rules! on_lanes {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident;)+) => {$(
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::backend::cpu::simd::{Level, level};
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
                fn best($($arg: $ty),*) $(-> $ret)? {
                    // SAFETY: this function has the features.
                    $body(unsafe { $crate::backend::cpu::lanes::Avx512::new() }, $($arg),*)
                }
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
                fn v4($($arg: $ty),*) $(-> $ret)? {
                    $body($crate::backend::cpu::lanes::Plain::<true>, $($arg),*)
                }
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx2,fma,f16c")]
                fn v3($($arg: $ty),*) $(-> $ret)? {
                    $body($crate::backend::cpu::lanes::Plain::<true>, $($arg),*)
                }
                match level() {
                    // SAFETY: `level` found these features on this processor.
                    Level::Avx512Bf16 => return unsafe { best($($arg),*) },
                    // SAFETY: as above.
                    Level::Avx512 => return unsafe { v4($($arg),*) },
                    // SAFETY: as above.
                    Level::Avx2 => return unsafe { v3($($arg),*) },
                    Level::Portable => {}
                }
            }
            $body($crate::backend::cpu::lanes::Plain::<{ $crate::backend::cpu::simd::BASELINE_FMA }>, $($arg),*)
        }
    )+};
}
pub(crate) use on_lanes;

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::backend::cpu::simd::{Level, level};

    /// The bits of every operation's result on two vectors.
    #[inline(always)]
    fn all<L: Lanes>(lanes: L, a: &[f32], b: &[f32], out: &mut Vec<u32>) {
        let (x, y) = (lanes.load(a), lanes.load(b));
        let small = lanes.mul(x, lanes.splat(1e-3));
        let floats = [
            lanes.add(x, y),
            lanes.sub(x, y),
            lanes.mul(x, y),
            lanes.div(x, y),
            lanes.fma(x, y, x),
            lanes.max(x, y),
            lanes.abs(x),
            lanes.round(small),
            lanes.times_power(y, lanes.round(small)),
            lanes.where_least(x, y, x, lanes.splat(7.0)),
            lanes.first(5, x, y),
            lanes.exp2(small),
        ];
        let mut wide = [0.0; LANES];
        for x in floats {
            lanes.store(x, &mut wide);
            out.extend(wide.map(f32::to_bits));
        }
        out.extend([lanes.sum(x), lanes.most(x)].map(f32::to_bits));
        let mut halves = [bf16::ZERO; 2 * LANES];
        lanes.store_halves(x, &mut halves[..LANES]);
        lanes.store_halves(y, &mut halves[LANES..]);
        lanes.store(lanes.load_halves(&halves[..9]), &mut wide);
        out.extend(wide.map(f32::to_bits));
        let pairs = [
            lanes.load_pairs(&halves),
            lanes.load_pairs(&halves[..11]),
            lanes.interleave(&halves[..13], &halves[LANES..]),
            lanes.round_together(x, y),
            lanes.round_in_order(x, y),
            // SAFETY: a pair is there.
            unsafe { lanes.splat_pair(halves[3..].as_ptr()) },
        ];
        let mut stored = [[bf16::ZERO; 2]; LANES];
        for x in pairs {
            lanes.store_pairs(x, &mut stored);
            out.extend(stored.map(|[a, b]| u32::from(a.to_bits()) << 16 | u32::from(b.to_bits())));
        }
        let turned = lanes.turn(std::array::from_fn(|i| pairs[i % pairs.len()]));
        for x in turned {
            lanes.store_pairs(x, &mut stored);
            out.extend(stored.map(|[a, b]| u32::from(a.to_bits()) << 16 | u32::from(b.to_bits())));
        }
        lanes.store(lanes.dot(y, pairs[0], pairs[3]), &mut wide);
        out.extend(wide.map(f32::to_bits));
        let f16s: [f16; LANES] = std::array::from_fn(|l| f16::from_f32(a[l]));
        lanes.store(lanes.load_f16(&f16s[..14]), &mut wide);
        out.extend(wide.map(f32::to_bits));
    }

    #[test]
    fn the_processors_vectors_and_arrays_agree_in_every_operation_to_the_bit() {
        if level() < Level::Avx512Bf16 {
            eprintln!("skipped: this processor has no bf16 dot products");
            return;
        }
        let a: [f32; LANES] = std::array::from_fn(|l| (l as f32 - 7.3) * 1234.567);
        let b: [f32; LANES] = std::array::from_fn(|l| 0.37 * (l as f32 + 1.0) - 3.1);
        let (mut got, mut want) = (Vec::new(), Vec::new());
        // SAFETY: `level` found the features.
        all(unsafe { Avx512::new() }, &a, &b, &mut got);
        all(Plain::<true>, &a, &b, &mut want);
        assert_eq!(got, want);
    }
}
