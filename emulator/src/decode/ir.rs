//! Decoded instructions: what the executor runs. Operands are register slots (immediates are slots too, in a
//! constant pool), labels are instruction indices, modifiers are enum fields.

pub use super::alu_ops::*;
pub use super::ops::*;

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
    /// A register, relevant to liveness and allocation.
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

#[derive(Clone, Copy, Debug)]
pub struct Instr {
    pub op: Op,
    pub class: Class,
    /// Another path may arrive here.
    pub leader: bool,
    /// Not a product, but uses registers that products use.
    pub touches: bool,
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
            touches: false,
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
    /// Order in which diverged paths run: the lowest first. One entry per instruction.
    pub rank: Vec<u32>,
    pub consts: Vec<Const>,
    pub predicates: u16,
    /// Bytes of register file a warp needs.
    pub register_bytes: u32,
    pub const_bytes: u32,
    pub locs: Vec<(u32, u32)>,
    pub files: std::collections::HashMap<u32, String>,
    /// PTX text of the module.
    pub source: std::sync::Arc<str>,
    pub local_bytes: u32,
    pub static_shared: u32,
    /// Where dynamic shared memory begins.
    pub dynamic_offset: u32,
    pub uses_dynamic: bool,
    /// There is a `wgmma.mma_async`.
    pub has_products: bool,
    /// Reads where the system's own shared memory is.
    pub uses_reserved: bool,
    /// The frame pointer of recursive calls, and what a call saves; all empty without recursion.
    pub frame: R,
    pub saved: Vec<(R, bool)>,
    pub saved_predicates: Vec<P>,
    /// Maximum number of 32-bit registers live at once.
    pub pressure: u32,
}

/// Shared memory per block that belongs to the system, from capability 8.0 on.
pub const RESERVED_SHARED: u32 = 1 << 10;

impl Program {
    /// Where the system's shared memory begins, after the kernel's.
    pub fn reserved_offset(&self, dynamic: u32) -> u32 {
        (self.dynamic_offset.max(self.static_shared) + dynamic).next_multiple_of(16)
    }

    /// Shared memory that a block needs, including the system's if the kernel looks at it.
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
