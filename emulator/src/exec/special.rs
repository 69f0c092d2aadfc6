//! Where a warp is, and the values of special registers that follow from it (PTX ISA, special registers).

use super::regs::Regs;
use crate::decode::ir::*;

/// Where a warp is: what special registers answer.
#[derive(Clone, Debug, Default)]
pub struct Place {
    pub block: [u32; 3],
    pub grid: [u32; 3],
    pub threads: [u32; 3],
    pub warp: u32,
    pub sm: u32,
    pub sm_count: u32,
    pub dynamic_shared: u32,
    pub total_shared: u32,
    pub reserved_shared: u32,
    pub workspace: u64,
    /// Warp instructions run so far in this block: the clock.
    pub clock: u64,
}

pub(super) fn special(w: &mut Regs, place: &Place, d: R, s: Special, mask: u32) {
    let lane = |f: &dyn Fn(u32) -> u32| -> [u32; 32] { std::array::from_fn(|l| f(l as u32)) };
    let [nx, ny, _] = place.threads;
    let linear = |l: u32| place.warp * 32 + l;
    let out = match s {
        Special::Tid(0) => lane(&|l| linear(l) % nx),
        Special::Tid(1) => lane(&|l| linear(l) / nx % ny),
        Special::Tid(_) => lane(&|l| linear(l) / (nx * ny)),
        Special::Ntid(axis) => [place.threads[usize::from(axis)]; 32],
        Special::Ctaid(axis) => [place.block[usize::from(axis)]; 32],
        Special::Nctaid(axis) => [place.grid[usize::from(axis)]; 32],
        Special::LaneId => lane(&|l| l),
        Special::WarpId => [place.warp; 32],
        Special::NWarpId => [place.threads.iter().product::<u32>().div_ceil(32); 32],
        Special::SmId => [place.sm; 32],
        Special::NSmId => [place.sm_count; 32],
        Special::LaneMask(which) => lane(&|l| match which {
            LaneMask::Eq => 1 << l,
            LaneMask::Lt => (1 << l) - 1,
            LaneMask::Le => u32::MAX >> (31 - l),
            LaneMask::Gt => !(u32::MAX >> (31 - l)),
            LaneMask::Ge => !((1 << l) - 1),
        }),
        Special::Clock => [place.clock as u32; 32],
        Special::DynamicSharedSize => [place.dynamic_shared; 32],
        Special::TotalSharedSize => [place.total_shared; 32],
        Special::ReservedShared(at) => [place.reserved_shared + at; 32],
        Special::ReservedSharedSize => [RESERVED_SHARED; 32],
        Special::Workspace { high: false } => [place.workspace as u32; 32],
        Special::Workspace { high: true } => [(place.workspace >> 32) as u32; 32],
        Special::Zero => [0; 32],
        Special::One => [1; 32],
        Special::Clock64 | Special::GlobalTimer => return w.put(d, &[place.clock; 32], mask),
        Special::GridId => return w.put(d, &[1u64; 32], mask),
    };
    w.put(d, &out, mask);
}
