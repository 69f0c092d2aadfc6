//! The heap behind `malloc` in kernels: one allocation of the module, handed out in pieces.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// What CUDA provides unless a program asks for more.
pub const HEAP_BYTES: u64 = 8 << 20;

const ALIGN: u64 = 16;

#[derive(Debug)]
pub struct Heap {
    base: u64,
    pieces: Mutex<Pieces>,
}

#[derive(Debug, Default)]
struct Pieces {
    /// Offset and size of each piece handed out.
    used: BTreeMap<u64, u64>,
    /// Where the search continues: a freed piece is reused as late as possible.
    next: u64,
}

impl Heap {
    pub fn new(base: u64) -> Self {
        Self { base, pieces: Mutex::default() }
    }

    /// The address of a new piece; 0 if no room is left, or no bytes are requested.
    pub fn malloc(&self, bytes: u64) -> u64 {
        if bytes == 0 || bytes > HEAP_BYTES {
            return 0;
        }
        let bytes = bytes.next_multiple_of(ALIGN);
        let mut pieces = self.pieces.lock().unwrap_or_else(|e| e.into_inner());
        let found = (pieces.gap(pieces.next, bytes)).or_else(|| pieces.gap(0, bytes));
        let Some(at) = found else { return 0 };
        pieces.used.insert(at, bytes);
        pieces.next = at + bytes;
        self.base + at
    }

    /// Whether there was such a piece; null always counts.
    pub fn free(&self, address: u64) -> bool {
        let mut pieces = self.pieces.lock().unwrap_or_else(|e| e.into_inner());
        address == 0 || pieces.used.remove(&address.wrapping_sub(self.base)).is_some()
    }
}

impl Pieces {
    /// The first gap of this size at or after `from`.
    fn gap(&self, from: u64, bytes: u64) -> Option<u64> {
        let before = self.used.range(..from).next_back();
        let mut at = before.map_or(from, |(&at, &size)| from.max(at + size));
        for (&used, &size) in self.used.range(from..) {
            if at + bytes <= used {
                return Some(at);
            }
            at = used + size;
        }
        (at + bytes <= HEAP_BYTES).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_do_not_overlap_and_come_back_when_freed() {
        let heap = Heap::new(1 << 20);
        let half = HEAP_BYTES / 2;
        let (a, b) = (heap.malloc(half), heap.malloc(half - 100));
        assert_eq!((a, b), (1 << 20, (1 << 20) + half));
        assert_eq!(heap.malloc(200), 0, "nothing of that size is left");
        assert_ne!(heap.malloc(40), 0);
        assert!(heap.free(a) && !heap.free(a) && heap.free(0));
        assert_eq!(heap.malloc(half), a);
    }
}
