//! Removes what does not train and what no output or gradient needs: this decides how far down backward goes, and what
//! forward keeps for it.

use super::{ColumnSum, Dropout, In, List, NormBack, Op, Out, Use, Value};
use std::collections::HashSet;

/// Which parts of a list are needed.
pub(super) struct Needed {
    /// Per operation.
    pub ops: Vec<bool>,
    /// The values that a needed operation or the outside reads.
    pub values: HashSet<Value>,
}

impl List {
    /// Removes the gradients of frozen parameters: the first `trainable` elements train.
    pub fn freeze(&mut self, trainable: usize) {
        for op in &mut self.ops {
            op.visit(&mut |used| {
                if let Use::Sum(range) = used
                    && range.is_some_and(|range| range.offset >= trainable)
                {
                    *range = None;
                }
            });
        }
    }

    /// Drops operations that nothing needs, and unread values of those that remain.
    pub fn prune(&mut self) {
        let needed = self.needed();
        let kept = |from: usize, to: usize| needed.ops[from..to].iter().filter(|&&n| n).count();
        let forward = kept(0, self.parts.forward);
        let backward = forward + kept(self.parts.forward, self.parts.backward);
        let end = backward + kept(self.parts.backward, self.parts.end);
        (self.parts.forward, self.parts.backward, self.parts.end) = (forward, backward, end);
        retain(&mut self.ops, &needed.ops);
        retain(&mut self.blocks, &needed.ops);
        for op in &mut self.ops {
            op.visit(&mut |used| {
                if let Use::Aside(value) = used
                    && value.is_some_and(|value| !needed.values.contains(&value))
                {
                    *value = None;
                }
            });
        }
    }

    /// Backwards through the list: an operation is needed for a value that is read later, for a gradient, or for
    /// another effect.
    pub(super) fn needed(&mut self) -> Needed {
        let mut values: HashSet<Value> = self.outputs.iter().copied().collect();
        let mut ops = vec![false; self.ops.len()];
        for (op, needed) in self.ops.iter_mut().zip(&mut ops).rev() {
            if let Op::NormBack(norm) = op
                && let Some(sum) = beta_alone(norm, &values)
            {
                *op = sum.into();
            }
            *needed = op.acts()
                || !op.sums().is_empty()
                || op.writes().iter().any(|value| values.contains(value));
            if *needed {
                values.extend(op.reads());
            }
        }
        Needed { ops, values }
    }
}

/// Keeps the items whose entry in `keep` is true.
fn retain<T>(items: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    items.retain(|_| keep.next() == Some(&true));
}

/// If nothing below a LayerNorm is needed, β's gradient is a column sum of what arrives, and forward need not keep x̂.
fn beta_alone(norm: &NormBack, read: &HashSet<Value>) -> Option<ColumnSum> {
    let goes_on = read.contains(&norm.dx.now)
        || norm.branch.is_some_and(|Out(branch)| read.contains(&branch))
        || norm.dbias.0.is_some();
    let alone = ColumnSum { dy: In(norm.dx.was), dropout: Dropout::NONE, grad: norm.dbeta };
    (!goes_on && norm.dbeta.0.is_some()).then_some(alone)
}

#[cfg(test)]
#[path = "prune_tests.rs"]
mod tests;
