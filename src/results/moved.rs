//! How far fine-tuning moved a model's values: by layer and kind of what trains.

use crate::settings::biases::Component;

/// Mean |Δ| of each kind in each layer; `None` where nothing trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    /// The kinds that every layer has, with the values of each layer.
    pub by_layer: Vec<(Component, Vec<Option<f64>>)>,
    /// Those that the model has once.
    pub single: Vec<(Component, Option<f64>)>,
}

impl Moved {
    /// Of these kinds; `moved` knows the value of a module.
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

    /// The mean of several, of the same kinds and layers; `None` of none.
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
