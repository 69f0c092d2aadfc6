//! malloc and free in a kernel.

use super::block::{Block, Checked};
use super::regs::lanes;
use super::warp::Warp;
use crate::check::FaultKind;
use crate::decode::ir::*;

impl Block<'_> {
    pub(super) fn heap(&mut self, w: &mut Warp, i: &Instr, m: u32) -> Checked<()> {
        let Some(heap) = &self.g.kernel.heap else {
            return Ok(());
        };
        let values = *w.regs.r64(i.a);
        if i.op == Op::Malloc {
            let mut out = [0; 32];
            lanes(m).for_each(|l| out[l] = heap.malloc(values[l]));
            w.regs.put(i.d, &out, m);
        } else if let Some(l) = lanes(m).find(|&l| !heap.free(values[l])) {
            let message = format!("free of {:#x}, which malloc did not give", values[l]);
            return Err(self.fault(FaultKind::UseAfterFree, w, i, l as u32, message));
        }
        Ok(())
    }
}
