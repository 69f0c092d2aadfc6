//! A block's shared memory and its shadow: what has been written, what an asynchronous copy still owes, and who
//! touched each word last.
//!
//! Order between warps is kept as vector clocks: a warp's own clock advances when it releases (arrives at a
//! barrier), and a warp that waits takes over what the arrivals knew. Two accesses conflict when one of them
//! writes and neither's clock is known to the other.

pub const WARPS: usize = 32;
/// Clocks have 18 bits in a cell.
const CLOCK_LIMIT: u32 = (1 << 18) - 8;

/// `vc[w][x]`: what warp w knows of warp x's clock.
#[derive(Debug)]
pub struct Clocks {
    pub vc: [[u32; WARPS]; WARPS],
    /// A clock ran out of bits: no more race checks in this block.
    exhausted: bool,
}

impl Default for Clocks {
    fn default() -> Self {
        let mut vc = [[0; WARPS]; WARPS];
        for (w, row) in vc.iter_mut().enumerate() {
            row[w] = 1;
        }
        Self {
            vc,
            exhausted: false,
        }
    }
}

pub fn join(into: &mut [u32; WARPS], from: &[u32; WARPS]) {
    for (a, b) in into.iter_mut().zip(from) {
        *a = (*a).max(*b);
    }
}

impl Clocks {
    /// The warp publishes what it did into `to`, and moves on.
    pub fn release(&mut self, warp: usize, to: &mut [u32; WARPS]) {
        join(to, &self.vc[warp]);
        self.bump(warp);
    }

    pub fn acquire(&mut self, warp: usize, from: &[u32; WARPS]) {
        join(&mut self.vc[warp], from);
    }

    /// Orders the lanes of a warp among themselves.
    pub fn bump(&mut self, warp: usize) {
        let own = &mut self.vc[warp][warp];
        if *own < CLOCK_LIMIT {
            *own += 1;
        } else {
            self.exhausted = true;
        }
    }

    pub fn nearly_exhausted(&self) -> bool {
        self.vc
            .iter()
            .enumerate()
            .any(|(w, row)| row[w] > CLOCK_LIMIT - 1024)
    }
}

/// The shadow of four bytes. An access is packed as clock, warp, lane and byte mask.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    writer: u32,
    readers: [u32; 2],
    /// Bits 0 to 3: written; 4 to 7: owed by an asynchronous copy.
    flags: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub warp: u32,
    pub lane: u32,
    pub other_wrote: bool,
}

#[derive(Debug)]
pub struct Shared {
    data: Vec<u64>,
    bytes: usize,
    cells: Vec<Cell>,
}

fn pack(clock: u32, warp: u32, lane: u32, mask: u32) -> u32 {
    clock << 14 | warp << 9 | lane << 4 | mask
}

/// Each word that `bytes` bytes at `offset` touch, with the mask of its bytes.
#[inline(always)]
fn words(offset: usize, bytes: usize) -> impl Iterator<Item = (usize, u32)> {
    let end = offset + bytes;
    (offset / 4..end.div_ceil(4)).map(move |word| {
        let (from, to) = (
            offset.max(word * 4) - word * 4,
            end.min(word * 4 + 4) - word * 4,
        );
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
        for (word, mask) in words(offset, bytes) {
            let flags = &mut self.cells[word].flags;
            *flags = if pending {
                *flags | mask << 4
            } else {
                *flags & !(mask << 4)
            };
        }
    }

    /// Notes a read; says with which write it conflicts.
    #[inline]
    pub fn read(
        &mut self,
        clocks: &Clocks,
        warp: u32,
        lane: u32,
        offset: usize,
        bytes: usize,
    ) -> Option<Conflict> {
        if clocks.exhausted {
            return None;
        }
        let known = &clocks.vc[warp as usize];
        let own = known[warp as usize];
        let mut conflict = None;
        for (word, mask) in words(offset, bytes) {
            let me = pack(own, warp, lane, mask);
            let cell = &mut self.cells[word];
            if conflict.is_none() && unordered(cell.writer, me, known) {
                conflict = Some(told(cell.writer, true));
            }
            let [a, b] = cell.readers;
            let same = |e: u32| e >> 9 & 31 == warp;
            let old = |e: u32| e == 0 || e >> 14 <= known[(e >> 9 & 31) as usize] && !same(e);
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

    /// Notes a write; says with which access it conflicts.
    #[inline]
    pub fn write(
        &mut self,
        clocks: &Clocks,
        warp: u32,
        lane: u32,
        offset: usize,
        bytes: usize,
    ) -> Option<Conflict> {
        if clocks.exhausted {
            return None;
        }
        let known = &clocks.vc[warp as usize];
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

/// Whether access `e` shares bytes with `me` and nothing orders it before.
#[inline(always)]
fn unordered(e: u32, me: u32, known: &[u32; WARPS]) -> bool {
    if e & me & 0xf == 0 || e == 0 {
        return false;
    }
    let (clock, warp) = (e >> 14, e >> 9 & 31);
    if warp == me >> 9 & 31 {
        // Lanes of one warp: ordered by a warp barrier, and each with itself.
        return clock == me >> 14 && e >> 4 & 31 != me >> 4 & 31;
    }
    clock > known[warp as usize]
}

fn told(e: u32, other_wrote: bool) -> Conflict {
    Conflict {
        warp: e >> 9 & 31,
        lane: e >> 4 & 31,
        other_wrote,
    }
}
