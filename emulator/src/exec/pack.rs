//! mov between a register and its parts. The first part is the lowest.

use super::regs::Regs;
use crate::decode::ir::*;

#[inline(always)]
pub(super) fn pack(w: &mut Regs, d: R, parts: &[R], n: u8, mask: u32) {
    let wide = u32::from(n) * parts.len() as u32 == 64;
    let part_mask = u64::MAX >> (64 - u32::from(n));
    let mut out = [0u64; 32];
    for (k, &part) in parts.iter().enumerate() {
        let x = w.r32(part);
        for l in 0..32 {
            out[l] |= (u64::from(x[l]) & part_mask) << (k as u32 * u32::from(n));
        }
    }
    if wide {
        w.put(d, &out, mask);
    } else {
        let out = out.map(|x| x as u32);
        w.put(d, &out, mask);
    }
}

#[inline(always)]
pub(super) fn unpack(w: &mut Regs, parts: &[R], a: R, n: u8, mask: u32) {
    let wide = u32::from(n) * parts.len() as u32 == 64;
    let part_mask = u64::MAX >> (64 - u32::from(n));
    let x: [u64; 32] = if wide { *w.r64(a) } else { w.r32(a).map(u64::from) };
    for (k, &part) in parts.iter().enumerate() {
        if part.is_none() {
            continue;
        }
        let out = x.map(|x| ((x >> (k as u32 * u32::from(n))) & part_mask) as u32);
        w.put(part, &out, mask);
    }
}
