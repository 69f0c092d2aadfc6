//! The device's global memory.

mod allocation;
mod device;
mod error;

pub use allocation::{Allocation, AllocationInfo, AllocationKind};
pub use device::{DeviceMemory, MemoryUsage};
pub use error::MemoryError;
