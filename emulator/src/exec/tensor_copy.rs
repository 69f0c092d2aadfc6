//! Copies of boxes of a tensor between global and shared memory, and how kernels find and make tensor maps.

use super::access::{AccessKind, Target, window};
use super::block::{Block, Checked};
use super::bulk_store::BulkStore;
use super::global_race;
use super::regs::{FULL, lanes};
use super::warp::Warp;
use crate::check::FaultKind;
use crate::decode::ir::*;
use crate::ptx::types::Space;
use crate::tensor_map::{MAP_BYTES, MapField, TensorMap};

/// One row of a box: where it is in global memory and which of its elements are in the tensor.
struct BoxRow {
    address: u64,
    from: u64,
    to: u64,
}

/// The rows of a box, outermost dimension slowest; `None` for a row outside the tensor.
fn rows(map: &TensorMap, start: [i64; 5]) -> impl Iterator<Item = Option<BoxRow>> + '_ {
    let counts = map.counts();
    let inside = move |d: usize, at: i64| at >= 0 && (at as u64) < map.dims[d];
    (0..counts[1..].iter().product::<u64>()).map(move |n| {
        let (mut rest, mut address) = (n, map.address);
        for d in 1..map.rank {
            let at = start[d].wrapping_add((rest % counts[d] * u64::from(map.steps[d])) as i64);
            rest /= counts[d];
            if !inside(d, at) {
                return None;
            }
            // Addresses wrap: maps of ragged tensors rely on it.
            address = address.wrapping_add((at as u64).wrapping_mul(map.strides[d - 1]));
        }
        let from = (-start[0]).clamp(0, counts[0] as i64) as u64;
        let to = (map.dims[0] as i64 - start[0]).clamp(0, counts[0] as i64) as u64;
        if from >= to {
            return None;
        }
        let first = start[0].wrapping_add(from as i64) as u64;
        Some(BoxRow {
            address: address.wrapping_add(first.wrapping_mul(map.element_bytes())),
            from,
            to,
        })
    })
}

impl Block<'_> {
    /// Looks up `bytes` bytes of global memory for one lane.
    pub(super) fn global_of_lane(
        &mut self,
        w: &Warp,
        i: &Instr,
        lane: usize,
        address: u64,
        bytes: u64,
    ) -> Checked<Target> {
        let mut t = Target {
            space: Space::Global,
            pointers: [std::ptr::null_mut(); 32],
            offsets: [address; 32],
            allocations: [0; 32],
        };
        self.resolve_global(w, i, &mut t, bytes, 1 << lane)?;
        Ok(t)
    }

    /// Looks up `bytes` bytes of global memory and notes the read; `act` gets the pointer.
    #[expect(clippy::too_many_arguments)]
    pub(super) fn global_bytes(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        lane: usize,
        address: u64,
        bytes: u64,
        kind: AccessKind,
        act: impl FnOnce(*mut u8),
    ) -> Checked<()> {
        let t = self.global_of_lane(w, i, lane, address, bytes)?;
        if !self.sweep_global(&t, bytes, 1 << lane) {
            self.shadow_lane(w, i, &t, lane, bytes, kind, false)?;
            if kind == AccessKind::Read {
                self.fenced_global(w, i, lane, &t, bytes)?;
            }
        }
        self.tally_bulk(address, bytes, false);
        act(t.pointers[lane]);
        Ok(())
    }

    /// cp.async.bulk.tensor. Shared address in `a`, map in `b`; the list has the mbarrier, then the coordinates.
    pub(super) fn bulk_tensor(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        op: BulkOp,
        rank: u8,
        m: u32,
    ) -> Checked<()> {
        let shared = w.regs.addresses(i.a, i.imm, op.shared64).map(|a| a & (WINDOW - 1));
        let rank = usize::from(rank);
        for l in lanes(m) {
            let at = w.regs.r64(i.b)[l];
            let map = self.tensor_map(w, i, l, at)?;
            if map.rank != rank {
                let message = format!(
                    "a copy of {rank} dimensions by a tensor map of {} dimensions",
                    map.rank
                );
                return Err(self.fault(FaultKind::IllegalInstruction, w, i, l as u32, message));
            }
            if let Some(name) = map.changes() {
                let message =
                    format!("a copy of {name} elements, which change on their way: not supported");
                return Err(self.fault(FaultKind::IllegalInstruction, w, i, l as u32, message));
            }
            let span = map.span();
            let row = u64::from(map.box_dims[0]) * map.element_bytes();
            if map.swizzle != 0 && row != span {
                let message = format!(
                    "a box whose rows have {row} bytes with a swizzle of {span}: what a device does is not known"
                );
                return Err(self.fault(FaultKind::IllegalInstruction, w, i, l as u32, message));
            }
            let align = if map.swizzle == 0 { 128 } else { 8 * span };
            let swizzle = span as u32 / 16 - 1;
            let tile = self.tile(w, i, l, shared[l], map.box_bytes(), align, swizzle)?;
            let mut start = [0i64; 5];
            for d in 0..rank {
                let r = self.g.program.lists[i.list as usize + 1 + d];
                start[d] = i64::from(w.regs.r32(r)[l] as i32);
            }
            if op.load {
                let data = self.box_from_global(w, i, l, &map, start)?;
                let mbar = self.bulk_mbar(w, i, op, l);
                self.bulk_load(w, i, l, tile, mbar, data)?;
            } else {
                let reduce = match op.reduce {
                    Some((f, _)) => Some((f, self.reduced(w, i, l, f, &map)?)),
                    None => None,
                };
                let bytes = map.box_bytes() as usize;
                let mut store = self.bulk_read(w, i, l, tile, bytes, reduce)?;
                self.box_to_global(w, i, l, &map, start, &mut store)?;
                self.bulk_issue(w, l, store);
            }
        }
        Ok(())
    }

    /// The type of the elements that a reduction changes.
    fn reduced(
        &self,
        w: &Warp,
        i: &Instr,
        lane: usize,
        f: AtomFn,
        map: &TensorMap,
    ) -> Checked<AtomTy> {
        let bits = matches!(f, AtomFn::And | AtomFn::Or | AtomFn::Xor);
        let halves = matches!(f, AtomFn::Add | AtomFn::Min | AtomFn::Max);
        let whole = halves || matches!(f, AtomFn::Inc | AtomFn::Dec);
        let found = match map.name() {
            "u32" | "s32" if bits => Some(AtomTy::B32),
            "u64" | "s64" if bits => Some(AtomTy::B64),
            "u32" if whole => Some(AtomTy::U32),
            "s32" if halves => Some(AtomTy::S32),
            "u64" if halves => Some(AtomTy::U64),
            "s64" if halves => Some(AtomTy::S64),
            "f16" if halves => Some(AtomTy::F16),
            "bf16" if halves => Some(AtomTy::Bf16),
            "f32" if f == AtomFn::Add => Some(AtomTy::F32),
            "f64" if f == AtomFn::Add => Some(AtomTy::F64),
            _ => None,
        };
        found.ok_or_else(|| {
            let message = format!("no bulk reduction of this kind is there for {}", map.name());
            self.fault(FaultKind::IllegalInstruction, w, i, lane as u32, message)
        })
    }

    fn box_from_global(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        lane: usize,
        map: &TensorMap,
        start: [i64; 5],
    ) -> Checked<Vec<u8>> {
        let size = map.element_bytes();
        let count = map.counts()[0];
        let fill = map.fill().to_le_bytes();
        let mut data = self.bulk.buffer(map.box_bytes() as usize);
        let pad = |data: &mut Vec<u8>, n: u64| match fill[0] {
            0 => data.resize(data.len() + (n * size) as usize, 0),
            _ => (0..n).for_each(|_| data.extend_from_slice(&fill[..size as usize])),
        };
        for row in rows(map, start) {
            let Some(row) = row else {
                pad(&mut data, count);
                continue;
            };
            pad(&mut data, row.from);
            let bytes = (row.to - row.from) * size;
            self.global_bytes(w, i, lane, row.address, bytes, AccessKind::Read, |from| {
                // SAFETY: `global_bytes` found this many live bytes there.
                data.extend_from_slice(unsafe { std::slice::from_raw_parts(from, bytes as usize) });
            })?;
            pad(&mut data, count - row.to);
        }
        Ok(data)
    }

    fn box_to_global(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        lane: usize,
        map: &TensorMap,
        start: [i64; 5],
        store: &mut BulkStore,
    ) -> Checked<()> {
        let size = map.element_bytes();
        let row_bytes = map.counts()[0] * size;
        for (n, row) in rows(map, start).enumerate() {
            let Some(row) = row else { continue };
            let first = n as u64 * row_bytes;
            let part = (first + row.from * size) as usize..(first + row.to * size) as usize;
            self.store_row(w, i, lane, store, row.address, part)?;
        }
        Ok(())
    }

    /// The map at a generic address.
    fn tensor_map(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        lane: usize,
        address: u64,
    ) -> Checked<TensorMap> {
        let space = window(address);
        let at = if space == Space::Global { address } else { address & (WINDOW - 1) };
        let fail = |b: &Self, w: &Warp, kind, message: String| {
            let name = super::access::space_name(space);
            Err(b.address_fault(kind, w, i, lane as u32, message, name, at))
        };
        if !address.is_multiple_of(64) {
            let message = "a tensor map at an address that is not a multiple of 64".into();
            return fail(self, w, FaultKind::Misaligned, message);
        }
        let mut bytes = [0; MAP_BYTES];
        match space {
            Space::Param => {
                let from = self.g.launch.params.get(at as usize..at as usize + MAP_BYTES);
                match from {
                    Some(from) => bytes.copy_from_slice(from),
                    None => {
                        let message = "a tensor map outside the parameters".into();
                        return fail(self, w, FaultKind::OutOfBounds, message);
                    }
                }
            }
            Space::Global => {
                self.acquired(w, i, lane, at)?;
                let n = MAP_BYTES as u64;
                self.global_bytes(w, i, lane, at, n, AccessKind::Atomic, |from| {
                    // SAFETY: `global_bytes` found this many live bytes there.
                    bytes.copy_from_slice(unsafe { std::slice::from_raw_parts(from, MAP_BYTES) });
                })?;
            }
            _ => {
                let message =
                    "a tensor map must be in parameters, constant or global memory".into();
                return fail(self, w, FaultKind::IllegalInstruction, message);
            }
        }
        match TensorMap::decode(&bytes) {
            Ok(map) => Ok(map),
            Err(why) => fail(self, w, FaultKind::IllegalInstruction, format!("tensor map: {why}")),
        }
    }

    /// A map that this launch has written must have been acquired by `fence.proxy.tensormap`.
    fn acquired(&mut self, w: &mut Warp, i: &Instr, lane: usize, at: u64) -> Checked<()> {
        if !self.g.config.checks.global_races || self.bulk.acquired_maps.contains(&at) {
            return Ok(());
        }
        let found = self.g.allocations.partition_point(|a| a.base <= at).wrapping_sub(1);
        let Some(a) = self.g.allocations.get(found).filter(|a| a.contains(at, MAP_BYTES as u64))
        else {
            return Ok(());
        };
        let first = ((at - a.base) / 4) as usize;
        let cells = &a.race_shadow()[first..first + MAP_BYTES / 4];
        if !global_race::written(cells, self.g.epoch) {
            return Ok(());
        }
        let message =
            "this launch has written the tensor map, and no fence.proxy.tensormap acquires it";
        let kind = FaultKind::MissingFence;
        Err(self.address_fault(kind, w, i, lane as u32, message, "global", at))
    }

    /// tensormap.replace
    pub(super) fn map_replace(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        op: MapOp,
        field: MapField,
        m: u32,
    ) -> Checked<()> {
        let mut at = w.regs.addresses(i.a, i.imm, op.address64);
        if op.space == Space::Shared {
            at = at.map(|a| a & (WINDOW - 1));
        }
        for l in lanes(m) {
            let t = self.resolve(w, i, op.space, at, MAP_BYTES as u64, 1 << l)?;
            self.shadow_lane(w, i, &t, l, MAP_BYTES as u64, AccessKind::Write, false)?;
            let value = match field {
                MapField::Address | MapField::Stride(_) => w.regs.r64(i.b)[l],
                _ => w.regs.r32(i.b)[l].into(),
            };
            let value = match field {
                MapField::Stride(_) if op.stride_in_16 => value << 4,
                _ => value,
            };
            self.bulk.acquired_maps.remove(&t.offsets[l]);
            // SAFETY: `resolve` found 128 live bytes there.
            let bytes = unsafe { &mut *t.pointers[l].cast::<[u8; MAP_BYTES]>() };
            if let Err(why) = TensorMap::replace(bytes, field, value) {
                let message = format!("tensormap.replace: {why}");
                return Err(self.fault(FaultKind::IllegalInstruction, w, i, l as u32, message));
            }
        }
        self.progress = self.executed;
        Ok(())
    }

    /// tensormap.cp_fenceproxy: from shared memory (`a`) to global memory (`b`), for the warp as a whole.
    pub(super) fn map_publish(&mut self, w: &mut Warp, i: &Instr, shared64: bool) -> Checked<()> {
        let n = MAP_BYTES as u64;
        let from = w.regs.addresses(i.a, i.imm, shared64).map(|a| a & (WINDOW - 1));
        let to = *w.regs.r64(i.b);
        let from = self.resolve(w, i, Space::Shared, from, n, 1)?;
        self.shadow_lane(w, i, &from, 0, n, AccessKind::Read, false)?;
        let to = self.resolve(w, i, Space::Global, to, n, 1)?;
        self.shadow_lane(w, i, &to, 0, n, AccessKind::Write, false)?;
        self.bulk.acquired_maps.remove(&to.offsets[0]);
        // SAFETY: `resolve` found 128 live bytes on both sides, of different memories.
        unsafe { std::ptr::copy_nonoverlapping(from.pointers[0], to.pointers[0], MAP_BYTES) };
        self.clocks.bump(w.place.warp as usize);
        self.progress = self.executed;
        Ok(())
    }

    /// fence.proxy.tensormap::generic.acquire: copies from here on see what was written to the map.
    pub(super) fn map_acquire(&mut self, w: &Warp, i: &Instr, m: u32) {
        let at = w.regs.addresses(i.a, i.imm, true);
        for l in lanes(m & FULL) {
            self.bulk.acquired_maps.insert(at[l]);
        }
        self.fenced = true;
    }

    pub(super) fn tally_bulk(&mut self, address: u64, bytes: u64, write: bool) {
        if !self.g.config.counters && self.g.l2.is_none() {
            return;
        }
        let (first, last) = (address / 32, (address + bytes - 1) / 32);
        let sectors = last - first + 1;
        match write {
            true => self.tally.global_stores += 1,
            false => {
                self.tally.global_loads += 1;
                self.tally.bulk_read_bytes += bytes;
            }
        }
        self.tally.global_bytes += bytes;
        self.tally.sectors += sectors;
        self.tally.sectors_ideal += bytes.div_ceil(32).min(sectors);
        if let Some(l2) = &self.g.l2 {
            let mut l2 = l2.lock().unwrap_or_else(|e| e.into_inner());
            (first..=last).for_each(|s| l2.access(s, write));
        }
    }
}
