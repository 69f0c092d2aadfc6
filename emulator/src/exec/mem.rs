//! Loads and stores: addresses to host pointers, with every check on the way (PTX ISA 9.7.9.8 to 9.7.9.12).

use super::block::{Block, Result};
use super::global_race;
use super::regs::FULL;
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
    /// Index of the allocation; all lanes share it if `single`.
    allocations: [u32; 32],
    single: bool,
}

/// What an access is, for the shadow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
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
        let mut low = 0;
        for l in lanes(m) {
            low |= at[l];
        }
        if low & (bytes - 1) != 0 {
            return Err(self.misaligned(w, i, space, &at, bytes, m));
        }
        let mut t = Target {
            space,
            pointers: [std::ptr::null_mut(); 32],
            offsets: at,
            allocations: [0; 32],
            single: true,
        };
        match space {
            Space::Shared => {
                let size = self.shared.bytes() as u64;
                let base = self.shared.pointer();
                for l in lanes(m) {
                    if at[l] > size || bytes > size - at[l] {
                        return Err(self.outside(w, i, space, l, at[l], bytes));
                    }
                    t.pointers[l] = base.wrapping_add(at[l] as usize);
                }
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
        let (mut low, mut high) = (u64::MAX, 0);
        for l in lanes(m) {
            low = low.min(t.offsets[l]);
            high = high.max(t.offsets[l]);
        }
        let g = self.g;
        let fits = |a: &Arc<Allocation>| {
            low >= a.base && a.contains(low, (high - low).saturating_add(bytes))
        };
        let hit = match g.allocations.get(self.hint) {
            Some(a) if fits(a) => true,
            _ => {
                self.hint = g
                    .allocations
                    .partition_point(|a| a.base <= low)
                    .wrapping_sub(1);
                g.allocations.get(self.hint).is_some_and(fits)
            }
        };
        if hit {
            let a = &g.allocations[self.hint];
            for l in lanes(m) {
                t.pointers[l] = a.pointer().wrapping_add((t.offsets[l] - a.base) as usize);
            }
            t.allocations = [self.hint as u32; 32];
            return Ok(());
        }
        t.single = false;
        for l in lanes(m) {
            let address = t.offsets[l];
            let at = g
                .allocations
                .partition_point(|a| a.base <= address)
                .wrapping_sub(1);
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
        } else if let Some(AllocationInfo {
            freed: true,
            base,
            size,
            ..
        }) = self.g.memory.nearest(address)
            && address >= base
            && address < base + size
        {
            kind = FaultKind::UseAfterFree;
            message = format!("an access of {bytes} bytes in an allocation that has been freed");
        } else if let Some(AllocationInfo {
            freed: false,
            base,
            size,
            ..
        }) = self.g.memory.nearest(address)
            && address >= base
            && address < base + size
            && address + bytes <= base + size
        {
            message = "an access of an allocation made after this launch began".into();
        }
        self.address_fault(kind, w, i, lane as u32, message, name, address)
    }

    /// Checks and updates the shadow for one lane. For a write, `same` says that it changes nothing.
    pub(super) fn shadow_lane(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        t: &Target,
        lane: usize,
        bytes: u64,
        kind: Kind,
        same: bool,
    ) -> Result<()> {
        let checks = self.g.config.checks;
        let write = matches!(kind, Kind::Write | Kind::StrongWrite);
        let at = t.offsets[lane];
        match t.space {
            Space::Shared => {
                let (offset, n) = (at as usize, bytes as usize);
                if checks.async_copies && self.shared.is_pending(offset, n) {
                    let done = if write { "overwritten" } else { "read" };
                    let message = format!(
                        "shared memory is {done} before the cp.async that fills it was waited for"
                    );
                    return Err(self.address_fault(
                        FaultKind::PendingAsyncCopy,
                        w,
                        i,
                        lane as u32,
                        message,
                        "shared",
                        at,
                    ));
                }
                if write {
                    self.shared.mark_init(offset, n);
                } else {
                    if checks.uninitialised
                        && let Some(first) = self.shared.first_uninit(offset, n)
                    {
                        return Err(self.uninit(w, i, lane, "shared", first as u64));
                    }
                    if kind == Kind::Atomic {
                        self.shared.mark_init(offset, n);
                    }
                }
                if checks.shared_races && matches!(kind, Kind::Read | Kind::Write) {
                    let warp = w.place.warp;
                    let conflict = match kind {
                        Kind::Read => self.shared.read(&self.clocks, warp, lane as u32, offset, n),
                        _ => self
                            .shared
                            .write(&self.clocks, warp, lane as u32, offset, n),
                    };
                    if let Some(c) = conflict
                        && !(same && c.other_wrote)
                    {
                        let [x, y, z] = self.thread(c.warp, c.lane);
                        let message = format!(
                            "this {} conflicts with a {} by thread ({x},{y},{z}): no barrier orders them",
                            if write { "write" } else { "read" },
                            if c.other_wrote { "write" } else { "read" },
                        );
                        return Err(self.address_fault(
                            FaultKind::SharedRace,
                            w,
                            i,
                            lane as u32,
                            message,
                            "shared",
                            at,
                        ));
                    }
                }
            }
            Space::Local => {
                let size = self.g.program.local_bytes as usize;
                let from = lane * size + at as usize;
                let flags = &mut w.local_init[from..from + bytes as usize];
                if write {
                    flags.fill(1);
                } else if checks.uninitialised
                    && let Some(first) = flags.iter().position(|&f| f == 0)
                {
                    return Err(self.uninit(w, i, lane, "local", at + first as u64));
                }
            }
            Space::Param => {}
            _ => {
                let a = &self.g.allocations[t.allocations[lane] as usize];
                let offset = at - a.base;
                if write {
                    a.mark_init(offset, bytes);
                } else {
                    if checks.uninitialised && !a.is_init(offset, bytes) {
                        let first = a.first_uninit(offset, bytes).unwrap_or(offset);
                        return Err(self.uninit(w, i, lane, "global", a.base + first));
                    }
                }
                if checks.global_races && matches!(kind, Kind::Read | Kind::Write) {
                    let shadow = a.race_shadow();
                    let end = offset + bytes;
                    for word in offset / 4..end.div_ceil(4) {
                        let (from, to) = (
                            offset.max(word * 4) - word * 4,
                            end.min(word * 4 + 4) - word * 4,
                        );
                        let mask = (0xf << from) & (0xf >> (4 - to));
                        let conflict = global_race::note(
                            &shadow[word as usize],
                            self.g.epoch,
                            self.index,
                            mask,
                            write,
                        );
                        if let Some(c) = conflict
                            && !(same && c.other_wrote)
                            && !self
                                .g
                                .ordering
                                .ordered(c.block.unwrap_or(0xff_fffe), self.index)
                        {
                            return Err(self.global_conflict(w, i, lane, at, write, c));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    #[cold]
    fn global_conflict(
        &self,
        w: &Warp,
        i: &Instr,
        lane: usize,
        address: u64,
        write: bool,
        c: global_race::Conflict,
    ) -> Box<Fault> {
        let [gx, gy, _] = self.g.launch.grid.map(u64::from);
        let by = match c.block {
            Some(n) => format!("block ({},{},{})", n % gx, n / gx % gy, n / gx / gy),
            None => "other blocks".into(),
        };
        let message = format!(
            "this {} conflicts with a {} by {by}: nothing orders the blocks of a launch",
            if write { "write" } else { "read" },
            if c.other_wrote { "write" } else { "read" },
        );
        self.address_fault(
            FaultKind::GlobalRace,
            w,
            i,
            lane as u32,
            message,
            "global",
            address,
        )
    }

    #[cold]
    fn uninit(
        &self,
        w: &Warp,
        i: &Instr,
        lane: usize,
        space: &'static str,
        address: u64,
    ) -> Box<Fault> {
        let message = "a read of memory that nothing has written";
        self.address_fault(
            FaultKind::UninitialisedRead,
            w,
            i,
            lane as u32,
            message,
            space,
            address,
        )
    }

    /// Whether accesses of this space need the shadow at all.
    #[inline(always)]
    pub(super) fn shadowed(&self, space: Space) -> bool {
        let c = self.g.config.checks;
        match space {
            Space::Shared => c.uninitialised || c.shared_races || c.async_copies,
            Space::Local => c.uninitialised,
            Space::Param => false,
            // Written bytes must be marked even when nothing is checked: a later launch may check them.
            _ => true,
        }
    }

    pub(super) fn tally_access(&mut self, t: &Target, bytes: u64, m: u32, kind: Kind) {
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
                    Kind::Read | Kind::StrongRead => self.tally.global_loads += 1,
                    Kind::Write | Kind::StrongWrite => self.tally.global_stores += 1,
                    Kind::Atomic => self.tally.global_atomics += 1,
                }
                let mut sectors = [0; 64];
                let n = tally::sectors(&t.offsets, m, bytes, &mut sectors);
                self.tally.global_bytes += active * bytes;
                self.tally.sectors += n as u64;
                self.tally.sectors_ideal += (active * bytes).div_ceil(32).min(n as u64);
                if let Some(l2) = &self.g.l2 {
                    let mut l2 = l2.lock().unwrap_or_else(|e| e.into_inner());
                    for &s in &sectors[..n] {
                        if kind != Kind::Write && kind != Kind::StrongWrite {
                            l2.access(s, false);
                        }
                        if !matches!(kind, Kind::Read | Kind::StrongRead) {
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
        lanes(m)
            .filter(|&l| window(at[l]) == first)
            .fold(0, |s, l| s | 1 << l)
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
        let kind = if mem.strong {
            Kind::StrongRead
        } else {
            Kind::Read
        };
        self.tally_access(&t, bytes, m, kind);
        if mem.strong {
            self.acquire_at(w, &t, m);
        }
        if self.shadowed(t.space) {
            self.check_read(w, i, &t, bytes, m, kind)?;
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
                        for l in 0..32 {
                            out[l] = t.pointers[l].add(k * 4).cast::<u32>().read_unaligned();
                        }
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
        Ok(())
    }

    /// The shadow of a plain read by a whole warp.
    #[inline]
    pub(super) fn check_read(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        t: &Target,
        bytes: u64,
        m: u32,
        kind: Kind,
    ) -> Result<()> {
        let checks = self.g.config.checks;
        if !matches!(t.space, Space::Shared | Space::Local | Space::Param) {
            // Nothing to look at where all of an allocation is written and races are not checked.
            if !checks.uninitialised && !checks.global_races {
                return Ok(());
            }
        }
        // Lanes that read the same place need one look.
        let first = m.trailing_zeros() as usize;
        let uniform = lanes(m).all(|l| t.offsets[l] == t.offsets[first]);
        if uniform && t.space != Space::Local {
            return self.shadow_lane(w, i, t, first, bytes, kind, false);
        }
        for l in lanes(m) {
            self.shadow_lane(w, i, t, l, bytes, kind, false)?;
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
        let kind = if mem.strong {
            Kind::StrongWrite
        } else {
            Kind::Write
        };
        self.tally_access(&t, bytes, m, kind);
        if mem.strong {
            self.release_at(w, &t, m, mem.release);
        }
        let list = &p.lists[i.list as usize..i.list as usize + usize::from(mem.count)];
        let shadowed = self.shadowed(t.space);
        for l in lanes(m) {
            let mut data = [0u8; 32];
            for (k, &r) in list.iter().enumerate() {
                let value = if mem.wide {
                    w.regs.r64(r)[l]
                } else {
                    u64::from(w.regs.r32(r)[l])
                };
                data[k * size..(k + 1) * size].copy_from_slice(&value.to_le_bytes()[..size]);
            }
            let data = &data[..bytes as usize];
            if shadowed {
                // SAFETY: `resolve` found `bytes` bytes of live host memory behind each active lane's pointer.
                let same = unsafe { std::slice::from_raw_parts(t.pointers[l], data.len()) } == data;
                self.shadow_lane(w, i, &t, l, bytes, kind, same)?;
            }
            // SAFETY: as above; the register file and `data` are other memory.
            unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), t.pointers[l], data.len()) };
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

/// One element, extended to 64 bits.
///
/// # Safety
/// `size` bytes at `p` must be readable.
#[inline(always)]
unsafe fn read(p: *const u8, size: usize, signed: bool) -> u64 {
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
