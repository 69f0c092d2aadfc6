//! What a method adds to a block, as parameters with names and initial values.

use super::read::{Loader, NewWeight, StoredAs};
use crate::backend::{MatrixKind, MatrixShape};
use crate::methods::{ia3, lora};
use crate::model::params::{NewParam, ParamKind};
use crate::settings::biases::Component;

/// Factors on columns.
pub struct FactorNames {
    /// On keys and on values, one after the other.
    pub key_value: [String; 2],
    pub attended: String,
    pub inner: String,
}

/// A low-rank product next to a layer.
pub struct NewLowRank {
    pub beside: Component,
    /// `[rank, inputs]`
    pub a: NewWeight,
    /// `[outputs, rank]`
    pub b: NewWeight,
}

/// Used as the bias of a matrix that has none.
pub const ZEROS: &str = "zeros";

impl Loader<'_> {
    pub fn factors(&mut self, layer: usize) -> Option<FactorNames> {
        if !self.task.trains.factors() {
            return None;
        }
        let (h, inner) = (self.config.hidden, self.config.intermediate);
        let mut ones = |component: Component, len: usize| {
            let module = format!("encoder.layer.{layer}.{}", component.module());
            let count = if self.source.has_values() { len } else { 0 };
            let name = self.full_name(&ia3::name(&module));
            self.add(ParamKind::Factor, Some(layer), name, (len, vec![1.0; count]), true)
        };
        let key_value = ia3::OF_OUTPUTS.map(|component| ones(component, h));
        let [attended, last] = ia3::OF_INPUTS;
        Some(FactorNames { key_value, attended: ones(attended, h), inner: ones(last, inner) })
    }

    pub fn low_rank(&mut self, layer: usize) -> Vec<NewLowRank> {
        let Some(settings) = self.task.trains.low_rank().cloned() else {
            return Vec::new();
        };
        let (hidden, rank) = (self.config.hidden, settings.rank);
        let beside = settings.on.iter().map(|beside| {
            let inputs = match beside {
                Component::Output => self.config.intermediate,
                _ => hidden,
            };
            let module = format!("encoder.layer.{layer}.{}", beside.module());
            let [a, b] = lora::names(&self.full_name(&module));
            let index = (layer * Component::ALL.len() + beside as usize) as u64;
            let drawn = match self.source.has_values() {
                true => lora::draw(self.task.seed, index, rank, inputs),
                false => Vec::new(),
            };
            NewLowRank {
                beside,
                a: self.small(a, layer, [rank, inputs], drawn),
                // No values means zeros.
                b: self.small(b, layer, [hidden, rank], Vec::new()),
            }
        });
        beside.collect()
    }

    /// A low-rank matrix.
    fn small(
        &mut self,
        name: String,
        layer: usize,
        [rows, cols]: [usize; 2],
        values: Vec<f32>,
    ) -> NewWeight {
        self.params.push(NewParam {
            name: name.clone(),
            kind: ParamKind::LowRank,
            layer: Some(layer),
            shape: vec![rows, cols],
            trains: true,
            in_part: false,
            values,
        });
        NewWeight {
            shape: MatrixShape { kind: MatrixKind::Linear, rows, cols, trains: true },
            stored: StoredAs::Params(vec![name.clone()]),
            sparse: None,
            name,
        }
    }

    /// As many zeros as the low-rank matrices have rows, if there are any.
    pub fn zeros(&mut self) {
        if let Some(settings) = self.task.trains.low_rank() {
            let len = self.config.hidden.max(settings.rank).next_multiple_of(8);
            self.add(ParamKind::Zeros, None, ZEROS.to_owned(), (len, Vec::new()), false);
        }
    }
}
