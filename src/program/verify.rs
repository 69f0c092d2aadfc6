//! Walks a program with a picture of the arena, as a device would run it, and without asking the passes that made it: a
//! lifetime that is one operation short shows as a read of what is no longer there.

use super::{Dest, LinearBack, List, Op, ParamRange, PoolKind, Program, Rows, Storage, Value};
use std::collections::HashSet;
use std::fmt;

/// What is wrong with a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The operation, by its place and name; `None` for what is missing at the end.
    pub at: Option<(usize, &'static str)>,
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some((at, name)) => write!(f, "operation {at}, {name}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for Fault {}

impl Program {
    /// # Errors
    /// The first operation that reads what is not there whole, writes over what it reads or over another of its
    /// outputs without saying so, writes a value again, or whose shapes do not fit; an output that is gone at the end.
    pub fn verify(&self) -> Result<(), Fault> {
        let list = self.list();
        let mut there: Vec<Value> = Vec::new();
        let mut written = HashSet::new();
        for (i, op) in list.ops.iter().enumerate() {
            let fault = |what: String| Fault { at: Some((i, op.name())), what };
            shapes(list, op).map_err(fault)?;
            let (reads, writes, overs) = (op.reads(), op.writes(), op.overs());
            let shared =
                op.may_share().filter(|&(slope, dx)| self.region(slope) == self.region(dx));
            let twice = |&&(was, _): &&(Value, Value)| {
                reads.iter().filter(|&&read| read == was).count() > 1
            };
            if let Some((was, now)) = overs.iter().find(twice) {
                let what = format!("writes {now:?} over {was:?}, which it also reads beside it");
                return Err(fault(what));
            }
            if let Some(value) = reads.iter().find(|value| !there.contains(value)) {
                return Err(fault(format!("reads {value:?}, which is not there")));
            }
            for &(was, now) in &overs {
                if self.region(was).offset != self.region(now).offset {
                    return Err(fault(format!("{now:?} does not lie over {was:?}")));
                }
            }
            let overlap = |a: Value, b: Value| self.region(a).overlaps(self.region(b));
            for (n, &value) in writes.iter().enumerate() {
                if self.region(value).offset + self.region(value).len > self.bytes() {
                    return Err(fault(format!("{value:?} lies beyond the arena")));
                }
                let declared =
                    |read: Value| overs.contains(&(read, value)) || shared == Some((read, value));
                let over_read = |&&read: &&Value| overlap(read, value) && !declared(read);
                let over_write = |&&other: &&Value| overlap(other, value);
                if let Some(other) = reads.iter().find(over_read) {
                    return Err(fault(format!("writes {value:?} over {other:?}, which it reads")));
                }
                if let Some(other) = writes[..n].iter().find(over_write) {
                    return Err(fault(format!("writes {value:?} over {other:?}, which it writes")));
                }
                if !written.insert(value) {
                    return Err(fault(format!("writes {value:?} for the second time")));
                }
                there.retain(|&other| !overlap(other, value));
            }
            there.extend(writes);
        }
        match list.outputs.iter().find(|value| !there.contains(value)) {
            Some(value) => Err(Fault {
                at: None,
                what: format!("the output {value:?} is not there at the end"),
            }),
            None => Ok(()),
        }
    }
}

impl List {
    /// Whether each of `trained`, and nothing from `trainable` on, has a gradient.
    ///
    /// # Errors
    /// The operation that sums up a frozen parameter's gradient, or the first range that no operation adds to.
    pub fn verify_gradients(&self, trained: &[ParamRange], trainable: usize) -> Result<(), Fault> {
        let mut sums: Vec<(usize, usize)> = Vec::new();
        for (i, op) in self.ops.iter().enumerate() {
            for range in op.sums() {
                if range.offset + range.len > trainable {
                    return Err(Fault {
                        at: Some((i, op.name())),
                        what: format!("the gradient of {range:?}, which is frozen"),
                    });
                }
                sums.push((range.offset, range.offset + range.len));
            }
        }
        sums.sort_unstable();
        for range in trained {
            let mut covered = range.offset;
            for &(from, to) in &sums {
                if from <= covered {
                    covered = covered.max(to);
                }
            }
            if covered < range.offset + range.len {
                return Err(Fault {
                    at: None,
                    what: format!("{range:?} trains, but nothing adds to its gradient"),
                });
            }
        }
        Ok(())
    }
}

/// Shapes and storages of an operation's tensors: what the types of its fields cannot say.
fn shapes(list: &List, op: &Op) -> Result<(), String> {
    let info = |value: Value| list.info(value);
    let width = |value: Value| info(value).width;
    let shape = |value: Value| (info(value).rows, info(value).width);
    let same = |what: &str, values: &[Value]| {
        let differ = values.windows(2).any(|pair| shape(pair[0]) != shape(pair[1]));
        match differ {
            true => Err(format!("{what} have different shapes: {values:?}")),
            false => Ok(()),
        }
    };
    let stored = |what: &str, value: Value, storages: &[Storage]| match storages
        .contains(&info(value).storage)
    {
        true => Ok(()),
        false => Err(format!("{what} is stored as {:?}", info(value).storage)),
    };
    let columns = |what: &str, have: usize, want: usize| match have == want {
        true => Ok(()),
        false => Err(format!("{what} of {have} where {want} belong")),
    };
    const SLOPES: [Storage; 3] = [Storage::Activation, Storage::Slope8, Storage::Slope4];
    const X_HATS: [Storage; 2] = [Storage::Activation, Storage::XHat8];
    for (was, now) in op.overs() {
        same("a value and what lies over it", &[was, now])?;
    }
    match op {
        Op::Zero(_) | Op::Update(_) => Ok(()),
        Op::Embed(op) => columns("embeddings", width(op.out.0), op.norm.gamma.len),
        Op::EmbedBack(op) => columns("a gradient", width(op.dx.now), op.norm.gamma.len),
        Op::Linear(op) => {
            let outputs: Vec<Value> = [op.out.0, op.slope.0].into_iter().flatten().collect();
            if outputs.is_empty() || (op.slope.0.is_some() && op.act.is_none()) {
                return Err("a product of nothing, or a slope without an activation".into());
            }
            same("value and slope", &outputs)?;
            if let Some(slope) = op.slope.0 {
                stored("a slope", slope, &SLOPES)?;
            }
            let bias = op.bias.iter().map(|range| range.len).sum();
            columns("a bias", bias, width(outputs[0]))
        }
        Op::LinearBack(LinearBack { slope, dx, dbias, .. }) => {
            if let Some(slope) = slope {
                if matches!(dx, Dest::Onto(_)) {
                    return Err("a product that both adds and multiplies".into());
                }
                same("slope and gradient", &[slope.0, dx.now()])?;
                stored("a slope", slope.0, &SLOPES)?;
            }
            match dbias.0 {
                Some(range) => columns("a bias gradient", range.len, width(dx.now())),
                None => Ok(()),
            }
        }
        Op::WeightGrad(op) => match op.grad.0 {
            Some(range) => {
                columns("a matrix's gradient", range.len, width(op.dy.0) * width(op.x.0))
            }
            None => Ok(()),
        },
        Op::Attention(op) => columns("q, k and v", width(op.qkv.0), 3 * width(op.out.0)),
        Op::AttentionBack(op) => {
            same("q, k, v and their gradient", &[op.qkv.0, op.dqkv.0])?;
            same("output and gradient", &[op.out.0, op.dout.0])?;
            columns("q, k and v", width(op.qkv.0), 3 * width(op.out.0))
        }
        Op::FirstAttention(op) => {
            same("query and output", &[op.query.0, op.out.0])?;
            columns("k and v", width(op.key_value.0), 2 * width(op.query.0))
        }
        Op::FirstAttentionBack(op) => {
            same("query and gradients", &[op.query.0, op.d_query.0, op.dout.0])?;
            same("k, v and their gradient", &[op.key_value.0, op.d_key_value.0])
        }
        Op::First(op) => columns("first tokens", width(op.out.0), width(op.tokens.0)),
        Op::AddFirst(op) => columns("first tokens", width(op.first.0), width(op.tokens.now)),
        Op::ResidualNorm(op) => {
            same("branch and residual", &[op.x.was, op.residual.0])?;
            if let Some(sum) = op.sum.0 {
                same("branch and sum", &[op.x.was, sum])?;
            }
            if op.x_hat.0.is_some() != op.rstd.0.is_some() {
                return Err("x_hat and rstd are kept together".into());
            }
            if let Some(x_hat) = op.x_hat.0 {
                stored("x_hat", x_hat, &X_HATS)?;
            }
            columns("a LayerNorm", width(op.x.was), op.norm.gamma.len)
        }
        Op::Restore(op) => {
            stored("x_hat", op.x_hat.0, &X_HATS[..1])?;
            same("x_hat and output", &[op.x_hat.0, op.out.0])
        }
        Op::NormBack(op) => {
            if op.branch.is_none() && op.dropout.p > 0.0 {
                return Err("with dropout the branch has a gradient of its own".into());
            }
            stored("x_hat", op.x_hat.0, &X_HATS)?;
            if let Some(beside) = op.beside {
                same("gradients of the sum", &[op.dx.was, beside.0])?;
            }
            same("x_hat and gradient", &[op.x_hat.0, op.dx.was])
        }
        Op::GainGrad(op) => stored("x_hat", op.x_hat.0, &X_HATS[..1]),
        Op::ColumnSum(op) => match op.grad.0 {
            Some(range) => columns("a bias gradient", range.len, width(op.dy.0)),
            None => Err("a column sum of nothing".into()),
        },
        Op::Pool(op) => pooled(op.kind, info(op.x.0).rows),
        Op::PoolBack(op) => pooled(op.kind, info(op.dx.0).rows),
        Op::Dense(op) => columns("a bias", op.bias.len, width(op.y.0)),
        Op::DenseBack(op) => same("output and gradient", &[op.y.0, op.dy.was]),
        Op::Loss(op) => match op.dlogits.0 {
            Some(dlogits) => same("logits and gradient", &[op.logits.0, dlogits]),
            None => Ok(()),
        },
    }
}

/// A mean needs all tokens.
fn pooled(kind: PoolKind, rows: Rows) -> Result<(), String> {
    match (kind, rows) {
        (PoolKind::Mean, Rows::Sequences) => {
            Err("the mean over all tokens, of which the first alone are there".into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
