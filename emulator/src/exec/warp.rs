//! One warp: its registers and memory, and the paths of lanes that are at different instructions.
//!
//! Lanes at the same instruction run together. When they diverge, the path that comes first in the program's order runs
//! first and stops wherever another may join it. A path that keeps looping lets the others run in turn, so that a lane
//! may wait for another of its warp.

use super::grid::Grid;
use super::in_flight::InFlight;
use super::pending::Copies;
use super::regs::Regs;
use super::special::Place;
use crate::decode::ir::*;

/// Backward branches a path takes before others of its warp get a turn.
pub const CREDIT: u32 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    Run,
    /// For the other lanes of a member mask.
    Gather,
    /// They have arrived, but at other instructions.
    Gathered,
    /// At a block barrier.
    Bar(u8),
    /// It is complete; the result of its reduction.
    BarDone(u32),
    /// For the other warps of its warpgroup, or for registers that they release.
    Warpgroup,
}

#[derive(Clone, Copy, Debug)]
pub struct Split {
    pub pc: u32,
    pub mask: u32,
    pub wait: Wait,
    pub credit: u32,
}

impl Split {
    pub fn new(pc: u32, mask: u32) -> Self {
        Self { pc, mask, wait: Wait::Run, credit: CREDIT }
    }
}

/// What one call saved for the lanes that made it.
#[derive(Debug)]
pub struct Frame {
    /// Lanes that have not returned.
    pub mask: u32,
    pub back: u32,
    pub registers: Vec<u64>,
    pub predicates: Vec<u32>,
}

#[derive(Debug, Default)]
pub struct Warp {
    pub regs: Regs,
    pub splits: Vec<Split>,
    pub place: Place,
    pub local: Vec<u8>,
    /// One per byte of `local`: whether it has been written.
    pub local_init: Vec<u8>,
    pub copies: Copies,
    /// Bytes of a register, per lane, that nothing has written: in transit from local memory to another place there.
    pub undefined: Vec<(R, [u8; 32])>,
    pub frames: Vec<Frame>,
    pub products: InFlight,
    /// The instruction that just ran must run again once another warp has moved on.
    pub held: bool,
    /// How often in a row an mbarrier test has failed, and the block's progress since when.
    pub refused: (u64, u32),
}

impl Warp {
    pub fn new(g: &Grid, index: u32, worker: u32) -> Self {
        let p = g.program;
        let local = p.local_bytes as usize * 32;
        Self {
            regs: Regs::new(
                p.register_bytes as usize,
                &g.kernel.constants,
                usize::from(p.predicates),
            ),
            splits: Vec::new(),
            place: Place {
                block: [0; 3],
                grid: g.launch.grid,
                threads: g.launch.block,
                warp: index,
                sm: worker % g.config.sm_count.max(1),
                sm_count: g.config.sm_count,
                dynamic_shared: g.launch.dynamic_shared,
                total_shared: p.dynamic_offset.max(p.static_shared) + g.launch.dynamic_shared,
                reserved_shared: p.reserved_offset(g.launch.dynamic_shared),
                workspace: g.launch.workspace,
                clock: 0,
            },
            local: vec![0; local],
            local_init: vec![0; local],
            copies: Copies::default(),
            undefined: Vec::new(),
            frames: Vec::new(),
            products: InFlight::new(p),
            held: false,
            refused: (0, 0),
        }
    }

    pub fn reset(&mut self, lanes: u32, block: [u32; 3]) {
        self.splits.clear();
        self.splits.push(Split::new(0, lanes));
        self.place.block = block;
        self.local_init.fill(0);
        self.copies.clear();
        self.undefined.clear();
        self.frames.clear();
        self.products.reset();
        self.held = false;
        self.refused = (0, 0);
    }

    pub fn runnable(&self) -> bool {
        self.splits.iter().any(|s| matches!(s.wait, Wait::Run | Wait::Gathered | Wait::BarDone(_)))
    }

    /// Joins paths at the same instruction, and picks the next to run.
    pub fn select(&mut self, rank: &[u32]) -> Option<usize> {
        if self.splits.len() > 1 {
            self.merge();
        }
        let runs = |s: &Split| matches!(s.wait, Wait::Run | Wait::Gathered | Wait::BarDone(_));
        if self.splits.len() == 1 {
            return runs(&self.splits[0]).then_some(0);
        }
        for _ in 0..2 {
            let best = self
                .splits
                .iter()
                .enumerate()
                .filter(|(_, s)| runs(s) && s.credit > 0)
                .min_by_key(|(_, s)| rank[s.pc as usize]);
            if let Some((k, _)) = best {
                return Some(k);
            }
            self.splits.iter_mut().for_each(|s| s.credit = CREDIT);
        }
        None
    }

    fn merge(&mut self) {
        let joins = |s: &Split| matches!(s.wait, Wait::Run | Wait::Gather);
        let mut k = 0;
        while k < self.splits.len() {
            let mut other = k + 1;
            while other < self.splits.len() {
                let (a, b) = (self.splits[k], self.splits[other]);
                if a.pc == b.pc && joins(&a) && joins(&b) {
                    self.splits[k] = Split {
                        mask: a.mask | b.mask,
                        wait: Wait::Run,
                        pc: a.pc,
                        credit: a.credit.max(b.credit),
                    };
                    self.splits.swap_remove(other);
                } else {
                    other += 1;
                }
            }
            k += 1;
        }
    }

    /// All paths wait for lanes of their own warp: let `bar.warp.sync` meet across instructions.
    pub fn gathered_apart(&mut self, p: &Program) -> bool {
        let mut all = 0;
        for s in &self.splits {
            if s.wait != Wait::Gather || p.code[s.pc as usize].op != Op::BarWarp {
                return false;
            }
            all |= s.mask;
        }
        let complete = self.splits.iter().all(|s| {
            let masks = self.regs.r32(p.code[s.pc as usize].a);
            (0..32)
                .filter(|l| s.mask >> l & 1 != 0)
                .all(|l: usize| masks[l] & !all & self.lanes() == 0)
        });
        if complete {
            self.splits.iter_mut().for_each(|s| s.wait = Wait::Gathered);
        }
        complete
    }

    /// Lanes that have not left.
    pub fn lanes(&self) -> u32 {
        self.splits.iter().fold(0, |m, s| m | s.mask)
    }

    /// The lanes of path `k` that are not in `m` continue after the instruction; the path keeps `m`.
    pub fn keep(&mut self, k: usize, m: u32) {
        let s = self.splits[k];
        if s.mask & !m != 0 {
            self.splits.push(Split::new(s.pc + 1, s.mask & !m));
            self.splits[k].mask = m;
        }
    }
}

/// What the loop does after an instruction that handles its path itself.
pub enum Next {
    /// Continue with the next instruction.
    Step,
    /// Choose a path again.
    Select,
    /// Step, and let other warps run.
    Yield,
}
