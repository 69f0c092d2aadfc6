//! Runs kernels: a grid's blocks over the host's cores, a block's warps in turn, 32 lanes at a time.

mod access;
mod alu;
mod async_shadow;
mod atomic;
mod barrier;
mod block;
mod bulk;
mod bulk_store;
mod by_type;
mod call;
mod carry;
mod clocks;
mod compare;
mod convert;
mod copies;
mod dependent;
mod exchange;
mod float;
mod global_race;
mod grid;
mod heap;
mod in_flight;
mod interpret;
mod launch;
mod load_store;
mod mbar;
mod mbar_object;
mod order;
mod pack;
mod pending;
pub mod regs;
mod schedule;
mod shadow;
mod shared;
mod special;
mod tally;
mod tensor;
mod tensor_copy;
#[cfg(test)]
mod tests;
mod warp;
mod warpgroup;
mod wgmma;
mod wmma;

pub use grid::Launch;
pub use launch::{launch, launch_after};
