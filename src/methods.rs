//! What trains in the model, of a method's facts. What it adds to a step follows from the list, which names every
//! gradient.

use crate::settings::biases::{BiasSelection, Component};
use crate::settings::method::{Leaves, Method, TrainedBiases};

/// The parameters of the encoder that train; the head always does.
#[derive(Clone, Debug, PartialEq)]
pub enum Trains {
    /// These biases; none trains the head alone.
    Biases(BiasSelection),
    /// Gain and bias of every LayerNorm.
    LayerNorms,
    /// Everything that the logits depend on: matrices, tables, gains, biases.
    Everything,
}

impl Trains {
    /// What a method trains with this `--biases`.
    pub fn of(method: Method, biases: &BiasSelection) -> Self {
        match method.facts().biases {
            TrainedBiases::Selected | TrainedBiases::None => {
                Self::Biases(method.trained_biases(biases))
            }
            TrainedBiases::LayerNorms => Self::LayerNorms,
            TrainedBiases::All => Self::Everything,
        }
    }

    /// The same of a result that is only read: in a whole model nothing needs to be kept apart, and its matrices are
    /// stored as others that stay as they are.
    pub fn of_result(method: Method, biases: &BiasSelection) -> Self {
        match method.facts().leaves {
            Leaves::Delta => Self::of(method, biases),
            Leaves::Model => Self::Biases(biases.clone()),
        }
    }

    /// All biases and nothing else.
    pub fn all_biases() -> Self {
        Self::Biases(BiasSelection::all())
    }

    /// Whether matrices and tables train.
    pub fn weights(&self) -> bool {
        matches!(self, Self::Everything)
    }

    /// Whether the gains of LayerNorms train.
    pub fn gains(&self) -> bool {
        matches!(self, Self::LayerNorms | Self::Everything)
    }

    /// Whether a bias trains.
    pub fn bias(&self, component: Component, layer: Option<usize>) -> bool {
        match self {
            Self::Biases(biases) => biases.selects(component, layer),
            Self::LayerNorms => BiasSelection::layer_norms().selects(component, layer),
            Self::Everything => true,
        }
    }
}
