//! The mbarrier instructions: init, arrive, expect, complete, test and wait.

use super::block::{Block, Checked};
use super::clocks::MbarClocks;
use super::mbar_object::{COUNT, MbarState};
use super::regs::lanes;
use super::warp::{Next, Warp};
use crate::check::FaultKind;
use crate::decode::ir::*;

impl Block<'_> {
    pub(super) fn mbarrier(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        op: Mbar,
        address64: bool,
        m: u32,
    ) -> Checked<Next> {
        let at = w.regs.addresses(i.a, i.imm, address64).map(|a| a & (WINDOW - 1));
        let operand = |w: &Warp, l: usize| if i.b.is_none() { 0 } else { w.regs.r32(i.b)[l] };
        let mut states = [0u64; 32];
        match op {
            Mbar::PendingCount => {
                let out = w.regs.r64(i.b).map(|s| MbarState(s).pending() as u32);
                w.regs.put(i.d, &out, m);
                return Ok(Next::Step);
            }
            Mbar::Init => {
                for l in lanes(m) {
                    let count = operand(w, l);
                    // Lanes that initialise the same one do it once.
                    let again =
                        lanes(m).take_while(|&other| other < l).any(|other| at[other] == at[l]);
                    if !again && self.mbar_is_valid(w, i, l, at[l])? {
                        let message = "this mbarrier is initialised again without mbarrier.inval";
                        let kind = FaultKind::IllegalInstruction;
                        return Err(self.shared_fault(kind, w, i, l, at[l], message));
                    }
                    if count == 0 || u64::from(count) > COUNT {
                        let message = format!("an mbarrier of {count} arrivals");
                        return Err(self.fault(
                            FaultKind::IllegalInstruction,
                            w,
                            i,
                            l as u32,
                            message,
                        ));
                    }
                    self.mbar_put(w, i, l, at[l], MbarState::new(count))?;
                    self.shared.mark_init(at[l] as usize, 8);
                    let warp = w.place.warp as usize;
                    let made = (warp, self.clocks.of[warp].seen[warp]);
                    let clocks = MbarClocks { made, ..MbarClocks::default() };
                    self.mbar_clocks.insert(at[l] as u32, clocks);
                    self.mbar_answered(at[l] as u32);
                }
            }
            Mbar::Inval => {
                for l in lanes(m) {
                    self.mbar_state(w, i, l, at[l])?;
                    self.mbar_put(w, i, l, at[l], MbarState(0))?;
                    self.mbar_clocks.remove(&(at[l] as u32));
                }
            }
            Mbar::Arrive { drop, no_complete } => {
                for l in lanes(m) {
                    let count = operand(w, l);
                    states[l] = self.mbar_arrive(w, i, l, at[l], count, 0, drop)?;
                    let last = MbarState(states[l]).pending() == u64::from(count);
                    if no_complete && last && MbarState(states[l]).tx() == 0 {
                        let message = "an arrival with .noComplete completes the phase";
                        let kind = FaultKind::IllegalInstruction;
                        return Err(self.shared_fault(kind, w, i, l, at[l], message));
                    }
                }
            }
            Mbar::ArriveExpect { drop } => {
                for l in lanes(m) {
                    let tx = i64::from(operand(w, l));
                    states[l] = self.mbar_arrive(w, i, l, at[l], 1, tx, drop)?;
                }
            }
            Mbar::ExpectTx | Mbar::CompleteTx => {
                for l in lanes(m) {
                    let tx = i64::from(operand(w, l));
                    let tx = if op == Mbar::ExpectTx { tx } else { -tx };
                    self.mbar_transact(w, i, l, at[l], tx)?;
                }
            }
            Mbar::Test { parity, .. } => return self.mbar_test(w, i, parity, &at, m),
        }
        if !i.d.is_none() {
            w.regs.put(i.d, &states, m);
        }
        Ok(Next::Step)
    }

    /// test_wait and try_wait. While a copy is owed to an mbarrier, a warp's first test fails, and its second makes the
    /// copies land.
    fn mbar_test(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        parity: bool,
        at: &[u64; 32],
        m: u32,
    ) -> Checked<Next> {
        let warp = w.place.warp;
        let mut done = 0u32;
        // An instruction tests once, however many of its lanes name the mbarrier.
        let mut first = Vec::new();
        for l in lanes(m) {
            let waited = match parity {
                true => u64::from(w.regs.r32(i.b)[l]) & 1,
                false => MbarState(w.regs.r64(i.b)[l]).phase(),
            };
            let mut state = self.mbar_state(w, i, l, at[l])?;
            let mbar = at[l] as u32;
            if state.phase() == waited && !first.contains(&mbar) && self.owes(w, at[l]) {
                if self.bulk.asked.insert((mbar, warp)) {
                    first.push(mbar);
                } else {
                    self.land_until(w, i, l, at[l], waited)?;
                    state = self.mbar_state(w, i, l, at[l])?;
                }
            }
            if state.phase() != waited {
                done |= 1 << l;
                if let Some(clocks) = self.mbar_clocks.get(&mbar) {
                    self.clocks.acquire(warp as usize, &clocks.complete);
                }
            }
        }
        w.regs.set_pred(i.pd, done, m);
        if done == m {
            w.refused = (0, 0);
            return Ok(Next::Step);
        }
        let (since, times) = w.refused;
        w.refused = (self.progress, if since == self.progress { times + 1 } else { 1 });
        Ok(Next::Yield)
    }

    /// Whether copies have yet to land on an mbarrier.
    fn owes(&self, w: &Warp, at: u64) -> bool {
        self.bulk.owes(at as u32)
            || w.copies.owes(at)
            || self.warps.iter().any(|other| other.copies.owes(at))
    }

    /// Lands copies on an mbarrier, the oldest first, until its phase is complete or nothing is owed.
    fn land_until(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        lane: usize,
        at: u64,
        waited: u64,
    ) -> Checked<()> {
        while self.mbar_state(w, i, lane, at)?.phase() == waited {
            if !self.land_load(w, i, at as u32)? {
                return self.land_for(w, i, at);
            }
        }
        Ok(())
    }
}
