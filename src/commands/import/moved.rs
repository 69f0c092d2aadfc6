//! Finds which method an adapter comes from by how it differs from its base.

use super::ByName;
use crate::commands::base::Base;
use crate::formats::adapter::BaseValues;
use crate::formats::adapter::read::same_bits;
use crate::formats::container::Tensor;
use crate::formats::model_tensors::ModelTensors;
use crate::methods::Trains;
use crate::model::load::{TaskSpec, outline_of};
use crate::model::params::{Param, ParamKind};
use crate::settings::biases::{BiasSelection, Component};
use crate::settings::method::Method;
use anyhow::{Result, bail, ensure};
use std::collections::BTreeMap;

/// The biases and gains of the base's encoder, without values.
pub struct BaseParams {
    params: Vec<Param>,
    layers: usize,
}

impl BaseParams {
    pub fn of(base: &Base, file: &ModelTensors) -> Result<Self> {
        let spec = TaskSpec::of_any_task(Trains::all_biases(), 0);
        let model = outline_of(file, &base.config, &spec)?;
        let list = model.params.list().iter();
        let of_encoder = |p: &&Param| matches!(p.kind, ParamKind::Bias(_) | ParamKind::Gain);
        Ok(Self { params: list.filter(of_encoder).cloned().collect(), layers: base.config.layers })
    }

    /// The shapes of the biases by name.
    pub fn biases(&self) -> BTreeMap<String, Vec<usize>> {
        let biases = self.params.iter().filter(|p| matches!(p.kind, ParamKind::Bias(_)));
        biases.map(|p| (p.name.clone(), p.shape.clone())).collect()
    }

    /// What trained, inferred from what differs from the base.
    ///
    /// # Errors
    /// No method trains that, with the name of a tensor.
    pub fn moved(
        &self,
        values: &ByName,
        prefix: &str,
        own: &BaseValues<'_>,
    ) -> Result<(Method, BiasSelection)> {
        let mut chosen: BTreeMap<Component, Vec<Option<usize>>> = BTreeMap::new();
        let (mut gain, mut linear, mut new) = (None, None, None);
        for param in &self.params {
            let Some(value) = values.get(&param.name) else { continue };
            let inside = param.name.strip_prefix(prefix).unwrap_or(&param.name);
            ensure!(
                value.shape == param.shape,
                "`{}` has shape {:?}, but the base's is {:?}: the adapter is for another model",
                param.name,
                value.shape,
                param.shape
            );
            let own = own(inside, &param.shape)?;
            let is_new = own.is_none();
            let own = own.map(|data| Tensor { shape: param.shape.clone(), data });
            if own.is_some_and(|own| same_bits(&own, value)) {
                continue;
            }
            match param.kind {
                ParamKind::Bias(component) => {
                    chosen.entry(component).or_default().push(param.layer);
                    let kind = match (is_new, component.is_linear()) {
                        (true, _) => &mut new,
                        (false, true) => &mut linear,
                        (false, false) => continue,
                    };
                    kind.get_or_insert(&param.name);
                }
                _ => drop(gain.get_or_insert(&param.name)),
            }
        }
        let refused = |one: &str, other: &str| {
            format!("it changes both `{one}` and `{other}`, which no single method trains")
        };
        match (gain, linear, new) {
            (Some(gain), Some(linear), _) => bail!(refused(gain, linear)),
            (Some(gain), None, Some(new)) => bail!(refused(gain, new)),
            (None, Some(linear), Some(new)) => bail!(refused(linear, new)),
            (Some(_), None, None) => Ok((Method::LayerNorm, BiasSelection::layer_norms())),
            _ if chosen.is_empty() => Ok((Method::Head, BiasSelection::none())),
            (None, None, Some(_)) => Ok((Method::AddedBiases, self.selection(&chosen)?)),
            (None, _, None) => Ok((Method::Bitfit, self.selection(&chosen)?)),
        }
    }

    /// These biases in the form of `--biases`.
    fn selection(&self, chosen: &BTreeMap<Component, Vec<Option<usize>>>) -> Result<BiasSelection> {
        let mut names = Vec::new();
        for (component, layers) in chosen {
            if layers.len() == self.layers || !component.per_layer() {
                names.push(component.name().to_owned());
            } else {
                let layers = layers.iter().flatten();
                names.extend(layers.map(|layer| format!("{}@{layer}", component.name())));
            }
        }
        Ok(BiasSelection::parse(&names.join(","))?)
    }
}
