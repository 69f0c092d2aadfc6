//! ld and st (PTX ISA, data movement and conversion).

use super::access::{AccessKind, window};
use super::block::{Block, Checked};
use super::regs::{FULL, lanes};
use super::shared::Sweep;
use super::warp::Warp;
use crate::check::FaultKind;
use crate::decode::ir::*;
use crate::ptx::types::Space;

impl Block<'_> {
    /// The lanes of `m` whose generic addresses are in the same space as the first: almost always all.
    fn same_space(space: Space, at: &[u64; 32], m: u32) -> u32 {
        if space != Space::Generic {
            return m;
        }
        let first = window(at[m.trailing_zeros() as usize]);
        lanes(m).filter(|&l| window(at[l]) == first).fold(0, |s, l| s | 1 << l)
    }

    pub(super) fn load(&mut self, w: &mut Warp, i: &Instr, mem: Mem, mut m: u32) -> Checked<()> {
        let at = w.regs.addresses(i.a, i.imm, mem.address64);
        while m != 0 {
            let part = Self::same_space(mem.space, &at, m);
            self.load_part(w, i, mem, at, part)?;
            m &= !part;
        }
        Ok(())
    }

    fn load_part(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        mem: Mem,
        at: [u64; 32],
        m: u32,
    ) -> Checked<()> {
        let p = self.g.program;
        let bytes = u64::from(mem.bytes) * u64::from(mem.count);
        let t = self.resolve(w, i, mem.space, at, bytes, m)?;
        let kind = if mem.strong { AccessKind::StrongRead } else { AccessKind::Read };
        self.tally_access(&t, bytes, m, kind);
        if self.shadowed(t.space) {
            match mem.copied {
                true => self.check_copied(w, i, &t, m)?,
                false => self.check_read(w, i, &t, bytes, m, kind)?,
            }
        }
        let list = &p.lists[i.list as usize..i.list as usize + usize::from(mem.count)];
        let size = usize::from(mem.bytes);
        for (k, &r) in list.iter().enumerate() {
            if r.is_none() {
                continue;
            }
            // SAFETY: `resolve` found `bytes` bytes of live host memory behind each active lane's pointer.
            unsafe {
                if size == 4 && !mem.wide {
                    let mut out = [0u32; 32];
                    if m == FULL {
                        out = t.pointers.map(|p| p.add(k * 4).cast::<u32>().read_unaligned());
                    } else {
                        for l in lanes(m) {
                            out[l] = t.pointers[l].add(k * 4).cast::<u32>().read_unaligned();
                        }
                    }
                    w.regs.put(r, &out, m);
                } else {
                    let mut out = [0u64; 32];
                    for l in lanes(m) {
                        out[l] = read(t.pointers[l].add(k * size), size, mem.signed);
                    }
                    if mem.wide {
                        w.regs.put(r, &out, m);
                    } else {
                        w.regs.put(r, &out.map(|x| x as u32), m);
                    }
                }
            }
        }
        if mem.strong {
            self.acquire_at(w, &t, m);
        }
        Ok(())
    }

    pub(super) fn store(&mut self, w: &mut Warp, i: &Instr, mem: Mem, mut m: u32) -> Checked<()> {
        let at = w.regs.addresses(i.a, i.imm, mem.address64);
        while m != 0 {
            let part = Self::same_space(mem.space, &at, m);
            self.store_part(w, i, mem, at, part)?;
            m &= !part;
        }
        Ok(())
    }

    fn store_part(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        mem: Mem,
        at: [u64; 32],
        m: u32,
    ) -> Checked<()> {
        let p = self.g.program;
        let size = usize::from(mem.bytes);
        let bytes = u64::from(mem.bytes) * u64::from(mem.count);
        let t = self.resolve(w, i, mem.space, at, bytes, m)?;
        if t.space == Space::Param {
            let lane = m.trailing_zeros();
            let message = "kernel parameters cannot be written";
            return Err(self.address_fault(
                FaultKind::IllegalInstruction,
                w,
                i,
                lane,
                message,
                "param",
                at[lane as usize],
            ));
        }
        self.progress = self.executed;
        let kind = if mem.strong { AccessKind::StrongWrite } else { AccessKind::Write };
        self.tally_access(&t, bytes, m, kind);
        if mem.strong {
            self.release_at(w, &t, m, mem.release);
        } else if t.space == Space::Global {
            self.wrote_global(&t, bytes, m);
        }
        let list = &p.lists[i.list as usize..i.list as usize + usize::from(mem.count)];
        let shadowed = self.shadowed(t.space)
            && !(kind == AccessKind::Write && self.sweep_shared(w, &t, bytes, m, Sweep::Write));
        for l in lanes(m) {
            let to = |k: usize| t.pointers[l].wrapping_add(k * size);
            if shadowed {
                let same = list.iter().enumerate().all(|(k, &r)| {
                    // SAFETY: `resolve` found `bytes` bytes of live host memory behind each active lane's pointer.
                    let old = unsafe { read(to(k), size, false) };
                    old == element(w, r, mem.wide, l) & (u64::MAX >> (64 - 8 * size))
                });
                self.shadow_lane(w, i, &t, l, bytes, kind, same)?;
            }
            for (k, &r) in list.iter().enumerate() {
                // SAFETY: as above; the register file is other memory.
                unsafe { write(to(k), size, element(w, r, mem.wide, l)) };
            }
        }
        if mem.copied && !w.undefined.is_empty() {
            self.store_undefined(w, i, &t, m)?;
        }
        Ok(())
    }
}

/// One lane of a register.
#[inline(always)]
fn element(w: &Warp, r: R, wide: bool, lane: usize) -> u64 {
    if wide { w.regs.r64(r)[lane] } else { u64::from(w.regs.r32(r)[lane]) }
}

/// Stores the low `size` bytes of a value.
///
/// # Safety
/// `size` bytes at `p` must be writable.
#[inline(always)]
pub(super) unsafe fn write(p: *mut u8, size: usize, value: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        match size {
            1 => p.write(value as u8),
            2 => p.cast::<u16>().write_unaligned(value as u16),
            4 => p.cast::<u32>().write_unaligned(value as u32),
            _ => p.cast::<u64>().write_unaligned(value),
        }
    }
}

/// One element, extended to 64 bits.
///
/// # Safety
/// `size` bytes at `p` must be readable.
#[inline(always)]
pub(super) unsafe fn read(p: *const u8, size: usize, signed: bool) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        match (size, signed) {
            (1, false) => u64::from(p.read()),
            (1, true) => i64::from(p.cast::<i8>().read()) as u64,
            (2, false) => u64::from(p.cast::<u16>().read_unaligned()),
            (2, true) => i64::from(p.cast::<i16>().read_unaligned()) as u64,
            (4, false) => u64::from(p.cast::<u32>().read_unaligned()),
            (4, true) => i64::from(p.cast::<i32>().read_unaligned()) as u64,
            _ => p.cast::<u64>().read_unaligned(),
        }
    }
}
