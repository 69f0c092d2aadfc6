//! Which of the executor's types a PTX type is.

use super::ir::{HalfTy, IntTy, Width};
use crate::ptx::types::Type;

pub fn int_ty(ty: Type) -> Option<IntTy> {
    Some(match ty {
        Type::U16 => IntTy::U16,
        Type::S16 => IntTy::S16,
        Type::U32 => IntTy::U32,
        Type::S32 => IntTy::S32,
        Type::U64 => IntTy::U64,
        Type::S64 => IntTy::S64,
        _ => return None,
    })
}

pub fn width(ty: Type) -> Option<Width> {
    Some(match ty {
        Type::B16 => Width::W16,
        Type::B32 => Width::W32,
        Type::B64 => Width::W64,
        _ => return None,
    })
}

pub fn half_ty(ty: Type) -> Option<HalfTy> {
    Some(match ty {
        Type::F16 => HalfTy { bf: false, x2: false },
        Type::F16x2 => HalfTy { bf: false, x2: true },
        Type::Bf16 => HalfTy { bf: true, x2: false },
        Type::Bf16x2 => HalfTy { bf: true, x2: true },
        _ => return None,
    })
}

/// The type one size up, for `.wide`.
pub fn wider(ty: Type) -> Type {
    match ty {
        Type::U16 => Type::U32,
        Type::S16 => Type::S32,
        Type::U32 => Type::U64,
        _ => Type::S64,
    }
}
