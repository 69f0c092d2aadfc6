//! The mbarrier instructions: init, arrive, expect, complete, test and wait.

use super::block::{Block, Checked};
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
                    self.mbar_clocks.remove(&(at[l] as u32));
                }
            }
            Mbar::Inval => {
                for l in lanes(m) {
                    self.mbar_state(w, i, l, at[l])?;
                    self.mbar_put(w, i, l, at[l], MbarState(0))?;
                }
            }
            Mbar::Arrive { drop, .. } => {
                for l in lanes(m) {
                    let count = operand(w, l);
                    states[l] = self.mbar_arrive(w, i, l, at[l], count, 0, drop)?;
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
                    let state = self.mbar_state(w, i, l, at[l])?;
                    let next = state.with(state.pending(), state.expected(), state.tx() + tx);
                    let (next, complete) =
                        if op == Mbar::CompleteTx { next.settle() } else { (next, false) };
                    self.mbar_put(w, i, l, at[l], next)?;
                    if complete && let Some(clocks) = self.mbar_clocks.get_mut(&(at[l] as u32)) {
                        clocks.complete = clocks.open;
                    }
                }
            }
            Mbar::Test { parity, .. } => {
                let mut done = 0u32;
                for l in lanes(m) {
                    let waited = match parity {
                        true => u64::from(w.regs.r32(i.b)[l]) & 1,
                        false => MbarState(w.regs.r64(i.b)[l]).phase(),
                    };
                    let mut state = self.mbar_state(w, i, l, at[l])?;
                    if state.phase() == waited {
                        self.land_for(w, i, at[l])?;
                        state = self.mbar_state(w, i, l, at[l])?;
                    }
                    if state.phase() != waited {
                        done |= 1 << l;
                        if let Some(clocks) = self.mbar_clocks.get(&(at[l] as u32)) {
                            self.clocks.acquire(w.place.warp as usize, &clocks.complete);
                        }
                    }
                }
                w.regs.set_pred(i.pd, done, m);
                return Ok(if done == m { Next::Step } else { Next::Yield });
            }
        }
        if !i.d.is_none() {
            w.regs.put(i.d, &states, m);
        }
        Ok(Next::Step)
    }
}
