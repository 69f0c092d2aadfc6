//! Arithmetic: integers, floats, halves, extended precision.

use super::Decoder;
use super::alu::{half_ty, int_ty, wider};
use super::ir::*;
use super::mods::Mods;
use crate::numeric::Round;
use crate::numeric::f32ops::MinMax;
use crate::numeric::half::HalfMode;
use crate::ptx::ast::Operand;
use crate::ptx::error::Result;
use crate::ptx::types::Type;

impl<'a> Decoder<'_, 'a> {
    pub(super) fn arithmetic(
        &mut self,
        base: &str,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> Result<bool> {
        let hi = m.flag("hi");
        let lo = m.flag("lo");
        let wide = m.flag("wide");
        if m.flag("cc") {
            return self.carry_out(base, hi, m, ops);
        }
        let round = m.round();
        let ftz = m.flag("ftz");
        let sat = m.flag("sat");
        let relu = m.flag("relu");
        let oob = m.flag("oob");
        let nan = m.flag("NaN");
        let xorsign_abs = m.flag("xorsign");
        if xorsign_abs && !m.flag("abs") {
            return self.fail("`.xorsign` needs `.abs`");
        }
        let approx = m.any(&["approx", "full"]);
        let ty = self.need_ty(m)?;
        let bad = |d: &Self| d.bad_ty(base, ty);
        let two = [ty, ty];
        let three = [ty, ty, ty];
        if let Some(t) = int_ty(ty) {
            if round.is_some()
                || ftz
                || nan
                || xorsign_abs
                || oob
                || approx.is_some()
                || lo && base != "mul" && base != "mad"
            {
                return self.fail(format!("a modifier of `{base}` does not fit an integer type"));
            }
            if sat
                && !matches!(
                    (base, ty, hi),
                    ("add" | "sub", Type::S32, _) | ("mad", Type::S32, true)
                )
            {
                return self.fail("`.sat` applies to .s32 only");
            }
            if relu && !(matches!(base, "min" | "max") && ty == Type::S32) {
                return self.fail("`.relu` applies to .s32 only");
            }
            let alu = match base {
                "add" => Alu::Int2(if sat { Int2::AddSat } else { Int2::Add }, t),
                "sub" => Alu::Int2(if sat { Int2::SubSat } else { Int2::Sub }, t),
                "mul" if wide && ty.bits() < 64 => {
                    return self.regular(Alu::MulWide(t), ops, wider(ty), &two);
                }
                "mul" if hi => Alu::Int2(Int2::MulHi, t),
                "mul" if lo => Alu::Int2(Int2::MulLo, t),
                "div" => Alu::Int2(Int2::Div, t),
                "rem" => Alu::Int2(Int2::Rem, t),
                "min" => Alu::Int2(if relu { Int2::MinRelu } else { Int2::Min }, t),
                "max" => Alu::Int2(if relu { Int2::MaxRelu } else { Int2::Max }, t),
                "mad" if wide && ty.bits() < 64 => {
                    return self.regular(Alu::MadWide(t), ops, wider(ty), &[ty, ty, wider(ty)]);
                }
                "mad" if hi && sat => {
                    return self.regular(Alu::Int3(Int3::MadHiSat, t), ops, ty, &three);
                }
                "mad" if hi => return self.regular(Alu::Int3(Int3::MadHi, t), ops, ty, &three),
                "mad" if lo => return self.regular(Alu::Int3(Int3::MadLo, t), ops, ty, &three),
                "sad" => return self.regular(Alu::Int3(Int3::Sad, t), ops, ty, &three),
                "abs" if ty.is_signed() => return self.regular(Alu::Abs(t), ops, ty, &[ty]),
                "neg" if ty.is_signed() => return self.regular(Alu::Neg(t), ops, ty, &[ty]),
                _ => return bad(self),
            };
            return self.regular(alu, ops, ty, &two);
        }
        if hi || lo || wide {
            return bad(self);
        }
        if matches!(ty, Type::U16x2 | Type::S16x2) {
            let signed = ty == Type::S16x2;
            let f = match base {
                "add" => Simd2::Add,
                "min" if signed => Simd2::MinS { relu },
                "max" if signed => Simd2::MaxS { relu },
                "min" => Simd2::MinU,
                "max" => Simd2::MaxU,
                _ => return bad(self),
            };
            return self.regular(Alu::Simd2(f), ops, ty, &two);
        }
        if let Some(h) = half_ty(ty) {
            if !matches!(round, None | Some(Round::Rn)) || approx.is_some() {
                return bad(self);
            }
            if matches!(base, "min" | "max") {
                if sat || relu {
                    return bad(self);
                }
                let mode = MinMax { ftz, nan, xorsign_abs };
                return self.regular(
                    Alu::HalfMinMax { max: base == "max", ty: h, mode },
                    ops,
                    ty,
                    &two,
                );
            }
            if base == "fma" && round.is_none() {
                return self.fail("`fma` needs a rounding mode");
            }
            let mode = HalfMode { ftz, sat, relu };
            let (f, n) = match base {
                "add" => (HalfOp::Add, 2),
                "sub" => (HalfOp::Sub, 2),
                "mul" => (HalfOp::Mul, 2),
                "fma" if oob => (HalfOp::FmaOob, 3),
                "fma" => (HalfOp::Fma, 3),
                "neg" => (HalfOp::Neg, 1),
                "abs" => (HalfOp::Abs, 1),
                _ => return bad(self),
            };
            if relu && base != "fma" {
                return bad(self);
            }
            return self.regular(Alu::Half(f, h, mode), ops, ty, &three[..n]);
        }
        if relu || oob {
            return bad(self);
        }
        // fma and the full-range forms must say how they round.
        let unsaid = round.is_none() && approx.is_none();
        if unsaid && matches!(base, "fma" | "mad" | "div") {
            return self.fail(format!("`{base}` needs a rounding mode"));
        }
        let round_or = round.unwrap_or(Round::Rn);
        match ty {
            Type::F32 => {
                if matches!(base, "min" | "max") {
                    let mode = MinMax { ftz, nan, xorsign_abs };
                    let alu = Alu::F32MinMax { max: base == "max", mode };
                    let n = if ops.len() == 4 { 3 } else { 2 };
                    return self.regular(alu, ops, ty, &three[..n]);
                }
                let mode = FloatMode { round: round_or, ftz, sat };
                let (f, n) = match base {
                    "add" => (F32Op::Add, 2),
                    "sub" => (F32Op::Sub, 2),
                    "mul" => (F32Op::Mul, 2),
                    "fma" | "mad" => (F32Op::Fma, 3),
                    "div" => match approx {
                        Some("approx") => (F32Op::DivApprox, 2),
                        Some(_) => (F32Op::DivFull, 2),
                        None => (F32Op::Div, 2),
                    },
                    "neg" => (F32Op::Neg, 1),
                    "abs" => (F32Op::Abs, 1),
                    _ => return bad(self),
                };
                if base != "div" && approx.is_some() || nan || xorsign_abs || round_or == Round::Rna
                {
                    return bad(self);
                }
                self.regular(Alu::F32(f, mode), ops, ty, &three[..n])
            }
            Type::F64 => {
                let (f, n) = match base {
                    "add" => (F64Op::Add, 2),
                    "sub" => (F64Op::Sub, 2),
                    "mul" => (F64Op::Mul, 2),
                    "fma" | "mad" => (F64Op::Fma, 3),
                    "div" => (F64Op::Div, 2),
                    "min" => (F64Op::Min, 2),
                    "max" => (F64Op::Max, 2),
                    "neg" => (F64Op::Neg, 1),
                    "abs" => (F64Op::Abs, 1),
                    _ => return bad(self),
                };
                if ftz || sat || nan || xorsign_abs || approx.is_some() || round_or == Round::Rna {
                    return bad(self);
                }
                self.regular(Alu::F64(f, round_or), ops, ty, &three[..n])
            }
            _ => bad(self),
        }
    }

    /// `add.cc`, `sub.cc`, `mad.cc`.
    pub(super) fn carry_out(
        &mut self,
        base: &str,
        hi: bool,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> Result<bool> {
        self.carry_form(base, hi, false, true, m, ops)
    }

    pub(super) fn carry(
        &mut self,
        base: &str,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> Result<bool> {
        let cc = m.flag("cc");
        let hi = m.flag("hi");
        m.flag("lo");
        self.carry_form(base, hi, true, cc, m, ops)
    }

    pub(super) fn carry_form(
        &mut self,
        base: &str,
        hi: bool,
        carry_in: bool,
        carry_out: bool,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> Result<bool> {
        let ty = self.need_ty(m)?;
        let wide = match ty {
            Type::U32 | Type::S32 | Type::B32 => false,
            Type::U64 | Type::S64 | Type::B64 => true,
            _ => return self.bad_ty(base, ty),
        };
        match base {
            "add" | "addc" | "sub" | "subc" => {
                let subtract = base.starts_with("sub");
                self.regular(
                    Alu::AddCarry { wide, subtract, carry_in, carry_out },
                    ops,
                    ty,
                    &[ty, ty],
                )
            }
            "mad" | "madc" => {
                let signed = ty.is_signed();
                self.regular(
                    Alu::MadCarry { wide, signed, hi, carry_in, carry_out },
                    ops,
                    ty,
                    &[ty, ty, ty],
                )
            }
            _ => self.fail(format!("`{base}.cc` does not exist")),
        }
    }

    /// Functions of one operand (and copysign).
    pub(super) fn transcendental(
        &mut self,
        base: &str,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> Result<bool> {
        let round = m.round();
        let approx = m.flag("approx");
        let ftz = m.flag("ftz");
        let ty = self.need_ty(m)?;
        let mode = FloatMode { round: round.unwrap_or(Round::Rn), ftz, sat: false };
        let approximate = !matches!(base, "copysign" | "rcp" | "sqrt");
        if mode.round == Round::Rna || approximate && round.is_some() {
            return self.bad_ty(base, ty);
        }
        if base != "copysign" && !approx && (approximate || round.is_none()) {
            return self.fail(format!("`{base}` must say `.approx` or how it rounds"));
        }
        if let Some(h) = half_ty(ty) {
            let f = match base {
                "tanh" => HalfOp::Tanh,
                "ex2" => HalfOp::Ex2,
                _ => return self.bad_ty(base, ty),
            };
            return self.regular(
                Alu::Half(f, h, HalfMode { ftz, sat: false, relu: false }),
                ops,
                ty,
                &[ty],
            );
        }
        let alu = match (base, ty) {
            ("rcp", Type::F32) => Alu::F32(F32Op::Rcp, mode),
            ("sqrt", Type::F32) => Alu::F32(F32Op::Sqrt, mode),
            ("rsqrt", Type::F32) => Alu::F32(F32Op::Rsqrt, mode),
            ("sin", Type::F32) => Alu::F32(F32Op::Sin, mode),
            ("cos", Type::F32) => Alu::F32(F32Op::Cos, mode),
            ("lg2", Type::F32) => Alu::F32(F32Op::Lg2, mode),
            ("ex2", Type::F32) => Alu::F32(F32Op::Ex2, mode),
            ("tanh", Type::F32) => Alu::F32(F32Op::Tanh, mode),
            ("copysign", Type::F32) => {
                return self.regular(Alu::F32(F32Op::Copysign, mode), ops, ty, &[ty, ty]);
            }
            ("copysign", Type::F64) => {
                return self.regular(Alu::F64(F64Op::Copysign, mode.round), ops, ty, &[ty, ty]);
            }
            ("rcp", Type::F64) if approx => Alu::F64(F64Op::RcpApprox, mode.round),
            ("rsqrt", Type::F64) if approx && ftz => Alu::F64(F64Op::RsqrtGross, mode.round),
            ("rsqrt", Type::F64) if approx => Alu::F64(F64Op::Rsqrt, mode.round),
            ("rcp", Type::F64) => Alu::F64(F64Op::Rcp, mode.round),
            ("sqrt", Type::F64) => Alu::F64(F64Op::Sqrt, mode.round),
            _ => return self.bad_ty(base, ty),
        };
        self.regular(alu, ops, ty, &[ty])
    }
}
