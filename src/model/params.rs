//! Every parameter held in f32, by its Hugging Face name, and its place in the flat vector.
//!
//! Biases, LayerNorm gains, the task head and, in full fine-tuning, the encoder's matrices live in one f32 vector:
//! first everything that trains, in the order of the forward pass, then the frozen rest. So the optimizer, clipping,
//! the checkpoint and the delta each see one contiguous buffer, and "is it trained" is a comparison of offsets.

use crate::program::ParamRange;
use crate::room::filled;
use crate::settings::biases::Component;
use anyhow::Result;
use std::collections::HashMap;

/// What a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    /// A bias of the encoder (LayerNorm's β is one).
    Bias(Component),
    /// LayerNorm's γ.
    Gain,
    /// A low-rank matrix added by a method.
    LowRank,
    /// Single values added to a tensor of the encoder.
    Entries,
    /// The places of such values and the checkpoint's values there; not part of the model.
    Places,
    /// Zeros for a matrix without a bias; not part of the model.
    Zeros,
    /// Factors on columns, added by a method.
    Factor,
    /// A matrix or table of the encoder that trains; a frozen one is not a parameter.
    Weight,
    /// Part of the task head; always trains.
    Head,
    /// A number used by the loss; not part of the model.
    Loss,
}

/// One named parameter.
#[derive(Clone, Debug)]
pub struct Param {
    /// Name in a Hugging Face task model, e.g. `bert.encoder.layer.0.output.dense.bias`.
    pub name: String,
    pub kind: ParamKind,
    pub layer: Option<usize>,
    pub shape: Vec<usize>,
    pub range: ParamRange,
    pub trains: bool,
}

/// A parameter before its place is known.
pub struct NewParam {
    pub name: String,
    pub kind: ParamKind,
    pub layer: Option<usize>,
    pub shape: Vec<usize>,
    pub trains: bool,
    /// Single values of it train, as parameters of their own: it has a gradient, but the optimizer does not see it.
    pub in_part: bool,
    /// Empty means zeros.
    pub values: Vec<f32>,
}

/// All parameters and their initial values.
#[derive(Clone, Debug)]
pub struct Params {
    list: Vec<Param>,
    /// Each name's index in the list.
    places: HashMap<String, usize>,
    values: Vec<f32>,
    count: usize,
    trainable: usize,
    with_gradient: usize,
}

impl Params {
    /// Lays out the parameters: those that train first, each group in the given order.
    ///
    /// # Errors
    /// Not enough memory for their values.
    pub fn new(items: Vec<NewParam>) -> Result<Self> {
        let mut params = Self::without_values(&items);
        let mut values = filled(0.0, params.count, "parameters")?;
        // Each is freed once it is copied.
        for (param, item) in params.list.iter().zip(items) {
            let ParamRange { offset, len } = param.range;
            debug_assert!(item.values.is_empty() || item.values.len() == len, "{}", item.name);
            values[offset..offset + item.values.len()].copy_from_slice(&item.values);
        }
        params.values = values;
        Ok(params)
    }

    /// The same without room for values: a plan asks for sizes that may exceed any machine's memory.
    pub fn without_values(items: &[NewParam]) -> Self {
        let len = |p: &NewParam| p.shape.iter().product::<usize>();
        let group = |p: &NewParam| usize::from(!p.trains) + usize::from(!p.trains && !p.in_part);
        let mut counts = [0; 3];
        items.iter().for_each(|p| counts[group(p)] += len(p));
        let [trainable, in_part, frozen] = counts;
        // The last trained parameter is a head of any size: after it, devices read 16 bytes at a time again.
        let behind = trainable.next_multiple_of(4);
        let with_gradient = if in_part > 0 { behind + in_part } else { trainable };
        let first_frozen = behind + in_part;
        let total = first_frozen + frozen;
        let mut next = [0, behind, first_frozen];
        let list: Vec<Param> = items
            .iter()
            .map(|p| {
                let len = len(p);
                let next = &mut next[group(p)];
                let range = ParamRange { offset: *next, len };
                *next += range.len;
                Param {
                    name: p.name.clone(),
                    kind: p.kind,
                    layer: p.layer,
                    shape: p.shape.clone(),
                    range,
                    trains: p.trains,
                }
            })
            .collect();
        let places = list.iter().enumerate().map(|(place, p)| (p.name.clone(), place)).collect();
        Self { list, places, values: Vec::new(), count: total, trainable, with_gradient }
    }

    /// All parameters, in the order of the forward pass.
    pub fn list(&self) -> &[Param] {
        &self.list
    }

    /// Those that train, in the order of the forward pass, which is their order in the vector too.
    pub fn trained(&self) -> impl Iterator<Item = &Param> {
        self.list.iter().filter(|p| p.trains)
    }

    /// Number of values that train.
    pub fn trainable(&self) -> usize {
        self.trainable
    }

    /// Number of values with a gradient: those that train, followed by vectors of which single values do.
    pub fn with_gradient(&self) -> usize {
        self.with_gradient
    }

    /// Number of values in the whole vector.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The whole vector before training; empty after [`forget_initial`](Self::forget_initial), and in a model without
    /// values.
    pub fn initial(&self) -> &[f32] {
        &self.values
    }

    /// Frees the initial values once a backend has them: they can be as large as the whole model.
    pub fn forget_initial(&mut self) {
        self.values = Vec::new();
    }

    /// The range of the whole vector.
    pub fn whole(&self) -> ParamRange {
        ParamRange { offset: 0, len: self.count }
    }

    /// The range of all that trains.
    pub fn trained_range(&self) -> ParamRange {
        ParamRange { offset: 0, len: self.trainable }
    }

    /// Overwrites initial values (for a task head given by the user).
    pub fn set_initial(&mut self, range: ParamRange, values: &[f32]) {
        self.values[range.offset..range.offset + range.len].copy_from_slice(values);
    }

    /// A parameter's range.
    ///
    /// # Panics
    /// If the name was never added: the model only asks for names it added itself.
    pub fn range(&self, name: &str) -> ParamRange {
        match self.places.get(name) {
            Some(&place) => self.list[place].range,
            None => panic!("the parameter {name} was never added"),
        }
    }

    /// The range if it trains: the form in which backward operations take gradients.
    pub fn if_trained(&self, range: ParamRange) -> Option<ParamRange> {
        (range.offset < self.trainable).then_some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_trains_comes_first_and_keeps_its_order() {
        let new = |name: &str, trains, values: &[f32]| NewParam {
            name: name.into(),
            kind: ParamKind::Head,
            layer: None,
            shape: vec![values.len()],
            trains,
            in_part: false,
            values: values.to_vec(),
        };
        let params = Params::new(vec![
            new("frozen a", false, &[1.0]),
            new("trained b", true, &[2.0, 3.0]),
            new("frozen c", false, &[4.0, 5.0]),
            new("trained d", true, &[6.0]),
        ])
        .unwrap();
        assert_eq!(params.initial(), [2.0, 3.0, 6.0, 0.0, 1.0, 4.0, 5.0]);
        assert_eq!(params.trainable(), 3);
        let d = params.range("trained d");
        assert_eq!((d, params.if_trained(d)), (ParamRange { offset: 2, len: 1 }, Some(d)));
        assert_eq!(params.if_trained(params.range("frozen a")), None);
        assert_eq!(
            params.trained().map(|p| p.name.as_str()).collect::<Vec<_>>(),
            ["trained b", "trained d"]
        );
    }
}
