//! mbarrier objects: eight bytes of shared memory that only these instructions look into.
//!
//! The word holds, from the lowest bit: pending arrivals (20), expected arrivals (20), pending transaction bytes
//! (22, signed), a mark that the object is live (1), and the phase (1).

use super::block::{Block, Result};
use super::mem::{addresses, lanes};
use super::shared::WARPS;
use super::warp::{Next, Warp};
use crate::check::FaultKind;
use crate::decode::ir::*;
use crate::ptx::types::Space;

/// What arrivals published: of the phase that is open, and of those that are complete.
#[derive(Clone, Debug, Default)]
pub struct MbarClocks {
    open: [u32; WARPS],
    complete: [u32; WARPS],
}

const COUNT: u64 = (1 << 20) - 1;
const LIVE: u64 = 1 << 62;

#[derive(Clone, Copy)]
struct State(u64);

impl State {
    fn new(count: u32) -> Self {
        State(u64::from(count) | u64::from(count) << 20 | LIVE)
    }
    fn pending(self) -> u64 {
        self.0 & COUNT
    }
    fn expected(self) -> u64 {
        self.0 >> 20 & COUNT
    }
    fn tx(self) -> i64 {
        (self.0 << 2) as i64 >> 42
    }
    fn phase(self) -> u64 {
        self.0 >> 63
    }
    fn with(self, pending: u64, expected: u64, tx: i64) -> Self {
        let tx = (tx as u64 & ((1 << 22) - 1)) << 40;
        State(pending & COUNT | (expected & COUNT) << 20 | tx | LIVE | self.phase() << 63)
    }
    /// Opens the next phase if this one is complete.
    fn settle(self) -> (Self, bool) {
        if self.pending() == 0 && self.tx() == 0 {
            (State(self.with(self.expected(), self.expected(), 0).0 ^ 1 << 63), true)
        } else {
            (self, false)
        }
    }
}

impl Block<'_> {
    fn mbar_pointer(&mut self, w: &mut Warp, i: &Instr, lane: usize, at: u64) -> Result<*mut u64> {
        let t = self.resolve(w, i, Space::Shared, [at; 32], 8, 1 << lane)?;
        Ok(t.pointers[lane].cast())
    }

    fn mbar_state(&mut self, w: &mut Warp, i: &Instr, lane: usize, at: u64) -> Result<State> {
        let pointer = self.mbar_pointer(w, i, lane, at)?;
        // SAFETY: resolved and aligned just now.
        let state = State(unsafe { pointer.read() });
        let written = self.shared.first_uninit(at as usize, 8).is_none()
            || !self.g.config.checks.uninitialised;
        if state.0 & LIVE == 0 || !written {
            let message = "this mbarrier has not been initialised";
            return Err(self.address_fault(
                FaultKind::UninitialisedRead,
                w,
                i,
                lane as u32,
                message,
                "shared",
                at,
            ));
        }
        Ok(state)
    }

    fn mbar_put(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        lane: usize,
        at: u64,
        state: State,
    ) -> Result<()> {
        let pointer = self.mbar_pointer(w, i, lane, at)?;
        // SAFETY: resolved and aligned just now.
        unsafe { pointer.write(state.0) };
        Ok(())
    }

    /// One lane's arrival; returns the state before it.
    #[expect(clippy::too_many_arguments)]
    pub(super) fn mbar_arrive(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        lane: usize,
        at: u64,
        count: u32,
        expect: i64,
        drop: bool,
    ) -> Result<u64> {
        let state = self.mbar_state(w, i, lane, at)?;
        let count = u64::from(count);
        if count == 0 || count > state.pending() {
            let message =
                format!("{count} arrivals at an mbarrier that waits for {}", state.pending());
            return Err(self.address_fault(
                FaultKind::BarrierDivergence,
                w,
                i,
                lane as u32,
                message,
                "shared",
                at,
            ));
        }
        let expected = if drop { state.expected() - 1 } else { state.expected() };
        let next = state.with(state.pending() - count, expected, state.tx() + expect);
        let (next, complete) = next.settle();
        self.mbar_put(w, i, lane, at, next)?;
        let clocks = self.mbar_clocks.entry(at as u32).or_default();
        self.clocks.release(w.place.warp as usize, &mut clocks.open);
        if complete {
            clocks.complete = clocks.open;
        }
        self.progress = self.executed;
        Ok(state.0)
    }

    /// One more arrival to wait for in this phase.
    pub(super) fn mbar_raise(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        lane: usize,
        at: u64,
    ) -> Result<()> {
        let state = self.mbar_state(w, i, lane, at)?;
        let raised = state.with(state.pending() + 1, state.expected(), state.tx());
        self.mbar_put(w, i, lane, at, raised)
    }

    pub(super) fn mbarrier(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        op: Mbar,
        address64: bool,
        m: u32,
    ) -> Result<Next> {
        let at = addresses(w, i.a, i.imm, address64).map(|a| a & (WINDOW - 1));
        let operand = |w: &Warp, l: usize| if i.b.is_none() { 0 } else { w.regs.r32(i.b)[l] };
        let mut states = [0u64; 32];
        match op {
            Mbar::PendingCount => {
                let out = w.regs.r64(i.b).map(|s| State(s).pending() as u32);
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
                    self.mbar_put(w, i, l, at[l], State::new(count))?;
                    self.shared.mark_init(at[l] as usize, 8);
                    self.mbar_clocks.remove(&(at[l] as u32));
                }
            }
            Mbar::Inval => {
                for l in lanes(m) {
                    self.mbar_state(w, i, l, at[l])?;
                    self.mbar_put(w, i, l, at[l], State(0))?;
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
                        false => State(w.regs.r64(i.b)[l]).phase(),
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
