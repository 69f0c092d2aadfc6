//! The encoder with its task head: forward for prediction, forward and backward for training.
//!
//! Written once for every device: all arithmetic goes through [`Backend`]. A [`Program`] is a rehearsed pass:
//! the arena plan and the place of each tensor, for batches up to given limits.

pub mod config;
pub mod fit;
pub mod full;
pub mod head;
pub mod layer;
pub mod load;
pub mod params;
pub mod rehearsal;
pub mod saving;

use crate::backend::plan::{Plan, Planner, Tensor, TensorId};
use crate::backend::{
    Backend, BiasGrad, Dropout, EmbedForward, Limits, LossKind, MatrixShape, Memory, Norm, Region,
    Rows, Slot, WeightId,
};
use anyhow::Result;
use config::ModelConfig;
use full::{Frozen, Matrices, WeightHooks};
use head::{Head, HeadTensors};
use layer::{BackwardPass, Layer, Needs};
use params::Params;
use rehearsal::{BackwardTensors, ForwardTensors, Input, Keep, TensorSizes};
use saving::{Origin, Saving};

/// An encoder whose matrices are on a device, and its head.
#[derive(Clone, Debug)]
pub struct Model {
    pub config: ModelConfig,
    pub params: Params,
    pub head: Head,
    embeddings: Embeddings,
    layers: Vec<Layer>,
    /// Present when every weight trains.
    trained: Option<Matrices>,
    /// The matrices that the device holds.
    pub matrices: Vec<MatrixShape>,
}

/// Tables and LayerNorm of the embeddings.
#[derive(Clone, Copy, Debug)]
pub struct Embeddings {
    word: WeightId,
    position: WeightId,
    token_type: WeightId,
    norm: Norm,
    dropout: Dropout,
}

impl Embeddings {
    /// Runs the embeddings of the current batch into `out`.
    fn forward<B: Backend>(&self, backend: &mut B, out: Region, train: bool) -> Result<()> {
        backend.embed_forward(EmbedForward {
            word: self.word,
            position: self.position,
            token_type: self.token_type,
            norm: self.norm,
            dropout: if train { self.dropout } else { Dropout::NONE },
            out,
        })
    }
}

/// A rehearsed pass over batches of up to [`Program::limits`].
#[derive(Clone, Debug)]
pub struct Program {
    pub plan: Plan,
    pub limits: Limits,
    train: bool,
    /// When forward has ended and backward not begun.
    turn: usize,
    embedded: TensorId,
    forward: Vec<ForwardTensors>,
    head: HeadTensors,
    /// Present when something in the encoder trains.
    backward: Option<Backward>,
}

#[derive(Clone, Debug)]
struct Backward {
    /// The gradient of the last hidden states.
    dx: TensorId,
    /// One for each layer, first layer first.
    layers: Vec<BackwardTensors>,
}

/// Called with the hidden states `[tokens, hidden]` after the embeddings (0) and after each layer (1, 2, …); the last
/// are `[sequences, hidden]` where the head reads the first tokens alone, unless [`Model::keep_every_token`].
pub type Observer<'a, B> = &'a mut dyn FnMut(usize, &B, Region) -> Result<()>;

impl Model {
    /// How far backward goes in each layer, first layer first.
    pub fn needs(&self) -> Vec<Needs> {
        let mut below = self.params.if_trained(self.embeddings.norm.beta).is_some();
        self.layers
            .iter()
            .map(|layer| {
                let needs = layer.needs(&self.params, below);
                below |= needs != Needs::Nothing;
                needs
            })
            .collect()
    }

    /// How each layer saves. The last one's backward comes first: running its forward pass again would save nothing.
    fn savings(&self, saving: Saving) -> Vec<Saving> {
        let mut savings = vec![saving; self.layers.len()];
        if let Some(last) = savings.last_mut()
            && saving.checkpoint
        {
            *last = Saving::KEEP;
        }
        savings
    }

    /// Rehearses a pass for batches of up to `limits` on a backend with activations of `element` bytes.
    /// With `train` it includes backward and keeps what that needs, in the way that it says, and nothing else.
    pub fn program(&self, limits: Limits, element: usize, train: Option<Saving>) -> Program {
        let saving = train.unwrap_or_default();
        let train = train.is_some();
        let sizes = TensorSizes {
            tokens: limits.tokens,
            sequences: limits.sequences,
            element,
        };
        let needs = if train {
            self.needs()
        } else {
            vec![Needs::Nothing; self.layers.len()]
        };
        let beta_trains = self.params.if_trained(self.embeddings.norm.beta).is_some();
        let encoder_trains =
            train && (beta_trains || needs.iter().any(|&needs| needs != Needs::Nothing));
        let weights = train && self.trains_weights();

        let mut plan = Planner::new();
        let bytes = sizes.activation(Rows::Tokens, self.config.hidden);
        let embedded = plan.acquire("embeddings", bytes);
        let mut x = embedded;
        let mut forward = Vec::with_capacity(self.layers.len());
        let mut keeps = Vec::with_capacity(self.layers.len());
        let savings = self.savings(saving);
        let mut origin = Some(Origin::Embeddings(self.embeddings));
        for (i, layer) in self.layers.iter().enumerate() {
            let input = Input { tensor: x, origin };
            let keep = Keep {
                needs: needs[i],
                saving: savings[i],
                weights,
            };
            let tensors = layer.plan_forward(i, &mut plan, sizes, keep, input);
            keeps.push(keep);
            x = tensors.output;
            origin = tensors
                .output_norm
                .and_then(|kept| kept.origin(layer.output_norm, layer.rows()));
            forward.push(tensors);
        }
        let head = self
            .head
            .plan(&mut plan, &self.params, limits, train, encoder_trains);
        plan.release(x);
        let turn = plan.now();
        let backward = encoder_trains.then(|| {
            let bytes = sizes.activation(self.last_rows(), self.config.hidden);
            let top = plan.acquire("dx", bytes);
            let mut dx = top;
            let mut layers = Vec::with_capacity(self.layers.len());
            for (i, layer) in self.layers.iter().enumerate().rev() {
                let tensors = layer.plan_backward(i, &mut plan, sizes, keeps[i], &forward[i], dx);
                dx = tensors.below();
                layers.push(tensors);
            }
            layers.reverse();
            Backward { dx: top, layers }
        });
        Program {
            plan: plan.finish(),
            limits,
            train,
            turn,
            embedded,
            forward,
            head,
            backward,
        }
    }

    /// What the given programs need of a device beside the matrices; they share one arena.
    pub fn memory(&self, programs: &[&Program]) -> Memory {
        let most =
            |of: fn(&Limits) -> usize| programs.iter().map(|p| of(&p.limits)).max().unwrap_or(0);
        Memory {
            arena: programs.iter().map(|p| p.plan.bytes).max().unwrap_or(0),
            params: self.params.count(),
            trainable: self.params.trainable(),
            limits: Limits {
                tokens: most(|l| l.tokens),
                sequences: most(|l| l.sequences),
                max_len: most(|l| l.max_len),
            },
            widest: self
                .config
                .intermediate
                .max(3 * self.config.hidden)
                .max(self.head.outputs()),
            head_dim: self.config.head_dim(),
        }
    }

    /// Allocates device memory for the given programs and writes the initial parameters.
    pub fn allocate<B: Backend>(&self, backend: &mut B, programs: &[&Program]) -> Result<()> {
        backend.allocate(self.memory(programs))?;
        backend.write_params(Slot::Value, self.params.whole(), self.params.initial())
    }

    /// The rows of the last hidden states: the head may read one a sequence, and then no others are made.
    fn last_rows(&self) -> Rows {
        self.layers.last().map_or(Rows::Tokens, Layer::rows)
    }

    /// Makes the last hidden states of all tokens, also where the head reads the first alone: to look at them.
    pub fn keep_every_token(&mut self) {
        if let Some(last) = self.layers.last_mut() {
            last.first = None;
        }
    }

    /// Whether every weight trains, and not biases and the head alone.
    pub fn trains_weights(&self) -> bool {
        self.trained.is_some()
    }

    /// Runs the current batch up to the logits.
    pub fn forward<B: Backend>(
        &self,
        backend: &mut B,
        program: &Program,
        mut observer: Option<Observer<'_, B>>,
    ) -> Result<()> {
        let mut observe = |layer: usize, backend: &B, tensor: TensorId| match &mut observer {
            Some(observer) => observer(layer, backend, program.plan.region(tensor)),
            None => Ok(()),
        };
        let out = program.plan.region(program.embedded);
        self.embeddings.forward(backend, out, program.train)?;
        observe(0, backend, program.embedded)?;
        for (i, (layer, tensors)) in self.layers.iter().zip(&program.forward).enumerate() {
            layer.forward(backend, &program.plan, tensors, program.train)?;
            observe(i + 1, backend, tensors.output)?;
        }
        let x = program.plan.region(program.hidden());
        let x = (x, self.last_rows());
        self.head
            .forward(backend, &program.plan, &program.head, x, program.train)
    }

    /// Adds `weight` times the batch's summed loss to the step's loss.
    pub fn loss<B: Backend>(
        &self,
        backend: &mut B,
        program: &Program,
        kind: LossKind,
        weight: f32,
    ) -> Result<()> {
        self.head
            .loss(backend, &program.plan, &program.head, kind, weight)
    }

    /// Adds the gradients of the biases and the head; after [`Model::forward`] and [`Model::loss`] with a training
    /// program. Where every weight trains it is [`Model::backward_full`] instead.
    pub fn backward<B: Backend>(&self, backend: &mut B, program: &Program) -> Result<()> {
        let dx = self.layers_backward(backend, program, |_, _| Frozen)?;
        match (dx, self.params.if_trained(self.embeddings.norm.beta)) {
            (Some(dy), Some(grad)) => backend.bias_grad(BiasGrad {
                dy,
                dropout: self.embeddings.dropout,
                grad,
                rows: Rows::Tokens,
            }),
            _ => Ok(()),
        }
    }

    /// Backward of the head and the layers, down to the lowest that has something to train; returns where the
    /// gradient of the embeddings' output is, if it came that far.
    fn layers_backward<'a, B: Backend, W: WeightHooks<B>>(
        &self,
        backend: &mut B,
        program: &'a Program,
        weights: impl Fn(usize, &'a BackwardTensors) -> W,
    ) -> Result<Option<Region>> {
        let plan = &program.plan;
        let dx = program.backward.as_ref().map(|b| plan.region(b.dx));
        let rows = self.last_rows();
        self.head
            .backward(backend, plan, &program.head, dx.map(|dx| (dx, rows)))?;
        let Some(backward) = &program.backward else {
            return Ok(None);
        };
        let mut below = backward.dx;
        let needs = self.needs();
        for i in (0..self.layers.len()).rev() {
            if needs[i] == Needs::Nothing {
                return Ok(None);
            }
            let pass = BackwardPass {
                plan,
                params: &self.params,
                needs: needs[i],
                forward: &program.forward[i],
                backward: &backward.layers[i],
            };
            self.layers[i].backward(backend, pass, weights(i, &backward.layers[i]))?;
            below = backward.layers[i].below();
        }
        Ok(Some(plan.region(below)))
    }

    /// The logits of the current batch, `[sequences, outputs]`.
    pub fn logits<B: Backend>(
        &self,
        backend: &B,
        program: &Program,
        sequences: usize,
    ) -> Result<Vec<f32>> {
        let region = self.head.logits(&program.plan, &program.head);
        backend.read_f32(region, sequences * self.head.outputs())
    }

    /// The pooled vectors of the current batch, `[sequences, hidden]`.
    pub fn pooled<B: Backend>(
        &self,
        backend: &B,
        program: &Program,
        sequences: usize,
    ) -> Result<Vec<f32>> {
        let region = self.head.pooled(&program.plan, &program.head);
        backend.read_f32(region, sequences * self.config.hidden)
    }
}

impl Program {
    /// Bytes of the head's tensors, which live to the end of the pass.
    pub fn head_bytes(&self) -> usize {
        let of_head = |tensor: &&Tensor| tensor.name.starts_with("head.");
        let tensors = self.plan.tensors.iter().filter(of_head);
        tensors.map(|tensor| tensor.region.len).sum()
    }

    /// The tensors that are kept from the forward pass to the backward pass.
    pub fn saved(&self) -> impl Iterator<Item = &Tensor> {
        let tensors = self.plan.tensors.iter();
        tensors.filter(|tensor| self.train && tensor.spans(self.turn))
    }

    /// The last hidden states.
    fn hidden(&self) -> TensorId {
        self.forward
            .last()
            .map_or(self.embedded, |layer| layer.output)
    }
}
