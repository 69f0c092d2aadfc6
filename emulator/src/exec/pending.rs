//! What a warp's asynchronous copies still owe: bytes that have not landed, and the arrivals that wait for them.

use super::regs::lanes;

/// Copies of one instruction that have not landed.
#[derive(Debug)]
pub struct PendingCopy {
    /// Lanes still owed.
    pub mask: u32,
    /// How many groups those lanes had committed when they issued it.
    pub group: u32,
    /// Its position among the warp's copies.
    pub number: u32,
    pub bytes: u8,
    pub to: [u32; 32],
    pub from: [*const u8; 32],
    /// Bytes read; the rest is zeros.
    pub length: [u8; 32],
}

// SAFETY: the pointers lead into allocations that the launch keeps alive.
unsafe impl Send for PendingCopy {}

/// A cp.async.mbarrier.arrive still outstanding: it arrives once the earlier copies of its lane have landed.
#[derive(Debug)]
pub struct PendingArrival {
    /// Lanes still owed.
    pub mask: u32,
    /// Copies below this number are earlier.
    pub after: u32,
    pub at: [u64; 32],
}

#[derive(Debug, Default)]
pub struct Copies {
    pub pending: Vec<PendingCopy>,
    pub arrivals: Vec<PendingArrival>,
    pub committed: [u32; 32],
    pub issued: u32,
}

impl Copies {
    pub fn clear(&mut self) {
        self.pending.clear();
        self.arrivals.clear();
        self.committed = [0; 32];
        self.issued = 0;
    }

    pub fn commit(&mut self, m: u32) {
        lanes(m).for_each(|l| self.committed[l] += 1);
    }

    /// Whether an arrival at this mbarrier waits for copies.
    pub fn owes(&self, mbar: u64) -> bool {
        self.arrivals.iter().any(|a| lanes(a.mask).any(|l| a.at[l] == mbar))
    }

    pub fn owes_arrivals(&self) -> bool {
        !self.arrivals.is_empty()
    }
}
