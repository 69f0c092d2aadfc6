//! Which warp of a block runs next, and what it means if none can.

use super::block::{BARRIERS, Block, Checked};
use super::interpret::Status;
use super::tally::Tally;
use super::warp::{Split, Wait, Warp};
use crate::check::{Fault, FaultKind};
use crate::decode::ir::{Mbar, Op, WINDOW};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Warp instructions a warp runs before the next gets its turn, unless a seed decides.
const QUANTUM: u64 = 1 << 16;

/// Consecutive failed tests, with nothing else happening in the block, after which an mbarrier never completes.
const REFUSALS: u32 = 1 << 12;

/// Strong reads of global memory, with nothing else happening in the block, after which it seems to wait for another.
const POLLS: u32 = 1 << 10;

/// Warp instructions that a warp of such a block runs before other blocks get their turn for `PAUSE`.
const POLLING: u64 = 1 << 8;
const PAUSE: Duration = Duration::from_micros(100);

/// Warp instructions without progress in a block, while all blocks poll, after which nothing will happen.
const HOPELESS: u64 = 1 << 22;

impl Block<'_> {
    fn draw(&mut self) -> u64 {
        // xorshift64*
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// Runs block `n`. `hire` starts another thread for blocks, because this one waits for one of them.
    pub(super) fn run(&mut self, n: u64, tally: &mut Tally, hire: &dyn Fn()) -> Checked<()> {
        self.reset(n);
        self.tally = std::mem::take(tally);
        let result = self.schedule(hire);
        self.polls_no_more();
        *tally = std::mem::take(&mut self.tally);
        result
    }

    fn schedule(&mut self, hire: &dyn Fn()) -> Checked<()> {
        let seeded = self.g.config.warp_order_seed.is_some();
        loop {
            let (mut ran, mut left) = (false, false);
            let count = self.warps.len();
            for turn in 0..count {
                let (at, quantum) = if seeded {
                    let at = self.draw() as usize % count;
                    let quantum = match self.draw() % 4 {
                        0 => 1,
                        1 => 1 + self.draw() % 16,
                        2 => 1 + self.draw() % 256,
                        _ => QUANTUM,
                    };
                    (at, quantum)
                } else {
                    (turn, QUANTUM)
                };
                let quantum = if self.others_work() { quantum.min(POLLING) } else { quantum };
                if self.live[at] == 0 {
                    continue;
                }
                left = true;
                if !self.warps[at].runnable() {
                    continue;
                }
                ran = true;
                let mut warp = std::mem::take(&mut self.warps[at]);
                let before = warp.place.clock;
                let status = self.run_warp(&mut warp, quantum);
                self.executed += warp.place.clock - before;
                self.warps[at] = warp;
                match status? {
                    Status::Done | Status::Blocked => {
                        self.progress = self.executed;
                        self.polls = 0;
                        self.tell_others();
                    }
                    Status::Preempted => {
                        if self.warps[at].refused.1 >= REFUSALS && self.all_refused() {
                            return Err(self.never_completed(at));
                        }
                        if self.executed - self.progress > self.g.config.spin_limit {
                            return Err(self.livelock(at));
                        }
                        if self.g.stop.load(Relaxed) {
                            return Ok(());
                        }
                        if self.polls < POLLS {
                            self.tell_others();
                        } else if !self.wait_for_others(hire) {
                            return Err(self.livelock(at));
                        }
                    }
                }
            }
            if ran {
                continue;
            }
            // With a seed, the draw may have missed the warps that can run.
            left |= self.live.iter().any(|&l| l != 0);
            if !left {
                self.products_end()?;
                self.stores_end();
                return self.bulk_end();
            }
            if self.warps.iter().any(Warp::runnable) {
                continue;
            }
            self.resolve_stuck()?;
        }
    }

    /// This block has achieved something; those that wait for it may go on.
    fn tell_others(&mut self) {
        self.polls_no_more();
        if self.g.polling.load(Relaxed) > 0 {
            self.g.progress.fetch_add(1, Relaxed);
        }
    }

    fn polls_no_more(&mut self) {
        if std::mem::take(&mut self.polling) {
            self.g.polling.fetch_sub(1, Relaxed);
        }
    }

    /// Whether this block polls, and one that does not may write what it waits for.
    fn others_work(&self) -> bool {
        self.polling && self.g.polling.load(Relaxed) < self.g.running.load(Relaxed)
    }

    /// This block polls global memory, and so may wait for another one. Returns whether there is still hope.
    #[cold]
    fn wait_for_others(&mut self, hire: &dyn Fn()) -> bool {
        if !std::mem::replace(&mut self.replaced, true) {
            hire();
        }
        if !std::mem::replace(&mut self.polling, true) {
            self.g.polling.fetch_add(1, Relaxed);
        }
        let achieved = self.g.progress.load(Relaxed);
        if std::mem::replace(&mut self.others, achieved) != achieved {
            self.progress = self.executed;
        }
        if self.others_work() {
            self.progress = self.executed;
            std::thread::sleep(PAUSE);
        }
        self.executed - self.progress < HOPELESS
    }

    fn livelock(&self, at: usize) -> Box<Fault> {
        let warp = &self.warps[at];
        let pc = warp.splits.first().map_or(0, |s| s.pc);
        let lane = warp.splits.first().map_or(0, |s| s.mask.trailing_zeros());
        let message = format!(
            "{} warp instructions without progress: a loop that never ends?",
            self.executed - self.progress
        );
        self.fault(FaultKind::Deadlock, warp, &self.g.program.code[pc as usize], lane, message)
    }

    /// Whether every remaining warp waits, or tests mbarriers in vain.
    fn all_refused(&self) -> bool {
        let progress = self.progress;
        self.warps.iter().zip(&self.live).all(|(w, &live)| {
            live == 0 || !w.runnable() || w.refused.0 == progress && w.refused.1 >= REFUSALS
        })
    }

    #[cold]
    fn never_completed(&mut self, at: usize) -> Box<Fault> {
        let warp = std::mem::take(&mut self.warps[at]);
        let code = &self.g.program.code;
        // A path is just after its test, or at it if a loop has come round.
        let test = |s: &Split| {
            [s.pc.wrapping_sub(1), s.pc].into_iter().find_map(|pc| {
                let i = code.get(pc as usize)?;
                let asks = matches!(i.op, Op::Mbar { op: Mbar::Test { .. }, .. });
                asks.then_some((i, s.mask.trailing_zeros()))
            })
        };
        let (i, lane) = warp.splits.iter().find_map(test).unwrap_or((&code[0], 0));
        let mut message = String::from(
            "every warp waits, and nothing can complete the mbarrier that this one asks after",
        );
        if let Op::Mbar { address64, .. } = i.op {
            let from = warp.regs.addresses(i.a, i.imm, address64)[lane as usize] & (WINDOW - 1);
            let mut warp = warp;
            if let Ok(state) = self.mbar_state(&mut warp, i, lane as usize, from) {
                message += &format!(
                    ": it waits for {} of {} arrivals and {} bytes",
                    state.pending(),
                    state.expected(),
                    state.tx()
                );
            }
            let fault =
                self.shared_fault(FaultKind::Deadlock, &warp, i, lane as usize, from, message);
            self.warps[at] = warp;
            return fault;
        }
        let fault = self.fault(FaultKind::Deadlock, &warp, i, lane, message);
        self.warps[at] = warp;
        fault
    }

    /// No warp can run and some have not left: complete whatever the exits made complete, or report.
    fn resolve_stuck(&mut self) -> Checked<()> {
        for id in 0..BARRIERS {
            if self.barriers[id].any() && self.try_complete(id, None)? {
                return Ok(());
            }
        }
        // Report the first warp that waits at a barrier; failing that, any that waits.
        let mut chosen: Option<(usize, usize)> = None;
        for (at, warp) in self.warps.iter().enumerate() {
            for (k, split) in warp.splits.iter().enumerate() {
                let at_barrier = matches!(split.wait, Wait::Bar(_));
                if chosen.is_none()
                    || at_barrier
                        && !matches!(
                            self.warps[chosen.unwrap_or((0, 0)).0].splits
                                [chosen.unwrap_or((0, 0)).1]
                                .wait,
                            Wait::Bar(_)
                        )
                {
                    chosen = Some((at, k));
                }
            }
        }
        let Some((at, k)) = chosen else { return Ok(()) };
        let warp = &self.warps[at];
        let split = &warp.splits[k];
        let i = &self.g.program.code[split.pc as usize];
        let lane = split.mask.trailing_zeros();
        let (kind, message) = match split.wait {
            Wait::Bar(id) => {
                let b = &self.barriers[usize::from(id)];
                let arrived: u32 = b.arrived.iter().map(|m| m.count_ones()).sum();
                let threads: u32 = self.exists.iter().map(|m| m.count_ones()).sum();
                let wanted = b.expected.unwrap_or(threads);
                let gone = threads - self.live.iter().map(|m| m.count_ones()).sum::<u32>();
                let missing = self.missing_from(usize::from(id));
                (
                    FaultKind::BarrierDivergence,
                    format!(
                        "barrier {id} is reached by {arrived} of {wanted} threads and no other can come ({gone} have left){missing}"
                    ),
                )
            }
            Wait::Warpgroup => (
                FaultKind::Deadlock,
                match i.op {
                    Op::SetMaxRegisters { .. } => {
                        "the block has no registers left to give this warpgroup, and no other gives any up".into()
                    }
                    _ => "this waits for products that the other warps of its warpgroup never commit".into(),
                },
            ),
            _ => (
                FaultKind::BadMemberMask,
                format!(
                    "lanes {:#010x} wait here for lanes of their member mask that never come",
                    split.mask
                ),
            ),
        };
        Err(self.fault(kind, warp, i, lane, message))
    }

    /// Where the first thread that has not arrived is.
    fn missing_from(&self, id: usize) -> String {
        for (at, warp) in self.warps.iter().enumerate() {
            let missing = self.exists[at] & !self.barriers[id].arrived[at];
            if missing == 0 {
                continue;
            }
            let lane = missing.trailing_zeros();
            let [x, y, z] = self.thread(at as u32, lane);
            let place = match warp.splits.iter().find(|s| s.mask >> lane & 1 != 0) {
                Some(split) => {
                    format!("waits at PTX line {}", self.g.program.code[split.pc as usize].line)
                }
                None => "has left the kernel".into(),
            };
            return format!("; thread ({x},{y},{z}) {place}");
        }
        String::new()
    }
}
