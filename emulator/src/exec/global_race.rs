//! Conflicting accesses of global memory by different blocks of one launch.
//!
//! A shadow word per four bytes remembers the last writing and the last reading block. Blocks may order themselves: a
//! fence followed by an atomic or volatile store publishes, a later atomic or volatile load of the same address by
//! another block takes over, and earlier accesses then do not conflict.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Blocks are identified by 24 bits; this one means "several".
const MANY: u64 = 0xff_ffff;

/// The writer of a word that a bulk store has written at the end of its block, which did not wait for it.
const LATE: u64 = MANY - 2;

/// The reader of a word that a bulk store has yet to write; its writer is that store's block.
const STORE: u64 = MANY - 1;

/// How a shadow word names a block: from 1, and the last number for all blocks beyond the available bits.
fn number(block: u64) -> u64 {
    block.min(LATE - 2) + 1
}

/// Who released what, in one common sequence.
#[derive(Default)]
pub struct Ordering {
    any: AtomicBool,
    inner: Mutex<Releases>,
}

#[derive(Default)]
struct Releases {
    sequence: u64,
    /// For each address, when each block first released it.
    released: HashMap<u64, HashMap<u64, u64>>,
    /// When each block acquired which address.
    acquired: HashMap<u64, Vec<(u64, u64)>>,
}

impl Ordering {
    pub fn release(&self, address: u64, block: u64) {
        self.any.store(true, Relaxed);
        let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        inner.sequence += 1;
        let now = inner.sequence;
        inner.released.entry(address).or_default().entry(block).or_insert(now);
    }

    pub fn acquire(&self, address: u64, block: u64) {
        if !self.any.load(Relaxed) {
            return;
        }
        let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        if !inner.released.contains_key(&address) {
            return;
        }
        inner.sequence += 1;
        let now = inner.sequence;
        let list = inner.acquired.entry(block).or_default();
        match list.iter_mut().find(|(a, _)| *a == address) {
            Some(entry) => entry.1 = now,
            None => list.push((address, now)),
        }
    }

    /// Whether block `a` published something that block `b` has since taken over, perhaps through others.
    pub fn ordered(&self, a: u64, b: u64) -> bool {
        if !self.any.load(Relaxed) {
            return false;
        }
        let inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        let mut seen = HashSet::from([b]);
        let mut work = vec![(b, u64::MAX)];
        while let Some((block, before)) = work.pop() {
            for &(address, at) in inner.acquired.get(&block).map_or(&[][..], |v| v) {
                let at = at.min(before);
                let Some(releases) = inner.released.get(&address) else {
                    continue;
                };
                if a == MANY - 1 || releases.get(&a).is_some_and(|&r| r <= at) {
                    return true;
                }
                for (&other, &r) in releases {
                    if r <= at && seen.len() < 4096 && seen.insert(other) {
                        work.push((other, r));
                    }
                }
            }
        }
        false
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockConflict {
    /// `None`: several blocks.
    pub block: Option<u64>,
    pub other: Other,
}

/// What an access conflicts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    Wrote,
    Read,
    /// A bulk store that has yet to write, perhaps one of the same block.
    Stores,
    /// A bulk store whose block ended without a wait for it.
    Late,
}

// A shadow word: epoch 8 bits, writer 24 + byte mask 4, reader 24 + byte mask 4.
fn entry(epoch: u64, writer: u64, wmask: u64, reader: u64, rmask: u64) -> u64 {
    epoch << 56 | writer << 32 | wmask << 28 | reader << 4 | rmask
}

/// Notes a read of whole words by `block`, the fast path. Returns false, saying nothing about the rest, at the first
/// word that was written in this launch or read in part.
#[inline]
pub fn note_reads(cells: &[AtomicU64], epoch: u64, block: u64) -> bool {
    let me = number(block);
    let (mine, many) = (entry(epoch, 0, 0, me, 0xf), entry(epoch, 0, 0, MANY, 0xf));
    cells.iter().all(|cell| {
        let old = cell.load(Relaxed);
        if old == mine || old == many {
            return true;
        }
        let new = if old >> 56 != epoch {
            mine
        } else if old >> 28 & 0xfff_ffff == 0 && old & 0xf == 0xf {
            // Another block has read it, and none has written it.
            many
        } else {
            return false;
        };
        cell.compare_exchange(old, new, Relaxed, Relaxed).is_ok()
    })
}

/// Whether this launch has written any of these words.
pub fn written(cells: &[AtomicU64], epoch: u64) -> bool {
    cells.iter().any(|cell| {
        let old = cell.load(Relaxed);
        old >> 56 == epoch && old >> 32 & 0xff_ffff != 0
    })
}

/// Whether the launch `epoch` has read or written any of these words.
pub fn touched(cells: &[AtomicU64], epoch: u64) -> bool {
    cells.iter().any(|cell| cell.load(Relaxed) >> 56 == epoch)
}

/// A bulk store of `block` is in flight to the bytes `mask` of a word.
pub fn owe(cell: &AtomicU64, epoch: u64, block: u64, mask: u64) {
    let me = number(block);
    cell.store(entry(epoch, me, mask, STORE, mask), Relaxed);
}

/// Whether bulk stores of `block` are in flight to all of these words.
pub fn owed_by(cells: &[AtomicU64], epoch: u64, block: u64) -> bool {
    let me = number(block);
    cells.iter().all(|cell| {
        let old = cell.load(Relaxed);
        old >> 56 == epoch && old >> 4 & 0xff_ffff == STORE && old >> 32 & 0xff_ffff == me
    })
}

/// A bulk store has written this word; `late`: because its block has ended.
pub fn pay(cell: &AtomicU64, late: bool) {
    let old = cell.load(Relaxed);
    if old >> 4 & 0xff_ffff == STORE {
        let writer = if late { LATE } else { old >> 32 & 0xff_ffff };
        cell.store(entry(old >> 56, writer, old >> 28 & 0xf, 0, 0), Relaxed);
    }
}

/// Whether a bulk store of this launch is in flight to any of these words.
pub fn owed(cells: &[AtomicU64], epoch: u64) -> bool {
    cells.iter().any(|cell| {
        let old = cell.load(Relaxed);
        old >> 56 == epoch && old >> 4 & 0xff_ffff == STORE
    })
}

/// Notes an access of the bytes `mask` of a shadow word by `block`; returns what it conflicts with.
#[inline]
pub fn note(
    cell: &AtomicU64,
    epoch: u64,
    block: u64,
    mask: u64,
    write: bool,
) -> Option<BlockConflict> {
    let me = number(block);
    let old = cell.load(Relaxed);
    if old >> 56 != epoch {
        let new = if write { entry(epoch, me, mask, 0, 0) } else { entry(epoch, 0, 0, me, mask) };
        // Losing a race for a fresh cell only forgets the older of two simultaneous accesses.
        if cell.compare_exchange(old, new, Relaxed, Relaxed).is_ok() {
            return None;
        }
    }
    let old = cell.load(Relaxed);
    // The epoch's top byte sits above the writer.
    let (writer, wmask) = (old >> 32 & 0xff_ffff, old >> 28 & 0xf);
    let (reader, rmask) = (old >> 4 & 0xff_ffff, old & 0xf);
    let by = |of: u64, other| Some(BlockConflict { block: (of != MANY).then(|| of - 1), other });
    if reader == STORE && rmask & mask != 0 {
        return by(writer, Other::Stores);
    }
    if writer == LATE && wmask & mask != 0 {
        return Some(BlockConflict { block: None, other: Other::Late });
    }
    let mut conflict = None;
    if writer != 0 && writer != me && wmask & mask != 0 {
        conflict = by(writer, Other::Wrote);
    }
    let new = if write {
        if conflict.is_none() && reader != 0 && reader != me && rmask & mask != 0 {
            conflict = by(reader, Other::Read);
        }
        let wmask = if writer == me { wmask | mask } else { mask };
        let (reader, rmask) = if rmask & !mask == 0 { (0, 0) } else { (reader, rmask) };
        entry(epoch, me, wmask, reader, rmask)
    } else {
        let (reader, rmask) = match reader {
            0 => (me, mask),
            r if r == me => (me, rmask | mask),
            // Another block read the same bytes: several. Other bytes: only the latest is remembered.
            _ if rmask == mask => (MANY, mask),
            _ => (me, mask),
        };
        entry(epoch, writer, wmask, reader, rmask)
    };
    if new != old {
        cell.store(new, Relaxed);
    }
    conflict
}
