//! wgmma.mma_async: each warp computes its sixteen rows at issue, from operands that the first of the four warps has
//! gathered. What makes the product asynchronous is in the checks: its registers and reads stay open until a wait.

use super::async_shadow::{CHUNK, Needed};
use super::block::{Block, Checked};
use super::clocks::PRODUCTS;
use super::in_flight::READ;
use super::regs::FULL;
use super::shared::pack;
use super::warp::Warp;
use crate::check::FaultKind;
use crate::decode::ir::*;
use crate::numeric::mma::{self, Reg};

/// Eight rows of A or columns of B by 32 bytes in k: two registers of `mma`.
type Unit = [Reg; 2];

/// One product of a warpgroup, until all four warps have issued it.
#[derive(Debug)]
struct Product {
    op: Wgmma,
    /// Descriptors of A (0 if it is in registers) and B.
    operands: [u64; 2],
    group: u32,
    needed: Needed,
    a: Vec<Unit>,
    b: Vec<Unit>,
    passed: u32,
    instr: Instr,
    warp: u32,
}

/// The products that some warps of a warpgroup have issued and others have not.
#[derive(Debug, Default)]
pub struct Warpgroup {
    log: Vec<Product>,
    /// The number of the first.
    first: u64,
    /// Buffers of finished products, for reuse.
    spare: Vec<Vec<Unit>>,
}

impl Warpgroup {
    pub fn clear(&mut self) {
        self.log.clear();
        self.first = 0;
    }
}

/// Where the elements of an operand lie (PTX ISA, matrix descriptor).
#[derive(Clone, Copy)]
struct Matrix {
    start: u32,
    /// Bytes between neighbours along the leading dimension and along the other, in units of eight rows.
    lbo: u32,
    sbo: u32,
    /// Bytes that one row of the swizzled pattern spans; 16 without a swizzle.
    span: u32,
    /// Neighbours in k are apart; those in m or n are contiguous.
    mn_major: bool,
}

impl Matrix {
    /// The address of the sixteen bytes that begin at row or column `mn` and at `k`.
    #[inline]
    fn chunk(self, mn: u32, k: u32) -> usize {
        let Matrix { lbo, sbo, span, .. } = self;
        let offset = match (self.mn_major, span) {
            (false, 16) => mn % 8 * 16 + mn / 8 * sbo + k / 8 * lbo,
            (false, _) => mn % 8 * span + mn / 8 * sbo + 2 * k,
            (true, 16) => mn / 8 * sbo + 16 * (k % 8) + k / 8 * lbo,
            (true, _) => 2 * (mn % (span / 2)) + mn / (span / 2) * lbo + k % 8 * span + k / 8 * sbo,
        };
        let at = self.start + offset;
        (at ^ (at >> 7 & (span / 16 - 1)) << 4) as usize
    }

    /// Why a matrix with `count` rows or columns cannot have this layout.
    fn misplaced(self, count: u32) -> Option<String> {
        let Matrix { start, lbo, sbo, span, mn_major } = self;
        if span == 16 {
            return None;
        }
        let period = 8 * span;
        if start & (period - span) != 0 {
            return Some(format!(
                "its start {start:#x} is not at the beginning of a pattern of {period} bytes"
            ));
        }
        let strides = match mn_major {
            false => [(count > 8, sbo), (false, lbo)],
            true => [(true, sbo), (count > span / 2, lbo)],
        };
        let bad = strides.into_iter().find(|&(used, stride)| used && stride % period != 0);
        bad.map(|(_, stride)| format!("its stride of {stride} bytes is not a multiple of {period}"))
    }
}

impl Block<'_> {
    pub(super) fn wgmma(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        op: Wgmma,
        defs: &[R],
        uses: &[R],
    ) -> Checked<()> {
        let warp = w.place.warp as usize;
        let group = warp / 4;
        if group * 4 + 4 > self.warps.len() || self.exists[group * 4..group * 4 + 4] != [FULL; 4] {
            let message = "wgmma in a warpgroup that has fewer than 128 threads";
            return Err(self.fault(FaultKind::BadMemberMask, w, i, 0, message));
        }
        let a = if i.a.is_none() { &[0; 32] } else { w.regs.r64(i.a) };
        let b = w.regs.r64(i.b);
        let scale = w.regs.pred(i.ps);
        if *a != [a[0]; 32] || *b != [b[0]; 32] || scale != 0 && scale != FULL {
            let message = "the lanes of a warp give different descriptors or scale-d";
            return Err(self.fault(FaultKind::IllegalInstruction, w, i, 0, message));
        }
        let operands = [a[0], b[0]];
        for &r in defs {
            self.take_register(w, i, r, op.role(), scale != 0)?;
        }
        let a_regs = &uses[defs.len()..];
        for &r in a_regs {
            self.take_register(w, i, r, READ, false)?;
        }
        let at = (w.products.issued - self.warpgroups[group].first) as usize;
        if at >= self.warpgroups[group].log.len() {
            let product = self.gather_product(w, i, op, operands)?;
            self.warpgroups[group].log.push(product);
        }
        let product = &self.warpgroups[group].log[at];
        if product.op != op
            || product.operands != operands
            || product.group != w.products.committed + 1
        {
            let message = format!(
                "the warps of a warpgroup issue different products: warp {} gave others here",
                product.warp
            );
            return Err(self.fault(FaultKind::IllegalInstruction, w, i, 0, message));
        }
        self.readable(w, i, 0, &product.needed, "product (wgmma)")?;
        let quarter = warp % 4;
        let mut rows: [Reg; 4] = match op.a_registers {
            true => std::array::from_fn(|n| *w.regs.r32(a_regs[n])),
            false => {
                let [upper, lower] = [product.a[2 * quarter], product.a[2 * quarter + 1]];
                [upper[0], lower[0], upper[1], lower[1]]
            }
        };
        if op.negate {
            let signs = match op.unit.a.per_word() {
                1 => 0x8000_0000,
                2 => 0x8000_8000,
                _ => 0x8080_8080,
            };
            rows.iter_mut().flatten().for_each(|x| *x ^= signs);
        }
        self.multiply(w, op, &rows, &product.b, defs, scale != 0);
        w.products.issued += 1;
        let state = &mut self.warpgroups[group];
        state.log[at].passed += 1;
        while state.log.first().is_some_and(|p| p.passed == 4) {
            let over = state.log.remove(0);
            state.spare.extend([over.a, over.b]);
            state.first += 1;
        }
        self.progress = self.executed;
        Ok(())
    }

    /// D = A·B + D for the sixteen rows of a warp.
    fn multiply(
        &self,
        w: &mut Warp,
        op: Wgmma,
        rows: &[Reg; 4],
        columns: &[Unit],
        defs: &[R],
        add: bool,
    ) {
        let product = if self.g.config.truncate_sums { mma::truncated } else { mma::mma };
        let a = rows.each_ref();
        let none = [0; 32];
        let mut out = [[0; 32]; 4];
        for (d, unit) in defs.chunks_exact(op.unit.d_regs()).zip(columns) {
            let mut c = [&none; 4];
            if add {
                for (c, &r) in c.iter_mut().zip(d) {
                    *c = w.regs.r32(r);
                }
            }
            product(op.unit, &a, &unit.each_ref(), &c[..d.len()], &mut out);
            for (&r, out) in d.iter().zip(&out) {
                w.regs.put(r, out, FULL);
            }
        }
    }

    /// Reads both operands for the whole warpgroup.
    fn gather_product(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        op: Wgmma,
        operands: [u64; 2],
    ) -> Checked<Product> {
        let group = w.products.committed + 1;
        let agent = PRODUCTS + w.place.warp as usize / 4;
        self.clocks.number(agent, group);
        let me = pack(group, agent as u32, 0, 0xf);
        let mut needed = Needed::default();
        let mut sides: [Vec<Unit>; 2] = Default::default();
        for (side, (descriptor, count, mn_major)) in sides.iter_mut().zip([
            (operands[0], if op.a_registers { 0 } else { 64 }, op.trans_a),
            (operands[1], u32::from(op.n), op.trans_b),
        ]) {
            if count > 0 {
                let matrix = self.matrix(w, i, descriptor, count, mn_major)?;
                *side = self.gather_operand(w, i, matrix, count, me, &mut needed)?;
            }
        }
        if self.g.config.counters {
            let chunks = sides.iter().map(Vec::len).sum::<usize>() * 16;
            self.tally.shared_requests += 1;
            self.tally.shared_bytes += (chunks * CHUNK) as u64;
        }
        let [a, b] = sides;
        let (passed, warp) = (0, w.place.warp);
        Ok(Product { op, operands, group, needed, a, b, passed, instr: *i, warp })
    }

    /// What a descriptor says.
    fn matrix(
        &self,
        w: &Warp,
        i: &Instr,
        descriptor: u64,
        count: u32,
        mn_major: bool,
    ) -> Checked<Matrix> {
        let field = |bit: u32| (descriptor >> bit & 0x3fff) as u32 * 16;
        let span = match descriptor >> 62 {
            0 => 16,
            1 => 128,
            2 => 64,
            _ => 32,
        };
        let matrix = Matrix { start: field(0), lbo: field(16), sbo: field(32), span, mn_major };
        if descriptor >> 49 & 7 != 0 {
            let message = "a matrix descriptor with a base offset: what a device does is not known";
            return Err(self.fault(FaultKind::IllegalInstruction, w, i, 0, message));
        }
        if let Some(why) = matrix.misplaced(count) {
            let message =
                format!("a matrix that is swizzled over {span} bytes is misplaced: {why}");
            let at = u64::from(matrix.start);
            return Err(self.shared_fault(FaultKind::Misaligned, w, i, 0, at, message));
        }
        Ok(matrix)
    }

    /// Reads `count` rows of A, or columns of B, by eight.
    fn gather_operand(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        matrix: Matrix,
        count: u32,
        me: u32,
        needed: &mut Needed,
    ) -> Checked<Vec<Unit>> {
        let warp = w.place.warp as usize;
        let mut units = self.warpgroups[warp / 4].spare.pop().unwrap_or_default();
        units.clear();
        let size = self.shared.bytes();
        let base = self.shared.pointer();
        let checks = self.g.config.checks;
        let looks = checks.shared_races || checks.uninitialised || checks.async_copies;
        for first in (0..count).step_by(8) {
            let mut unit = [[0; 32]; 2];
            for (half, reg) in unit.iter_mut().enumerate() {
                let k = 8 * half as u32;
                let mut rows = [[0u32; 4]; 8];
                for (n, row) in rows.iter_mut().enumerate() {
                    let at = match matrix.mn_major {
                        false => matrix.chunk(first + n as u32, k),
                        true => matrix.chunk(first, k + n as u32),
                    };
                    if at + CHUNK > size {
                        let message = "a product (wgmma) reads outside shared memory";
                        let kind = FaultKind::OutOfBounds;
                        return Err(self.shared_fault(kind, w, i, 0, at as u64, message));
                    }
                    if looks {
                        let known = &self.clocks.of[warp];
                        if let Some(bad) = self.shared.async_read(at, me, known, needed) {
                            self.unreadable(w, i, 0, bad, "product (wgmma)")?;
                        }
                    }
                    // SAFETY: sixteen bytes inside shared memory, as was just found.
                    *row = unsafe { base.add(at).cast::<[u32; 4]>().read_unaligned() };
                }
                *reg = match matrix.mn_major {
                    false => mma::ldmatrix(&rows),
                    true => mma::ldmatrix_trans(&rows),
                };
            }
            units.push(unit);
        }
        Ok(units)
    }

    /// A block has ended: every product must have been issued by all four warps.
    pub(super) fn products_end(&self) -> Checked<()> {
        let Some(product) = self.warpgroups.iter().find_map(|g| g.log.first()) else {
            return Ok(());
        };
        let w = &self.warps[product.warp as usize];
        let message = format!(
            "a product (wgmma) that {} of the four warps of its warpgroup have issued",
            product.passed
        );
        Err(self.fault(FaultKind::BadMemberMask, w, &product.instr, 0, message))
    }
}
