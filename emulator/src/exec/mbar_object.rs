//! mbarrier objects: eight bytes of shared memory that only the instructions of `mbar` interpret.
//!
//! The word holds, from the lowest bit: pending arrivals (20), expected arrivals (20), pending transaction bytes (22,
//! signed), a mark that the object is live (1), and the phase (1).

use super::block::{Block, Checked};
use super::warp::Warp;
use crate::check::FaultKind;
use crate::decode::ir::*;
use crate::ptx::types::Space;

pub const COUNT: u64 = (1 << 20) - 1;
const LIVE: u64 = 1 << 62;

/// The word.
#[derive(Clone, Copy)]
pub struct MbarState(pub u64);

impl MbarState {
    pub fn new(count: u32) -> Self {
        MbarState(u64::from(count) | u64::from(count) << 20 | LIVE)
    }
    pub fn pending(self) -> u64 {
        self.0 & COUNT
    }
    pub fn expected(self) -> u64 {
        self.0 >> 20 & COUNT
    }
    pub fn tx(self) -> i64 {
        (self.0 << 2) as i64 >> 42
    }
    pub fn phase(self) -> u64 {
        self.0 >> 63
    }
    pub fn with(self, pending: u64, expected: u64, tx: i64) -> Self {
        let tx = (tx as u64 & ((1 << 22) - 1)) << 40;
        MbarState(pending & COUNT | (expected & COUNT) << 20 | tx | LIVE | self.phase() << 63)
    }
    /// Opens the next phase if this one is complete.
    pub fn settle(self) -> (Self, bool) {
        if self.pending() == 0 && self.tx() == 0 {
            (MbarState(self.with(self.expected(), self.expected(), 0).0 ^ 1 << 63), true)
        } else {
            (self, false)
        }
    }
}

/// The bytes that the mbarrier in this word waits for; 0 if there is none.
pub fn mbar_owes(word: u64) -> i64 {
    if word & LIVE == 0 { 0 } else { MbarState(word).tx() }
}

impl Block<'_> {
    fn mbar_pointer(&mut self, w: &mut Warp, i: &Instr, lane: usize, at: u64) -> Checked<*mut u64> {
        let t = self.resolve(w, i, Space::Shared, [at; 32], 8, 1 << lane)?;
        Ok(t.pointers[lane].cast())
    }

    fn mbar_word(&mut self, w: &mut Warp, i: &Instr, lane: usize, at: u64) -> Checked<u64> {
        let pointer = self.mbar_pointer(w, i, lane, at)?;
        // SAFETY: resolved and aligned just now.
        Ok(unsafe { pointer.read() })
    }

    /// Whether a word holds an mbarrier that this block has initialised and not invalidated.
    pub(super) fn mbar_is_valid(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        lane: usize,
        at: u64,
    ) -> Checked<bool> {
        let word = self.mbar_word(w, i, lane, at)?;
        Ok(word & LIVE != 0 && self.mbar_clocks.contains_key(&(at as u32)))
    }

    pub(super) fn mbar_state(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        lane: usize,
        at: u64,
    ) -> Checked<MbarState> {
        let state = MbarState(self.mbar_word(w, i, lane, at)?);
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
        let (by, clock) = self.mbar_clocks.get(&(at as u32)).map_or((0, 0), |c| c.made);
        let warp = w.place.warp as usize;
        if by != warp
            && self.clocks.of[warp].seen[by] < clock
            && self.g.config.checks.shared_races
            && !self.clocks.exhausted
        {
            let message = format!(
                "this mbarrier may not have been initialised yet: no barrier orders warp {by}, which does so, before"
            );
            return Err(self.shared_fault(FaultKind::SharedRace, w, i, lane, at, message));
        }
        Ok(state)
    }

    pub(super) fn mbar_put(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        lane: usize,
        at: u64,
        state: MbarState,
    ) -> Checked<()> {
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
    ) -> Checked<u64> {
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
        let tx = self.mbar_tx(w, i, lane, at, state.tx() + expect)?;
        let clocks = self.mbar_clocks.entry(at as u32).or_default();
        self.clocks.release(w.place.warp as usize, &mut clocks.open);
        let next = state.with(state.pending() - count, expected, tx);
        self.mbar_settle(w, i, lane, at, next)?;
        self.progress = self.executed;
        Ok(state.0)
    }

    /// Bytes to expect or, if negative, bytes that have arrived.
    pub(super) fn mbar_transact(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        lane: usize,
        at: u64,
        bytes: i64,
    ) -> Checked<()> {
        let state = self.mbar_state(w, i, lane, at)?;
        let tx = self.mbar_tx(w, i, lane, at, state.tx() + bytes)?;
        let next = state.with(state.pending(), state.expected(), tx);
        self.mbar_settle(w, i, lane, at, next)
    }

    /// A count of expected bytes that an mbarrier can hold.
    fn mbar_tx(&self, w: &Warp, i: &Instr, lane: usize, at: u64, tx: i64) -> Checked<i64> {
        if tx.unsigned_abs() < 1 << 20 {
            return Ok(tx);
        }
        let message = format!("an mbarrier that expects {tx} bytes: it can count to 1048575");
        Err(self.shared_fault(FaultKind::IllegalInstruction, w, i, lane, at, message))
    }

    /// Writes a state, and opens the next phase if this one is complete.
    fn mbar_settle(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        lane: usize,
        at: u64,
        state: MbarState,
    ) -> Checked<()> {
        let (next, complete) = state.settle();
        self.mbar_put(w, i, lane, at, next)?;
        if complete {
            self.mbar_answered(at as u32);
            if let Some(clocks) = self.mbar_clocks.get_mut(&(at as u32)) {
                clocks.complete = clocks.open;
            }
        }
        self.progress = self.executed;
        Ok(())
    }

    /// The next test of this mbarrier counts as the first again, for every warp.
    pub(super) fn mbar_answered(&mut self, at: u32) {
        if !self.bulk.asked.is_empty() {
            self.bulk.asked.retain(|&(mbar, _)| mbar != at);
        }
    }

    /// One more arrival to wait for in this phase.
    pub(super) fn mbar_raise(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        lane: usize,
        at: u64,
    ) -> Checked<()> {
        let state = self.mbar_state(w, i, lane, at)?;
        let raised = state.with(state.pending() + 1, state.expected(), state.tx());
        self.mbar_put(w, i, lane, at, raised)
    }
}
