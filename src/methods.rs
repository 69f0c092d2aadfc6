//! What trains in the model, of a method's facts. What it adds to a step follows from the list, which names every
//! gradient.

use crate::settings::biases::{BiasSelection, Component};
use crate::settings::method::Method;

/// The parameters of the encoder that train; the head always does.
#[derive(Clone, Debug, PartialEq)]
pub enum Trains {
    /// These biases; none trains the head alone.
    Biases(BiasSelection),
    /// Everything that the logits depend on: matrices, tables, gains, biases.
    Everything,
}

impl Trains {
    /// What a method trains with this `--biases`.
    pub fn of(method: Method, biases: &BiasSelection) -> Self {
        match method.facts().freezes_weights {
            true => Self::Biases(method.trained_biases(biases)),
            false => Self::Everything,
        }
    }

    /// All biases and nothing else.
    pub fn all_biases() -> Self {
        Self::Biases(BiasSelection::all())
    }

    /// Whether matrices, tables and gains train.
    pub fn weights(&self) -> bool {
        matches!(self, Self::Everything)
    }

    /// Whether a bias trains.
    pub fn bias(&self, component: Component, layer: Option<usize>) -> bool {
        match self {
            Self::Biases(biases) => biases.selects(component, layer),
            Self::Everything => true,
        }
    }
}
