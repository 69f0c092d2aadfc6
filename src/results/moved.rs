//! How far fine-tuning moved a model's values: by layer and component.

use crate::formats::delta::Delta;
use crate::formats::model_tensors::ModelTensors;
use crate::settings::biases::Component;
use anyhow::Result;
use std::cell::RefCell;

/// Mean |Δ| of each kind in each layer; `None` if nothing trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    /// The kinds that exist in every layer, with the values of each layer.
    pub by_layer: Vec<(Component, Vec<Option<f64>>)>,
    /// Those that exist once per model.
    pub single: Vec<(Component, Option<f64>)>,
}

impl Moved {
    /// For these kinds; `moved` returns the value of a module.
    pub fn of(
        components: &[Component],
        layers: usize,
        moved: impl Fn(String) -> Option<f64>,
    ) -> Self {
        let (kinds, single): (Vec<Component>, Vec<Component>) =
            components.iter().partition(|component| component.per_layer());
        let of_layer = |component: Component, layer| {
            moved(format!("encoder.layer.{layer}.{}", component.module()))
        };
        Self {
            by_layer: kinds
                .into_iter()
                .map(|kind| (kind, (0..layers).map(|layer| of_layer(kind, layer)).collect()))
                .collect(),
            single: single.into_iter().map(|c| (c, moved(c.module().to_owned()))).collect(),
        }
    }

    /// How far a delta is from its base; `prefix` is the delta's prefix for the encoder's names. A bias that the base
    /// lacks started at zero.
    ///
    /// # Errors
    /// A base that is damaged, or of another shape.
    pub fn biases(delta: &Delta, base: &ModelTensors, prefix: &str) -> Result<Self> {
        let failed = RefCell::new(None);
        let moved = Self::of(&Component::ALL, base.layers(), |module| {
            let after = delta.tensors.get(&format!("{prefix}{module}.bias"))?;
            let names = ["bias", "beta"].map(|end| format!("{module}.{end}"));
            let before = match names.iter().find(|name| base.has(name)) {
                Some(name) => base.get(name, &after.shape),
                None => Ok(vec![0.0; after.data.len()]),
            };
            let before = before.map_err(|error| failed.replace(Some(error))).ok()?;
            let pairs = after.data.iter().zip(&before);
            let sum: f64 = pairs.map(|(after, before)| f64::from(after - before).abs()).sum();
            Some(sum / after.data.len() as f64)
        });
        failed.into_inner().map_or(Ok(moved), Err)
    }

    /// Whether no movement is known.
    pub fn is_empty(&self) -> bool {
        let by_layer = self.by_layer.iter().flat_map(|(_, values)| values);
        let mut all = by_layer.chain(self.single.iter().map(|(_, value)| value));
        !all.any(Option::is_some)
    }

    /// The mean of several with the same kinds and layers; `None` if there are none.
    pub fn mean(all: &[Self]) -> Option<Self> {
        let first = all.first()?;
        let mean = |of: &dyn Fn(&Self) -> Option<f64>| -> Option<f64> {
            let values: Option<Vec<f64>> = all.iter().map(of).collect();
            super::statistics::mean(&values?)
        };
        let by_layer = first.by_layer.iter().enumerate().map(|(kind, (component, values))| {
            let layers = 0..values.len();
            let at = |layer: usize| {
                mean(&|moved| moved.by_layer.get(kind)?.1.get(layer).copied().flatten())
            };
            (*component, layers.map(at).collect())
        });
        let single = first.single.iter().enumerate();
        let single =
            single.map(|(i, (component, _))| (*component, mean(&|moved| moved.single.get(i)?.1)));
        Some(Self { by_layer: by_layer.collect(), single: single.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_of_each_place_that_all_have() {
        let of = |value: f64| {
            let all = [Component::Query, Component::Intermediate, Component::Pooler];
            Moved::of(&all, 2, |module| (!module.contains("1.intermediate")).then_some(value))
        };
        let mean = Moved::mean(&[of(1.0), of(2.0)]).unwrap();
        assert_eq!(mean.by_layer[0], (Component::Query, vec![Some(1.5), Some(1.5)]));
        assert_eq!(mean.by_layer[1].1, [Some(1.5), None]);
        assert_eq!(mean.single, [(Component::Pooler, Some(1.5))]);
        assert_eq!(Moved::mean(&[]), None);
    }
}
