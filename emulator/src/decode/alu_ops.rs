//! Operations from registers to registers: no memory, no other lane.

use crate::numeric::Round;
use crate::numeric::cmp::{BoolOp, Cmp};
use crate::numeric::cvt::{IntRound, IntType};
use crate::numeric::f32ops::{MinMax, TestP};
use crate::numeric::fp8::Fp8;
use crate::numeric::half::HalfMode;
use crate::numeric::logic::PrmtMode;
use crate::numeric::video;
use crate::ptx::types::Space;

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
    /// Only of the upper half.
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
    /// Half of the address of a cooperative launch's workspace.
    Workspace {
        high: bool,
    },
    TotalSharedSize,
    /// Bytes from the start of the shared memory that belongs to the system.
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
