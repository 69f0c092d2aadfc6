//! What trains. What a method adds to a step follows from the list, which names every gradient.

use crate::settings::biases::{BiasSelection, Component};
use crate::settings::choice::Method;
use crate::settings::train::TrainConfig;

/// The parameters of the encoder that train; the head always does.
#[derive(Clone, Debug, PartialEq)]
pub enum Trains {
    /// These biases; none trains the head alone.
    Biases(BiasSelection),
    /// Everything that the logits depend on: matrices, tables, gains, biases.
    Everything,
}

impl Trains {
    /// What a run's settings ask for.
    pub fn of(config: &TrainConfig) -> Self {
        match config.method {
            Method::Full => Self::Everything,
            Method::Bitfit | Method::Head => Self::Biases(config.trained_biases()),
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
