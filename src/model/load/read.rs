//! Reads a checkpoint: which tensor is which, and what is new.

use super::added::{FactorNames, NewLowRank};
use super::chosen::{NewSparse, NewVectorEntries};
use super::{NEW_POOLER, Source, Store, TaskSpec};
use crate::backend::{MatrixKind, MatrixShape};
use crate::methods::entries::Places;
use crate::model::config::{Family, ModelConfig};
use crate::model::params::{NewParam, ParamKind, Params};
use crate::program::{Activation, HeadWeight, LossKind, ParamRange, PoolKind, WeightId};
use crate::rng::{Purpose, Stream};
use crate::room::room;
use crate::settings::biases::Component;
use anyhow::{Result, anyhow, ensure};

/// Standard deviation of new head matrices: `initializer_range` of BERT and RoBERTa.
const HEAD_STD: f32 = 0.02;

/// Limit on a head's outputs: classes are numbered in 32 bits, and products of a few sizes must not overflow.
const MOST_OUTPUTS: usize = 1 << 31;

/// Collects matrices and parameters in the order of the forward pass; places are only known at its end.
pub struct Loader<'a> {
    pub source: &'a dyn Source,
    pub config: &'a ModelConfig,
    pub task: &'a TaskSpec,
    pub store: &'a mut dyn Store,
    pub params: Vec<NewParam>,
    /// Single values that train, by the names of their tensors inside the encoder.
    pub chosen: Places,
    /// Those of the vectors so far.
    pub vectors: NewVectorEntries,
    /// Those in the store.
    pub matrices: Vec<MatrixShape>,
}

pub struct NormNames {
    pub gamma: String,
    pub beta: String,
}

pub struct NewEmbeddings {
    pub word: NewWeight,
    pub position: NewWeight,
    pub token_type: NewWeight,
    pub norm: NormNames,
}

pub struct NewLayer {
    pub qkv: NewWeight,
    pub qkv_bias: [String; 3],
    pub attention_output: NewWeight,
    pub attention_output_bias: String,
    pub attention_norm: NormNames,
    pub intermediate: NewWeight,
    pub intermediate_bias: String,
    pub output: NewWeight,
    pub output_bias: String,
    pub output_norm: NormNames,
    pub factors: Option<FactorNames>,
    pub low_rank: Vec<NewLowRank>,
}

/// A matrix.
#[derive(Clone)]
pub struct NewWeight {
    pub name: String,
    pub shape: MatrixShape,
    pub stored: StoredAs,
    /// Single values added to it, which train.
    pub sparse: Option<NewSparse>,
}

#[derive(Clone)]
pub enum StoredAs {
    Frozen(WeightId),
    /// Trains. The matrix consists of these parameters stacked; they were added one after the other.
    Params(Vec<String>),
}

impl NewWeight {
    pub fn place(&self, params: &Params) -> HeadWeight {
        match &self.stored {
            StoredAs::Frozen(id) => HeadWeight::Frozen(*id),
            StoredAs::Params(names) => {
                let ranges: Vec<_> = names.iter().map(|name| params.range(name)).collect();
                debug_assert!(ranges.windows(2).all(|w| w[0].offset + w[0].len == w[1].offset));
                HeadWeight::Param(ParamRange {
                    offset: ranges.iter().map(|r| r.offset).min().unwrap_or(0),
                    len: ranges.iter().map(|r| r.len).sum(),
                })
            }
        }
    }
}

pub struct NewHeadLayer {
    pub weight: NewWeight,
    pub bias: String,
    pub outputs: usize,
    pub dropout: bool,
    pub tanh: bool,
    /// The activation and the LayerNorm that follow it.
    pub norm: Option<(Activation, NormNames)>,
}

impl Loader<'_> {
    pub fn embeddings(&mut self) -> Result<NewEmbeddings> {
        let c = self.config;
        Ok(NewEmbeddings {
            word: self.table("embeddings.word_embeddings", c.vocab)?,
            position: self.table("embeddings.position_embeddings", c.position_rows)?,
            token_type: self.table("embeddings.token_type_embeddings", c.type_vocab)?,
            norm: self.norm(Component::EmbeddingsLayerNorm, None)?,
        })
    }

    pub fn layer(&mut self, i: usize) -> Result<NewLayer> {
        use Component::*;
        let (h, inner) = (self.config.hidden, self.config.intermediate);
        let path = |component: Component| format!("encoder.layer.{i}.{}", component.module());
        let modules = [Query, Key, Value].map(&path);
        let qkv = self.stacked(MatrixKind::Linear, &modules, [h, h])?;
        Ok(NewLayer {
            qkv,
            qkv_bias: [self.bias(Query, i)?, self.bias(Key, i)?, self.bias(Value, i)?],
            attention_output: self.matrix(&path(AttentionOutput), h, h)?,
            attention_output_bias: self.bias(AttentionOutput, i)?,
            attention_norm: self.norm(AttentionLayerNorm, Some(i))?,
            intermediate: self.matrix(&path(Intermediate), inner, h)?,
            intermediate_bias: self.bias(Intermediate, i)?,
            output: self.matrix(&path(Output), h, inner)?,
            output_bias: self.bias(Output, i)?,
            output_norm: self.norm(OutputLayerNorm, Some(i))?,
            factors: self.factors(i),
            low_rank: self.low_rank(i),
        })
    }

    /// `words` is the word embedding table.
    pub fn head(&mut self, words: &NewWeight) -> Result<Vec<NewHeadLayer>> {
        let (h, outputs) = (self.config.hidden, self.task.outputs);
        ensure!(
            outputs <= MOST_OUTPUTS,
            "a head of {outputs} outputs; the limit is {MOST_OUTPUTS}"
        );
        let last = |loader: &mut Self, name: &str| -> Result<NewHeadLayer> {
            Ok(NewHeadLayer {
                weight: loader.new_matrix(
                    &format!("{name}.weight"),
                    [outputs, h],
                    (Purpose::HeadInit, 0),
                )?,
                bias: loader.new_bias(&format!("{name}.bias"), outputs),
                outputs,
                dropout: true,
                tanh: false,
                norm: None,
            })
        };
        Ok(match (self.task.pooling, self.config.family) {
            (PoolKind::Each, _) if self.task.loss == LossKind::Span => {
                vec![NewHeadLayer { dropout: false, ..last(self, "qa_outputs")? }]
            }
            (PoolKind::Labelled(_), _) => self.words_head(words)?,
            (PoolKind::Mean | PoolKind::Each, _) => vec![last(self, "classifier")?],
            (PoolKind::Cls, Family::Bert) => {
                let pooler = self.pooler()?;
                vec![pooler, last(self, "classifier")?]
            }
            (PoolKind::Cls, Family::Roberta) => {
                let dense = NewHeadLayer {
                    weight: self.new_matrix(
                        "classifier.dense.weight",
                        [h, h],
                        (Purpose::HeadInit, 1),
                    )?,
                    bias: self.new_bias("classifier.dense.bias", h),
                    outputs: h,
                    dropout: true,
                    tanh: true,
                    norm: None,
                };
                vec![dense, last(self, "classifier.out_proj")?]
            }
        })
    }

    /// The class weights, which the loss reads from the parameter vector.
    pub fn class_weights(&mut self) -> Option<String> {
        let weights = &self.task.class_weights;
        let values = (weights.len(), weights.clone());
        (!weights.is_empty())
            .then(|| self.add(ParamKind::Loss, None, "loss.weight".to_owned(), values, false))
    }

    /// BERT's pooler: the checkpoint's, or a new one.
    fn pooler(&mut self) -> Result<NewHeadLayer> {
        let h = self.config.hidden;
        let new = self.task.reinit_pooler || !self.source.has("pooler.dense.weight");
        let (weight, bias) = if new {
            (
                self.new_matrix(NEW_POOLER, [h, h], (Purpose::PoolerInit, 0))?,
                self.new_bias("bert.pooler.dense.bias", h),
            )
        } else {
            let matrix = self.matrix(Component::Pooler.module(), h, h)?;
            let name = format!("{}.bias", Component::Pooler.module());
            (matrix, self.component(Component::Pooler, None, &name)?)
        };
        Ok(NewHeadLayer { weight, bias, outputs: h, dropout: false, tanh: true, norm: None })
    }

    /// An embedding table.
    fn table(&mut self, module: &str, rows: usize) -> Result<NewWeight> {
        let shape = [rows, self.config.hidden];
        self.stacked(MatrixKind::Table, &[module.to_owned()], shape)
    }

    /// `{module}.weight`: uploaded if it is frozen, a parameter if it trains.
    fn matrix(&mut self, module: &str, rows: usize, cols: usize) -> Result<NewWeight> {
        self.stacked(MatrixKind::Linear, &[module.to_owned()], [rows, cols])
    }

    /// The `{module}.weight`s, each `[rows, cols]`, stacked into one matrix.
    fn stacked(
        &mut self,
        kind: MatrixKind,
        modules: &[String],
        [rows, cols]: [usize; 2],
    ) -> Result<NewWeight> {
        let names: Vec<_> = modules.iter().map(|m| format!("{m}.weight")).collect();
        let name = names.join(" + ");
        let shape = MatrixShape {
            kind,
            rows: rows * modules.len(),
            cols,
            trains: self.task.trains.weights(),
        };
        let stored = if shape.trains {
            for name in &names {
                let values = self.source.get(name, &[rows, cols])?;
                self.params.push(NewParam {
                    name: self.full_name(name),
                    kind: ParamKind::Weight,
                    layer: None,
                    shape: vec![rows, cols],
                    trains: true,
                    in_part: false,
                    values,
                });
            }
            StoredAs::Params(names.iter().map(|name| self.full_name(name)).collect())
        } else {
            let source = self.source;
            self.frozen(&name, shape, || {
                // The first is moved, not copied: a copy of the largest table would dominate the memory used for
                // loading.
                let mut data = Vec::new();
                for name in &names {
                    let values = source.get(name, &[rows, cols])?;
                    if data.is_empty() {
                        data = values;
                    } else {
                        data.extend(values);
                    }
                }
                Ok(data)
            })?
        };
        let table = kind == MatrixKind::Table && self.task.trains.in_vectors();
        let sparse = self.sparse(&names, [rows, cols], table);
        Ok(NewWeight { name, shape, stored, sparse })
    }

    /// A frozen matrix; its values are only read if no other model has stored them.
    pub(super) fn frozen(
        &mut self,
        name: &str,
        shape: MatrixShape,
        values: impl FnOnce() -> Result<Vec<f32>>,
    ) -> Result<StoredAs> {
        self.matrices.push(shape);
        Ok(StoredAs::Frozen(match self.store.resident(name, shape) {
            Some(id) => id,
            None => self.store.frozen(name, shape, &values()?)?,
        }))
    }

    fn bias(&mut self, component: Component, layer: usize) -> Result<String> {
        let name = format!("encoder.layer.{layer}.{}.bias", component.module());
        self.component(component, Some(layer), &name)
    }

    fn norm(&mut self, component: Component, layer: Option<usize>) -> Result<NormNames> {
        let module = match layer {
            Some(layer) => format!("encoder.layer.{layer}.{}", component.module()),
            None => component.module().to_owned(),
        };
        let name = format!("{module}.weight");
        let values = self.source.get(&name, &[self.config.hidden])?;
        let gamma = self.add(
            ParamKind::Gain,
            layer,
            self.full_name(&name),
            (self.config.hidden, values),
            self.task.trains.gains(),
        );
        let beta = self.component(component, layer, &format!("{module}.bias"))?;
        Ok(NormNames { gamma, beta })
    }

    /// Adds a bias of the encoder, which trains if selected. If the checkpoint lacks it, the method may add it.
    fn component(
        &mut self,
        component: Component,
        layer: Option<usize>,
        name: &str,
    ) -> Result<String> {
        let width = component.width(self.config.hidden, self.config.intermediate);
        let trains = &self.task.trains;
        let (values, trains) = if trains.adds(component) && !self.source.has_bias(name) {
            // No values means zeros.
            (Vec::new(), trains.added_bias(component, layer))
        } else {
            let values = self.source.get(name, &[width]).map_err(|error| {
                match component.is_linear() && !self.source.has_bias(name) {
                    true => anyhow!(
                        "{error:#}; --method added-biases works without biases in the checkpoint"
                    ),
                    false => error,
                }
            })?;
            (values, trains.bias(component, layer))
        };
        Ok(self.add(
            ParamKind::Bias(component),
            layer,
            self.full_name(name),
            (width, values),
            trains,
        ))
    }

    pub fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.config.family.prefix())
    }

    /// A head matrix drawn from a normal distribution.
    fn new_matrix(
        &mut self,
        name: &str,
        [rows, cols]: [usize; 2],
        (purpose, index): (Purpose, u64),
    ) -> Result<NewWeight> {
        let mut stream = Stream::new(self.task.seed, purpose, index);
        let count = if self.source.has_values() { rows * cols } else { 0 };
        let mut values = room(count, name)?;
        values.extend((0..count).map(|_| HEAD_STD * stream.normal()));
        let shape = vec![rows, cols];
        self.params.push(NewParam {
            name: name.to_owned(),
            kind: ParamKind::Head,
            layer: None,
            shape,
            trains: true,
            in_part: false,
            values,
        });
        Ok(NewWeight {
            name: name.to_owned(),
            shape: MatrixShape { kind: MatrixKind::Linear, rows, cols, trains: true },
            stored: StoredAs::Params(vec![name.to_owned()]),
            sparse: None,
        })
    }

    fn new_bias(&mut self, name: &str, len: usize) -> String {
        // No values means zeros.
        let values = (len, Vec::new());
        self.add(ParamKind::Head, None, name.to_owned(), values, true)
    }

    pub(super) fn add(
        &mut self,
        kind: ParamKind,
        layer: Option<usize>,
        name: String,
        (len, values): (usize, Vec<f32>),
        trains: bool,
    ) -> String {
        let shape = vec![len];
        let of_encoder = match kind {
            ParamKind::Gain => true,
            ParamKind::Bias(component) => component != Component::Pooler,
            _ => false,
        };
        let in_part = of_encoder && self.task.trains.in_vectors();
        if in_part {
            self.note_vector(&name, &values);
        }
        let new = NewParam { name: name.clone(), kind, layer, shape, trains, in_part, values };
        self.params.push(new);
        name
    }
}
