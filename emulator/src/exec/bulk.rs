//! Bulk copies into shared memory: they land when an mbarrier is tested a second time. Stores are in `bulk_store`.
//!
//! A load's bytes are read from global memory at issue and are owed until they land. The first test of an mbarrier
//! fails while something is owed to it, as it may on a device: a program that tests once and continues is caught at its
//! first read.

use super::access::AccessKind;
use super::async_shadow::{CHUNK, Missing, Needed, Taken};
use super::block::{Block, Checked};
use super::bulk_store::StoreGroups;
use super::clocks::landings;
use super::mbar_object::mbar_owes;
use super::regs::lanes;
use super::warp::Warp;
use crate::check::{Fault, FaultKind};
use crate::decode::ir::*;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// Where a box lies in shared memory.
#[derive(Clone, Copy, Debug)]
pub struct SharedBox {
    pub at: u32,
    /// Of the address bits from 7 on, those that are XORed onto the bits from 4 on.
    pub swizzle: u32,
}

impl SharedBox {
    /// Where chunk `n` of the box is.
    #[inline]
    pub fn chunk(self, n: usize) -> usize {
        let at = self.at + (n * CHUNK) as u32;
        (at ^ (at >> 7 & self.swizzle) << 4) as usize
    }
}

/// A load that has not landed.
#[derive(Debug)]
struct BulkLoad {
    mbar: u32,
    tile: SharedBox,
    data: Vec<u8>,
    instr: Instr,
    warp: u32,
    lane: u32,
}

/// What a block's bulk copies still owe.
#[derive(Debug, Default)]
pub struct Bulk {
    loads: VecDeque<BulkLoad>,
    spare: Vec<Vec<u8>>,
    /// Each thread's stores, by warp and lane.
    pub stores: BTreeMap<(u32, u32), StoreGroups>,
    /// The last load that landed on each mbarrier: instruction, warp and lane.
    landed: HashMap<u32, (Instr, u32, u32)>,
    /// The warps that have tested an mbarrier, by its address, since something landed there.
    pub asked: HashSet<(u32, u32)>,
    /// Tensor maps that this block has acquired.
    pub acquired_maps: HashSet<u64>,
}

impl Bulk {
    pub fn clear(&mut self) {
        self.loads.clear();
        self.stores.clear();
        self.landed.clear();
        self.asked.clear();
        self.acquired_maps.clear();
    }

    /// An empty buffer, reused from earlier copies if possible.
    pub fn buffer(&mut self, bytes: usize) -> Vec<u8> {
        let mut data = self.spare.pop().unwrap_or_default();
        data.clear();
        data.reserve(bytes);
        data
    }

    pub fn recycle(&mut self, data: Vec<u8>) {
        self.spare.push(data);
    }

    pub fn owes(&self, mbar: u32) -> bool {
        self.loads.iter().any(|l| l.mbar == mbar)
    }
}

impl Block<'_> {
    #[cold]
    pub(super) fn shared_fault(
        &self,
        kind: FaultKind,
        w: &Warp,
        i: &Instr,
        lane: usize,
        at: u64,
        message: impl Into<String>,
    ) -> Box<Fault> {
        self.address_fault(kind, w, i, lane as u32, message, "shared", at)
    }

    /// A tile of `bytes` bytes at a shared address, which must be in range and a multiple of `align`.
    #[expect(clippy::too_many_arguments)]
    pub(super) fn tile(
        &self,
        w: &Warp,
        i: &Instr,
        lane: usize,
        at: u64,
        bytes: u64,
        align: u64,
        swizzle: u32,
    ) -> Checked<SharedBox> {
        if !at.is_multiple_of(align) {
            let message = format!(
                "a bulk copy of this layout at a shared address that is not a multiple of {align}"
            );
            return Err(self.shared_fault(FaultKind::Misaligned, w, i, lane, at, message));
        }
        let size = self.shared.bytes() as u64;
        if at > size || bytes > size - at {
            let message = format!("a bulk copy of {bytes} bytes outside shared memory");
            return Err(self.shared_fault(FaultKind::OutOfBounds, w, i, lane, at, message));
        }
        Ok(SharedBox { at: at as u32, swizzle })
    }

    /// Takes the bytes of a load in flight to `tile`.
    pub(super) fn bulk_load(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        lane: usize,
        tile: SharedBox,
        mbar: u64,
        data: Vec<u8>,
    ) -> Checked<()> {
        self.mbar_state(w, i, lane, mbar)?;
        let checks = self.g.config.checks;
        let warp = w.place.warp;
        let mut last = [0; 3];
        let looks = checks.async_copies || checks.shared_races;
        for n in 0..if looks { data.len() / CHUNK } else { 0 } {
            let at = tile.chunk(n);
            let known = &self.clocks.of[warp as usize];
            match self.shared.claim(at, warp, known, checks.async_copies, &mut last) {
                Some(Taken::Owed) => {
                    let message =
                        "a bulk copy into shared memory that another copy is still on its way to";
                    let kind = FaultKind::PendingAsyncCopy;
                    return Err(self.shared_fault(kind, w, i, lane, at as u64, message));
                }
                Some(Taken::Used(c)) if checks.shared_races && !self.clocks.exhausted => {
                    let message = format!(
                        "this bulk copy overwrites what {} still {}: nothing orders them",
                        self.who(c),
                        if c.other_wrote { "writes" } else { "reads" },
                    );
                    let kind = FaultKind::SharedRace;
                    return Err(self.shared_fault(kind, w, i, lane, at as u64, message));
                }
                _ => {}
            }
        }
        if self.g.config.counters {
            self.tally.async_copies += 1;
            self.tally.shared_requests += 1;
            self.tally.shared_bytes += data.len() as u64;
        }
        let load = BulkLoad { mbar: mbar as u32, tile, data, instr: *i, warp, lane: lane as u32 };
        self.bulk.loads.push_back(load);
        self.progress = self.executed;
        Ok(())
    }

    /// Lands the oldest load that an mbarrier waits for, if there is one.
    pub(super) fn land_load(&mut self, w: &mut Warp, i: &Instr, mbar: u32) -> Checked<bool> {
        let Some(at) = self.bulk.loads.iter().position(|l| l.mbar == mbar) else {
            return Ok(false);
        };
        let Some(load) = self.bulk.loads.remove(at) else { return Ok(false) };
        let agent = landings(mbar);
        let number = self.clocks.give(agent);
        let base = self.shared.pointer();
        for (n, chunk) in load.data.chunks_exact(CHUNK).enumerate() {
            let at = load.tile.chunk(n);
            // SAFETY: the tile was found to lie in shared memory, and swizzling stays inside its aligned pattern.
            unsafe { std::ptr::copy_nonoverlapping(chunk.as_ptr(), base.add(at), CHUNK) };
            self.shared.land_chunk(at, agent, number);
        }
        let clocks = self.mbar_clocks.entry(mbar).or_default();
        clocks.open.seen[agent] = clocks.open.seen[agent].max(number);
        let bytes = load.data.len() as i64;
        self.bulk.landed.insert(mbar, (load.instr, load.warp, load.lane));
        self.bulk.recycle(load.data);
        let at = u64::from(mbar);
        self.mbar_transact(w, i, load.lane as usize, at, -bytes)?;
        self.progress = self.executed;
        Ok(true)
    }

    /// Reports bytes that an asynchronous read finds unwritten or owed, if that is checked.
    pub(super) fn unreadable(
        &self,
        w: &Warp,
        i: &Instr,
        lane: usize,
        at: usize,
        what: &str,
    ) -> Checked<()> {
        let checks = self.g.config.checks;
        let at64 = at as u64;
        if self.shared.is_pending(at, 1) {
            if checks.async_copies {
                let message = format!("a {what} reads what a copy still has to bring");
                let kind = FaultKind::PendingAsyncCopy;
                return Err(self.shared_fault(kind, w, i, lane, at64, message));
            }
        } else if checks.uninitialised {
            let message = format!("a {what} reads memory that nothing has written");
            let kind = FaultKind::UninitialisedRead;
            return Err(self.shared_fault(kind, w, i, lane, at64, message));
        }
        Ok(())
    }

    /// Reports what this warp must know before an asynchronous read, and does not.
    pub(super) fn readable(
        &self,
        w: &Warp,
        i: &Instr,
        lane: usize,
        needed: &Needed,
        what: &str,
    ) -> Checked<()> {
        let warp = w.place.warp as usize;
        if !self.g.config.checks.shared_races || self.clocks.exhausted {
            return Ok(());
        }
        let Some((at, missing)) = needed.missing(warp, &self.clocks.of[warp]) else {
            return Ok(());
        };
        let (kind, message) = match missing {
            Missing::Order(c) => (
                FaultKind::SharedRace,
                format!("a {what} reads what {} wrote: no barrier orders them", self.who(c)),
            ),
            Missing::Fence(c) => (
                FaultKind::MissingFence,
                format!(
                    "a {what} reads what {} wrote with ordinary stores, and no fence.proxy.async is between them",
                    format_args!("warp {}", c.agent)
                ),
            ),
        };
        Err(self.shared_fault(kind, w, i, lane, at as u64, message))
    }

    /// A block has ended: every load must have landed, and every mbarrier must have got the bytes it was told to
    /// expect.
    pub(super) fn bulk_end(&self) -> Checked<()> {
        if !self.g.config.checks.async_copies {
            return Ok(());
        }
        let Some(load) = self.bulk.loads.front() else { return self.bytes_end() };
        let w = &self.warps[load.warp as usize];
        let message =
            "the block ends while this bulk copy is on its way: nothing has waited for it";
        let (lane, at) = (load.lane as usize, u64::from(load.tile.at));
        Err(self.shared_fault(FaultKind::PendingAsyncCopy, w, &load.instr, lane, at, message))
    }

    /// The bytes an mbarrier received in a phase must be those expected.
    fn bytes_end(&self) -> Checked<()> {
        let mut all: Vec<_> = self.bulk.landed.iter().collect();
        all.sort_by_key(|(at, _)| **at);
        for (&at, (instr, warp, lane)) in all {
            let owed = self.shared.untouched_word(at as usize).map_or(0, mbar_owes);
            if owed != 0 {
                let w = &self.warps[*warp as usize];
                let message = format!(
                    "the block ends while the mbarrier of this copy waits for {owed} bytes: more or fewer were expected than came"
                );
                let kind = FaultKind::PendingAsyncCopy;
                return Err(self.shared_fault(kind, w, instr, *lane as usize, at.into(), message));
            }
        }
        Ok(())
    }

    /// cp.async.bulk: a plain range, in either direction. The size is in `c`.
    pub(super) fn bulk_plain(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        op: BulkOp,
        m: u32,
    ) -> Checked<()> {
        let shared = w.regs.addresses(i.a, i.imm, op.shared64).map(|a| a & (WINDOW - 1));
        for l in lanes(m) {
            let (global, bytes) = (w.regs.r64(i.b)[l], u64::from(w.regs.r32(i.c)[l]));
            if !bytes.is_multiple_of(16) || !global.is_multiple_of(16) {
                let message = format!(
                    "a bulk copy of {bytes} bytes at {global:#x}: size and addresses must be multiples of 16"
                );
                return Err(self.fault(FaultKind::Misaligned, w, i, l as u32, message));
            }
            if bytes == 0 {
                continue;
            }
            let tile = self.tile(w, i, l, shared[l], bytes, 16, 0)?;
            if op.load {
                let mut data = self.bulk.buffer(bytes as usize);
                self.global_bytes(w, i, l, global, bytes, AccessKind::Read, |from| {
                    // SAFETY: `global_bytes` found this many live bytes there.
                    data.extend_from_slice(unsafe {
                        std::slice::from_raw_parts(from, bytes as usize)
                    });
                })?;
                let mbar = self.bulk_mbar(w, i, op, l);
                self.bulk_load(w, i, l, tile, mbar, data)?;
            } else {
                let reduce = op.reduce.and_then(|(f, ty)| Some((f, ty?)));
                let mut store = self.bulk_read(w, i, l, tile, bytes as usize, reduce)?;
                self.store_row(w, i, l, &mut store, global, 0..bytes as usize)?;
                self.bulk_issue(w, l, store);
            }
        }
        Ok(())
    }

    /// The address of the mbarrier that a load completes.
    pub(super) fn bulk_mbar(&self, w: &Warp, i: &Instr, op: BulkOp, lane: usize) -> u64 {
        let r = self.g.program.lists[i.list as usize];
        let at = match op.mbar64 {
            true => w.regs.r64(r)[lane],
            false => w.regs.r32(r)[lane].into(),
        };
        at & (WINDOW - 1)
    }
}
