//! Walks a program with a picture of the arena, as a device would run it, and independently of the passes that made it:
//! a lifetime that is one operation too short shows up as a read of something no longer there.

use super::op::Expected;
use super::{
    Aside, DenseBack, Dest, Embed, EmbedBack, Entries, In, Info, List, Op, Out, ParamRange, Pool,
    PoolBack, Program, Rows, SparseAdd, SparseGrad, Storage, Sum, Use, Value,
};
use anyhow::{Context, Result, anyhow, ensure};
use std::collections::{BTreeMap, HashSet};

/// What is intact in the arena, by offset; entries do not overlap.
type There = BTreeMap<usize, Value>;

impl Program {
    /// # Errors
    /// The first operation that reads what is not there whole, writes over what it reads or over another of its
    /// outputs without saying so, writes a value again, or whose shapes do not fit; an output that is gone at the end.
    pub fn verify(&self) -> Result<()> {
        let list = self.list();
        let (mut there, mut written) = (There::new(), HashSet::new());
        for (i, op) in list.ops.iter().enumerate() {
            let checked = shapes(list, op).and_then(|()| self.places(op, &mut there, &mut written));
            checked.with_context(|| format!("operation {i}, {}", list.name_of(i)))?;
        }
        for value in &list.outputs {
            ensure!(self.has(&there, *value), "the output {value:?} is not there at the end");
        }
        Ok(())
    }

    fn has(&self, there: &There, value: Value) -> bool {
        there.get(&self.region(value).offset) == Some(&value)
    }

    /// Checks what an operation reads and writes against what is `there` in the arena.
    fn places(&self, op: &Op, there: &mut There, written: &mut HashSet<Value>) -> Result<()> {
        let (reads, writes, overs) = (op.reads(), op.writes(), op.overs());
        let overlap = |a: Value, b: Value| self.region(a).overlaps(self.region(b));
        let may = op.may_share().filter(|&(from, to)| self.region(from) == self.region(to));
        for &(was, now) in &overs {
            let beside = reads.iter().filter(|&&read| read == was).count() > 1;
            ensure!(!beside, "writes {now:?} over {was:?}, which it also reads beside it");
            let (below, above) = (self.region(was).offset, self.region(now).offset);
            ensure!(below == above, "{now:?} does not lie over {was:?}");
        }
        for read in &reads {
            ensure!(self.has(there, *read), "reads {read:?}, which is not there");
        }
        for (n, &value) in writes.iter().enumerate() {
            let end = self.region(value).offset + self.region(value).len;
            ensure!(end <= self.bytes(), "{value:?} lies beyond the arena");
            for &read in &reads {
                let declared = overs.contains(&(read, value)) || may == Some((read, value));
                let over = overlap(read, value) && !declared;
                ensure!(!over, "writes {value:?} over {read:?}, which it reads");
            }
            for &other in &writes[..n] {
                let over = overlap(other, value);
                ensure!(!over, "writes {value:?} over {other:?}, which it writes");
            }
            ensure!(written.insert(value), "writes {value:?} for the second time");
            while let Some((&at, _)) =
                there.range(..end).next_back().filter(|&(_, &other)| overlap(other, value))
            {
                there.remove(&at);
            }
            there.insert(self.region(value).offset, value);
        }
        Ok(())
    }
}

impl List {
    /// Checks that each of `trained` has a gradient and nothing from `trainable` on does.
    ///
    /// # Errors
    /// The operation that sums up a frozen parameter's gradient, or the first range that no operation adds to.
    pub fn verify_gradients(&self, trained: &[ParamRange], trainable: usize) -> Result<()> {
        let mut sums: Vec<(usize, usize)> = Vec::new();
        for (i, op) in self.ops.iter().enumerate() {
            for range in op.sums() {
                let name = op.name();
                let trains = range.end() <= trainable;
                ensure!(
                    trains,
                    "operation {i}, {name}: the gradient of {range:?}, which is frozen"
                );
                sums.push((range.offset, range.end()));
            }
        }
        sums.sort_unstable();
        // In pieces that do not touch.
        let mut pieces: Vec<(usize, usize)> = Vec::new();
        for (from, to) in sums {
            match pieces.last_mut() {
                Some((_, end)) if from <= *end => *end = to.max(*end),
                _ => pieces.push((from, to)),
            }
        }
        for range in trained {
            let before = pieces.partition_point(|&(from, _)| from <= range.offset);
            let covered = pieces[..before].last().map_or(0, |&(_, end)| end).max(range.offset);
            ensure!(covered >= range.end(), "{range:?} trains, but nothing adds to its gradient");
        }
        Ok(())
    }
}

/// Checks shapes, storages and lengths against an operation's field requirements, and that the fields match.
fn shapes(list: &List, op: &Op) -> Result<()> {
    together(list, op)?;
    let mut names = Names::default();
    let mut checked = Ok(());
    op.clone().expect(&mut |expected, operand| {
        let mut values = Vec::new();
        let mut lengths = operand.lengths();
        operand.visit(&mut |used| match used {
            Use::Read(value) | Use::Write(value) => values.push(*value),
            Use::Over(was, now) => values.extend([*was, *now]),
            Use::Aside(value) => values.extend(*value),
            Use::Sum(range) => lengths.extend(range.map(|range| range.len)),
        });
        let tensors = values.iter().map(|value| names.tensor(&expected, list.info(*value)));
        let fits = tensors.collect::<Vec<_>>().into_iter().all(|fits| fits)
            && lengths.iter().all(|&len| names.product(expected.shape, len));
        if !fits && checked.is_ok() {
            let tensors = values.iter().map(|value| list.info(*value));
            let tensors = tensors.map(|i| format!("[{:?}, {}] {:?}", i.rows, i.width, i.storage));
            let have: Vec<String> = tensors.chain(lengths.iter().map(usize::to_string)).collect();
            let known = names.known.iter().map(|(name, size)| format!("{name} = {size}"));
            checked = Err(anyhow!(
                "{} is {} where [{}] {} belongs; {}",
                expected.field,
                have.join(" and "),
                expected.shape.concat(),
                expected.stored,
                known.collect::<Vec<_>>().join(", ")
            ));
        }
    });
    checked
}

/// What the names in an operation's shapes stand for, from the fields seen so far.
#[derive(Default)]
struct Names {
    rows: Option<Rows>,
    known: Vec<(&'static str, usize)>,
}

impl Names {
    fn tensor(&mut self, expected: &Expected, info: &Info) -> bool {
        let rows = match expected.shape[0] {
            "tokens" => Rows::Tokens,
            "sequences" => Rows::Sequences,
            // The right value depends on the way of pooling: see `together`.
            "pooled" => info.rows,
            _ => *self.rows.get_or_insert(info.rows),
        };
        let stored = match (expected.stored, info.storage) {
            ("act" | "either" | "x_hat" | "slope", Storage::Activation) => true,
            ("stream" | "either" | "head", Storage::Stream) => true,
            ("f32" | "head", Storage::F32) => true,
            ("x_hat", storage) => storage == Storage::XHat8,
            ("slope", storage) => matches!(storage, Storage::Slope8 | Storage::Slope4),
            _ => false,
        };
        rows == info.rows && stored && self.product(&expected.shape[2..], info.width)
    }

    /// Whether a product can be `size`; a new name gets the missing factor.
    fn product(&mut self, factors: &[&'static str], size: usize) -> bool {
        let (mut known, mut new) = (1, None);
        for &factor in factors.iter().filter(|&&factor| factor != "*") {
            let named = self.known.iter().find(|(name, _)| *name == factor);
            match named.map(|&(_, size)| size).or_else(|| factor.parse().ok()) {
                Some(factor) => known *= factor,
                None => new = Some(factor),
            }
        }
        if let Some(name) = new.filter(|_| known > 0 && size.is_multiple_of(known)) {
            self.known.push((name, size / known));
            known = size;
        }
        known == size
    }
}

/// Refuses operands that cannot be combined.
fn together(list: &List, op: &Op) -> Result<()> {
    match op {
        Op::Linear(op) => ensure!(
            (op.out.0.is_some() || op.slope.0.is_some())
                && (op.slope.0.is_none() || op.act.is_some()),
            "a product of nothing, or a slope without an activation"
        ),
        Op::LinearBack(op) => ensure!(
            op.slope.is_none() || matches!(op.dx, Dest::New(_)),
            "a product that both adds and multiplies"
        ),
        Op::Activate(op) => ensure!(
            op.out.0.is_some() || op.slope.0.is_some(),
            "an activation of which nothing is asked for"
        ),
        Op::SparseAdd(SparseAdd { entries, values: ParamRange { len, .. }, .. }) => {
            of_entries(*entries, *len)?;
        }
        Op::SparseGrad(SparseGrad { entries, grad: Sum(Some(grad)), .. }) => {
            of_entries(*entries, grad.len)?;
        }
        Op::Embed(Embed { added: Some(added), .. })
        | Op::EmbedBack(EmbedBack { added: Some(added), .. }) => {
            let [word, position, types] = added.tables;
            ensure!(
                word.count + position.count + types.count == added.values.len,
                "{} values beside tables with {} + {} + {} entries",
                added.values.len,
                word.count,
                position.count,
                types.count
            );
        }
        Op::TakeColumns(op) => {
            columns(list.info(op.x.0).width, op.from, list.info(op.out.0).width)?
        }
        Op::AddColumns(op) => columns(list.info(op.y.now).width, op.from, list.info(op.x.0).width)?,
        Op::Scale(op) => {
            let width = list.info(op.x.0).width;
            ensure!(op.factor.len <= width, "{} factors of {width} columns", op.factor.len);
        }
        Op::ScaleBack(op) => {
            let (width, scaled) = (list.info(op.x.0).width, op.factor.len);
            ensure!(scaled <= width, "{scaled} factors of {width} columns");
            ensure!(op.slope.is_none() || scaled == width, "a slope beside columns without factor");
        }
        Op::ResidualNorm(op) => {
            ensure!(op.x_hat.0.is_some() == op.rstd.0.is_some(), "x_hat and rstd are kept together")
        }
        Op::NormBack(op) => ensure!(
            op.branch.is_some() || op.dropout.p == 0.0,
            "with dropout the branch has a gradient of its own"
        ),
        Op::Pool(Pool { kind, out: Out(pooled), .. })
        | Op::PoolBack(PoolBack { kind, dy: In(pooled), .. }) => {
            kind.check(list.info(*pooled).rows)?;
        }
        Op::DenseBack(DenseBack { x: In(x), dx: Aside(Some(dx)), .. }) => ensure!(
            list.info(*x).storage == list.info(*dx).storage,
            "an input and its gradient that are stored differently"
        ),
        Op::Loss(op) => op.kind.check(list.info(op.logits.0), op.class_weights.is_some())?,
        _ => {}
    }
    Ok(())
}

fn of_entries(entries: Entries, values: usize) -> Result<()> {
    let Entries { places, lines, count } = entries;
    ensure!(values == count, "{values} values of {count} entries");
    ensure!(places.len == Entries::words(lines, count), "{} places of {count} entries", places.len);
    Ok(())
}

fn columns(width: usize, from: usize, taken: usize) -> Result<()> {
    ensure!(from + taken <= width, "columns {from} to {} of {width}", from + taken);
    Ok(())
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
