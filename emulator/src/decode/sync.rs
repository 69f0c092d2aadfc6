//! Barriers, fences, warp-wide exchange and matrix instructions.

use super::Decoder;
use super::ir::*;
use super::mods::Mods;
use crate::numeric::mma::{Mma, MmaType};
use crate::ptx::ast::Operand;
use crate::ptx::error::Result;
use crate::ptx::types::{Space, Type};

impl<'a> Decoder<'_, 'a> {
    pub fn sync(&mut self, base: &str, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> Result<bool> {
        match base {
            "bar" | "barrier" => self.barrier(base, m, ops),
            "membar" | "fence" => {
                let block = m.flag("cta");
                self.semantics(m);
                while m
                    .any(&[
                        "gl",
                        "proxy",
                        "alias",
                        "async",
                        "async.global",
                        "async.shared::cta",
                        "global",
                        "shared::cta",
                        "async::generic",
                        "mbarrier_init",
                        "release",
                        "acquire",
                        "cluster",
                        "tensormap::generic",
                        "shared::cluster",
                        "sync_restrict::shared::cta",
                        "sync_restrict::shared::cluster",
                    ])
                    .is_some()
                {}
                self.count(ops, 0)?;
                self.emit(Instr::new(Op::Fence { block }))?;
                Ok(true)
            }
            "shfl" => {
                self.need_sync(base, m)?;
                let mode = match m.any(&["up", "down", "bfly", "idx"]) {
                    Some("up") => Shfl::Up,
                    Some("down") => Shfl::Down,
                    Some("bfly") => Shfl::Bfly,
                    Some(_) => Shfl::Idx,
                    None => return self.fail("`shfl` needs a mode"),
                };
                self.need_b32(m)?;
                self.count(ops, 5)?;
                let mut i = Instr::new(Op::Shfl(mode));
                i.a = self.source(&ops[1], Type::B32)?;
                i.b = self.source(&ops[2], Type::B32)?;
                i.c = self.source(&ops[3], Type::B32)?;
                let mask = self.source(&ops[4], Type::B32)?;
                self.pair(&mut i, &ops[0], Type::B32)?;
                self.list(&mut i, &[], &[mask]);
                self.emit(i)?;
                Ok(true)
            }
            "vote" => {
                self.need_sync(base, m)?;
                let mode = match m.any(&["all", "any", "uni", "ballot"]) {
                    Some("all") => Vote::All,
                    Some("any") => Vote::Any,
                    Some("uni") => Vote::Uni,
                    Some(_) => Vote::Ballot,
                    None => return self.fail("`vote` needs a mode"),
                };
                self.need_ty(m)?;
                self.count(ops, 3)?;
                let mut i = Instr::new(Op::Vote(mode));
                i.ps = self.predicate_source(&ops[1])?;
                i.a = self.source(&ops[2], Type::B32)?;
                if mode == Vote::Ballot {
                    i.d = self.destination(&ops[0], Type::B32)?;
                } else {
                    i.pd = self.predicate_destination(&ops[0])?;
                }
                self.emit(i)?;
                Ok(true)
            }
            "match" => {
                let all = m.flag("all");
                if !all && !m.flag("any") {
                    return self.fail("`match` needs `.any` or `.all`");
                }
                self.need_sync(base, m)?;
                let ty = self.need_ty(m)?;
                if !matches!(ty, Type::B32 | Type::B64) {
                    return self.fail("`match` takes .b32 or .b64");
                }
                self.count(ops, 3)?;
                let mut i = Instr::new(Op::Match { all, wide: ty == Type::B64 });
                i.a = self.source(&ops[1], ty)?;
                i.b = self.source(&ops[2], Type::B32)?;
                self.pair(&mut i, &ops[0], Type::B32)?;
                self.emit(i)?;
                Ok(true)
            }
            "redux" => {
                self.need_sync(base, m)?;
                let f = m.any(&["add", "min", "max", "and", "or", "xor"]);
                let abs = m.flag("abs");
                let nan = m.flag("NaN");
                let ty = self.need_ty(m)?;
                let f = match (f, ty) {
                    (Some("add"), Type::U32 | Type::S32) => Redux::AddU,
                    (Some("min"), Type::U32) => Redux::MinU,
                    (Some("max"), Type::U32) => Redux::MaxU,
                    (Some("min"), Type::S32) => Redux::MinS,
                    (Some("max"), Type::S32) => Redux::MaxS,
                    (Some("and"), Type::B32) => Redux::And,
                    (Some("or"), Type::B32) => Redux::Or,
                    (Some("xor"), Type::B32) => Redux::Xor,
                    (Some("min"), Type::F32) => Redux::MinF { abs, nan },
                    (Some("max"), Type::F32) => Redux::MaxF { abs, nan },
                    _ => return self.fail("this reduction does not exist"),
                };
                self.count(ops, 3)?;
                let mut i = Instr::new(Op::Redux(f));
                i.a = self.source(&ops[1], ty)?;
                i.b = self.source(&ops[2], Type::B32)?;
                i.d = self.destination(&ops[0], ty)?;
                self.emit(i)?;
                Ok(true)
            }
            "activemask" => {
                self.need_b32(m)?;
                self.count(ops, 1)?;
                let mut i = Instr::new(Op::ActiveMask);
                i.d = self.destination(&ops[0], Type::B32)?;
                self.emit(i)?;
                Ok(true)
            }
            "elect" => {
                self.need_sync(base, m)?;
                self.count(ops, 2)?;
                let mut i = Instr::new(Op::Elect);
                i.a = self.source(&ops[1], Type::B32)?;
                self.pair(&mut i, &ops[0], Type::B32)?;
                self.emit(i)?;
                Ok(true)
            }
            "ldmatrix" | "stmatrix" => self.matrix_memory(base == "ldmatrix", m, ops),
            "movmatrix" => {
                self.need_sync(base, m)?;
                if !(m.flag("aligned") && m.flag("m8n8") && m.flag("trans") && m.flag("b16")) {
                    return self.fail("expected `movmatrix.sync.aligned.m8n8.trans.b16`");
                }
                self.count(ops, 2)?;
                let mut i = Instr::new(Op::MovMatrix);
                i.a = self.source(&ops[1], Type::B32)?;
                i.d = self.destination(&ops[0], Type::B32)?;
                self.emit(i)?;
                Ok(true)
            }
            "mma" => self.mma(m, ops),
            "wmma" => self.wmma(m, ops),
            "mbarrier" => self.mbarrier(m, ops),
            "wgmma" | "tcgen05" => self.fail(format!("`{base}` is not supported")),
            _ => Ok(false),
        }
    }

    fn need_sync(&self, base: &str, m: &mut Mods) -> Result<()> {
        if !m.flag("sync") {
            return self.fail(format!("`{base}` without `.sync` does not exist from sm_70 on"));
        }
        Ok(())
    }

    fn need_b32(&self, m: &mut Mods) -> Result<()> {
        if self.need_ty(m)? != Type::B32 {
            return self.fail("the type must be .b32");
        }
        Ok(())
    }

    /// `d|p` or `d`.
    fn pair(&mut self, i: &mut Instr, op: &Operand<'a>, ty: Type) -> Result<()> {
        let d = match op {
            Operand::Pair(d, p) => {
                i.pd = self.predicate_destination(p)?;
                d
            }
            d => d,
        };
        i.d = self.destination(d, ty)?;
        Ok(())
    }

    /// bar and barrier, bar.warp.sync, barrier.cluster
    fn barrier(&mut self, base: &str, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> Result<bool> {
        if m.flag("warp") {
            self.need_sync(base, m)?;
            self.count(ops, 1)?;
            let mut i = Instr::new(Op::BarWarp);
            i.a = self.source(&ops[0], Type::B32)?;
            self.emit(i)?;
            return Ok(true);
        }
        if m.flag("cluster") {
            // Every block is its own cluster: arriving is free and waiting is a block barrier with a number of its own.
            let wait = m.flag("wait");
            if !wait && !m.flag("arrive") {
                return self.fail("`barrier.cluster` needs `.arrive` or `.wait`");
            }
            m.any(&["release", "relaxed", "acquire"]);
            m.flag("aligned");
            self.count(ops, 0)?;
            let mut i = Instr::new(if wait { Op::Bar(Barrier::Sync) } else { Op::Nop });
            i.a = self.constant(16, false);
            self.emit(i)?;
            return Ok(true);
        }
        m.flag("cta");
        m.flag("aligned");
        let kind = match m.any(&["sync", "arrive", "red"]) {
            Some("sync") => Barrier::Sync,
            Some("arrive") => Barrier::Arrive,
            Some(_) => match m.any(&["popc", "and", "or"]) {
                Some("popc") => Barrier::RedPopc,
                Some("and") => Barrier::RedAnd,
                Some(_) => Barrier::RedOr,
                None => return self.fail("`bar.red` needs an operation"),
            },
            None => return self.fail(format!("`{base}` needs `.sync`, `.arrive` or `.red`")),
        };
        m.flag("aligned");
        let mut i = Instr::new(Op::Bar(kind));
        let mut rest = ops;
        if matches!(kind, Barrier::RedPopc | Barrier::RedAnd | Barrier::RedOr) {
            let ty = self.need_ty(m)?;
            if !(3..=4).contains(&ops.len()) || (ty == Type::U32) != (kind == Barrier::RedPopc) {
                return self.fail("the operands of this barrier do not fit");
            }
            if kind == Barrier::RedPopc {
                i.d = self.destination(&ops[0], Type::U32)?;
            } else {
                i.pd = self.predicate_destination(&ops[0])?;
            }
            i.ps = self.predicate_source(&ops[ops.len() - 1])?;
            rest = &ops[1..ops.len() - 1];
        }
        if rest.is_empty() || rest.len() > 2 || kind == Barrier::Arrive && rest.len() != 2 {
            return self.fail("the operands of this barrier do not fit");
        }
        i.a = self.source(&rest[0], Type::U32)?;
        if let Some(threads) = rest.get(1) {
            i.b = self.source(threads, Type::U32)?;
        }
        self.emit(i)?;
        Ok(true)
    }

    /// ldmatrix and stmatrix
    fn matrix_memory(
        &mut self,
        load: bool,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> Result<bool> {
        self.need_sync("ldmatrix", m)?;
        if !(m.flag("aligned") && m.flag("m8n8")) {
            return self.fail("expected `.sync.aligned.m8n8`");
        }
        let count = match m.any(&["x1", "x2", "x4"]) {
            Some("x1") => 1,
            Some("x2") => 2,
            Some(_) => 4,
            None => return self.fail("`.x1`, `.x2` or `.x4` is missing"),
        };
        let trans = m.flag("trans");
        let space = m.space();
        if !matches!(space, None | Some(Space::Shared)) {
            return self.fail("the address must be in .shared");
        }
        if self.need_ty(m)? != Type::B16 {
            return self.fail("only .b16 matrices are supported");
        }
        self.count(ops, 2)?;
        let (registers, address) = if load { (&ops[0], &ops[1]) } else { (&ops[1], &ops[0]) };
        let parts = self.vector(registers)?;
        if parts.len() != count {
            return self.fail(format!("expected {count} registers, found {}", parts.len()));
        }
        let mut list = Vec::new();
        for part in &parts {
            list.push(if load {
                self.destination(part, Type::B32)?
            } else {
                self.source(part, Type::B32)?
            });
        }
        let address = self.address(address)?;
        let (count, generic, address64) = (count as u8, space.is_none(), address.wide);
        let mut i = Instr::new(if load {
            Op::LdMatrix { count, trans, generic, address64 }
        } else {
            Op::StMatrix { count, trans, generic, address64 }
        });
        if load {
            self.list(&mut i, &list, &[]);
        } else {
            self.list(&mut i, &[], &list);
        }
        self.set_address(&mut i, &address);
        self.emit(i)?;
        Ok(true)
    }

    /// mma.sync
    fn mma(&mut self, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> Result<bool> {
        self.need_sync("mma", m)?;
        m.flag("aligned");
        let shape = m.any(&[
            "m16n8k4", "m16n8k8", "m16n8k16", "m16n8k32", "m16n8k64", "m8n8k4", "m8n8k16",
            "m8n8k32",
        ]);
        let Some(shape) = shape else {
            return self.fail("this shape of `mma` is not supported");
        };
        if !(m.flag("row") && m.flag("col")) {
            return self.fail("`mma` is supported with A by rows and B by columns");
        }
        let satfinite = m.flag("satfinite");
        let read = |m: &mut Mods| {
            m.pick(|p| match p {
                "e4m3" => Some((Type::B8, Some(MmaType::E4m3))),
                "e5m2" => Some((Type::B8, Some(MmaType::E5m2))),
                "s4" => Some((Type::B8, Some(MmaType::S4))),
                "u4" => Some((Type::B8, Some(MmaType::U4))),
                _ => {
                    let ty = Type::parse(p)?;
                    let t = match ty {
                        Type::F16 => Some(MmaType::F16),
                        Type::Bf16 => Some(MmaType::Bf16),
                        Type::Tf32 => Some(MmaType::Tf32),
                        Type::S8 => Some(MmaType::S8),
                        Type::U8 => Some(MmaType::U8),
                        _ => None,
                    };
                    Some((ty, t))
                }
            })
        };
        let (d, a, b, c) = (read(m), read(m), read(m), read(m));
        let (Some((d, _)), Some((a, at)), Some((b, bt)), Some((c, _))) = (d, a, b, c) else {
            return self.fail("`mma` needs four types");
        };
        self.count(ops, 4)?;
        let m8 = shape.starts_with("m8");
        let k = match shape.rsplit_once('k') {
            Some((_, "4")) => 4,
            Some((_, "8")) => 8,
            Some((_, "16")) => 16,
            Some((_, "32")) => 32,
            _ => 64,
        };
        if a == Type::F64 {
            if [b, c, d].iter().any(|t| *t != Type::F64) || k > if m8 { 4 } else { 16 } {
                return self.fail("this `mma` is not supported for these types");
            }
            m.flag("rn");
            let (halves, steps) = (if m8 { 1 } else { 2 }, usize::from(k) / 4);
            let op = Op::MmaF64 { rows16: !m8, k };
            let counts = [2 * halves, halves * steps, steps, 2 * halves];
            return self.mma_registers(op, ops, Type::F64, counts);
        }
        let (Some(at), Some(bt)) = (at, bt) else {
            return self.fail("this `mma` is not supported for these types");
        };
        let accumulators = if at.is_int() {
            c == Type::S32 && d == Type::S32
        } else {
            [c, d].iter().all(|t| matches!(t, Type::F32 | Type::F16))
        };
        let mma =
            Mma { k, a: at, b: bt, c_half: c == Type::F16, d_half: d == Type::F16, satfinite, m8 };
        if !accumulators || !mma.is_valid() {
            return self.fail("this `mma` is not supported for these types");
        }
        let counts = match m8 {
            true => [2, 1, 1, 2],
            false => [mma.d_regs(), mma.a_regs(), mma.b_regs(), mma.c_regs()],
        };
        self.mma_registers(Op::Mma(mma), ops, Type::B32, counts)
    }

    fn mma_registers(
        &mut self,
        op: Op,
        ops: &'a [Operand<'a>],
        ty: Type,
        counts: [usize; 4],
    ) -> Result<bool> {
        let mut lists: [Vec<R>; 4] = Default::default();
        for (which, (op, n)) in ops.iter().zip(counts).enumerate() {
            let parts = self.vector(op)?;
            if parts.len() != n {
                return self.fail(format!("expected {n} registers, found {}", parts.len()));
            }
            for part in &parts {
                let r =
                    if which == 0 { self.destination(part, ty)? } else { self.source(part, ty)? };
                lists[which].push(r);
            }
        }
        let mut i = Instr::new(op);
        let [d, a, b, c] = lists;
        let uses: Vec<R> = a.into_iter().chain(b).chain(c).collect();
        self.list(&mut i, &d, &uses);
        self.emit(i)?;
        Ok(true)
    }

    /// mbarrier
    fn mbarrier(&mut self, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> Result<bool> {
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
