//! Warp-wide exchange: shfl, vote, match, redux, elect, bar.warp.sync; and how lanes wait for the others of their
//! member mask.

use super::block::{Block, Checked};
use super::regs::lanes;
use super::warp::{Next, Split, Wait, Warp};
use crate::check::{Fault, FaultKind};
use crate::decode::ir::*;

impl Block<'_> {
    /// Runs a warp-wide instruction for the complete groups of lanes; the others wait.
    pub(super) fn gather(&mut self, w: &mut Warp, k: usize, i: &Instr, m: u32) -> Checked<Next> {
        if i.op.of_all_lanes() && w.splits.len() == 1 && m == w.splits[k].mask {
            // Every lane that has not left is here.
            w.splits[k].wait = Wait::Run;
            self.tensor(w, i, m)?;
            return Ok(hold(w, k));
        }
        let list = |at: u32| self.g.program.lists[(i.list + at) as usize];
        let members: [u32; 32] = match i.op {
            Op::BarWarp | Op::Vote(_) | Op::Elect => *w.regs.r32(i.a),
            Op::Match { .. } | Op::Redux(_) => *w.regs.r32(i.b),
            Op::Shfl(_) => *w.regs.r32(list(0)),
            _ => [u32::MAX; 32],
        };
        let live = w.lanes();
        let first = m.trailing_zeros() as usize;
        let uniform =
            members == [members[first]; 32] || lanes(m).all(|l| members[l] == members[first]);
        let ready = if w.splits[k].wait == Wait::Gathered {
            m
        } else if uniform {
            if m & !members[first] != 0 {
                return Err(self.outsider(w, i, m & !members[first], members[first]));
            }
            if members[first] & live & !m == 0 { m } else { 0 }
        } else {
            let mut ready = 0;
            for l in lanes(m) {
                if members[l] >> l & 1 == 0 {
                    return Err(self.outsider(w, i, 1 << l, members[l]));
                }
                let needed = members[l] & live;
                if needed & !m == 0 && lanes(needed).all(|o| members[o] == members[l]) {
                    ready |= 1 << l;
                }
            }
            ready
        };
        if ready == m {
            w.splits[k].wait = Wait::Run;
            self.exchange(w, i, m, &members)?;
            return Ok(hold(w, k));
        }
        w.keep(k, m);
        if ready == 0 {
            w.splits[k].wait = Wait::Gather;
            return Ok(Next::Select);
        }
        let pc = w.splits[k].pc;
        w.splits.push(Split { wait: Wait::Gather, ..Split::new(pc, m & !ready) });
        w.splits[k].mask = ready;
        self.exchange(w, i, ready, &members)?;
        w.splits[k].pc = pc + 1;
        Ok(Next::Select)
    }

    fn outsider(&self, w: &Warp, i: &Instr, lanes: u32, members: u32) -> Box<Fault> {
        let lane = lanes.trailing_zeros();
        let message =
            format!("lane {lane} is not in the member mask {members:#010x} that it names");
        self.fault(FaultKind::BadMemberMask, w, i, lane, message)
    }

    fn exchange(&mut self, w: &mut Warp, i: &Instr, m: u32, members: &[u32; 32]) -> Checked<()> {
        match i.op {
            Op::BarWarp => self.clocks.bump(w.place.warp as usize),
            Op::Shfl(mode) => shuffle(w, i, mode, m),
            Op::Vote(mode) => {
                let p = w.regs.pred(i.ps) & m;
                let mut out = [0; 32];
                let mut result = 0;
                for l in lanes(m) {
                    let group = members[l] & m;
                    let votes = p & group;
                    out[l] = votes;
                    let yes = match mode {
                        Vote::All => votes == group,
                        Vote::Any => votes != 0,
                        Vote::Uni => votes == group || votes == 0,
                        Vote::Ballot => false,
                    };
                    result |= u32::from(yes) << l;
                }
                if mode == Vote::Ballot {
                    w.regs.put(i.d, &out, m);
                } else {
                    w.regs.set_pred(i.pd, result, m);
                }
            }
            Op::Match { all, wide } => {
                let x: [u64; 32] =
                    if wide { *w.regs.r64(i.a) } else { w.regs.r32(i.a).map(u64::from) };
                let (mut out, mut p) = ([0; 32], 0u32);
                for l in lanes(m) {
                    let group = members[l] & m;
                    let same = lanes(group).filter(|&o| x[o] == x[l]).fold(0u32, |s, o| s | 1 << o);
                    out[l] = if all && same != group { 0 } else { same };
                    p |= u32::from(same == group) << l;
                }
                w.regs.put(i.d, &out, m);
                w.regs.set_pred(i.pd, p, m);
            }
            Op::Redux(f) => {
                let x = *w.regs.r32(i.a);
                let mut out = [0; 32];
                let mut done = 0u32;
                for l in lanes(m) {
                    if done >> l & 1 != 0 {
                        continue;
                    }
                    let group = members[l] & m;
                    let value =
                        lanes(group).map(|o| x[o]).reduce(|a, b| redux(f, a, b)).unwrap_or(0);
                    let value = redux_one(f, value);
                    lanes(group).for_each(|o| out[o] = value);
                    done |= group;
                }
                w.regs.put(i.d, &out, m);
            }
            Op::Elect => {
                let mut out = [0; 32];
                let mut p = 0;
                for l in lanes(m) {
                    let leader = (members[l] & m).trailing_zeros();
                    out[l] = leader;
                    p |= u32::from(leader as usize == l) << l;
                }
                w.regs.put(i.d, &out, m);
                w.regs.set_pred(i.pd, p, m);
            }
            _ => self.tensor(w, i, m)?,
        }
        Ok(())
    }
}

/// Steps, or waits here for other warps if the instruction asked for it.
fn hold(w: &mut Warp, k: usize) -> Next {
    if !std::mem::take(&mut w.held) {
        return Next::Step;
    }
    w.splits[k].wait = Wait::Warpgroup;
    Next::Select
}

/// shfl.sync
fn shuffle(w: &mut Warp, i: &Instr, mode: Shfl, m: u32) {
    let (a, b, c) = (*w.regs.r32(i.a), w.regs.r32(i.b), w.regs.r32(i.c));
    let (mut out, mut p) = ([0; 32], 0u32);
    for lane in lanes(m) {
        let l = lane as u32;
        let (bval, clamp, segment) = (b[lane] & 31, c[lane] & 31, c[lane] >> 8 & 31);
        let max = l & segment | clamp & !segment;
        let min = l & segment;
        let (j, ok) = match mode {
            Shfl::Up => (l.wrapping_sub(bval), (l as i32 - bval as i32) >= max as i32),
            Shfl::Down => (l + bval, l + bval <= max),
            Shfl::Bfly => (l ^ bval, l ^ bval <= max),
            Shfl::Idx => (min | bval & !segment, (min | bval & !segment) <= max),
        };
        let j = if ok { j & 31 } else { l };
        out[lane] = a[j as usize];
        p |= u32::from(ok) << lane;
    }
    w.regs.put(i.d, &out, m);
    w.regs.set_pred(i.pd, p, m);
}

fn redux_one(f: Redux, a: u32) -> u32 {
    match f {
        Redux::MinF { abs: true, .. } | Redux::MaxF { abs: true, .. } => a & 0x7fff_ffff,
        _ => a,
    }
}

fn redux(f: Redux, a: u32, b: u32) -> u32 {
    use crate::numeric::f32ops::{MinMax, max, min};
    let float = |abs: bool, x: u32| f32::from_bits(if abs { x & 0x7fff_ffff } else { x });
    let mode = |nan| MinMax { ftz: false, nan, xorsign_abs: false };
    match f {
        Redux::AddU => a.wrapping_add(b),
        Redux::MinU => a.min(b),
        Redux::MaxU => a.max(b),
        Redux::MinS => (a as i32).min(b as i32) as u32,
        Redux::MaxS => (a as i32).max(b as i32) as u32,
        Redux::And => a & b,
        Redux::Or => a | b,
        Redux::Xor => a ^ b,
        Redux::MinF { abs, nan } => min(float(abs, a), float(abs, b), mode(nan)).to_bits(),
        Redux::MaxF { abs, nan } => max(float(abs, a), float(abs, b), mode(nan)).to_bits(),
    }
}
