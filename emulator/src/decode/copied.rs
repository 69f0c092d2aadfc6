//! Finds loads whose value is only copied to another place in memory, perhaps with some bits replaced. Compilers that
//! do not optimise copy structures member by member and set bit fields one by one, whether or not all of it was ever
//! written: that is not a defect until something looks at the unwritten part.

use super::ir::{Alu, Op, Program, R};
use crate::ptx::types::Space;

/// Marks such loads; before registers are allocated.
pub fn mark(p: &mut Program, registers: usize) {
    // For each register, whether anything other than a copy looks at it or writes it.
    let mut looked = vec![false; registers];
    let mut see = |r: R| {
        if r.is_reg() {
            looked[r.0 as usize] = true;
        }
    };
    // Sources of operations that pass bits on, each with its destination.
    let mut passed: Vec<(R, R)> = Vec::new();
    for i in &p.code {
        let list = &p.lists[i.list as usize..][..usize::from(i.defs) + usize::from(i.uses)];
        match i.op {
            Op::Alu(Alu::Bit(..) | Alu::Mov { .. }) => {
                passed.extend([i.a, i.b].iter().filter(|r| r.is_reg()).map(|&r| (r, i.d)));
                continue;
            }
            Op::Ld(m) if maybe_local(m.space) => {}
            Op::St(m) if maybe_local(m.space) => {}
            _ => {
                see(i.d);
                list.iter().copied().for_each(&mut see);
            }
        }
        [i.a, i.b, i.c].into_iter().for_each(&mut see);
    }
    let mut changed = true;
    while changed {
        changed = false;
        for (from, to) in &passed {
            let seen = to.is_reg() && looked[to.0 as usize];
            if seen && !looked[from.0 as usize] {
                looked[from.0 as usize] = true;
                changed = true;
            }
        }
    }
    let Program { code, lists, .. } = p;
    // A value that goes nowhere was read for its own sake.
    let mut stored = vec![false; registers];
    for i in code.iter().filter(|i| matches!(i.op, Op::St(_))) {
        let from = lists[i.list as usize..][..usize::from(i.uses)].iter();
        from.filter(|r| r.is_reg()).for_each(|r| stored[r.0 as usize] = true);
    }
    passed.iter().for_each(|(from, _)| stored[from.0 as usize] = true);
    let mut carries = vec![false; registers];
    for i in code.iter_mut() {
        if let Op::Ld(m) = &mut i.op
            && maybe_local(m.space)
        {
            let to = &lists[i.list as usize..][..usize::from(i.defs)];
            let mut to_registers = to.iter().filter(|r| r.is_reg()).map(|r| r.0 as usize);
            m.copied = to_registers.all(|r| !looked[r] && stored[r]);
            if m.copied {
                let to = to.iter().filter(|r| r.is_reg());
                to.for_each(|r| carries[r.0 as usize] = true);
            }
        }
    }
    for i in code {
        if let Op::St(m) = &mut i.op {
            let from = &lists[i.list as usize..][..usize::from(i.uses)];
            m.copied = from.iter().any(|r| r.is_reg() && carries[r.0 as usize]);
        }
    }
}

fn maybe_local(space: Space) -> bool {
    matches!(space, Space::Local | Space::Generic)
}
