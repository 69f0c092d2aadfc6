//! The task head: pooling, then one or two dense layers on the pooled vectors, or one on each token's vector, all in
//! f32. Hidden states of the first tokens alone, or of each token, need no pooling: the first layer reads them as they
//! are.
//!
//! | family, pooling | layers | source |
//! |---|---|---|
//! | BERT, cls | `pooler.dense` + tanh, then `classifier` | `BertForSequenceClassification` |
//! | RoBERTa, cls | `classifier.dense` + tanh, then `classifier.out_proj` | `RobertaClassificationHead` |
//! | any, mean | `classifier` on the mean of the tokens | sentence encoders |
//! | any, each token | `classifier` | `BertForTokenClassification`, `RobertaForTokenClassification` |
//! | any, each token | `qa_outputs`, without dropout | `BertForQuestionAnswering`, `RobertaForQuestionAnswering` |
//! | BERT, labelled tokens | `cls.predictions`: `transform`, then the word table | `BertForMaskedLM` |
//! | RoBERTa, labelled tokens | `lm_head`: `dense` and `layer_norm`, then the word table | `RobertaForMaskedLM` |
//!
//! BERT's pooler belongs to the checkpoint: its matrix is frozen and its bias is one of the biases. If the checkpoint
//! has none, or a fresh one is requested, it is new and trains like the rest of the head.
//!
//! The masked-words head comes entirely from the checkpoint: its matrices and its LayerNorm's gain are frozen, its
//! three biases train. All logits of the labelled tokens are held at once, `[labelled, vocabulary]`, with their
//! gradient: for 32 × 128 tokens and BERT's vocabulary that is 158 MB, a twelfth of what such a step takes on a CPU,
//! and micro-batches divide it.

use crate::program::{
    ActNorm, ActNormBack, Activation, Aside, Builder, Dense, DenseBack, Dropout, HeadWeight, In,
    Loss, LossKind, Norm, Out, Over, ParamRange, Pool, PoolBack, PoolKind, Storage, Sum, Value,
    What,
};

/// The head of a task model.
#[derive(Clone, Debug)]
pub struct TaskHead {
    pub pool: PoolKind,
    pub hidden: usize,
    pub layers: Vec<DenseLayer>,
    pub loss: LossKind,
    pub class_weights: Option<ClassWeights>,
}

/// Factors on the losses of the classes, `[outputs]` (`weight` of `torch.nn.CrossEntropyLoss`).
#[derive(Clone, Debug)]
pub struct ClassWeights {
    /// A parameter that stays frozen.
    pub range: ParamRange,
    pub values: Vec<f32>,
}

/// One dense layer of the head.
#[derive(Clone, Copy, Debug)]
pub struct DenseLayer {
    pub weight: HeadWeight,
    pub bias: ParamRange,
    pub outputs: usize,
    /// On the layer's input.
    pub dropout: Dropout,
    pub tanh: bool,
    /// What follows it in a masked-words head.
    pub norm: Option<(Activation, Norm)>,
}

/// What the head produces in forward.
#[derive(Clone, Debug)]
pub struct HeadPass {
    /// The hidden states.
    x: Value,
    /// The input of each layer, then the logits.
    values: Vec<Value>,
    /// The product of each layer's matrix, which may be followed by a norm.
    products: Vec<Value>,
}

impl HeadPass {
    pub fn pooled(&self) -> Value {
        self.values[0]
    }

    pub fn logits(&self) -> Value {
        self.values[self.values.len() - 1]
    }
}

impl TaskHead {
    /// The class weights; empty if all classes count the same.
    pub fn weights_of_classes(&self) -> &[f32] {
        self.class_weights.as_ref().map_or(&[], |weights| &weights.values)
    }

    /// Number of logits.
    pub fn outputs(&self) -> usize {
        self.layers.last().map_or(self.hidden, |layer| layer.outputs)
    }

    /// From the last hidden states to logits.
    pub fn forward(&self, b: &mut Builder, x: Value) -> HeadPass {
        let rows = self.pool.rows();
        let f32 = |b: &mut Builder, what, width| b.value(what, rows, width, Storage::F32);
        let pooled = if self.pool.needs_nothing(b.info(x).rows) {
            b.rename(x, What::Pooled);
            x
        } else {
            let pooled = f32(b, What::Pooled, self.hidden);
            b.push(Pool { kind: self.pool, x: In(x), out: Out(pooled) });
            pooled
        };
        let (mut values, mut products) = (vec![pooled], Vec::new());
        for (i, layer) in self.layers.iter().enumerate() {
            let last = i + 1 == self.layers.len();
            let what = if last { What::Logits } else { What::Head };
            let y = f32(b, what, layer.outputs);
            b.push(Dense {
                x: In(values[i]),
                weight: layer.weight,
                bias: layer.bias,
                dropout: b.dropout(layer.dropout),
                tanh: layer.tanh,
                y: Out(y),
            });
            products.push(y);
            values.push(match layer.norm {
                None => y,
                Some((act, norm)) => {
                    let normed = b.like(What::Head, y);
                    b.push(ActNorm { x: In(y), act, norm, y: Out(normed) });
                    normed
                }
            });
        }
        HeadPass { x, values, products }
    }

    /// Adds the batch's loss to the step's and returns the gradient of the logits.
    pub fn loss(&self, b: &mut Builder, pass: &HeadPass) -> Value {
        let logits = pass.logits();
        let dlogits = b.like(What::Head, logits);
        b.push(Loss {
            kind: self.loss,
            class_weights: self.class_weights.as_ref().map(|weights| weights.range),
            logits: In(logits),
            dlogits: Aside(Some(dlogits)),
        });
        dlogits
    }

    /// From the gradient of the logits to that of the hidden states.
    pub fn backward(&self, b: &mut Builder, pass: &HeadPass, dlogits: Value) -> Value {
        let mut dy = dlogits;
        for (i, layer) in self.layers.iter().enumerate().rev() {
            let (x, y) = (pass.values[i], pass.products[i]);
            let below = i.checked_sub(1).map(|below| &self.layers[below]);
            if let Some((act, norm)) = layer.norm {
                let now = b.like(What::Head, dy);
                let dx = Over { was: dy, now };
                b.push(ActNormBack { x: In(y), act, norm, dx, dbeta: Sum(Some(norm.beta)) });
                dy = now;
            }
            let of_stream = b.info(x).storage == Storage::Stream;
            let dx = b.like(if of_stream { What::Gradient } else { What::Head }, x);
            b.push(DenseBack {
                x: In(x),
                weight: layer.weight,
                dropout: b.dropout(layer.dropout),
                tanh: below.is_some_and(|below| below.tanh),
                dy: In(dy),
                dx: Aside(Some(dx)),
                dweight: match layer.weight {
                    HeadWeight::Param(range) => Sum(Some(range)),
                    HeadWeight::Frozen(_) => Sum(None),
                },
                dbias: Sum(Some(layer.bias)),
            });
            dy = dx;
        }
        if pass.pooled() == pass.x {
            return dy;
        }
        let dx = b.gradient(pass.x);
        b.push(PoolBack { kind: self.pool, dy: In(dy), dx: Out(dx) });
        dx
    }
}
