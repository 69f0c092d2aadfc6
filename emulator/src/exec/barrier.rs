//! Block barriers: bar and barrier, sync, arrive and red.

use super::block::{BARRIERS, Block, Checked};
use super::clocks::{Clocks, Known};
use super::warp::{Next, Wait, Warp};
use crate::check::FaultKind;
use crate::decode::ir::{Barrier, Instr, Op};

impl Block<'_> {
    pub(super) fn barrier(
        &mut self,
        w: &mut Warp,
        k: usize,
        i: &Instr,
        kind: Barrier,
        m: u32,
    ) -> Checked<Next> {
        let first = m.trailing_zeros();
        if let Wait::BarDone(result) = w.splits[k].wait {
            w.splits[k].wait = Wait::Run;
            // Counted when it arrived.
            if self.g.config.counters {
                self.tally.classes[i.class as usize] -= 1;
                self.tally.active_lanes -= u64::from(m.count_ones());
            }
            if !i.d.is_none() {
                w.regs.put(i.d, &[result; 32], m);
            }
            w.regs.set_pred(i.pd, if result != 0 { u32::MAX } else { 0 }, m);
            return Ok(Next::Step);
        }
        let ids = w.regs.r32(i.a);
        let id = ids[first as usize] as usize;
        if id >= BARRIERS || (0..32).any(|l| m >> l & 1 != 0 && ids[l] as usize != id) {
            let message =
                format!("barrier {id} does not exist, or the lanes name different barriers");
            return Err(self.fault(FaultKind::IllegalInstruction, w, i, first, message));
        }
        let expected = (!i.b.is_none()).then(|| w.regs.r32(i.b)[first as usize]);
        if let Some(n) = expected
            && (n == 0 || n % 32 != 0)
        {
            let message = format!("a barrier of {n} threads: the count must be a multiple of 32");
            return Err(self.fault(FaultKind::IllegalInstruction, w, i, first, message));
        }
        let warp = w.place.warp as usize;
        self.progress = self.executed;
        if self.g.config.counters && kind != Barrier::Arrive {
            self.tally.barriers += 1;
        }
        let state = &mut self.barriers[id];
        if !state.any() {
            state.expected = expected;
            (state.counted, state.and, state.or) = (0, true, false);
            state.clocks = Known::default();
        } else if state.expected != expected {
            let message = "the threads that meet at this barrier name different thread counts";
            return Err(self.fault(FaultKind::BarrierDivergence, w, i, first, message));
        }
        state.arrived[warp] |= m;
        if !i.ps.is_none() {
            let p = w.regs.pred(i.ps) & m;
            state.counted += p.count_ones();
            state.and &= p == m;
            state.or |= p != 0;
        }
        self.clocks.release(warp, &mut state.clocks);
        if kind == Barrier::Arrive {
            self.try_complete(id, Some((w, i)))?;
            return Ok(Next::Step);
        }
        w.keep(k, m);
        w.splits[k].wait = Wait::Bar(id as u8);
        self.try_complete(id, Some((w, i)))?;
        Ok(Next::Select)
    }

    /// Releases the waiting threads once everything the barrier waits for has arrived. `current` is the running warp,
    /// which is not among `warps` meanwhile.
    pub(super) fn try_complete(
        &mut self,
        id: usize,
        current: Option<(&mut Warp, &Instr)>,
    ) -> Checked<bool> {
        let state = &self.barriers[id];
        let warps = self.warps.len();
        // Threads that arrived without waiting may have left since. A barrier does not wait for warps that have left, as
        // producers do; threads that left without the rest of their warp are the defect.
        let here = |w: usize| self.live[w] & !state.arrived[w] == 0;
        let complete = match state.expected {
            None => (0..warps).all(here),
            Some(n) => {
                let whole = (0..warps).filter(|&w| state.arrived[w] != 0 && here(w)).count();
                whole as u32 * 32 >= n
            }
        };
        if !complete {
            return Ok(false);
        }
        let missed = |w: usize| self.exists[w] & !state.arrived[w];
        let gone = (0..warps)
            .find(|&w| missed(w) != 0 && state.arrived[w] != 0)
            .filter(|_| self.g.config.checks.barriers);
        if let Some(warp) = gone {
            let missing = missed(warp);
            let [x, y, z] = self.thread(warp as u32, missing.trailing_zeros());
            let left: u32 =
                (0..warps).filter(|&w| state.arrived[w] != 0).map(|w| missed(w).count_ones()).sum();
            let message = format!(
                "barrier {id} is not reached by {left} threads of the block, which have left the kernel, thread ({x},{y},{z}) first"
            );
            if let Some((w, i)) = current {
                let lane = w.splits.iter().map(|s| s.mask.trailing_zeros()).min().unwrap_or(0);
                return Err(self.fault(FaultKind::BarrierDivergence, w, i, lane, message));
            }
            for w in &self.warps {
                if let Some(s) = w.splits.iter().find(|s| s.wait == Wait::Bar(id as u8)) {
                    let i = &self.g.program.code[s.pc as usize];
                    return Err(self.fault(
                        FaultKind::BarrierDivergence,
                        w,
                        i,
                        s.mask.trailing_zeros(),
                        message,
                    ));
                }
            }
        }
        let state = std::mem::take(&mut self.barriers[id]);
        let code = &self.g.program.code;
        let mut release = |w: &mut Warp| {
            let mut any = false;
            for s in w.splits.iter_mut().filter(|s| s.wait == Wait::Bar(id as u8)) {
                let result = match code[s.pc as usize].op {
                    Op::Bar(Barrier::RedPopc) => state.counted,
                    Op::Bar(Barrier::RedAnd) => u32::from(state.and),
                    _ => u32::from(state.or),
                };
                s.wait = Wait::BarDone(result);
                any = true;
            }
            if any {
                self.clocks.acquire(w.place.warp as usize, &state.clocks);
            }
        };
        if let Some((w, _)) = current {
            release(w);
        }
        self.warps.iter_mut().for_each(&mut release);
        if state.expected.is_none() && self.clocks.nearly_exhausted() {
            self.clocks = Clocks::new(self.warps.len());
            self.shared.forget_accesses();
            self.mbar_clocks.clear();
            self.atomic_clocks.clear();
        }
        Ok(true)
    }
}
