//! The words in which operations are described: memory that they name, and the mathematics that they choose.

use anyhow::{Result, ensure};
use std::hash::{Hash, Hasher};

/// A range of bytes in the arena, sized for the largest batch; a smaller batch uses its first rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Region {
    /// Bytes from the start of the arena.
    pub offset: usize,
    /// Length in bytes.
    pub len: usize,
}

impl Region {
    pub fn overlaps(self, other: Self) -> bool {
        self.offset < other.offset + other.len && other.offset < self.offset + self.len
    }
}

/// A range of the flat f32 parameter vector, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParamRange {
    pub offset: usize,
    pub len: usize,
}

impl ParamRange {
    /// One past its last element.
    pub fn end(self) -> usize {
        self.offset + self.len
    }
}

/// A matrix held by the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightId(pub usize);

/// The tables of the embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TableIds {
    /// `[vocabulary, width]`
    pub word: WeightId,
    /// `[positions, width]`
    pub position: WeightId,
    /// `[types, width]`; RoBERTa has one row, used for every token.
    pub token_type: WeightId,
}

impl TableIds {
    pub fn ids(self) -> [WeightId; 3] {
        [self.word, self.position, self.token_type]
    }
}

/// How many rows a tensor has, resolved against the current batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rows {
    /// One per token.
    Tokens,
    /// One per sequence.
    Sequences,
    /// One per labelled token of a batch, in their order; there is room for so many.
    Labelled(Portion),
}

/// The most labelled tokens of a batch: so many thousandths of its tokens, and one more per sequence. A row that is
/// labelled in part always has one, and the number of the others is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Portion {
    pub thousandths: u16,
}

impl Portion {
    /// Every token may have a label.
    pub const ALL: Self = Self { thousandths: 1000 };

    /// The least that holds this share.
    pub fn of(share: f64) -> Self {
        Self { thousandths: (share.clamp(0.0, 1.0) * 1000.0).ceil() as u16 }
    }

    fn rows(self, limits: Limits) -> usize {
        let part = usize::from(self.thousandths.min(1000));
        let whole = limits.tokens / 1000 * part;
        let rest = (limits.tokens % 1000 * part).div_ceil(1000);
        (whole + rest).saturating_add(limits.sequences).min(limits.tokens)
    }
}

/// Upper bounds of a batch's shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Tokens in all sequences together.
    pub tokens: usize,
    /// Number of sequences.
    pub sequences: usize,
    /// Tokens in the longest sequence.
    pub max_len: usize,
}

impl Limits {
    pub fn rows(self, rows: Rows) -> usize {
        match rows {
            Rows::Tokens => self.tokens,
            Rows::Sequences => self.sequences,
            Rows::Labelled(portion) => portion.rows(self),
        }
    }

    /// The least that holds what each of two holds.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.max(other.tokens),
            sequences: self.sequences.max(other.sequences),
            max_len: self.max_len.max(other.max_len),
        }
    }
}

/// Bytes of an element on a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementBytes {
    /// Of [`Storage::Activation`].
    pub activation: usize,
    /// Of [`Storage::Stream`].
    pub stream: usize,
}

impl ElementBytes {
    /// The same for both.
    pub const fn all(bytes: usize) -> Self {
        Self { activation: bytes, stream: bytes }
    }
}

/// How a tensor is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// The backend's activation type: what products read and what is kept for backward.
    Activation,
    /// The residual stream and its gradient, in which the errors of all layers add up: a backend may have more bits for it
    /// than for other activations.
    Stream,
    F32,
    /// A LayerNorm's x̂ in one signed byte c each: `x̂ = c·|c|·√width/127²`, with the root rounded to the nearest. No row
    /// of normalised values leaves ±√width, and steps that grow with the root serve the many small values as well as
    /// the few outliers that BERT's rows have.
    XHat8,
    /// An activation function's derivative in one byte each. The codes are linear, `d = (code - zero) · step`, rounded
    /// to the nearest, over the range that GELU's derivative has (−0.129 to 1.129); 0 and 1, which are all the values
    /// of ReLU's and the limits of GELU's, are exact. Here the step is 1/200 and the zero 26.
    Slope8,
    /// As [`Self::Slope8`], two to a byte, the even column in its low half, rows on whole bytes: step 1/11, zero 2, at
    /// most 15.
    Slope4,
}

impl Storage {
    /// Bytes of one row on a backend with elements of so many bytes.
    pub fn row_bytes(self, width: usize, element: ElementBytes) -> usize {
        match self {
            Self::Activation => width * element.activation,
            Self::Stream => width * element.stream,
            Self::F32 => width * size_of::<f32>(),
            Self::XHat8 | Self::Slope8 => width,
            Self::Slope4 => width.div_ceil(2),
        }
    }

    /// Bytes of a tensor: whole 32-bit words.
    pub fn bytes(self, rows: usize, width: usize, element: ElementBytes) -> usize {
        (rows * self.row_bytes(width, element)).next_multiple_of(4)
    }

    /// What the square of a code of [`Self::XHat8`] is multiplied with.
    pub fn x_hat_unit(width: usize) -> f32 {
        (width as f32).sqrt() / (127.0 * 127.0)
    }
}

/// Makes [`What`] and the names of its variants.
macro_rules! what {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What a tensor is: its name in a listing, and what [`Saving`](super::Saving) goes by.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum What { $($(#[$doc])* $variant),* }

        impl What {
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

impl What {
    /// Whether it belongs to the task head, whose tensors have one row per sequence.
    pub fn of_head(self) -> bool {
        matches!(self, Self::Pooled | Self::Head | Self::Logits)
    }
}

what! {
    /// The output of the embeddings. Never kept for backward where it can be looked up once more.
    Embeddings = "embeddings",
    /// The output of a LayerNorm. Never kept for backward where its x̂ is.
    Hidden = "hidden",
    /// Query, key and value side by side, or key and value alone: with what attention makes of it, this can be made
    /// again from the block's input.
    Qkv = "qkv",
    /// Log of the softmax's denominator.
    Lse = "lse",
    /// Attention's output.
    Attended = "attended",
    /// The same of the first tokens alone: too little to make again.
    FirstQuery = "first query",
    FirstLse = "first lse",
    FirstAttended = "first attended",
    XHat = "x_hat",
    Rstd = "rstd",
    /// An activation function's derivative.
    Slope = "slope",
    /// An activation function's value.
    Inner = "inner",
    /// What an activation function takes, where something is added to the product before it.
    Before = "before",
    /// Inside a product of low rank.
    LowRank = "low rank",
    /// Of a linear layer, before a LayerNorm takes its place.
    Product = "product",
    /// One row per sequence from the encoder's last hidden states.
    Pooled = "pooled",
    /// Inside the task head.
    Head = "head",
    Logits = "logits",
    /// Of any of the above.
    Gradient = "gradient",
}

/// What is known of a value: a `[rows, width]` tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Info {
    pub what: What,
    /// Whose forward or backward makes it.
    pub block: Option<u16>,
    pub rows: Rows,
    pub width: usize,
    pub storage: Storage,
}

/// Activation function of the feed-forward block (`hidden_act` in Hugging Face configurations).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x · Φ(x)` with the error function: `gelu`.
    GeluErf,
    /// The tanh approximation: `gelu_new`, `gelu_pytorch_tanh`.
    GeluTanh,
    Relu,
}

/// Dropout at one place of the network. `p == 0` is exactly the identity.
///
/// Backward regenerates the mask: element `(row, col)` has half `col % 2` (0: the low one) of word `col % 8 / 2` of the
/// Philox4x32-10 block with counter `[col / 8, row, site, step]` and the seed as key. It is kept where that half is not below
/// [`Dropout::dropped`]. So one block serves eight elements, and `p` counts in units of 2⁻¹⁶. A row is a row of the tensor: a token, or a sequence where the tensor has a row for each; in attention it is
/// `token · heads + head` of the query, and the column is the key's place in its sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of zeroing an element.
    pub p: f32,
    /// Distinguishes the places of the network: it belongs to an application, not to the weights.
    pub site: u32,
}

impl Dropout {
    pub const NONE: Self = Self { p: 0.0, site: 0 };

    /// How many of the 2¹⁶ values of a half word zero their element: `p` rounded, though never to nothing or to everything.
    pub fn dropped(self) -> u32 {
        match f64::from(self.p) {
            p if p <= 0.0 => 0,
            p if p >= 1.0 => HALVES,
            p => ((p * f64::from(HALVES)).round() as u32).clamp(1, HALVES - 1),
        }
    }

    /// What kept elements are multiplied with, so that their mean stays; 0 where none is kept.
    pub fn keep(self) -> f32 {
        match HALVES - self.dropped() {
            0 => 0.0,
            kept => (f64::from(HALVES) / f64::from(kept)) as f32,
        }
    }
}

/// The values of a half word.
const HALVES: u32 = 1 << 16;

impl Hash for Dropout {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.p.to_bits(), self.site).hash(state);
    }
}

/// A number that something is multiplied with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times(pub f32);

impl Hash for Times {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// LayerNorm parameters (`LayerNorm.weight`, `LayerNorm.bias`), each `[width]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    pub gamma: ParamRange,
    pub beta: ParamRange,
    pub eps: f32,
}

impl Hash for Norm {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.gamma, self.beta, self.eps.to_bits()).hash(state);
    }
}

/// How a sequence's hidden states become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// The first token's.
    Cls,
    /// The mean of all tokens of the sequence.
    Mean,
    /// It does not: each token keeps its own.
    Each,
    /// It does not, and the labelled tokens alone go on.
    Labelled(Portion),
}

impl PoolKind {
    /// The rows of what is pooled.
    pub fn rows(self) -> Rows {
        match self {
            Self::Cls | Self::Mean => Rows::Sequences,
            Self::Each => Rows::Tokens,
            Self::Labelled(portion) => Rows::Labelled(portion),
        }
    }

    /// Holds the rows of hidden states and of what becomes of them against this way of pooling.
    ///
    /// # Errors
    /// When rows are pooled that are not there, or the result has others.
    pub fn check(self, hidden: Rows, pooled: Rows) -> Result<()> {
        ensure!(
            hidden == Rows::Tokens || self == Self::Cls,
            "{self:?}: all tokens are asked for, and the first alone are there"
        );
        ensure!(pooled == self.rows(), "{self:?}: the result has {pooled:?}");
        Ok(())
    }
}

/// The matrix of a layer of the task head: `[out, in]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeadWeight {
    /// Comes from the checkpoint and stays as it is (BERT's pooler).
    Frozen(WeightId),
    /// Trains with the biases.
    Param(ParamRange),
}

/// What the logits are compared with; the labels are the batch's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossKind {
    /// Softmax cross-entropy over the logits of a row, which is a sequence or a token.
    CrossEntropy,
    /// `(logit - label)²` of each output.
    MeanSquared,
    /// Sigmoid cross-entropy of each output, whose label is between 0 and 1
    /// (`torch.nn.BCEWithLogitsLoss`).
    Binary,
    /// Two outputs per token: softmax cross-entropy of each over the tokens of a sequence, against the token where a span
    /// starts and the one where it ends (`BertForQuestionAnswering`).
    Span,
}

impl LossKind {
    /// Holds what a loss is taken of against its kind.
    ///
    /// # Errors
    /// Logits of other rows or another width, or weights of classes where there are none.
    pub fn check(self, logits: &Info, class_weights: bool) -> Result<()> {
        let Info { rows, width, .. } = *logits;
        let fits = match self {
            Self::CrossEntropy => true,
            Self::MeanSquared | Self::Binary => rows == Rows::Sequences,
            Self::Span => rows == Rows::Tokens && width == 2,
        };
        ensure!(fits, "{self:?} of [{rows:?}, {width}]");
        let weighted = self == Self::CrossEntropy && !matches!(rows, Rows::Labelled(_));
        ensure!(!class_weights || weighted, "{self:?} of {rows:?} with weights of classes");
        Ok(())
    }
}

/// AdamW (Loshchilov & Hutter, 2019; `torch.optim.AdamW`) over the whole trainable vector, after clipping its
/// gradient to a global norm. A step whose gradient is not finite changes nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    pub lr: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    pub weight_decay: f32,
    /// 0 switches clipping off.
    pub clip_norm: f32,
    /// Counts from 1; corrects the moments' bias.
    pub step: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropout_counts_in_half_words_and_keeps_the_mean() {
        let of = |p| Dropout { p, site: 0 };
        for (p, dropped) in [(0.0, 0), (0.1, 6554), (0.5, 1 << 15), (1.0, 1 << 16)] {
            assert_eq!(of(p).dropped(), dropped, "{p}");
        }
        // What is asked for never becomes nothing, or everything.
        assert_eq!(of(1e-7).dropped(), 1);
        assert_eq!(of(1.0f32.next_down()).dropped(), (1 << 16) - 1);
        assert_eq!(of(0.0).keep(), 1.0);
        assert_eq!(of(1.0).keep(), 0.0);
        assert_eq!(of(0.1).keep(), 65_536.0 / 58_982.0);
    }
}
