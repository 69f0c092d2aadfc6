//! Control-flow order. When the lanes of a warp diverge, the path that comes first in this order runs first, so that it
//! meets the others where they join. It is a weak topological order, in which a loop's body is contiguous between its
//! head and what follows the loop.

use super::ir::{Op, Program};

/// Loops may nest this deep before their order is left as in the text.
const MAX_NEST: usize = 64;

/// Successors of an instruction that ends a block.
pub fn successors(p: &Program, pc: usize, out: &mut Vec<u32>) {
    out.clear();
    let i = &p.code[pc];
    let next = pc as u32 + 1;
    match i.op {
        Op::Bra => {
            out.push(i.imm as u32);
            if !i.guard.is_none() {
                out.push(next);
            }
        }
        Op::BrxIdx => {
            out.extend_from_slice(&p.tables[i.imm as usize]);
            if !i.guard.is_none() {
                out.push(next);
            }
        }
        Op::Exit | Op::Ret | Op::Trap if i.guard.is_none() => {}
        Op::Call => {
            out.push(i.imm as u32);
            out.push(next);
        }
        Op::CallPointer => {
            out.extend(p.call_tables[i.imm as u32 as usize].iter().map(|&(_, at)| at));
            out.push(next);
        }
        _ => out.push(next),
    }
    out.retain(|&t| (t as usize) < p.code.len());
}

/// Start of each basic block, in the order of the text.
pub fn blocks(p: &Program) -> Vec<u32> {
    let mut start = vec![false; p.code.len() + 1];
    start[0] = true;
    for (pc, i) in p.code.iter().enumerate() {
        match i.op {
            Op::Bra | Op::Call => start[i.imm as u32 as usize] = true,
            Op::BrxIdx => p.tables[i.imm as usize].iter().for_each(|&t| start[t as usize] = true),
            Op::CallPointer => p.call_tables[i.imm as u32 as usize]
                .iter()
                .for_each(|&(_, t)| start[t as usize] = true),
            Op::Exit | Op::Ret | Op::Trap => {}
            _ => continue,
        }
        start[pc + 1] = true;
    }
    (0..p.code.len()).filter(|&pc| start[pc]).map(|pc| pc as u32).collect()
}

/// Whether lanes may wait at this instruction for others of their warp.
fn gathers(op: &Op) -> bool {
    op.of_all_lanes()
        || matches!(
            op,
            Op::Bar(_)
                | Op::BarWarp
                | Op::Shfl(_)
                | Op::Vote(_)
                | Op::Match { .. }
                | Op::Redux(_)
                | Op::Elect
                | Op::Mbar { .. }
        )
}

/// Fills `leader` and `rank`.
pub fn finish(p: &mut Program) {
    let starts = blocks(p);
    for &pc in &starts {
        p.code[pc as usize].leader = true;
    }
    for pc in 0..p.code.len() {
        if gathers(&p.code[pc].op) {
            p.code[pc].leader = true;
            if let Some(next) = p.code.get_mut(pc + 1) {
                next.leader = true;
            }
        }
    }
    let block_of = |pc: u32| starts.partition_point(|&s| s <= pc) as u32 - 1;
    let mut edges = Vec::with_capacity(starts.len());
    let mut out = Vec::new();
    for (b, _) in starts.iter().enumerate() {
        let last = starts.get(b + 1).map_or(p.code.len(), |&n| n as usize) - 1;
        successors(p, last, &mut out);
        edges.push(out.iter().map(|&t| block_of(t)).collect::<Vec<u32>>());
    }
    let mut order = Vec::with_capacity(starts.len());
    let nodes: Vec<u32> = (0..starts.len() as u32).collect();
    let mut owner = vec![1u32; starts.len()];
    let mut next_owner = 2;
    arrange(&edges, nodes, 1, &mut owner, &mut next_owner, &mut order, 0);
    p.rank = vec![0; p.code.len()];
    let mut n = 0;
    for b in order {
        let end = starts.get(b as usize + 1).map_or(p.code.len(), |&n| n as usize);
        for pc in starts[b as usize] as usize..end {
            p.rank[pc] = n;
            n += 1;
        }
    }
}

/// Appends `nodes` (those whose `owner` is `me`) in weak topological order.
fn arrange(
    edges: &[Vec<u32>],
    nodes: Vec<u32>,
    me: u32,
    owner: &mut [u32],
    next_owner: &mut u32,
    order: &mut Vec<u32>,
    depth: usize,
) {
    if depth >= MAX_NEST {
        order.extend(nodes);
        return;
    }
    let mut components = components(edges, &nodes, me, owner);
    components.reverse();
    for mut component in components {
        if component.len() == 1 {
            order.push(component[0]);
            continue;
        }
        // The head of a loop is where it is entered: in compilers' layouts its first block.
        component.sort_unstable();
        let head = component[0];
        order.push(head);
        owner[head as usize] = 0;
        let rest = component.split_off(1);
        let inner = *next_owner;
        *next_owner += 1;
        for &n in &rest {
            owner[n as usize] = inner;
        }
        arrange(edges, rest, inner, owner, next_owner, order, depth + 1);
    }
}

/// Tarjan's strongly connected components, without recursion; successors come out before predecessors.
fn components(edges: &[Vec<u32>], nodes: &[u32], me: u32, owner: &[u32]) -> Vec<Vec<u32>> {
    use std::collections::HashMap;
    const UNSEEN: u32 = u32::MAX;
    let local: HashMap<u32, u32> = nodes.iter().zip(0..).map(|(&n, i)| (n, i)).collect();
    let mut index = vec![UNSEEN; nodes.len()];
    let mut low = vec![0u32; nodes.len()];
    let mut on_stack = vec![false; nodes.len()];
    let (mut stack, mut out, mut counter) = (Vec::new(), Vec::new(), 0u32);
    let mut work: Vec<(u32, usize)> = Vec::new();
    for root in 0..nodes.len() as u32 {
        if index[root as usize] != UNSEEN {
            continue;
        }
        work.push((root, 0));
        while let Some(&mut (v, ref mut edge)) = work.last_mut() {
            let vi = v as usize;
            if *edge == 0 && index[vi] == UNSEEN {
                index[vi] = counter;
                low[vi] = counter;
                counter += 1;
                stack.push(v);
                on_stack[vi] = true;
            }
            let targets = &edges[nodes[vi] as usize];
            if let Some(&t) = targets.get(*edge) {
                *edge += 1;
                if owner[t as usize] != me {
                    continue;
                }
                let w = local[&t];
                if index[w as usize] == UNSEEN {
                    work.push((w, 0));
                } else if on_stack[w as usize] {
                    low[vi] = low[vi].min(index[w as usize]);
                }
                continue;
            }
            work.pop();
            if let Some(&(parent, _)) = work.last() {
                low[parent as usize] = low[parent as usize].min(low[vi]);
            }
            if low[vi] == index[vi] {
                let mut component = Vec::new();
                while let Some(w) = stack.pop() {
                    on_stack[w as usize] = false;
                    component.push(nodes[w as usize]);
                    if w == v {
                        break;
                    }
                }
                out.push(component);
            }
        }
    }
    out
}
