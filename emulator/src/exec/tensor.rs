//! Matrix instructions: ldmatrix, stmatrix, movmatrix and mma.sync (PTX ISA, warp-level matrix instructions).

use super::access::AccessKind;
use super::block::{Block, Checked};
use super::regs::FULL;
use super::regs::lanes;
use super::shared::Sweep;
use super::warp::Warp;
use crate::check::FaultKind;
use crate::decode::ir::*;
use crate::numeric::mma;
use crate::ptx::types::Space;

impl Block<'_> {
    pub(super) fn tensor(&mut self, w: &mut Warp, i: &Instr, m: u32) -> Checked<()> {
        if m != FULL {
            let message =
                format!("a matrix instruction needs all 32 lanes; only {m:#010x} are here");
            return Err(self.fault(FaultKind::BadMemberMask, w, i, m.trailing_zeros(), message));
        }
        let p = self.g.program;
        let list =
            &p.lists[i.list as usize..i.list as usize + usize::from(i.defs) + usize::from(i.uses)];
        let (defs, uses) = list.split_at(usize::from(i.defs));
        match i.op {
            Op::LdMatrix { count, trans, generic, address64 } => {
                self.ldmatrix(w, i, defs, count, trans, generic, address64)
            }
            Op::StMatrix { count, trans, generic, address64 } => {
                self.stmatrix(w, i, uses, count, trans, generic, address64)
            }
            Op::MovMatrix => {
                let out = mma::movmatrix_trans(w.regs.r32(i.a));
                w.regs.put(i.d, &out, FULL);
                Ok(())
            }
            Op::Wmma(op) => {
                self.wmma(w, op, defs, uses);
                Ok(())
            }
            Op::WmmaLoad(access) => self.wmma_load(w, i, access, defs),
            Op::WmmaStore(access) => self.wmma_store(w, i, access, uses),
            Op::Mma(op) => {
                let product = if self.g.config.truncate_sums { mma::truncated } else { mma::mma };
                let mut out = [[0; 32]; 4];
                if op.m8 {
                    // The lower eight rows are empty, and nobody uses their result.
                    let [a, b, c0, c1] = [0, 1, 2, 3].map(|n| w.regs.r32(uses[n]));
                    let none = &[0; 32];
                    product(op, &[a, none], &[b], &[c0, c1, none, none], &mut out);
                    for (&d, out) in defs.iter().zip(&out) {
                        w.regs.put(d, out, FULL);
                    }
                    return Ok(());
                }
                let (na, nb) = (op.a_regs(), op.b_regs());
                let mut refs = [w.regs.r32(uses[0]); 12];
                for (slot, &r) in refs.iter_mut().zip(uses) {
                    *slot = w.regs.r32(r);
                }
                product(op, &refs[..na], &refs[na..na + nb], &refs[na + nb..uses.len()], &mut out);
                for (&d, out) in defs.iter().zip(&out) {
                    w.regs.put(d, out, FULL);
                }
                Ok(())
            }
            Op::MmaF64 { rows16, k } => {
                let (halves, steps) = (1 + usize::from(rows16), usize::from(k) / 4);
                let (a, rest) = uses.split_at(halves * steps);
                let (b, c) = rest.split_at(steps);
                let mut sums = Vec::with_capacity(4);
                for half in 0..halves {
                    let mut sum = [*w.regs.r64(c[2 * half]), *w.regs.r64(c[2 * half + 1])];
                    for step in 0..steps {
                        let before = sum;
                        let a = w.regs.r64(a[step * halves + half]);
                        let b = w.regs.r64(b[step]);
                        mma::mma_m8n8k4_f64(a, b, [&before[0], &before[1]], &mut sum);
                    }
                    sums.extend(sum);
                }
                for (&d, sum) in defs.iter().zip(&sums) {
                    w.regs.put(d, sum, FULL);
                }
                Ok(())
            }
            Op::Wgmma(op) => self.wgmma(w, i, op, defs, uses),
            Op::WgmmaFence => {
                w.products.fences += 1;
                Ok(())
            }
            Op::WgmmaCommit => {
                self.products_commit(w);
                Ok(())
            }
            Op::WgmmaWait => {
                self.products_wait(w, i);
                Ok(())
            }
            Op::SetMaxRegisters { more } => self.set_registers(w, i, more),
            Op::MapPublish { shared64 } => self.map_publish(w, i, shared64),
            _ => Ok(()),
        }
    }

    /// The addresses of the rows: lanes 0 to 7 give those of the first matrix, and so on.
    fn rows(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        count: u8,
        generic: bool,
        address64: bool,
        kind: AccessKind,
    ) -> Checked<[*mut u8; 32]> {
        let mask = if count == 4 { FULL } else { (1 << (8 * u32::from(count))) - 1 };
        let at = w.regs.addresses(i.a, i.imm, address64);
        let space = if generic { Space::Generic } else { Space::Shared };
        let t = self.resolve(w, i, space, at, 16, mask)?;
        if t.space != Space::Shared {
            let message = "a matrix row outside shared memory";
            return Err(self.address_fault(
                FaultKind::OutOfBounds,
                w,
                i,
                0,
                message,
                "global",
                at[0],
            ));
        }
        self.tally_access(&t, 16, mask, kind);
        let how = if kind == AccessKind::Read { Sweep::Read } else { Sweep::Write };
        if self.shadowed(Space::Shared) && !self.sweep_shared(w, &t, 16, mask, how) {
            for l in lanes(mask) {
                self.shadow_lane(w, i, &t, l, 16, kind, false)?;
            }
        }
        Ok(t.pointers)
    }

    #[expect(clippy::too_many_arguments)]
    fn ldmatrix(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        defs: &[R],
        count: u8,
        trans: bool,
        generic: bool,
        address64: bool,
    ) -> Checked<()> {
        let pointers = self.rows(w, i, count, generic, address64, AccessKind::Read)?;
        for (k, &d) in defs.iter().enumerate() {
            let mut rows = [[0u32; 4]; 8];
            for (r, row) in rows.iter_mut().enumerate() {
                // SAFETY: `rows` found 16 live bytes behind the pointer.
                *row = unsafe { pointers[k * 8 + r].cast::<[u32; 4]>().read_unaligned() };
            }
            let out = if trans { mma::ldmatrix_trans(&rows) } else { mma::ldmatrix(&rows) };
            w.regs.put(d, &out, FULL);
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments)]
    fn stmatrix(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        uses: &[R],
        count: u8,
        trans: bool,
        generic: bool,
        address64: bool,
    ) -> Checked<()> {
        let pointers = self.rows(w, i, count, generic, address64, AccessKind::Write)?;
        for (k, &r) in uses.iter().enumerate() {
            let reg = w.regs.r32(r);
            let rows = if trans { mma::stmatrix_trans(reg) } else { mma::stmatrix(reg) };
            for (r, row) in rows.iter().enumerate() {
                // SAFETY: `rows` found 16 live bytes behind the pointer.
                unsafe { pointers[k * 8 + r].cast::<[u32; 4]>().write_unaligned(*row) };
            }
        }
        self.progress = self.executed;
        Ok(())
    }
}
