//! A warp's registers: 32 lanes side by side in each slot.

use crate::buffer::Buffer;
use crate::decode::ir::{P, R};

pub const FULL: u32 = u32::MAX;

/// The lanes of a mask.
#[inline(always)]
pub fn lanes(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        let lane = mask.trailing_zeros();
        mask &= mask - 1;
        Some(lane as usize)
    })
}

/// A value of one lane and the slot that holds it.
pub trait Lane: Copy {
    type Store: Copy + Default;
    fn get(s: Self::Store) -> Self;
    fn put(self) -> Self::Store;
}

macro_rules! lanes {
    ($($t:ty: $s:ty, $get:expr, $put:expr;)*) => {$(
        impl Lane for $t {
            type Store = $s;
            #[inline(always)]
            fn get(s: $s) -> Self {
                let get: fn($s) -> $t = $get;
                get(s)
            }
            #[inline(always)]
            fn put(self) -> $s {
                let put: fn($t) -> $s = $put;
                put(self)
            }
        }
    )*};
}

lanes! {
    u16: u32, |s| s as u16, u32::from;
    i16: u32, |s| s as i16, |v| u32::from(v as u16);
    u32: u32, |s| s, |v| v;
    i32: u32, |s| s as i32, |v| v as u32;
    f32: u32, f32::from_bits, f32::to_bits;
    u64: u64, |s| s, |v| v;
    i64: u64, |s| s as i64, |v| v as u64;
    f64: u64, f64::from_bits, f64::to_bits;
}

/// Registers, constants and predicates of one warp.
#[derive(Debug)]
pub struct Regs {
    /// Register file and constant pool, chosen by [`R::CONST`].
    bases: [*mut u8; 2],
    _file: Buffer,
    pub preds: Vec<u32>,
    /// CC.CF of the extended-precision instructions.
    pub carry: u32,
}

// SAFETY: the register file belongs to this value; the constants are only read and outlive the launch.
unsafe impl Send for Regs {}

impl Default for Regs {
    fn default() -> Self {
        Self {
            bases: [std::ptr::null_mut(); 2],
            _file: Buffer::default(),
            preds: Vec::new(),
            carry: 0,
        }
    }
}

impl Regs {
    pub fn new(bytes: usize, constants: &Buffer, predicates: usize) -> Self {
        let file = Buffer::new(bytes);
        let mut preds = vec![0; predicates];
        preds[0] = FULL;
        Self { bases: [file.pointer(), constants.pointer()], _file: file, preds, carry: 0 }
    }

    #[inline(always)]
    fn slot(&self, r: R) -> *mut u8 {
        // SAFETY: the decoder only makes offsets inside the file or the pool.
        unsafe { self.bases[(r.0 >> 31) as usize].add((r.0 & !R::CONST) as usize) }
    }

    /// All lanes of a slot.
    #[inline(always)]
    pub fn all<S: Copy>(&self, r: R) -> &[S; 32] {
        // SAFETY: a slot holds 32 values of its width, aligned; every bit pattern of u32 and u64 is valid.
        unsafe { &*(self.slot(r) as *const [S; 32]) }
    }

    #[inline(always)]
    pub fn r32(&self, r: R) -> &[u32; 32] {
        self.all(r)
    }

    #[inline(always)]
    pub fn r64(&self, r: R) -> &[u64; 32] {
        self.all(r)
    }

    /// The lanes' addresses, from a register and a constant.
    #[inline(always)]
    pub fn addresses(&self, base: R, offset: i64, wide: bool) -> [u64; 32] {
        if base.is_none() {
            return [offset as u64; 32];
        }
        let mut out = [0; 32];
        if wide {
            let x = self.r64(base);
            for l in 0..32 {
                out[l] = x[l].wrapping_add_signed(offset);
            }
        } else {
            let x = self.r32(base);
            for l in 0..32 {
                out[l] = u64::from(x[l].wrapping_add(offset as u32));
            }
        }
        out
    }

    /// Writes the lanes of `mask`.
    #[inline(always)]
    pub fn put<S: Copy>(&mut self, r: R, values: &[S; 32], mask: u32) {
        // SAFETY: as for `all`; the decoder never makes a constant a destination.
        let to = unsafe { &mut *(self.slot(r) as *mut [S; 32]) };
        if mask == FULL {
            *to = *values;
        } else {
            for lane in 0..32 {
                if mask >> lane & 1 != 0 {
                    to[lane] = values[lane];
                }
            }
        }
    }

    #[inline(always)]
    pub fn pred(&self, p: P) -> u32 {
        let value = self.preds[usize::from(p.0 & !P::NEGATE)];
        if p.0 & P::NEGATE != 0 { !value } else { value }
    }

    #[inline(always)]
    pub fn set_pred(&mut self, p: P, value: u32, mask: u32) {
        if p.is_none() {
            return;
        }
        let to = &mut self.preds[usize::from(p.0)];
        *to = *to & !mask | value & mask;
    }

    #[inline(always)]
    pub fn map1<A: Lane, D: Lane>(&mut self, d: R, a: R, mask: u32, f: impl Fn(A) -> D) {
        let a = self.all::<A::Store>(a);
        let mut out = [D::Store::default(); 32];
        for l in 0..32 {
            out[l] = f(A::get(a[l])).put();
        }
        self.put(d, &out, mask);
    }

    #[inline(always)]
    pub fn map2<A: Lane, B: Lane, D: Lane>(
        &mut self,
        d: R,
        a: R,
        b: R,
        mask: u32,
        f: impl Fn(A, B) -> D,
    ) {
        let (a, b) = (self.all::<A::Store>(a), self.all::<B::Store>(b));
        let mut out = [D::Store::default(); 32];
        for l in 0..32 {
            out[l] = f(A::get(a[l]), B::get(b[l])).put();
        }
        self.put(d, &out, mask);
    }

    #[inline(always)]
    pub fn map3<A: Lane, B: Lane, C: Lane, D: Lane>(
        &mut self,
        d: R,
        [a, b, c]: [R; 3],
        mask: u32,
        f: impl Fn(A, B, C) -> D,
    ) {
        let (a, b, c) = (self.all::<A::Store>(a), self.all::<B::Store>(b), self.all::<C::Store>(c));
        let mut out = [D::Store::default(); 32];
        for l in 0..32 {
            out[l] = f(A::get(a[l]), B::get(b[l]), C::get(c[l])).put();
        }
        self.put(d, &out, mask);
    }

    /// One bit per lane.
    #[inline(always)]
    pub fn test1<A: Lane>(&self, a: R, f: impl Fn(A) -> bool) -> u32 {
        let a = self.all::<A::Store>(a);
        let mut out = 0;
        for (l, &x) in a.iter().enumerate() {
            out |= u32::from(f(A::get(x))) << l;
        }
        out
    }

    #[inline(always)]
    pub fn test2<A: Lane>(&self, a: R, b: R, f: impl Fn(A, A) -> bool) -> u32 {
        let (a, b) = (self.all::<A::Store>(a), self.all::<A::Store>(b));
        let mut out = 0;
        for l in 0..32 {
            out |= u32::from(f(A::get(a[l]), A::get(b[l]))) << l;
        }
        out
    }
}
