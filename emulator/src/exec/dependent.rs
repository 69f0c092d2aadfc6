//! Programmatic dependent launches: what the previous launch uses must not be touched before griddepcontrol.wait. A launch
//! that never waits may end before the one before it.

use super::access::Target;
use super::block::{Block, Checked};
use super::global_race;
use super::regs::lanes;
use super::warp::Warp;
use crate::check::FaultKind;
use crate::decode::ir::{Instr, Op};
use std::sync::atomic::Ordering::Relaxed;

impl Block<'_> {
    pub(super) fn grid_wait(&mut self, w: &Warp) {
        if self.g.after.is_some() {
            self.g.waited.store(true, Relaxed);
            let warp = w.place.warp as usize;
            self.grid_waits.push((warp, self.clocks.of[warp].seen[warp]));
            self.clocks.bump(warp);
        }
    }

    /// Reports a global memory access that comes before the wait it needs.
    #[inline]
    pub(super) fn not_too_early(
        &self,
        w: &Warp,
        i: &Instr,
        t: &Target,
        bytes: u64,
        m: u32,
    ) -> Checked<()> {
        match self.g.after {
            None => Ok(()),
            Some(before) => self.behind_its_wait(w, i, t, bytes, m, before),
        }
    }

    #[cold]
    fn behind_its_wait(
        &self,
        w: &Warp,
        i: &Instr,
        t: &Target,
        bytes: u64,
        m: u32,
        before: u64,
    ) -> Checked<()> {
        let seen = &self.clocks.of[w.place.warp as usize].seen;
        let waited = self.grid_waits.iter().any(|&(warp, clock)| seen[warp] >= clock);
        if waited && self.g.loose.is_empty() || !self.g.config.checks.global_races {
            return Ok(());
        }
        let write = matches!(i.op, Op::St(_));
        for l in lanes(m) {
            let a = &self.g.allocations[t.allocations[l] as usize];
            let from = t.offsets[l] - a.base;
            let words = (from / 4) as usize..(from + bytes).div_ceil(4) as usize;
            let cells = &a.race_shadow()[words];
            let touched = |by: u64| match write {
                true => global_race::touched(cells, by),
                false => global_race::written(cells, by),
            };
            let message = if !waited && touched(before) {
                if global_race::written(cells, before) {
                    "the launch before has written this, and may not have ended: no griddepcontrol.wait comes first"
                } else {
                    "the launch before has read this, and may not have ended: no griddepcontrol.wait comes first"
                }
            } else if self.g.loose.iter().any(|&by| touched(by)) {
                "an earlier launch has used this, and may not have ended: a launch since then has run no griddepcontrol.wait"
            } else {
                continue;
            };
            let kind = FaultKind::GlobalRace;
            let at = t.offsets[l];
            return Err(self.address_fault(kind, w, i, l as u32, message, "global", at));
        }
        Ok(())
    }
}
