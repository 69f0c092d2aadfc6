//! The memory of one block: which tensors its passes hold, and from when to when.
//!
//! `plan_forward` and `plan_backward` take the steps of [`Layer::forward`] and [`Layer::backward`] in the same
//! order, acquiring and releasing instead of computing.

use super::layer::{Layer, LayerShape, Needs};
use super::saving::{Origin, Restored, Saving};
use crate::backend::plan::{Plan, Planner, TensorId};
use crate::backend::{Derivative, DerivativeType, Dropout, Norm, Rows, SavedNorm, XHatType};

/// Bytes of the tensors of a block.
#[derive(Clone, Copy, Debug)]
pub struct TensorSizes {
    pub tokens: usize,
    pub sequences: usize,
    /// Of one activation element.
    pub element: usize,
}

impl TensorSizes {
    fn count(self, rows: Rows) -> usize {
        match rows {
            Rows::Tokens => self.tokens,
            Rows::Sequences => self.sequences,
        }
    }

    /// A `[rows, width]` activation.
    pub fn activation(self, rows: Rows, width: usize) -> usize {
        self.count(rows) * width * self.element
    }

    /// An f32 statistic: `width` numbers of each row.
    pub fn statistic(self, rows: Rows, width: usize) -> usize {
        self.count(rows) * width * size_of::<f32>()
    }

    /// A `[rows, width]` x̂.
    fn x_hat(self, rows: Rows, width: usize, stored: XHatType) -> usize {
        stored.bytes(self.count(rows), width, self.element)
    }

    /// A `[rows, width]` derivative.
    fn derivative(self, rows: Rows, width: usize, stored: DerivativeType) -> usize {
        stored.bytes(self.count(rows), width, self.element)
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
    /// q, k and v of all tokens, or, where the first tokens alone go on, k and v.
    pub qkv: TensorId,
    pub first: Option<FirstTensors>,
    /// `None` as well where backward makes it, and attention's output, again.
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

/// Of a block behind whose attention the first tokens alone go on.
#[derive(Clone, Copy, Debug)]
pub struct FirstTensors {
    /// Their rows of the block's input.
    pub input: TensorId,
    pub query: TensorId,
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
    pub fn origin(self, norm: Norm, rows: Rows) -> Option<Origin> {
        let x_hat = self.x_hat;
        (self.stored == XHatType::Full).then_some(Origin::Norm { x_hat, norm, rows })
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
#[derive(Clone, Copy, Debug)]
pub struct BackwardTensors {
    /// The gradient of the block's output, and as backward goes down, of what lies below.
    pub dx: TensorId,
    /// The gradient of the block's input, where that is another tensor: the first tokens alone come from above.
    pub dx_below: Option<TensorId>,
    pub d_query: Option<TensorId>,
    /// The forward pass that backward begins with, where the block kept only its input.
    pub again: Option<ForwardTensors>,
    /// The input of the feed-forward half, where the derivative is made again.
    pub middle: Option<Restored>,
    pub derivative: Option<DerivativeTensor>,
    pub attention: Option<AttentionTensors>,
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

impl BackwardTensors {
    fn new(dx: TensorId) -> Self {
        Self {
            dx,
            dx_below: None,
            d_query: None,
            again: None,
            middle: None,
            derivative: None,
            attention: None,
            output_branch: None,
            attention_branch: None,
            d_inner: None,
            d_context: None,
            d_qkv: None,
            middle_of_weights: None,
            input_of_weights: None,
        }
    }

    /// The gradient of the block's input.
    pub fn below(&self) -> TensorId {
        self.dx_below.unwrap_or(self.dx)
    }
}

/// What attention's backward reads.
#[derive(Clone, Copy, Debug)]
pub struct AttentionTensors {
    /// The block's input, where what follows is made again.
    pub input: Option<Restored>,
    pub qkv: TensorId,
    /// Has no use where the first tokens alone go on.
    pub context: TensorId,
    pub lse: TensorId,
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
        let rows = self.rows();
        let name = |what: &str| format!("layer.{index}.{what}");
        let wide = |plan: &mut Planner, what: &str| {
            plan.acquire(name(what), sizes.activation(rows, hidden))
        };
        let norm = |plan: &mut Planner, which: &str| NormTensors {
            x_hat: plan.acquire(
                name(&format!("{which}.x_hat")),
                sizes.x_hat(rows, hidden, saving.x_hat),
            ),
            rstd: plan.acquire(name(&format!("{which}.rstd")), sizes.statistic(rows, 1)),
            stored: saving.x_hat,
        };
        let again = runs_again(needs, saving);
        let needs = if again { Needs::Nothing } else { needs };
        let saves_attention = needs >= Needs::Attention;
        let saves_middle = needs >= Needs::AttentionNorm;
        let saves_slope = needs >= Needs::Activation;
        let input_origin = input.origin.unwrap_or(Origin::Kept(input.tensor));

        let qkv = plan.acquire(name("qkv"), self.qkv_bytes(sizes));
        let first = self.first.map(|_| FirstTensors {
            input: wide(plan, "first input"),
            query: wide(plan, "first query"),
        });
        // Attention of the first tokens is not made again: it left little, and its backward does not read its output.
        let attends_again = saving.recompute_qkv && first.is_none();
        let lse = (saves_attention && !attends_again)
            .then(|| plan.acquire(name("lse"), sizes.statistic(rows, heads)));
        let context = wide(plan, "context");
        if !saves_attention || saving.recompute_qkv {
            plan.release(qkv);
        }
        if let Some(first) = first.filter(|_| !saves_attention) {
            plan.release(first.query);
        }
        let middle = wide(plan, "middle");
        if !saves_attention || attends_again || first.is_some() {
            plan.release(context);
        }
        let attention_norm = saves_middle.then(|| norm(plan, "attention_norm"));
        let is_kept = |origin| matches!(origin, Origin::Kept(_));
        let stays = again || (saves_attention && saving.recompute_qkv && is_kept(input_origin));
        if !stays {
            plan.release(input.tensor);
        }
        if let Some(first) = first {
            plan.release(first.input);
        }
        let middle_origin = attention_norm
            .and_then(|kept| kept.origin(self.attention_norm, rows))
            .unwrap_or(Origin::Kept(middle));

        let derivative = (saves_slope && !saving.recompute_ffn).then(|| DerivativeTensor {
            tensor: plan.acquire(
                name("derivative"),
                sizes.derivative(rows, intermediate, saving.derivative),
            ),
            stored: saving.derivative,
        });
        let inner = plan.acquire(name("inner"), sizes.activation(rows, intermediate));
        let output = wide(plan, "output");
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
            first,
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

    /// k and v of all tokens, and where those all go on, q.
    fn qkv_bytes(&self, sizes: TensorSizes) -> usize {
        let parts = if self.first.is_some() { 2 } else { 3 };
        sizes.activation(Rows::Tokens, parts * self.shape.hidden)
    }

    /// Rehearses [`Layer::backward`]. The gradient that flows down, `dx`, stays in place but where the tokens behind the
    /// first join it: then it is released.
    pub fn plan_backward(
        &self,
        index: usize,
        plan: &mut Planner,
        sizes: TensorSizes,
        mut keep: Keep,
        forward: &ForwardTensors,
        dx: TensorId,
    ) -> BackwardTensors {
        let LayerShape {
            hidden,
            intermediate,
            heads,
            ..
        } = self.shape;
        let rows = self.rows();
        let name = |what: &str| format!("layer.{index}.{what}");
        let mut tensors = BackwardTensors::new(dx);
        let branch = |plan: &mut Planner, dropout: Dropout| {
            let bytes = sizes.activation(rows, hidden);
            (dropout.p > 0.0).then(|| plan.acquire(name("d_branch"), bytes))
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
        let restored = |plan: &mut Planner, origin: Origin, what: &str, rows: Rows| {
            Restored::plan(origin, plan, name(what), sizes.activation(rows, hidden))
        };

        if needs >= Needs::OutputNorm {
            tensors.output_branch = branch(plan, self.shape.output_dropout);
            if let Some(norm) = forward.output_norm {
                norm.release(plan);
            }
        }
        if needs >= Needs::Activation {
            if saving.recompute_ffn {
                let middle = restored(plan, forward.middle_origin, "middle again", rows);
                let bytes = sizes.activation(rows, intermediate);
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
                    let bytes = sizes.activation(rows, intermediate);
                    let d_inner = plan.acquire(name("d_inner"), bytes);
                    plan.release(d.tensor);
                    d_inner
                }
            });
        }
        if weights {
            plan.release(forward.inner);
            let middle = restored(plan, forward.middle_origin, "middle again", rows);
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
            let input = saving
                .recompute_qkv
                .then(|| restored(plan, forward.input_origin, "input again", Rows::Tokens));
            let mut qkv = forward.qkv;
            if let Some(input) = input {
                qkv = plan.acquire(name("qkv again"), self.qkv_bytes(sizes));
                plan.release(input.tensor);
            }
            let (context, lse) = match forward.lse {
                Some(lse) => (forward.context, lse),
                None => (
                    plan.acquire(name("context again"), sizes.activation(rows, hidden)),
                    plan.acquire(name("lse again"), sizes.statistic(rows, heads)),
                ),
            };
            tensors.attention = Some(AttentionTensors {
                input,
                qkv,
                context,
                lse,
            });
            let d_context = plan.acquire(name("d_context"), sizes.activation(rows, hidden));
            release(plan, &[tensors.attention_branch]);
            let d_qkv = plan.acquire(name("d_qkv"), self.qkv_bytes(sizes));
            tensors.d_context = Some(d_context);
            tensors.d_qkv = Some(d_qkv);
            tensors.d_query = forward
                .first
                .map(|_| plan.acquire(name("d_query"), sizes.activation(rows, hidden)));
            let saved = match forward.first {
                Some(first) => first.query,
                None => context,
            };
            release(plan, &[Some(qkv), Some(lse), Some(saved)]);
            release(plan, &[Some(d_context)]);
            if weights {
                let input = restored(plan, forward.input_origin, "input again", Rows::Tokens);
                plan.release(input.tensor);
                tensors.input_of_weights = Some(input);
            }
            if needs >= Needs::Input && self.first.is_some() {
                let bytes = sizes.activation(Rows::Tokens, hidden);
                tensors.dx_below = Some(plan.acquire("dx", bytes));
                plan.release(dx);
            }
            release(plan, &[Some(d_qkv), tensors.d_query]);
        } else {
            release(plan, &[tensors.attention_branch]);
        }
        tensors
    }
}
