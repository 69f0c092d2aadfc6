//! Descriptions of the operations of a [`Backend`](super::Backend): what each reads, what it writes, in which shapes.
//! The conventions are those of the module above.

use super::{
    Activation, Dropout, HeadWeight, LossKind, Norm, ParamRange, PoolKind, Region, Rows, WeightId,
};

/// What makes one batch's dropout masks differ from another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DropoutKey {
    pub seed: u64,
    /// Counts the micro-batches of the run.
    pub step: u64,
}

/// Where LayerNorm leaves what its backward needs.
#[derive(Clone, Copy, Debug)]
pub struct SavedNorm {
    /// `(x - mean) · rstd`, `[tokens, hidden]`. Kept in place of the output: inverting `(y - β) / γ` loses
    /// precision where γ is small.
    pub x_hat: Region,
    pub stored: XHatType,
    /// `1 / sqrt(var + eps)`, f32 `[tokens]`.
    pub rstd: Region,
}

/// How a LayerNorm's x̂ is stored for its backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XHatType {
    /// The backend's activation type.
    Full,
    /// One signed byte c each: `x̂ = c·|c|·√hidden/127²`, with the root rounded to the nearest. No row of `hidden`
    /// normalised values leaves ±√hidden, and steps that grow with the root serve the many small values as well as the
    /// few outliers that BERT's rows have.
    Bits8,
}

impl XHatType {
    /// Bytes of one row of `hidden` values on a backend with activations of `element` bytes.
    pub fn row_bytes(self, hidden: usize, element: usize) -> usize {
        match self {
            Self::Full => hidden * element,
            Self::Bits8 => hidden,
        }
    }

    /// Bytes of a region for `rows` rows: whole 32-bit words.
    pub fn bytes(self, rows: usize, hidden: usize, element: usize) -> usize {
        (rows * self.row_bytes(hidden, element)).next_multiple_of(4)
    }

    /// What the square of a code of [`Self::Bits8`] is multiplied with.
    pub fn unit(hidden: usize) -> f32 {
        (hidden as f32).sqrt() / (127.0 * 127.0)
    }
}

/// `out = dropout(LN(word[id] + position[pos] + token_type[type]))`.
#[derive(Clone, Copy, Debug)]
pub struct EmbedForward {
    /// `[vocab, hidden]`
    pub word: WeightId,
    /// `[max_positions, hidden]`
    pub position: WeightId,
    /// `[type_vocab, hidden]`; RoBERTa stores one row, used for every token.
    pub token_type: WeightId,
    pub norm: Norm,
    pub dropout: Dropout,
    /// `[tokens, hidden]`
    pub out: Region,
}

/// `out = act(x·Wᵀ + bias)`.
#[derive(Clone, Copy, Debug)]
pub struct LinearForward<'a> {
    /// `[rows, in]`
    pub x: Region,
    /// `[out, in]`
    pub weight: WeightId,
    /// Parts of equal length which together are the bias `[out]` (Q, K and V of a fused product are three).
    pub bias: &'a [ParamRange],
    /// `[rows, out]`
    pub out: Region,
    pub rows: Rows,
    pub activation: Option<LinearActivation>,
}

/// The activation fused into a linear layer.
#[derive(Clone, Copy, Debug)]
pub struct LinearActivation {
    pub kind: Activation,
    pub output: ActivationOutput,
}

/// What a linear layer with an activation leaves.
#[derive(Clone, Copy, Debug)]
pub enum ActivationOutput {
    /// `out = act(z)`: nothing is needed for backward.
    Value,
    /// `out = act(z)`, and `act′(z)` beside it.
    Both(Derivative),
    /// `out = act′(z)` as an activation, and no value: backward makes again what was not kept.
    Derivative,
}

/// The derivative of an activation function, `[rows, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Derivative {
    pub region: Region,
    pub stored: DerivativeType,
}

/// How the derivative of an activation function is stored. The codes are linear, `d = (code - zero) · step`, rounded
/// to the nearest, over the range that GELU's derivative has (−0.129 to 1.129); 0 and 1, which are all the values of
/// ReLU's and the limits of GELU's, are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DerivativeType {
    /// The backend's activation type.
    Full,
    /// One byte each: step 1/200, zero 26.
    Bits8,
    /// Two to a byte, the even column in its low half, rows on whole bytes: step 1/11, zero 2, at most 15.
    Bits4,
}

impl DerivativeType {
    /// Bytes of one row of `width` derivatives on a backend with activations of `element` bytes.
    pub fn row_bytes(self, width: usize, element: usize) -> usize {
        match self {
            Self::Full => width * element,
            Self::Bits8 => width,
            Self::Bits4 => width.div_ceil(2),
        }
    }

    /// Bytes of a region for `rows` rows: whole 32-bit words.
    pub fn bytes(self, rows: usize, width: usize, element: usize) -> usize {
        (rows * self.row_bytes(width, element)).next_multiple_of(4)
    }
}

/// `dx = dy·W`, or `dx += dy·W`, or `dx = (dy·W) ⊙ derivative`. There is no dW.
#[derive(Clone, Copy, Debug)]
pub struct LinearBackward {
    /// `[rows, out]`
    pub dy: Region,
    /// `[out, in]`
    pub weight: WeightId,
    /// `[rows, in]`
    pub dx: Region,
    /// `dx += …` instead of `dx = …`. Not together with `derivative`.
    pub accumulate: bool,
    pub rows: Rows,
    /// Multiplies the product element by element: the derivative of the activation that made this layer's
    /// input, so that `dx` is the gradient before that activation. `dx` may be the derivative's own region where
    /// that is stored in full: the gradient then takes its place.
    pub derivative: Option<Derivative>,
    /// `+=` the column sums of the final `dx`: the bias gradient of the layer below, fused.
    pub dbias: Option<ParamRange>,
}

/// Multi-head self-attention within each sequence: `out = dropout(softmax(q·kᵀ / sqrt(head_dim)))·v`.
#[derive(Clone, Copy, Debug)]
pub struct AttentionForward {
    /// `[tokens, 3·hidden]`: q, k and v side by side.
    pub qkv: Region,
    /// `[tokens, hidden]`
    pub out: Region,
    /// Log of the softmax's denominator, f32 `[heads, tokens]`, if backward will need it.
    pub lse: Option<Region>,
    pub heads: usize,
    pub head_dim: usize,
    pub dropout: Dropout,
}

/// Backward of [`AttentionForward`]; the probabilities are recomputed from `qkv` and `lse`.
#[derive(Clone, Copy, Debug)]
pub struct AttentionBackward {
    pub qkv: Region,
    pub out: Region,
    pub lse: Region,
    /// `[tokens, hidden]`
    pub dout: Region,
    /// `[tokens, 3·hidden]`, overwritten.
    pub dqkv: Region,
    pub heads: usize,
    pub head_dim: usize,
    pub dropout: Dropout,
    /// `+=` column sums of dq. There is no `dbias_key`: softmax ignores a shift shared by all keys, so that
    /// gradient is zero (Namazifar et al., arXiv 2302.08626).
    pub dbias_query: Option<ParamRange>,
    /// `+=` column sums of dv.
    pub dbias_value: Option<ParamRange>,
}

/// `x = LN(residual + dropout(x))`, in place.
#[derive(Clone, Copy, Debug)]
pub struct ResidualNormForward {
    /// In: the branch `[tokens, hidden]`. Out: the normalised sum.
    pub x: Region,
    /// `[tokens, hidden]`, read only.
    pub residual: Region,
    pub dropout: Dropout,
    pub norm: Norm,
    pub saved: Option<SavedNorm>,
    /// Of every tensor here, as in all that follows: `tokens` in a shape then stands for sequences.
    pub rows: Rows,
}

/// `out = γ·x̂ + β`: what a LayerNorm wrote in forward, from the x̂ that it kept.
#[derive(Clone, Copy, Debug)]
pub struct NormRestore {
    /// `[tokens, hidden]`, stored in full.
    pub x_hat: Region,
    pub norm: Norm,
    /// `[tokens, hidden]`
    pub out: Region,
    pub rows: Rows,
}

/// Backward of [`ResidualNormForward`]: with `dz` the gradient of the sum before LayerNorm,
/// `d_residual = dz` and `d_branch = dropout′(dz)`.
#[derive(Clone, Copy, Debug)]
pub struct ResidualNormBackward {
    /// In: the gradient of the output `[tokens, hidden]`. Out: `dz`, the gradient of the residual.
    pub dx: Region,
    pub saved: SavedNorm,
    pub gamma: ParamRange,
    pub dropout: Dropout,
    /// `[tokens, hidden]`. `None` when there is no dropout: the branch's gradient is then `dx` itself.
    pub d_branch: Option<Region>,
    /// `+=` column sums of the incoming gradient.
    pub dbeta: Option<ParamRange>,
    /// `+=` column sums of the branch's gradient: the gradient of the bias of the linear layer that made it.
    pub dbias: Option<ParamRange>,
    pub rows: Rows,
}

/// `grad += column sums of dropout′(dy)`: a bias gradient where nothing below it is needed (the embedding
/// LayerNorm's β, or the lowest LayerNorm that trains).
#[derive(Clone, Copy, Debug)]
pub struct BiasGrad {
    /// `[tokens, width]`
    pub dy: Region,
    pub dropout: Dropout,
    pub grad: ParamRange,
    pub rows: Rows,
}

/// The first token of each sequence, beside all tokens.
#[derive(Clone, Copy, Debug)]
pub struct FirstTokens {
    pub hidden: usize,
    /// `[tokens, hidden]`
    pub tokens: Region,
    /// `[sequences, hidden]`
    pub first: Region,
}

/// [`AttentionForward`] for the first token of each sequence alone, over the keys and values of all: what the last block
/// needs where the head reads one token a sequence. Dropout's row is `sequence · heads + head`.
#[derive(Clone, Copy, Debug)]
pub struct FirstAttentionForward {
    /// `[sequences, hidden]`
    pub query: Region,
    /// `[tokens, 2·hidden]`: k and v side by side.
    pub key_value: Region,
    /// `[sequences, hidden]`
    pub out: Region,
    /// Log of the softmax's denominator, f32 `[sequences, heads]`, if backward will need it.
    pub lse: Option<Region>,
    pub heads: usize,
    pub head_dim: usize,
    pub dropout: Dropout,
}

/// Backward of [`FirstAttentionForward`].
#[derive(Clone, Copy, Debug)]
pub struct FirstAttentionBackward {
    pub query: Region,
    pub key_value: Region,
    pub lse: Region,
    /// `[sequences, hidden]`
    pub dout: Region,
    /// `[sequences, hidden]`, overwritten.
    pub d_query: Region,
    /// `[tokens, 2·hidden]`, overwritten.
    pub d_key_value: Region,
    pub heads: usize,
    pub head_dim: usize,
    pub dropout: Dropout,
    /// `+=` column sums of dq; as in [`AttentionBackward`] there is none for the key.
    pub dbias_query: Option<ParamRange>,
    /// `+=` column sums of dv.
    pub dbias_value: Option<ParamRange>,
}

/// `out[s] = pool(x[tokens of s])`; backward spreads `out`'s gradient over `x`'s.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    pub kind: PoolKind,
    pub hidden: usize,
    /// Hidden states, or their gradient (backward overwrites all of it): `[tokens, hidden]`, or of the first tokens
    /// alone, `[sequences, hidden]`, for [`PoolKind::Cls`].
    pub x: Region,
    /// Of `x`.
    pub rows: Rows,
    /// Pooled vectors, or their gradient: f32 `[sequences, hidden]`.
    pub pooled: Region,
}

/// One layer of the task head on pooled vectors, all f32: `y = act(dropout(x)·Wᵀ + b)`, act = tanh or none.
/// The same description serves forward and backward.
#[derive(Clone, Copy, Debug)]
pub struct Dense {
    /// f32 `[sequences, in]`
    pub x: Region,
    pub weight: HeadWeight,
    /// `[out]`
    pub bias: ParamRange,
    /// f32 `[sequences, out]`
    pub y: Region,
    pub inputs: usize,
    pub outputs: usize,
    pub dropout: Dropout,
    pub tanh: bool,
}

/// Backward of [`Dense`]. Where the weight is a trained [`HeadWeight::Param`] its gradient accumulates, and so
/// does that of the bias if it trains.
#[derive(Clone, Copy, Debug)]
pub struct DenseBackward {
    pub layer: Dense,
    /// In: gradient of `y`. Out: gradient before the tanh. f32 `[sequences, out]`
    pub dy: Region,
    /// f32 `[sequences, in]`, overwritten; `None` where nothing below trains.
    pub dx: Option<Region>,
}

/// Adds `weight · Σ_s loss_s` to the step's loss and, where asked, writes its gradient.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    pub kind: LossKind,
    /// f32 `[sequences, outputs]`
    pub logits: Region,
    pub outputs: usize,
    /// One over the number of sequences in the whole optimizer step: the step's loss is a mean.
    pub weight: f32,
    /// f32 `[sequences, outputs]`
    pub dlogits: Option<Region>,
}
