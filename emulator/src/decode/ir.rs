//! Decoded instructions: what the executor runs. Operands are register slots (immediates are slots too, in a
//! constant pool), labels are instruction indices, modifiers are enum fields.

use crate::numeric::Round;
use crate::numeric::cmp::{BoolOp, Cmp};
use crate::numeric::cvt::{IntRound, IntType};
use crate::numeric::f32ops::{MinMax, TestP};
use crate::numeric::fp8::Fp8;
use crate::numeric::half::HalfMode;
use crate::numeric::logic::PrmtMode;
use crate::numeric::mma::Mma;
use crate::numeric::video;
use crate::numeric::wmma::{Tile, Wmma};
use crate::ptx::types::Space;

/// A register or constant slot. While decoding, an index; after allocation, a byte offset into the register
/// file of a warp or, with [`R::CONST`] set, into the constant pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct R(pub u32);

impl Default for R {
    fn default() -> Self {
        R::NONE
    }
}

impl R {
    pub const NONE: R = R(u32::MAX);
    pub const CONST: u32 = 1 << 31;

    pub fn is_const(self) -> bool {
        self.0 & Self::CONST != 0
    }
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
    /// A register, which liveness and allocation care about.
    pub fn is_reg(self) -> bool {
        self.0 & Self::CONST == 0
    }
}

/// A predicate register: 32 lanes in one word. As a source, bit 15 negates. Predicate 0 is always true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct P(pub u16);

impl P {
    pub const NONE: P = P(u16::MAX);
    pub const TRUE: P = P(0);
    pub const FALSE: P = P(0x8000);
    pub const NEGATE: u16 = 0x8000;

    pub fn negated(self) -> P {
        P(self.0 ^ Self::NEGATE)
    }
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntTy {
    U16,
    S16,
    U32,
    S32,
    U64,
    S64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    W16,
    W32,
    W64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Int2 {
    Add,
    AddSat,
    Sub,
    SubSat,
    MulLo,
    MulHi,
    Div,
    Rem,
    Min,
    Max,
    MinRelu,
    MaxRelu,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Int3 {
    MadLo,
    MadHi,
    MadHiSat,
    Sad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bit2 {
    And,
    Or,
    Xor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Simd2 {
    Add,
    MinU,
    MaxU,
    MinS { relu: bool },
    MaxS { relu: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloatMode {
    pub round: Round,
    pub ftz: bool,
    pub sat: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum F32Op {
    Add,
    Sub,
    Mul,
    Fma,
    Div,
    DivFull,
    DivApprox,
    Rcp,
    Sqrt,
    Rsqrt,
    Sin,
    Cos,
    Lg2,
    Ex2,
    Tanh,
    Abs,
    Neg,
    Copysign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum F64Op {
    Add,
    Sub,
    Mul,
    Fma,
    Div,
    Rcp,
    Sqrt,
    Abs,
    Neg,
    Min,
    Max,
    Copysign,
    RcpApprox,
    Rsqrt,
    /// Of the upper half alone.
    RsqrtGross,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfOp {
    Add,
    Sub,
    Mul,
    Fma,
    FmaOob,
    Neg,
    Abs,
    Tanh,
    Ex2,
}

/// `.f16`, `.bf16`, and whether two of them are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfTy {
    pub bf: bool,
    pub x2: bool,
}

/// The type that a comparison reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CmpTy {
    Int(IntTy),
    F32 { ftz: bool },
    F64,
    Half { ty: HalfTy, ftz: bool },
}

/// What `set` writes for true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTo {
    /// All ones.
    Mask,
    /// 1.0
    F32,
    /// 1.0 in each half.
    Half(HalfTy),
    /// All ones in 16 bits of each half.
    Mask16 { x2: bool },
}

/// One side of a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CvtTy {
    Int(IntType),
    F16,
    Bf16,
    F32,
    F64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cvt {
    IntToInt {
        from: IntType,
        to: IntType,
        sat: bool,
    },
    IntToFloat {
        from: IntType,
        to: CvtTy,
        round: Round,
        sat: bool,
    },
    FloatToInt {
        from: CvtTy,
        to: IntType,
        round: IntRound,
        ftz: bool,
    },
    /// Between floats; `integral` rounds to an integer within the format.
    FloatToFloat {
        from: CvtTy,
        to: CvtTy,
        mode: FloatMode,
        integral: Option<IntRound>,
        relu: bool,
        satfinite: bool,
    },
    /// Two f32 to a packed pair.
    PackHalf {
        bf: bool,
        round: Round,
        relu: bool,
        satfinite: bool,
    },
    PackFp8 {
        to: Fp8,
        relu: bool,
    },
    Fp8FromHalf {
        to: Fp8,
        relu: bool,
    },
    Fp8ToHalf {
        from: Fp8,
        relu: bool,
    },
    Tf32 {
        round: Round,
        relu: bool,
        satfinite: bool,
    },
    /// cvt.pack.sat: two 32-bit integers to a packed narrower pair, with `c` shifted in below for 8 bits.
    PackInt {
        to: IntType,
        from_signed: bool,
        with_c: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    LaneId,
    WarpId,
    NWarpId,
    SmId,
    NSmId,
    GridId,
    LaneMask(LaneMask),
    Clock,
    Clock64,
    GlobalTimer,
    DynamicSharedSize,
    TotalSharedSize,
    /// Bytes behind the start of the shared memory that belongs to the system.
    ReservedShared(u32),
    ReservedSharedSize,
    Zero,
    One,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneMask {
    Eq,
    Le,
    Lt,
    Ge,
    Gt,
}

/// Register-to-register operations: no memory, no other lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alu {
    Int2(Int2, IntTy),
    Int3(Int3, IntTy),
    Abs(IntTy),
    Neg(IntTy),
    MulWide(IntTy),
    MadWide(IntTy),
    Mul24 {
        hi: bool,
        signed: bool,
    },
    Mad24 {
        hi: bool,
        signed: bool,
        sat: bool,
    },
    Popc {
        wide: bool,
    },
    Clz {
        wide: bool,
    },
    Bfind {
        ty: IntTy,
        shift: bool,
    },
    Brev {
        wide: bool,
    },
    Bfe(IntTy),
    Bfi {
        wide: bool,
    },
    Szext {
        signed: bool,
        wrap: bool,
    },
    Bmsk {
        wrap: bool,
    },
    Fns,
    Dp4a {
        a: bool,
        b: bool,
    },
    Dp2a {
        a: bool,
        b: bool,
        hi: bool,
    },
    AddCarry {
        wide: bool,
        subtract: bool,
        carry_in: bool,
        carry_out: bool,
    },
    MadCarry {
        wide: bool,
        signed: bool,
        hi: bool,
        carry_in: bool,
        carry_out: bool,
    },
    Video(video::Video),
    VideoSimd(video::Simd),
    Simd2(Simd2),
    Bit(Bit2, Width),
    Not(Width),
    Cnot(Width),
    /// With a predicate result: `pd = (d != 0) op ps`.
    Lop3 {
        lut: u8,
        combine: Option<BoolOp>,
    },
    Shl(Width),
    Shr(IntTy),
    Shf {
        left: bool,
        wrap: bool,
    },
    Prmt(PrmtMode),
    Mov {
        wide: bool,
    },
    Pack {
        bits: u8,
    },
    Unpack {
        bits: u8,
    },
    Special(Special),
    Selp {
        wide: bool,
    },
    Slct {
        wide: bool,
        float: bool,
        ftz: bool,
    },
    Setp {
        cmp: Cmp,
        ty: CmpTy,
        combine: Option<BoolOp>,
    },
    Set {
        cmp: Cmp,
        ty: CmpTy,
        combine: Option<BoolOp>,
        to: SetTo,
    },
    F32(F32Op, FloatMode),
    F32MinMax {
        max: bool,
        mode: MinMax,
    },
    F64(F64Op, Round),
    Half(HalfOp, HalfTy, HalfMode),
    HalfMinMax {
        max: bool,
        ty: HalfTy,
        mode: MinMax,
    },
    TestP {
        what: TestP,
        wide: bool,
    },
    Cvt(Cvt),
    /// pd = p1 op p2 with the sources in `ps` and `pt`.
    Pred(Bit2),
    PredMov,
    IsSpace(Space),
}

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
    /// A load whose value is stored again and otherwise not looked at, or the store of one.
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Alu(Alu),
    Nop,
    /// To `imm`.
    Bra,
    /// To `tables[imm][a]`.
    BrxIdx,
    Exit,
    /// To the subroutine at the low half of `imm`, with the frame pointer at `a` plus the high half.
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
    NanoSleep,
    /// `a` bytes from the module's heap.
    Malloc,
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
            Op::Bar(_) | Op::BarWarp | Op::Fence { .. } | Op::Mbar { .. } => Class::Barrier,
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
            Op::MovMatrix | Op::Mma(_) | Op::MmaF64 { .. } | Op::Wmma(_) => Class::Tensor,
            Op::CpAsync { .. }
            | Op::CpAsyncCommit
            | Op::CpAsyncWait
            | Op::CpAsyncMbarArrive { .. } => Class::AsyncCopy,
            Op::Nop | Op::NanoSleep | Op::Malloc | Op::Free => Class::Other,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Instr {
    pub op: Op,
    pub class: Class,
    /// Another path may arrive here.
    pub leader: bool,
    pub guard: P,
    pub pd: P,
    pub pq: P,
    pub ps: P,
    pub pt: P,
    pub d: R,
    pub a: R,
    pub b: R,
    pub c: R,
    /// In `Program::lists`: `defs` destinations, then `uses` sources.
    pub list: u32,
    pub defs: u8,
    pub uses: u8,
    /// Address offset, branch target or other constant.
    pub imm: i64,
    pub line: u32,
    /// Index into `Program::locs`.
    pub loc: u32,
}

impl Instr {
    pub fn new(op: Op) -> Self {
        Self {
            op,
            class: op.class(),
            leader: false,
            guard: P::NONE,
            pd: P::NONE,
            pq: P::NONE,
            ps: P::NONE,
            pt: P::NONE,
            d: R::NONE,
            a: R::NONE,
            b: R::NONE,
            c: R::NONE,
            list: 0,
            defs: 0,
            uses: 0,
            imm: 0,
            line: 0,
            loc: u32::MAX,
        }
    }
}

/// A constant-pool entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Const {
    pub value: u64,
    pub wide: bool,
    /// The value is relative to the start of dynamic shared memory.
    pub dynamic_shared: bool,
}

/// A decoded kernel.
#[derive(Debug, Default)]
pub struct Program {
    pub code: Vec<Instr>,
    pub lists: Vec<R>,
    pub tables: Vec<Vec<u32>>,
    /// For each call through a pointer: the functions of its signature, by address.
    pub call_tables: Vec<Vec<(u64, u32)>>,
    /// Order in which diverged paths run: the lowest first. One entry an instruction.
    pub rank: Vec<u32>,
    pub consts: Vec<Const>,
    pub predicates: u16,
    /// Bytes of register file a warp needs.
    pub register_bytes: u32,
    pub const_bytes: u32,
    pub locs: Vec<(u32, u32)>,
    pub files: std::collections::HashMap<u32, String>,
    /// PTX text of each line that has an instruction.
    pub lines: std::collections::HashMap<u32, String>,
    pub local_bytes: u32,
    pub static_shared: u32,
    /// Where dynamic shared memory begins.
    pub dynamic_offset: u32,
    pub uses_dynamic: bool,
    /// Reads where the system's own shared memory is.
    pub uses_reserved: bool,
    /// The frame pointer of recursive calls, and what a call saves; all empty without recursion.
    pub frame: R,
    pub saved: Vec<(R, bool)>,
    pub saved_predicates: Vec<P>,
    /// 32-bit registers live at once, at most.
    pub pressure: u32,
}

/// Shared memory of a block that belongs to the system, from capability 8.0 on.
pub const RESERVED_SHARED: u32 = 1 << 10;

impl Program {
    /// Where the system's shared memory begins, behind the kernel's.
    pub fn reserved_offset(&self, dynamic: u32) -> u32 {
        (self.dynamic_offset.max(self.static_shared) + dynamic).next_multiple_of(16)
    }

    /// Shared memory that a block needs, the system's included where the kernel looks at it.
    pub fn shared_bytes(&self, dynamic: u32) -> u32 {
        match self.uses_reserved {
            true => self.reserved_offset(dynamic) + RESERVED_SHARED,
            false => self.dynamic_offset.max(self.static_shared) + dynamic,
        }
    }

    /// Byte offset of each constant in the pool.
    pub fn const_offsets(&self) -> impl Iterator<Item = usize> + '_ {
        self.consts.iter().scan(0, |at, c| {
            let here = *at;
            *at += if c.wide { 256 } else { 128 };
            Some(here)
        })
    }
}

pub const SHARED_WINDOW: u64 = 0x2000_0000_0000;
pub const LOCAL_WINDOW: u64 = 0x3000_0000_0000;
pub const PARAM_WINDOW: u64 = 0x3800_0000_0000;
/// Bytes each window spans.
pub const WINDOW: u64 = 1 << 32;
