//! Full fine-tuning: what it adds to the bias-only model.
//!
//! The encoder's forward and the gradients that flow through it are those of bias-only training. On top, backward
//! stops at each matrix, LayerNorm and table for its gradient ([`WeightHooks`]). A matrix's gradient needs its
//! layer's input: the activation's output and the attention's are kept; a LayerNorm's output is computed again
//! from x̂, which is kept anyway, and the embeddings' from the tables.

use super::Model;
use super::Program;
use super::layer::Layer;
use super::rehearsal::{BackwardTensors, ForwardTensors, NormTensors};
use super::saving::Restored;
use crate::backend::plan::Plan;
use crate::backend::weight_gradients::{
    EmbedBackward, GainGrad, TrainedTable, WeightGrad, WeightGradients,
};
use crate::backend::{Backend, Norm, ParamRange, Region};
use anyhow::{Context, Result};

/// Where the trained matrices lie in the parameter vector.
#[derive(Clone, Debug)]
pub struct Matrices {
    pub word: ParamRange,
    pub position: ParamRange,
    pub token_type: ParamRange,
    /// First layer first.
    pub layers: Vec<LayerMatrices>,
}

/// Those of one block.
#[derive(Clone, Copy, Debug)]
pub struct LayerMatrices {
    /// Query, key and value, one after the other.
    pub qkv: ParamRange,
    pub attention_output: ParamRange,
    pub intermediate: ParamRange,
    pub output: ParamRange,
}

/// The places of a block's backward pass where a weight gradient can be taken: each method is called with the
/// gradient of its layer's output, before that is overwritten.
pub trait WeightHooks<B> {
    fn output_norm(&mut self, _: &mut B, _dy: Region) -> Result<()> {
        Ok(())
    }
    fn output(&mut self, _: &mut B, _dy: Region) -> Result<()> {
        Ok(())
    }
    fn intermediate(&mut self, _: &mut B, _dy: Region) -> Result<()> {
        Ok(())
    }
    fn attention_norm(&mut self, _: &mut B, _dy: Region) -> Result<()> {
        Ok(())
    }
    fn attention_output(&mut self, _: &mut B, _dy: Region) -> Result<()> {
        Ok(())
    }
    fn qkv(&mut self, _: &mut B, _dy: Region) -> Result<()> {
        Ok(())
    }
}

/// Every weight is frozen: there is nothing to do at any of those places.
pub struct Frozen;

impl<B> WeightHooks<B> for Frozen {}

const UNPLANNED: &str = "this pass was not planned for weight gradients";

/// Every weight of a block trains.
struct Trained<'a> {
    plan: &'a Plan,
    layer: &'a Layer,
    forward: &'a ForwardTensors,
    backward: &'a BackwardTensors,
    matrices: LayerMatrices,
}

impl Trained<'_> {
    fn gain<B: WeightGradients>(
        &self,
        backend: &mut B,
        norm: Norm,
        x_hat: Region,
        dy: Region,
    ) -> Result<()> {
        backend.gain_grad(GainGrad {
            dy,
            x_hat,
            grad: norm.gamma,
        })
    }

    fn weight<B: WeightGradients>(
        &self,
        backend: &mut B,
        grad: ParamRange,
        [outputs, inputs]: [usize; 2],
        x: Region,
        dy: Region,
    ) -> Result<()> {
        backend.weight_grad(WeightGrad {
            dy,
            x,
            grad,
            inputs,
            outputs,
        })
    }

    /// A layer's input, made again.
    fn input<B: Backend>(&self, backend: &mut B, input: Option<Restored>) -> Result<Region> {
        let input = input.context(UNPLANNED)?;
        input.run(backend, self.plan)?;
        Ok(self.plan.region(input.tensor))
    }

    fn x_hat(&self, norm: Option<NormTensors>) -> Result<Region> {
        let norm = norm.context(UNPLANNED)?;
        Ok(self.plan.region(norm.x_hat))
    }
}

impl<B: WeightGradients> WeightHooks<B> for Trained<'_> {
    fn output_norm(&mut self, backend: &mut B, dy: Region) -> Result<()> {
        let x_hat = self.x_hat(self.forward.output_norm)?;
        self.gain(backend, self.layer.output_norm, x_hat, dy)
    }

    fn output(&mut self, backend: &mut B, dy: Region) -> Result<()> {
        let shape = [self.layer.shape.hidden, self.layer.shape.intermediate];
        let x = self.plan.region(self.forward.inner);
        self.weight(backend, self.matrices.output, shape, x, dy)
    }

    fn intermediate(&mut self, backend: &mut B, dy: Region) -> Result<()> {
        let shape = [self.layer.shape.intermediate, self.layer.shape.hidden];
        let x = self.input(backend, self.backward.middle_of_weights)?;
        self.weight(backend, self.matrices.intermediate, shape, x, dy)
    }

    fn attention_norm(&mut self, backend: &mut B, dy: Region) -> Result<()> {
        let x_hat = self.x_hat(self.forward.attention_norm)?;
        self.gain(backend, self.layer.attention_norm, x_hat, dy)
    }

    fn attention_output(&mut self, backend: &mut B, dy: Region) -> Result<()> {
        let hidden = self.layer.shape.hidden;
        let attention = self.backward.attention.context(UNPLANNED)?;
        let x = self.plan.region(attention.context);
        self.weight(
            backend,
            self.matrices.attention_output,
            [hidden, hidden],
            x,
            dy,
        )
    }

    fn qkv(&mut self, backend: &mut B, dy: Region) -> Result<()> {
        let hidden = self.layer.shape.hidden;
        let x = self.input(backend, self.backward.input_of_weights)?;
        self.weight(backend, self.matrices.qkv, [3 * hidden, hidden], x, dy)
    }
}

impl Model {
    /// As [`Model::backward`], for a model whose every weight trains.
    ///
    /// # Errors
    /// When it was not loaded as one.
    pub fn backward_full<B: WeightGradients>(
        &self,
        backend: &mut B,
        program: &Program,
    ) -> Result<()> {
        let matrices = self
            .trained
            .as_ref()
            .context("the model was loaded with frozen matrices")?;
        let dx = self.layers_backward(backend, program, |i, backward| Trained {
            plan: &program.plan,
            layer: &self.layers[i],
            forward: &program.forward[i],
            backward,
            matrices: matrices.layers[i],
        })?;
        let embeddings = self.embeddings;
        backend.embed_backward(EmbedBackward {
            word: TrainedTable {
                weight: embeddings.word,
                grad: matrices.word,
            },
            position: TrainedTable {
                weight: embeddings.position,
                grad: matrices.position,
            },
            token_type: TrainedTable {
                weight: embeddings.token_type,
                grad: matrices.token_type,
            },
            norm: embeddings.norm,
            dropout: embeddings.dropout,
            dx: dx.context("this pass was planned without a backward")?,
        })
    }
}
