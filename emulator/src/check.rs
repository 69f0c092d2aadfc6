//! The report of a failed check: what went wrong, and exactly where.

use crate::memory::AllocationKind;
use serde::Serialize;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    OutOfBounds,
    Misaligned,
    UseAfterFree,
    UninitialisedRead,
    SharedRace,
    GlobalRace,
    /// A barrier that some threads can no longer reach.
    BarrierDivergence,
    /// Every warp waits, or one spins forever.
    Deadlock,
    /// Shared bytes read (or overwritten) before the `cp.async` that writes them was waited for.
    PendingAsyncCopy,
    /// Registers or shared memory touched while an asynchronous product may still use them.
    PendingProduct,
    /// Ordering that only a fence gives: of registers before a product, of shared memory before an asynchronous read.
    MissingFence,
    /// A `.sync` warp operation whose member mask does not fit the threads that execute it.
    BadMemberMask,
    /// `trap`, a failed device assertion, `brkpt`.
    Trap,
    /// The launch itself is refused: block or grid too large, too much shared memory, wrong parameter size.
    InvalidLaunch,
    /// An instruction used in a way the PTX ISA forbids, detectable only at run time.
    IllegalInstruction,
}

/// The allocation nearest to a faulting address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NearestAllocation {
    pub base: u64,
    pub size: u64,
    pub kind: AllocationKind,
    pub freed: bool,
}

/// One failed check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    pub kind: FaultKind,
    pub kernel: String,
    pub message: String,
    /// From `.loc`: source file and line; with inlined functions, the innermost.
    pub source: Option<(String, u32)>,
    /// Line in the PTX text; 0 if no instruction is concerned.
    pub ptx_line: u32,
    /// Text of that line.
    pub instruction: String,
    pub block: [u32; 3],
    pub thread: [u32; 3],
    pub address: Option<u64>,
    pub space: Option<&'static str>,
    pub allocation: Option<NearestAllocation>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = serde_json::to_value(self.kind).ok();
        let kind = kind.as_ref().and_then(|v| v.as_str()).unwrap_or("fault");
        writeln!(f, "{kind}: {}", self.message)?;
        writeln!(f, "  kernel  {}", self.kernel)?;
        if let Some((file, line)) = &self.source {
            writeln!(f, "  source  {file}:{line}")?;
        }
        if self.ptx_line > 0 {
            writeln!(f, "  ptx     line {}: {}", self.ptx_line, self.instruction)?;
        }
        let ([bx, by, bz], [tx, ty, tz]) = (self.block, self.thread);
        write!(f, "  thread  block ({bx},{by},{bz}) thread ({tx},{ty},{tz})")?;
        if let Some(address) = self.address {
            write!(f, "\n  address {address:#x}")?;
            if let Some(space) = self.space {
                write!(f, " ({space})")?;
            }
        }
        if let Some(a) = &self.allocation {
            let state = if a.freed { "freed " } else { "" };
            write!(
                f,
                "\n  nearest {state}{} allocation: base {:#x}, {} bytes",
                a.kind, a.base, a.size
            )?;
            if let Some(address) = self.address {
                if address < a.base {
                    write!(f, " (address is {} bytes before it)", a.base - address)?;
                } else if address >= a.base + a.size {
                    write!(f, " (address is {} bytes past its end)", address - a.base - a.size)?;
                } else {
                    write!(f, " (address is at offset {})", address - a.base)?;
                }
            }
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}
