//! What each access does to the shadow of the memory it touches, and the checks that read it.

use super::access::{AccessKind, Target, space_name};
use super::block::{Block, Checked};
use super::global_race::{self, Other};
use super::regs::lanes;
use super::shared::Sweep;
use super::warp::Warp;
use crate::check::{Fault, FaultKind};
use crate::config::Checks;
use crate::decode::ir::*;
use crate::memory::Allocation;
use crate::ptx::types::Space;

/// Each shadow word that `bytes` bytes at `offset` touch, with the mask of its bytes.
pub(super) fn shadow_words(offset: u64, bytes: u64) -> impl Iterator<Item = (usize, u64)> {
    let end = offset + bytes;
    (offset / 4..end.div_ceil(4)).map(move |word| {
        let (from, to) = (offset.max(word * 4) - word * 4, end.min(word * 4 + 4) - word * 4);
        (word as usize, (0xf << from) & (0xf >> (4 - to)))
    })
}

impl Block<'_> {
    /// Checks and updates the shadow for one lane. For a write, `same` says that it changes nothing.
    #[expect(clippy::too_many_arguments)]
    pub(super) fn shadow_lane(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        t: &Target,
        lane: usize,
        bytes: u64,
        kind: AccessKind,
        same: bool,
    ) -> Checked<()> {
        let checks = self.g.config.checks;
        let write = matches!(kind, AccessKind::Write | AccessKind::StrongWrite);
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
                    if kind == AccessKind::Atomic {
                        self.shared.mark_init(offset, n);
                    }
                }
                let plain = matches!(kind, AccessKind::Read | AccessKind::Write);
                let (p, strong_reads) = (self.g.program, kind == AccessKind::StrongRead);
                let asynchronous = (p.has_products || p.has_bulk_stores) && !strong_reads;
                if checks.shared_races && (plain || asynchronous) {
                    let (warp, on) = (w.place.warp, lane as u32);
                    let conflict = match kind {
                        AccessKind::Read => self.shared.read(&self.clocks, warp, on, offset, n),
                        AccessKind::Write => self.shared.write(&self.clocks, warp, on, offset, n),
                        _ if self.clocks.exhausted => None,
                        _ => {
                            let known = &self.clocks.of[warp as usize];
                            self.shared.strong_write(known, warp, on, offset, n)
                        }
                    };
                    if let Some(c) = conflict
                        && !(same && c.other_wrote)
                    {
                        let message = format!(
                            "this {} conflicts with a {} by {}: no barrier orders them",
                            if write { "write" } else { "read" },
                            if c.other_wrote { "write" } else { "read" },
                            self.who(c),
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
                if checks.global_races {
                    match kind {
                        AccessKind::Read | AccessKind::Write => {
                            self.note_global(w, i, lane, a, at, bytes, same, write)?;
                        }
                        _ => self.not_owed(w, i, lane, a, at, bytes)?,
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes a plain access of global memory; reports any conflict.
    #[expect(clippy::too_many_arguments)]
    pub(super) fn note_global(
        &self,
        w: &Warp,
        i: &Instr,
        lane: usize,
        a: &Allocation,
        at: u64,
        bytes: u64,
        same: bool,
        write: bool,
    ) -> Checked<()> {
        let shadow = a.race_shadow();
        for (word, mask) in shadow_words(at - a.base, bytes) {
            let cell = &shadow[word];
            let Some(c) = global_race::note(cell, self.g.epoch, self.index, mask, write) else {
                continue;
            };
            let harmless = match c.other {
                Other::Stores | Other::Late => false,
                other => {
                    same && other == Other::Wrote
                        || self.g.ordering.ordered(c.block.unwrap_or(0xff_fffe), self.index)
                }
            };
            if !harmless {
                return Err(self.global_conflict(w, i, lane, at, write, c));
            }
        }
        Ok(())
    }

    /// Reports an atomic or strong access to something a bulk store has yet to write.
    fn not_owed(
        &self,
        w: &Warp,
        i: &Instr,
        lane: usize,
        a: &Allocation,
        at: u64,
        bytes: u64,
    ) -> Checked<()> {
        let words = (at - a.base) as usize / 4..(at - a.base + bytes).div_ceil(4) as usize;
        if global_race::owed(&a.race_shadow()[words], self.g.epoch) {
            return Err(self.store_pending(w, i, lane, at, "accessed"));
        }
        Ok(())
    }

    #[cold]
    fn store_pending(&self, w: &Warp, i: &Instr, lane: usize, at: u64, done: &str) -> Box<Fault> {
        let message = format!(
            "global memory is {done} while a bulk store is on its way there: no cp.async.bulk.wait_group (without .read) comes first"
        );
        let kind = FaultKind::PendingAsyncCopy;
        self.address_fault(kind, w, i, lane as u32, message, "global", at)
    }

    #[cold]
    fn global_conflict(
        &self,
        w: &Warp,
        i: &Instr,
        lane: usize,
        address: u64,
        write: bool,
        c: global_race::BlockConflict,
    ) -> Box<Fault> {
        if c.other == Other::Stores {
            return self.store_pending(
                w,
                i,
                lane,
                address,
                if write { "overwritten" } else { "read" },
            );
        }
        if c.other == Other::Late {
            let message = "another block's bulk store has written this, and that block has ended without waiting for it (cp.async.bulk.wait_group without .read): nothing orders them";
            let kind = FaultKind::GlobalRace;
            return self.address_fault(kind, w, i, lane as u32, message, "global", address);
        }
        let [gx, gy, _] = self.g.launch.grid.map(u64::from);
        let by = match c.block {
            Some(n) => format!("block ({},{},{})", n % gx, n / gx % gy, n / gx / gy),
            None => "other blocks".into(),
        };
        let message = format!(
            "this {} conflicts with a {} by {by}: nothing orders the blocks of a launch",
            if write { "write" } else { "read" },
            if c.other == Other::Wrote { "write" } else { "read" },
        );
        self.address_fault(FaultKind::GlobalRace, w, i, lane as u32, message, "global", address)
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
        self.address_fault(FaultKind::UninitialisedRead, w, i, lane as u32, message, space, address)
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

    /// The shadow of a plain read by a whole warp.
    #[inline]
    pub(super) fn check_read(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        t: &Target,
        bytes: u64,
        m: u32,
        kind: AccessKind,
    ) -> Checked<()> {
        let checks = self.g.config.checks;
        if !matches!(t.space, Space::Shared | Space::Local | Space::Param) {
            // Nothing to check if all of an allocation is written and races are not checked.
            if !checks.uninitialised && !checks.global_races {
                return Ok(());
            }
        }
        // Lanes that read the same place need only one look.
        let first = m.trailing_zeros() as usize;
        let uniform = lanes(m).all(|l| t.offsets[l] == t.offsets[first]);
        if uniform && t.space != Space::Local {
            return self.shadow_lane(w, i, t, first, bytes, kind, false);
        }
        if kind == AccessKind::Read && self.sweep_shared(w, t, bytes, m, Sweep::Read) {
            return Ok(());
        }
        if kind == AccessKind::Read && self.sweep_global(t, bytes, m) {
            return Ok(());
        }
        for l in lanes(m) {
            self.shadow_lane(w, i, t, l, bytes, kind, false)?;
        }
        Ok(())
    }

    /// [`Self::check_read`] for a load that only copies: unwritten bytes may move within local memory.
    pub(super) fn check_copied(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        t: &Target,
        m: u32,
    ) -> Checked<()> {
        let Op::Ld(mem) = i.op else { return Ok(()) };
        let list = &self.g.program.lists[i.list as usize..][..usize::from(mem.count)];
        for (_, undefined) in w.undefined.iter_mut().filter(|(r, _)| list.contains(r)) {
            lanes(m).for_each(|l| undefined[l] = 0);
        }
        w.undefined.retain(|(_, bytes)| *bytes != [0; 32]);
        let bytes = usize::from(mem.bytes);
        if t.space != Space::Local {
            let all = (bytes * list.len()) as u64;
            return self.check_read(w, i, t, all, m, AccessKind::Read);
        }
        if !self.g.config.checks.uninitialised {
            return Ok(());
        }
        let size = self.g.program.local_bytes as usize;
        for (k, &r) in list.iter().enumerate() {
            let mut unwritten = [0; 32];
            for l in lanes(m) {
                let from = l * size + t.offsets[l] as usize + k * bytes;
                let written = w.local_init[from..from + bytes].iter().zip(0..);
                unwritten[l] = written.fold(0, |s, (&yes, bit)| s | (1 - yes) << bit);
            }
            if unwritten != [0; 32] && !r.is_none() {
                w.undefined.push((r, unwritten));
            }
        }
        Ok(())
    }

    /// The other end of such a copy: in local memory the place counts as unwritten, elsewhere it is a defect.
    pub(super) fn store_undefined(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        t: &Target,
        m: u32,
    ) -> Checked<()> {
        let Op::St(mem) = i.op else { return Ok(()) };
        let list = &self.g.program.lists[i.list as usize..][..usize::from(mem.count)];
        let bytes = usize::from(mem.bytes);
        let size = self.g.program.local_bytes as usize;
        for (k, r) in list.iter().enumerate() {
            let Some((_, unwritten)) = w.undefined.iter().find(|(u, _)| u == r) else {
                continue;
            };
            for l in lanes(m).filter(|&l| unwritten[l] != 0) {
                if t.space != Space::Local {
                    let message =
                        "a store of what was read from local memory that nothing has written";
                    return Err(self.address_fault(
                        FaultKind::UninitialisedRead,
                        w,
                        i,
                        l as u32,
                        message,
                        space_name(t.space),
                        t.offsets[l],
                    ));
                }
                let from = l * size + t.offsets[l] as usize + k * bytes;
                for (bit, written) in w.local_init[from..from + bytes].iter_mut().enumerate() {
                    *written &= !(unwritten[l] >> bit) & 1;
                }
            }
        }
        Ok(())
    }

    /// Whether the fast path finds a plain access of shared memory clean, and notes it.
    #[inline]
    pub(super) fn sweep_shared(
        &mut self,
        w: &Warp,
        t: &Target,
        bytes: u64,
        m: u32,
        how: Sweep,
    ) -> bool {
        t.space == Space::Shared
            && self.g.config.checks
                == Checks { global_races: self.g.config.checks.global_races, ..Checks::ALL }
            && self.shared.sweep(&self.clocks, w.place.warp, &t.offsets, m, bytes, how)
    }

    /// Whether the fast path finds a plain read of whole words clean, and notes it: all of the allocation is written,
    /// and none of these words in this launch.
    #[inline]
    pub(super) fn sweep_global(&self, t: &Target, bytes: u64, m: u32) -> bool {
        let first = t.allocations[m.trailing_zeros() as usize];
        let apart = lanes(m).any(|l| t.allocations[l] != first);
        if apart || !matches!(t.space, Space::Global | Space::Const) || !bytes.is_multiple_of(4) {
            return false;
        }
        let a = &self.g.allocations[first as usize];
        if self.g.config.checks.uninitialised && !a.is_all_init() {
            return false;
        }
        if !self.g.config.checks.global_races {
            return true;
        }
        let shadow = a.race_shadow();
        lanes(m).all(|l| {
            let from = ((t.offsets[l] - a.base) / 4) as usize;
            let cells = &shadow[from..from + bytes as usize / 4];
            global_race::note_reads(cells, self.g.epoch, self.index)
        })
    }
}
