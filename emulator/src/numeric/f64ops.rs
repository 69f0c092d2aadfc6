//! Double-precision arithmetic. Nearest-even is the host's own; directed roundings go through
//! [`super::soft64`].

use super::f32ops::TestP;
use super::{NAN_F64, Round, soft64};

/// Any NaN becomes the one that PTX produces.
#[inline(always)]
pub fn canonical(x: f64) -> f64 {
    if x.is_nan() { f64::from_bits(NAN_F64) } else { x }
}

/// add.f64
#[inline(always)]
pub fn add(a: f64, b: f64, round: Round) -> f64 {
    canonical(match round {
        Round::Rn => a + b,
        _ => soft64::fma(a, 1.0, b, round),
    })
}
/// sub.f64
#[inline(always)]
pub fn sub(a: f64, b: f64, round: Round) -> f64 {
    add(a, -b, round)
}
/// mul.f64
#[inline(always)]
pub fn mul(a: f64, b: f64, round: Round) -> f64 {
    canonical(match round {
        Round::Rn => a * b,
        _ => soft64::mul(a, b, round),
    })
}
/// fma.f64 (mad is the same)
#[inline(always)]
pub fn fma(a: f64, b: f64, c: f64, round: Round) -> f64 {
    canonical(match round {
        Round::Rn => a.mul_add(b, c),
        _ => soft64::fma(a, b, c, round),
    })
}
/// div.f64
#[inline(always)]
pub fn div(a: f64, b: f64, round: Round) -> f64 {
    canonical(match round {
        Round::Rn => a / b,
        _ => soft64::div(a, b, round),
    })
}
/// rcp.f64
#[inline(always)]
pub fn rcp(a: f64, round: Round) -> f64 {
    div(1.0, a, round)
}
/// sqrt.f64
#[inline(always)]
pub fn sqrt(a: f64, round: Round) -> f64 {
    canonical(match round {
        Round::Rn => a.sqrt(),
        _ => soft64::sqrt(a, round),
    })
}
/// abs.f64
#[inline(always)]
pub fn abs(a: f64) -> f64 {
    a.abs()
}
/// neg.f64
#[inline(always)]
pub fn neg(a: f64) -> f64 {
    -a
}
#[inline(always)]
fn min_max(a: f64, b: f64, greatest: bool) -> f64 {
    if a.is_nan() {
        return canonical(b);
    }
    if b.is_nan() {
        return a;
    }
    let a_less = a < b || (a == b && a.is_sign_negative());
    if a_less != greatest { a } else { b }
}
/// min.f64: a NaN loses against a number; −0 < +0
#[inline(always)]
pub fn min(a: f64, b: f64) -> f64 {
    min_max(a, b, false)
}
/// max.f64
#[inline(always)]
pub fn max(a: f64, b: f64) -> f64 {
    min_max(a, b, true)
}
/// testp.f64
#[inline(always)]
pub fn testp(a: f64, what: TestP) -> bool {
    match what {
        TestP::Finite => a.is_finite(),
        TestP::Infinite => a.is_infinite(),
        TestP::Number => !a.is_nan(),
        TestP::NotANumber => a.is_nan(),
        TestP::Normal => a.is_normal() || a == 0.0,
        TestP::Subnormal => a.is_subnormal(),
    }
}
/// copysign.f64: b with the sign of a
#[inline(always)]
pub fn copysign(a: f64, b: f64) -> f64 {
    b.copysign(a)
}
