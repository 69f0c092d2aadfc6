//! Order between warps as vector clocks: a warp's own clock advances when it releases (arrives at a barrier), and a
//! warp that waits takes over what the arrivals knew.
//!
//! Whatever runs alongside the warps has its own clocks: copies that land, a warpgroup's products, and bulk stores.
//! Such an agent never knows anything; warps come to know it by waiting.

pub const WARPS: usize = 32;

/// Columns of a clock: the warps, then the agents.
pub const AGENTS: usize = 64;
/// Bulk loads that land, by the mbarrier that they complete.
const LANDINGS: usize = 32;
/// Products, by the warpgroup that issued them; numbered by its groups.
pub const PRODUCTS: usize = 48;
/// Bulk stores that read shared memory, by the warp that issued them.
const STORES: usize = 56;

/// Clocks have 17 bits in a cell.
const CLOCK_LIMIT: u32 = (1 << 17) - 8;

/// The column of whatever lands on the mbarrier at `at`. Two that share a column are treated as one, which can hide a
/// defect but never invents one.
pub fn landings(at: u32) -> usize {
    LANDINGS + at as usize / 8 % (PRODUCTS - LANDINGS)
}

pub fn stores(warp: usize) -> usize {
    STORES + warp % (AGENTS - STORES)
}

/// What a warp knows of the others, or what was published at a place.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Each agent's clock up to which everything is known.
    pub seen: [u32; AGENTS],
    /// Each warp's clock up to which a proxy fence has made its writes visible to asynchronous reads.
    pub fenced: [u32; WARPS],
}

impl Default for Known {
    fn default() -> Self {
        Self { seen: [0; AGENTS], fenced: [0; WARPS] }
    }
}

impl Known {
    pub fn join(&mut self, from: &Known) {
        for (a, b) in self.seen.iter_mut().zip(&from.seen) {
            *a = (*a).max(*b);
        }
        for (a, b) in self.fenced.iter_mut().zip(&from.fenced) {
            *a = (*a).max(*b);
        }
    }
}

#[derive(Debug)]
pub struct Clocks {
    /// What each warp knows.
    pub of: [Known; WARPS],
    /// A clock ran out of bits: no more race checks in this block.
    pub(super) exhausted: bool,
    /// Warps of the block; the others have no clock that matters.
    warps: usize,
    /// The last number given out by each non-warp column.
    given: [u32; AGENTS],
    /// The columns that have given out any.
    used: u64,
}

impl Clocks {
    pub fn new(warps: usize) -> Self {
        let mut of = [Known::default(); WARPS];
        for (w, known) in of.iter_mut().enumerate() {
            known.seen[w] = 1;
        }
        Self { of, exhausted: false, warps, given: [0; AGENTS], used: 0 }
    }

    /// The warp publishes what it did into `to`, and moves on.
    pub fn release(&mut self, warp: usize, to: &mut Known) {
        to.join(&self.of[warp]);
        self.bump(warp);
    }

    pub fn acquire(&mut self, warp: usize, from: &Known) {
        self.of[warp].join(from);
    }

    /// A proxy fence: everything the warp knows of is visible to later asynchronous reads.
    pub fn fence(&mut self, warp: usize) {
        let known = &mut self.of[warp];
        for (fenced, seen) in known.fenced.iter_mut().zip(&known.seen) {
            *fenced = (*fenced).max(*seen);
        }
        self.bump(warp);
    }

    /// Orders the lanes of a warp among themselves.
    pub fn bump(&mut self, warp: usize) {
        let own = &mut self.of[warp].seen[warp];
        if *own < CLOCK_LIMIT {
            *own += 1;
        } else {
            self.exhausted = true;
        }
    }

    /// The next number of a non-warp column.
    pub fn give(&mut self, agent: usize) -> u32 {
        let number = self.given[agent] + 1;
        self.number(agent, number);
        number
    }

    /// A column uses a number that its owner counts itself.
    pub fn number(&mut self, agent: usize, number: u32) {
        self.exhausted |= number >= CLOCK_LIMIT;
        self.given[agent] = self.given[agent].max(number);
        self.used |= 1 << agent;
    }

    /// Entries below this are known to a warp, whoever made them, including its own earlier ones; 0 if there is no such
    /// bound.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only a fast path asks"))]
    pub(super) fn settled(&self, warp: usize) -> u32 {
        if self.exhausted {
            return 0;
        }
        let seen = &self.of[warp].seen;
        let others = seen[..self.warps].iter().enumerate().filter(|(w, _)| *w != warp);
        let mut least = others.map(|(_, &c)| c).fold(seen[warp] - 1, u32::min);
        let mut agents = self.used;
        while agents != 0 {
            least = least.min(seen[agents.trailing_zeros() as usize]);
            agents &= agents - 1;
        }
        (least + 1) << 15
    }

    pub fn nearly_exhausted(&self) -> bool {
        let near = CLOCK_LIMIT - 1024;
        self.of.iter().enumerate().any(|(w, known)| known.seen[w] > near)
            || self.given.iter().any(|&n| n > near)
    }
}

/// What arrivals published: for the open phase, and for completed ones.
#[derive(Clone, Debug, Default)]
pub struct MbarClocks {
    pub open: Known,
    pub complete: Known,
    /// The warp that initialised the mbarrier, and its clock at that time.
    pub made: (usize, u32),
}
