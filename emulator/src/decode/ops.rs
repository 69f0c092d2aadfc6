//! Operations of all kinds, and the class each is counted under.

use super::alu_ops::Alu;
use crate::numeric::mma::Mma;
use crate::numeric::wmma::{Tile, Wmma};
use crate::ptx::types::Space;
use crate::tensor_map::MapField;

/// Where and how a load or store goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mem {
    pub space: Space,
    /// Bytes of one element.
    pub bytes: u8,
    pub count: u8,
    pub signed: bool,
    /// The registers are 64 bits wide.
    pub wide: bool,
    /// The address register is 64 bits wide.
    pub address64: bool,
    /// `.volatile`, `.relaxed`, `.acquire`, `.release`: exempt from race checks, orders other accesses.
    pub strong: bool,
    pub release: bool,
    pub acquire: bool,
    /// A load whose value is only stored again, or the store of one.
    pub copied: bool,
}

/// A tile of `wmma` in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileAccess {
    pub tile: Tile,
    pub by_rows: bool,
    pub space: Space,
    pub address64: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtomFn {
    And,
    Or,
    Xor,
    Exch,
    Cas,
    Add,
    Inc,
    Dec,
    Min,
    Max,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtomTy {
    B16,
    B32,
    B64,
    U32,
    S32,
    U64,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    F32,
    F64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Atom {
    pub f: AtomFn,
    pub ty: AtomTy,
    pub space: Space,
    pub count: u8,
    pub address64: bool,
    pub release: bool,
    pub acquire: bool,
    /// `red`: no result.
    pub reduction: bool,
    pub noftz: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shfl {
    Up,
    Down,
    Bfly,
    Idx,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    All,
    Any,
    Uni,
    Ballot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redux {
    AddU,
    MinU,
    MaxU,
    MinS,
    MaxS,
    And,
    Or,
    Xor,
    MinF { abs: bool, nan: bool },
    MaxF { abs: bool, nan: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    Sync,
    Arrive,
    RedPopc,
    RedAnd,
    RedOr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mbar {
    Init,
    Inval,
    /// `d` gets the state; `count` in `b` or 1.
    Arrive {
        drop: bool,
        no_complete: bool,
    },
    ArriveExpect {
        drop: bool,
    },
    ExpectTx,
    CompleteTx,
    /// `try_` may wait.
    Test {
        parity: bool,
        wait: bool,
    },
    PendingCount,
}

/// wgmma.mma_async: m64, this n, and 32 bytes of each row in k.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wgmma {
    pub n: u16,
    /// The product of sixteen rows and eight columns.
    pub unit: Mma,
    pub a_registers: bool,
    /// The product is subtracted.
    pub negate: bool,
    pub trans_a: bool,
    pub trans_b: bool,
}

impl Wgmma {
    /// The kind of an accumulator of this shape: products of one shape may follow each other without a fence.
    pub fn role(self) -> u32 {
        u32::from(self.n) << 1 | u32::from(self.unit.d_half)
    }
}

/// How the addresses of a bulk copy are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkOp {
    /// Into shared memory.
    pub load: bool,
    pub shared64: bool,
    pub mbar64: bool,
    /// A store that modifies existing elements; a tensor map may give the type.
    pub reduce: Option<(AtomFn, Option<AtomTy>)>,
}

/// Where a tensor map being written is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapOp {
    pub space: Space,
    pub address64: bool,
    /// Strides are in units of sixteen bytes, as assemblers up to PTX 8.5 want them.
    pub stride_in_16: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Alu(Alu),
    Nop,
    /// To `imm`.
    Bra,
    /// To `tables[imm][a]`.
    BrxIdx,
    Exit,
    /// To the subroutine in the low half of `imm`, with the frame pointer at `a` plus the high half.
    Call,
    /// Through the address in `b`, by `call_tables[low half of imm]`; otherwise as `Call`.
    CallPointer,
    Ret,
    /// Local memory from `a` plus the low half of `imm` to `a` plus the high half.
    FrameCopy {
        bytes: u32,
    },
    Trap,
    Ld(Mem),
    St(Mem),
    Atom(Atom),
    /// Barrier `a` of `b` threads; predicate `ps` for reductions.
    Bar(Barrier),
    /// Member mask in `a`.
    BarWarp,
    Fence {
        block: bool,
    },
    Shfl(Shfl),
    Vote(Vote),
    Match {
        all: bool,
        wide: bool,
    },
    Redux(Redux),
    ActiveMask,
    Elect,
    LdMatrix {
        count: u8,
        trans: bool,
        generic: bool,
        address64: bool,
    },
    StMatrix {
        count: u8,
        trans: bool,
        generic: bool,
        address64: bool,
    },
    MovMatrix,
    Mma(Mma),
    /// f64: m8n8k4, or m16n8 with this k.
    MmaF64 {
        rows16: bool,
        k: u8,
    },
    /// The stride in `b`.
    WmmaLoad(TileAccess),
    WmmaStore(TileAccess),
    Wmma(Wmma),
    /// Bytes per lane; shared address in `a`, global in `b`, source size in `c` if any, `ps` the ignore-src predicate.
    CpAsync {
        bytes: u8,
        shared64: bool,
    },
    CpAsyncCommit,
    /// Waits until at most `imm` groups are pending; −1: everything, committed or not.
    CpAsyncWait,
    CpAsyncMbarArrive {
        noinc: bool,
        address64: bool,
    },
    Mbar {
        op: Mbar,
        address64: bool,
    },
    /// griddepcontrol.wait
    GridWait,
    /// fence.proxy.async, and the memory that it is about.
    FenceAsync {
        shared: bool,
        global: bool,
    },
    /// Descriptors in `a` (none: the list ends with four registers) and `b`, scale-d in `ps`; the list has D twice.
    Wgmma(Wgmma),
    WgmmaFence,
    WgmmaCommit,
    /// At most `imm` groups stay open.
    WgmmaWait,
    /// To `imm` registers per thread.
    SetMaxRegisters {
        more: bool,
    },
    /// Shared address in `a`, global in `b`, bytes in `c`; the list has the mbarrier of a load.
    BulkCopy(BulkOp),
    /// Shared address in `a`, map in `b`; the list has the mbarrier (or nothing that counts) and the coordinates.
    BulkTensor {
        op: BulkOp,
        rank: u8,
    },
    BulkCommit,
    /// At most `imm` groups stay pending; with `read_only`, only until they have read.
    BulkWait {
        read_only: bool,
    },
    /// Map in `a`, the field's value in `b`.
    MapReplace {
        op: MapOp,
        field: MapField,
    },
    /// From shared memory at `a` to global memory at `b`.
    MapPublish {
        shared64: bool,
    },
    MapAcquire,
    /// `d` is `a`, which must be of this block: rank `b` is 0.
    MapRank {
        wide: bool,
    },
    NanoSleep,
    /// `a` bytes from the module's heap.
    Malloc,
    /// vprintf: the format is at `a`, its arguments at `b`; `d` gets their number.
    Print,
    Free,
    /// A failed device-side assertion.
    Assert,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    Integer,
    Float32,
    Float64,
    Half,
    Conversion,
    Move,
    Predicate,
    Control,
    GlobalMemory,
    SharedMemory,
    LocalMemory,
    ParamMemory,
    Atomic,
    WarpExchange,
    Barrier,
    Tensor,
    AsyncCopy,
    Other,
}

impl Class {
    pub const ALL: [(Class, &'static str); 18] = [
        (Class::Integer, "integer"),
        (Class::Float32, "float32"),
        (Class::Float64, "float64"),
        (Class::Half, "half"),
        (Class::Conversion, "conversion"),
        (Class::Move, "move"),
        (Class::Predicate, "predicate"),
        (Class::Control, "control"),
        (Class::GlobalMemory, "global-memory"),
        (Class::SharedMemory, "shared-memory"),
        (Class::LocalMemory, "local-memory"),
        (Class::ParamMemory, "param-memory"),
        (Class::Atomic, "atomic"),
        (Class::WarpExchange, "warp-exchange"),
        (Class::Barrier, "barrier"),
        (Class::Tensor, "tensor"),
        (Class::AsyncCopy, "async-copy"),
        (Class::Other, "other"),
    ];
}

impl Op {
    /// Whether all remaining lanes of a warp run it together (`.aligned`), and none by itself.
    pub fn of_all_lanes(&self) -> bool {
        matches!(
            self,
            Op::LdMatrix { .. }
                | Op::StMatrix { .. }
                | Op::MovMatrix
                | Op::Mma(_)
                | Op::MmaF64 { .. }
                | Op::WmmaLoad(_)
                | Op::WmmaStore(_)
                | Op::Wmma(_)
                | Op::Wgmma(_)
                | Op::WgmmaFence
                | Op::WgmmaCommit
                | Op::WgmmaWait
                | Op::SetMaxRegisters { .. }
                | Op::MapPublish { .. }
        )
    }

    pub fn class(&self) -> Class {
        match self {
            Op::Alu(alu) => match alu {
                Alu::F32(..) | Alu::F32MinMax { .. } => Class::Float32,
                Alu::F64(..) => Class::Float64,
                Alu::Half(..) | Alu::HalfMinMax { .. } => Class::Half,
                Alu::Cvt(..) => Class::Conversion,
                Alu::Mov { .. }
                | Alu::Pack { .. }
                | Alu::Unpack { .. }
                | Alu::Special(_)
                | Alu::Selp { .. } => Class::Move,
                Alu::Setp { .. }
                | Alu::Pred(_)
                | Alu::PredMov
                | Alu::TestP { .. }
                | Alu::IsSpace(_) => Class::Predicate,
                _ => Class::Integer,
            },
            Op::Bra
            | Op::BrxIdx
            | Op::Exit
            | Op::Call
            | Op::CallPointer
            | Op::Ret
            | Op::FrameCopy { .. }
            | Op::Trap
            | Op::Assert => Class::Control,
            Op::Ld(m) | Op::St(m) => match m.space {
                Space::Shared => Class::SharedMemory,
                Space::Local => Class::LocalMemory,
                Space::Param => Class::ParamMemory,
                _ => Class::GlobalMemory,
            },
            Op::Atom(_) => Class::Atomic,
            Op::Bar(_)
            | Op::BarWarp
            | Op::Fence { .. }
            | Op::FenceAsync { .. }
            | Op::GridWait
            | Op::MapAcquire
            | Op::WgmmaFence
            | Op::WgmmaCommit
            | Op::WgmmaWait
            | Op::Mbar { .. } => Class::Barrier,
            Op::Shfl(_)
            | Op::Vote(_)
            | Op::Match { .. }
            | Op::Redux(_)
            | Op::ActiveMask
            | Op::Elect => Class::WarpExchange,
            Op::LdMatrix { .. } | Op::StMatrix { .. } => Class::SharedMemory,
            Op::WmmaLoad(t) | Op::WmmaStore(t) => match t.space {
                Space::Shared => Class::SharedMemory,
                _ => Class::GlobalMemory,
            },
            Op::MovMatrix | Op::Mma(_) | Op::MmaF64 { .. } | Op::Wmma(_) | Op::Wgmma(_) => {
                Class::Tensor
            }
            Op::CpAsync { .. }
            | Op::CpAsyncCommit
            | Op::CpAsyncWait
            | Op::CpAsyncMbarArrive { .. }
            | Op::BulkCopy(_)
            | Op::BulkTensor { .. }
            | Op::BulkCommit
            | Op::BulkWait { .. } => Class::AsyncCopy,
            Op::SetMaxRegisters { .. }
            | Op::MapReplace { .. }
            | Op::MapPublish { .. }
            | Op::MapRank { .. }
            | Op::Nop
            | Op::NanoSleep
            | Op::Malloc
            | Op::Print
            | Op::Free => Class::Other,
        }
    }
}
