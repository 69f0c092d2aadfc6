//! What a case is, and what running it gives; how each kind runs is in the `*_cases` files next to this one.

use crate::rig::{Rig, Rounding};
use crate::{
    activate_cases, attention_cases, classifier_cases, columns_cases, first_cases, full_cases,
    head_cases, linear_cases, norm_cases, scale_cases, sparse_cases, words_cases,
};
use bitfit::backend::{Backend, WeightType};
use bitfit::program::{Activation, LossKind, ParamRange, PoolKind, Rows, Storage, Value};

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Case {
    /// Tokens of each sequence.
    pub lens: Vec<usize>,
    pub weights: WeightType,
    /// Dropout probability, if the operation has dropout.
    pub p: f32,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Embed {
        hidden: usize,
        vocab: usize,
        types: usize,
    },
    Linear {
        inputs: usize,
        outputs: usize,
        rows: Rows,
        parts: usize,
        act: Option<(Activation, Keep)>,
    },
    LinearBackward {
        inputs: usize,
        outputs: usize,
        rows: Rows,
        mode: Mode,
        dbias: bool,
    },
    Attention {
        heads: usize,
        dim: usize,
        lse: bool,
    },
    AttentionBackward {
        heads: usize,
        dim: usize,
        dbias: bool,
    },
    ResidualNorm {
        hidden: usize,
        saved: Option<Storage>,
    },
    /// Like [`Self::ResidualNorm`] and its backward, with the residual stream that bypasses them.
    StreamNorm {
        hidden: usize,
    },
    StreamNormBackward {
        hidden: usize,
    },
    NormRestore {
        hidden: usize,
    },
    ResidualNormBackward {
        hidden: usize,
        stored: Storage,
        sums: bool,
        branch: bool,
    },
    BiasGrad {
        width: usize,
    },
    Pool {
        hidden: usize,
        kind: PoolKind,
    },
    PoolBackward {
        hidden: usize,
        kind: PoolKind,
    },
    Dense {
        rows: Rows,
        /// Of the input: hidden states are of the stream.
        stored: Storage,
        inputs: usize,
        outputs: usize,
        tanh: bool,
        trained: bool,
    },
    DenseBackward {
        rows: Rows,
        stored: Storage,
        inputs: usize,
        outputs: usize,
        tanh: bool,
        trained: bool,
        bias: bool,
        dx: bool,
    },
    Loss {
        kind: LossKind,
        rows: Rows,
        outputs: usize,
        gradient: bool,
        /// Whether classes have weights.
        weighted: bool,
    },
    /// A layer on sequences, its loss and its backward: with few classes one launch on a GPU.
    Classifier {
        kind: LossKind,
        stored: Storage,
        inputs: usize,
        outputs: usize,
        weighted: bool,
        dx: bool,
    },
    /// For only the first tokens, like the next three.
    FirstAttention {
        heads: usize,
        dim: usize,
        lse: bool,
    },
    FirstAttentionBackward {
        heads: usize,
        dim: usize,
        dbias: bool,
    },
    /// Gathers their rows and scatters them back.
    FirstTokens {
        hidden: usize,
    },
    /// LayerNorm, recomputed and backward, and a bias gradient, with a row per sequence.
    SequenceNorm {
        hidden: usize,
    },
    TakeColumns {
        rows: Rows,
        width: usize,
        from: usize,
        taken: usize,
    },
    AddColumns {
        rows: Rows,
        width: usize,
        from: usize,
        taken: usize,
    },
    SparseAdd {
        rows: Rows,
        inputs: usize,
        outputs: usize,
        /// Maximum number of entries.
        count: usize,
        /// Whether they are added to the stream.
        stream: bool,
    },
    SparseGrad {
        rows: Rows,
        inputs: usize,
        outputs: usize,
        count: usize,
    },
    SparseVectors {
        count: usize,
    },
    SparseVectorGrads {
        count: usize,
    },
    /// Embeddings with entries next to the tables, or their backward.
    EmbedBeside {
        hidden: usize,
        vocab: usize,
        types: usize,
        back: bool,
    },
    Activate {
        rows: Rows,
        width: usize,
        act: Activation,
        value: bool,
        slope: Option<Storage>,
    },
    ActivateBackward {
        rows: Rows,
        width: usize,
        stored: Storage,
        dbias: bool,
    },
    Scale {
        rows: Rows,
        width: usize,
        /// The last columns.
        scaled: usize,
    },
    ScaleBackward {
        rows: Rows,
        width: usize,
        scaled: usize,
        slope: Option<Storage>,
        grad: bool,
    },
    /// For what trains besides biases, like the rest.
    WeightGrad {
        inputs: usize,
        outputs: usize,
    },
    GainGrad {
        width: usize,
        stored: Storage,
    },
    EmbedBackward {
        hidden: usize,
        vocab: usize,
        types: usize,
        /// Whether the tables train, or only the LayerNorm.
        tables: bool,
    },
    /// For the masked-word head, like the rest: gathers the labelled tokens' rows and scatters them back.
    LabelledRows {
        hidden: usize,
    },
    /// A product with a matrix or an embedding table, both ways.
    LabelledDense {
        inputs: usize,
        outputs: usize,
        table: bool,
    },
    ActNorm {
        width: usize,
        act: Activation,
    },
    ActNormBackward {
        width: usize,
        act: Activation,
        dbeta: bool,
    },
    LabelledLoss {
        outputs: usize,
        gradient: bool,
    },
}

/// What a linear layer leaves of its activation's derivative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Keep {
    Nothing,
    Beside(Storage),
    /// The derivative and no value.
    Alone(Storage),
}

/// What a backward product does with its output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Overwrite,
    Accumulate,
    Multiply(Storage),
    /// Multiplies, and overwrites the derivative.
    InPlace,
}

impl Mode {
    /// With a slope in each storage.
    pub const ALL: [Self; 6] = [
        Self::Overwrite,
        Self::Accumulate,
        Self::Multiply(Storage::Activation),
        Self::Multiply(Storage::Slope8),
        Self::Multiply(Storage::Slope4),
        Self::InPlace,
    ];
}

/// One result of a case: what the backend wrote, and what it should have been.
pub struct Outcome {
    pub name: &'static str,
    pub got: Vec<f32>,
    pub want: Vec<f64>,
    /// What a straightforward 16-bit implementation would give: the textbook formulas with exact sums, each tensor
    /// rounded when it is stored. Its error is the yardstick for 16-bit backends.
    pub straight: Vec<f64>,
    /// Stored in f32 by every backend.
    pub f32: bool,
}

pub struct Outcomes(Vec<Outcome>);

impl Outcomes {
    pub fn activation<B: Backend>(
        &mut self,
        name: &'static str,
        rig: &Rig<B>,
        value: Value,
        want: Vec<f64>,
    ) {
        let straight = want.clone();
        self.activation_beside(name, rig, value, want, straight);
    }

    /// The same if a straightforward implementation has other values before it stores them: those of rounded operands.
    pub fn activation_beside<B: Backend>(
        &mut self,
        name: &'static str,
        rig: &Rig<B>,
        value: Value,
        want: Vec<f64>,
        straight: Vec<f64>,
    ) {
        let straight = if rig.is_wide(value) { straight } else { rig.rounded(&straight) };
        self.add(name, rig.read(value), want, straight, false);
    }

    pub fn f32(&mut self, name: &'static str, got: Vec<f32>, want: Vec<f64>) {
        let straight = want.clone();
        self.add(name, got, want, straight, true);
    }

    /// A parameter gradient: the previous value plus `sums`.
    pub fn gradient<B: Backend>(
        &mut self,
        name: &'static str,
        rig: &Rig<B>,
        range: ParamRange,
        sums: Vec<f64>,
    ) {
        let straight = sums.clone();
        self.gradient_beside(name, rig, range, sums, straight);
    }

    /// The same if a straightforward implementation has other sums: those of what it stored.
    pub fn gradient_beside<B: Backend>(
        &mut self,
        name: &'static str,
        rig: &Rig<B>,
        range: ParamRange,
        sums: Vec<f64>,
        straight: Vec<f64>,
    ) {
        let before = rig.gradient_before(range);
        let after = |sums: Vec<f64>| before.iter().zip(&sums).map(|(a, b)| a + b).collect();
        self.add(name, rig.gradient(range), after(sums), after(straight), true);
    }

    pub fn add(
        &mut self,
        name: &'static str,
        got: Vec<f32>,
        want: Vec<f64>,
        straight: Vec<f64>,
        f32: bool,
    ) {
        self.0.push(Outcome { name, got, want, straight, f32 });
    }
}

pub const EPS: f32 = 1e-12;

/// Runs a case on a backend that stores matrices as the case says.
pub fn run<B: Backend>(case: &Case, backend: B) -> Vec<Outcome> {
    run_rounding(case, backend, Rounding { matrix: as_stored(case.weights), ..EXACT })
}

/// No rounding.
pub const EXACT: Rounding = Rounding { matrix: |v| v, activation: |v| v };

/// How a CPU stores a matrix element; 8 and 4 bits round a matrix as a whole: see `Rig::weight`.
pub fn as_stored(weights: WeightType) -> fn(f32) -> f32 {
    match weights {
        WeightType::F16 => |v| half::f16::from_f32(v).to_f32(),
        WeightType::F32 | WeightType::Int8 | WeightType::Nf4 => |v| v,
    }
}

/// Runs a case on a backend with this rounding; also checks memory outside the case's outputs.
pub fn run_rounding<B: Backend>(case: &Case, backend: B, rounding: Rounding) -> Vec<Outcome> {
    let name = format!("{case:?}");
    let mut rig = Rig::new(backend, rounding, &name, &case.lens);
    rig.weights = case.weights;
    let mut out = Outcomes(Vec::new());
    match case.kind {
        Kind::Linear { .. } | Kind::LinearBackward { .. } => {
            linear_cases::run(case, &name, &mut rig, &mut out);
        }
        Kind::Attention { .. } | Kind::AttentionBackward { .. } => {
            attention_cases::run(case, &name, &mut rig, &mut out);
        }
        Kind::Embed { .. }
        | Kind::ResidualNorm { .. }
        | Kind::StreamNorm { .. }
        | Kind::StreamNormBackward { .. }
        | Kind::NormRestore { .. }
        | Kind::ResidualNormBackward { .. }
        | Kind::BiasGrad { .. } => norm_cases::run(case, &name, &mut rig, &mut out),
        Kind::Pool { .. }
        | Kind::PoolBackward { .. }
        | Kind::Dense { .. }
        | Kind::DenseBackward { .. }
        | Kind::Loss { .. } => head_cases::run(case, &name, &mut rig, &mut out),
        Kind::Classifier { .. } => classifier_cases::run(case, &name, &mut rig, &mut out),
        Kind::FirstAttention { .. }
        | Kind::FirstAttentionBackward { .. }
        | Kind::FirstTokens { .. }
        | Kind::SequenceNorm { .. } => first_cases::run(case, &name, &mut rig, &mut out),
        Kind::TakeColumns { .. } | Kind::AddColumns { .. } => {
            columns_cases::run(case, &name, &mut rig, &mut out);
        }
        Kind::SparseAdd { .. }
        | Kind::SparseGrad { .. }
        | Kind::SparseVectors { .. }
        | Kind::SparseVectorGrads { .. }
        | Kind::EmbedBeside { .. } => sparse_cases::run(case, &name, &mut rig, &mut out),
        Kind::Activate { .. } | Kind::ActivateBackward { .. } => {
            activate_cases::run(case, &name, &mut rig, &mut out);
        }
        Kind::Scale { .. } | Kind::ScaleBackward { .. } => {
            scale_cases::run(case, &name, &mut rig, &mut out);
        }
        Kind::WeightGrad { .. } | Kind::GainGrad { .. } | Kind::EmbedBackward { .. } => {
            full_cases::run(case, &name, &mut rig, &mut out);
        }
        Kind::LabelledRows { .. }
        | Kind::LabelledDense { .. }
        | Kind::ActNorm { .. }
        | Kind::ActNormBackward { .. }
        | Kind::LabelledLoss { .. } => words_cases::run(case, &name, &mut rig, &mut out),
    }
    out.0
}
