//! The memory of one block: which tensors its passes hold, and from when to when.
//!
//! `plan_forward` and `plan_backward` take the steps of [`Layer::forward`] and [`Layer::backward`] in the same
//! order, acquiring and releasing instead of computing.

use super::layer::{Layer, LayerShape, Needs};
use super::saving::{Origin, Restored, Saving};
use crate::backend::plan::{Plan, Planner, TensorId};
use crate::backend::{Derivative, DerivativeType, Dropout, Norm, SavedNorm, XHatType};

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

    /// A `[tokens, width]` derivative.
    fn derivative(self, width: usize, stored: DerivativeType) -> usize {
        stored.bytes(self.tokens, width, self.element)
    }
}

/// What of a block's forward pass is kept for its backward.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    pub needs: Needs,
    pub saving: Saving,
    /// Weight gradients will be taken; with [`Saving::KEEP`] alone.
    pub weights: bool,
}

/// A block's input.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    pub tensor: TensorId,
    /// What it can be made from again, if the block below keeps that.
    pub origin: Option<Origin>,
}

/// Arena tensors of a block's forward pass; `None` where backward does not need them.
#[derive(Clone, Copy, Debug)]
pub struct ForwardTensors {
    pub input: TensorId,
    pub qkv: TensorId,
    pub lse: Option<TensorId>,
    /// Attention output before the output product.
    pub context: TensorId,
    /// Between the two halves of the block.
    pub middle: TensorId,
    pub attention_norm: Option<NormTensors>,
    pub inner: TensorId,
    pub derivative: Option<DerivativeTensor>,
    pub output_norm: Option<NormTensors>,
    /// The block's output.
    pub output: TensorId,
    /// Where backward finds the input, and the input of the feed-forward half.
    input_origin: Origin,
    middle_origin: Origin,
}

#[derive(Clone, Copy, Debug)]
pub struct NormTensors {
    pub x_hat: TensorId,
    pub rstd: TensorId,
    stored: XHatType,
}

impl NormTensors {
    pub fn regions(self, plan: &Plan) -> SavedNorm {
        SavedNorm {
            x_hat: plan.region(self.x_hat),
            stored: self.stored,
            rstd: plan.region(self.rstd),
        }
    }

    /// What the LayerNorm's output can be made from again: an x̂ in fewer bits would give another output.
    pub fn origin(self, norm: Norm) -> Option<Origin> {
        let x_hat = self.x_hat;
        (self.stored == XHatType::Full).then_some(Origin::Norm { x_hat, norm })
    }

    fn release(self, plan: &mut Planner) {
        plan.release(self.x_hat);
        plan.release(self.rstd);
    }
}

#[derive(Clone, Copy, Debug)]
pub struct DerivativeTensor {
    tensor: TensorId,
    stored: DerivativeType,
}

impl DerivativeTensor {
    pub fn at(self, plan: &Plan) -> Derivative {
        Derivative {
            region: plan.region(self.tensor),
            stored: self.stored,
        }
    }
}

/// Arena tensors of a block's backward pass; `None` where it does not go that far.
#[derive(Clone, Copy, Debug, Default)]
pub struct BackwardTensors {
    /// The forward pass that backward begins with, where the block kept only its input.
    pub again: Option<ForwardTensors>,
    /// The input of the feed-forward half, where the derivative is made again.
    pub middle: Option<Restored>,
    pub derivative: Option<DerivativeTensor>,
    /// The block's input, where q, k and v are made again.
    pub input: Option<Restored>,
    pub qkv: Option<TensorId>,
    /// Gradients of the two residual branches, where dropout makes them differ from the residual's.
    pub output_branch: Option<TensorId>,
    pub attention_branch: Option<TensorId>,
    /// Takes the place of a derivative that is stored in full.
    pub d_inner: Option<TensorId>,
    pub d_context: Option<TensorId>,
    pub d_qkv: Option<TensorId>,
    /// The inputs of the feed-forward half and of the block, made again for the gradients of weights.
    pub middle_of_weights: Option<Restored>,
    pub input_of_weights: Option<Restored>,
}

/// Whether backward starts by running the block's forward pass again. What a block keeps that backward barely
/// enters is not more than its input.
fn runs_again(needs: Needs, saving: Saving) -> bool {
    saving.checkpoint && needs >= Needs::Activation
}

impl Layer {
    /// Rehearses [`Layer::forward`]. Takes over the input and releases it, here or in backward.
    pub fn plan_forward(
        &self,
        index: usize,
        plan: &mut Planner,
        sizes: TensorSizes,
        keep: Keep,
        input: Input,
    ) -> ForwardTensors {
        let Keep {
            needs,
            saving,
            weights,
        } = keep;
        let LayerShape {
            hidden,
            intermediate,
            heads,
            ..
        } = self.shape;
        let name = |what: &str| format!("layer.{index}.{what}");
        let norm = |plan: &mut Planner, which: &str| NormTensors {
            x_hat: plan.acquire(
                name(&format!("{which}.x_hat")),
                saving.x_hat.bytes(sizes.tokens, hidden, sizes.element),
            ),
            rstd: plan.acquire(name(&format!("{which}.rstd")), sizes.statistic(1)),
            stored: saving.x_hat,
        };
        let again = runs_again(needs, saving);
        let needs = if again { Needs::Nothing } else { needs };
        let saves_attention = needs >= Needs::Attention;
        let saves_middle = needs >= Needs::AttentionNorm;
        let saves_slope = needs >= Needs::Activation;
        let input_origin = input.origin.unwrap_or(Origin::Kept(input.tensor));

        let qkv = plan.acquire(name("qkv"), sizes.activation(3 * hidden));
        let lse = saves_attention.then(|| plan.acquire(name("lse"), sizes.statistic(heads)));
        let context = plan.acquire(name("context"), sizes.activation(hidden));
        if !saves_attention || saving.recompute_qkv {
            plan.release(qkv);
        }
        let middle = plan.acquire(name("middle"), sizes.activation(hidden));
        if !saves_attention {
            plan.release(context);
        }
        let attention_norm = saves_middle.then(|| norm(plan, "attention_norm"));
        let is_kept = |origin| matches!(origin, Origin::Kept(_));
        let stays = again || (saves_attention && saving.recompute_qkv && is_kept(input_origin));
        if !stays {
            plan.release(input.tensor);
        }
        let middle_origin = attention_norm
            .and_then(|kept| kept.origin(self.attention_norm))
            .unwrap_or(Origin::Kept(middle));

        let derivative = (saves_slope && !saving.recompute_ffn).then(|| DerivativeTensor {
            tensor: plan.acquire(
                name("derivative"),
                sizes.derivative(intermediate, saving.derivative),
            ),
            stored: saving.derivative,
        });
        let inner = plan.acquire(name("inner"), sizes.activation(intermediate));
        let output = plan.acquire(name("output"), sizes.activation(hidden));
        if !weights {
            plan.release(inner);
        }
        let output_norm = (needs >= Needs::OutputNorm).then(|| norm(plan, "output_norm"));
        let stays = saves_slope && saving.recompute_ffn && is_kept(middle_origin);
        if !stays {
            plan.release(middle);
        }
        ForwardTensors {
            input: input.tensor,
            qkv,
            lse,
            context,
            middle,
            attention_norm,
            inner,
            derivative,
            output_norm,
            output,
            input_origin,
            middle_origin,
        }
    }

    /// Rehearses [`Layer::backward`]; the gradient that flows down stays in place throughout.
    pub fn plan_backward(
        &self,
        index: usize,
        plan: &mut Planner,
        sizes: TensorSizes,
        mut keep: Keep,
        forward: &ForwardTensors,
    ) -> BackwardTensors {
        let LayerShape {
            hidden,
            intermediate,
            ..
        } = self.shape;
        let name = |what: &str| format!("layer.{index}.{what}");
        let mut tensors = BackwardTensors::default();
        let branch = |plan: &mut Planner, dropout: Dropout| {
            (dropout.p > 0.0).then(|| plan.acquire(name("d_branch"), sizes.activation(hidden)))
        };
        let release = |plan: &mut Planner, done: &[Option<TensorId>]| {
            done.iter().flatten().for_each(|&id| plan.release(id));
        };

        let mut forward = *forward;
        if runs_again(keep.needs, keep.saving) {
            keep.saving = Saving::KEEP;
            let input = Input {
                tensor: forward.input,
                origin: None,
            };
            forward = self.plan_forward(index, plan, sizes, keep, input);
            plan.release(forward.output);
            tensors.again = Some(forward);
        }
        let Keep {
            needs,
            saving,
            weights,
        } = keep;
        let restored = |plan: &mut Planner, origin: Origin, what: &str| {
            Restored::plan(origin, plan, name(what), sizes.activation(hidden))
        };

        if needs >= Needs::OutputNorm {
            tensors.output_branch = branch(plan, self.shape.output_dropout);
            if let Some(norm) = forward.output_norm {
                norm.release(plan);
            }
        }
        if needs >= Needs::Activation {
            if saving.recompute_ffn {
                let middle = restored(plan, forward.middle_origin, "middle again");
                let bytes = sizes.activation(intermediate);
                tensors.derivative = Some(DerivativeTensor {
                    tensor: plan.acquire(name("derivative again"), bytes),
                    stored: DerivativeType::Full,
                });
                plan.release(middle.tensor);
                tensors.middle = Some(middle);
            } else {
                tensors.derivative = forward.derivative;
            }
            tensors.d_inner = tensors.derivative.map(|d| match d.stored {
                DerivativeType::Full => d.tensor,
                DerivativeType::Bits8 | DerivativeType::Bits4 => {
                    let d_inner = plan.acquire(name("d_inner"), sizes.activation(intermediate));
                    plan.release(d.tensor);
                    d_inner
                }
            });
        }
        if weights {
            plan.release(forward.inner);
            let middle = restored(plan, forward.middle_origin, "middle again");
            plan.release(middle.tensor);
            tensors.middle_of_weights = Some(middle);
        }
        release(plan, &[tensors.output_branch, tensors.d_inner]);
        if needs >= Needs::AttentionNorm {
            tensors.attention_branch = branch(plan, self.shape.attention_output_dropout);
            if let Some(norm) = forward.attention_norm {
                norm.release(plan);
            }
        }
        if needs >= Needs::Attention {
            let d_context = plan.acquire(name("d_context"), sizes.activation(hidden));
            release(plan, &[tensors.attention_branch]);
            let qkv = if saving.recompute_qkv {
                let input = restored(plan, forward.input_origin, "input again");
                let qkv = plan.acquire(name("qkv again"), sizes.activation(3 * hidden));
                plan.release(input.tensor);
                tensors.input = Some(input);
                qkv
            } else {
                forward.qkv
            };
            let d_qkv = plan.acquire(name("d_qkv"), sizes.activation(3 * hidden));
            tensors.qkv = Some(qkv);
            tensors.d_context = Some(d_context);
            tensors.d_qkv = Some(d_qkv);
            let saved = [Some(qkv), forward.lse, Some(forward.context)];
            release(plan, &saved);
            release(plan, &[Some(d_context)]);
            if weights {
                let input = restored(plan, forward.input_origin, "input again");
                plan.release(input.tensor);
                tensors.input_of_weights = Some(input);
            }
            release(plan, &[Some(d_qkv)]);
        } else {
            release(plan, &[tensors.attention_branch]);
        }
        tensors
    }
}
