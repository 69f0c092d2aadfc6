//! The operations: about two dozen fused ones, each with its backward beside it.
//!
//! Adding one here makes the verifier's shapes and both backends fail to compile until they know it, and nothing else: what
//! a pass needs to know stands in the types of its fields ([`operand`](super::operand)).
//!
//! Shapes are `[rows, width]` as [`Info`](super::Info) has them: `tokens` stands for the rows of a value whatever they
//! are. Activations are of the backend's type; what is F32 says so. A linear layer's matrix is `[outputs, inputs]`, as
//! Hugging Face stores it, and serves both `y = x·Wᵀ` and `dx = dy·W`. A value is written whole unless its operand adds
//! to it. Gradients of parameters always add up; [`Zero`] clears them.

use super::operand::{Aside, Dest, In, Operand, Out, Over, Sum, Use, Value};
use super::{Activation, Dropout, HeadWeight, LossKind, Norm, ParamRange, PoolKind, WeightId};

/// Makes a struct for each operation, and [`Op`] of all of them.
macro_rules! ops {
    ($(
        $(#[$doc:meta])*
        $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty),* $(,)? }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Hash)]
            pub struct $name { $($(#[$field_doc])* pub $field: $kind),* }

            impl From<$name> for Op {
                fn from(op: $name) -> Self {
                    Op::$name(op)
                }
            }
        )*

        /// One operation of a list.
        #[derive(Clone, Debug, PartialEq, Hash)]
        pub enum Op { $($name($name)),* }

        impl Op {
            /// Calls `f` with each use of a value or a gradient, in the order of the fields.
            pub fn visit(&mut self, f: &mut dyn FnMut(Use<'_>)) {
                match self {
                    $(Op::$name(op) => {
                        let _ = (&op, &f);
                        $(op.$field.visit(f);)*
                    })*
                }
            }

            /// The name of its type.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$name(_) => stringify!($name)),* }
            }
        }
    };
}

ops! {
    /// Begins an optimizer step: all gradients of parameters and the step's loss become zero.
    Zero {}

    /// `out = dropout(LN(word[id] + position[pos] + token_type[type]))` of the batch's tokens.
    Embed {
        /// `[vocabulary, width]`
        word: WeightId,
        /// `[positions, width]`
        position: WeightId,
        /// `[types, width]`; RoBERTa has one row, used for every token.
        token_type: WeightId,
        norm: Norm,
        dropout: Dropout,
        out: Out,
    }

    /// Backward of [`Embed`] where the tables train. Nothing was kept for it: x̂ is computed again from the tables, which
    /// no step changes between its forward and its backward.
    EmbedBack {
        word: WeightId,
        position: WeightId,
        token_type: WeightId,
        norm: Norm,
        dropout: Dropout,
        /// From the gradient of the output to that of the tables' sum.
        dx: Over,
        /// Its rows get the gradients of the tokens that they stand for, in the order of the tokens.
        dword: Sum,
        dposition: Sum,
        dtype: Sum,
        dgamma: Sum,
        dbeta: Sum,
    }

    /// `out = act(x·Wᵀ + bias)`, `slope = act′(x·Wᵀ + bias)`.
    Linear {
        /// `[rows, inputs]`
        x: In,
        weight: WeightId,
        /// Parts of equal length which together are `[outputs]` (query, key and value of a fused product are three).
        bias: Vec<ParamRange>,
        act: Option<Activation>,
        /// `[rows, outputs]`. At least one of both is there.
        out: Aside,
        /// `[rows, outputs]`, where there is an activation.
        slope: Aside,
    }

    /// `dx = (dy·W) ⊙ slope`, or `dx += dy·W`. There is no dW here: see [`WeightGrad`].
    LinearBack {
        /// `[rows, outputs]`
        dy: In,
        weight: WeightId,
        /// `[rows, inputs]`: the slope of the activation that made the layer's input, so that `dx` is the gradient
        /// before that activation. Not together with `+=`.
        slope: Option<In>,
        /// `[rows, inputs]`
        dx: Dest,
        /// Column sums of the final `dx`: the bias gradient of the layer below, fused.
        dbias: Sum,
    }

    /// `grad += dyᵀ·x`: the gradient of a linear layer's matrix, `[outputs, inputs]`. In no list that trains biases alone.
    WeightGrad {
        /// `[tokens, outputs]`
        dy: In,
        /// `[tokens, inputs]`
        x: In,
        grad: Sum,
    }

    /// Multi-head self-attention within each sequence: `out = dropout(softmax(q·kᵀ / √head_dim))·v`.
    Attention {
        /// `[tokens, 3·width]`: q, k and v side by side.
        qkv: In,
        heads: usize,
        dropout: Dropout,
        /// `[tokens, width]`
        out: Out,
        /// Log of the softmax's denominator, F32 `[heads, tokens]`.
        lse: Aside,
    }

    /// Backward of [`Attention`]; the probabilities are made again from q, k and lse. There is no gradient of the key's
    /// bias: softmax ignores a shift that all keys share, so it is zero (Namazifar et al., arXiv 2302.08626).
    AttentionBack {
        qkv: In,
        out: In,
        lse: In,
        /// `[tokens, width]`
        dout: In,
        heads: usize,
        dropout: Dropout,
        /// `[tokens, 3·width]`
        dqkv: Out,
        /// Column sums of dq, and of dv.
        dquery: Sum,
        dvalue: Sum,
    }

    /// [`Attention`] for the first token of each sequence alone, over the keys and values of all: what the last block
    /// needs where the head reads one token per sequence. Dropout's row is `sequence · heads + head`.
    FirstAttention {
        /// `[sequences, width]`
        query: In,
        /// `[tokens, 2·width]`: k and v side by side.
        key_value: In,
        heads: usize,
        dropout: Dropout,
        /// `[sequences, width]`
        out: Out,
        /// F32 `[sequences, heads]`
        lse: Aside,
    }

    /// Backward of [`FirstAttention`].
    FirstAttentionBack {
        query: In,
        key_value: In,
        lse: In,
        /// `[sequences, width]`
        dout: In,
        heads: usize,
        dropout: Dropout,
        /// `[sequences, width]`
        d_query: Out,
        /// `[tokens, 2·width]`
        d_key_value: Out,
        dquery: Sum,
        dvalue: Sum,
    }

    /// `out[s] = tokens[first token of s]`
    First {
        /// `[tokens, width]`
        tokens: In,
        /// `[sequences, width]`
        out: Out,
    }

    /// `tokens[first token of s] += first[s]`
    AddFirst {
        /// `[sequences, width]`
        first: In,
        /// `[tokens, width]`
        tokens: Over,
    }

    /// `x.now = LN(sum)`, `sum = residual + dropout(x.was)`
    ResidualNorm {
        x: Over,
        residual: In,
        dropout: Dropout,
        norm: Norm,
        /// Where the residual stream goes on beside the LayerNorm, as in pre-norm encoders.
        sum: Aside,
        /// `(sum - mean) · rstd`. Kept in place of the output: inverting `(y - β) / γ` loses precision where γ is small.
        x_hat: Aside,
        /// `1 / √(variance + eps)`, F32 `[tokens, 1]`. There with `x_hat`.
        rstd: Aside,
    }

    /// `out = γ·x̂ + β`: what a LayerNorm wrote in forward, from the x̂ that it kept whole.
    Restore {
        x_hat: In,
        norm: Norm,
        out: Out,
    }

    /// Backward of [`ResidualNorm`]: with `dz` the gradient of the sum, the residual's gradient is `dz` and the branch's
    /// `dropout′(dz)`.
    NormBack {
        x_hat: In,
        rstd: In,
        gamma: ParamRange,
        dropout: Dropout,
        /// From the gradient of the output to `dz`.
        dx: Over,
        /// The gradient of the sum from where that went on beside the LayerNorm.
        beside: Option<In>,
        /// The branch's gradient; none without dropout, where it is `dz` itself.
        branch: Option<Out>,
        /// Column sums of the incoming gradient.
        dbeta: Sum,
        /// Column sums of the branch's gradient: the bias gradient of the linear layer that made it.
        dbias: Sum,
    }

    /// `grad += column sums of dy ⊙ x̂`: the gradient of a LayerNorm's γ.
    GainGrad {
        dy: In,
        /// Stored whole.
        x_hat: In,
        grad: Sum,
    }

    /// `grad += column sums of dropout′(dy)`: a bias gradient where nothing below it is needed.
    ColumnSum {
        dy: In,
        dropout: Dropout,
        grad: Sum,
    }

    /// `out[s] = pool(x[tokens of s])`
    Pool {
        kind: PoolKind,
        /// `[tokens, width]`, or the first tokens alone, `[sequences, width]`, for [`PoolKind::Cls`].
        x: In,
        /// F32 `[sequences, width]`
        out: Out,
    }

    /// Backward of [`Pool`]: spreads the gradient of the pooled vectors over that of the hidden states, all of which is
    /// written. An F32 gradient becomes an activation here, so here a loss scale enters.
    PoolBack {
        kind: PoolKind,
        dy: In,
        dx: Out,
    }

    /// One layer of the task head, all in F32: `y = act(dropout(x)·Wᵀ + bias)`, act = tanh or none.
    Dense {
        /// `[sequences, inputs]`
        x: In,
        weight: HeadWeight,
        bias: ParamRange,
        dropout: Dropout,
        tanh: bool,
        /// `[sequences, outputs]`
        y: Out,
    }

    /// Backward of [`Dense`].
    DenseBack {
        x: In,
        y: In,
        weight: HeadWeight,
        dropout: Dropout,
        tanh: bool,
        /// From the gradient of `y` to that before the tanh.
        dy: Over,
        dx: Aside,
        dweight: Sum,
        dbias: Sum,
    }

    /// Adds the weighted losses of the batch's sequences to the step's loss.
    Loss {
        kind: LossKind,
        /// F32 `[sequences, outputs]`
        logits: In,
        dlogits: Aside,
    }

    /// Ends an optimizer step: one step of AdamW over all that trains.
    Update {}
}

impl Op {
    /// Whether something comes of it beside values and gradients.
    pub fn acts(&self) -> bool {
        matches!(self, Self::Zero(_) | Self::Loss(_) | Self::Update(_))
    }

    /// An input whose place an output may take where the input dies here: the gradient over the slope.
    pub fn may_share(&self) -> Option<(Value, Value)> {
        match self {
            Self::LinearBack(LinearBack {
                slope: Some(In(slope)), dx: Dest::New(Out(dx)), ..
            }) => Some((*slope, *dx)),
            _ => None,
        }
    }

    /// The value of another that it can be made from without its own inputs: a LayerNorm's output from its x̂.
    pub fn restores(&self) -> Option<(Value, Value, Norm)> {
        match self {
            Self::ResidualNorm(op) => op.x_hat.0.map(|x_hat| (op.x.now, x_hat, op.norm)),
            _ => None,
        }
    }

    /// The values that it reads.
    pub fn reads(&self) -> Vec<Value> {
        self.collect(|used| match used {
            Use::Read(value) | Use::Over(value, _) => Some(*value),
            Use::Write(_) | Use::Aside(_) | Use::Sum(_) => None,
        })
    }

    /// The values that it writes.
    pub fn writes(&self) -> Vec<Value> {
        self.collect(|used| match used {
            Use::Write(value) | Use::Over(_, value) => Some(*value),
            Use::Aside(value) => *value,
            Use::Read(_) | Use::Sum(_) => None,
        })
    }

    /// The gradients that it adds to.
    pub fn sums(&self) -> Vec<ParamRange> {
        self.collect(|used| match used {
            Use::Sum(range) => *range,
            _ => None,
        })
    }

    /// The pairs of which the second lies where the first lay.
    pub fn overs(&self) -> Vec<(Value, Value)> {
        self.collect(|used| match used {
            Use::Over(was, now) => Some((*was, *now)),
            _ => None,
        })
    }

    fn collect<T>(&self, wanted: impl Fn(Use<'_>) -> Option<T>) -> Vec<T> {
        let mut all = Vec::new();
        self.clone().visit(&mut |used| all.extend(wanted(used)));
        all
    }
}
