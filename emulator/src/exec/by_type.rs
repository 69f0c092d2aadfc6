//! One body per Rust type that an instruction's type maps to.

/// Runs `$body` with `$t` the Rust type of an integer type.
macro_rules! by_int {
    ($ty:expr, $t:ident => $body:expr) => {
        match $ty {
            IntTy::U16 => {
                type $t = u16;
                $body
            }
            IntTy::S16 => {
                type $t = i16;
                $body
            }
            IntTy::U32 => {
                type $t = u32;
                $body
            }
            IntTy::S32 => {
                type $t = i32;
                $body
            }
            IntTy::U64 => {
                type $t = u64;
                $body
            }
            IntTy::S64 => {
                type $t = i64;
                $body
            }
        }
    };
}

/// The same for bit widths.
macro_rules! by_width {
    ($w:expr, $t:ident => $body:expr) => {
        match $w {
            Width::W16 => {
                type $t = u16;
                $body
            }
            Width::W32 => {
                type $t = u32;
                $body
            }
            Width::W64 => {
                type $t = u64;
                $body
            }
        }
    };
}

pub(super) use {by_int, by_width};
