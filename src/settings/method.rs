//! The fine-tuning methods. Each states once what it trains, which settings it takes and what its run leaves; code that
//! depends on the method asks for these facts and does not know the methods. A new method is a name and its facts.

use super::biases::BiasSelection;
use super::choice::{Choice, WeightStorage, choices};

choices! {
    /// What trains.
    pub enum Method {
        #[default]
        Bitfit = "bitfit",
            "The biases that --biases selects, and the head";
        Head = "head",
            "Only the head; the encoder stays as it is";
        LayerNorm = "layernorm",
            "The gain and bias of every LayerNorm, and the head";
        Ia3 = "ia3",
            "Factors on keys, values and the inputs of both output layers of a block (IA3), and the head";
        Lora = "lora",
            "Low-rank products next to the layers that --lora-on names (LoRA), and the head";
        AddedBiases = "added-biases",
            "A new bias for each linear layer that has none, as --biases selects, and the head";
        Random = "random",
            "As many single values, drawn from the whole encoder, as --biases selects, and the head (a control)";
        Rows = "rows",
            "Rows and columns of matrices, drawn until they have about as many values as --biases selects, and the \
             head (a control)";
        Full = "full",
            "Everything: matrices, embedding tables, LayerNorms, biases and head; writes a whole model, not a delta";
    }
}

/// The encoder's biases that a method trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainedBiases {
    /// Those of `--biases`.
    Selected,
    None,
    /// None; they determine how many other values train.
    Counted,
    /// Those of the LayerNorms, whose gains train with them.
    LayerNorms,
    All,
}

/// What a method adds to the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adds {
    Nothing,
    /// Factors on columns of what a block computes.
    Factors,
    /// Low-rank products next to those of linear layers.
    LowRank,
    /// Values added to single parameters.
    Entries,
    /// Values added to whole rows and columns of matrices.
    Lines,
    /// Biases for linear layers that have none in the checkpoint; of the selected biases only these train.
    Biases,
}

/// The kind of result that a run leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaves {
    /// What trained, for use with its base model.
    Delta,
    /// A complete model, in a folder.
    Model,
}

impl Leaves {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delta => "delta",
            Self::Model => "model",
        }
    }
}

/// What a method is, apart from its name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Facts {
    pub biases: TrainedBiases,
    pub adds: Adds,
    /// Whether matrices and embedding tables stay frozen. Those that train are f32, and need a different learning rate
    /// and other ways of saving.
    pub freezes_weights: bool,
    pub leaves: Leaves,
    /// The default peak learning rate: ten to a hundred times lower if the matrices train.
    pub lr: f64,
}

impl Facts {
    /// Whether `--biases` selects what, or how much, trains.
    pub fn takes_biases(self) -> bool {
        matches!(self.biases, TrainedBiases::Selected | TrainedBiases::Counted)
    }
}

impl Method {
    pub const fn facts(self) -> Facts {
        match self {
            Self::Bitfit => Facts {
                biases: TrainedBiases::Selected,
                adds: Adds::Nothing,
                freezes_weights: true,
                leaves: Leaves::Delta,
                lr: 1e-3,
            },
            Self::Head => Facts {
                biases: TrainedBiases::None,
                adds: Adds::Nothing,
                freezes_weights: true,
                leaves: Leaves::Delta,
                lr: 1e-3,
            },
            Self::LayerNorm => Facts {
                biases: TrainedBiases::LayerNorms,
                adds: Adds::Nothing,
                freezes_weights: true,
                leaves: Leaves::Delta,
                lr: 1e-3,
            },
            Self::Ia3 => Facts {
                biases: TrainedBiases::None,
                adds: Adds::Factors,
                freezes_weights: true,
                leaves: Leaves::Delta,
                lr: 3e-3,
            },
            Self::Lora => Facts {
                biases: TrainedBiases::None,
                adds: Adds::LowRank,
                freezes_weights: true,
                leaves: Leaves::Delta,
                lr: 5e-4,
            },
            Self::AddedBiases => Facts {
                biases: TrainedBiases::Selected,
                adds: Adds::Biases,
                freezes_weights: true,
                leaves: Leaves::Delta,
                lr: 1e-3,
            },
            Self::Random => Facts {
                biases: TrainedBiases::Counted,
                adds: Adds::Entries,
                freezes_weights: true,
                leaves: Leaves::Delta,
                lr: 1e-3,
            },
            Self::Rows => Facts {
                biases: TrainedBiases::Counted,
                adds: Adds::Lines,
                freezes_weights: true,
                leaves: Leaves::Delta,
                lr: 1e-3,
            },
            Self::Full => Facts {
                biases: TrainedBiases::All,
                adds: Adds::Nothing,
                freezes_weights: false,
                leaves: Leaves::Model,
                lr: 5e-5,
            },
        }
    }

    /// Those compared by `compare` and `plan` by default.
    pub const COMPARED: [Self; 3] = [Self::Bitfit, Self::Head, Self::Full];

    /// Whether any matrix of the encoder trains; on a CPU that is in f32.
    pub fn trains_matrices(self) -> bool {
        let facts = self.facts();
        !facts.freezes_weights || facts.adds == Adds::LowRank
    }

    /// Whether it trains only what BitFit's authors count as biases and head, whose recipes include its rate.
    pub fn is_as_published(self) -> bool {
        let facts = self.facts();
        facts.freezes_weights && facts.adds == Adds::Nothing
    }

    /// The methods for which a condition holds.
    pub fn which(holds: impl Fn(Facts) -> bool) -> impl Iterator<Item = Self> {
        let all = Self::ALL.iter().copied();
        all.filter(move |method| holds(method.facts()))
    }

    /// The biases that train with this `--biases`.
    pub fn trained_biases(self, selected: &BiasSelection) -> BiasSelection {
        match self.facts().biases {
            TrainedBiases::Selected | TrainedBiases::Counted => selected.clone(),
            TrainedBiases::None => BiasSelection::none(),
            TrainedBiases::LayerNorms => BiasSelection::layer_norms(),
            TrainedBiases::All => BiasSelection::all(),
        }
    }

    /// The default storage of weights.
    pub fn default_weights(self) -> WeightStorage {
        match self.facts().freezes_weights {
            true => WeightStorage::default(),
            false => WeightStorage::F32,
        }
    }

    /// What a run with this `--biases` trains, for people: `bitfit, biases query`.
    pub fn with_biases(self, biases: &BiasSelection) -> String {
        match self.facts().biases {
            TrainedBiases::Selected => format!("{self}, biases {biases}"),
            TrainedBiases::Counted => {
                let about = if self.facts().adds == Adds::Lines { "about " } else { "" };
                format!("{self}, {about}as many as biases {biases}")
            }
            TrainedBiases::None | TrainedBiases::LayerNorms | TrainedBiases::All => {
                self.to_string()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn biases_train_as_the_method_says() {
        let query = BiasSelection::parse("query").unwrap();
        assert_eq!(Method::Bitfit.trained_biases(&query), query);
        assert!(Method::Head.trained_biases(&BiasSelection::all()).is_none());
        let all = Method::Full.trained_biases(&BiasSelection::all());
        assert_eq!(all, BiasSelection::all());
        assert_eq!(Method::Bitfit.with_biases(&query), "bitfit, biases query");
        assert_eq!(Method::Head.with_biases(&BiasSelection::all()), "head");
    }

    #[test]
    fn weights_that_train_are_f32_and_no_part_of_a_delta() {
        for method in Method::which(|facts| !facts.freezes_weights) {
            assert_eq!(method.default_weights(), WeightStorage::F32);
            assert_eq!(method.facts().leaves, Leaves::Model);
        }
    }
}
