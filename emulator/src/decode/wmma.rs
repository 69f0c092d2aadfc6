//! wmma.load, wmma.store and wmma.mma (PTX ISA, warp-level matrix instructions: wmma).

use super::decoder::Decoder;
use super::ir::*;
use super::mods::Mods;
use crate::numeric::wmma::{Element, Part, Shape, Tile, Wmma};
use crate::ptx::ast::Operand;
use crate::ptx::error::LoadResult;
use crate::ptx::types::{Space, Type};

fn element(part: &str) -> Option<Element> {
    Some(match part {
        "f16" => Element::F16,
        "bf16" => Element::Bf16,
        "tf32" => Element::Tf32,
        "f32" => Element::F32,
        "f64" => Element::F64,
        "s8" => Element::S8,
        "u8" => Element::U8,
        "s32" => Element::S32,
        _ => return None,
    })
}

impl<'a> Decoder<'_, 'a> {
    pub(super) fn wmma(&mut self, m: &mut Mods<'a>, ops: &'a [Operand<'a>]) -> LoadResult<bool> {
        let what = m.any(&["load", "store", "mma"]);
        let part = match what {
            Some("load") => m.any(&["a", "b", "c"]),
            Some("store") => m.any(&["d"]),
            _ => None,
        };
        if !(m.flag("sync") && m.flag("aligned")) {
            return self.fail("expected `wmma` with `.sync.aligned`");
        }
        let by_rows = m.any(&["row", "col"]) == Some("row");
        if what == Some("mma") {
            // Fragments have the same layout whatever the layout in memory was.
            m.any(&["row", "col"]);
        }
        let shape = match m.any(&["m16n16k16", "m8n32k16", "m32n8k16", "m16n16k8", "m8n8k4"]) {
            Some("m16n16k16") => (16, 16, 16),
            Some("m8n32k16") => (8, 32, 16),
            Some("m32n8k16") => (32, 8, 16),
            Some("m16n16k8") => (16, 16, 8),
            Some(_) => (8, 8, 4),
            None => return self.fail("this shape of `wmma` is not supported"),
        };
        let (m_, n, k) = shape;
        let shape = Shape { m: m_, n, k };
        match (what, part) {
            (Some("mma"), _) => self.wmma_product(m, shape, ops),
            (Some(what), Some(part)) => {
                let which = match part {
                    "a" => Part::A,
                    "b" => Part::B,
                    _ => Part::Sum,
                };
                self.wmma_memory(m, what == "load", shape, which, by_rows, ops)
            }
            _ => self.fail("expected `wmma.load`, `wmma.store` or `wmma.mma`"),
        }
    }

    fn tile(&self, shape: Shape, part: Part, element: Option<Element>) -> LoadResult<Tile> {
        match element.and_then(|element| Tile::new(shape, part, element)) {
            Some(tile) => Ok(tile),
            None => self.fail("`wmma` is not supported for this shape and type"),
        }
    }

    fn fragment(&mut self, op: &'a Operand<'a>, tile: Tile, to: bool) -> LoadResult<Vec<R>> {
        let parts = self.vector(op)?;
        let ty = match tile.element {
            Element::F64 => Type::F64,
            _ => Type::B32,
        };
        if parts.len() != usize::from(tile.registers) {
            let wanted = tile.registers;
            return self.fail(format!("expected {wanted} registers, found {}", parts.len()));
        }
        parts
            .iter()
            .map(|part| match to {
                true => self.destination(part, ty),
                false => self.source(part, ty),
            })
            .collect()
    }

    fn wmma_memory(
        &mut self,
        m: &mut Mods<'a>,
        load: bool,
        shape: Shape,
        part: Part,
        by_rows: bool,
        ops: &'a [Operand<'a>],
    ) -> LoadResult<bool> {
        let space = m.space().unwrap_or(Space::Generic);
        if !matches!(space, Space::Generic | Space::Global | Space::Shared) {
            return self.fail("`wmma` goes to global or shared memory");
        }
        let tile = self.tile(shape, part, m.pick(element))?;
        let (fragment, address, stride) = match (load, ops) {
            (true, [fragment, address, stride @ ..]) => (fragment, address, stride),
            (false, [address, fragment, stride @ ..]) => (fragment, address, stride),
            _ => return self.fail("the operands of this `wmma` do not fit"),
        };
        let list = self.fragment(fragment, tile, load)?;
        let stride = match stride {
            [] => self.constant((if by_rows { tile.columns } else { tile.rows }).into(), false),
            [stride] => self.source(stride, Type::U32)?,
            _ => return self.fail("the operands of this `wmma` do not fit"),
        };
        let address = self.address(address)?;
        let access = TileAccess { tile, by_rows, space, address64: address.wide };
        let mut i = Instr::new(match load {
            true => Op::WmmaLoad(access),
            false => Op::WmmaStore(access),
        });
        i.b = stride;
        match load {
            true => self.list(&mut i, &list, &[]),
            false => self.list(&mut i, &[], &list),
        }
        self.set_address(&mut i, &address);
        self.emit(i)?;
        Ok(true)
    }

    fn wmma_product(
        &mut self,
        m: &mut Mods<'a>,
        shape: Shape,
        ops: &'a [Operand<'a>],
    ) -> LoadResult<bool> {
        m.flag("rn");
        let satfinite = m.flag("satfinite");
        let mut types = Vec::new();
        while let Some(element) = m.pick(element) {
            types.push(element);
        }
        // Products of f16 name only the types of D and C.
        let (d, a, b, c) = match types[..] {
            [d, c] => (d, Element::F16, Element::F16, c),
            [d, a, b, c] => (d, a, b, c),
            _ => return self.fail("`wmma.mma` needs two or four types"),
        };
        let wmma = Wmma {
            a: self.tile(shape, Part::A, Some(a))?,
            b: self.tile(shape, Part::B, Some(b))?,
            c: self.tile(shape, Part::Sum, Some(c))?,
            d: self.tile(shape, Part::Sum, Some(d))?,
            satfinite,
        };
        use Element::*;
        let fits = match a {
            F16 => b == F16 && matches!((c, d), (F16 | F32, F16 | F32)),
            Bf16 | Tf32 => b == a && (c, d) == (F32, F32) && !satfinite,
            S8 | U8 => b == a && (c, d) == (S32, S32),
            _ => (b, c, d) == (a, a, a) && !satfinite,
        };
        self.count(ops, 4)?;
        if !fits {
            return self.fail("`wmma.mma` is not supported for these types");
        }
        let defs = self.fragment(&ops[0], wmma.d, true)?;
        let mut uses = self.fragment(&ops[1], wmma.a, false)?;
        uses.extend(self.fragment(&ops[2], wmma.b, false)?);
        uses.extend(self.fragment(&ops[3], wmma.c, false)?);
        let mut i = Instr::new(Op::Wmma(wmma));
        self.list(&mut i, &defs, &uses);
        self.emit(i)?;
        Ok(true)
    }
}
