//! One thread block: its warps, what they share, and reports about its threads.

use super::bulk::Bulk;
use super::clocks::{Clocks, Known, MbarClocks, PRODUCTS, WARPS};
use super::global_proxy::Unfenced;
use super::grid::Grid;
use super::shared::{LaneConflict, Shared};
use super::tally::Tally;
use super::warp::Warp;
use super::wgmma::Warpgroup;
use crate::check::{Fault, FaultKind, NearestAllocation};
use crate::decode::ir::Instr;
use crate::memory::{AllocationInfo, AllocationKind};
use crate::ptx::error::line_text;
use std::collections::HashMap;

/// The result, unless a check has failed.
pub type Checked<T> = Result<T, Box<Fault>>;

/// Barriers 0 to 15, and one for `barrier.cluster`.
pub const BARRIERS: usize = 17;

/// One of a block's barriers.
#[derive(Clone, Debug, Default)]
pub struct BarrierState {
    /// Lanes of each warp that have arrived in this phase.
    pub arrived: [u32; WARPS],
    /// Threads it waits for; `None` means all of the block.
    pub expected: Option<u32>,
    pub counted: u32,
    pub and: bool,
    pub or: bool,
    pub clocks: Known,
}

impl BarrierState {
    pub fn any(&self) -> bool {
        self.arrived.iter().any(|&m| m != 0)
    }
}

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
    pub(super) atomic_clocks: HashMap<u32, Known>,
    pub(super) barriers: Vec<BarrierState>,
    pub(super) bulk: Bulk,
    pub(super) warpgroups: [Warpgroup; 8],
    /// Registers that `setmaxnreg` has released and nobody has taken.
    pub(super) free_registers: u32,
    /// Index of the allocation that the last access hit.
    pub(super) hint: usize,
    /// Who has run griddepcontrol.wait, and when by its own clock.
    pub(super) grid_waits: Vec<(usize, u32)>,
    /// This block has run a fence with a scope wider than the block.
    pub(super) fenced: bool,
    pub(super) unfenced: Unfenced,
    /// `(address, sequence)` of the acquiring accesses.
    pub(super) acquired: Vec<(u64, u64)>,
    pub(super) executed: u64,
    pub(super) progress: u64,
    /// Strong reads of global memory since then: many of them poll.
    pub(super) polls: u32,
    /// Counted among those that poll.
    pub(super) polling: bool,
    /// What other blocks had achieved when it last looked.
    pub(super) others: u64,
    /// Another thread has taken over this block's part of the work.
    pub(super) replaced: bool,
    pub(super) random: u64,
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
            bulk: Bulk::default(),
            warpgroups: Default::default(),
            free_registers: 0,
            hint: 0,
            grid_waits: Vec::new(),
            fenced: false,
            unfenced: Unfenced::default(),
            acquired: Vec::new(),
            executed: 0,
            progress: 0,
            polls: 0,
            polling: false,
            others: 0,
            replaced: false,
            random: 0,
            worker,
        }
    }

    pub(super) fn reset(&mut self, n: u64) {
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
        self.bulk.clear();
        self.grid_waits.clear();
        self.warpgroups.iter_mut().for_each(Warpgroup::clear);
        self.free_registers = 0;
        self.fenced = false;
        self.unfenced.clear();
        self.acquired.clear();
        (self.executed, self.progress) = (0, 0);
        (self.polls, self.others, self.replaced) = (0, 0, false);
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

    pub(super) fn thread(&self, warp: u32, lane: u32) -> [u32; 3] {
        let [nx, ny, _] = self.g.launch.block;
        let linear = warp * 32 + lane;
        [linear % nx, linear / nx % ny, linear / (nx * ny)]
    }

    /// Identifies who made a conflicting access.
    #[cold]
    pub(super) fn who(&self, c: LaneConflict) -> String {
        let agent = c.agent as usize;
        if agent < WARPS {
            let [x, y, z] = self.thread(c.agent, c.lane);
            return format!("thread ({x},{y},{z})");
        }
        if agent < PRODUCTS {
            return "a bulk copy that has landed".into();
        }
        match agent - PRODUCTS {
            group @ 0..8 => format!("a product (wgmma) of warpgroup {group}"),
            store => format!("a bulk store of warp {}", store - 8),
        }
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
            instruction: line_text(&p.source, i.line).to_string(),
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
}
