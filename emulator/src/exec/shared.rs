//! A block's shared memory and its shadow: what has been written, what an asynchronous copy still owes, and who touched
//! each word last. Two accesses conflict if one of them writes and neither's clock is known to the other.

use super::clocks::{AGENTS, Clocks};

/// The shadow of four bytes. An access is packed as clock, agent, lane and byte mask.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(16))]
pub(super) struct Cell {
    pub writer: u32,
    pub readers: [u32; 2],
    /// Bits 0 to 3: written; 4 to 7: owed by an asynchronous copy.
    pub flags: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneConflict {
    /// A warp, or an agent that runs alongside the warps (see `clocks`).
    pub agent: u32,
    pub lane: u32,
    pub other_wrote: bool,
}

#[derive(Debug)]
pub struct Shared {
    data: Vec<u64>,
    bytes: usize,
    pub(super) cells: Vec<Cell>,
}

pub(super) fn pack(clock: u32, agent: u32, lane: u32, mask: u32) -> u32 {
    clock << 15 | agent << 9 | lane << 4 | mask
}

pub(super) fn agent(e: u32) -> u32 {
    e >> 9 & 63
}

pub(super) fn clock(e: u32) -> u32 {
    e >> 15
}

/// Each word that `bytes` bytes at `offset` touch, with the mask of its bytes.
#[inline(always)]
pub(super) fn words(offset: usize, bytes: usize) -> impl Iterator<Item = (usize, u32)> {
    let end = offset + bytes;
    (offset / 4..end.div_ceil(4)).map(move |word| {
        let (from, to) = (offset.max(word * 4) - word * 4, end.min(word * 4 + 4) - word * 4);
        (word, (0xfu32 << from) & (0xf >> (4 - to)))
    })
}

impl Shared {
    pub fn new(bytes: usize) -> Self {
        Self {
            data: vec![0; bytes.div_ceil(8)],
            bytes,
            cells: vec![Cell::default(); bytes.div_ceil(4)],
        }
    }

    pub fn reset(&mut self) {
        self.cells.fill(Cell::default());
    }

    /// Writes zeros, which count as written.
    pub fn clear(&mut self, offset: usize, bytes: usize) {
        assert!(offset + bytes <= self.bytes);
        // SAFETY: the range was just found to lie in this memory.
        unsafe { self.pointer().add(offset).write_bytes(0, bytes) };
        self.mark_init(offset, bytes);
    }

    /// The eight bytes at a multiple of eight.
    pub(super) fn word(&self, offset: usize) -> u64 {
        self.data[offset / 8]
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline(always)]
    pub fn pointer(&mut self) -> *mut u8 {
        self.data.as_mut_ptr().cast()
    }

    pub fn forget_accesses(&mut self) {
        for c in &mut self.cells {
            (c.writer, c.readers) = (0, [0; 2]);
        }
    }

    pub fn first_uninit(&self, offset: usize, bytes: usize) -> Option<usize> {
        words(offset, bytes).find_map(|(word, mask)| {
            let missing = mask & !self.cells[word].flags;
            (missing != 0).then(|| word * 4 + missing.trailing_zeros() as usize)
        })
    }

    pub fn mark_init(&mut self, offset: usize, bytes: usize) {
        for (word, mask) in words(offset, bytes) {
            self.cells[word].flags |= mask;
        }
    }

    pub fn is_pending(&self, offset: usize, bytes: usize) -> bool {
        words(offset, bytes).any(|(word, mask)| self.cells[word].flags >> 4 & mask != 0)
    }

    pub fn set_pending(&mut self, offset: usize, bytes: usize, pending: bool) {
        if pending && offset.is_multiple_of(4) && bytes.is_multiple_of(4) {
            self.cells[offset / 4..(offset + bytes) / 4].iter_mut().for_each(|c| c.flags |= 0xf0);
            return;
        }
        for (word, mask) in words(offset, bytes) {
            let flags = &mut self.cells[word].flags;
            *flags = if pending { *flags | mask << 4 } else { *flags & !(mask << 4) };
        }
    }

    /// The fast path for a whole warp and whole words, with all checks on: true if every word is written, owed nothing,
    /// and free of conflicts, the accesses then being noted. Otherwise it says nothing, and lane by lane must decide;
    /// what has been noted meanwhile does not change what those calls find.
    pub fn sweep(
        &mut self,
        clocks: &Clocks,
        warp: u32,
        offsets: &[u64; 32],
        mask: u32,
        bytes: u64,
        how: Sweep,
    ) -> bool {
        if clocks.exhausted || !bytes.is_multiple_of(4) {
            return false;
        }
        let known = &clocks.of[warp as usize].seen;
        let me = pack(known[warp as usize], warp, 0, 0xf);
        let offsets = Offsets { at: offsets, mask, words: bytes as usize / 4 };
        #[cfg(target_arch = "x86_64")]
        if bytes == 16 && is_x86_feature_detected!("avx512f") {
            let settled = clocks.settled(warp as usize);
            // SAFETY: the feature was just found.
            if unsafe { vector::sweep(&mut self.cells, offsets, settled, me, how) } {
                return true;
            }
        }
        sweep(&mut self.cells, offsets, known, me, how)
    }

    /// Notes a read; returns the write it conflicts with.
    #[inline]
    pub fn read(
        &mut self,
        clocks: &Clocks,
        warp: u32,
        lane: u32,
        offset: usize,
        bytes: usize,
    ) -> Option<LaneConflict> {
        if clocks.exhausted {
            return None;
        }
        let known = &clocks.of[warp as usize].seen;
        let own = known[warp as usize];
        let mut conflict = None;
        for (word, mask) in words(offset, bytes) {
            let me = pack(own, warp, lane, mask);
            let cell = &mut self.cells[word];
            if conflict.is_none() && unordered(cell.writer, me, known) {
                conflict = Some(told(cell.writer, true));
            }
            let [a, b] = cell.readers;
            let same = |e: u32| agent(e) == warp;
            let old = |e: u32| e == 0 || clock(e) <= known[agent(e) as usize] && !same(e);
            if same(a) && a != 0 || b == 0 && a == 0 {
                cell.readers[0] = me;
            } else if same(b) && b != 0 {
                cell.readers[1] = me;
            } else if old(a) {
                cell.readers[0] = me;
            } else {
                cell.readers[1] = me;
            }
        }
        conflict
    }

    /// Notes a write; returns the access it conflicts with.
    #[inline]
    pub fn write(
        &mut self,
        clocks: &Clocks,
        warp: u32,
        lane: u32,
        offset: usize,
        bytes: usize,
    ) -> Option<LaneConflict> {
        if clocks.exhausted {
            return None;
        }
        let known = &clocks.of[warp as usize].seen;
        let own = known[warp as usize];
        let mut conflict = None;
        for (word, mask) in words(offset, bytes) {
            let me = pack(own, warp, lane, mask);
            let cell = &mut self.cells[word];
            for reader in cell.readers {
                if unordered(reader, me, known) {
                    conflict = Some(told(reader, false));
                }
            }
            if unordered(cell.writer, me, known) && conflict.is_none() {
                conflict = Some(told(cell.writer, true));
            }
            cell.writer = me;
            if mask == 0xf {
                cell.readers = [0; 2];
            }
        }
        conflict
    }
}

/// What [`Shared::sweep`] notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    Read,
    Write,
    /// An asynchronous copy lands: as a write, but what was owed is paid.
    Land,
}

/// Whole aligned words of the lanes of `mask`.
#[derive(Clone, Copy)]
struct Offsets<'a> {
    at: &'a [u64; 32],
    mask: u32,
    words: usize,
}

fn sweep(cells: &mut [Cell], o: Offsets, known: &[u32; AGENTS], me: u32, how: Sweep) -> bool {
    // Ordered before this access, whoever made it.
    let past = |e: u32| {
        let bound = known[agent(e) as usize];
        e == 0 || clock(e) < bound + u32::from(agent(e) != agent(me))
    };
    let mut rest = o.mask;
    while rest != 0 {
        let lane = rest.trailing_zeros();
        rest &= rest - 1;
        let me = me | lane << 4;
        let at = o.at[lane as usize] as usize / 4;
        let Some(row) = cells.get_mut(at..at + o.words) else {
            return false;
        };
        for cell in row {
            let [a, b] = cell.readers;
            if how == Sweep::Read {
                if cell.flags != 0xf || !past(cell.writer) {
                    return false;
                }
                // Replaces an entry that later writes need not look at any more, or the warp's own.
                let slot = usize::from(!past(a) && a >> 9 != me >> 9);
                cell.readers[slot] = me;
            } else {
                // What the fast path has already noted does not conflict with itself.
                let written = !past(cell.writer) && cell.writer != me;
                let used = written || !past(a) || !past(b);
                if used || how == Sweep::Write && cell.flags > 0xf {
                    return false;
                }
                *cell = Cell { writer: me, readers: [0; 2], flags: 0xf };
            }
        }
    }
    true
}

#[cfg(target_arch = "x86_64")]
mod vector {
    //! The same for 16 bytes per lane: four cells at once.

    use super::{Cell, Offsets, Sweep};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f")]
    pub fn sweep(cells: &mut [Cell], o: Offsets, settled: u32, me: u32, how: Sweep) -> bool {
        // In each cell: word 0 the writer, 1 and 2 the readers, 3 the flags.
        const WRITER: u16 = 0x1111;
        const READER: u16 = 0x2222;
        const FLAGS: u16 = 0x8888;
        let bound = _mm512_set1_epi32(settled as i32);
        let whole = _mm512_set1_epi32(0xf);
        let mut rest = o.mask;
        while rest != 0 {
            let lane = rest.trailing_zeros();
            rest &= rest - 1;
            let mine = (me | lane << 4) as i32;
            let at = o.at[lane as usize] as usize / 4;
            let Some(row) = cells.get_mut(at..at + 4) else {
                return false;
            };
            let row = row.as_mut_ptr().cast::<i32>();
            // SAFETY: four cells of four words each, 64 bytes.
            let v = unsafe { _mm512_loadu_si512(row.cast()) };
            let old = _mm512_cmplt_epu32_mask(v, bound);
            if how == Sweep::Read {
                if old & WRITER != WRITER || _mm512_cmpeq_epi32_mask(v, whole) & FLAGS != FLAGS {
                    return false;
                }
                let own = _mm512_cmpeq_epi32_mask(
                    _mm512_srli_epi32::<9>(v),
                    _mm512_set1_epi32((me >> 9) as i32),
                );
                let first = (old | own) & READER;
                let second = (!first & READER) << 1;
                // SAFETY: as above; the mask names words of the row.
                unsafe { _mm512_mask_storeu_epi32(row, first | second, _mm512_set1_epi32(mine)) };
            } else {
                let unowed = _mm512_cmple_epu32_mask(v, whole) & FLAGS == FLAGS;
                if old | FLAGS != 0xffff || how == Sweep::Write && !unowed {
                    return false;
                }
                // SAFETY: as above.
                unsafe {
                    _mm512_storeu_si512(
                        row.cast(),
                        _mm512_broadcast_i32x4(_mm_setr_epi32(mine, 0, 0, 0xf)),
                    )
                };
            }
        }
        true
    }
}

/// Whether access `e` shares bytes with `me` and nothing orders it before.
#[inline(always)]
fn unordered(e: u32, me: u32, known: &[u32; AGENTS]) -> bool {
    if e & me & 0xf == 0 || e == 0 {
        return false;
    }
    if agent(e) == agent(me) {
        // Lanes of one warp: ordered by a warp barrier, and each with itself.
        return clock(e) == clock(me) && e >> 4 & 31 != me >> 4 & 31;
    }
    clock(e) > known[agent(e) as usize]
}

pub(super) fn told(e: u32, other_wrote: bool) -> LaneConflict {
    LaneConflict { agent: agent(e), lane: e >> 4 & 31, other_wrote }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fast path and the slow one agree on random accesses by four warps with barriers between some.
    #[test]
    fn sweeps_find_what_single_accesses_find() {
        let mut state = 5u64;
        let mut next = move |n: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % n
        };
        let (mut quick, mut clean) = (0, 0);
        for bytes in [4u64, 8, 16] {
            let (mut a, mut b) = (Shared::new(2048), Shared::new(2048));
            let mut clocks = Clocks::new(4);
            a.mark_init(0, 1024);
            b.mark_init(0, 1024);
            for _ in 0..4000 {
                if next(4) == 0 {
                    let mut all = crate::exec::clocks::Known::default();
                    (0..4).for_each(|w| clocks.release(w, &mut all));
                    (0..4).for_each(|w| clocks.acquire(w, &all));
                }
                let warp = next(4) as u32;
                let base = next(1024) / bytes * bytes;
                let offsets: [u64; 32] = std::array::from_fn(|l| (base + l as u64 * bytes) % 2048);
                let mask = if next(2) == 0 { u32::MAX } else { next(1 << 32) as u32 };
                let write = next(2) == 0;
                let how = if write { Sweep::Write } else { Sweep::Read };
                let ok = a.sweep(&clocks, warp, &offsets, mask, bytes, how);
                let mut found = false;
                for lane in (0..32).filter(|l| mask >> l & 1 != 0) {
                    let (at, n) = (offsets[lane] as usize, bytes as usize);
                    let conflict = if write {
                        b.mark_init(at, n);
                        b.write(&clocks, warp, lane as u32, at, n)
                    } else {
                        found |= b.first_uninit(at, n).is_some();
                        b.read(&clocks, warp, lane as u32, at, n)
                    };
                    found |= conflict.is_some();
                    if !ok && write {
                        a.mark_init(at, n);
                    }
                }
                assert!(!(ok && found), "a sweep missed a conflict");
                quick += u32::from(ok);
                clean += u32::from(!found);
                // Both continue from the same shadow.
                a.cells.copy_from_slice(&b.cells);
            }
        }
        assert!(quick > 500 && clean > quick, "{quick} {clean}");
    }
}
