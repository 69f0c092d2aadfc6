//! Runs a list without numbers: each tensor is the hash of the expression that made it.
//!
//! The hash excludes anything a pass may change: where a value is stored, in how many bits it is kept if a mode says
//! so, and whether it was computed once or twice.

use bitfit::program::{Dropout, List, NormBack, Op, Program, Region, Span, Storage, Use, Value};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What a list computes: each gradient's sums in order, the losses, and the outputs.
#[derive(Debug, PartialEq)]
pub struct Computed {
    gradients: Vec<(usize, usize, u64)>,
    losses: Vec<u64>,
    outputs: Vec<u64>,
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Where expressions are kept.
trait Memory {
    fn read(&self, value: Value) -> u64;
    fn write(&mut self, value: Value, expression: u64);
}

/// A place for each value.
#[derive(Default)]
struct Apart(HashMap<Value, u64>);

impl Memory for Apart {
    fn read(&self, value: Value) -> u64 {
        self.0[&value]
    }

    fn write(&mut self, value: Value, expression: u64) {
        self.0.insert(value, expression);
    }
}

/// The arena: writing a region spoils whatever it overlaps.
struct SymbolicArena<'a> {
    program: &'a Program,
    there: Vec<(Region, u64)>,
}

impl Memory for SymbolicArena<'_> {
    fn read(&self, value: Value) -> u64 {
        let region = self.program.region(value);
        let mut there = self.there.iter();
        match there.find(|(other, _)| *other == region) {
            Some(&(_, expression)) => expression,
            None => panic!("{value:?} is not there any more"),
        }
    }

    fn write(&mut self, value: Value, expression: u64) {
        let region = self.program.region(value);
        self.there.retain(|(other, _)| !other.overlaps(region));
        self.there.push((region, expression));
    }
}

/// A list as written, with all values separate, leaving out the gradients of frozen parameters.
pub fn values(list: &List, trainable: usize) -> Computed {
    run(list, &mut Apart::default(), trainable)
}

/// A program in its arena.
pub fn in_arena(program: &Program, trainable: usize) -> Computed {
    let mut arena = SymbolicArena { program, there: Vec::new() };
    run(program.list(), &mut arena, trainable)
}

fn run(list: &List, memory: &mut impl Memory, trainable: usize) -> Computed {
    let mut computed = Computed { gradients: Vec::new(), losses: Vec::new(), outputs: Vec::new() };
    for op in &list.ops[list.range(Span::WHOLE)] {
        step(list, op, memory, trainable, &mut computed);
    }
    computed.outputs = list.outputs.iter().map(|&v| memory.read(v)).collect();
    // By parameter; the order in which sums are added to each is kept.
    computed.gradients.sort_by_key(|&(offset, len, _)| (offset, len));
    computed
}

fn step(list: &List, op: &Op, memory: &mut impl Memory, trainable: usize, computed: &mut Computed) {
    let dropped = |x: u64, dropout: Dropout| match dropout.p {
        0.0 => x,
        _ => hash(("dropout", x, dropout)),
    };
    let mut add = |range: Option<bitfit::program::ParamRange>, expression: u64| {
        if let Some(range) = range.filter(|range| range.offset < trainable) {
            computed.gradients.push((range.offset, range.len, expression));
        }
    };
    match op {
        // A LayerNorm's output is γ·x̂ + β, however it was computed.
        Op::ResidualNorm(op) => {
            let sum =
                hash((dropped(memory.read(op.x.was), op.dropout), memory.read(op.residual.0)));
            let x_hat = hash(("x_hat", sum, Storage::Activation));
            memory.write(op.x.now, hash(("affine", x_hat, op.norm)));
            if let Some(value) = op.sum.0 {
                memory.write(value, hash(("sum", sum)));
            }
            if let Some(value) = op.x_hat.0 {
                memory.write(value, hash(("x_hat", sum, list.info(value).storage)));
            }
            if let Some(value) = op.rstd.0 {
                memory.write(value, hash(("rstd", sum)));
            }
        }
        Op::Restore(op) => {
            let x_hat = memory.read(op.x_hat.0);
            memory.write(op.out.0, hash(("affine", x_hat, op.norm)));
        }
        Op::Linear(op) => {
            let z = hash(("linear", memory.read(op.x.0), op.weight, &op.bias));
            if let Some(value) = op.out.0 {
                memory.write(value, hash(("act", z, op.act)));
            }
            if let Some(value) = op.slope.0 {
                memory.write(value, hash(("slope", z, op.act, list.info(value).storage)));
            }
        }
        // β's gradient is the same column sum with or without the layer below.
        Op::NormBack(NormBack {
            x_hat,
            rstd,
            gamma,
            dropout,
            dx,
            beside,
            branch,
            dbeta,
            dbias,
        }) => {
            let dy = memory.read(dx.was);
            let dz = hash((dy, memory.read(x_hat.0), memory.read(rstd.0), gamma));
            let dz = beside.map_or(dz, |beside| hash((dz, memory.read(beside.0))));
            memory.write(dx.now, dz);
            let d_branch = dropped(dz, *dropout);
            if let Some(branch) = branch {
                memory.write(branch.0, d_branch);
            }
            add(dbeta.0, hash(("columns", dy)));
            add(dbias.0, hash(("columns", d_branch)));
        }
        Op::ColumnSum(op) => {
            add(op.grad.0, hash(("columns", dropped(memory.read(op.dy.0), op.dropout))))
        }
        Op::Loss(op) => {
            let logits = memory.read(op.logits.0);
            computed.losses.push(hash((op.kind, logits)));
            if let Some(value) = op.dlogits.0 {
                memory.write(value, hash(("dloss", op.kind, logits)));
            }
        }
        op => generic(op, memory, &mut add),
    }
}

/// An operation whose results no pass knows anything about: each is a function of all its inputs and settings.
fn generic(
    op: &Op,
    memory: &mut impl Memory,
    add: &mut impl FnMut(Option<bitfit::program::ParamRange>, u64),
) {
    let mut settings = op.clone();
    let mut place = 0;
    let (mut reads, mut writes, mut sums) = (Vec::new(), Vec::new(), Vec::new());
    settings.visit(&mut |used| {
        place += 1;
        match used {
            Use::Read(value) => {
                reads.push((place, memory.read(*value)));
                *value = Value(0);
            }
            Use::Write(value) => {
                writes.push((place, *value));
                *value = Value(0);
            }
            Use::Over(was, now) => {
                reads.push((place, memory.read(*was)));
                writes.push((place, *now));
                (*was, *now) = (Value(0), Value(0));
            }
            Use::Aside(value) => {
                writes.extend(value.map(|value| (place, value)));
                *value = None;
            }
            Use::Sum(range) => {
                sums.push((place, *range));
                *range = None;
            }
        }
    });
    let of = hash((&settings, reads));
    for (place, value) in writes {
        memory.write(value, hash((of, place)));
    }
    for (place, range) in sums {
        add(range, hash((of, place)));
    }
}
