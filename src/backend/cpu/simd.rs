//! Run-time choice of the instruction set, in one place.
//!
//! The crate is built for the baseline of its architecture, so that one binary runs everywhere. A hot loop is written
//! once as plain Rust with `const FMA: bool`, and [`dispatch!`] compiles it three times: for AVX-512, for AVX2 with
//! FMA, and for the baseline, where `FMA` is false because each fused multiply-add would be a call into the C library.

use crate::error::UsageError;
use crate::variables;
use std::sync::OnceLock;

/// Lanes of the widest vector. Reductions keep this many partial sums on every machine.
pub const LANES: usize = 16;

/// What the processor supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Portable,
    /// AVX2, FMA and F16C: x86-64-v3.
    Avx2,
    /// AVX-512 F, BW, DQ and VL: x86-64-v4.
    Avx512,
    /// That and bf16 dot products.
    Avx512Bf16,
}

/// The level in use, determined once: the best of this machine, or a lower one set by `BITFIT_SIMD`, so that the paths of
/// lesser machines can be tested on a better one.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    // The program refuses a wrong value before it computes anything.
    *LEVEL.get_or_init(|| detect().min(highest_instruction_set().unwrap_or(Level::Avx512Bf16)))
}

/// The highest level that `BITFIT_SIMD` permits (`portable`, `avx2`, `avx512`); any, if it is not set.
///
/// # Errors
/// If it has another value.
pub fn highest_instruction_set() -> Result<Level, UsageError> {
    let levels = [("portable", Level::Portable), ("avx2", Level::Avx2), ("avx512", Level::Avx512)];
    Ok(variables::chosen("BITFIT_SIMD", &levels)?.unwrap_or(Level::Avx512Bf16))
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let v3 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    let v4 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (v3, v4) {
        (true, true) if is_x86_feature_detected!("avx512bf16") => Level::Avx512Bf16,
        (true, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        _ => Level::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Portable
}

/// Whether the baseline of this architecture has fused multiply-add.
pub const BASELINE_FMA: bool = cfg!(target_arch = "aarch64");

/// `dispatch! { pub fn name(args) -> ret = body; }` defines `name`, which runs `body::<FMA>(args)` compiled for the
/// best level of this machine. `body` must be `#[inline(always)]`, otherwise it keeps the baseline's code.
macro_rules! dispatch {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident;)+) => {$(
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
                fn v4($($arg: $ty),*) $(-> $ret)? {
                    $body::<true>($($arg),*)
                }
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx2,fma,f16c")]
                fn v3($($arg: $ty),*) $(-> $ret)? {
                    $body::<true>($($arg),*)
                }
                match $crate::backend::cpu::simd::level() {
                    $crate::backend::cpu::simd::Level::Avx512Bf16
                    | $crate::backend::cpu::simd::Level::Avx512 => {
                        // SAFETY: `level` found these features on this processor.
                        return unsafe { v4($($arg),*) };
                    }
                    // SAFETY: as above.
                    $crate::backend::cpu::simd::Level::Avx2 => return unsafe { v3($($arg),*) },
                    $crate::backend::cpu::simd::Level::Portable => {}
                }
            }
            $body::<{ $crate::backend::cpu::simd::BASELINE_FMA }>($($arg),*)
        }
    )+};
}
pub(crate) use dispatch;

/// `a·b + c`, fused if that is one instruction.
#[inline(always)]
pub fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Sum of `term(a)` over a slice, in [`LANES`] partial sums that are then added pairwise: vectors instead of one long
/// chain, and the same order on every machine.
#[inline(always)]
pub fn lane_sum(a: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (whole, rest) = a.as_chunks::<LANES>();
    for a in whole {
        for l in 0..LANES {
            lanes[l] += term(a[l]);
        }
    }
    for (lane, a) in lanes.iter_mut().zip(rest) {
        *lane += term(*a);
    }
    add_lanes(lanes)
}

/// As [`lane_sum`], for `term(a, b)` over two slices of equal length.
#[inline(always)]
pub fn lane_sum2<T: Copy>(a: &[f32], b: &[T], term: impl Fn(f32, T) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_whole, a_rest) = a.as_chunks::<LANES>();
    let (b_whole, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_whole.iter().zip(b_whole) {
        for l in 0..LANES {
            lanes[l] += term(a[l], b[l]);
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane += term(*a, *b);
    }
    add_lanes(lanes)
}

#[inline(always)]
fn add_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            lanes[l] += lanes[l + width];
        }
        width /= 2;
    }
    lanes[0]
}
