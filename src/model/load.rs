//! From a checkpoint folder to a [`Model`] on a device: which tensor goes where, and what is new.

use super::config::{Family, ModelConfig};
use super::head::{Head, HeadLayer};
use super::layer::{Layer, LayerShape};
use super::params::{NewParam, ParamKind, Params};
use super::weights::{Weights, read_tensor};
use super::{Embeddings, Model};
use crate::backend::{Backend, Dropout, HeadWeight, Norm, PoolKind, WeightId};
use crate::biases::{BiasSelection, Component};
use crate::error::UsageError;
use crate::rng::{Purpose, Stream};
use anyhow::{Context, Result};
use std::path::Path;

/// Standard deviation of new head matrices: `initializer_range` of BERT and RoBERTa.
const HEAD_STD: f32 = 0.02;

/// The matrix of a BERT pooler that is drawn anew; one of the checkpoint is a frozen matrix, no parameter.
pub const NEW_POOLER: &str = "bert.pooler.dense.weight";

/// What the model is to be used for.
#[derive(Clone, Debug)]
pub struct TaskSpec {
    /// Classes, or 1 for regression.
    pub outputs: usize,
    pub pooling: PoolKind,
    /// Replace the checkpoint's pooler by a new one, which trains.
    pub reinit_pooler: bool,
    /// The biases that train; none trains the head alone.
    pub biases: BiasSelection,
    /// Replaces all dropout probabilities of the configuration.
    pub dropout: Option<f32>,
    /// Draws the new head.
    pub seed: u64,
}

/// How a checkpoint's makers pool: sentence encoders carry `1_Pooling/config.json`.
///
/// # Errors
/// When that file is there and broken.
pub fn checkpoint_pooling(folder: &Path) -> Result<PoolKind> {
    let path = folder.join("1_Pooling/config.json");
    if !path.exists() {
        return Ok(PoolKind::Cls);
    }
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let json: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("{} is broken", path.display()))?;
    let mean = json
        .get("pooling_mode_mean_tokens")
        .and_then(serde_json::Value::as_bool);
    Ok(if mean == Some(true) {
        PoolKind::Mean
    } else {
        PoolKind::Cls
    })
}

/// Loads the encoder, uploads its matrices and makes the head that `task` asks for.
///
/// # Errors
/// Anything missing, misshapen or not finite in the checkpoint, by file and tensor name; a bias selection
/// that the model has nothing for.
pub fn load<B: Backend>(
    folder: &Path,
    config: &ModelConfig,
    task: &TaskSpec,
    backend: &mut B,
) -> Result<Model> {
    let weights = Weights::open(folder, config.family.prefix())?;
    task.biases.validate(config.layers)?;
    let mut loader = Loader {
        folder,
        weights,
        config,
        task,
        backend,
        params: Vec::new(),
    };

    let embeddings = loader.embeddings()?;
    let layers = (0..config.layers)
        .map(|i| loader.layer(i))
        .collect::<Result<Vec<_>>>()?;
    let head = loader.head()?;

    let items = loader.params;
    let any = items
        .iter()
        .any(|p| p.trains && matches!(p.kind, ParamKind::Bias(_)));
    if !any && !task.biases.is_none() {
        return Err(UsageError::new(format!(
            "--biases {} selects nothing in this model: {}",
            task.biases,
            match task.pooling {
                PoolKind::Mean => "mean pooling has no pooler",
                PoolKind::Cls => "its pooler is new and trains with the head",
            }
        ))
        .into());
    }
    let params = Params::new(items);
    let range = |name: &String| params.range(name);
    let norm = |names: &NormNames| Norm {
        gamma: range(&names.gamma),
        beta: range(&names.beta),
        eps: config.norm_eps,
    };
    let p = |default: f32| task.dropout.unwrap_or(default);
    let site = |p: f32, site: usize| Dropout {
        p,
        site: site as u32,
    };

    Ok(Model {
        embeddings: Embeddings {
            word: embeddings.word,
            position: embeddings.position,
            token_type: embeddings.token_type,
            norm: norm(&embeddings.norm),
            dropout: site(p(config.hidden_dropout), 0),
        },
        layers: layers
            .iter()
            .enumerate()
            .map(|(i, layer)| Layer {
                qkv: layer.qkv,
                qkv_bias: [0, 1, 2].map(|j| range(&layer.qkv_bias[j])),
                attention_output: layer.attention_output,
                attention_output_bias: range(&layer.attention_output_bias),
                attention_norm: norm(&layer.attention_norm),
                intermediate: layer.intermediate,
                intermediate_bias: range(&layer.intermediate_bias),
                output: layer.output,
                output_bias: range(&layer.output_bias),
                output_norm: norm(&layer.output_norm),
                shape: LayerShape {
                    hidden: config.hidden,
                    intermediate: config.intermediate,
                    heads: config.heads,
                    activation: config.activation,
                    attention_dropout: site(p(config.attention_dropout), 3 * i + 1),
                    attention_output_dropout: site(p(config.hidden_dropout), 3 * i + 2),
                    output_dropout: site(p(config.hidden_dropout), 3 * i + 3),
                },
            })
            .collect(),
        head: Head {
            pool: task.pooling,
            hidden: config.hidden,
            layers: head
                .iter()
                .enumerate()
                .map(|(i, layer)| HeadLayer {
                    weight: match &layer.weight {
                        NewWeight::Frozen(id) => HeadWeight::Frozen(*id),
                        NewWeight::Param(name) => HeadWeight::Param(range(name)),
                    },
                    bias: range(&layer.bias),
                    inputs: config.hidden,
                    outputs: layer.outputs,
                    dropout: if layer.dropout {
                        site(p(config.classifier_dropout), 3 * config.layers + 1 + i)
                    } else {
                        Dropout::NONE
                    },
                    tanh: layer.tanh,
                })
                .collect(),
        },
        config: config.clone(),
        params,
    })
}

/// Replaces the head's initial values by those of a safetensors file that holds them by their Hugging Face
/// names.
///
/// # Errors
/// When a tensor is missing, misshapen or not finite.
pub fn init_head(model: &mut Model, path: &Path) -> Result<()> {
    let head: Vec<_> = model
        .params
        .list()
        .iter()
        .filter(|p| p.kind == ParamKind::Head)
        .map(|p| (p.name.clone(), p.shape.clone(), p.range))
        .collect();
    for (name, shape, range) in head {
        let values = read_tensor(path, &name, &shape)?.with_context(|| {
            format!(
                "{}: the tensor `{name}` is missing; the head needs it",
                path.display()
            )
        })?;
        model.params.set_initial(range, &values);
    }
    Ok(())
}

/// Collects matrices and parameters in the order of the forward pass; places are known only at its end.
struct Loader<'a, B> {
    folder: &'a Path,
    weights: Weights,
    config: &'a ModelConfig,
    task: &'a TaskSpec,
    backend: &'a mut B,
    params: Vec<NewParam>,
}

struct NormNames {
    gamma: String,
    beta: String,
}

struct NewEmbeddings {
    word: WeightId,
    position: WeightId,
    token_type: WeightId,
    norm: NormNames,
}

struct NewLayer {
    qkv: WeightId,
    qkv_bias: [String; 3],
    attention_output: WeightId,
    attention_output_bias: String,
    attention_norm: NormNames,
    intermediate: WeightId,
    intermediate_bias: String,
    output: WeightId,
    output_bias: String,
    output_norm: NormNames,
}

enum NewWeight {
    Frozen(WeightId),
    Param(String),
}

struct NewHeadLayer {
    weight: NewWeight,
    bias: String,
    outputs: usize,
    dropout: bool,
    tanh: bool,
}

impl<B: Backend> Loader<'_, B> {
    fn embeddings(&mut self) -> Result<NewEmbeddings> {
        let c = self.config;
        Ok(NewEmbeddings {
            word: self.matrix("embeddings.word_embeddings", c.vocab, c.hidden)?,
            position: self.matrix("embeddings.position_embeddings", c.position_rows, c.hidden)?,
            token_type: self.matrix("embeddings.token_type_embeddings", c.type_vocab, c.hidden)?,
            norm: self.norm(Component::EmbeddingsLayerNorm, None)?,
        })
    }

    fn layer(&mut self, i: usize) -> Result<NewLayer> {
        use Component::*;
        let (h, inner) = (self.config.hidden, self.config.intermediate);
        let path = |component: Component| format!("encoder.layer.{i}.{}", component.module());
        let mut stacked = Vec::with_capacity(3 * h * h);
        for component in [Query, Key, Value] {
            stacked.extend(
                self.weights
                    .get(&format!("{}.weight", path(component)), &[h, h])?,
            );
        }
        let name = path(Query).replace(".query", " (query, key or value)");
        let qkv = self.upload(&name, 3 * h, h, &stacked)?;
        drop(stacked);
        Ok(NewLayer {
            qkv,
            qkv_bias: [
                self.bias(Query, i)?,
                self.bias(Key, i)?,
                self.bias(Value, i)?,
            ],
            attention_output: self.matrix(&path(AttentionOutput), h, h)?,
            attention_output_bias: self.bias(AttentionOutput, i)?,
            attention_norm: self.norm(AttentionLayerNorm, Some(i))?,
            intermediate: self.matrix(&path(Intermediate), inner, h)?,
            intermediate_bias: self.bias(Intermediate, i)?,
            output: self.matrix(&path(Output), h, inner)?,
            output_bias: self.bias(Output, i)?,
            output_norm: self.norm(OutputLayerNorm, Some(i))?,
        })
    }

    fn head(&mut self) -> Result<Vec<NewHeadLayer>> {
        let (h, outputs) = (self.config.hidden, self.task.outputs);
        let last = |loader: &mut Self, name: &str| NewHeadLayer {
            weight: loader.new_matrix(
                &format!("{name}.weight"),
                [outputs, h],
                (Purpose::HeadInit, 0),
            ),
            bias: loader.new_bias(&format!("{name}.bias"), outputs),
            outputs,
            dropout: true,
            tanh: false,
        };
        Ok(match (self.task.pooling, self.config.family) {
            (PoolKind::Mean, _) => vec![last(self, "classifier")],
            (PoolKind::Cls, Family::Bert) => {
                let pooler = self.pooler()?;
                vec![pooler, last(self, "classifier")]
            }
            (PoolKind::Cls, Family::Roberta) => {
                let dense = NewHeadLayer {
                    weight: self.new_matrix(
                        "classifier.dense.weight",
                        [h, h],
                        (Purpose::HeadInit, 1),
                    ),
                    bias: self.new_bias("classifier.dense.bias", h),
                    outputs: h,
                    dropout: true,
                    tanh: true,
                };
                vec![dense, last(self, "classifier.out_proj")]
            }
        })
    }

    /// BERT's pooler: the checkpoint's, or a new one.
    fn pooler(&mut self) -> Result<NewHeadLayer> {
        let h = self.config.hidden;
        let new = self.task.reinit_pooler || !self.weights.has("pooler.dense.weight");
        let (weight, bias) = if new {
            (
                self.new_matrix(NEW_POOLER, [h, h], (Purpose::PoolerInit, 0)),
                self.new_bias("bert.pooler.dense.bias", h),
            )
        } else {
            let matrix = self.matrix(Component::Pooler.module(), h, h)?;
            let name = format!("{}.bias", Component::Pooler.module());
            (
                NewWeight::Frozen(matrix),
                self.component(Component::Pooler, None, &name)?,
            )
        };
        Ok(NewHeadLayer {
            weight,
            bias,
            outputs: h,
            dropout: false,
            tanh: true,
        })
    }

    /// Uploads `{module}.weight`.
    fn matrix(&mut self, module: &str, rows: usize, cols: usize) -> Result<WeightId> {
        let name = format!("{module}.weight");
        let data = self.weights.get(&name, &[rows, cols])?;
        self.upload(&name, rows, cols, &data)
    }

    fn upload(&mut self, name: &str, rows: usize, cols: usize, data: &[f32]) -> Result<WeightId> {
        self.backend
            .upload(name, rows, cols, data)
            .with_context(|| self.folder.display().to_string())
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
        let values = self.weights.get(&name, &[self.config.hidden])?;
        let gamma = self.add(ParamKind::Gain, layer, self.full_name(&name), values, false);
        let beta = self.component(component, layer, &format!("{module}.bias"))?;
        Ok(NormNames { gamma, beta })
    }

    /// Adds a bias of the encoder, which trains if it is selected.
    fn component(
        &mut self,
        component: Component,
        layer: Option<usize>,
        name: &str,
    ) -> Result<String> {
        let width = component.width(self.config.hidden, self.config.intermediate);
        let values = self.weights.get(name, &[width])?;
        let trains = self.task.biases.selects(component, layer);
        Ok(self.add(
            ParamKind::Bias(component),
            layer,
            self.full_name(name),
            values,
            trains,
        ))
    }

    fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.config.family.prefix())
    }

    /// A head matrix drawn from a normal distribution.
    fn new_matrix(
        &mut self,
        name: &str,
        [rows, cols]: [usize; 2],
        (purpose, index): (Purpose, u64),
    ) -> NewWeight {
        let mut stream = Stream::new(self.task.seed, purpose, index);
        let values = (0..rows * cols)
            .map(|_| HEAD_STD * stream.normal())
            .collect();
        let shape = vec![rows, cols];
        self.params.push(NewParam {
            name: name.to_owned(),
            kind: ParamKind::Head,
            layer: None,
            shape,
            trains: true,
            values,
        });
        NewWeight::Param(name.to_owned())
    }

    fn new_bias(&mut self, name: &str, len: usize) -> String {
        self.add(ParamKind::Head, None, name.to_owned(), vec![0.0; len], true)
    }

    fn add(
        &mut self,
        kind: ParamKind,
        layer: Option<usize>,
        name: String,
        values: Vec<f32>,
        trains: bool,
    ) -> String {
        let shape = vec![values.len()];
        self.params.push(NewParam {
            name: name.clone(),
            kind,
            layer,
            shape,
            trains,
            values,
        });
        name
    }
}
