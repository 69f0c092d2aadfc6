//! atom and red (PTX ISA, parallel synchronization and communication). Global atomics are atomic on the host too: other
//! blocks run on other threads.

use super::access::AccessKind;
use super::block::{Block, Checked};
use super::regs::lanes;
use super::warp::Warp;
use crate::decode::ir::*;
use crate::numeric::f32ops::{self, MinMax};
use crate::numeric::half::{self, Bf16, F16, Half, HalfMode};
use crate::numeric::{Round, f64ops, simd2};
use crate::ptx::types::Space;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst};

pub(super) fn bytes_of(ty: AtomTy) -> u64 {
    match ty {
        AtomTy::B16 | AtomTy::F16 | AtomTy::Bf16 => 2,
        AtomTy::B64 | AtomTy::U64 | AtomTy::S64 | AtomTy::F64 => 8,
        _ => 4,
    }
}

/// The new value from the old one and the operands.
fn apply(f: AtomFn, ty: AtomTy, old: u64, b: u64, c: u64) -> u64 {
    const MINMAX: MinMax = MinMax { ftz: false, nan: false, xorsign_abs: false };
    let (o32, b32) = (old as u32, b as u32);
    fn half_op<H: Half>(f: AtomFn, a: u16, b: u16) -> u16 {
        match f {
            AtomFn::Add => half::add::<H>(a, b, HalfMode::default()),
            AtomFn::Min => half::min::<H>(a, b, MINMAX),
            _ => half::max::<H>(a, b, MINMAX),
        }
    }
    match (f, ty) {
        (AtomFn::And, _) => old & b,
        (AtomFn::Or, _) => old | b,
        (AtomFn::Xor, _) => old ^ b,
        (AtomFn::Exch, _) => b,
        (AtomFn::Cas, _) => {
            if old == b {
                c
            } else {
                old
            }
        }
        (AtomFn::Inc, _) => u64::from(if o32 >= b32 { 0 } else { o32 + 1 }),
        (AtomFn::Dec, _) => u64::from(if o32 == 0 || o32 > b32 { b32 } else { o32 - 1 }),
        (AtomFn::Add, AtomTy::F32) => {
            // In global memory, subnormals are kept unless the hardware flushes; it rounds to nearest.
            f32ops::add(f32::from_bits(o32), f32::from_bits(b32), Round::Rn, false, false)
                .to_bits()
                .into()
        }
        (AtomFn::Add, AtomTy::F64) => {
            f64ops::add(f64::from_bits(old), f64::from_bits(b), Round::Rn).to_bits()
        }
        (f, AtomTy::F16) => half_op::<F16>(f, old as u16, b as u16).into(),
        (f, AtomTy::Bf16) => half_op::<Bf16>(f, old as u16, b as u16).into(),
        (f, AtomTy::F16x2) => simd2::map2(o32, b32, |a, b| half_op::<F16>(f, a, b)).into(),
        (f, AtomTy::Bf16x2) => simd2::map2(o32, b32, |a, b| half_op::<Bf16>(f, a, b)).into(),
        (AtomFn::Add, _) => old.wrapping_add(b),
        (AtomFn::Min, AtomTy::S32) => u64::from((o32 as i32).min(b32 as i32) as u32),
        (AtomFn::Max, AtomTy::S32) => u64::from((o32 as i32).max(b32 as i32) as u32),
        (AtomFn::Min, AtomTy::S64) => (old as i64).min(b as i64) as u64,
        (AtomFn::Max, AtomTy::S64) => (old as i64).max(b as i64) as u64,
        (AtomFn::Min, _) => old.min(b),
        (AtomFn::Max, _) => old.max(b),
    }
}

/// Updates the element at `pointer` atomically; returns the old value.
///
/// # Safety
/// The element must be live and aligned.
pub(super) unsafe fn update(pointer: *mut u8, f: AtomFn, ty: AtomTy, b: u64, c: u64) -> u64 {
    let new = |old: u64| apply(f, ty, old, b, c);
    // SAFETY: the caller's promise; the host's atomics make the access indivisible.
    unsafe {
        match bytes_of(ty) {
            2 => {
                let cell = AtomicU16::from_ptr(pointer.cast());
                let f = |old: u16| Some(new(old.into()) as u16);
                u64::from(cell.fetch_update(SeqCst, SeqCst, f).unwrap_or_else(|x| x))
            }
            4 => {
                let cell = AtomicU32::from_ptr(pointer.cast());
                let f = |old: u32| Some(new(old.into()) as u32);
                u64::from(cell.fetch_update(SeqCst, SeqCst, f).unwrap_or_else(|x| x))
            }
            _ => {
                let cell = AtomicU64::from_ptr(pointer.cast());
                cell.fetch_update(SeqCst, SeqCst, |old| Some(new(old))).unwrap_or_else(|x| x)
            }
        }
    }
}

impl Block<'_> {
    /// Returns whether it changed anything: a lock that is taken does not, which is how a spinning path is recognised.
    pub(super) fn atomic(&mut self, w: &mut Warp, i: &Instr, a: Atom, m: u32) -> Checked<bool> {
        let p = self.g.program;
        let at = w.regs.addresses(i.a, i.imm, a.address64);
        let each = bytes_of(a.ty);
        let bytes = each * u64::from(a.count);
        let t = self.resolve(w, i, a.space, at, bytes, m)?;
        self.tally_access(&t, bytes, m, AccessKind::Atomic);
        self.release_at(w, &t, m, a.release);
        if self.shadowed(t.space) {
            for l in lanes(m) {
                self.shadow_lane(w, i, &t, l, bytes, AccessKind::Atomic, false)?;
            }
        }
        let wide = each == 8;
        let list = &p.lists[i.list as usize..];
        let count = usize::from(a.count);
        let uses = &list[usize::from(i.defs)..usize::from(i.defs) + count];
        let get = |w: &Warp, r: R, l: usize| match (wide, r.is_none()) {
            (_, true) => 0,
            (true, _) => w.regs.r64(r)[l],
            _ => u64::from(w.regs.r32(r)[l]) & (u64::MAX >> (64 - 8 * each)),
        };
        let mut changed = false;
        let mut out = [[0u64; 32]; 8];
        for l in lanes(m) {
            for k in 0..count {
                let (b, c) = (get(w, uses[k], l), get(w, i.c, l));
                let pointer = t.pointers[l].wrapping_add(k * each as usize);
                // SAFETY: `resolve` found the bytes live and aligned.
                let old = unsafe { update(pointer, a.f, a.ty, b, c) };
                changed |= apply(a.f, a.ty, old, b, c) != old;
                out[k][l] = old;
            }
        }
        self.acquire_at(w, &t, m);
        if changed {
            self.progress = self.executed;
        }
        if t.space == Space::Param {
            return Ok(changed);
        }
        for (k, &d) in list[..usize::from(i.defs)].iter().enumerate() {
            if d.is_none() {
                continue;
            }
            if wide {
                w.regs.put(d, &out[k], m);
            } else {
                w.regs.put(d, &out[k].map(|x| x as u32), m);
            }
        }
        Ok(changed)
    }
}
