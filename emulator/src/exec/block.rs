//! One thread block: its warps, their schedule, and what they share.

use super::Grid;
use super::barrier::BarrierState;
use super::mbar::MbarClocks;
use super::shared::{Clocks, Shared};
use super::tally::Tally;
use super::warp::{Status, Wait, Warp};
use crate::check::{Fault, FaultKind, NearestAllocation};
use crate::decode::ir::{Instr, Op};
use crate::memory::{AllocationInfo, AllocationKind};
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

pub type Result<T> = std::result::Result<T, Box<Fault>>;

/// Warp instructions a warp runs before the next gets its turn, unless a seed decides.
const QUANTUM: u64 = 1 << 16;

/// Barriers 0 to 15, and one for `barrier.cluster`.
pub const BARRIERS: usize = 17;

pub struct Block<'g> {
    pub(super) g: &'g Grid<'g>,
    pub(super) tally: Tally,
    pub(super) coordinates: [u32; 3],
    /// Linear index.
    pub(super) index: u64,
    pub(super) warps: Vec<Warp>,
    /// Lanes of each warp that exist, and that have not left.
    pub(super) exists: [u32; 32],
    pub(super) live: [u32; 32],
    pub(super) shared: Shared,
    pub(super) clocks: Clocks,
    pub(super) mbar_clocks: HashMap<u32, MbarClocks>,
    pub(super) atomic_clocks: HashMap<u32, [u32; 32]>,
    pub(super) barriers: Vec<BarrierState>,
    /// Index of the allocation that the last access hit.
    pub(super) hint: usize,
    /// This block has run a fence wider than itself.
    pub(super) fenced: bool,
    /// `(address, sequence)` of the acquiring accesses.
    pub(super) acquired: Vec<(u64, u64)>,
    pub(super) executed: u64,
    pub(super) progress: u64,
    random: u64,
    worker: u32,
}

impl<'g> Block<'g> {
    pub(super) fn new(g: &'g Grid<'g>, worker: u32) -> Self {
        let bytes = g.program.shared_bytes(g.launch.dynamic_shared);
        Self {
            g,
            tally: Tally::default(),
            coordinates: [0; 3],
            index: 0,
            warps: Vec::new(),
            exists: [0; 32],
            live: [0; 32],
            shared: Shared::new(bytes as usize),
            clocks: Clocks::new(0),
            mbar_clocks: HashMap::new(),
            atomic_clocks: HashMap::new(),
            barriers: vec![BarrierState::default(); BARRIERS],
            hint: 0,
            fenced: false,
            acquired: Vec::new(),
            executed: 0,
            progress: 0,
            random: 0,
            worker,
        }
    }

    fn reset(&mut self, n: u64) {
        let [gx, gy, _] = self.g.launch.grid.map(u64::from);
        self.index = n;
        self.coordinates = [(n % gx) as u32, (n / gx % gy) as u32, (n / gx / gy) as u32];
        let threads: u32 = self.g.launch.block.iter().product();
        self.shared.reset();
        if self.g.program.uses_reserved {
            let at = self.g.program.reserved_offset(self.g.launch.dynamic_shared);
            self.shared.clear(at as usize, crate::decode::ir::RESERVED_SHARED as usize);
        }
        self.clocks = Clocks::new(threads.div_ceil(32) as usize);
        self.mbar_clocks.clear();
        self.atomic_clocks.clear();
        self.barriers.iter_mut().for_each(|b| *b = BarrierState::default());
        self.fenced = false;
        self.acquired.clear();
        (self.executed, self.progress) = (0, 0);
        self.random =
            self.g.config.warp_order_seed.unwrap_or(0) ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (self.exists, self.live) = ([0; 32], [0; 32]);
        let count = threads.div_ceil(32);
        for w in 0..count {
            let lanes = (threads - w * 32).min(32);
            self.exists[w as usize] = u32::MAX >> (32 - lanes);
        }
        self.live = self.exists;
        if self.warps.len() != count as usize {
            self.warps = (0..count).map(|w| Warp::new(self.g, w, self.worker)).collect();
        }
        for w in 0..count as usize {
            let lanes = self.exists[w];
            self.warps[w].reset(lanes, self.coordinates);
        }
    }

    fn draw(&mut self) -> u64 {
        // xorshift64*
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub(super) fn run(&mut self, n: u64, tally: &mut Tally) -> Result<()> {
        self.reset(n);
        self.tally = std::mem::take(tally);
        let result = self.schedule();
        *tally = std::mem::take(&mut self.tally);
        result
    }

    fn schedule(&mut self) -> Result<()> {
        let seeded = self.g.config.warp_order_seed.is_some();
        loop {
            let (mut ran, mut left) = (false, false);
            let count = self.warps.len();
            for turn in 0..count {
                let (at, quantum) = if seeded {
                    let at = self.draw() as usize % count;
                    let quantum = match self.draw() % 4 {
                        0 => 1,
                        1 => 1 + self.draw() % 16,
                        2 => 1 + self.draw() % 256,
                        _ => QUANTUM,
                    };
                    (at, quantum)
                } else {
                    (turn, QUANTUM)
                };
                if self.live[at] == 0 {
                    continue;
                }
                left = true;
                if !self.warps[at].runnable() {
                    continue;
                }
                ran = true;
                let mut warp = std::mem::take(&mut self.warps[at]);
                let before = warp.place.clock;
                let status = self.run_warp(&mut warp, quantum);
                self.executed += warp.place.clock - before;
                self.warps[at] = warp;
                match status? {
                    Status::Done => self.progress = self.executed,
                    Status::Blocked => self.progress = self.executed,
                    Status::Preempted => {
                        if self.executed - self.progress > self.g.config.spin_limit {
                            return Err(self.livelock(at));
                        }
                        if self.g.stop.load(Relaxed) {
                            return Ok(());
                        }
                    }
                }
            }
            if ran {
                continue;
            }
            // With a seed the draw may have missed the warps that can run.
            left |= self.live.iter().any(|&l| l != 0);
            if !left {
                return Ok(());
            }
            if self.warps.iter().any(Warp::runnable) {
                continue;
            }
            self.resolve_stuck()?;
        }
    }

    fn livelock(&self, at: usize) -> Box<Fault> {
        let warp = &self.warps[at];
        let pc = warp.splits.first().map_or(0, |s| s.pc);
        let lane = warp.splits.first().map_or(0, |s| s.mask.trailing_zeros());
        let message = format!(
            "{} warp instructions without progress: a loop that never ends?",
            self.executed - self.progress
        );
        self.fault(FaultKind::Deadlock, warp, &self.g.program.code[pc as usize], lane, message)
    }

    /// No warp can run and some have not left: complete what exits made complete, or report.
    fn resolve_stuck(&mut self) -> Result<()> {
        for id in 0..BARRIERS {
            if self.barriers[id].any() && self.try_complete(id, None)? {
                return Ok(());
            }
        }
        // Report the first warp that waits at a barrier; failing that, any that waits.
        let mut chosen: Option<(usize, usize)> = None;
        for (at, warp) in self.warps.iter().enumerate() {
            for (k, split) in warp.splits.iter().enumerate() {
                let at_barrier = matches!(split.wait, Wait::Bar(_));
                if chosen.is_none()
                    || at_barrier
                        && !matches!(
                            self.warps[chosen.unwrap_or((0, 0)).0].splits
                                [chosen.unwrap_or((0, 0)).1]
                                .wait,
                            Wait::Bar(_)
                        )
                {
                    chosen = Some((at, k));
                }
            }
        }
        let Some((at, k)) = chosen else { return Ok(()) };
        let warp = &self.warps[at];
        let split = &warp.splits[k];
        let i = &self.g.program.code[split.pc as usize];
        let lane = split.mask.trailing_zeros();
        let (kind, message) = match split.wait {
            Wait::Bar(id) => {
                let b = &self.barriers[usize::from(id)];
                let arrived: u32 = b.arrived.iter().map(|m| m.count_ones()).sum();
                let threads: u32 = self.exists.iter().map(|m| m.count_ones()).sum();
                let wanted = b.expected.unwrap_or(threads);
                let gone = threads - self.live.iter().map(|m| m.count_ones()).sum::<u32>();
                let missing = self.missing_from(usize::from(id));
                (
                    FaultKind::BarrierDivergence,
                    format!(
                        "barrier {id} is reached by {arrived} of {wanted} threads and no other can come ({gone} have left){missing}"
                    ),
                )
            }
            _ => (
                FaultKind::BadMemberMask,
                format!(
                    "lanes {:#010x} wait here for lanes of their member mask that never come",
                    split.mask
                ),
            ),
        };
        Err(self.fault(kind, warp, i, lane, message))
    }

    /// Where the first thread that has not arrived stands.
    fn missing_from(&self, id: usize) -> String {
        for (at, warp) in self.warps.iter().enumerate() {
            let missing = self.exists[at] & !self.barriers[id].arrived[at];
            if missing == 0 {
                continue;
            }
            let lane = missing.trailing_zeros();
            let [x, y, z] = self.thread(at as u32, lane);
            let place = match warp.splits.iter().find(|s| s.mask >> lane & 1 != 0) {
                Some(split) => {
                    format!("waits at PTX line {}", self.g.program.code[split.pc as usize].line)
                }
                None => "has left the kernel".into(),
            };
            return format!("; thread ({x},{y},{z}) {place}");
        }
        String::new()
    }

    pub(super) fn thread(&self, warp: u32, lane: u32) -> [u32; 3] {
        let [nx, ny, _] = self.g.launch.block;
        let linear = warp * 32 + lane;
        [linear % nx, linear / nx % ny, linear / (nx * ny)]
    }

    /// A report about an instruction and one of its lanes.
    #[cold]
    pub(super) fn fault(
        &self,
        kind: FaultKind,
        w: &Warp,
        i: &Instr,
        lane: u32,
        message: impl Into<String>,
    ) -> Box<Fault> {
        let p = self.g.program;
        let source = p.locs.get(i.loc as usize).map(|&(file, line)| {
            (p.files.get(&file).cloned().unwrap_or_else(|| format!("file {file}")), line)
        });
        Box::new(Fault {
            kind,
            kernel: self.g.kernel.name.clone(),
            message: message.into(),
            source,
            ptx_line: i.line,
            instruction: p.lines.get(&i.line).cloned().unwrap_or_default(),
            block: self.coordinates,
            thread: self.thread(w.place.warp, lane.min(31)),
            address: None,
            space: None,
            allocation: None,
        })
    }

    /// The same with an address.
    #[cold]
    #[expect(clippy::too_many_arguments)]
    pub(super) fn address_fault(
        &self,
        kind: FaultKind,
        w: &Warp,
        i: &Instr,
        lane: u32,
        message: impl Into<String>,
        space: &'static str,
        address: u64,
    ) -> Box<Fault> {
        let mut fault = self.fault(kind, w, i, lane, message);
        fault.address = Some(address);
        fault.space = Some(space);
        let near = match space {
            "shared" => Some((0, self.shared.bytes() as u64, AllocationKind::Shared)),
            "local" => Some((0, u64::from(self.g.program.local_bytes), AllocationKind::Local)),
            "param" => Some((0, self.g.launch.params.len() as u64, AllocationKind::Param)),
            _ => None,
        };
        fault.allocation = match near {
            Some((base, size, kind)) => Some(NearestAllocation { base, size, kind, freed: false }),
            None => {
                self.g.memory.nearest(address).map(|AllocationInfo { base, size, kind, freed }| {
                    NearestAllocation { base, size, kind, freed }
                })
            }
        };
        fault
    }

    pub(super) fn count(&mut self, i: &Instr, mask: u32) {
        self.tally.classes[i.class as usize] += 1;
        self.tally.active_lanes += u64::from(mask.count_ones());
        let products = match i.op {
            Op::Mma(m) => m.rows() * 8 * usize::from(m.k),
            Op::MmaF64 { rows16, k } => (if rows16 { 16 } else { 8 }) * 8 * usize::from(k),
            Op::Wmma(w) => {
                usize::from(w.d.rows) * usize::from(w.d.columns) * usize::from(w.a.columns)
            }
            _ => return,
        };
        self.tally.mma += 1;
        self.tally.mma_flops += 2 * products as u64;
    }
}
