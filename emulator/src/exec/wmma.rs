//! wmma: tiles between memory and registers, and their product. An element is one access, whatever a device does.

use super::access::AccessKind;
use super::block::{Block, Checked};
use super::regs::FULL;
use super::regs::lanes;
use super::warp::Warp;
use crate::decode::ir::*;
use crate::numeric::wmma::{self, Element, Wmma};

/// The lanes' values of a fragment's registers.
fn registers(w: &Warp, list: &[R], element: Element) -> Vec<[u64; 32]> {
    list.iter()
        .map(|&r| match element {
            Element::F64 => *w.regs.r64(r),
            _ => w.regs.r32(r).map(u64::from),
        })
        .collect()
}

fn put(w: &mut Warp, list: &[R], element: Element, values: &[[u64; 32]]) {
    for (&r, values) in list.iter().zip(values) {
        match element {
            Element::F64 => w.regs.put(r, values, FULL),
            _ => w.regs.put(r, &values.map(|x| x as u32), FULL),
        }
    }
}

impl Block<'_> {
    pub(super) fn wmma(&mut self, w: &mut Warp, op: Wmma, defs: &[R], uses: &[R]) {
        let (a, rest) = uses.split_at(op.a.registers.into());
        let (b, c) = rest.split_at(op.b.registers.into());
        let [a, b, c] =
            [(a, op.a), (b, op.b), (c, op.c)].map(|(list, t)| registers(w, list, t.element));
        let out = wmma::wmma(op, &a, &b, &c);
        put(w, defs, op.d.element, &out);
    }

    /// Where the lanes' n-th elements are.
    fn places(w: &Warp, i: &Instr, access: TileAccess, n: usize) -> [u64; 32] {
        let mut at = w.regs.addresses(i.a, i.imm, access.address64);
        let stride = w.regs.r32(i.b);
        for (lane, at) in at.iter_mut().enumerate() {
            let (row, column) = access.tile.place(lane, n);
            let (major, minor) = match access.by_rows {
                true => (row, column),
                false => (column, row),
            };
            let element = major as u64 * u64::from(stride[lane]) + minor as u64;
            *at = at.wrapping_add(element * access.tile.element.bytes() as u64);
        }
        at
    }

    pub(super) fn wmma_load(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        access: TileAccess,
        defs: &[R],
    ) -> Checked<()> {
        let bytes = access.tile.element.bytes();
        let mut elements = vec![vec![0; access.tile.share()]; 32];
        for n in 0..access.tile.share() {
            let at = Self::places(w, i, access, n);
            let t = self.resolve(w, i, access.space, at, bytes as u64, FULL)?;
            self.tally_access(&t, bytes as u64, FULL, AccessKind::Read);
            if self.shadowed(t.space) {
                self.check_read(w, i, &t, bytes as u64, FULL, AccessKind::Read)?;
            }
            for l in lanes(FULL) {
                // SAFETY: `resolve` found the bytes of an element of live host memory behind each lane's pointer.
                elements[l][n] = unsafe { super::load_store::read(t.pointers[l], bytes, false) };
            }
        }
        let mut values = vec![[0; 32]; defs.len()];
        for (lane, elements) in elements.iter().enumerate() {
            for (register, word) in values.iter_mut().zip(access.tile.pack(elements)) {
                register[lane] = word;
            }
        }
        put(w, defs, access.tile.element, &values);
        Ok(())
    }

    pub(super) fn wmma_store(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        access: TileAccess,
        uses: &[R],
    ) -> Checked<()> {
        let bytes = access.tile.element.bytes();
        let values = registers(w, uses, access.tile.element);
        let elements: Vec<Vec<u64>> = (0..32).map(|l| access.tile.unpack(&values, l)).collect();
        self.progress = self.executed;
        for n in 0..access.tile.share() {
            let at = Self::places(w, i, access, n);
            let t = self.resolve(w, i, access.space, at, bytes as u64, FULL)?;
            self.tally_access(&t, bytes as u64, FULL, AccessKind::Write);
            for l in lanes(FULL) {
                if self.shadowed(t.space) {
                    self.shadow_lane(w, i, &t, l, bytes as u64, AccessKind::Write, false)?;
                }
                // SAFETY: as above; the register file is other memory.
                unsafe { super::load_store::write(t.pointers[l], bytes, elements[l][n]) };
            }
        }
        Ok(())
    }
}
