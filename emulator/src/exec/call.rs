//! Calls of subroutines, by recursion or through pointers: a stack of saved registers per warp, whose entries say which
//! lanes they belong to.

use super::block::{Block, Checked};
use super::regs::lanes;
use super::warp::{Frame, Split, Warp};
use crate::check::FaultKind;
use crate::decode::ir::*;

/// Calls a lane may have open.
const MAX_DEPTH: usize = 4096;

impl Block<'_> {
    pub(super) fn call(&mut self, w: &mut Warp, k: usize, i: &Instr, m: u32) -> Checked<()> {
        w.keep(k, m);
        let back = w.splits[k].pc + 1;
        self.open_frame(w, i, m, back)?;
        w.splits[k].pc = i.imm as u32;
        Ok(())
    }

    /// A call through a pointer: the lanes diverge by target.
    pub(super) fn call_pointer(
        &mut self,
        w: &mut Warp,
        k: usize,
        i: &Instr,
        m: u32,
    ) -> Checked<()> {
        let table = &self.g.program.call_tables[i.imm as u32 as usize];
        let targets = *w.regs.r64(i.b);
        w.keep(k, m);
        let Split { pc, credit, .. } = w.splits.swap_remove(k);
        let mut rest = m;
        while rest != 0 {
            let lane = rest.trailing_zeros();
            let address = targets[lane as usize];
            let here = lanes(rest).filter(|&l| targets[l] == address).fold(0u32, |s, l| s | 1 << l);
            let Some(&(_, target)) = table.iter().find(|(at, _)| *at == address) else {
                let message = format!(
                    "a call through the pointer {address:#x}, where no function of this signature is"
                );
                return Err(self.fault(FaultKind::IllegalInstruction, w, i, lane, message));
            };
            self.open_frame(w, i, here, pc + 1)?;
            w.splits.push(Split { credit, ..Split::new(target, here) });
            rest &= !here;
        }
        Ok(())
    }

    /// Saves what a call must restore at `back`, and moves the frame pointer past the caller's frame.
    fn open_frame(&mut self, w: &mut Warp, i: &Instr, m: u32, back: u32) -> Checked<()> {
        let p = self.g.program;
        if w.frames.len() >= MAX_DEPTH {
            let message = format!("{MAX_DEPTH} calls are open: recursion without end?");
            return Err(self.fault(FaultKind::OutOfBounds, w, i, m.trailing_zeros(), message));
        }
        let mut registers = Vec::with_capacity(p.saved.len() * 32);
        for &(r, wide) in &p.saved {
            match wide {
                true => registers.extend_from_slice(w.regs.r64(r)),
                false => registers.extend(w.regs.r32(r).map(u64::from)),
            }
        }
        let predicates = p.saved_predicates.iter().map(|&q| w.regs.pred(q)).collect();
        w.frames.push(Frame { mask: m, back, registers, predicates });
        let size = (i.imm >> 32) as u32;
        let frame = w.regs.r32(i.a).map(|at| at.wrapping_add(size));
        w.regs.put(p.frame, &frame, m);
        Ok(())
    }

    /// Lanes return to where each was called from.
    pub(super) fn ret(&mut self, w: &mut Warp, k: usize, i: &Instr, m: u32) -> Checked<()> {
        let p = self.g.program;
        w.keep(k, m);
        let credit = w.splits.swap_remove(k).credit;
        let mut rest = m;
        for at in (0..w.frames.len()).rev() {
            let here = w.frames[at].mask & rest;
            if here == 0 {
                continue;
            }
            let frame = &mut w.frames[at];
            frame.mask &= !here;
            for (n, &(r, wide)) in p.saved.iter().enumerate() {
                let values: [u64; 32] = std::array::from_fn(|l| frame.registers[n * 32 + l]);
                match wide {
                    true => w.regs.put(r, &values, here),
                    false => w.regs.put(r, &values.map(|x| x as u32), here),
                }
            }
            for (&q, &value) in p.saved_predicates.iter().zip(&frame.predicates) {
                w.regs.set_pred(q, value, here);
            }
            w.splits.push(Split { credit, ..Split::new(frame.back, here) });
            rest &= !here;
        }
        w.frames.retain(|f| f.mask != 0);
        if rest != 0 {
            let message = "a return without a call";
            return Err(self.fault(
                FaultKind::IllegalInstruction,
                w,
                i,
                rest.trailing_zeros(),
                message,
            ));
        }
        Ok(())
    }

    pub(super) fn frame_copy(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        bytes: u32,
        m: u32,
    ) -> Checked<()> {
        let (from, to) = (i.imm as u32 as usize, (i.imm >> 32) as usize);
        let size = self.g.program.local_bytes as usize;
        let n = bytes as usize;
        for l in lanes(m) {
            let base = w.regs.r32(i.a)[l] as usize;
            let (from, to) = (base + from, base + to);
            if from.max(to) + n > size {
                let message = format!(
                    "the stack of recursive calls overflows ({size} bytes of local memory)"
                );
                let at = from.max(to) as u64;
                return Err(self.address_fault(
                    FaultKind::OutOfBounds,
                    w,
                    i,
                    l as u32,
                    message,
                    "local",
                    at,
                ));
            }
            let lane = l * size;
            w.local.copy_within(lane + from..lane + from + n, lane + to);
            w.local_init.copy_within(lane + from..lane + from + n, lane + to);
        }
        Ok(())
    }
}
