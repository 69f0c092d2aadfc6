//! cp.async. The bytes land at the wait, as late as possible, so that a missing wait shows.

use super::access::AccessKind;
use super::block::{Block, Checked};
use super::pending::{PendingArrival, PendingCopy};
use super::regs::lanes;
use super::shared::Sweep;
use super::warp::Warp;
use crate::check::FaultKind;
use crate::config::Checks;
use crate::decode::ir::*;
use crate::ptx::types::Space;

impl Block<'_> {
    pub(super) fn cp_async(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        bytes: u8,
        shared64: bool,
        m: u32,
    ) -> Checked<()> {
        let to = w.regs.addresses(i.a, i.imm, shared64);
        let from = *w.regs.r64(i.b);
        let n = u64::from(bytes);
        let ignore = if i.ps.is_none() { 0 } else { w.regs.pred(i.ps) };
        let mut length = [bytes; 32];
        for l in lanes(m) {
            if ignore >> l & 1 != 0 {
                length[l] = 0;
            } else if !i.c.is_none() {
                let size = w.regs.r32(i.c)[l];
                if size > u32::from(bytes) {
                    let message = format!("cp.async reads {size} bytes into {bytes}");
                    return Err(self.fault(FaultKind::IllegalInstruction, w, i, l as u32, message));
                }
                length[l] = size as u8;
            }
        }
        let target = self.resolve(w, i, Space::Shared, to.map(|a| a & (WINDOW - 1)), n, m)?;
        let reading = lanes(m).filter(|&l| length[l] > 0).fold(0u32, |s, l| s | 1 << l);
        let mut pointers = [std::ptr::null(); 32];
        if reading != 0 {
            // A short copy reads only its first bytes: those must exist, and all of it must be aligned.
            let full = lanes(reading).all(|l| length[l] == bytes);
            let source = if full {
                let source = self.resolve(w, i, Space::Global, from, n, reading)?;
                self.tally_access(&source, n, reading, AccessKind::Read);
                self.check_read(w, i, &source, n, reading, AccessKind::Read)?;
                source.pointers
            } else {
                let mut out = [std::ptr::null_mut(); 32];
                for l in lanes(reading) {
                    if from[l] & (n - 1) != 0 {
                        let message = format!(
                            "a cp.async of {n} bytes from an address that is not a multiple of {n}"
                        );
                        return Err(self.address_fault(
                            FaultKind::Misaligned,
                            w,
                            i,
                            l as u32,
                            message,
                            "global",
                            from[l],
                        ));
                    }
                    for k in 0..u64::from(length[l]) {
                        let source =
                            self.resolve(w, i, Space::Global, [from[l] + k; 32], 1, 1 << l)?;
                        self.check_read(w, i, &source, 1, 1 << l, AccessKind::Read)?;
                        if k == 0 {
                            out[l] = source.pointers[l];
                        }
                    }
                }
                out
            };
            pointers = source.map(|p| p.cast_const());
        }
        if self.g.config.counters {
            self.tally.async_copies += 1;
            self.tally.shared_requests += 1;
            self.tally.shared_bytes += n * u64::from(m.count_ones());
            self.tally.conflicts += super::tally::conflicts(&target.offsets, m, n);
        }
        if self.g.config.checks.async_copies {
            for l in lanes(m) {
                self.shared.set_pending(target.offsets[l] as usize, bytes.into(), true);
            }
        }
        // Lanes that have committed different numbers of groups get separate entries.
        let mut rest = m;
        while rest != 0 {
            let group = w.copies.committed[rest.trailing_zeros() as usize];
            let mask = lanes(rest)
                .filter(|&l| w.copies.committed[l] == group)
                .fold(0u32, |s, l| s | 1 << l);
            rest &= !mask;
            let to = target.offsets.map(|a| a as u32);
            w.copies.pending.push(PendingCopy {
                mask,
                group,
                number: w.copies.issued,
                bytes,
                to,
                from: pointers,
                length,
            });
        }
        w.copies.issued += 1;
        Ok(())
    }

    pub(super) fn cp_async_wait(&mut self, w: &mut Warp, i: &Instr, m: u32) -> Checked<()> {
        let keep = i.imm;
        self.land(w, i, m, |committed, copy| {
            keep < 0 || i64::from(copy.group) < i64::from(committed) - keep
        })?;
        self.arrive_where_landed(w, i)
    }

    /// Lands the copies that `due` accepts, given how many groups their lane has committed.
    fn land(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        m: u32,
        due: impl Fn(u32, &PendingCopy) -> bool,
    ) -> Checked<()> {
        let mut pending = std::mem::take(&mut w.copies.pending);
        let checks = self.g.config.checks;
        let shadowed = self.shadowed(Space::Shared);
        let base = self.shared.pointer();
        for copy in &mut pending {
            let now = lanes(copy.mask & m)
                .filter(|&l| due(w.copies.committed[l], copy))
                .fold(0u32, |s, l| s | 1 << l);
            copy.mask &= !now;
            let bytes = usize::from(copy.bytes);
            let offsets = copy.to.map(u64::from);
            let quick = checks == Checks { global_races: checks.global_races, ..Checks::ALL }
                && self.shared.sweep(
                    &self.clocks,
                    w.place.warp,
                    &offsets,
                    now,
                    bytes as u64,
                    Sweep::Land,
                );
            for l in lanes(now) {
                let offset = copy.to[l] as usize;
                let length = usize::from(copy.length[l]);
                let to = base.wrapping_add(offset);
                // SAFETY: both sides were resolved when the copy was issued; allocations outlive the launch.
                unsafe {
                    if length == 16 {
                        let row = copy.from[l].cast::<[u8; 16]>().read();
                        to.cast::<[u8; 16]>().write(row);
                    } else {
                        if length > 0 {
                            std::ptr::copy_nonoverlapping(copy.from[l], to, length);
                        }
                        std::ptr::write_bytes(to.add(length), 0, bytes - length);
                    }
                }
                if quick || !shadowed {
                    continue;
                }
                if checks.async_copies {
                    self.shared.set_pending(offset, bytes, false);
                }
                self.shared.mark_init(offset, bytes);
                if checks.shared_races
                    && let Some(c) =
                        self.shared.write(&self.clocks, w.place.warp, l as u32, offset, bytes)
                    && !(c.other_wrote && c.agent == w.place.warp)
                {
                    let message = format!(
                        "the cp.async that lands here conflicts with a {} by {}: no barrier orders them",
                        if c.other_wrote { "write" } else { "read" },
                        self.who(c)
                    );
                    return Err(self.address_fault(
                        FaultKind::SharedRace,
                        w,
                        i,
                        l as u32,
                        message,
                        "shared",
                        offset as u64,
                    ));
                }
            }
        }
        pending.retain(|c| c.mask != 0);
        w.copies.pending = pending;
        Ok(())
    }

    /// cp.async.mbarrier.arrive: an arrival once all earlier copies of these lanes have landed.
    pub(super) fn cp_async_arrive(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        noinc: bool,
        address64: bool,
        m: u32,
    ) -> Checked<()> {
        let at = w.regs.addresses(i.a, i.imm, address64).map(|a| a & (WINDOW - 1));
        if !noinc {
            for l in lanes(m) {
                self.mbar_raise(w, i, l, at[l])?;
            }
        }
        w.copies.arrivals.push(PendingArrival { mask: m, after: w.copies.issued, at });
        self.arrive_where_landed(w, i)
    }

    /// The arrivals of lanes whose earlier copies have all landed.
    fn arrive_where_landed(&mut self, w: &mut Warp, i: &Instr) -> Checked<()> {
        let mut arrivals = std::mem::take(&mut w.copies.arrivals);
        for arrival in &mut arrivals {
            let earlier = w.copies.pending.iter().filter(|c| c.number < arrival.after);
            let owing = earlier.fold(0, |s, c| s | c.mask);
            let ready = arrival.mask & !owing;
            arrival.mask &= owing;
            for l in lanes(ready) {
                self.mbar_arrive(w, i, l, arrival.at[l], 1, 0, false)?;
            }
        }
        arrivals.retain(|a| a.mask != 0);
        w.copies.arrivals = arrivals;
        Ok(())
    }

    /// Someone waits for the mbarrier at `at`: the copies whose arrival it waits for land, from any warp.
    pub(super) fn land_for(&mut self, w: &mut Warp, i: &Instr, at: u64) -> Checked<()> {
        self.land_of(w, i, at)?;
        for n in 0..self.warps.len() {
            if self.warps[n].copies.owes_arrivals() {
                let mut other = std::mem::take(&mut self.warps[n]);
                let landed = self.land_of(&mut other, i, at);
                self.warps[n] = other;
                landed?;
            }
        }
        Ok(())
    }

    fn land_of(&mut self, w: &mut Warp, i: &Instr, at: u64) -> Checked<()> {
        // Only the oldest: a later one may belong to the next phase.
        let oldest = w.copies.arrivals.iter().find_map(|a| {
            let here = lanes(a.mask).filter(|&l| a.at[l] == at);
            let here = here.fold(0u32, |s, l| s | 1 << l);
            (here != 0).then_some((here, a.after))
        });
        if let Some((lanes, after)) = oldest {
            self.land(w, i, lanes, |_, copy| copy.number < after)?;
            self.arrive_where_landed(w, i)?;
        }
        Ok(())
    }
}
