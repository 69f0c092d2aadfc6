//! Puts a model together: gives the matrices and parameters that were read their places on the device and in the parameter
//! vector.

use super::read::{Loader, NewWeight, NormNames};
use super::{Source, Store, TaskSpec};
use crate::backend::{Dropout, HeadWeight, Norm, PoolKind};
use crate::error::UsageError;
use crate::model::config::ModelConfig;
use crate::model::full::Matrices;
use crate::model::head::{Head, HeadLayer};
use crate::model::layer::{FirstWeights, Layer, LayerShape};
use crate::model::params::{ParamKind, Params};
use crate::model::{Embeddings, Model};
use crate::settings::biases::BiasSelection;
use anyhow::Result;

/// With `full` every matrix and gain trains; else all matrices are frozen.
pub fn assemble(
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
