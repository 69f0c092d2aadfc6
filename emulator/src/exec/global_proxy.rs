//! Global memory that threads of a launch write and its bulk copies read. A fence.proxy.async must come between: by the
//! writer before it publishes what it wrote, or by the reader after it has taken that over.

use super::access::Target;
use super::block::{Block, Checked};
use super::global_race;
use super::regs::lanes;
use super::warp::Warp;
use crate::check::FaultKind;
use crate::decode::ir::Instr;
use std::collections::HashSet;

/// Memory is remembered in pieces of 128 bytes.
const PIECE: u32 = 7;

/// What a block has written, and whose writes it may read.
#[derive(Default)]
pub struct Unfenced {
    /// Pieces that ordinary stores have written since the last fence.
    written: HashSet<u64>,
    /// Some of them are in the launch's list.
    published: bool,
    /// Warps that have taken something over and run no fence since.
    stale: u32,
}

impl Unfenced {
    pub fn clear(&mut self) {
        self.written.clear();
        (self.published, self.stale) = (false, 0);
    }
}

fn pieces(at: u64, bytes: u64) -> std::ops::RangeInclusive<u64> {
    at >> PIECE..=(at + bytes - 1) >> PIECE
}

impl Block<'_> {
    fn checks_global_proxy(&self) -> bool {
        let checks = self.g.config.checks;
        self.g.program.has_bulk_loads && checks.global_races && checks.async_copies
    }

    /// Ordinary stores to global memory.
    pub(super) fn wrote_global(&mut self, t: &Target, bytes: u64, m: u32) {
        if !self.checks_global_proxy() {
            return;
        }
        let mut last = u64::MAX;
        for piece in lanes(m).flat_map(|l| pieces(t.offsets[l], bytes)) {
            if piece != last {
                self.unfenced.written.insert(piece);
                last = piece;
            }
        }
    }

    /// What this block has written may now be taken over by others.
    pub(super) fn publish_unfenced(&mut self) {
        if self.unfenced.written.is_empty() {
            return;
        }
        let mut list = self.g.unfenced.lock().unwrap_or_else(|e| e.into_inner());
        list.extend(self.unfenced.written.iter().map(|&piece| (piece, self.index)));
        self.unfenced.published = true;
    }

    pub(super) fn took_over(&mut self, w: &Warp) {
        self.unfenced.stale |= 1 << w.place.warp;
    }

    /// A fence.proxy.async that covers global memory.
    pub(super) fn fence_global(&mut self) {
        if self.unfenced.published {
            let mut list = self.g.unfenced.lock().unwrap_or_else(|e| e.into_inner());
            let written = &self.unfenced.written;
            list.retain(|piece, block| *block != self.index || !written.contains(piece));
        }
        self.unfenced.clear();
    }

    /// Reports a bulk load of something that was written with no fence in between.
    pub(super) fn fenced_global(
        &self,
        w: &Warp,
        i: &Instr,
        lane: usize,
        t: &Target,
        bytes: u64,
    ) -> Checked<()> {
        if !self.checks_global_proxy() {
            return Ok(());
        }
        let at = t.offsets[lane];
        let a = &self.g.allocations[t.allocations[lane] as usize];
        let from = at - a.base;
        let words = from as usize / 4..(from + bytes).div_ceil(4) as usize;
        if !global_race::written(&a.race_shadow()[words], self.g.epoch) {
            return Ok(());
        }
        let mine = || pieces(at, bytes).any(|piece| self.unfenced.written.contains(&piece));
        let others = || {
            let list = self.g.unfenced.lock().unwrap_or_else(|e| e.into_inner());
            pieces(at, bytes).any(|piece| list.get(&piece).is_some_and(|&by| by != self.index))
        };
        if mine() || self.unfenced.stale >> w.place.warp & 1 != 0 && others() {
            let message = "a bulk copy reads global memory that ordinary stores have written, and no fence.proxy.async is between them";
            let kind = FaultKind::MissingFence;
            return Err(self.address_fault(kind, w, i, lane as u32, message, "global", at));
        }
        Ok(())
    }
}
