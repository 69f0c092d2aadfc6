//! The loop that runs one warp, instruction by instruction, along the current path of lanes.

use super::block::{Block, Checked};
use super::warp::{CREDIT, Next, Split, Wait, Warp};
use crate::check::FaultKind;
use crate::decode::ir::*;

/// How a warp's turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Done,
    Blocked,
    Preempted,
}

impl Block<'_> {
    pub(super) fn run_warp(&mut self, w: &mut Warp, quantum: u64) -> Checked<Status> {
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
                if i.touches {
                    self.touch(w, i, m)?;
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
                    Op::BulkCopy(op) => {
                        self.bulk_plain(w, i, op, m)?;
                        Next::Step
                    }
                    Op::BulkTensor { op, rank } => {
                        self.bulk_tensor(w, i, op, rank, m)?;
                        Next::Step
                    }
                    Op::BulkCommit => {
                        self.bulk_commit(w, m);
                        Next::Step
                    }
                    Op::BulkWait { read_only } => {
                        self.bulk_wait(w, i, read_only, m);
                        Next::Step
                    }
                    Op::MapReplace { op, field } => {
                        self.map_replace(w, i, op, field, m)?;
                        Next::Step
                    }
                    Op::MapAcquire => {
                        self.map_acquire(w, i, m);
                        Next::Step
                    }
                    Op::MapRank { wide } => {
                        self.map_rank(w, i, wide, m)?;
                        Next::Step
                    }
                    Op::GridWait => {
                        self.grid_wait(w);
                        Next::Step
                    }
                    Op::FenceAsync { shared, global } => {
                        if shared {
                            self.clocks.fence(w.place.warp as usize);
                        }
                        if global {
                            self.fence_global();
                        }
                        Next::Step
                    }
                    Op::Mbar { op, address64 } => {
                        let next = self.mbarrier(w, i, op, address64, m)?;
                        if !alone && matches!(next, Next::Yield) {
                            let credit = &mut w.splits[k].credit;
                            *credit = credit.saturating_sub(CREDIT / 64).max(1);
                        }
                        next
                    }
                    Op::Fence { block } => {
                        self.fenced |= !block;
                        Next::Step
                    }
                    Op::ActiveMask => {
                        w.regs.put(i.d, &[m; 32], m);
                        Next::Step
                    }
                    Op::Print => {
                        self.print(w, i, m)?;
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
                    | Op::Wmma(_)
                    | Op::Wgmma(_)
                    | Op::WgmmaFence
                    | Op::WgmmaCommit
                    | Op::WgmmaWait
                    | Op::SetMaxRegisters { .. }
                    | Op::MapPublish { .. } => {
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

    fn count(&mut self, i: &Instr, mask: u32) {
        self.tally.classes[i.class as usize] += 1;
        self.tally.active_lanes += u64::from(mask.count_ones());
        let products = match i.op {
            Op::Mma(m) => m.rows() * 8 * usize::from(m.k),
            Op::MmaF64 { rows16, k } => (if rows16 { 16 } else { 8 }) * 8 * usize::from(k),
            Op::Wmma(w) => {
                usize::from(w.d.rows) * usize::from(w.d.columns) * usize::from(w.a.columns)
            }
            Op::Wgmma(w) => 16 * usize::from(w.n) * 16,
            _ => return,
        };
        self.tally.mma += 1;
        self.tally.mma_flops += 2 * products as u64;
    }

    /// mapa: every block is its own cluster.
    fn map_rank(&mut self, w: &mut Warp, i: &Instr, wide: bool, m: u32) -> Checked<()> {
        let ranks = w.regs.r32(i.b);
        if let Some(l) = (0..32).find(|&l| m >> l & 1 != 0 && ranks[l] != 0) {
            let message = format!(
                "block {} of a cluster: clusters of more than one block are not supported",
                ranks[l]
            );
            return Err(self.fault(FaultKind::IllegalInstruction, w, i, l as u32, message));
        }
        match wide {
            true => w.regs.put(i.d, &{ *w.regs.r64(i.a) }, m),
            false => w.regs.put(i.d, &{ *w.regs.r32(i.a) }, m),
        }
        Ok(())
    }

    fn branch_table(&mut self, w: &mut Warp, k: usize, i: &Instr, m: u32) -> Checked<()> {
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
