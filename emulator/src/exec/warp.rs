//! One warp: paths of lanes at different instructions, and the loop that runs them.
//!
//! Lanes at the same instruction run together. When they part, the path that comes first in the program's order
//! runs first and stops wherever another may join it. A path that keeps looping gives the others a turn, so that
//! a lane may wait for another of its warp.

use super::Grid;
use super::alu::Place;
use super::block::{Block, Result};
use super::copies::Copies;
use super::regs::Regs;
use crate::check::FaultKind;
use crate::decode::ir::*;

/// Backward branches a path takes before others of its warp get a turn.
const CREDIT: u32 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    Run,
    /// For the other lanes of a member mask.
    Gather,
    /// They have come, though at other instructions.
    Gathered,
    /// At a block barrier.
    Bar(u8),
    /// It is complete; the result of its reduction.
    BarDone(u32),
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Done,
    Blocked,
    Preempted,
}

#[derive(Debug, Default)]
pub struct Warp {
    pub regs: Regs,
    pub splits: Vec<Split>,
    pub place: Place,
    pub local: Vec<u8>,
    /// One for each byte of `local`: it has been written.
    pub local_init: Vec<u8>,
    pub copies: Copies,
    /// Which bytes of a register, in each lane, nothing has written: on their way from local memory to another place there.
    pub undefined: Vec<(R, [u8; 32])>,
    pub frames: Vec<super::call::Frame>,
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
                sm: worker,
                sm_count: g.config.sm_count,
                dynamic_shared: g.launch.dynamic_shared,
                total_shared: p.dynamic_offset.max(p.static_shared) + g.launch.dynamic_shared,
                reserved_shared: p.reserved_offset(g.launch.dynamic_shared),
                clock: 0,
            },
            local: vec![0; local],
            local_init: vec![0; local],
            copies: Copies::default(),
            undefined: Vec::new(),
            frames: Vec::new(),
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
    }

    pub fn runnable(&self) -> bool {
        self.splits.iter().any(|s| matches!(s.wait, Wait::Run | Wait::Gathered | Wait::BarDone(_)))
    }

    /// Joins paths that stand at the same instruction, and picks the next to run.
    fn select(&mut self, rank: &[u32]) -> Option<usize> {
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
    fn gathered_apart(&mut self, p: &Program) -> bool {
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

    /// The lanes of path `k` that are not in `m` go on behind the instruction; the path keeps `m`.
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
    /// On with the following instruction.
    Step,
    /// Choose a path again.
    Select,
    /// Step, and let other warps run.
    Yield,
}

impl Block<'_> {
    pub(super) fn run_warp(&mut self, w: &mut Warp, quantum: u64) -> Result<Status> {
        let g = self.g;
        let p = g.program;
        let code = &p.code[..];
        let counting = g.config.counters;
        let end = w.place.clock + quantum;
        'select: loop {
            let Some(k) = w.select(&p.rank) else {
                if w.splits.is_empty() {
                    return Ok(Status::Done);
                }
                if w.gathered_apart(p) {
                    continue;
                }
                return Ok(Status::Blocked);
            };
            let Split { mut pc, mut mask, .. } = w.splits[k];
            let alone = w.splits.len() == 1;
            let mut first = true;
            loop {
                let i = &code[pc as usize];
                if i.leader && !alone && !first {
                    w.splits[k].pc = pc;
                    continue 'select;
                }
                if w.place.clock >= end {
                    w.splits[k].pc = pc;
                    return Ok(Status::Preempted);
                }
                first = false;
                w.place.clock += 1;
                let m = if i.guard.is_none() { mask } else { mask & w.regs.pred(i.guard) };
                if counting {
                    self.count(i, m);
                }
                let next = match i.op {
                    Op::Alu(op) => {
                        if m != 0 {
                            // SAFETY: `alu` was chosen for this processor's features.
                            unsafe { (g.alu)(&mut w.regs, &w.place, &p.lists, i, op, m) };
                        }
                        Next::Step
                    }
                    Op::Bra => {
                        let target = i.imm as u32;
                        if m == mask {
                            if target <= pc && !alone {
                                let credit = &mut w.splits[k].credit;
                                *credit = credit.saturating_sub(1);
                                if *credit == 0 {
                                    w.splits[k].pc = target;
                                    continue 'select;
                                }
                            }
                            pc = target;
                            continue;
                        }
                        if m == 0 {
                            Next::Step
                        } else {
                            let credit = w.splits[k].credit;
                            w.splits[k] = Split { pc: target, mask: m, wait: Wait::Run, credit };
                            w.splits.push(Split { credit, ..Split::new(pc + 1, mask & !m) });
                            continue 'select;
                        }
                    }
                    Op::BrxIdx => {
                        w.splits[k].pc = pc;
                        self.branch_table(w, k, i, m)?;
                        continue 'select;
                    }
                    Op::Exit => {
                        self.live[w.place.warp as usize] &= !m;
                        self.progress = self.executed;
                        mask &= !m;
                        if mask == 0 {
                            w.splits.swap_remove(k);
                            continue 'select;
                        }
                        w.splits[k].mask = mask;
                        Next::Step
                    }
                    Op::Nop => Next::Step,
                    Op::NanoSleep => Next::Yield,
                    // Everything else acts on at least one lane.
                    _ if m == 0 => Next::Step,
                    Op::Call => {
                        w.splits[k].pc = pc;
                        self.call(w, k, i, m)?;
                        continue 'select;
                    }
                    Op::CallPointer => {
                        w.splits[k].pc = pc;
                        self.call_pointer(w, k, i, m)?;
                        continue 'select;
                    }
                    Op::Ret => {
                        w.splits[k].pc = pc;
                        self.ret(w, k, i, m)?;
                        continue 'select;
                    }
                    Op::FrameCopy { bytes } => {
                        self.frame_copy(w, i, bytes, m)?;
                        Next::Step
                    }
                    Op::Ld(mem) => {
                        self.load(w, i, mem, m)?;
                        if mem.strong && !alone {
                            let credit = &mut w.splits[k].credit;
                            *credit = credit.saturating_sub(CREDIT / 64).max(1);
                        }
                        Next::Step
                    }
                    Op::St(mem) => {
                        self.store(w, i, mem, m)?;
                        Next::Step
                    }
                    Op::Atom(atom) => {
                        if !self.atomic(w, i, atom, m)? && !alone {
                            let credit = &mut w.splits[k].credit;
                            *credit = credit.saturating_sub(CREDIT / 4).max(1);
                        }
                        Next::Step
                    }
                    Op::CpAsync { bytes, shared64 } => {
                        self.cp_async(w, i, bytes, shared64, m)?;
                        Next::Step
                    }
                    Op::CpAsyncCommit => {
                        w.copies.commit(m);
                        Next::Step
                    }
                    Op::CpAsyncWait => {
                        self.cp_async_wait(w, i, m)?;
                        Next::Step
                    }
                    Op::CpAsyncMbarArrive { noinc, address64 } => {
                        self.cp_async_arrive(w, i, noinc, address64, m)?;
                        Next::Step
                    }
                    Op::Mbar { op, address64 } => self.mbarrier(w, i, op, address64, m)?,
                    Op::Fence { block } => {
                        self.fenced |= !block;
                        Next::Step
                    }
                    Op::ActiveMask => {
                        w.regs.put(i.d, &[m; 32], m);
                        Next::Step
                    }
                    Op::Malloc | Op::Free => {
                        self.heap(w, i, m)?;
                        Next::Step
                    }
                    Op::Trap => {
                        return Err(self.fault(
                            FaultKind::Trap,
                            w,
                            i,
                            m.trailing_zeros(),
                            "the kernel executed `trap`",
                        ));
                    }
                    Op::Assert => {
                        let message = "a device-side assertion failed";
                        return Err(self.fault(FaultKind::Trap, w, i, m.trailing_zeros(), message));
                    }
                    Op::Bar(kind) => {
                        w.splits[k].pc = pc;
                        self.barrier(w, k, i, kind, m)?
                    }
                    Op::BarWarp
                    | Op::Shfl(_)
                    | Op::Vote(_)
                    | Op::Match { .. }
                    | Op::Redux(_)
                    | Op::Elect
                    | Op::LdMatrix { .. }
                    | Op::StMatrix { .. }
                    | Op::MovMatrix
                    | Op::Mma(_)
                    | Op::MmaF64 { .. }
                    | Op::WmmaLoad(_)
                    | Op::WmmaStore(_)
                    | Op::Wmma(_) => {
                        w.splits[k].pc = pc;
                        self.gather(w, k, i, m)?
                    }
                };
                match next {
                    Next::Step => pc += 1,
                    Next::Select => continue 'select,
                    Next::Yield => {
                        w.splits[k].pc = pc + 1;
                        return Ok(Status::Preempted);
                    }
                }
            }
        }
    }

    fn branch_table(&mut self, w: &mut Warp, k: usize, i: &Instr, m: u32) -> Result<()> {
        let index = *w.regs.r32(i.a);
        let table = &self.g.program.tables[i.imm as usize];
        let old = w.splits.swap_remove(k);
        if old.mask & !m != 0 {
            w.splits.push(Split::new(old.pc + 1, old.mask & !m));
        }
        let mut rest = m;
        while rest != 0 {
            let lane = rest.trailing_zeros();
            let entry = index[lane as usize];
            let Some(&target) = table.get(entry as usize) else {
                let message =
                    format!("index {entry} is outside the branch table of {} entries", table.len());
                return Err(self.fault(FaultKind::IllegalInstruction, w, i, lane, message));
            };
            let same = (0..32)
                .filter(|&l| rest >> l & 1 != 0 && index[l] == entry)
                .fold(0u32, |s, l| s | 1 << l);
            w.splits.push(Split::new(target, same));
            rest &= !same;
        }
        Ok(())
    }
}
