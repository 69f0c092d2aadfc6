//! The operations: about two dozen fused ones, each next to its backward.
//!
//! Adding one here makes both backends fail to compile until they support it; nothing else changes: the types of its
//! fields ([`operand`](super::operand)) tell a pass what it needs, the shapes behind them the verifier.
//!
//! Shapes are `[rows, width]` as in [`Info`](super::Info); `rows` are tokens or sequences. `act` is the backend's
//! activation type, `stream` its type for the residual stream, `either` one of the two, `head` is `stream` or `f32`,
//! `slope` and `x_hat` are `act` or codes. A linear layer's matrix is `[outputs, inputs]`, as Hugging Face stores it, and serves both `y = x·Wᵀ` and
//! `dx = dy·W`. A value is overwritten entirely unless its operand adds to it. Parameter gradients always accumulate;
//! [`Zero`] clears them.

use super::operand::{Aside, Dest, In, Operand, Out, Over, Sum, Use, Value};
use super::{
    Activation, AddedRows, Dropout, Entries, HeadWeight, LossKind, Norm, ParamRange, PoolKind,
    TableIds, Times, WeightId,
};

/// Makes a struct for each operation, and the enum [`Op`] over them. Each field is followed by its requirements: rows,
/// width and storage of a tensor, the length of a parameter, or a name for a number. Within an operation a name always
/// means the same number.
macro_rules! ops {
    ($(
        $(#[$doc:meta])*
        $name:ident {
            $($(#[$field_doc:meta])* $field:ident: $kind:ty $(= [$($dim:tt)*] $($stored:ident)?)?),* $(,)?
        }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Hash)]
            pub struct $name {
                $(
                    $(#[doc = concat!("`[", stringify!($($dim)*), "]` ", $(stringify!($stored))?)])?
                    $(#[$field_doc])*
                    pub $field: $kind
                ),*
            }

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

            /// Calls `f` with each field that has requirements, and those.
            pub(super) fn expect(&mut self, f: &mut dyn FnMut(Expected, &mut dyn Operand)) {
                match self {
                    $(Op::$name(op) => {
                        let _ = (&op, &f);
                        $($(f(
                            Expected {
                                field: stringify!($field),
                                shape: &[$(stringify!($dim)),*],
                                stored: concat!($(stringify!($stored))?),
                            },
                            &mut op.$field,
                        );)?)*
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

/// The requirements of an operation's field.
pub(super) struct Expected {
    pub field: &'static str,
    /// Rows, comma and width, or only a length; each is a product of names and numbers.
    pub shape: &'static [&'static str],
    /// The storage of a tensor.
    pub stored: &'static str,
}

ops! {
    /// Begins an optimizer step: zeroes all parameter gradients and the step's loss.
    Zero {}

    /// `out = dropout(LN(word[id] + position[pos] + token_type[type]))` for the batch's tokens.
    Embed {
        tables: TableIds,
        /// Entries added to the tables.
        added: Option<AddedRows>,
        norm: Norm = [width],
        dropout: Dropout,
        out: Out = [tokens, width] stream,
    }

    /// Backward of [`Embed`] if γ, and possibly the tables, train. Nothing was kept for it: x̂ is recomputed from the
    /// tables, which no step changes between its forward and its backward.
    EmbedBack {
        tables: TableIds,
        added: Option<AddedRows>,
        norm: Norm = [width],
        dropout: Dropout,
        /// From the gradient of the output to that of the tables' sum.
        dx: Over = [tokens, width] stream,
        /// Its rows get the gradients of their tokens, in token order.
        dword: Sum = [words * width],
        dposition: Sum = [positions * width],
        dtype: Sum = [types * width],
        /// For all entries added to the tables.
        dadded: Sum = [entries],
        dgamma: Sum = [width],
        dbeta: Sum = [width],
    }

    /// `out = act(x·Wᵀ + bias)`, `slope = act′(x·Wᵀ + bias)`.
    Linear {
        x: In = [rows, inputs] either,
        weight: WeightId,
        /// Parts of equal length (query, key and value of a fused product make three).
        bias: Vec<ParamRange> = [outputs],
        act: Option<Activation>,
        /// At least one of the two is present.
        out: Aside = [rows, outputs] either,
        /// If there is an activation.
        slope: Aside = [rows, outputs] slope,
    }

    /// `dx = (dy·W) ⊙ slope`, or `dx += dy·W`. There is no dW here: see [`WeightGrad`].
    LinearBack {
        dy: In = [rows, outputs] either,
        weight: WeightId,
        /// The slope of the activation that made the layer's input, so that `dx` is the gradient before that
        /// activation. Cannot be combined with `+=`.
        slope: Option<In> = [rows, inputs] slope,
        dx: Dest = [rows, inputs] either,
        /// Column sums of the final `dx`: the bias gradient of the layer below, fused.
        dbias: Sum = [inputs],
    }

    /// `y[to] += Σ value · x[from]` over the entries of a sparse matrix S: by rows `y += x·Sᵀ`, by columns
    /// `dx += dy·S`.
    SparseAdd {
        x: In = [rows, inputs] either,
        entries: Entries,
        values: ParamRange = [count],
        y: Over = [rows, outputs] either,
    }

    /// `grad[k] += Σ dy[row of k] · x[column of k]` over the rows of both: the gradient of the entries only.
    SparseGrad {
        dy: In = [rows, outputs] either,
        x: In = [rows, inputs] either,
        /// By rows.
        entries: Entries,
        grad: Sum = [count],
    }

    /// Writes `base + value` into single places of the parameter vector, which do not train themselves.
    SparseSet {
        values: ParamRange = [count],
        base: ParamRange = [count],
        /// Whole numbers: see [`Entries`].
        places: ParamRange = [count],
    }

    /// `grad[k] +=` the gradient at a place of the parameter vector, which is then zeroed: backward of [`SparseSet`].
    SparseTake {
        places: ParamRange = [count],
        grad: Sum = [count],
    }

    /// `out = act(x)`, `slope = act′(x)`.
    Activate {
        x: In = [rows, width] either,
        act: Activation,
        /// At least one of the two is present.
        out: Aside = [rows, width] act,
        slope: Aside = [rows, width] slope,
    }

    /// `dx ⊙= slope`: backward of [`Activate`].
    ActivateBack {
        slope: In = [rows, width] slope,
        dx: Over = [rows, width] act,
        /// Column sums of the final `dx`: the bias gradient of the layer below.
        dbias: Sum = [width],
    }

    /// `out = times · dropout(x[from.., of each row])`: takes some columns.
    TakeColumns {
        x: In = [rows, width] either,
        from: usize,
        times: Times,
        dropout: Dropout,
        out: Out = [rows, taken] act,
    }

    /// `y[from.., of each row] += times · dropout(x)`: adds to some columns.
    AddColumns {
        x: In = [rows, taken] either,
        from: usize,
        times: Times,
        dropout: Dropout,
        y: Over = [rows, width] either,
    }

    /// `out = x` with each of its last columns multiplied by a factor.
    Scale {
        x: In = [rows, width] act,
        factor: ParamRange = [scaled],
        out: Out = [rows, width] act,
    }

    /// Backward of [`Scale`]: overwrites the gradient of its output with that of its input.
    ScaleBack {
        dx: Over = [rows, width] act,
        /// What was scaled.
        x: In = [rows, width] act,
        factor: ParamRange = [scaled],
        /// The slope of the activation that made `x`, so that `dx` is the gradient before that activation. If given,
        /// all columns have factors.
        slope: Option<In> = [rows, width] slope,
        /// Column sums of the incoming gradient ⊙ x.
        dfactor: Sum = [scaled],
    }

    /// `grad += dyᵀ·x`: the gradient of a linear layer's matrix. Absent from lists that train only biases.
    WeightGrad {
        dy: In = [rows, outputs] either,
        x: In = [rows, inputs] either,
        grad: Sum = [outputs * inputs],
    }

    /// Multi-head self-attention within each sequence: `out = dropout(softmax(q·kᵀ / √head_dim))·v`.
    Attention {
        /// q, k and v side by side.
        qkv: In = [tokens, 3 * width] act,
        heads: usize = [heads],
        dropout: Dropout,
        out: Out = [tokens, width] act,
        /// Log of the softmax's denominator, laid out as `[heads, tokens]`.
        lse: Aside = [tokens, heads] f32,
    }

    /// Backward of [`Attention`]; recomputes the probabilities from q, k and lse. The key's bias has no gradient here:
    /// softmax ignores a shift that all keys share, so it is zero (Namazifar et al., arXiv 2302.08626).
    AttentionBack {
        qkv: In = [tokens, 3 * width] act,
        out: In = [tokens, width] act,
        lse: In = [tokens, heads] f32,
        dout: In = [tokens, width] act,
        heads: usize = [heads],
        dropout: Dropout,
        dqkv: Out = [tokens, 3 * width] act,
        /// Column sums of dq and of dv.
        dquery: Sum = [width],
        dvalue: Sum = [width],
    }

    /// [`Attention`] for only the first token of each sequence, over the keys and values of all tokens: all the last
    /// block needs if the head reads one token per sequence. Dropout's row is `sequence · heads + head`.
    FirstAttention {
        query: In = [sequences, width] act,
        /// k and v side by side.
        key_value: In = [tokens, 2 * width] act,
        heads: usize = [heads],
        dropout: Dropout,
        out: Out = [sequences, width] act,
        lse: Aside = [sequences, heads] f32,
    }

    /// Backward of [`FirstAttention`].
    FirstAttentionBack {
        query: In = [sequences, width] act,
        key_value: In = [tokens, 2 * width] act,
        lse: In = [sequences, heads] f32,
        dout: In = [sequences, width] act,
        heads: usize = [heads],
        dropout: Dropout,
        d_query: Out = [sequences, width] act,
        d_key_value: Out = [tokens, 2 * width] act,
        dquery: Sum = [width],
        dvalue: Sum = [width],
    }

    /// `out[s] = tokens[first token of s]`
    First {
        tokens: In = [tokens, width] stream,
        out: Out = [sequences, width] stream,
    }

    /// `tokens[first token of s] += first[s]`
    AddFirst {
        first: In = [sequences, width] stream,
        tokens: Over = [tokens, width] stream,
    }

    /// `x.now = LN(sum)`, `sum = residual + dropout(x.was)`
    ResidualNorm {
        x: Over = [rows, width] stream,
        residual: In = [rows, width] stream,
        dropout: Dropout,
        norm: Norm = [width],
        /// If the residual stream continues next to the LayerNorm, as in pre-norm encoders.
        sum: Aside = [rows, width] stream,
        /// `(sum - mean) · rstd`. Kept instead of the output: inverting `(y - β) / γ` loses precision if γ is small.
        x_hat: Aside = [rows, width] x_hat,
        /// `1 / √(variance + eps)`. Present together with `x_hat`.
        rstd: Aside = [rows, 1] f32,
    }

    /// `out = γ·x̂ + β`: a LayerNorm's forward output, from x̂ kept at full precision.
    Restore {
        x_hat: In = [rows, width] act,
        norm: Norm = [width],
        out: Out = [rows, width] stream,
    }

    /// Backward of [`ResidualNorm`]: with `dz` the gradient of the sum, the residual's gradient is `dz` and the
    /// branch's is `dropout′(dz)`.
    NormBack {
        x_hat: In = [rows, width] x_hat,
        rstd: In = [rows, 1] f32,
        gamma: ParamRange = [width],
        dropout: Dropout,
        /// From the gradient of the output to `dz`.
        dx: Over = [rows, width] stream,
        /// The gradient of the sum where it bypassed the LayerNorm.
        beside: Option<In> = [rows, width] stream,
        /// The branch's gradient; absent without dropout, when it is `dz` itself.
        branch: Option<Out> = [rows, width] stream,
        /// Column sums of the incoming gradient.
        dbeta: Sum = [width],
        /// Column sums of the branch's gradient: the bias gradient of the linear layer that made it.
        dbias: Sum = [width],
    }

    /// `grad += column sums of dy ⊙ x̂`: the gradient of a LayerNorm's γ.
    GainGrad {
        dy: In = [rows, width] stream,
        x_hat: In = [rows, width] x_hat,
        grad: Sum = [width],
    }

    /// `grad += column sums of dropout′(dy)`: a bias gradient if nothing below it is needed.
    ColumnSum {
        dy: In = [rows, width] stream,
        dropout: Dropout,
        grad: Sum = [width],
    }

    /// `out[s] = pool(x[tokens of s])`. Absent if hidden states are pooled already: see [`PoolKind::needs_nothing`].
    Pool {
        kind: PoolKind,
        x: In = [tokens, width] stream,
        /// One row per sequence, or for [`PoolKind::Labelled`] one per labelled token.
        out: Out = [pooled, width] f32,
    }

    /// Backward of [`Pool`]: spreads the gradient of the pooled vectors over that of the hidden states, writing all of
    /// it. If an F32 gradient becomes one of the stream, here or in [`DenseBack`], the loss scale is applied.
    PoolBack {
        kind: PoolKind,
        dy: In = [pooled, width] f32,
        dx: Out = [tokens, width] stream,
    }

    /// One layer of the task head, in F32: `y = act(dropout(x)·Wᵀ + bias)`, act = tanh or none.
    Dense {
        /// Pooled vectors, the output of the layer below, or hidden states themselves.
        x: In = [rows, inputs] head,
        weight: HeadWeight = [outputs * inputs],
        bias: ParamRange = [outputs],
        dropout: Dropout,
        tanh: bool,
        y: Out = [rows, outputs] f32,
    }

    /// Backward of [`Dense`], from the gradient before its tanh.
    DenseBack {
        x: In = [rows, inputs] head,
        weight: HeadWeight = [outputs * inputs],
        dropout: Dropout,
        /// `x` is the output of the tanh of the layer below: `dx` is the gradient before it.
        tanh: bool,
        dy: In = [rows, outputs] f32,
        /// Stored as `x`.
        dx: Aside = [rows, inputs] head,
        dweight: Sum = [outputs * inputs],
        dbias: Sum = [outputs],
    }

    /// `y = LN(act(x))`: what comes between the two products of a masked-words head.
    ActNorm {
        x: In = [rows, width] f32,
        act: Activation,
        norm: Norm = [width],
        y: Out = [rows, width] f32,
    }

    /// Backward of [`ActNorm`], which recomputes what it needs from `x`.
    ActNormBack {
        x: In = [rows, width] f32,
        act: Activation,
        norm: Norm = [width],
        /// From the gradient of `y` to that of `x`.
        dx: Over = [rows, width] f32,
        dbeta: Sum = [width],
    }

    /// Adds the weighted losses of the batch's targets to the step's loss.
    Loss {
        kind: LossKind,
        /// Factors on the losses of each class.
        class_weights: Option<ParamRange> = [outputs],
        logits: In = [rows, outputs] f32,
        dlogits: Aside = [rows, outputs] f32,
    }

    /// Ends an optimizer step: one AdamW step over everything that trains.
    Update {}
}

impl Op {
    /// Whether it has effects other than values and gradients.
    pub fn acts(&self) -> bool {
        matches!(self, Self::Zero(_) | Self::SparseSet(_) | Self::Loss(_) | Self::Update(_))
    }

    /// An input whose place an output may take if the input dies here: the gradient takes the slope's.
    pub fn may_share(&self) -> Option<(Value, Value)> {
        match self {
            Self::LinearBack(LinearBack {
                slope: Some(In(slope)), dx: Dest::New(Out(dx)), ..
            }) => Some((*slope, *dx)),
            _ => None,
        }
    }

    /// Another value that its output can be made from without its own inputs: a LayerNorm's output from its x̂.
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

    /// Pairs whose second value takes the place of the first.
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
