//! Comparison and selection, half precision included.

#![expect(
    clippy::double_comparisons,
    clippy::neg_cmp_op_on_partial_ord,
    reason = "NaN decides which way a comparison is put"
)]

use super::f32ops::flush;
use super::half::Half;
use super::int::Int;

/// Comparison operators of set and setp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// Unsigned integer forms of lt, le, gt, ge.
    Lo,
    Ls,
    Hi,
    Hs,
    /// Float forms that hold when either side is NaN.
    Equ,
    Neu,
    Ltu,
    Leu,
    Gtu,
    Geu,
    /// Neither side is NaN.
    Num,
    /// Either side is NaN.
    Nan,
}

impl Cmp {
    /// From the name that PTX writes, without the dot.
    pub fn from_name(name: &str) -> Option<Cmp> {
        Some(match name {
            "eq" => Cmp::Eq,
            "ne" => Cmp::Ne,
            "lt" => Cmp::Lt,
            "le" => Cmp::Le,
            "gt" => Cmp::Gt,
            "ge" => Cmp::Ge,
            "lo" => Cmp::Lo,
            "ls" => Cmp::Ls,
            "hi" => Cmp::Hi,
            "hs" => Cmp::Hs,
            "equ" => Cmp::Equ,
            "neu" => Cmp::Neu,
            "ltu" => Cmp::Ltu,
            "leu" => Cmp::Leu,
            "gtu" => Cmp::Gtu,
            "geu" => Cmp::Geu,
            "num" => Cmp::Num,
            "nan" => Cmp::Nan,
            _ => return None,
        })
    }
}

/// The optional boolean operator that folds in a third predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BoolOp {
    And,
    Or,
    Xor,
}
/// `(a cmp b) BoolOp c`
#[inline(always)]
pub fn combine(op: BoolOp, compared: bool, c: bool) -> bool {
    match op {
        BoolOp::And => compared & c,
        BoolOp::Or => compared | c,
        BoolOp::Xor => compared ^ c,
    }
}

/// Integers and bit types. The float-only operators mean nothing here and give false; the decoder refuses them.
#[inline(always)]
pub fn int<T: Int>(op: Cmp, a: T, b: T) -> bool {
    match op {
        Cmp::Eq => a == b,
        Cmp::Ne => a != b,
        Cmp::Lt => a < b,
        Cmp::Le => a <= b,
        Cmp::Gt => a > b,
        Cmp::Ge => a >= b,
        Cmp::Lo => a.to_u64() < b.to_u64(),
        Cmp::Ls => a.to_u64() <= b.to_u64(),
        Cmp::Hi => a.to_u64() > b.to_u64(),
        Cmp::Hs => a.to_u64() >= b.to_u64(),
        _ => false,
    }
}

/// Any floating-point type, without `.ftz`.
#[inline(always)]
fn float<T: PartialOrd + Copy>(op: Cmp, a: T, b: T) -> bool {
    // Ordered if one of the three holds.
    let number = a < b || a == b || a > b;
    match op {
        Cmp::Eq => a == b,
        Cmp::Ne => a < b || a > b,
        Cmp::Lt | Cmp::Lo => a < b,
        Cmp::Le | Cmp::Ls => a <= b,
        Cmp::Gt | Cmp::Hi => a > b,
        Cmp::Ge | Cmp::Hs => a >= b,
        Cmp::Equ => !(a < b || a > b),
        Cmp::Neu => a != b,
        Cmp::Ltu => !(a >= b),
        Cmp::Leu => !(a > b),
        Cmp::Gtu => !(a <= b),
        Cmp::Geu => !(a < b),
        Cmp::Num => number,
        Cmp::Nan => !number,
    }
}
/// `.f64`
#[inline(always)]
pub fn f64(op: Cmp, a: f64, b: f64) -> bool {
    float(op, a, b)
}
/// `.f32`, with subnormal inputs flushed under `.ftz`
#[inline(always)]
pub fn f32(op: Cmp, a: f32, b: f32, ftz: bool) -> bool {
    match ftz {
        true => float(op, flush(a), flush(b)),
        false => float(op, a, b),
    }
}
/// `.f16` and `.bf16`
#[inline(always)]
pub fn half<H: Half>(op: Cmp, a: u16, b: u16, ftz: bool) -> bool {
    let (a, b) = if ftz { (H::flush(a), H::flush(b)) } else { (a, b) };
    f32(op, H::to_f32(a), H::to_f32(b), false)
}

/// selp
#[inline(always)]
pub fn selp<T>(a: T, b: T, p: bool) -> T {
    if p { a } else { b }
}
/// slct with an s32 selector
#[inline(always)]
pub fn slct_s32<T>(a: T, b: T, c: i32) -> T {
    if c >= 0 { a } else { b }
}
/// slct with an f32 selector: −0 counts as ≥ 0, NaN does not
#[inline(always)]
pub fn slct_f32<T>(a: T, b: T, c: f32, ftz: bool) -> T {
    let c = if ftz { flush(c) } else { c };
    if c >= 0.0 { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_on_floats() {
        let nan = f32::NAN;
        // (operator, 1 vs 2, 2 vs 2, 3 vs 2, NaN vs 2)
        let table = [
            (Cmp::Eq, false, true, false, false),
            (Cmp::Ne, true, false, true, false),
            (Cmp::Lt, true, false, false, false),
            (Cmp::Le, true, true, false, false),
            (Cmp::Gt, false, false, true, false),
            (Cmp::Ge, false, true, true, false),
            (Cmp::Equ, false, true, false, true),
            (Cmp::Neu, true, false, true, true),
            (Cmp::Ltu, true, false, false, true),
            (Cmp::Leu, true, true, false, true),
            (Cmp::Gtu, false, false, true, true),
            (Cmp::Geu, false, true, true, true),
            (Cmp::Num, true, true, true, false),
            (Cmp::Nan, false, false, false, true),
        ];
        for (op, less, equal, greater, unordered) in table {
            for (a, want) in [(1.0, less), (2.0, equal), (3.0, greater), (nan, unordered)] {
                assert_eq!(f32(op, a, 2.0, false), want, "{op:?} {a}");
                assert_eq!(f64(op, a.into(), 2.0,), want, "{op:?} {a}");
            }
        }
        assert!(f32(Cmp::Eq, -0.0, 0.0, false));
        assert!(f32(Cmp::Eq, f32::from_bits(1), 0.0, true));
        assert!(!f32(Cmp::Eq, f32::from_bits(1), 0.0, false));
    }

    #[test]
    fn integers_signed_and_unsigned() {
        assert!(int(Cmp::Lt, -1i32, 1));
        assert!(!int(Cmp::Lt, u32::MAX, 1));
        assert!(int(Cmp::Hi, -1i32, 1));
        assert!(int(Cmp::Ls, 1u64, 1));
        assert_eq!(slct_s32(1, 2, -1), 2);
        assert_eq!(slct_f32(1, 2, -0.0, false), 1);
        assert_eq!(slct_f32(1, 2, f32::NAN, false), 2);
        assert_eq!(slct_f32(1, 2, f32::from_bits(0x8000_0001), true), 1);
    }
}
