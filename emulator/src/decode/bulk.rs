//! Bulk copies and tensor maps: cp.async.bulk, cp.async.bulk.tensor, tensormap, and the fences of maps.

use super::decoder::Decoder;
use super::ir::*;
use super::memory::{atom_fn, atom_ty};
use super::mods::Mods;
use crate::ptx::ast::{Immediate, Operand};
use crate::ptx::error::LoadResult;
use crate::ptx::types::{Space, Type};
use crate::tensor_map::MapField;

impl<'a> Decoder<'_, 'a> {
    /// What follows `cp.async.bulk`, or `cp.reduce.async.bulk`.
    pub(super) fn bulk(
        &mut self,
        reduce: bool,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> LoadResult<bool> {
        if m.flag("commit_group") {
            self.count(ops, 0)?;
            self.emit(Instr::new(Op::BulkCommit))?;
            return Ok(true);
        }
        if m.flag("wait_group") {
            let read_only = m.flag("read");
            self.count(ops, 1)?;
            let Operand::Immediate(Immediate::Int(n)) = ops[0] else {
                return self.fail("the number of groups must be a constant");
            };
            let mut i = Instr::new(Op::BulkWait { read_only });
            i.imm = n.min(1 << 20) as i64;
            self.emit(i)?;
            return Ok(true);
        }
        for (part, what) in [
            ("multicast::cluster", "copies to several blocks of a cluster (.multicast::cluster)"),
            ("im2col", "copies by .im2col"),
            ("im2col_no_offs", "copies by .im2col_no_offs"),
            ("im2col::w", "copies by .im2col::w"),
            ("im2col::w::128", "copies by .im2col::w::128"),
            ("tile::gather4", "copies by .tile::gather4"),
            ("tile::scatter4", "copies by .tile::scatter4"),
            ("cp_mask", "copies with a byte mask (.cp_mask)"),
        ] {
            if m.flag(part) {
                return self.fail(format!("{what} are not supported"));
            }
        }
        let prefetch = m.flag("prefetch");
        let tensor = m.flag("tensor");
        let dims = m.any(&["1d", "2d", "3d", "4d", "5d"]);
        let rank = dims.map_or(0, |d| d.as_bytes()[0] - b'0');
        m.flag("tile");
        if tensor != (rank > 0) {
            return self.fail("`.tensor` and a number of dimensions go together");
        }
        let hint = m.flag("L2::cache_hint");
        let ops = self.without_policy(hint, ops)?;
        if prefetch {
            if !m.flag("L2") || !m.flag("global") {
                return self.fail("a bulk prefetch is from .global into .L2");
            }
            self.emit(Instr::new(Op::Nop))?;
            return Ok(true);
        }
        let shared = |m: &mut Mods| m.any(&["shared::cluster", "shared::cta", "shared"]).is_some();
        // The first of the two spaces is the destination's.
        let load = m.left() != Some("global");
        if !m.flag("global") {
            return self
                .fail("bulk copies between the shared memories of blocks are not supported");
        }
        if !shared(m) {
            return self.fail("a bulk copy is between .global and .shared");
        }
        if load {
            if !m.flag("mbarrier::complete_tx::bytes") {
                return self
                    .fail("a bulk copy into shared memory needs `.mbarrier::complete_tx::bytes`");
            }
        } else if !m.flag("bulk_group") {
            return self.fail("a bulk copy into global memory needs `.bulk_group`");
        }
        let reduce = match reduce {
            true if load => {
                return self.fail("bulk reductions into shared memory are not supported");
            }
            true => Some(self.bulk_reduction(tensor, m)?),
            false => None,
        };
        match (tensor, load) {
            (true, true) => {
                self.count(ops, 3)?;
                self.tensor_copy(rank, &ops[0], &ops[1], Some(&ops[2]), None)
            }
            (true, false) => {
                self.count(ops, 2)?;
                self.tensor_copy(rank, &ops[1], &ops[0], None, reduce)
            }
            (false, true) => {
                self.count(ops, 4)?;
                self.plain_copy(&ops[0], &ops[1], &ops[2], Some(&ops[3]), None)
            }
            (false, false) => {
                self.count(ops, 3)?;
                self.plain_copy(&ops[1], &ops[0], &ops[2], None, reduce)
            }
        }
    }

    /// How a bulk reduction changes the elements; a tensor map gives their type.
    fn bulk_reduction(
        &mut self,
        tensor: bool,
        m: &mut Mods<'a>,
    ) -> LoadResult<(AtomFn, Option<AtomTy>)> {
        let f = atom_fn(m).filter(|f| !matches!(f, AtomFn::Exch | AtomFn::Cas));
        let Some(f) = f else { return self.fail("a bulk reduction needs an operation") };
        if tensor {
            return Ok((f, None));
        }
        m.flag("noftz");
        let ty = self.need_ty(m)?;
        match atom_ty(f, ty) {
            Some(ty) => Ok((f, Some(ty))),
            None => self.fail(format!("this reduction is not supported for type {ty:?}")),
        }
    }

    /// The register with an mbarrier's address, and whether it is wide.
    fn mbar_register(&mut self, op: Option<&Operand<'a>>) -> LoadResult<(R, bool)> {
        let r = match op {
            Some(op) => self.address_register(op)?,
            None => self.constant(0, false),
        };
        Ok((r, self.is_wide(r)))
    }

    fn plain_copy(
        &mut self,
        shared: &'a Operand<'a>,
        global: &'a Operand<'a>,
        bytes: &'a Operand<'a>,
        mbar: Option<&'a Operand<'a>>,
        reduce: Option<(AtomFn, Option<AtomTy>)>,
    ) -> LoadResult<bool> {
        let mut i = Instr::new(Op::Nop);
        i.b = self.address_register(global)?;
        if !self.is_wide(i.b) {
            return self.fail("a global address needs 64 bits");
        }
        i.c = self.source(bytes, Type::U32)?;
        let (mbar_register, mbar64) = self.mbar_register(mbar)?;
        self.list(&mut i, &[], &[mbar_register]);
        let address = self.address(shared)?;
        i.op =
            Op::BulkCopy(BulkOp { load: mbar.is_some(), shared64: address.wide, mbar64, reduce });
        i.class = i.op.class();
        self.set_address(&mut i, &address);
        self.emit(i)?;
        Ok(true)
    }

    fn tensor_copy(
        &mut self,
        rank: u8,
        shared: &'a Operand<'a>,
        map: &'a Operand<'a>,
        mbar: Option<&'a Operand<'a>>,
        reduce: Option<(AtomFn, Option<AtomTy>)>,
    ) -> LoadResult<bool> {
        let Operand::TensorAddress { base, coordinates } = map else {
            return self.fail("expected `[map, {coordinates}]`");
        };
        if coordinates.len() != usize::from(rank) {
            return self.fail(format!("expected {rank} coordinates, found {}", coordinates.len()));
        }
        let mut i = Instr::new(Op::Nop);
        i.b = self.map_register(base)?;
        let (mbar_register, mbar64) = self.mbar_register(mbar)?;
        let mut uses = vec![mbar_register];
        for c in coordinates {
            uses.push(self.source(c, Type::B32)?);
        }
        self.list(&mut i, &[], &uses);
        let address = self.address(shared)?;
        let op = BulkOp { load: mbar.is_some(), shared64: address.wide, mbar64, reduce };
        i.op = Op::BulkTensor { op, rank };
        i.class = i.op.class();
        self.set_address(&mut i, &address);
        self.emit(i)?;
        Ok(true)
    }

    /// A register with the generic address of a map.
    fn map_register(&mut self, base: &'a str) -> LoadResult<R> {
        use super::scope::Sym;
        if let Sym::Param(at) = self.known(base)? {
            return Ok(self.constant(PARAM_WINDOW + u64::from(at), true));
        }
        let r = self.source(&Operand::Name(base), Type::B64)?;
        Ok(r)
    }

    /// tensormap.replace and tensormap.cp_fenceproxy
    pub(super) fn tensormap(
        &mut self,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> LoadResult<bool> {
        if m.flag("cp_fenceproxy") {
            let all = ["global", "shared::cta", "tensormap::generic", "release"];
            if !all.iter().all(|part| m.flag(part)) {
                return self.fail("expected `tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release`");
            }
            m.any(&["cta", "cluster", "gpu", "sys"]);
            self.need_sync("tensormap.cp_fenceproxy", m)?;
            m.flag("aligned");
            self.count(ops, 3)?;
            self.map_size(&ops[2])?;
            let mut i = Instr::new(Op::Nop);
            i.b = self.address_register(&ops[0])?;
            if !self.is_wide(i.b) {
                return self.fail("a global address needs 64 bits");
            }
            let address = self.address(&ops[1])?;
            i.op = Op::MapPublish { shared64: address.wide };
            self.set_address(&mut i, &address);
            self.emit(i)?;
            return Ok(true);
        }
        if !m.flag("replace") || !m.flag("tile") {
            return self
                .fail("only `tensormap.replace.tile` and `tensormap.cp_fenceproxy` are known");
        }
        self.need_specific("tensormap.replace", &[9, 10, 11, 12])?;
        let names = [
            "global_address",
            "rank",
            "box_dim",
            "global_dim",
            "global_stride",
            "element_stride",
            "elemtype",
            "interleave_layout",
            "swizzle_mode",
            "fill_mode",
        ];
        let Some(name) = m.any(&names) else {
            return self.fail("this field of a tensor map is not known");
        };
        let space = match m.space() {
            Some(space @ (Space::Shared | Space::Global)) => space,
            None => Space::Generic,
            _ => return self.fail("a tensor map is replaced in .shared::cta or .global"),
        };
        if !m.flag("b1024") {
            return self.fail("`tensormap.replace` needs `.b1024`");
        }
        let wide = match self.need_ty(m)? {
            Type::B32 => false,
            Type::B64 => true,
            ty => return self.bad_ty("tensormap.replace", ty),
        };
        let indexed = matches!(name, "box_dim" | "global_dim" | "global_stride" | "element_stride");
        self.count(ops, if indexed { 3 } else { 2 })?;
        let at = match (indexed, &ops[1]) {
            (true, Operand::Immediate(Immediate::Int(n @ 0..5))) => *n as u8,
            (true, _) => return self.fail("the dimension must be a constant from 0 to 4"),
            _ => 0,
        };
        if wide != matches!(name, "global_address" | "global_stride")
            || name == "global_stride" && at > 3
        {
            return self.fail("this field has another type");
        }
        let field = match name {
            "global_address" => MapField::Address,
            "rank" => MapField::Rank,
            "box_dim" => MapField::Box(at),
            "global_dim" => MapField::Dim(at),
            "global_stride" => MapField::Stride(at),
            "element_stride" => MapField::Step(at),
            "elemtype" => MapField::Element,
            "interleave_layout" => MapField::Interleave,
            "swizzle_mode" => MapField::Swizzle,
            _ => MapField::Fill,
        };
        let mut i = Instr::new(Op::Nop);
        i.b = self.source(&ops[ops.len() - 1], if wide { Type::B64 } else { Type::B32 })?;
        let address = self.address(&ops[0])?;
        let stride_in_16 = self.m.version <= (8, 5);
        let op = MapOp { space, address64: address.wide, stride_in_16 };
        i.op = Op::MapReplace { op, field };
        self.set_address(&mut i, &address);
        self.emit(i)?;
        Ok(true)
    }

    fn map_size(&self, op: &Operand) -> LoadResult<()> {
        match op {
            Operand::Immediate(Immediate::Int(128)) => Ok(()),
            _ => self.fail("a tensor map has 128 bytes"),
        }
    }

    /// fence.proxy.tensormap::generic
    pub(super) fn map_fence(
        &mut self,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> LoadResult<bool> {
        let acquire = m.any(&["acquire", "release"]) == Some("acquire");
        m.any(&["cta", "cluster", "gpu", "sys"]);
        if !acquire {
            self.count(ops, 0)?;
            self.emit(Instr::new(Op::Fence { block: false }))?;
            return Ok(true);
        }
        self.count(ops, 2)?;
        self.map_size(&ops[1])?;
        let address = self.address(&ops[0])?;
        let mut i = Instr::new(Op::MapAcquire);
        self.set_address(&mut i, &address);
        self.emit(i)?;
        Ok(true)
    }

    /// mapa and getctarank: a block is alone in its cluster.
    pub(super) fn map_address(
        &mut self,
        rank: bool,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> LoadResult<bool> {
        m.flag("shared::cluster");
        let ty = self.need_ty(m)?;
        if !matches!(ty, Type::U32 | Type::U64) {
            return self.bad_ty("mapa", ty);
        }
        if rank {
            self.count(ops, 2)?;
            self.source(&ops[1], ty)?;
            let d = self.destination(&ops[0], Type::U32)?;
            let zero = self.constant(0, false);
            self.mov(d, zero)?;
            return Ok(true);
        }
        self.count(ops, 3)?;
        let mut i = Instr::new(Op::MapRank { wide: ty == Type::U64 });
        i.a = self.source(&ops[1], ty)?;
        i.b = self.source(&ops[2], Type::U32)?;
        i.d = self.destination(&ops[0], ty)?;
        self.emit(i)?;
        Ok(true)
    }
}
