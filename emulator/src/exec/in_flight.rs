//! Registers that asynchronous products read and write: other instructions must not touch them before a wait, and
//! `wgmma.fence` must come after uses of them.

use super::block::{Block, Checked};
use super::warp::Warp;
use crate::check::FaultKind;
use crate::decode::ir::*;

/// Bytes of a 32-bit register's slot.
const SLOT: u32 = 128;

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The group of the newest product that uses it.
    group: u32,
    /// The register's role in that product.
    role: u32,
    /// How many fences must have run before a product may use it.
    fences: u32,
    /// Something has used it, and so presumably set it.
    set: bool,
}

const FRESH: Slot = Slot { group: 0, role: 0, fences: 1, set: false };

/// The role of a register that a product only reads.
pub const READ: u32 = u32::MAX;

/// A warp's issued products.
#[derive(Debug, Default)]
pub struct InFlight {
    slots: Vec<Slot>,
    pub issued: u64,
    pub committed: u32,
    /// Groups up to this one have been waited for.
    pub over: u32,
    pub fences: u32,
    /// How many had run at the last wait.
    pub fences_at_wait: u32,
    /// Registers per thread, if known.
    pub registers: u32,
}

impl InFlight {
    pub fn new(p: &Program) -> Self {
        let slots = if p.has_products { p.register_bytes.div_ceil(SLOT) } else { 0 };
        Self { slots: vec![FRESH; slots as usize], ..Self::default() }
    }

    pub fn reset(&mut self) {
        self.slots.fill(FRESH);
        (self.issued, self.committed, self.over) = (0, 0, 0);
        (self.fences, self.fences_at_wait) = (0, 0);
        self.registers = 0;
    }

    fn slot(&mut self, r: R) -> Option<&mut Slot> {
        self.slots.get_mut((r.0 / SLOT) as usize)
    }
}

impl Block<'_> {
    /// A non-product instruction uses registers that products use elsewhere.
    #[cold]
    pub(super) fn touch(&self, w: &mut Warp, i: &Instr, m: u32) -> Checked<()> {
        if !self.g.config.checks.async_copies || m == 0 {
            return Ok(());
        }
        let n = usize::from(i.defs) + usize::from(i.uses);
        let list = &self.g.program.lists[i.list as usize..][..n];
        let InFlight { over, fences, fences_at_wait, .. } = w.products;
        for &r in [i.d, i.a, i.b, i.c].iter().chain(list).filter(|r| r.is_reg()) {
            let Some(slot) = w.products.slot(r) else { continue };
            if slot.group > over {
                let message = "this touches a register that a product (wgmma) still uses: no wgmma.wait_group is between them";
                let kind = FaultKind::PendingProduct;
                return Err(self.fault(kind, w, i, m.trailing_zeros(), message));
            }
            // What is copied was ready before the last fence, and so could the copy be.
            if !i.early || fences == fences_at_wait {
                slot.fences = fences + 1;
            }
            slot.set = true;
        }
        Ok(())
    }

    /// A product takes a register, for `role`; `add` says that it adds to the existing value.
    pub(super) fn take_register(
        &self,
        w: &mut Warp,
        i: &Instr,
        r: R,
        role: u32,
        add: bool,
    ) -> Checked<()> {
        let (over, fences, group) = (w.products.over, w.products.fences, w.products.committed + 1);
        let check = self.g.config.checks.async_copies;
        let Some(slot) = w.products.slot(r).filter(|_| r.is_reg()) else {
            return Ok(());
        };
        let flying = slot.group > over && slot.role != role;
        let unfenced = slot.fences > fences;
        let unset = add && !slot.set;
        slot.set = true;
        slot.group = group;
        slot.role = role;
        if flying && check {
            let message =
                "a product (wgmma) takes a register that another of a different shape still uses";
            return Err(self.fault(FaultKind::PendingProduct, w, i, 0, message));
        }
        if unset && check && self.g.config.checks.uninitialised {
            let message = "a product (wgmma) adds to a register that nothing has set";
            return Err(self.fault(FaultKind::UninitialisedRead, w, i, 0, message));
        }
        if unfenced && check {
            let message = "a product (wgmma) takes a register that other instructions have used, and no wgmma.fence is between them";
            return Err(self.fault(FaultKind::MissingFence, w, i, 0, message));
        }
        Ok(())
    }
}
