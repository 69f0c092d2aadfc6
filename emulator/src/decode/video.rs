//! Scalar and SIMD video instructions (PTX ISA, video instructions).

use super::decoder::Decoder;
use super::ir::*;
use super::mods::Mods;
use crate::numeric::video::{BitField, Second, Simd, Video, VideoOp};
use crate::ptx::ast::Operand;
use crate::ptx::error::LoadResult;
use crate::ptx::types::Type;

fn operation(name: &str) -> Option<VideoOp> {
    Some(match name {
        "vadd" => VideoOp::Add,
        "vsub" => VideoOp::Sub,
        "vabsdiff" => VideoOp::AbsDiff,
        "vmin" => VideoOp::Min,
        "vmax" => VideoOp::Max,
        "vavrg" => VideoOp::Avg,
        "vshl" => VideoOp::Shl,
        "vshr" => VideoOp::Shr,
        "vmad" => VideoOp::Mad,
        _ => return None,
    })
}

/// A register's name, and the part of it that a selector names.
fn selected<'a>(op: &Operand<'a>) -> (Operand<'a>, Option<(u8, u8)>) {
    if let Operand::Name(name) = op
        && let Some((register, part)) = name.rsplit_once('.')
    {
        let part = match part {
            "b0" => Some((0, 8)),
            "b1" => Some((8, 8)),
            "b2" => Some((16, 8)),
            "b3" => Some((24, 8)),
            "h0" => Some((0, 16)),
            "h1" => Some((16, 16)),
            _ => None,
        };
        if part.is_some() {
            return (Operand::Name(register), part);
        }
    }
    (op.clone(), None)
}

impl<'a> Decoder<'_, 'a> {
    pub(super) fn video(
        &mut self,
        base: &str,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> LoadResult<bool> {
        let lanes = match base.as_bytes().last() {
            Some(b'2') => 2,
            Some(b'4') => 4,
            _ => 1,
        };
        let Some(op) = operation(base.trim_end_matches(['2', '4'])) else {
            return Ok(false);
        };
        let scalar = matches!(op, VideoOp::Shl | VideoOp::Shr | VideoOp::Mad);
        if (op == VideoOp::Avg && lanes == 1) || (scalar && lanes > 1) {
            return Ok(false);
        }
        match lanes {
            1 => self.scalar_video(op, m, ops),
            _ => self.simd_video(op, lanes, m, ops),
        }
    }

    fn video_types(&self, m: &mut Mods<'a>) -> LoadResult<[bool; 3]> {
        let mut signed = [false; 3];
        for slot in &mut signed {
            *slot = match self.need_ty(m)? {
                Type::S32 => true,
                Type::U32 => false,
                _ => return self.fail("video instructions take .u32 and .s32"),
            };
        }
        Ok(signed)
    }

    fn scalar_video(
        &mut self,
        op: VideoOp,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> LoadResult<bool> {
        let types = self.video_types(m)?;
        let sat = m.flag("sat");
        let wrap = m.flag("wrap");
        m.flag("clamp");
        let scale = match m.any(&["shr7", "shr15"]) {
            Some("shr7") => 7,
            Some(_) => 15,
            None => 0,
        };
        let second = match m.any(&["add", "min", "max"]) {
            Some("add") => Second::Add,
            Some("min") => Second::Min,
            Some(_) => Second::Max,
            None => Second::None,
        };
        if !matches!(ops.len(), 3 | 4) {
            return self.fail("a video instruction has three or four operands");
        }
        let mut parts = Vec::new();
        for (op, signed) in ops.iter().zip(types) {
            let (register, part) = selected(op);
            let (shift, bits) = part.unwrap_or((0, 32));
            parts.push((register, BitField { shift, bits, signed }, part.is_some()));
        }
        let merge = parts[0].2;
        let second = if merge { Second::Merge } else { second };
        if (ops.len() == 4) != (second != Second::None || op == VideoOp::Mad) {
            return self.fail("the operands of this video instruction do not fit");
        }
        let mut i = Instr::new(Op::Alu(Alu::Video(Video {
            op,
            d: parts[0].1,
            a: parts[1].1,
            b: parts[2].1,
            sat,
            second,
            wrap,
            scale,
        })));
        i.a = self.source(&parts[1].0, Type::U32)?;
        i.b = self.source(&parts[2].0, Type::U32)?;
        i.c = match ops.get(3) {
            Some(c) => self.source(c, Type::U32)?,
            None => self.constant(0, false),
        };
        i.d = self.destination(&parts[0].0, Type::U32)?;
        self.emit(i)?;
        Ok(true)
    }

    fn simd_video(
        &mut self,
        op: VideoOp,
        lanes: u8,
        m: &mut Mods<'a>,
        ops: &'a [Operand<'a>],
    ) -> LoadResult<bool> {
        let [signed_d, signed_a, signed_b] = self.video_types(m)?;
        let sat = m.flag("sat");
        let sum = m.flag("add");
        self.count(ops, 4)?;
        // `d.b20`: the lanes that are written.
        let (mut to, mut mask) = (ops[0].clone(), (1 << lanes) - 1);
        if let Operand::Name(name) = &ops[0]
            && let Some((register, lanes)) = name.rsplit_once('.')
        {
            let digits = lanes.trim_start_matches(['b', 'h']);
            mask = digits.bytes().fold(0, |m, d| m | 1 << (d & 3));
            to = Operand::Name(register);
        }
        let mut i = Instr::new(Op::Alu(Alu::VideoSimd(Simd {
            op,
            lanes,
            signed_a,
            signed_b,
            signed_d,
            sat,
            mask,
            sum,
        })));
        // A selector on a source is not a register name, and is refused as such.
        i.a = self.source(&ops[1], Type::U32)?;
        i.b = self.source(&ops[2], Type::U32)?;
        i.c = self.source(&ops[3], Type::U32)?;
        i.d = self.destination(&to, Type::U32)?;
        self.emit(i)?;
        Ok(true)
    }
}
