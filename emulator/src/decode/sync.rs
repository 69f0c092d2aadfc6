//! Barriers and fences, and dispatch to what a warp does together.

use super::decoder::Decoder;
use super::ir::*;
use super::mods::Mods;
use crate::ptx::ast::Operand;
use crate::ptx::error::LoadResult;
use crate::ptx::types::Type;

impl<'a> Decoder<'_, 'a> {
    pub fn sync(
        &mut self,
        base: &str,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> LoadResult<bool> {
        match base {
            "bar" | "barrier" => self.barrier(base, m, ops),
            "membar" | "fence" => self.fence(m, ops),
            "shfl" | "vote" | "match" | "redux" | "activemask" | "elect" => {
                self.exchange(base, m, ops)
            }
            "ldmatrix" | "stmatrix" => self.matrix_memory(base == "ldmatrix", m, ops),
            "movmatrix" => self.movmatrix(m, ops),
            "mma" => self.mma(m, ops),
            "wmma" => self.wmma(m, ops),
            "mbarrier" => self.mbarrier(m, ops),
            "wgmma" => self.wgmma(m, ops),
            "tensormap" => self.tensormap(m, ops),
            "mapa" | "getctarank" => self.map_address(base == "getctarank", m, ops),
            "tcgen05" => self.fail(format!("`{base}` is not supported")),
            _ => Ok(false),
        }
    }

    fn fence(&mut self, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> LoadResult<bool> {
        let proxy = m.flag("proxy");
        if proxy && m.flag("tensormap::generic") {
            return self.map_fence(m, ops);
        }
        let asynchronous = proxy && m.any(&["async", "async::generic"]).is_some();
        let global = proxy && m.flag("global");
        let block = m.flag("cta");
        self.semantics(m);
        let shared = m.any(&["shared::cta", "shared::cluster"]).is_some();
        let rest = [
            "gl",
            "alias",
            "mbarrier_init",
            "sync_restrict::shared::cta",
            "sync_restrict::shared::cluster",
        ];
        while m.any(&rest).is_some() {}
        self.count(ops, 0)?;
        self.emit(Instr::new(match asynchronous {
            true => Op::FenceAsync { shared: !global, global: !shared },
            false => Op::Fence { block },
        }))?;
        Ok(true)
    }

    /// bar and barrier, bar.warp.sync, barrier.cluster
    fn barrier(
        &mut self,
        base: &str,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> LoadResult<bool> {
        if m.flag("warp") {
            self.need_sync(base, m)?;
            self.count(ops, 1)?;
            let mut i = Instr::new(Op::BarWarp);
            i.a = self.source(&ops[0], Type::B32)?;
            self.emit(i)?;
            return Ok(true);
        }
        if m.flag("cluster") {
            // Every block is its own cluster: arriving is free and waiting is a block barrier with its own number.
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
}
