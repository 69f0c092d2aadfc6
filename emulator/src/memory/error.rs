//! What can be wrong with a request for memory or an access from the host.

use super::allocation::AllocationInfo;
use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemoryError {
    OutOfMemory {
        requested: u64,
        free: u64,
    },
    /// Not the base of a live allocation.
    NotAnAllocation {
        address: u64,
        nearest: Option<AllocationInfo>,
    },
    /// A host operation that leaves its allocation, or hits none.
    OutOfBounds {
        address: u64,
        bytes: u64,
        nearest: Option<AllocationInfo>,
    },
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let near = |f: &mut fmt::Formatter<'_>, nearest: &Option<AllocationInfo>| match nearest {
            Some(a) => {
                let state = if a.freed { "freed " } else { "" };
                write!(
                    f,
                    "; nearest {state}{} allocation: base {:#x}, {} bytes",
                    a.kind, a.base, a.size
                )
            }
            None => Ok(()),
        };
        match self {
            Self::OutOfMemory { requested, free } => {
                write!(f, "out of device memory: {requested} bytes requested, {free} free")
            }
            Self::NotAnAllocation { address, nearest } => {
                write!(f, "{address:#x} is not the start of a live allocation")?;
                near(f, nearest)
            }
            Self::OutOfBounds { address, bytes, nearest } => {
                write!(f, "{bytes} bytes at {address:#x} are not inside a live allocation")?;
                near(f, nearest)
            }
        }
    }
}

impl std::error::Error for MemoryError {}
