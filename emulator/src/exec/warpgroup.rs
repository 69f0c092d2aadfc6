//! What the four warps of a warpgroup owe each other: commits that a wait needs, and registers released and taken.

use super::block::{Block, Checked};
use super::clocks::PRODUCTS;
use super::warp::{Wait, Warp};
use crate::check::FaultKind;
use crate::decode::ir::*;

/// Registers per multiprocessor.
const REGISTER_FILE: u32 = 1 << 16;

impl Block<'_> {
    /// wgmma.commit_group
    pub(super) fn products_commit(&mut self, w: &mut Warp) {
        w.products.committed += 1;
        self.wake();
    }

    /// wgmma.wait_group: at most `imm` groups stay open, of the warpgroup as a whole.
    pub(super) fn products_wait(&mut self, w: &mut Warp, i: &Instr) {
        let warp = w.place.warp as usize;
        let target = w.products.committed.saturating_sub(i.imm as u32);
        let from = warp / 4 * 4;
        let behind = |n: usize| {
            n != warp && self.warps.get(n).is_some_and(|o| o.products.committed < target)
        };
        if (from..from + 4).any(behind) {
            w.held = true;
            return;
        }
        w.products.over = w.products.over.max(target);
        w.products.fences_at_wait = w.products.fences;
        let seen = &mut self.clocks.of[warp].seen[PRODUCTS + warp / 4];
        *seen = (*seen).max(target);
    }

    /// Every held warp checks again.
    fn wake(&mut self) {
        for split in self.warps.iter_mut().flat_map(|w| &mut w.splits) {
            if split.wait == Wait::Warpgroup {
                split.wait = Wait::Run;
            }
        }
    }

    /// Registers per thread at the kernel's start, if its bounds say; otherwise `setmaxnreg` has no effect.
    pub(super) fn entry_registers(&self) -> Option<u32> {
        let kernel = self.g.kernel;
        if let Some(n) = kernel.max_registers {
            return Some(n);
        }
        let threads = kernel.max_threads.or(kernel.required_block.map(|b| b.iter().product()))?;
        let blocks = kernel.min_blocks_per_sm.unwrap_or(1).max(1);
        let threads = threads.clamp(32, 1024).next_multiple_of(32).saturating_mul(blocks);
        Some((REGISTER_FILE / threads / 8 * 8).min(256))
    }

    /// setmaxnreg
    pub(super) fn set_registers(&mut self, w: &mut Warp, i: &Instr, more: bool) -> Checked<()> {
        let Some(entry) = self.entry_registers() else { return Ok(()) };
        let warp = w.place.warp as usize;
        let illegal = |b: &Self, w: &Warp, message: String| {
            Err(b.fault(FaultKind::IllegalInstruction, w, i, 0, message))
        };
        if warp / 4 * 4 + 4 > self.warps.len() {
            let message = "setmaxnreg in a warpgroup that has fewer than four warps".into();
            return illegal(self, w, message);
        }
        let now = if w.products.registers == 0 { entry } else { w.products.registers };
        let wanted = i.imm as u32;
        if more {
            let Some(extra) = wanted.checked_sub(now) else {
                let message = format!("setmaxnreg.inc to {wanted}, but there are {now} registers");
                return illegal(self, w, message);
            };
            if extra * 32 > self.free_registers {
                w.held = true;
                return Ok(());
            }
            self.free_registers -= extra * 32;
        } else {
            let Some(fewer) = now.checked_sub(wanted) else {
                let message = format!("setmaxnreg.dec to {wanted}, but there are {now} registers");
                return illegal(self, w, message);
            };
            self.free_registers += fewer * 32;
            self.wake();
        }
        w.products.registers = wanted;
        Ok(())
    }
}
