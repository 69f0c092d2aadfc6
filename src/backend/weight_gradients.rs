//! What full fine-tuning asks of a device beyond [`Backend`]: gradients of matrices, gains and tables.
//!
//! Code that trains biases and a head is generic over [`Backend`] alone and so cannot call anything here: that no
//! weight gradient exists for it is a matter of types. The conventions are those of [`Backend`].
//!
//! A trained matrix lies in the parameter vector, with gradient and moments beside it like every other trained
//! value. [`WeightGradients::trained_matrix`] gives it the [`WeightId`] by which the ordinary operations read it.

use super::{Backend, Dropout, Norm, ParamRange, Region, WeightId};
use anyhow::Result;

/// `grad += dyᵀ·x`: the gradient of the matrix of a linear layer over the batch's tokens.
#[derive(Clone, Copy, Debug)]
pub struct WeightGrad {
    /// `[tokens, outputs]`
    pub dy: Region,
    /// The layer's input, `[tokens, inputs]`.
    pub x: Region,
    /// `[outputs, inputs]`
    pub grad: ParamRange,
    pub inputs: usize,
    pub outputs: usize,
}

/// `grad += column sums of dy ⊙ x̂`: the gradient of a LayerNorm's γ.
#[derive(Clone, Copy, Debug)]
pub struct GainGrad {
    /// The gradient of the LayerNorm's output, `[tokens, width]`.
    pub dy: Region,
    /// `[tokens, width]`, stored in full.
    pub x_hat: Region,
    /// `[width]`
    pub grad: ParamRange,
}

/// An embedding table that trains.
#[derive(Clone, Copy, Debug)]
pub struct TrainedTable {
    pub weight: WeightId,
    pub grad: ParamRange,
}

/// Backward of [`EmbedForward`](super::EmbedForward). Nothing was kept for it: x̂ is computed again from the tables,
/// which no step changes between its forward and its backward.
#[derive(Clone, Copy, Debug)]
pub struct EmbedBackward {
    /// Its rows get `+=` the gradients of the tokens that they stand for, in the order of the tokens.
    pub word: TrainedTable,
    pub position: TrainedTable,
    pub token_type: TrainedTable,
    /// γ and β get `+=` their gradients.
    pub norm: Norm,
    pub dropout: Dropout,
    /// In: the gradient of the embeddings' output `[tokens, hidden]`. Out: that of the tables' sum.
    pub dx: Region,
}

/// See the module's head.
pub trait WeightGradients: Backend {
    /// Makes a row-major `[rows, cols]` matrix out of `range`, which must train and hold `rows · cols` values.
    /// The backend may keep a working copy in its compute type; it follows the values through
    /// [`Backend::write_params`] and [`Backend::adamw`].
    fn trained_matrix(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
        range: ParamRange,
    ) -> Result<WeightId>;

    fn weight_grad(&mut self, op: WeightGrad) -> Result<()>;
    fn gain_grad(&mut self, op: GainGrad) -> Result<()>;
    fn embed_backward(&mut self, op: EmbedBackward) -> Result<()>;
}
