//! The mbarrier instructions: init, arrive, expect, complete, test and wait.

use super::decoder::Decoder;
use super::ir::*;
use super::mods::Mods;
use crate::ptx::ast::Operand;
use crate::ptx::error::LoadResult;
use crate::ptx::types::Type;

impl<'a> Decoder<'_, 'a> {
    pub(super) fn mbarrier(
        &mut self,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> LoadResult<bool> {
        let what = m.any(&[
            "init",
            "inval",
            "arrive_drop",
            "arrive",
            "expect_tx",
            "complete_tx",
            "test_wait",
            "try_wait",
            "pending_count",
        ]);
        let expect = m.flag("expect_tx");
        let no_complete = m.flag("noComplete");
        let parity = m.flag("parity");
        self.semantics(m);
        m.space();
        m.flag("shared::cluster");
        if self.need_ty(m)? != Type::B64 {
            return self.fail("`mbarrier` takes .b64");
        }
        let Some(what) = what else {
            return self.fail("this `mbarrier` instruction is not known");
        };
        if what == "pending_count" {
            self.count(ops, 2)?;
            let mut i = Instr::new(Op::Mbar { op: Mbar::PendingCount, address64: false });
            i.b = self.source(&ops[1], Type::B64)?;
            i.d = self.destination(&ops[0], Type::U32)?;
            self.emit(i)?;
            return Ok(true);
        }
        let drop = what == "arrive_drop";
        let op = match what {
            "init" => Mbar::Init,
            "inval" => Mbar::Inval,
            "arrive" | "arrive_drop" if expect => Mbar::ArriveExpect { drop },
            "arrive" | "arrive_drop" => Mbar::Arrive { drop, no_complete },
            "expect_tx" => Mbar::ExpectTx,
            "complete_tx" => Mbar::CompleteTx,
            _ => Mbar::Test { parity, wait: what == "try_wait" },
        };
        let result =
            matches!(op, Mbar::Arrive { .. } | Mbar::ArriveExpect { .. } | Mbar::Test { .. });
        // The state may be left out for remote barriers only; `_` is always allowed.
        let skip = usize::from(
            result && !matches!(ops.first(), Some(Operand::Address { brackets: true, .. })),
        );
        let rest = &ops[skip.min(ops.len())..];
        let mut i = Instr::new(Op::Nop);
        let Some(address) = rest.first() else {
            return self.fail("an address is missing");
        };
        match (op, rest.len()) {
            (Mbar::Inval, 1) => {}
            (Mbar::Arrive { no_complete: false, .. }, 1) => i.b = self.constant(1, false),
            (
                Mbar::Init
                | Mbar::Arrive { .. }
                | Mbar::ArriveExpect { .. }
                | Mbar::ExpectTx
                | Mbar::CompleteTx,
                2,
            ) => {
                i.b = self.source(&rest[1], Type::U32)?;
            }
            (Mbar::Test { parity, wait }, n) if n == 2 || n == 3 && wait => {
                i.b = self.source(&rest[1], if parity { Type::U32 } else { Type::B64 })?;
                if let Some(hint) = rest.get(2) {
                    self.source(hint, Type::U32)?;
                }
            }
            _ => return self.fail("the operands of this `mbarrier` do not fit"),
        }
        if skip == 1 {
            if matches!(op, Mbar::Test { .. }) {
                i.pd = self.predicate_destination(&ops[0])?;
            } else {
                i.d = self.destination(&ops[0], Type::B64)?;
            }
        }
        let address = self.address(address)?;
        i.op = Op::Mbar { op, address64: address.wide };
        i.class = i.op.class();
        self.set_address(&mut i, &address);
        self.emit(i)?;
        Ok(true)
    }
}
