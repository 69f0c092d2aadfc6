//! The task head: pooling, then one or two dense layers on the pooled vectors, all in f32.
//!
//! | family, pooling | layers | source |
//! |---|---|---|
//! | BERT, cls | `pooler.dense` + tanh, then `classifier` | `BertForSequenceClassification` |
//! | RoBERTa, cls | `classifier.dense` + tanh, then `classifier.out_proj` | `RobertaClassificationHead` |
//! | any, mean | `classifier` on the mean of the tokens | sentence encoders |
//!
//! BERT's pooler belongs to the checkpoint: its matrix is frozen and its bias is one of the biases. Where the
//! checkpoint has none, or a fresh one is asked for, it is new and trains like the rest of the head.

use super::params::Params;
use crate::backend::plan::{Plan, Planner, TensorId};
use crate::backend::{
    Backend, Dense, DenseBackward, Dropout, HeadWeight, Limits, Loss, LossKind, ParamRange, Pool,
    PoolKind, Region, Rows,
};
use anyhow::Result;

/// The head of a task model.
#[derive(Clone, Debug)]
pub struct Head {
    pub pool: PoolKind,
    pub hidden: usize,
    pub layers: Vec<HeadLayer>,
}

/// One dense layer of the head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLayer {
    pub weight: HeadWeight,
    pub bias: ParamRange,
    pub inputs: usize,
    pub outputs: usize,
    /// On the layer's input.
    pub dropout: Dropout,
    pub tanh: bool,
}

/// Arena tensors of the head, all f32 `[sequences, …]`.
#[derive(Clone, Debug)]
pub struct HeadTensors {
    /// The input of each layer, then the logits.
    values: Vec<TensorId>,
    /// Their gradients, where backward needs them.
    gradients: Vec<Option<TensorId>>,
}

impl Head {
    /// Number of logits.
    pub fn outputs(&self) -> usize {
        self.layers
            .last()
            .map_or(self.hidden, |layer| layer.outputs)
    }

    /// The lowest layer that trains or has something that trains below it.
    fn lowest_layer(&self, params: &Params, encoder_trains: bool) -> usize {
        if encoder_trains {
            return 0;
        }
        let trains = |layer: &HeadLayer| {
            params.if_trained(layer.bias).is_some() || matches!(layer.weight, HeadWeight::Param(_))
        };
        self.layers
            .iter()
            .position(trains)
            .unwrap_or(self.layers.len())
    }

    /// Rehearses forward and, if `train`, the head's own backward. `encoder_trains` says whether the gradient
    /// of the pooled vectors is needed.
    pub fn plan(
        &self,
        plan: &mut Planner,
        params: &Params,
        limits: Limits,
        train: bool,
        encoder_trains: bool,
    ) -> HeadTensors {
        let widths: Vec<usize> = std::iter::once(self.hidden)
            .chain(self.layers.iter().map(|l| l.outputs))
            .collect();
        let bytes = |width: usize| limits.sequences * width * size_of::<f32>();
        let values = widths
            .iter()
            .enumerate()
            .map(|(i, &width)| plan.acquire(format!("head.{i}"), bytes(width)))
            .collect();
        let lowest = self.lowest_layer(params, encoder_trains);
        let gradients = widths
            .iter()
            .enumerate()
            .map(|(i, &width)| {
                let needed = train && (i > lowest || (i == 0 && encoder_trains));
                needed.then(|| plan.acquire(format!("head.{i}.gradient"), bytes(width)))
            })
            .collect();
        HeadTensors { values, gradients }
    }

    /// From the last hidden states, and which rows they have, to logits.
    pub fn forward<B: Backend>(
        &self,
        backend: &mut B,
        plan: &Plan,
        tensors: &HeadTensors,
        x: (Region, Rows),
        train: bool,
    ) -> Result<()> {
        backend.pool_forward(self.pooling(x, plan.region(tensors.values[0])))?;
        (0..self.layers.len())
            .try_for_each(|i| backend.dense_forward(self.dense(i, plan, tensors, train)))
    }

    /// Adds `weight` times the batch's summed loss to the step's; in training also starts backward.
    pub fn loss<B: Backend>(
        &self,
        backend: &mut B,
        plan: &Plan,
        tensors: &HeadTensors,
        kind: LossKind,
        weight: f32,
    ) -> Result<()> {
        let last = self.layers.len();
        backend.loss(Loss {
            kind,
            logits: plan.region(tensors.values[last]),
            outputs: self.outputs(),
            weight,
            dlogits: tensors.gradients[last].map(|id| plan.region(id)),
        })
    }

    /// Adds the head's gradients; where the encoder trains, `dx` becomes the gradient of the hidden states.
    pub fn backward<B: Backend>(
        &self,
        backend: &mut B,
        plan: &Plan,
        tensors: &HeadTensors,
        dx: Option<(Region, Rows)>,
    ) -> Result<()> {
        for i in (0..self.layers.len()).rev() {
            let Some(dy) = tensors.gradients[i + 1] else {
                break;
            };
            backend.dense_backward(DenseBackward {
                layer: self.dense(i, plan, tensors, true),
                dy: plan.region(dy),
                dx: tensors.gradients[i].map(|id| plan.region(id)),
            })?;
        }
        match (dx, tensors.gradients[0]) {
            (Some(dx), Some(pooled)) => {
                backend.pool_backward(self.pooling(dx, plan.region(pooled)))
            }
            _ => Ok(()),
        }
    }

    /// Where the logits are, f32 `[sequences, outputs]`.
    pub fn logits(&self, plan: &Plan, tensors: &HeadTensors) -> Region {
        plan.region(tensors.values[self.layers.len()])
    }

    /// Where the pooled vectors are, f32 `[sequences, hidden]`.
    pub fn pooled(&self, plan: &Plan, tensors: &HeadTensors) -> Region {
        plan.region(tensors.values[0])
    }

    fn pooling(&self, (x, rows): (Region, Rows), pooled: Region) -> Pool {
        Pool {
            kind: self.pool,
            hidden: self.hidden,
            x,
            rows,
            pooled,
        }
    }

    fn dense(&self, i: usize, plan: &Plan, tensors: &HeadTensors, train: bool) -> Dense {
        let layer = self.layers[i];
        Dense {
            x: plan.region(tensors.values[i]),
            weight: layer.weight,
            bias: layer.bias,
            y: plan.region(tensors.values[i + 1]),
            inputs: layer.inputs,
            outputs: layer.outputs,
            dropout: if train { layer.dropout } else { Dropout::NONE },
            tanh: layer.tanh,
        }
    }
}
