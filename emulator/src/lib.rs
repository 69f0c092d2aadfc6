//! A CUDA device on the CPU: loads PTX, runs it warp by warp, and checks what hardware hides.
//!
//! `ptx` reads the text, `decode` turns it into flat typed instructions, `exec` runs them over [`DeviceMemory`],
//! and [`launch`] ties them together. A failed check is a [`Fault`].

#![allow(clippy::needless_range_loop, reason = "lane loops index several arrays")]

mod buffer;
pub mod check;
pub mod config;
pub mod counters;
pub mod decode;
pub mod driver;
pub mod exec;
mod heap;
pub mod l2;
pub mod memory;
pub mod module;
pub mod numeric;
pub mod ptx;
pub mod tensor_map;

pub use check::{Fault, FaultKind, NearestAllocation};
pub use config::{Checks, DeviceConfig};
pub use counters::KernelCounters;
pub use exec::{Launch, launch};
pub use memory::{AllocationInfo, AllocationKind, DeviceMemory, MemoryError, MemoryUsage};
pub use module::{Kernel, Module, ParamDecl};
pub use ptx::error::LoadError;
