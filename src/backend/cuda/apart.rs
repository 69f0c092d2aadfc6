//! Which operations of a recording run concurrently. The last block's work for the first tokens has so few rows that it
//! leaves most of a device idle. Whatever part of it and of the large operation before or after it do not depend on
//! each other runs at the same time. The list's order does not show this, but places in the arena respect it, so
//! dependencies are found by comparing places.

use super::branch::Branch;
use super::device::Device;
use crate::program::{Linear, LinearBack, Op, Program, Region, Rows, Sum, Use, Value};
use anyhow::Result;
use cudarc::driver::CudaStream;
use std::sync::Arc;

/// Where an operation reads and writes.
struct Touched {
    reads: Vec<Region>,
    writes: Vec<Region>,
    /// It also has effects other than on values.
    acts: bool,
}

impl Touched {
    fn of(program: &Program, ops: &[Op]) -> Self {
        let acts = ops.iter().any(Op::acts);
        let mut touched = Self { reads: Vec::new(), writes: Vec::new(), acts };
        for op in ops {
            op.clone().visit(&mut |used| match used {
                Use::Read(value) => touched.reads.push(program.region(*value)),
                Use::Write(value) => touched.writes.push(program.region(*value)),
                Use::Over(was, now) => {
                    touched.writes.extend([*was, *now].map(|value| program.region(value)));
                }
                Use::Aside(value) => {
                    touched.writes.extend(value.map(|value| program.region(value)));
                }
                Use::Sum(_) => {}
            });
        }
        touched
    }

    /// Whether one of the two must wait for the other.
    fn meets(&self, other: &Self) -> bool {
        let meet = |a: &[Region], b: &[Region]| a.iter().any(|a| b.iter().any(|b| a.overlaps(*b)));
        self.acts
            || other.acts
            || meet(&self.writes, &other.writes)
            || meet(&self.writes, &other.reads)
            || meet(&self.reads, &other.writes)
    }
}

/// Two streams while a span is issued.
pub struct Apart<'a> {
    device: &'a Device,
    branch: &'a Branch,
    /// Operations may run on the branch too, not only what a step begins with.
    recorded: bool,
    /// The point from which a branch can begin; in a recording not before the recording itself.
    marked: bool,
    /// What has gone to the operations' stream since the mark.
    since: Vec<Touched>,
    /// What has gone to the branch since it was last joined.
    beside: Vec<Touched>,
    /// That includes what a step begins with.
    clearing: bool,
    /// The last item on the operations' stream is a kernel.
    kernel: bool,
}

impl<'a> Apart<'a> {
    pub fn new(device: &'a Device, branch: &'a Branch, recorded: bool) -> Self {
        let (since, beside) = (Vec::new(), Vec::new());
        Self {
            device,
            branch,
            recorded,
            marked: false,
            since,
            beside,
            clearing: false,
            kernel: false,
        }
    }

    /// The stream on which to launch operations together, ordered after what they need; no other launch may come in
    /// between. Also returns whether their first kernel may begin while the one before it ends: in a recording, if it
    /// waits for nothing else.
    pub fn enter(&mut self, program: &Program, ops: &[Op]) -> Result<(&'a Arc<CudaStream>, bool)> {
        if matches!(ops, [Op::Zero(_)]) {
            self.mark()?;
            self.branch.fork()?;
            self.clearing = true;
            return Ok((&self.branch.stream, false));
        }
        let touched = Touched::of(program, ops);
        if self.recorded && ops.iter().all(|op| has_few_rows(program, op)) {
            if !self.marked || self.since.iter().any(|other| other.meets(&touched)) {
                self.mark()?;
            }
            self.branch.fork()?;
            self.beside.push(touched);
            return Ok((&self.branch.stream, false));
        }
        if self.clearing && ops.iter().any(adds_up)
            || self.beside.iter().any(|other| other.meets(&touched))
        {
            self.leave()?;
        }
        self.mark()?;
        self.since.push(touched);
        let early = self.recorded && self.kernel;
        self.kernel = true;
        Ok((&self.device.stream, early))
    }

    /// Makes all later launches wait for the branch.
    pub fn leave(&mut self) -> Result<()> {
        if self.clearing || !self.beside.is_empty() {
            self.branch.join(self.device)?;
            self.kernel = false;
        }
        self.beside.clear();
        self.clearing = false;
        Ok(())
    }

    fn mark(&mut self) -> Result<()> {
        self.since.clear();
        self.marked = true;
        self.branch.mark(self.device)
    }
}

/// Whether an operation has one row per sequence and needs only its operands, no room for partial sums.
fn has_few_rows(program: &Program, op: &Op) -> bool {
    let rows = |value: Value| program.list().info(value).rows;
    match op {
        Op::First(_) => true,
        Op::Linear(Linear { x, .. }) => rows(x.0) == Rows::Sequences,
        Op::LinearBack(LinearBack { dy, dbias: Sum(None), .. }) => rows(dy.0) == Rows::Sequences,
        _ => false,
    }
}

/// Whether it reads or adds to the loss or a gradient: then what a step begins with must be done.
fn adds_up(op: &Op) -> bool {
    let mut sums = matches!(op, Op::Loss(_) | Op::SparseTake(_) | Op::Update(_));
    op.clone().visit(&mut |used| sums |= matches!(used, Use::Sum(_)));
    sums
}
