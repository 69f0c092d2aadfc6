//! From a checkpoint folder to a [`Model`] on a device: which tensor goes where, and what is new.

use super::config::{Family, ModelConfig};
use super::full::{LayerMatrices, Matrices};
use super::head::{Head, HeadLayer};
use super::layer::{FirstWeights, Layer, LayerShape};
use super::params::{NewParam, ParamKind, Params};
use super::weights::{Weights, read_tensor};
use super::{Embeddings, Model};
use crate::backend::weight_gradients::WeightGradients;
use crate::backend::{
    Backend, Dropout, HeadWeight, MatrixKind, MatrixShape, Norm, ParamRange, PoolKind, WeightId,
};
use crate::biases::{BiasSelection, Component};
use crate::error::UsageError;
use crate::rng::{Purpose, Stream};
use anyhow::{Context, Result, bail};
use std::ops::Range;
use std::path::Path;

/// Standard deviation of new head matrices: `initializer_range` of BERT and RoBERTa.
const HEAD_STD: f32 = 0.02;

/// The matrix of a BERT pooler, where it is a parameter: drawn anew ([`ParamKind::Head`]), or the checkpoint's in
/// full fine-tuning.
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

/// Where the checkpoint's values come from.
trait Source {
    /// Whether the encoder has a tensor of this name.
    fn has(&self, name: &str) -> bool;

    /// An encoder tensor as f32, row-major; empty where only shapes are known.
    fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>>;
}

impl Source for Weights {
    fn has(&self, name: &str) -> bool {
        Weights::has(self, name)
    }

    fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        Weights::get(self, name, shape)
    }
}

/// Every tensor that the configuration asks for, without values.
struct Shapes;

impl Source for Shapes {
    fn has(&self, _: &str) -> bool {
        true
    }

    fn get(&self, _: &str, _: &[usize]) -> Result<Vec<f32>> {
        Ok(Vec::new())
    }
}

/// Where matrices go.
trait Store {
    /// Takes a matrix that stays as it is.
    fn frozen(&mut self, name: &str, shape: MatrixShape, data: &[f32]) -> Result<WeightId>;

    /// Consecutive rows of a matrix that it took.
    fn view_rows(&mut self, of: WeightId, rows: Range<usize>) -> Result<WeightId>;

    /// Takes a matrix that trains; its values are in the parameter vector.
    fn trained(&mut self, name: &str, shape: MatrixShape, range: ParamRange) -> Result<WeightId>;
}

/// A device for biases and heads, and the folder of the checkpoint.
struct Frozen<'a, B>(&'a mut B, &'a Path);

impl<B: Backend> Store for Frozen<'_, B> {
    fn frozen(&mut self, name: &str, shape: MatrixShape, data: &[f32]) -> Result<WeightId> {
        self.0
            .upload(name, shape, data)
            .with_context(|| self.1.display().to_string())
    }

    fn view_rows(&mut self, of: WeightId, rows: Range<usize>) -> Result<WeightId> {
        self.0.view_rows(of, rows)
    }

    fn trained(&mut self, name: &str, _: MatrixShape, _: ParamRange) -> Result<WeightId> {
        bail!("{name} trains, but should not")
    }
}

/// As [`Frozen`], for full fine-tuning.
struct Trained<'a, B>(&'a mut B, &'a Path);

impl<B: WeightGradients> Store for Trained<'_, B> {
    fn frozen(&mut self, name: &str, shape: MatrixShape, data: &[f32]) -> Result<WeightId> {
        self.0
            .upload(name, shape, data)
            .with_context(|| self.1.display().to_string())
    }

    fn view_rows(&mut self, of: WeightId, rows: Range<usize>) -> Result<WeightId> {
        self.0.view_rows(of, rows)
    }

    fn trained(&mut self, name: &str, shape: MatrixShape, range: ParamRange) -> Result<WeightId> {
        self.0.trained_matrix(name, shape.rows, shape.cols, range)
    }
}

/// No device: matrices are counted.
struct Counted(usize);

impl Counted {
    fn next(&mut self) -> WeightId {
        self.0 += 1;
        WeightId(self.0 - 1)
    }
}

impl Store for Counted {
    fn frozen(&mut self, _: &str, _: MatrixShape, _: &[f32]) -> Result<WeightId> {
        Ok(self.next())
    }

    fn view_rows(&mut self, _: WeightId, _: Range<usize>) -> Result<WeightId> {
        Ok(self.next())
    }

    fn trained(&mut self, _: &str, _: MatrixShape, _: ParamRange) -> Result<WeightId> {
        Ok(self.next())
    }
}

/// Loads the encoder, uploads its matrices, which stay frozen, and makes the head that `task` asks for.
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
    assemble(config, task, false, &weights, &mut Frozen(backend, folder))
}

/// As [`load`], for full fine-tuning: everything trains that the logits depend on.
///
/// # Errors
/// As [`load`].
pub fn load_full<B: WeightGradients>(
    folder: &Path,
    config: &ModelConfig,
    task: &TaskSpec,
    backend: &mut B,
) -> Result<Model> {
    let weights = Weights::open(folder, config.family.prefix())?;
    assemble(config, task, true, &weights, &mut Trained(backend, folder))
}

/// A model of this configuration without values and without a device, to plan its memory: with `full`, every
/// weight trains.
///
/// # Errors
/// A bias selection that the model has nothing for.
pub fn outline(config: &ModelConfig, task: &TaskSpec, full: bool) -> Result<Model> {
    assemble(config, task, full, &Shapes, &mut Counted(0))
}

/// With `full` every matrix and gain trains; else all matrices are frozen.
fn assemble(
    config: &ModelConfig,
    task: &TaskSpec,
    full: bool,
    source: &dyn Source,
    store: &mut dyn Store,
) -> Result<Model> {
    let everything = TaskSpec {
        biases: BiasSelection::all(),
        ..task.clone()
    };
    let task = if full { &everything } else { task };
    task.biases.validate(config.layers)?;
    let mut loader = Loader {
        source,
        config,
        task,
        store,
        train: full,
        params: Vec::new(),
        matrices: Vec::new(),
    };

    let embeddings = loader.embeddings()?;
    let layers = (0..config.layers)
        .map(|i| loader.layer(i))
        .collect::<Result<Vec<_>>>()?;
    let head = loader.head()?;

    let Loader {
        params: items,
        store,
        matrices: mut shapes,
        ..
    } = loader;
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
    let place = |weight: &NewWeight| weight.place(&params);
    let mut matrix = |weight: &NewWeight| match place(weight) {
        HeadWeight::Frozen(id) => Ok(id),
        HeadWeight::Param(range) => {
            shapes.push(weight.shape);
            store.trained(&weight.name, weight.shape, range)
        }
    };
    let trained = full
        .then(|| Matrices::of(&embeddings, &layers, place))
        .transpose()?;
    let p = |default: f32| task.dropout.unwrap_or(default);
    let site = |p: f32, site: usize| Dropout {
        p,
        site: site as u32,
    };

    let embeddings = Embeddings {
        word: matrix(&embeddings.word)?,
        position: matrix(&embeddings.position)?,
        token_type: matrix(&embeddings.token_type)?,
        norm: norm(&embeddings.norm),
        dropout: site(p(config.hidden_dropout), 0),
    };
    let mut layers = layers
        .iter()
        .enumerate()
        .map(|(i, layer)| {
            Ok(Layer {
                qkv: matrix(&layer.qkv)?,
                qkv_bias: [0, 1, 2].map(|j| range(&layer.qkv_bias[j])),
                attention_output: matrix(&layer.attention_output)?,
                attention_output_bias: range(&layer.attention_output_bias),
                attention_norm: norm(&layer.attention_norm),
                intermediate: matrix(&layer.intermediate)?,
                intermediate_bias: range(&layer.intermediate_bias),
                output: matrix(&layer.output)?,
                output_bias: range(&layer.output_bias),
                output_norm: norm(&layer.output_norm),
                first: None,
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
        })
        .collect::<Result<Vec<_>>>()?;
    // Gradients of the matrices are taken over all rows.
    if task.pooling == PoolKind::Cls
        && !full
        && let Some(last) = layers.last_mut()
    {
        let hidden = config.hidden;
        last.first = Some(FirstWeights {
            query: store.view_rows(last.qkv, 0..hidden)?,
            key_value: store.view_rows(last.qkv, hidden..3 * hidden)?,
        });
    }

    Ok(Model {
        embeddings,
        layers,
        head: Head {
            pool: task.pooling,
            hidden: config.hidden,
            layers: head
                .iter()
                .enumerate()
                .map(|(i, layer)| HeadLayer {
                    weight: place(&layer.weight),
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
        trained,
        matrices: shapes,
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
struct Loader<'a> {
    source: &'a dyn Source,
    config: &'a ModelConfig,
    task: &'a TaskSpec,
    store: &'a mut dyn Store,
    /// Matrices and gains train.
    train: bool,
    params: Vec<NewParam>,
    /// Those in the store.
    matrices: Vec<MatrixShape>,
}

struct NormNames {
    gamma: String,
    beta: String,
}

struct NewEmbeddings {
    word: NewWeight,
    position: NewWeight,
    token_type: NewWeight,
    norm: NormNames,
}

struct NewLayer {
    qkv: NewWeight,
    qkv_bias: [String; 3],
    attention_output: NewWeight,
    attention_output_bias: String,
    attention_norm: NormNames,
    intermediate: NewWeight,
    intermediate_bias: String,
    output: NewWeight,
    output_bias: String,
    output_norm: NormNames,
}

/// A matrix.
struct NewWeight {
    name: String,
    shape: MatrixShape,
    stored: StoredAs,
}

enum StoredAs {
    Frozen(WeightId),
    /// Trains. The matrix is these parameters one below the other; they were added one after the other.
    Params(Vec<String>),
}

impl NewWeight {
    fn place(&self, params: &Params) -> HeadWeight {
        match &self.stored {
            StoredAs::Frozen(id) => HeadWeight::Frozen(*id),
            StoredAs::Params(names) => {
                let ranges: Vec<_> = names.iter().map(|name| params.range(name)).collect();
                debug_assert!(
                    ranges
                        .windows(2)
                        .all(|w| w[0].offset + w[0].len == w[1].offset)
                );
                HeadWeight::Param(ParamRange {
                    offset: ranges.iter().map(|r| r.offset).min().unwrap_or(0),
                    len: ranges.iter().map(|r| r.len).sum(),
                })
            }
        }
    }
}

impl Matrices {
    fn of(
        embeddings: &NewEmbeddings,
        layers: &[NewLayer],
        place: impl Fn(&NewWeight) -> HeadWeight,
    ) -> Result<Self> {
        let range = |weight: &NewWeight| match place(weight) {
            HeadWeight::Param(range) => Ok(range),
            HeadWeight::Frozen(_) => bail!("{} is frozen, but should train", weight.name),
        };
        Ok(Self {
            word: range(&embeddings.word)?,
            position: range(&embeddings.position)?,
            token_type: range(&embeddings.token_type)?,
            layers: layers
                .iter()
                .map(|layer| {
                    Ok(LayerMatrices {
                        qkv: range(&layer.qkv)?,
                        attention_output: range(&layer.attention_output)?,
                        intermediate: range(&layer.intermediate)?,
                        output: range(&layer.output)?,
                    })
                })
                .collect::<Result<_>>()?,
        })
    }
}

struct NewHeadLayer {
    weight: NewWeight,
    bias: String,
    outputs: usize,
    dropout: bool,
    tanh: bool,
}

impl Loader<'_> {
    fn embeddings(&mut self) -> Result<NewEmbeddings> {
        let c = self.config;
        Ok(NewEmbeddings {
            word: self.table("embeddings.word_embeddings", c.vocab)?,
            position: self.table("embeddings.position_embeddings", c.position_rows)?,
            token_type: self.table("embeddings.token_type_embeddings", c.type_vocab)?,
            norm: self.norm(Component::EmbeddingsLayerNorm, None)?,
        })
    }

    fn layer(&mut self, i: usize) -> Result<NewLayer> {
        use Component::*;
        let (h, inner) = (self.config.hidden, self.config.intermediate);
        let path = |component: Component| format!("encoder.layer.{i}.{}", component.module());
        let modules = [Query, Key, Value].map(&path);
        let qkv = self.stacked(MatrixKind::Linear, &modules, [h, h])?;
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
        let new = self.task.reinit_pooler || !self.source.has("pooler.dense.weight");
        let (weight, bias) = if new {
            (
                self.new_matrix(NEW_POOLER, [h, h], (Purpose::PoolerInit, 0)),
                self.new_bias("bert.pooler.dense.bias", h),
            )
        } else {
            let matrix = self.matrix(Component::Pooler.module(), h, h)?;
            let name = format!("{}.bias", Component::Pooler.module());
            (matrix, self.component(Component::Pooler, None, &name)?)
        };
        Ok(NewHeadLayer {
            weight,
            bias,
            outputs: h,
            dropout: false,
            tanh: true,
        })
    }

    /// An embedding table.
    fn table(&mut self, module: &str, rows: usize) -> Result<NewWeight> {
        let shape = [rows, self.config.hidden];
        self.stacked(MatrixKind::Table, &[module.to_owned()], shape)
    }

    /// `{module}.weight`: uploaded where it is frozen, a parameter where it trains.
    fn matrix(&mut self, module: &str, rows: usize, cols: usize) -> Result<NewWeight> {
        self.stacked(MatrixKind::Linear, &[module.to_owned()], [rows, cols])
    }

    /// The `{module}.weight`s, each `[rows, cols]`, one below the other as one matrix.
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
            trains: self.train,
        };
        let stored = if self.train {
            for name in &names {
                let values = self.source.get(name, &[rows, cols])?;
                self.params.push(NewParam {
                    name: self.full_name(name),
                    kind: ParamKind::Weight,
                    layer: None,
                    shape: vec![rows, cols],
                    trains: true,
                    values,
                });
            }
            StoredAs::Params(names.iter().map(|name| self.full_name(name)).collect())
        } else {
            // The first is taken as it is: a copy of the largest table would be most of the loading's memory.
            let mut data = Vec::new();
            for name in &names {
                let values = self.source.get(name, &[rows, cols])?;
                if data.is_empty() {
                    data = values;
                } else {
                    data.extend(values);
                }
            }
            self.matrices.push(shape);
            StoredAs::Frozen(self.store.frozen(&name, shape, &data)?)
        };
        Ok(NewWeight {
            name,
            shape,
            stored,
        })
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
            self.train,
        );
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
        let values = self.source.get(name, &[width])?;
        let trains = self.task.biases.selects(component, layer);
        Ok(self.add(
            ParamKind::Bias(component),
            layer,
            self.full_name(name),
            (width, values),
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
        NewWeight {
            name: name.to_owned(),
            shape: MatrixShape {
                kind: MatrixKind::Linear,
                rows,
                cols,
                trains: true,
            },
            stored: StoredAs::Params(vec![name.to_owned()]),
        }
    }

    fn new_bias(&mut self, name: &str, len: usize) -> String {
        let values = (len, vec![0.0; len]);
        self.add(ParamKind::Head, None, name.to_owned(), values, true)
    }

    fn add(
        &mut self,
        kind: ParamKind,
        layer: Option<usize>,
        name: String,
        (len, values): (usize, Vec<f32>),
        trains: bool,
    ) -> String {
        let shape = vec![len];
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
