//! Where an access goes: addresses to host pointers, checking bounds and alignment on the way.

use super::block::{Block, Checked};
use super::regs::{FULL, lanes};
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

/// The kind of access, for the shadow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    Read,
    Write,
    /// Atomics: require initialised memory, exempt from race checks.
    Atomic,
    /// Volatile and synchronising loads and stores: exempt from race checks.
    StrongRead,
    StrongWrite,
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
pub fn window(address: u64) -> Space {
    // Device allocations are below the windows and host memory above them.
    match address >> 32 {
        w if w == SHARED_WINDOW >> 32 => Space::Shared,
        w if w == LOCAL_WINDOW >> 32 => Space::Local,
        w if w == PARAM_WINDOW >> 32 => Space::Param,
        _ => Space::Global,
    }
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
    ) -> Checked<Target> {
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
    pub(super) fn resolve_global(
        &mut self,
        w: &Warp,
        i: &Instr,
        t: &mut Target,
        bytes: u64,
        m: u32,
    ) -> Checked<()> {
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
            return self.not_too_early(w, i, t, bytes, m);
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
        self.not_too_early(w, i, t, bytes, m)
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
