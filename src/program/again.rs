//! What is kept of the forward pass for the backward pass, and how the rest is recomputed.
//!
//! With frozen weights a BERT block needs, per token, two x̂ (2h elements), attention's q, k, v and output (4h) and the
//! activation's derivative (4h). A LayerNorm's output is never kept if its x̂ is: it is γ·x̂ + β. If more is left out,
//! its operations are repeated in backward before their first reader, on the same values and with the same dropout
//! sites.

use super::{In, Info, List, Op, Out, Restore, Storage, Use, Value, What};
use std::collections::{HashMap, HashSet};

/// What each block keeps. Everything except a derivative or an x̂ in fewer bits is exact: the same operations on the
/// same numbers, so on the CPU the gradients are bit-identical. With 16-bit activations, what is recomputed from a
/// stored x̂ differs by its rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Saving {
    /// Keep only each block's input and rerun its forward pass; the last block, whose backward comes first, keeps what
    /// it needs. Cannot be combined with any other field.
    pub checkpoint: bool,
    /// Recompute q, k and v from the x̂ of the block below, and attention's output from those.
    pub attention_again: bool,
    /// Recompute the activation's derivative from the x̂ of the attention's LayerNorm.
    pub slope_again: bool,
    /// How the activation's derivative is kept.
    pub slope: Storage,
    /// How the x̂ of both LayerNorms is kept.
    pub x_hat: Storage,
}

impl Saving {
    /// Everything that backward needs, in the backend's activation type.
    pub const KEEP: Self = Self {
        checkpoint: false,
        attention_again: false,
        slope_again: false,
        slope: Storage::Activation,
        x_hat: Storage::Activation,
    };

    /// The least that is exact without rerunning whole blocks.
    pub const RECOMPUTE: Self = Self { attention_again: true, slope_again: true, ..Self::KEEP };

    pub const CHECKPOINT: Self = Self { checkpoint: true, ..Self::KEEP };

    /// The exact modes, fastest first. The work each adds to a step's products (a forward pass is 24h² operations per
    /// token and block, a backward pass the same) is 0, 1/8, 1/6, 7/24 and nearly 1/2; the second and fourth also add
    /// attention's, which grows with sequence length: another 1/24 at h/2 tokens.
    pub const EXACT: [Self; 5] = [
        Self::KEEP,
        Self { attention_again: true, ..Self::KEEP },
        Self { slope_again: true, ..Self::KEEP },
        Self::RECOMPUTE,
        Self::CHECKPOINT,
    ];

    /// Whether the gradients equal those of [`Saving::KEEP`].
    pub fn is_exact(self) -> bool {
        (self.slope, self.x_hat) == (Storage::Activation, Storage::Activation)
    }

    /// Whether values of this kind are recomputed if possible.
    fn makes_again(self, what: What) -> bool {
        match what {
            What::Embeddings | What::Hidden => true,
            // A low-rank product is recomputed together with what it is added to.
            What::Qkv | What::Lse | What::Attended | What::LowRank => self.attention_again,
            // The activation's value is kept if something next to it trains: one product recomputes both.
            What::Slope | What::Inner | What::Before => self.slope_again,
            _ => false,
        }
    }
}

impl Default for Saving {
    fn default() -> Self {
        Self::KEEP
    }
}

impl List {
    /// Makes backward recompute what `saving` does not keep. Runs after [`List::freeze`]; drops backward operations
    /// that nothing needs.
    pub fn again(&mut self, saving: Saving) {
        let needed = self.needed();
        let backward = self.parts.backward..self.parts.end;
        let mut maker = HashMap::new();
        for (i, op) in self.ops[..backward.start].iter().enumerate() {
            maker.extend(op.writes().into_iter().map(|value| (value, i)));
        }
        let forward = self.ops[..backward.start].iter();
        let gone = forward.flat_map(Op::overs).map(|(was, _)| was).collect();
        let stays = |&i: &usize| needed.ops[i];
        let saved = backward.clone().filter(stays);
        let saved = saved.flat_map(|i| self.ops[i].reads());
        let saved = saved.filter(|value| maker.contains_key(value)).collect();
        let mut pass = Again {
            rerun: HashSet::new(),
            block: None,
            made: HashMap::new(),
            values: self.values.clone(),
            ops: Vec::new(),
            blocks: Vec::new(),
            gone,
            list: self,
            saving,
            maker,
            saved,
        };
        if saving.checkpoint {
            pass.rerun = pass.blocks_to_run_again();
        }
        for i in backward.clone().filter(stays) {
            pass.copy(i);
        }
        let (ops, blocks, values) = (pass.ops, pass.blocks, pass.values);
        self.values = values;
        self.parts.end = backward.start + ops.len();
        self.ops.splice(backward.clone(), ops);
        self.blocks.splice(backward, blocks);
    }
}

/// The backward pass being rewritten.
struct Again<'a> {
    /// The original.
    list: &'a List,
    saving: Saving,
    /// The forward operation that writes each value.
    maker: HashMap<Value, usize>,
    /// The forward values that backward reads.
    saved: HashSet<Value>,
    /// The blocks that rerun from their input.
    rerun: HashSet<u16>,
    /// The block whose backward is being written.
    block: Option<u16>,
    /// The new value of each one that was recomputed.
    made: HashMap<Value, Value>,
    /// All values, new ones last.
    values: Vec<Info>,
    /// The forward values that another value has replaced in place.
    gone: HashSet<Value>,
    /// Backward so far.
    ops: Vec<Op>,
    blocks: Vec<Option<u16>>,
}

impl Again<'_> {
    /// All except the last that would keep more than twice their input.
    fn blocks_to_run_again(&self) -> HashSet<u16> {
        let block_of = |value: &Value| self.list.info(*value).block;
        let last = self.list.values.iter().filter_map(|info| info.block).max();
        let width = |value: &Value| self.list.info(*value).width;
        let mut kept: HashMap<u16, usize> = HashMap::new();
        for value in &self.saved {
            if let Some(block) = block_of(value) {
                *kept.entry(block).or_default() += width(value);
            }
        }
        let mut inputs: HashMap<u16, HashSet<Value>> = HashMap::new();
        for op in &self.list.ops[..self.list.parts.backward] {
            for block in op.writes().iter().filter_map(block_of) {
                let others = op.reads().into_iter().filter(|value| block_of(value) != Some(block));
                inputs.entry(block).or_default().extend(others);
            }
        }
        let input =
            |block: &u16| -> usize { inputs.get(block).into_iter().flatten().map(width).sum() };
        let many = kept.into_iter().filter(|(block, kept)| *kept > 2 * input(block));
        many.map(|(block, _)| block).filter(|&block| Some(block) != last).collect()
    }

    /// Adds an operation of backward, after what it reads and was not kept.
    fn copy(&mut self, at: usize) {
        let mut op = self.list.ops[at].clone();
        self.block = self.list.blocks[at];
        op.visit(&mut |used| {
            if let Use::Read(value) = used {
                *value = self.find(*value);
            }
        });
        self.push(op);
    }

    fn reruns(&self, block: Option<u16>) -> bool {
        block.is_some_and(|block| self.rerun.contains(&block))
    }

    fn is_kept(&self, value: Value) -> bool {
        let info = self.list.info(value);
        self.saved.contains(&value)
            && !self.reruns(info.block)
            && !self.saving.makes_again(info.what)
    }

    /// Where backward finds a value: kept, recomputed, or, if neither is possible, kept after all.
    fn find(&mut self, value: Value) -> Value {
        let Some(&maker) = self.maker.get(&value) else {
            return value;
        };
        if self.is_kept(value) {
            return value;
        }
        if let Some(&made) = self.made.get(&value) {
            return made;
        }
        let info = *self.list.info(value);
        // A block that reruns starts from its input, which another block made.
        let gone = self.gone.contains(&value);
        if self.saving.checkpoint && info.block != self.block && !gone {
            return value;
        }
        if let Some(out) = self.restore(value, maker) {
            return out;
        }
        let remade = gone
            || self.reruns(info.block)
            || (info.what != What::Hidden && self.saving.makes_again(info.what));
        if !remade {
            return value;
        }
        self.run(maker);
        self.made[&value]
    }

    /// A LayerNorm's output from its x̂, if that is kept at full precision: in fewer bits the output would differ.
    fn restore(&mut self, value: Value, maker: usize) -> Option<Value> {
        let (restored, x_hat, norm) = self.list.ops[maker].restores()?;
        let there = match self.made.get(&x_hat) {
            Some(&made) => made,
            None if self.is_kept(x_hat) => x_hat,
            None => return None,
        };
        if restored != value || self.list.info(x_hat).storage != Storage::Activation {
            return None;
        }
        let out = self.fresh(value);
        self.push(Op::Restore(Restore { x_hat: In(there), norm, out: Out(out) }));
        Some(out)
    }

    /// Repeats a forward operation, into new values.
    fn run(&mut self, at: usize) {
        let mut op = self.list.ops[at].clone();
        op.visit(&mut |used| match used {
            Use::Read(value) | Use::Over(value, _) => *value = self.find(*value),
            Use::Write(_) | Use::Aside(_) | Use::Sum(_) => {}
        });
        op.visit(&mut |used| match used {
            Use::Over(_, value) | Use::Write(value) | Use::Aside(Some(value)) => {
                *value = self.fresh(*value);
            }
            Use::Read(_) | Use::Aside(None) | Use::Sum(_) => {}
        });
        self.push(op);
    }

    fn push(&mut self, op: Op) {
        self.ops.push(op);
        self.blocks.push(self.block);
    }

    /// A new value for one of forward. A recomputed derivative is read at once, so it is stored at full precision.
    fn fresh(&mut self, value: Value) -> Value {
        let mut info = *self.list.info(value);
        if info.what == What::Slope && self.saving.slope_again {
            info.storage = Storage::Activation;
        }
        self.values.push(info);
        let fresh = Value(self.values.len() as u32 - 1);
        self.made.insert(value, fresh);
        fresh
    }
}

#[cfg(test)]
#[path = "again_tests.rs"]
mod tests;
