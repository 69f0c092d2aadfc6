//! Bulk copies out of shared memory. A store takes its bytes when it is issued, and its source must not be overwritten
//! before its thread has waited for its group. It writes when its thread waits for more than the reading, or at the
//! latest when its block ends; until then nothing may touch the destination.

use super::access::AccessKind;
use super::async_shadow::{CHUNK, Needed};
use super::atomic::{bytes_of, update};
use super::block::{Block, Checked};
use super::bulk::SharedBox;
use super::clocks::stores;
use super::global_race;
use super::regs::lanes;
use super::shadow::shadow_words;
use super::shared::pack;
use super::warp::Warp;
use crate::decode::ir::*;
use std::collections::VecDeque;
use std::ops::Range;

/// Bytes in flight to global memory.
#[derive(Debug)]
pub struct BulkStore {
    data: Vec<u8>,
    /// Its place among its warp's stores.
    number: u32,
    rows: Vec<StoreRow>,
    /// It changes the existing elements, atomically.
    reduce: Option<(AtomFn, AtomTy)>,
}

/// Where part of the bytes goes: allocation and offset there.
#[derive(Debug)]
struct StoreRow {
    allocation: usize,
    offset: u64,
    part: Range<usize>,
}

#[derive(Debug, Default)]
struct StoreGroup {
    stores: Vec<BulkStore>,
    /// Waited for, as far as reading is concerned.
    read: bool,
}

/// A thread's groups of stores.
#[derive(Debug, Default)]
pub struct StoreGroups {
    open: StoreGroup,
    closed: VecDeque<StoreGroup>,
}

impl Block<'_> {
    /// Reads a tile for a store, in the order of the box.
    pub(super) fn bulk_read(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        lane: usize,
        tile: SharedBox,
        bytes: usize,
        reduce: Option<(AtomFn, AtomTy)>,
    ) -> Checked<BulkStore> {
        let warp = w.place.warp as usize;
        let agent = stores(warp);
        let number = self.clocks.give(agent);
        let me = pack(number, agent as u32, lane as u32, 0xf);
        let mut needed = Needed::default();
        let mut data = self.bulk.buffer(bytes);
        let base = self.shared.pointer();
        for n in 0..bytes / CHUNK {
            let at = tile.chunk(n);
            let known = &self.clocks.of[warp];
            if let Some(bad) = self.shared.async_read(at, me, known, &mut needed) {
                self.unreadable(w, i, lane, bad, "bulk store")?;
            }
            // SAFETY: the tile was found to lie in shared memory, and swizzling stays inside its aligned pattern.
            data.extend_from_slice(unsafe { std::slice::from_raw_parts(base.add(at), CHUNK) });
        }
        self.readable(w, i, lane, &needed, "bulk store")?;
        if self.g.config.counters {
            self.tally.async_copies += 1;
            self.tally.shared_requests += 1;
            self.tally.shared_bytes += bytes as u64;
        }
        self.progress = self.executed;
        Ok(BulkStore { data, number, rows: Vec::new(), reduce })
    }

    /// Directs part of a store to a global address.
    pub(super) fn store_row(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        lane: usize,
        store: &mut BulkStore,
        address: u64,
        part: Range<usize>,
    ) -> Checked<()> {
        let bytes = part.len() as u64;
        let t = self.global_of_lane(w, i, lane, address, bytes)?;
        self.tally_bulk(address, bytes, true);
        let allocation = t.allocations[lane] as usize;
        let a = &self.g.allocations[allocation];
        let offset = address - a.base;
        let checks = self.g.config.checks;
        if store.reduce.is_some() {
            self.shadow_lane(w, i, &t, lane, bytes, AccessKind::Atomic, false)?;
        } else if checks.global_races {
            // CUTLASS lets all lanes of a warp issue the same store: repeating it makes no difference.
            let words = offset as usize / 4..(offset + bytes).div_ceil(4) as usize;
            if !global_race::owed_by(&a.race_shadow()[words], self.g.epoch, self.index) {
                self.note_global(w, i, lane, a, address, bytes, false, true)?;
            }
            if checks.async_copies {
                for (word, mask) in shadow_words(offset, bytes) {
                    global_race::owe(&a.race_shadow()[word], self.g.epoch, self.index, mask);
                }
            }
        }
        store.rows.push(StoreRow { allocation, offset, part });
        Ok(())
    }

    /// A store is in flight.
    pub(super) fn bulk_issue(&mut self, w: &Warp, lane: usize, store: BulkStore) {
        let groups = self.bulk.stores.entry((w.place.warp, lane as u32)).or_default();
        groups.open.stores.push(store);
    }

    pub(super) fn bulk_commit(&mut self, w: &Warp, m: u32) {
        for l in lanes(m) {
            let groups = self.bulk.stores.entry((w.place.warp, l as u32)).or_default();
            let group = std::mem::take(&mut groups.open);
            groups.closed.push_back(group);
        }
    }

    /// Waits until at most `imm` of a thread's groups are unfinished or, for reads, still reading shared memory.
    pub(super) fn bulk_wait(&mut self, w: &Warp, i: &Instr, read_only: bool, m: u32) {
        let warp = w.place.warp as usize;
        for l in lanes(m) {
            let Some(groups) = self.bulk.stores.get_mut(&(w.place.warp, l as u32)) else {
                continue;
            };
            let over = groups.closed.len().saturating_sub(i.imm as usize);
            let seen = &mut self.clocks.of[warp].seen[stores(warp)];
            for group in groups.closed.iter_mut().take(over).filter(|g| !g.read) {
                group.read = true;
                *seen = group.stores.iter().map(|s| s.number).fold(*seen, u32::max);
            }
            if !read_only {
                let done: Vec<_> = groups.closed.drain(..over).collect();
                done.into_iter().for_each(|group| self.land_stores(group, false));
            }
        }
    }

    fn land_stores(&mut self, group: StoreGroup, late: bool) {
        for store in group.stores {
            for StoreRow { allocation, offset, part } in &store.rows {
                let a = &self.g.allocations[*allocation];
                let from = &store.data[part.clone()];
                if let Some((f, ty)) = store.reduce {
                    let size = bytes_of(ty) as usize;
                    for (n, element) in from.chunks_exact(size).enumerate() {
                        let value = element.iter().rev().fold(0, |v, &b| v << 8 | u64::from(b));
                        // SAFETY: as below; bulk copies are aligned to 16 bytes and rows begin at whole elements.
                        unsafe {
                            let to = a.pointer().add(*offset as usize + n * size);
                            update(to, f, ty, value, 0);
                        }
                    }
                    continue;
                }
                a.mark_init(*offset, from.len() as u64);
                // SAFETY: `store_row` found this many bytes there; allocations outlive the launch.
                unsafe {
                    let to = a.pointer().add(*offset as usize);
                    std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len());
                }
                let checks = self.g.config.checks;
                if checks.global_races && checks.async_copies {
                    for (word, _) in shadow_words(*offset, from.len() as u64) {
                        global_race::pay(&a.race_shadow()[word], late);
                    }
                }
            }
            self.bulk.recycle(store.data);
        }
    }

    /// A block has ended: everything it has stored is written.
    pub(super) fn stores_end(&mut self) {
        for (_, groups) in std::mem::take(&mut self.bulk.stores) {
            groups.closed.into_iter().for_each(|group| self.land_stores(group, true));
            self.land_stores(groups.open, true);
        }
    }
}
