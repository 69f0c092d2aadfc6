//! One transformer block, post-LayerNorm as in BERT: its memory, its forward and its backward side by side.
//!
//! ```text
//! h  = LN₁(x + drop(W_o · attention(W_qkv·x + b) + b))
//! x' = LN₂(h + drop(W_2 · act(W_1·h + b) + b))
//! ```
//!
//! Where only biases train no operation here needs its input kept: backward needs the attention's q, k, v, output
//! and log-sum-exp, the activation's derivative, and each LayerNorm's x̂ and rstd, and of those only what lies
//! above the lowest bias that trains ([`Needs`]). What full fine-tuning needs on top is in [`super::full`].

use super::full::WeightHooks;
use super::params::Params;
use crate::backend::plan::{Plan, Planner, TensorId};
use crate::backend::{
    Activation, AttentionBackward, AttentionForward, Backend, BiasGrad, Dropout, LinearActivation,
    LinearBackward, LinearForward, Norm, ParamRange, ResidualNormBackward, ResidualNormForward,
    Rows, SavedNorm, WeightId,
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

/// Bytes of the tensors of a block.
#[derive(Clone, Copy, Debug)]
pub struct TensorSizes {
    pub tokens: usize,
    /// Of one activation element.
    pub element: usize,
}

impl TensorSizes {
    /// A `[tokens, width]` activation.
    pub fn activation(self, width: usize) -> usize {
        self.tokens * width * self.element
    }

    /// An f32 `[tokens, width]` statistic.
    pub fn statistic(self, width: usize) -> usize {
        self.tokens * width * size_of::<f32>()
    }
}

/// Arena tensors of a block's forward pass; `None` where backward does not need them.
#[derive(Clone, Copy, Debug)]
pub struct ForwardTensors {
    input: TensorId,
    qkv: TensorId,
    lse: Option<TensorId>,
    /// Attention output before the output product.
    pub(super) context: TensorId,
    /// Between the two halves of the block.
    middle: TensorId,
    pub(super) attention_norm: Option<NormTensors>,
    pub(super) inner: TensorId,
    derivative: Option<TensorId>,
    pub(super) output_norm: Option<NormTensors>,
    /// The block's output.
    pub output: TensorId,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct NormTensors {
    pub(super) x_hat: TensorId,
    rstd: TensorId,
}

/// Arena tensors of a block's backward pass; `None` where it does not go that far.
#[derive(Clone, Copy, Debug, Default)]
pub struct BackwardTensors {
    /// Gradients of the two residual branches, where dropout makes them differ from the residual's.
    output_branch: Option<TensorId>,
    attention_branch: Option<TensorId>,
    d_inner: Option<TensorId>,
    d_context: Option<TensorId>,
    d_qkv: Option<TensorId>,
    /// For weight gradients: room for the input of the feed-forward and that of the block.
    pub(super) middle: Option<TensorId>,
    pub(super) input: Option<TensorId>,
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

    /// Rehearses [`Layer::forward`]. Takes over `input` and releases it. `weights` says whether weight gradients
    /// will be taken.
    pub fn plan_forward(
        &self,
        index: usize,
        plan: &mut Planner,
        sizes: TensorSizes,
        needs: Needs,
        weights: bool,
        input: TensorId,
    ) -> ForwardTensors {
        let LayerShape {
            hidden,
            intermediate,
            heads,
            ..
        } = self.shape;
        let name = |what: &str| format!("layer.{index}.{what}");
        let norm = |plan: &mut Planner, which: &str| NormTensors {
            x_hat: plan.acquire(name(&format!("{which}.x_hat")), sizes.activation(hidden)),
            rstd: plan.acquire(name(&format!("{which}.rstd")), sizes.statistic(1)),
        };

        let keep_attention = needs >= Needs::Attention;
        let qkv = plan.acquire(name("qkv"), sizes.activation(3 * hidden));
        let lse = keep_attention.then(|| plan.acquire(name("lse"), sizes.statistic(heads)));
        let context = plan.acquire(name("context"), sizes.activation(hidden));
        if !keep_attention {
            plan.release(qkv);
        }
        let middle = plan.acquire(name("middle"), sizes.activation(hidden));
        if !keep_attention {
            plan.release(context);
        }
        let attention_norm = (needs >= Needs::AttentionNorm).then(|| norm(plan, "attention_norm"));
        plan.release(input);

        let derivative = (needs >= Needs::Activation)
            .then(|| plan.acquire(name("derivative"), sizes.activation(intermediate)));
        let inner = plan.acquire(name("inner"), sizes.activation(intermediate));
        let output = plan.acquire(name("output"), sizes.activation(hidden));
        if !weights {
            plan.release(inner);
        }
        let output_norm = (needs >= Needs::OutputNorm).then(|| norm(plan, "output_norm"));
        plan.release(middle);
        ForwardTensors {
            input,
            qkv,
            lse,
            context,
            middle,
            attention_norm,
            inner,
            derivative,
            output_norm,
            output,
        }
    }

    /// Rehearses [`Layer::backward`]; the gradient that flows down stays in place throughout.
    pub fn plan_backward(
        &self,
        plan: &mut Planner,
        sizes: TensorSizes,
        needs: Needs,
        weights: bool,
        forward: &ForwardTensors,
    ) -> BackwardTensors {
        let LayerShape {
            hidden,
            intermediate,
            ..
        } = self.shape;
        let mut tensors = BackwardTensors::default();
        let branch = |plan: &mut Planner, dropout: Dropout| {
            (dropout.p > 0.0).then(|| plan.acquire("d_branch", sizes.activation(hidden)))
        };
        let release = |plan: &mut Planner, norm: Option<NormTensors>| {
            if let Some(norm) = norm {
                plan.release(norm.x_hat);
                plan.release(norm.rstd);
            }
        };

        if needs >= Needs::OutputNorm {
            tensors.output_branch = branch(plan, self.shape.output_dropout);
            release(plan, forward.output_norm);
        }
        if weights {
            plan.release(forward.inner);
        }
        if needs >= Needs::Activation {
            tensors.d_inner = Some(plan.acquire("d_inner", sizes.activation(intermediate)));
        }
        // A layer's input, computed again for its weight gradient.
        let rebuilt =
            |plan: &mut Planner| weights.then(|| plan.acquire("rebuilt", sizes.activation(hidden)));
        tensors.middle = rebuilt(plan);
        if let Some(done) = tensors.middle {
            plan.release(done);
        }
        for done in [forward.derivative, tensors.output_branch, tensors.d_inner] {
            done.into_iter().for_each(|id| plan.release(id));
        }
        if needs >= Needs::AttentionNorm {
            tensors.attention_branch = branch(plan, self.shape.attention_output_dropout);
            release(plan, forward.attention_norm);
        }
        let d_context = (needs >= Needs::Attention)
            .then(|| plan.acquire("d_context", sizes.activation(hidden)));
        if let Some(done) = tensors.attention_branch {
            plan.release(done);
        }
        if let Some(d_context) = d_context {
            let d_qkv = plan.acquire("d_qkv", sizes.activation(3 * hidden));
            let saved = [Some(forward.qkv), forward.lse, Some(forward.context)];
            for done in saved.into_iter().chain([Some(d_context)]).flatten() {
                plan.release(done);
            }
            tensors.input = rebuilt(plan);
            for done in [Some(d_qkv), tensors.input].into_iter().flatten() {
                plan.release(done);
            }
            tensors.d_context = Some(d_context);
            tensors.d_qkv = Some(d_qkv);
        }
        tensors
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

        backend.linear_forward(LinearForward {
            x: at(tensors.input),
            weight: self.qkv,
            bias: &self.qkv_bias,
            out: at(tensors.qkv),
            rows: Rows::Tokens,
            activation: None,
        })?;
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
        backend.linear_forward(LinearForward {
            x: at(tensors.middle),
            weight: self.intermediate,
            bias: &[self.intermediate_bias],
            out: at(tensors.inner),
            rows: Rows::Tokens,
            activation: Some(LinearActivation {
                kind: self.shape.activation,
                derivative: tensors.derivative.map(at),
            }),
        })?;
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
        let (Some(d_inner), Some(derivative)) = (backward.d_inner, forward.derivative) else {
            return Ok(());
        };
        let d_inner = plan.region(d_inner);
        weights.output(backend, branch)?;
        backend.linear_backward(LinearBackward {
            dy: branch,
            weight: self.output,
            dx: d_inner,
            accumulate: false,
            rows: Rows::Tokens,
            derivative: Some(plan.region(derivative)),
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
        let (Some(d_context), Some(d_qkv), Some(lse)) =
            (backward.d_context, backward.d_qkv, forward.lse)
        else {
            return Ok(());
        };
        let (d_context, d_qkv) = (plan.region(d_context), plan.region(d_qkv));
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
        backend.attention_backward(AttentionBackward {
            qkv: plan.region(forward.qkv),
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
        dy: crate::backend::Region,
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

impl NormTensors {
    fn regions(self, plan: &Plan) -> SavedNorm {
        SavedNorm {
            x_hat: plan.region(self.x_hat),
            rstd: plan.region(self.rstd),
        }
    }
}
