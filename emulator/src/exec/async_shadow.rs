//! The shadow of shared memory as asynchronous operations see it, sixteen bytes at a time: what a product or a bulk
//! store reads, what a bulk load will overwrite, and its landing.

use super::clocks::{AGENTS, Known, PRODUCTS, WARPS};
use super::shared::{LaneConflict, Shared, agent, clock, pack, told, words};

/// Bytes that one step covers: the unit of swizzles and of bulk copies.
pub const CHUNK: usize = 16;

/// What a warp must know before an asynchronous operation may read for it: per agent, the clock and place of a write.
#[derive(Clone, Debug)]
pub struct Needed {
    seen: [u32; AGENTS],
    at: [u32; AGENTS],
    last: u32,
}

impl Default for Needed {
    fn default() -> Self {
        Self { seen: [0; AGENTS], at: [0; AGENTS], last: 0 }
    }
}

/// Why an asynchronous read is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Nothing orders it after this write.
    Order(LaneConflict),
    /// It is ordered after a write that no proxy fence has made visible.
    Fence(LaneConflict),
}

/// Why a chunk may not be overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Another copy to it is in flight.
    Owed,
    /// Nothing orders this use before.
    Used(LaneConflict),
}

impl Needed {
    /// What this warp's `known` lacks, and where.
    pub fn missing(&self, warp: usize, known: &Known) -> Option<(usize, Missing)> {
        for a in 0..AGENTS {
            let needed = self.seen[a];
            let by = LaneConflict { agent: a as u32, lane: 0, other_wrote: true };
            if a != warp && needed > known.seen[a] {
                return Some((self.at[a] as usize, Missing::Order(by)));
            }
            if a < WARPS && needed > known.fenced[a] {
                return Some((self.at[a] as usize, Missing::Fence(by)));
            }
        }
        None
    }
}

impl Shared {
    /// An asynchronous read of a chunk by `agent`, numbered `number`. Returns the first byte that is unwritten or owed.
    #[inline]
    pub(super) fn async_read(
        &mut self,
        offset: usize,
        me: u32,
        known: &Known,
        needed: &mut Needed,
    ) -> Option<usize> {
        let cells = &mut self.cells[offset / 4..offset / 4 + CHUNK / 4];
        for (n, cell) in cells.iter_mut().enumerate() {
            if cell.flags != 0xf {
                let bad = (!cell.flags | cell.flags >> 4) & 0xf;
                return Some(offset + n * 4 + bad.trailing_zeros() as usize);
            }
            let writer = cell.writer;
            if writer | 0xf != needed.last {
                let by = agent(writer) as usize;
                if clock(writer) > needed.seen[by] {
                    needed.seen[by] = clock(writer);
                    needed.at[by] = (offset + n * 4) as u32;
                }
                needed.last = writer | 0xf;
            }
            let [a, b] = cell.readers;
            let old = |e: u32| e == 0 || agent(e) == agent(me);
            let slot = if old(a) {
                0
            } else if old(b) {
                1
            } else {
                // One of the two is evicted, if possible one that this warp knows to be over.
                usize::from(clock(a) > known.seen[agent(a) as usize])
            };
            cell.readers[slot] = me;
        }
        None
    }

    /// A bulk load of `warp` will overwrite a chunk: it is owed from now on if `owe` is set. Returns what forbids it.
    /// `last` remembers uses already found to be over.
    pub(super) fn claim(
        &mut self,
        offset: usize,
        warp: u32,
        known: &Known,
        owe: bool,
        last: &mut [u32; 3],
    ) -> Option<Taken> {
        let open = |e: u32| e != 0 && agent(e) != warp && clock(e) > known.seen[agent(e) as usize];
        let mut taken = None;
        for cell in &mut self.cells[offset / 4..offset / 4 + CHUNK / 4] {
            if cell.flags > 0xf && owe {
                return Some(Taken::Owed);
            }
            let [a, b] = cell.readers;
            if [cell.writer, a, b] != *last {
                let reader = [a, b].into_iter().find(|&r| open(r)).map(|r| told(r, false));
                let by = reader.or_else(|| open(cell.writer).then(|| told(cell.writer, true)));
                taken = taken.or(by.map(Taken::Used));
                *last = [cell.writer, a, b];
            }
            if owe {
                cell.flags |= 0xf0;
            }
        }
        taken
    }

    /// A strong write or an atomic, in a kernel whose asynchronous operations read shared memory: it must not touch what
    /// they still read, and they must not read it without a fence.
    pub(super) fn strong_write(
        &mut self,
        known: &Known,
        warp: u32,
        lane: u32,
        offset: usize,
        bytes: usize,
    ) -> Option<LaneConflict> {
        let mut conflict = None;
        for (word, mask) in words(offset, bytes) {
            let cell = &mut self.cells[word];
            let open = |e: u32| {
                let by = agent(e) as usize;
                e != 0 && e & mask != 0 && by >= PRODUCTS && clock(e) > known.seen[by]
            };
            if let Some(reader) = cell.readers.into_iter().find(|&e| open(e)) {
                conflict = Some(told(reader, false));
            }
            cell.writer = pack(known.seen[warp as usize], warp, lane, mask);
        }
        conflict
    }

    /// Eight bytes that no ordinary store has written, such as an mbarrier.
    pub(super) fn untouched_word(&self, offset: usize) -> Option<u64> {
        let cells = &self.cells[offset / 4..offset / 4 + 2];
        cells.iter().all(|c| c.writer == 0).then(|| self.word(offset))
    }

    /// A chunk of a bulk load lands.
    pub(super) fn land_chunk(&mut self, offset: usize, agent: usize, number: u32) {
        let writer = pack(number, agent as u32, 0, 0xf);
        for cell in &mut self.cells[offset / 4..offset / 4 + CHUNK / 4] {
            (cell.writer, cell.readers, cell.flags) = (writer, [0; 2], 0xf);
        }
    }
}
