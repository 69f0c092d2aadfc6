//! Loads and stores: addresses to host pointers, with every check on the way (PTX ISA, data movement and conversion).

use super::block::{Block, Result};
use super::regs::FULL;
use super::shared::Sweep;
use super::tally;
use super::warp::Warp;
use crate::check::{Fault, FaultKind};
use crate::decode::ir::*;
use crate::memory::{Allocation, AllocationInfo};
use crate::ptx::types::Space;
use std::sync::Arc;

/// Where the lanes of one access go.
pub struct Target {
    pub space: Space,
    pub pointers: [*mut u8; 32],
    /// Offset in shared or local memory, or the address itself.
    pub offsets: [u64; 32],
    /// Index of the allocation.
    pub allocations: [u32; 32],
}

/// What an access is, for the shadow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    Read,
    Write,
    /// Atomics: initialised memory wanted, exempt from race checks.
    Atomic,
    /// Volatile and synchronising loads and stores: exempt from race checks.
    StrongRead,
    StrongWrite,
}

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

pub fn space_name(space: Space) -> &'static str {
    match space {
        Space::Shared => "shared",
        Space::Local => "local",
        Space::Param => "param",
        Space::Const => "const",
        _ => "global",
    }
}

#[inline(always)]
fn window(address: u64) -> Space {
    // Device allocations lie below the windows and host memory above them.
    match address >> 32 {
        w if w == SHARED_WINDOW >> 32 => Space::Shared,
        w if w == LOCAL_WINDOW >> 32 => Space::Local,
        w if w == PARAM_WINDOW >> 32 => Space::Param,
        _ => Space::Global,
    }
}

/// The lanes' addresses, from a register and a constant.
#[inline(always)]
pub fn addresses(w: &Warp, base: R, offset: i64, wide: bool) -> [u64; 32] {
    if base.is_none() {
        return [offset as u64; 32];
    }
    let mut out = [0; 32];
    if wide {
        let x = w.regs.r64(base);
        for l in 0..32 {
            out[l] = x[l].wrapping_add_signed(offset);
        }
    } else {
        let x = w.regs.r32(base);
        for l in 0..32 {
            out[l] = u64::from(x[l].wrapping_add(offset as u32));
        }
    }
    out
}

impl Block<'_> {
    /// Checks bounds and alignment of `bytes` bytes in each lane of `m` and finds the host memory.
    #[inline]
    pub(super) fn resolve(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        space: Space,
        mut at: [u64; 32],
        bytes: u64,
        m: u32,
    ) -> Result<Target> {
        let mut space = space;
        if space == Space::Generic {
            let first = m.trailing_zeros() as usize;
            space = window(at[first]);
            if space != Space::Global {
                for l in lanes(m) {
                    at[l] &= WINDOW - 1;
                }
            }
        }
        if at_once(m, &mut at, |at| at.iter().fold(0, |low, &a| low | a)) & (bytes - 1) != 0 {
            return Err(self.misaligned(w, i, space, &at, bytes, m));
        }
        let mut t = Target {
            space,
            pointers: [std::ptr::null_mut(); 32],
            offsets: at,
            allocations: [0; 32],
        };
        match space {
            Space::Shared => {
                let size = self.shared.bytes() as u64;
                let base = self.shared.pointer();
                let highest = at_once(m, &mut at, |at| at.iter().fold(0, |high, &a| high.max(a)));
                if highest > size || bytes > size - highest {
                    let lane =
                        lanes(m).find(|&l| at[l] > size || bytes > size - at[l]).unwrap_or(0);
                    return Err(self.outside(w, i, space, lane, at[lane], bytes));
                }
                t.pointers = at.map(|a| base.wrapping_add(a as usize));
            }
            Space::Local => {
                let size = u64::from(self.g.program.local_bytes);
                let base = w.local.as_mut_ptr();
                for l in lanes(m) {
                    if at[l] > size || bytes > size - at[l] {
                        return Err(self.outside(w, i, space, l, at[l], bytes));
                    }
                    t.pointers[l] = base.wrapping_add(l * size as usize + at[l] as usize);
                }
            }
            Space::Param => {
                let params = &self.g.launch.params;
                let size = params.len() as u64;
                for l in lanes(m) {
                    if at[l] > size || bytes > size - at[l] {
                        return Err(self.outside(w, i, space, l, at[l], bytes));
                    }
                    t.pointers[l] = params.as_ptr().wrapping_add(at[l] as usize).cast_mut();
                }
            }
            _ => self.resolve_global(w, i, &mut t, bytes, m)?,
        }
        Ok(t)
    }

    #[inline]
    fn resolve_global(
        &mut self,
        w: &Warp,
        i: &Instr,
        t: &mut Target,
        bytes: u64,
        m: u32,
    ) -> Result<()> {
        let (low, high) = at_once(m, &mut t.offsets, |at| {
            at.iter().fold((u64::MAX, 0), |(low, high), &a| (low.min(a), high.max(a)))
        });
        let g = self.g;
        let fits = |a: &Arc<Allocation>| {
            low >= a.base && a.contains(low, (high - low).saturating_add(bytes))
        };
        let hit = match g.allocations.get(self.hint) {
            Some(a) if fits(a) => true,
            _ => {
                self.hint = g.allocations.partition_point(|a| a.base <= low).wrapping_sub(1);
                g.allocations.get(self.hint).is_some_and(fits)
            }
        };
        if hit {
            let a = &g.allocations[self.hint];
            t.pointers = t.offsets.map(|at| a.pointer().wrapping_add((at - a.base) as usize));
            t.allocations = [self.hint as u32; 32];
            return Ok(());
        }
        for l in lanes(m) {
            let address = t.offsets[l];
            let at = g.allocations.partition_point(|a| a.base <= address).wrapping_sub(1);
            match g.allocations.get(at) {
                Some(a) if a.contains(address, bytes) => {
                    t.pointers[l] = a.pointer().wrapping_add((address - a.base) as usize);
                    t.allocations[l] = at as u32;
                }
                _ => return Err(self.outside(w, i, t.space, l, address, bytes)),
            }
        }
        Ok(())
    }

    #[cold]
    fn misaligned(
        &self,
        w: &Warp,
        i: &Instr,
        space: Space,
        at: &[u64; 32],
        bytes: u64,
        m: u32,
    ) -> Box<Fault> {
        let lane = lanes(m).find(|&l| at[l] & (bytes - 1) != 0).unwrap_or(0);
        let message =
            format!("an access of {bytes} bytes at an address that is not a multiple of {bytes}");
        self.address_fault(
            FaultKind::Misaligned,
            w,
            i,
            lane as u32,
            message,
            space_name(space),
            at[lane],
        )
    }

    #[cold]
    fn outside(
        &self,
        w: &Warp,
        i: &Instr,
        space: Space,
        lane: usize,
        address: u64,
        bytes: u64,
    ) -> Box<Fault> {
        let name = space_name(space);
        let mut kind = FaultKind::OutOfBounds;
        let mut message = format!("an access of {bytes} bytes outside any allocation");
        if matches!(space, Space::Shared | Space::Local | Space::Param) {
            message = format!("an access of {bytes} bytes outside {name} memory");
        } else if let Some(AllocationInfo { freed: true, base, size, .. }) =
            self.g.memory.nearest(address)
            && address >= base
            && address < base + size
        {
            kind = FaultKind::UseAfterFree;
            message = format!("an access of {bytes} bytes in an allocation that has been freed");
        } else if let Some(AllocationInfo { freed: false, base, size, .. }) =
            self.g.memory.nearest(address)
            && address >= base
            && address < base + size
            && address + bytes <= base + size
        {
            message = "an access of an allocation made after this launch began".into();
        }
        self.address_fault(kind, w, i, lane as u32, message, name, address)
    }

    pub(super) fn tally_access(&mut self, t: &Target, bytes: u64, m: u32, kind: AccessKind) {
        if !self.g.config.counters && self.g.l2.is_none() {
            return;
        }
        let active = u64::from(m.count_ones());
        match t.space {
            Space::Shared => {
                self.tally.shared_requests += 1;
                self.tally.shared_bytes += active * bytes;
                self.tally.conflicts += tally::conflicts(&t.offsets, m, bytes);
            }
            Space::Local => self.tally.local_bytes += active * bytes,
            Space::Param => {}
            _ => {
                match kind {
                    AccessKind::Read | AccessKind::StrongRead => self.tally.global_loads += 1,
                    AccessKind::Write | AccessKind::StrongWrite => self.tally.global_stores += 1,
                    AccessKind::Atomic => self.tally.global_atomics += 1,
                }
                let mut sectors = [0; 64];
                let n = tally::sectors(&t.offsets, m, bytes, &mut sectors);
                self.tally.global_bytes += active * bytes;
                self.tally.sectors += n as u64;
                self.tally.sectors_ideal += (active * bytes).div_ceil(32).min(n as u64);
                if let Some(l2) = &self.g.l2 {
                    let mut l2 = l2.lock().unwrap_or_else(|e| e.into_inner());
                    for &s in &sectors[..n] {
                        if kind != AccessKind::Write && kind != AccessKind::StrongWrite {
                            l2.access(s, false);
                        }
                        if !matches!(kind, AccessKind::Read | AccessKind::StrongRead) {
                            l2.access(s, true);
                        }
                    }
                }
            }
        }
    }

    /// The lanes of `m` whose generic addresses lie in the space of the first: almost always all.
    fn same_space(space: Space, at: &[u64; 32], m: u32) -> u32 {
        if space != Space::Generic {
            return m;
        }
        let first = window(at[m.trailing_zeros() as usize]);
        lanes(m).filter(|&l| window(at[l]) == first).fold(0, |s, l| s | 1 << l)
    }

    pub(super) fn load(&mut self, w: &mut Warp, i: &Instr, mem: Mem, mut m: u32) -> Result<()> {
        let at = addresses(w, i.a, i.imm, mem.address64);
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
    ) -> Result<()> {
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

    pub(super) fn store(&mut self, w: &mut Warp, i: &Instr, mem: Mem, mut m: u32) -> Result<()> {
        let at = addresses(w, i.a, i.imm, mem.address64);
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
    ) -> Result<()> {
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

    /// A strong store or an atomic publishes: what came before it in this block is ordered before whoever takes it over.
    pub(super) fn release_at(&mut self, w: &Warp, t: &Target, m: u32, release: bool) {
        let checks = self.g.config.checks;
        match t.space {
            Space::Shared if checks.shared_races => {
                for l in lanes(m) {
                    let entry = self.atomic_clocks.entry(t.offsets[l] as u32).or_default();
                    self.clocks.release(w.place.warp as usize, entry);
                }
            }
            Space::Global | Space::Generic if checks.global_races && (release || self.fenced) => {
                for l in lanes(m) {
                    self.g.ordering.release(t.offsets[l], self.index);
                }
            }
            _ => {}
        }
    }

    /// The counterpart of [`Self::release_at`]. Other blocks run beside this one: release is noted before the access, acquire
    /// after it, so that what the access saw is never noted too late.
    pub(super) fn acquire_at(&mut self, w: &Warp, t: &Target, m: u32) {
        let checks = self.g.config.checks;
        match t.space {
            Space::Shared if checks.shared_races => {
                for l in lanes(m) {
                    if let Some(entry) = self.atomic_clocks.get(&(t.offsets[l] as u32)) {
                        self.clocks.acquire(w.place.warp as usize, entry);
                    }
                }
            }
            Space::Global | Space::Generic if checks.global_races => {
                for l in lanes(m) {
                    self.g.ordering.acquire(t.offsets[l], self.index);
                }
            }
            _ => {}
        }
    }
}

/// One lane of a register.
#[inline(always)]
fn element(w: &Warp, r: R, wide: bool, lane: usize) -> u64 {
    if wide { w.regs.r64(r)[lane] } else { u64::from(w.regs.r32(r)[lane]) }
}

/// Folds over the addresses of the active lanes. Inactive ones are first set to that of an active lane, so that the
/// fold runs over all 32, as vectors.
#[inline(always)]
fn at_once<T>(m: u32, at: &mut [u64; 32], fold: impl Fn(&[u64; 32]) -> T) -> T {
    if m != FULL {
        let some = at[m.trailing_zeros() as usize];
        for (l, a) in at.iter_mut().enumerate() {
            if m >> l & 1 == 0 {
                *a = some;
            }
        }
    }
    fold(at)
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
