//! One transformer block, post-LayerNorm as in BERT: its forward and its backward side by side.
//!
//! ```text
//! h  = LN₁(x + drop(W_o · attention(W_qkv·x + b) + b))
//! x' = LN₂(h + drop(W_2 · act(W_1·h + b) + b))
//! ```
//!
//! Under a head that reads the first token of each sequence alone, the last block goes on with those rows behind its
//! attention, for which it needs k and v of all tokens and q of the first ([`FirstWeights`]).
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
    FirstAttentionBackward, FirstAttentionForward, FirstTokens, LinearActivation, LinearBackward,
    LinearForward, Norm, ParamRange, Region, ResidualNormBackward, ResidualNormForward, Rows,
    WeightId,
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
    /// Present where the first token of each sequence alone goes on behind the attention.
    pub first: Option<FirstWeights>,
    pub shape: LayerShape,
}

/// The parts of [`Layer::qkv`], where their products have different rows.
#[derive(Clone, Copy, Debug)]
pub struct FirstWeights {
    /// `attention.self.query.weight`
    pub query: WeightId,
    /// `attention.self.{key,value}.weight` stacked: `[2·hidden, hidden]`.
    pub key_value: WeightId,
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
    /// Its `dx` goes in as the gradient of the block's output; that of its input, as far down as `needs` says, is then in
    /// [`BackwardTensors::below`].
    pub backward: &'a BackwardTensors,
}

impl Layer {
    /// The rows behind the attention.
    pub fn rows(&self) -> Rows {
        match self.first {
            Some(_) => Rows::Sequences,
            None => Rows::Tokens,
        }
    }

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
        let rows = self.rows();

        let residual = self.attend(backend, plan, tensors, train)?;
        backend.linear_forward(LinearForward {
            x: at(tensors.context),
            weight: self.attention_output,
            bias: &[self.attention_output_bias],
            out: at(tensors.middle),
            rows,
            activation: None,
        })?;
        backend.residual_norm_forward(ResidualNormForward {
            x: at(tensors.middle),
            residual,
            dropout: dropout(self.shape.attention_output_dropout),
            norm: self.attention_norm,
            saved: saved(tensors.attention_norm),
            rows,
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
            rows,
            activation: None,
        })?;
        backend.residual_norm_forward(ResidualNormForward {
            x: at(tensors.output),
            residual: at(tensors.middle),
            dropout: dropout(self.shape.output_dropout),
            norm: self.output_norm,
            saved: saved(tensors.output_norm),
            rows,
        })
    }

    /// From the block's input to attention's output; returns the input's rows that go on beside it.
    fn attend<B: Backend>(
        &self,
        backend: &mut B,
        plan: &Plan,
        tensors: &ForwardTensors,
        train: bool,
    ) -> Result<Region> {
        let at = |id| plan.region(id);
        let (input, qkv) = (at(tensors.input), at(tensors.qkv));
        self.project(backend, input, qkv)?;
        let (Some(weights), Some(first)) = (self.first, tensors.first) else {
            let tensors = (tensors.qkv, tensors.context, tensors.lse);
            self.attention(backend, plan, tensors, train)?;
            return Ok(input);
        };
        let LayerShape { hidden, heads, .. } = self.shape;
        let (residual, query) = (at(first.input), at(first.query));
        backend.gather_first(FirstTokens {
            hidden,
            tokens: input,
            first: residual,
        })?;
        backend.linear_forward(LinearForward {
            x: residual,
            weight: weights.query,
            bias: &self.qkv_bias[..1],
            out: query,
            rows: Rows::Sequences,
            activation: None,
        })?;
        backend.first_attention_forward(FirstAttentionForward {
            query,
            key_value: qkv,
            out: at(tensors.context),
            lse: tensors.lse.map(at),
            heads,
            head_dim: hidden / heads,
            dropout: self.attention_dropout(train),
        })?;
        Ok(residual)
    }

    /// Attention over all tokens: reads q, k and v, writes its output and, where backward follows, lse.
    fn attention<B: Backend>(
        &self,
        backend: &mut B,
        plan: &Plan,
        (qkv, out, lse): (TensorId, TensorId, Option<TensorId>),
        train: bool,
    ) -> Result<()> {
        let LayerShape { hidden, heads, .. } = self.shape;
        backend.attention_forward(AttentionForward {
            qkv: plan.region(qkv),
            out: plan.region(out),
            lse: lse.map(|id| plan.region(id)),
            heads,
            head_dim: hidden / heads,
            dropout: self.attention_dropout(train),
        })
    }

    fn attention_dropout(&self, train: bool) -> Dropout {
        match train {
            true => self.shape.attention_dropout,
            false => Dropout::NONE,
        }
    }

    /// What attention needs of all tokens of the block's input, side by side: q, k and v, or k and v alone.
    fn project<B: Backend>(&self, backend: &mut B, x: Region, out: Region) -> Result<()> {
        let (weight, bias) = match self.first {
            Some(first) => (first.key_value, &self.qkv_bias[1..]),
            None => (self.qkv, &self.qkv_bias[..]),
        };
        backend.linear_forward(LinearForward {
            x,
            weight,
            bias,
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
            rows: self.rows(),
            activation: Some(LinearActivation {
                kind: self.shape.activation,
                output,
            }),
        })
    }

    /// Adds the block's bias gradients and turns the gradient of its output into that of its input. `weights` takes the
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
        } = pass;
        let dx = plan.region(backward.dx);
        let grad = |range| params.if_trained(range);
        let rows = self.rows();
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
                    rows,
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
            rows,
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
            rows,
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
                    rows,
                })?;
                d_branch.unwrap_or(dx)
            }
            None => return self.beta_alone(backend, dx, grad(self.attention_norm.beta)),
        };

        // Attention.
        let (Some(d_context), Some(attention)) = (backward.d_context, &backward.attention) else {
            return Ok(());
        };
        let d_context = plan.region(d_context);
        if let Some(input) = &attention.input {
            input.run(backend, plan)?;
            self.project(
                backend,
                plan.region(input.tensor),
                plan.region(attention.qkv),
            )?;
            if forward.lse.is_none() {
                let tensors = (attention.qkv, attention.context, Some(attention.lse));
                self.attention(backend, plan, tensors, true)?;
            }
        }
        weights.attention_output(backend, branch)?;
        backend.linear_backward(LinearBackward {
            dy: branch,
            weight: self.attention_output,
            dx: d_context,
            accumulate: false,
            rows,
            derivative: None,
            dbias: None,
        })?;
        let Some(d_qkv) = self.attend_backward(backend, pass, forward)? else {
            return Ok(());
        };
        if needs < Needs::Input {
            return Ok(());
        }
        weights.qkv(backend, d_qkv)?;
        self.project_backward(backend, pass, d_qkv)
    }

    /// From the gradient of attention's output to that of q, k and v of all tokens, or of k and v and, beside it, q.
    fn attend_backward<B: Backend>(
        &self,
        backend: &mut B,
        pass: BackwardPass<'_>,
        forward: &ForwardTensors,
    ) -> Result<Option<Region>> {
        let BackwardPass {
            plan,
            params,
            backward,
            ..
        } = pass;
        let (Some(d_context), Some(saved), Some(d_qkv)) =
            (backward.d_context, backward.attention, backward.d_qkv)
        else {
            return Ok(None);
        };
        let [dout, qkv, dqkv, lse] =
            [d_context, saved.qkv, d_qkv, saved.lse].map(|id| plan.region(id));
        let LayerShape { hidden, heads, .. } = self.shape;
        let head_dim = hidden / heads;
        let dropout = self.shape.attention_dropout;
        let [dbias_query, _, dbias_value] = self.qkv_bias.map(|bias| params.if_trained(bias));
        match (forward.first, backward.d_query) {
            (Some(first), Some(d_query)) => {
                backend.first_attention_backward(FirstAttentionBackward {
                    query: plan.region(first.query),
                    key_value: qkv,
                    lse,
                    dout,
                    d_query: plan.region(d_query),
                    d_key_value: dqkv,
                    heads,
                    head_dim,
                    dropout,
                    dbias_query,
                    dbias_value,
                })?;
            }
            _ => backend.attention_backward(AttentionBackward {
                qkv,
                out: plan.region(saved.context),
                lse,
                dout,
                dqkv,
                heads,
                head_dim,
                dropout,
                dbias_query,
                dbias_value,
            })?,
        }
        Ok(Some(dqkv))
    }

    /// Adds what flows to the block's input through the first products.
    fn project_backward<B: Backend>(
        &self,
        backend: &mut B,
        BackwardPass { plan, backward, .. }: BackwardPass<'_>,
        d_qkv: Region,
    ) -> Result<()> {
        let dx = plan.region(backward.dx);
        let through = |dy, weight, dx, accumulate, rows| LinearBackward {
            dy,
            weight,
            dx,
            accumulate,
            rows,
            derivative: None,
            dbias: None,
        };
        let (Some(first), Some(d_query), Some(below)) =
            (self.first, backward.d_query, backward.dx_below)
        else {
            return backend.linear_backward(through(d_qkv, self.qkv, dx, true, Rows::Tokens));
        };
        let (d_query, below) = (plan.region(d_query), plan.region(below));
        let (tokens, sequences) = (Rows::Tokens, Rows::Sequences);
        backend.linear_backward(through(d_query, first.query, dx, true, sequences))?;
        backend.linear_backward(through(d_qkv, first.key_value, below, false, tokens))?;
        backend.add_first(FirstTokens {
            hidden: self.shape.hidden,
            tokens: below,
            first: dx,
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
                rows: self.rows(),
            }),
            None => Ok(()),
        }
    }
}
