//! Order between warps as vector clocks: a warp's own clock advances when it releases (arrives at a barrier), and a
//! warp that waits takes over what the arrivals knew.

pub const WARPS: usize = 32;

/// Clocks have 18 bits in a cell.
const CLOCK_LIMIT: u32 = (1 << 18) - 8;

/// `vc[w][x]`: what warp w knows of warp x's clock.
#[derive(Debug)]
pub struct Clocks {
    pub vc: [[u32; WARPS]; WARPS],
    /// A clock ran out of bits: no more race checks in this block.
    pub(super) exhausted: bool,
    /// Warps of the block; the others have no clock that matters.
    warps: usize,
}

impl Clocks {
    pub fn new(warps: usize) -> Self {
        let mut vc = [[0; WARPS]; WARPS];
        for (w, row) in vc.iter_mut().enumerate() {
            row[w] = 1;
        }
        Self { vc, exhausted: false, warps }
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

    /// Entries below this are known to a warp, whoever made them, its own earlier ones included; 0 if there is no such
    /// bound.
    pub(super) fn settled(&self, warp: usize) -> u32 {
        if self.exhausted {
            return 0;
        }
        let known = &self.vc[warp];
        let others = known.iter().enumerate().filter(|(w, _)| *w != warp && *w < self.warps);
        let least = others.map(|(_, &c)| c).fold(known[warp] - 1, u32::min);
        (least + 1) << 14
    }

    pub fn nearly_exhausted(&self) -> bool {
        self.vc.iter().enumerate().any(|(w, row)| row[w] > CLOCK_LIMIT - 1024)
    }
}

/// What arrivals published: of the phase that is open, and of those that are complete.
#[derive(Clone, Debug, Default)]
pub struct MbarClocks {
    pub open: [u32; WARPS],
    pub complete: [u32; WARPS],
}
