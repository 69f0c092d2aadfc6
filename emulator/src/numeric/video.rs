//! Video instructions: scalar ones on parts of registers, and SIMD ones on two or four lanes of one register.

/// The first operation of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VideoOp {
    Add,
    Sub,
    AbsDiff,
    Min,
    Max,
    /// SIMD only: the average, rounded up or away from zero.
    Avg,
    /// Scalar only.
    Shl,
    Shr,
    Mad,
}

/// Bits from `shift` on, as a signed or unsigned number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitField {
    pub shift: u8,
    pub bits: u8,
    pub signed: bool,
}

impl BitField {
    #[inline(always)]
    fn of(self, x: u32) -> i64 {
        let x = u64::from(x) >> self.shift << (64 - self.bits);
        match self.signed {
            true => x as i64 >> (64 - self.bits),
            false => (x >> (64 - self.bits)) as i64,
        }
    }

    fn limits(self) -> (i64, i64) {
        match self.signed {
            true => (-1 << (self.bits - 1), (1 << (self.bits - 1)) - 1),
            false => (0, (1i64 << self.bits) - 1),
        }
    }
}

/// What follows the first operation of a scalar instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Second {
    None,
    Add,
    Min,
    Max,
    /// The result goes into a part of `c`.
    Merge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Video {
    pub op: VideoOp,
    pub a: BitField,
    pub b: BitField,
    /// The part of the destination, and its sign.
    pub d: BitField,
    pub sat: bool,
    pub second: Second,
    /// Shifts: the count wraps instead of clamping at 32.
    pub wrap: bool,
    /// vmad: negate the product or the addend; its result is shifted right by `scale`.
    pub scale: u8,
}

#[inline(always)]
fn first(op: VideoOp, a: i64, b: i64) -> i64 {
    match op {
        VideoOp::Add => a + b,
        VideoOp::Sub => a - b,
        VideoOp::AbsDiff => (a - b).abs(),
        VideoOp::Min => a.min(b),
        VideoOp::Max => a.max(b),
        VideoOp::Avg => (a + b + i64::from(a + b >= 0)) >> 1,
        VideoOp::Shl | VideoOp::Shr | VideoOp::Mad => 0,
    }
}

/// vadd, vsub, vabsdiff, vmin, vmax, vshl, vshr, vmad
pub fn video(v: Video, a: u32, b: u32, c: u32) -> u32 {
    let (x, y) = (v.a.of(a), v.b.of(b));
    let count = match v.wrap {
        true => y & 31,
        false => y.clamp(0, 32),
    };
    let value = match v.op {
        VideoOp::Shl => x << count,
        VideoOp::Shr => x >> count,
        VideoOp::Mad => {
            let c = if v.d.signed { i64::from(c as i32) } else { i64::from(c) };
            (x * y + c) >> v.scale
        }
        op => first(op, x, y),
    };
    let value = match v.sat {
        true => {
            let (low, high) = v.d.limits();
            value.clamp(low, high)
        }
        false => value,
    };
    let signed = |x: u32| {
        if v.d.signed { i64::from(x as i32) } else { i64::from(x) }
    };
    match v.second {
        Second::None => value as u32,
        Second::Add => (value as u32).wrapping_add(c),
        Second::Min => signed(value as u32).min(signed(c)) as u32,
        Second::Max => signed(value as u32).max(signed(c)) as u32,
        Second::Merge => {
            let mask = (u32::MAX >> (32 - v.d.bits)) << v.d.shift;
            (value as u32) << v.d.shift & mask | c & !mask
        }
    }
}

/// The same on each of two or four lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simd {
    pub op: VideoOp,
    pub lanes: u8,
    pub signed_a: bool,
    pub signed_b: bool,
    pub signed_d: bool,
    pub sat: bool,
    /// Lanes written; the others are those of `c`.
    pub mask: u8,
    /// The lanes' results are summed, onto `c`.
    pub sum: bool,
}

/// vadd2, vsub2, vavrg2, vabsdiff2, vmin2, vmax2, and the same with 4
pub fn simd(s: Simd, a: u32, b: u32, c: u32) -> u32 {
    let bits = 32 / s.lanes;
    let mut out = c;
    for lane in 0..s.lanes {
        if s.mask >> lane & 1 == 0 {
            continue;
        }
        let part = |signed| BitField { shift: lane * bits, bits, signed };
        let value = first(s.op, part(s.signed_a).of(a), part(s.signed_b).of(b));
        let d = part(s.signed_d);
        let value = match s.sat {
            true => {
                let (low, high) = d.limits();
                value.clamp(low, high)
            }
            false => value,
        };
        if s.sum {
            out = out.wrapping_add(value as u32);
        } else {
            let mask = (u32::MAX >> (32 - bits)) << d.shift;
            out = (value as u32) << d.shift & mask | out & !mask;
        }
    }
    out
}
