//! What each method trains in the model. What that adds to a step follows from the list, which names every gradient.
//! Each method that adds something to the model has a file here: the names, and how `merge` folds it in.

pub mod entries;
pub mod ia3;
pub mod lora;
pub mod random;
pub mod rows;

use crate::settings::biases::{BiasSelection, Component};
use crate::settings::lora::Lora;
use crate::settings::method::{Adds, Leaves, Method, TrainedBiases};

/// The parameters of the encoder that train; the head always does.
#[derive(Clone, Debug, PartialEq)]
pub enum Trains {
    /// These biases; if empty, only the head trains.
    Biases(BiasSelection),
    /// Biases of these kinds for linear layers that have none in the checkpoint; they start at zero.
    Added(BiasSelection),
    /// Factors that start at one: see [`ia3`].
    Factors,
    /// Low-rank matrices: see [`lora`].
    LowRank(Lora),
    /// As many single values as these biases have: see [`random`].
    Random(BiasSelection),
    /// Rows and columns with about as many values: see [`rows`].
    Rows(BiasSelection),
    /// Gain and bias of every LayerNorm.
    LayerNorms,
    /// Everything that the logits depend on: matrices, tables, gains, biases.
    Everything,
}

impl Trains {
    /// What a method trains with this `--biases` and, for `lora`, these settings or the default ones.
    pub fn of(method: Method, biases: &BiasSelection, lora: Option<&Lora>) -> Self {
        let facts = method.facts();
        match (facts.adds, facts.biases) {
            (Adds::Biases, _) => Self::Added(biases.clone()),
            (Adds::Factors, _) => Self::Factors,
            (Adds::LowRank, _) => Self::LowRank(lora.cloned().unwrap_or_default()),
            (Adds::Entries, _) => Self::Random(biases.clone()),
            (Adds::Lines, _) => Self::Rows(biases.clone()),
            (
                Adds::Nothing,
                TrainedBiases::Selected | TrainedBiases::Counted | TrainedBiases::None,
            ) => Self::Biases(method.trained_biases(biases)),
            (Adds::Nothing, TrainedBiases::LayerNorms) => Self::LayerNorms,
            (Adds::Nothing, TrainedBiases::All) => Self::Everything,
        }
    }

    /// The same for a result that is only read: in a whole model nothing needs to be kept apart, and its matrices are
    /// stored like any frozen ones.
    pub fn of_result(method: Method, biases: &BiasSelection, lora: Option<&Lora>) -> Self {
        match method.facts().leaves {
            Leaves::Delta => Self::of(method, biases, lora),
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

    /// Whether any matrix trains: matrix gradients are sums over all rows and, on a CPU, in f32.
    pub fn matrices(&self) -> bool {
        matches!(self, Self::LowRank(_) | Self::Everything)
    }

    /// Whether all rows of the last block are needed: gradients of matrix values are sums over them.
    pub fn every_row(&self) -> bool {
        self.matrices() || self.counted().is_some()
    }

    /// The biases whose count sets how many single values train, if those train.
    pub fn counted(&self) -> Option<&BiasSelection> {
        match self {
            Self::Random(biases) | Self::Rows(biases) => Some(biases),
            _ => None,
        }
    }

    /// Whether single values of vectors train.
    pub fn in_vectors(&self) -> bool {
        matches!(self, Self::Random(_))
    }

    /// The low-rank products, if any.
    pub fn low_rank(&self) -> Option<&Lora> {
        match self {
            Self::LowRank(lora) => Some(lora),
            _ => None,
        }
    }

    /// Whether the gains of LayerNorms train.
    pub fn gains(&self) -> bool {
        matches!(self, Self::LayerNorms | Self::Everything)
    }

    /// Whether factors are added, and train.
    pub fn factors(&self) -> bool {
        matches!(self, Self::Factors)
    }

    /// Whether a bias of this kind is added if the checkpoint has none.
    pub fn adds(&self, component: Component) -> bool {
        matches!(self, Self::Added(_)) && component.is_linear()
    }

    /// Whether an added bias trains: others stay zero.
    pub fn added_bias(&self, component: Component, layer: Option<usize>) -> bool {
        matches!(self, Self::Added(biases) if biases.selects(component, layer))
    }

    /// Whether a bias of the checkpoint trains.
    pub fn bias(&self, component: Component, layer: Option<usize>) -> bool {
        match self {
            Self::Biases(biases) => biases.selects(component, layer),
            Self::Added(_) | Self::Factors | Self::LowRank(_) | Self::Random(_) | Self::Rows(_) => {
                false
            }
            Self::LayerNorms => BiasSelection::layer_norms().selects(component, layer),
            Self::Everything => true,
        }
    }
}
