//! Register allocation. PTX names a new register for nearly every value; sharing slots between values that are
//! never live together keeps a warp's register file in the host's cache.
//!
//! Liveness is that of one thread. It holds for a warp too, because a write touches active lanes only.

use super::flow;
use super::ir::{Alu, Instr, Op, Program, R};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

const NARROW: u32 = 128;
const WIDE: u32 = 256;
/// Above this many words of liveness sets, every register gets its own slot.
const MAX_SET_WORDS: usize = 1 << 25;

fn uses(p: &Program, i: &Instr, mut f: impl FnMut(u32)) {
    for r in [i.a, i.b, i.c] {
        if r.is_reg() {
            f(r.0);
        }
    }
    let from = i.list as usize + usize::from(i.defs);
    for r in &p.lists[from..from + usize::from(i.uses)] {
        if r.is_reg() {
            f(r.0);
        }
    }
}

fn defs(p: &Program, i: &Instr, mut f: impl FnMut(u32)) {
    if i.d.is_reg() {
        f(i.d.0);
    }
    for r in &p.lists[i.list as usize..i.list as usize + usize::from(i.defs)] {
        if r.is_reg() {
            f(r.0);
        }
    }
}

/// Marks the instructions, other than products, that use registers of products.
fn mark_touches(p: &mut Program, registers: usize) {
    let mut taken = vec![false; registers];
    for i in p.code.iter().filter(|i| matches!(i.op, Op::Wgmma(_))) {
        p.has_products = true;
        let n = usize::from(i.defs) + usize::from(i.uses);
        let list = p.lists[i.list as usize..][..n].iter().filter(|r| r.is_reg());
        list.for_each(|r| taken[r.0 as usize] = true);
    }
    if !p.has_products {
        return;
    }
    for at in 0..p.code.len() {
        let mut touches = false;
        let i = &p.code[at];
        uses(p, i, |v| touches |= taken[v as usize]);
        defs(p, i, |v| touches |= taken[v as usize]);
        p.code[at].touches = touches && !matches!(p.code[at].op, Op::Wgmma(_));
    }
    mark_early(p, registers);
}

/// Marks copies of constants, directly or through another register. A compiler may write them after the `wgmma.fence` that
/// the program has after them, and `ptxas` moves them back.
fn mark_early(p: &mut Program, registers: usize) {
    let is_copy = |i: &Instr| matches!(i.op, Op::Alu(Alu::Mov { .. })) && i.d.is_reg();
    // Registers that never hold anything but constants.
    let mut constant = vec![true; registers];
    let mut changed = true;
    while changed {
        changed = false;
        for i in &p.code {
            if !is_copy(i) || i.a.is_reg() && !constant[i.a.0 as usize] {
                defs(p, i, |v| changed |= std::mem::replace(&mut constant[v as usize], false));
            }
        }
    }
    // Registers of products hold one at times: after such a copy, until the next label.
    let mut holds = HashSet::new();
    for at in 0..p.code.len() {
        let i = &p.code[at];
        if i.leader {
            holds.clear();
        }
        let early =
            is_copy(i) && (!i.a.is_reg() || constant[i.a.0 as usize] || holds.contains(&i.a.0));
        if early && i.guard.is_none() {
            holds.insert(i.d.0);
        } else {
            defs(p, i, |v| {
                holds.remove(&v);
            });
        }
        p.code[at].early = early && p.code[at].touches;
    }
}

/// For each wait, the registers of products that may be open before it: they must not be reused earlier.
fn open_products(
    p: &Program,
    starts: &[u32],
    edges: &[Vec<usize>],
    words: usize,
) -> Vec<(usize, Vec<u32>)> {
    let mut out = Vec::new();
    if !p.has_products {
        return out;
    }
    let end_of = |b: usize| starts.get(b + 1).map_or(p.code.len(), |&n| n as usize);
    let step = |i: &Instr, open: &mut [u64]| match i.op {
        Op::Wgmma(_) => {
            let mut add = |v: u32| open[v as usize / 64] |= 1 << (v % 64);
            let n = usize::from(i.defs) + usize::from(i.uses);
            let list = p.lists[i.list as usize..][..n].iter().filter(|r| r.is_reg());
            list.for_each(|r| add(r.0));
        }
        Op::WgmmaWait if i.imm == 0 && i.guard.is_none() => open.fill(0),
        _ => {}
    };
    let mut open_in = vec![0u64; words * starts.len()];
    let mut changed = true;
    while changed {
        changed = false;
        for b in 0..starts.len() {
            let mut open = open_in[b * words..(b + 1) * words].to_vec();
            p.code[starts[b] as usize..end_of(b)].iter().for_each(|i| step(i, &mut open));
            for &s in &edges[b] {
                for (to, from) in open_in[s * words..(s + 1) * words].iter_mut().zip(&open) {
                    changed |= *to | from != *to;
                    *to |= from;
                }
            }
        }
    }
    for b in 0..starts.len() {
        let mut open = open_in[b * words..(b + 1) * words].to_vec();
        for pc in starts[b] as usize..end_of(b) {
            if p.code[pc].op == Op::WgmmaWait {
                let bit = |v: &u32| open[*v as usize / 64] >> (v % 64) & 1 != 0;
                out.push((pc, (0..64 * words as u32).filter(bit).collect()));
            }
            step(&p.code[pc], &mut open);
        }
    }
    out
}

pub fn registers(p: &mut Program, wide: &[bool]) {
    mark_touches(p, wide.len());
    let mut intervals = intervals(p, wide.len());
    // Whatever calls save keeps its own slot: other frames of the same registers may be live at any time.
    for (r, _) in &p.saved {
        intervals[r.0 as usize] = (0, u32::MAX - 1);
    }
    let mut offset = vec![0u32; wide.len()];
    let mut by_start: Vec<u32> =
        (0..wide.len() as u32).filter(|&v| intervals[v as usize].0 != u32::MAX).collect();
    by_start.sort_by_key(|&v| intervals[v as usize].0);
    let mut active = BinaryHeap::new();
    let mut free: [Vec<u32>; 2] = Default::default();
    let (mut next, mut live, mut most) = (0u32, 0u32, 0u32);
    for v in by_start {
        let (start, end) = intervals[v as usize];
        while let Some(&Reverse((until, w))) = active.peek() {
            if until > start {
                break;
            }
            active.pop();
            let w: u32 = w;
            free[usize::from(wide[w as usize])].push(offset[w as usize]);
            live -= 1 + u32::from(wide[w as usize]);
        }
        let is_wide = wide[v as usize];
        offset[v as usize] = free[usize::from(is_wide)].pop().unwrap_or_else(|| {
            let at = next;
            next += if is_wide { WIDE } else { NARROW };
            at
        });
        live += 1 + u32::from(is_wide);
        most = most.max(live);
        active.push(Reverse((end, v)));
    }
    p.register_bytes = next;
    p.pressure = most;
    let mut at = 0;
    let consts: Vec<u32> = p
        .consts
        .iter()
        .map(|c| {
            let here = at;
            at += if c.wide { WIDE } else { NARROW };
            here
        })
        .collect();
    p.const_bytes = at;
    let place = |r: &mut R| {
        if r.is_none() {
            return;
        }
        *r = match r.is_const() {
            true => R(consts[(r.0 & !R::CONST) as usize] | R::CONST),
            false => R(offset[r.0 as usize]),
        };
    };
    for i in &mut p.code {
        for r in [&mut i.d, &mut i.a, &mut i.b, &mut i.c] {
            place(r);
        }
    }
    p.lists.iter_mut().for_each(place);
    place(&mut p.frame);
    for (r, _) in &mut p.saved {
        place(r);
    }
}

/// For each register, the span of instructions over which it is live.
fn intervals(p: &Program, registers: usize) -> Vec<(u32, u32)> {
    let mut spans = vec![(u32::MAX, 0u32); registers];
    let mut cover = |v: u32, from: u32, to: u32| {
        let span = &mut spans[v as usize];
        span.0 = span.0.min(from);
        span.1 = span.1.max(to);
    };
    let starts = flow::blocks(p);
    let words = registers.div_ceil(64);
    if starts.len().saturating_mul(words) > MAX_SET_WORDS {
        let end = p.code.len() as u32 + 1;
        for i in &p.code {
            uses(p, i, |v| cover(v, 0, end));
            defs(p, i, |v| cover(v, 0, end));
        }
        return spans;
    }
    let end_of = |b: usize| starts.get(b + 1).map_or(p.code.len(), |&n| n as usize);
    let block_of = |pc: u32| starts.partition_point(|&s| s <= pc) - 1;
    let mut edges = Vec::new();
    let mut out = Vec::new();
    for b in 0..starts.len() {
        flow::successors(p, end_of(b) - 1, &mut out);
        edges.push(out.iter().map(|&t| block_of(t)).collect::<Vec<_>>());
    }
    let waits = open_products(p, &starts, &edges, words);
    let uses = |p: &Program, pc: usize, f: &mut dyn FnMut(u32)| {
        uses(p, &p.code[pc], &mut *f);
        if let Ok(at) = waits.binary_search_by_key(&pc, |w| w.0) {
            waits[at].1.iter().for_each(|&v| f(v));
        }
    };
    let mut read = vec![0u64; words * starts.len()];
    let mut killed = vec![0u64; words * starts.len()];
    for (b, &start) in starts.iter().enumerate() {
        let at = b * words;
        for pc in start as usize..end_of(b) {
            let i = &p.code[pc];
            uses(p, pc, &mut |v| {
                let (w, bit) = (at + v as usize / 64, 1 << (v % 64));
                if killed[w] & bit == 0 {
                    read[w] |= bit;
                }
            });
            // A guarded write leaves the old value in some lanes: it ends nothing.
            if i.guard.is_none() {
                defs(p, i, |v| killed[at + v as usize / 64] |= 1 << (v % 64));
            }
        }
    }
    let mut live_in = read.clone();
    let mut live_out = vec![0u64; words * starts.len()];
    let mut changed = true;
    while changed {
        changed = false;
        for b in (0..starts.len()).rev() {
            for &s in &edges[b] {
                for w in 0..words {
                    live_out[b * words + w] |= live_in[s * words + w];
                }
            }
            for w in b * words..(b + 1) * words {
                let new = read[w] | live_out[w] & !killed[w];
                changed |= new != live_in[w];
                live_in[w] = new;
            }
        }
    }
    for b in 0..starts.len() {
        let (from, to) = (starts[b], end_of(b) as u32);
        for w in 0..words {
            let each = |mut bits: u64, mut f: Box<dyn FnMut(u32) + '_>| {
                while bits != 0 {
                    f(w as u32 * 64 + bits.trailing_zeros());
                    bits &= bits - 1;
                }
            };
            each(live_in[b * words + w], Box::new(|v| cover(v, from, from)));
            each(live_out[b * words + w], Box::new(|v| cover(v, to, to)));
        }
        for pc in from..to {
            let i = &p.code[pc as usize];
            uses(p, pc as usize, &mut |v| cover(v, pc, pc));
            defs(p, i, |v| cover(v, pc, pc + 1));
        }
    }
    spans
}
