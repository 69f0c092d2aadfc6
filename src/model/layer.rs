//! One transformer block, post-LayerNorm as in BERT: its forward and its backward side by side.
//!
//! ```text
//! h  = LN₁(x + drop(W_o · attention(W_qkv·x + b) + b))
//! x' = LN₂(h + drop(W_2 · act(W_1·h + b) + b))
//! ```
//!
//! Where only biases train no operation here needs its input kept: backward needs the attention's q, k, v, output
//! and log-sum-exp, the activation's derivative, and each LayerNorm's x̂ and rstd, and of those only what lies
//! above the lowest bias that trains ([`Needs`]). What full fine-tuning needs on top is in [`super::full`]. How much of it is kept, and what is made again, is
//! [`Saving`](super::saving::Saving); the tensors' lifetimes are in [`rehearsal`](super::rehearsal).

use super::full::WeightHooks;
use super::params::Params;
use super::rehearsal::{BackwardTensors, ForwardTensors, NormTensors};
use crate::backend::plan::{Plan, TensorId};
use crate::backend::{
    Activation, ActivationOutput, AttentionBackward, AttentionForward, Backend, BiasGrad, Dropout,
    LinearActivation, LinearBackward, LinearForward, Norm, ParamRange, Region,
    ResidualNormBackward, ResidualNormForward, Rows, WeightId,
};
use anyhow::Result;

/// The matrices and the biases of one block (`encoder.layer.N`).
#[derive(Clone, Debug)]
pub struct Layer {
    /// `attention.self.{query,key,value}.weight` stacked: `[3·hidden, hidden]`.
    pub qkv: WeightId,
    /// Biases of query, key and value.
    pub qkv_bias: [ParamRange; 3],
    /// `attention.output.dense`
    pub attention_output: WeightId,
    pub attention_output_bias: ParamRange,
    /// `attention.output.LayerNorm`
    pub attention_norm: Norm,
    /// `intermediate.dense`
    pub intermediate: WeightId,
    pub intermediate_bias: ParamRange,
    /// `output.dense`
    pub output: WeightId,
    pub output_bias: ParamRange,
    /// `output.LayerNorm`
    pub output_norm: Norm,
    pub shape: LayerShape,
}

/// Sizes, activation and dropout, the same in every block but for the dropout sites.
#[derive(Clone, Copy, Debug)]
pub struct LayerShape {
    pub hidden: usize,
    pub intermediate: usize,
    pub heads: usize,
    pub activation: Activation,
    pub attention_dropout: Dropout,
    /// After the attention's output product.
    pub attention_output_dropout: Dropout,
    /// After the feed-forward's output product.
    pub output_dropout: Dropout,
}

/// How far down this block's backward must go. Each step includes those above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// Nothing in or below this block trains.
    Nothing,
    /// β of the output LayerNorm: a column sum of what arrives.
    OutputNormBeta,
    /// Through the output LayerNorm: b_m3.
    OutputNorm,
    /// Through `output.dense` and the activation: b_m2.
    Activation,
    /// Through the whole feed-forward: β of the attention's LayerNorm.
    AttentionNormBeta,
    /// Through the attention's LayerNorm: b_m1.
    AttentionNorm,
    /// Through the attention: b_q and b_v.
    Attention,
    /// Through everything: something below this block trains.
    Input,
}

/// What [`Layer::backward`] works with beside its own weights.
#[derive(Clone, Copy)]
pub struct BackwardPass<'a> {
    pub plan: &'a Plan,
    pub params: &'a Params,
    pub needs: Needs,
    pub forward: &'a ForwardTensors,
    pub backward: &'a BackwardTensors,
    /// In: the gradient of the block's output. Out: that of its input, as far down as `needs` says.
    pub dx: TensorId,
}

impl Layer {
    /// How far backward goes, given whether anything below this block trains.
    pub fn needs(&self, params: &Params, below: bool) -> Needs {
        let trains = |range| params.if_trained(range).is_some();
        let [query, _key, value] = self.qkv_bias;
        // The key's bias has no gradient, so it asks for nothing.
        if below {
            Needs::Input
        } else if trains(query) || trains(value) {
            Needs::Attention
        } else if trains(self.attention_output_bias) {
            Needs::AttentionNorm
        } else if trains(self.attention_norm.beta) {
            Needs::AttentionNormBeta
        } else if trains(self.intermediate_bias) {
            Needs::Activation
        } else if trains(self.output_bias) {
            Needs::OutputNorm
        } else if trains(self.output_norm.beta) {
            Needs::OutputNormBeta
        } else {
            Needs::Nothing
        }
    }

    /// Runs the block on the current batch. `train` switches dropout on.
    pub fn forward<B: Backend>(
        &self,
        backend: &mut B,
        plan: &Plan,
        tensors: &ForwardTensors,
        train: bool,
    ) -> Result<()> {
        let at = |id| plan.region(id);
        let dropout = |dropout| if train { dropout } else { Dropout::NONE };
        let saved = |norm: Option<NormTensors>| norm.map(|norm| norm.regions(plan));
        let LayerShape { hidden, heads, .. } = self.shape;

        self.project_qkv(backend, at(tensors.input), at(tensors.qkv))?;
        backend.attention_forward(AttentionForward {
            qkv: at(tensors.qkv),
            out: at(tensors.context),
            lse: tensors.lse.map(at),
            heads,
            head_dim: hidden / heads,
            dropout: dropout(self.shape.attention_dropout),
        })?;
        backend.linear_forward(LinearForward {
            x: at(tensors.context),
            weight: self.attention_output,
            bias: &[self.attention_output_bias],
            out: at(tensors.middle),
            rows: Rows::Tokens,
            activation: None,
        })?;
        backend.residual_norm_forward(ResidualNormForward {
            x: at(tensors.middle),
            residual: at(tensors.input),
            dropout: dropout(self.shape.attention_output_dropout),
            norm: self.attention_norm,
            saved: saved(tensors.attention_norm),
        })?;
        let output = match tensors.derivative {
            Some(derivative) => ActivationOutput::Both(derivative.at(plan)),
            None => ActivationOutput::Value,
        };
        self.activate(backend, at(tensors.middle), at(tensors.inner), output)?;
        backend.linear_forward(LinearForward {
            x: at(tensors.inner),
            weight: self.output,
            bias: &[self.output_bias],
            out: at(tensors.output),
            rows: Rows::Tokens,
            activation: None,
        })?;
        backend.residual_norm_forward(ResidualNormForward {
            x: at(tensors.output),
            residual: at(tensors.middle),
            dropout: dropout(self.shape.output_dropout),
            norm: self.output_norm,
            saved: saved(tensors.output_norm),
        })
    }

    /// q, k and v, side by side, of the block's input.
    fn project_qkv<B: Backend>(&self, backend: &mut B, x: Region, out: Region) -> Result<()> {
        backend.linear_forward(LinearForward {
            x,
            weight: self.qkv,
            bias: &self.qkv_bias,
            out,
            rows: Rows::Tokens,
            activation: None,
        })
    }

    /// The first product of the feed-forward half and its activation.
    fn activate<B: Backend>(
        &self,
        backend: &mut B,
        x: Region,
        out: Region,
        output: ActivationOutput,
    ) -> Result<()> {
        backend.linear_forward(LinearForward {
            x,
            weight: self.intermediate,
            bias: &[self.intermediate_bias],
            out,
            rows: Rows::Tokens,
            activation: Some(LinearActivation {
                kind: self.shape.activation,
                output,
            }),
        })
    }

    /// Adds the block's bias gradients and turns `dx`, in place, into the gradient of its input. `weights` takes the
    /// gradients of the matrices and gains, where they train.
    pub fn backward<B: Backend>(
        &self,
        backend: &mut B,
        pass: BackwardPass<'_>,
        mut weights: impl WeightHooks<B>,
    ) -> Result<()> {
        let BackwardPass {
            plan,
            params,
            needs,
            forward,
            backward,
            dx,
        } = pass;
        let dx = plan.region(dx);
        let grad = |range| params.if_trained(range);
        let LayerShape { hidden, heads, .. } = self.shape;
        let forward = match &backward.again {
            Some(again) => {
                self.forward(backend, plan, again, true)?;
                again
            }
            None => forward,
        };

        // LN₂.
        let branch = match forward.output_norm.filter(|_| needs >= Needs::OutputNorm) {
            Some(norm) => {
                weights.output_norm(backend, dx)?;
                let d_branch = backward.output_branch.map(|id| plan.region(id));
                backend.residual_norm_backward(ResidualNormBackward {
                    dx,
                    saved: norm.regions(plan),
                    gamma: self.output_norm.gamma,
                    dropout: self.shape.output_dropout,
                    d_branch,
                    dbeta: grad(self.output_norm.beta),
                    dbias: grad(self.output_bias),
                })?;
                d_branch.unwrap_or(dx)
            }
            None => return self.beta_alone(backend, dx, grad(self.output_norm.beta)),
        };

        // Feed-forward.
        let (Some(d_inner), Some(derivative)) = (backward.d_inner, backward.derivative) else {
            return Ok(());
        };
        let (d_inner, derivative) = (plan.region(d_inner), derivative.at(plan));
        if let Some(middle) = &backward.middle {
            middle.run(backend, plan)?;
            let x = plan.region(middle.tensor);
            self.activate(backend, x, derivative.region, ActivationOutput::Derivative)?;
        }
        weights.output(backend, branch)?;
        backend.linear_backward(LinearBackward {
            dy: branch,
            weight: self.output,
            dx: d_inner,
            accumulate: false,
            rows: Rows::Tokens,
            derivative: Some(derivative),
            dbias: grad(self.intermediate_bias),
        })?;
        if needs < Needs::AttentionNormBeta {
            return Ok(());
        }
        weights.intermediate(backend, d_inner)?;
        backend.linear_backward(LinearBackward {
            dy: d_inner,
            weight: self.intermediate,
            dx,
            accumulate: true,
            rows: Rows::Tokens,
            derivative: None,
            dbias: None,
        })?;

        // LN₁.
        let branch = match forward.attention_norm {
            Some(norm) => {
                weights.attention_norm(backend, dx)?;
                let d_branch = backward.attention_branch.map(|id| plan.region(id));
                backend.residual_norm_backward(ResidualNormBackward {
                    dx,
                    saved: norm.regions(plan),
                    gamma: self.attention_norm.gamma,
                    dropout: self.shape.attention_output_dropout,
                    d_branch,
                    dbeta: grad(self.attention_norm.beta),
                    dbias: grad(self.attention_output_bias),
                })?;
                d_branch.unwrap_or(dx)
            }
            None => return self.beta_alone(backend, dx, grad(self.attention_norm.beta)),
        };

        // Attention.
        let (Some(d_context), Some(qkv), Some(d_qkv), Some(lse)) = (
            backward.d_context,
            backward.qkv,
            backward.d_qkv,
            forward.lse,
        ) else {
            return Ok(());
        };
        let [d_context, qkv, d_qkv] = [d_context, qkv, d_qkv].map(|id| plan.region(id));
        weights.attention_output(backend, branch)?;
        backend.linear_backward(LinearBackward {
            dy: branch,
            weight: self.attention_output,
            dx: d_context,
            accumulate: false,
            rows: Rows::Tokens,
            derivative: None,
            dbias: None,
        })?;
        if let Some(input) = &backward.input {
            input.run(backend, plan)?;
            self.project_qkv(backend, plan.region(input.tensor), qkv)?;
        }
        backend.attention_backward(AttentionBackward {
            qkv,
            out: plan.region(forward.context),
            lse: plan.region(lse),
            dout: d_context,
            dqkv: d_qkv,
            heads,
            head_dim: hidden / heads,
            dropout: self.shape.attention_dropout,
            dbias_query: grad(self.qkv_bias[0]),
            dbias_value: grad(self.qkv_bias[2]),
        })?;
        if needs < Needs::Input {
            return Ok(());
        }
        weights.qkv(backend, d_qkv)?;
        backend.linear_backward(LinearBackward {
            dy: d_qkv,
            weight: self.qkv,
            dx,
            accumulate: true,
            rows: Rows::Tokens,
            derivative: None,
            dbias: None,
        })
    }

    /// The lowest thing that trains is a LayerNorm's β.
    fn beta_alone<B: Backend>(
        &self,
        backend: &mut B,
        dy: Region,
        grad: Option<ParamRange>,
    ) -> Result<()> {
        match grad {
            Some(grad) => backend.bias_grad(BiasGrad {
                dy,
                dropout: Dropout::NONE,
                grad,
            }),
            None => Ok(()),
        }
    }
}
