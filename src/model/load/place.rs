//! Assembles a model: gives the matrices and parameters that were read their places on the device and in the parameter
//! vector.

use super::added::{FactorNames, NewLowRank, ZEROS};
use super::chosen::{self, NewSparse, NewVectorEntries};
use super::read::{Loader, NewHeadLayer, NewLayer, NewWeight, NormNames};
use super::{Source, Store, TaskSpec};
use crate::backend::MatrixShape;
use crate::error::UsageError;
use crate::methods::Trains;
use crate::model::Model;
use crate::model::bert::{Block, BlockFactors, BlockLowRank, Embeddings, Encoder, FirstLayers};
use crate::model::config::ModelConfig;
use crate::model::params::{ParamKind, Params};
use crate::program::{
    Dropout, HeadWeight, LinearLayer, LowRank, Norm, NormLayer, ParamRange, PoolKind, TableIds,
    WeightId,
};
use crate::settings::biases::{BiasSelection, Component};
use crate::tasks::head::{ClassWeights, DenseLayer, TaskHead};
use anyhow::Result;

pub fn assemble(
    config: &ModelConfig,
    task: &TaskSpec,
    source: &dyn Source,
    store: &mut dyn Store,
) -> Result<Model> {
    if let Trains::Biases(biases)
    | Trains::Added(biases)
    | Trains::Random(biases)
    | Trains::Rows(biases) = &task.trains
    {
        biases.validate(config.layers)?;
    }
    let pooler = chosen::trains_pooler(config, task) && source.has("pooler.dense.weight");
    let chosen = chosen::draw(config, task, pooler)?;
    if let (Some(biases), true) = (task.trains.counted(), chosen.is_empty()) {
        return Err(selects_nothing(biases, task.pooling));
    }
    let mut loader = Loader {
        source,
        config,
        task,
        store,
        params: Vec::new(),
        chosen,
        vectors: NewVectorEntries::default(),
        matrices: Vec::new(),
    };
    let embeddings = loader.embeddings()?;
    let layers = (0..config.layers).map(|i| loader.layer(i)).collect::<Result<Vec<_>>>()?;
    loader.zeros();
    let vectors = loader.vector_entries();
    let head = loader.head(&embeddings.word)?;
    let class_weights = loader.class_weights();
    let whole = |(name, places): (&String, &Vec<u32>)| (loader.full_name(name), places.clone());
    let chosen = loader.chosen.iter().map(whole).collect();
    let Loader { params, store, matrices, .. } = loader;
    let any = params.iter().any(|p| p.trains && matches!(p.kind, ParamKind::Bias(_)));
    match &task.trains {
        Trains::Biases(biases) if !any && !biases.is_none() => {
            return Err(selects_nothing(biases, task.pooling));
        }
        Trains::Added(biases) if !any => {
            return Err(UsageError::new(format!(
                "--method added-biases has nothing to add: all linear layers that --biases {biases} names have a bias in \
                 this model; --method bitfit trains those"
            ))
            .into());
        }
        _ => {}
    }

    let mut params =
        if source.has_values() { Params::new(params)? } else { Params::without_values(&params) };
    let vectors = vectors.map(|new| new.place(&mut params, source.has_values()));
    let mut places = Places { config, task, params: &params, store, matrices };
    let [word, position, token_type] = [
        places.matrix(&embeddings.word)?,
        places.matrix(&embeddings.position)?,
        places.matrix(&embeddings.token_type)?,
    ];
    let tables = || Some([word.1?, position.1?, token_type.1?]);
    let of_tables = [&embeddings.word, &embeddings.position, &embeddings.token_type];
    let added = NewSparse::place_tables(of_tables.map(|table| &table.sparse), &params);
    let embeddings = Embeddings {
        added,
        tables: TableIds { word: word.0, position: position.0, token_type: token_type.0 },
        norm: places.norm(&embeddings.norm),
        dropout: places.dropout(config.hidden_dropout, 0),
        trains: tables(),
        gain_trains: task.trains.gains() || task.trains.in_vectors(),
    };
    let blocks = layers.iter().enumerate();
    let mut blocks = blocks.map(|(i, layer)| places.block(i, layer)).collect::<Result<Vec<_>>>()?;
    // Gradients of the matrices are sums over all rows.
    if let (PoolKind::Cls, false, Some(last)) =
        (task.pooling, task.trains.every_row(), blocks.last_mut())
    {
        last.first = Some(places.first(last)?);
    }
    let head = TaskHead {
        pool: task.pooling,
        hidden: config.hidden,
        layers: head.iter().enumerate().map(|(i, layer)| places.dense(i, layer)).collect(),
        loss: task.loss,
        class_weights: class_weights.map(|name| ClassWeights {
            range: params.range(&name),
            values: task.class_weights.clone(),
        }),
    };
    let matrices = places.matrices;
    Ok(Model {
        encoder: Encoder { vectors, embeddings, blocks },
        chosen,
        head,
        config: config.clone(),
        matrices,
        params,
    })
}

/// No bias of the model is selected.
fn selects_nothing(biases: &BiasSelection, pooling: PoolKind) -> anyhow::Error {
    UsageError::new(format!(
        "--biases {biases} selects nothing in this model: {}",
        match pooling {
            PoolKind::Mean => "mean pooling has no pooler",
            PoolKind::Each | PoolKind::Labelled(_) => "this task has no pooler",
            PoolKind::Cls => "its pooler is new and trains with the head",
        }
    ))
    .into()
}

/// Where what was read is placed.
struct Places<'a> {
    config: &'a ModelConfig,
    task: &'a TaskSpec,
    params: &'a Params,
    store: &'a mut dyn Store,
    /// Those in the store.
    matrices: Vec<MatrixShape>,
}

impl Places<'_> {
    /// A matrix on the device, and where its values and gradient are if it trains.
    fn matrix(&mut self, weight: &NewWeight) -> Result<(WeightId, Option<ParamRange>)> {
        match weight.place(self.params) {
            HeadWeight::Frozen(id) => Ok((id, None)),
            HeadWeight::Param(range) => {
                self.matrices.push(weight.shape);
                let id = self.store.trained(&weight.name, weight.shape, range)?;
                Ok((id, Some(range)))
            }
        }
    }

    fn linear(&mut self, weight: &NewWeight, biases: &[String]) -> Result<LinearLayer> {
        let (id, trains) = self.matrix(weight)?;
        Ok(LinearLayer {
            weight: id,
            trains,
            bias: biases.iter().map(|name| self.params.range(name)).collect(),
            inputs: weight.shape.cols,
            outputs: weight.shape.rows,
            sparse: weight.sparse.as_ref().and_then(|sparse| sparse.place(self.params)),
        })
    }

    fn norm(&self, names: &NormNames) -> Norm {
        Norm {
            gamma: self.params.range(&names.gamma),
            beta: self.params.range(&names.beta),
            eps: self.config.norm_eps,
        }
    }

    fn factors(&self, names: &FactorNames) -> BlockFactors {
        let [key, value] = names.key_value.each_ref().map(|name| self.params.range(name));
        debug_assert_eq!(key.end(), value.offset, "they were added one after the other");
        BlockFactors {
            key_value: ParamRange { offset: key.offset, len: key.len + value.len },
            attended: self.params.range(&names.attended),
            inner: self.params.range(&names.inner),
        }
    }

    fn low_rank(&mut self, layer: usize, all: &[NewLowRank]) -> Result<BlockLowRank> {
        let mut placed = BlockLowRank::default();
        let Some(settings) = self.task.trains.low_rank().cloned() else {
            return Ok(placed);
        };
        let hidden = self.config.hidden;
        for new in all {
            let mut plain = |weight: &NewWeight| -> Result<LinearLayer> {
                let zeros = self.params.range(ZEROS);
                let bias = vec![ParamRange { len: weight.shape.rows, ..zeros }];
                Ok(LinearLayer { bias, ..self.linear(weight, &[])? })
            };
            let (a, b) = (plain(&new.a)?, plain(&new.b)?);
            let (list, from) = match new.beside {
                Component::Key => (&mut placed.qkv, hidden),
                Component::Value => (&mut placed.qkv, 2 * hidden),
                Component::AttentionOutput => (&mut placed.attention_output, 0),
                Component::Output => (&mut placed.output, 0),
                _ => (&mut placed.qkv, 0),
            };
            // After those of the encoder and of any head.
            let index = layer * Component::ALL.len() + new.beside as usize;
            let site = (3 * self.config.layers + 16 + index) as u32;
            let dropout = Dropout { p: settings.dropout as f32, site };
            list.push(LowRank { a, b, times: settings.scale(), dropout, from });
        }
        Ok(placed)
    }

    /// Sites are numbered through the network, so that no two places share a mask.
    fn dropout(&self, p: f32, site: usize) -> Dropout {
        Dropout { p: self.task.dropout.unwrap_or(p), site: site as u32 }
    }

    fn block(&mut self, i: usize, layer: &NewLayer) -> Result<Block> {
        let config = self.config;
        let norm = |places: &Self, names: &NormNames, site: usize| NormLayer {
            norm: places.norm(names),
            dropout: places.dropout(config.hidden_dropout, site),
            gain_trains: places.task.trains.gains() || places.task.trains.in_vectors(),
        };
        let bias = |name: &String| [name.clone()];
        Ok(Block {
            qkv: self.linear(&layer.qkv, &layer.qkv_bias)?,
            attention_output: self
                .linear(&layer.attention_output, &bias(&layer.attention_output_bias))?,
            attention_norm: norm(self, &layer.attention_norm, 3 * i + 2),
            intermediate: self.linear(&layer.intermediate, &bias(&layer.intermediate_bias))?,
            activation: config.activation,
            output: self.linear(&layer.output, &bias(&layer.output_bias))?,
            output_norm: norm(self, &layer.output_norm, 3 * i + 3),
            factors: layer.factors.as_ref().map(|names| self.factors(names)),
            low_rank: self.low_rank(i, &layer.low_rank)?,
            heads: config.heads,
            dropout: self.dropout(config.attention_dropout, 3 * i + 1),
            first: None,
        })
    }

    /// Parts of the block's fused product, split because they read different rows.
    fn first(&mut self, block: &Block) -> Result<FirstLayers> {
        let hidden = self.config.hidden;
        let mut part = |from: usize, to: usize| {
            let weight = self.store.view_rows(block.qkv.weight, from * hidden..to * hidden)?;
            anyhow::Ok(LinearLayer {
                weight,
                trains: None,
                bias: block.qkv.bias[from..to].to_vec(),
                inputs: hidden,
                outputs: (to - from) * hidden,
                sparse: None,
            })
        };
        Ok(FirstLayers { query: part(0, 1)?, key_value: part(1, 3)? })
    }

    fn dense(&self, i: usize, layer: &NewHeadLayer) -> DenseLayer {
        let site = 3 * self.config.layers + 1 + i;
        DenseLayer {
            weight: layer.weight.place(self.params),
            bias: self.params.range(&layer.bias),
            outputs: layer.outputs,
            dropout: match layer.dropout {
                true => self.dropout(self.config.classifier_dropout, site),
                false => Dropout::NONE,
            },
            tanh: layer.tanh,
            norm: layer.norm.as_ref().map(|(act, names)| (*act, self.norm(names))),
        }
    }
}
