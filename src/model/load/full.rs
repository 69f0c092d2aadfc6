//! What full fine-tuning adds to loading: the matrices are parameters, which the device knows as its own.

use super::place::assemble;
use super::read::{NewEmbeddings, NewLayer, NewWeight};
use super::{Frozen, Store, TaskSpec, Zeros};
use crate::backend::weight_gradients::WeightGradients;
use crate::backend::{HeadWeight, MatrixShape, ParamRange, WeightId};
use crate::formats::model_tensors::ModelTensors;
use crate::model::Model;
use crate::model::config::ModelConfig;
use crate::model::full::{LayerMatrices, Matrices};
use anyhow::{Result, bail};
use std::ops::Range;
use std::path::Path;

/// As [`Frozen`], where matrices may train.
struct Trained<'a, B>(Frozen<'a, B>);

impl<B: WeightGradients> Store for Trained<'_, B> {
    fn frozen(&mut self, name: &str, shape: MatrixShape, data: &[f32]) -> Result<WeightId> {
        self.0.frozen(name, shape, data)
    }

    fn view_rows(&mut self, of: WeightId, rows: Range<usize>) -> Result<WeightId> {
        self.0.view_rows(of, rows)
    }

    fn trained(&mut self, name: &str, shape: MatrixShape, range: ParamRange) -> Result<WeightId> {
        let Frozen(backend, _) = &mut self.0;
        backend.trained_matrix(name, shape.rows, shape.cols, range)
    }
}

/// A model of this configuration with zeros for values, on a device: to see what it takes. With `full`, every weight
/// trains. `folder` is named in errors.
///
/// # Errors
/// When the device has no room.
pub fn blank<B: WeightGradients>(
    folder: &Path,
    config: &ModelConfig,
    task: &TaskSpec,
    full: bool,
    backend: &mut B,
) -> Result<Model> {
    assemble(
        config,
        task,
        full,
        &Zeros,
        &mut Trained(Frozen(backend, folder)),
    )
}

/// As [`load`](super::load), for full fine-tuning: everything trains that the logits depend on.
///
/// # Errors
/// As [`load`](super::load).
pub fn load_full<B: WeightGradients>(
    folder: &Path,
    config: &ModelConfig,
    task: &TaskSpec,
    backend: &mut B,
) -> Result<Model> {
    let weights = ModelTensors::open(folder, config.family.prefix())?;
    assemble(
        config,
        task,
        true,
        &weights,
        &mut Trained(Frozen(backend, folder)),
    )
}

impl Matrices {
    /// Where the matrices lie that were read as parameters.
    pub(super) fn of(
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
