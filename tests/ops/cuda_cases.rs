//! The cases for CUDA's kernels: those of the common table that fit them, and the edges that matter to them.

use crate::cases::{Case, Keep, Kind, Mode};
use crate::{classifier_cases, table};
use bitfit::backend::WeightType;
use bitfit::program::{Activation, PoolKind, Rows, Storage};

const FULL: Keep = Keep::Beside(Storage::Activation);

/// Cases of the common table that fit 16-byte rows, each once, and the edges that matter to these kernels: with
/// matrices in 16 bits, and those without matrices.
pub fn cases_for_cuda() -> Vec<Case> {
    let mut cases: Vec<Case> = table::table()
        .into_iter()
        .filter(|case| matches!(case.weights, WeightType::F16 | WeightType::F32))
        .filter(|case| match case.kind {
            // The table has these for each storage type of the CPU's matrices.
            Kind::Embed { hidden, .. } | Kind::EmbedBeside { hidden, .. } => {
                case.weights == WeightType::F16 && hidden % 8 == 0
            }
            Kind::Dense { trained, .. } | Kind::DenseBackward { trained, .. } => {
                trained == (case.weights == WeightType::F32)
            }
            Kind::Linear { inputs, outputs, parts, .. } => {
                case.weights == WeightType::F16 && inputs % 8 == 0 && outputs / parts % 8 == 0
            }
            Kind::LinearBackward { inputs, outputs, .. } => {
                case.weights == WeightType::F16 && inputs % 8 == 0 && outputs % 8 == 0
            }
            Kind::Attention { dim, .. }
            | Kind::AttentionBackward { dim, .. }
            | Kind::FirstAttention { dim, .. }
            | Kind::FirstAttentionBackward { dim, .. } => dim % 8 == 0,
            Kind::ResidualNorm { hidden, .. }
            | Kind::StreamNorm { hidden }
            | Kind::StreamNormBackward { hidden }
            | Kind::NormRestore { hidden }
            | Kind::ResidualNormBackward { hidden, .. }
            | Kind::Pool { hidden, .. }
            | Kind::PoolBackward { hidden, .. }
            | Kind::FirstTokens { hidden }
            | Kind::SequenceNorm { hidden } => hidden % 8 == 0,
            Kind::BiasGrad { width } => width % 8 == 0,
            Kind::Loss { .. } | Kind::Classifier { .. } => case.weights == WeightType::F32,
            Kind::WeightGrad { inputs, outputs } => inputs % 8 == 0 && outputs % 8 == 0,
            Kind::GainGrad { width, .. } => width % 8 == 0,
            Kind::TakeColumns { width, from, taken, .. }
            | Kind::AddColumns { width, from, taken, .. } => {
                [width, from, taken].iter().all(|count| count % 8 == 0)
            }
            Kind::SparseAdd { inputs, outputs, .. } | Kind::SparseGrad { inputs, outputs, .. } => {
                inputs % 8 == 0 && outputs % 8 == 0
            }
            Kind::SparseVectors { .. } | Kind::SparseVectorGrads { .. } => true,
            Kind::Activate { width, .. } | Kind::ActivateBackward { width, .. } => width % 8 == 0,
            Kind::Scale { width, scaled, .. } | Kind::ScaleBackward { width, scaled, .. } => {
                width % 8 == 0 && scaled % 8 == 0
            }
            Kind::EmbedBackward { hidden, .. } => hidden % 8 == 0,
            Kind::LabelledRows { hidden } => hidden % 8 == 0,
            Kind::LabelledDense { inputs, .. } => {
                case.weights == WeightType::F16 && inputs % 8 == 0
            }
            Kind::ActNorm { width, .. } | Kind::ActNormBackward { width, .. } => {
                case.weights == WeightType::F32 && width % 8 == 0
            }
            Kind::LabelledLoss { .. } => case.weights == WeightType::F32,
        })
        .collect();
    cases.extend(edges());
    cases
}

fn edges() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |lens: &[usize], p: f32, kind: Kind| {
        cases.push(Case { lens: lens.to_vec(), weights: WeightType::F16, p, kind });
    };
    // Row counts around the edges of all tile sizes; widths around those of the operand tiles.
    for rows in [1, 63, 64, 65, 95, 96, 97, 127, 128, 129] {
        for (inputs, outputs) in [(8, 24), (24, 8), (40, 136), (136, 72)] {
            add(&[rows], 0.0, Kind::WeightGrad { inputs, outputs });
            add(
                &[rows],
                0.0,
                Kind::Linear {
                    inputs,
                    outputs,
                    rows: Rows::Tokens,
                    parts: if outputs == 24 { 3 } else { 1 },
                    act: (outputs == 136).then_some((Activation::GeluErf, FULL)),
                },
            );
            for mode in Mode::ALL {
                add(
                    &[rows],
                    0.0,
                    Kind::LinearBackward { inputs, outputs, rows: Rows::Tokens, mode, dbias: true },
                );
            }
        }
    }
    for kind in [Activation::GeluErf, Activation::GeluTanh, Activation::Relu] {
        let codes = [Keep::Beside, Keep::Alone]
            .into_iter()
            .flat_map(|keep| [Storage::Slope8, Storage::Slope4].map(keep));
        for keep in [Keep::Nothing, Keep::Alone(Storage::Activation), FULL].into_iter().chain(codes)
        {
            add(
                &[3, 30],
                0.0,
                Kind::Linear {
                    inputs: 64,
                    outputs: 96,
                    rows: Rows::Tokens,
                    parts: 1,
                    act: Some((kind, keep)),
                },
            );
        }
    }
    // Every padded head; sequence lengths around attention's tiles, and around the most keys that one block holds.
    for p in [0.0, 0.1] {
        for dim in [8, 24, 40, 48, 80, 96, 128] {
            let heads = 2;
            for lens in [&[64, 1, 65][..], &[33, 128, 2], &[15, 16, 17, 112], &[64, 129, 65]] {
                add(lens, p, Kind::Attention { heads, dim, lse: true });
                add(lens, p, Kind::AttentionBackward { heads, dim, dbias: true });
                let (lse, dbias) = (true, true);
                add(lens, p, Kind::FirstAttention { heads, dim, lse });
                add(lens, p, Kind::FirstAttentionBackward { heads, dim, dbias });
            }
        }
        for hidden in [8, 312, 1024] {
            for stored in [Storage::Activation, Storage::XHat8] {
                add(&[5, 29], p, Kind::ResidualNorm { hidden, saved: Some(stored) });
                add(
                    &[5, 29],
                    p,
                    Kind::ResidualNormBackward { hidden, stored, sums: true, branch: p > 0.0 },
                );
            }
            add(&[5, 29], p, Kind::Embed { hidden, vocab: 17, types: 2 });
        }
    }
    for kind in [PoolKind::Cls, PoolKind::Mean] {
        for hidden in [8, 264] {
            add(&[1, 40, 7], 0.0, Kind::Pool { hidden, kind });
            add(&[1, 40, 7], 0.0, Kind::PoolBackward { hidden, kind });
        }
    }
    // More sequences than a block has.
    for p in [0.0, 0.1] {
        classifier_cases::table(&mut |kind| add(&[2; 19], p, kind));
    }
    for lens in [&[1][..], &[189], &[100, 95], &[130, 1, 200, 60]] {
        table::labelled_edges(|kind| add(lens, 0.0, kind));
    }
    cases
}

/// The same with matrices in 8 or 4 bits.
pub fn cases_of_few_bits(weights: WeightType) -> Vec<Case> {
    let mut cases: Vec<Case> = table::table()
        .into_iter()
        .filter(|case| case.weights == weights)
        .filter(|case| match case.kind {
            Kind::Linear { inputs, outputs, .. } | Kind::LinearBackward { inputs, outputs, .. } => {
                inputs % 8 == 0 && outputs % 8 == 0
            }
            Kind::Embed { hidden, .. }
            | Kind::EmbedBackward { hidden, .. }
            | Kind::EmbedBeside { hidden, .. } => hidden % 8 == 0,
            _ => true,
        })
        .collect();
    let mut add = |rows: usize, kind: Kind| {
        cases.push(Case { lens: vec![rows], weights, p: 0.0, kind });
    };
    // Around the edges of the tile sizes, of stretches (32 columns) and of blocks (64), and of the scales' groups.
    for rows in [1, 63, 64, 65, 97, 129] {
        for (inputs, outputs) in [(8, 24), (72, 40), (40, 136), (136, 72), (768, 48)] {
            if inputs == 768 && rows > 1 {
                continue;
            }
            products_of(rows, inputs, outputs, &mut add);
        }
    }
    for hidden in [8, 312, 1024] {
        let (vocab, types) = (17, 2);
        add(34, Kind::Embed { hidden, vocab, types });
    }
    for (inputs, outputs) in [(8, 8), (72, 24), (384, 384)] {
        let (trained, bias, dx) = (false, true, true);
        let rows = Rows::Sequences;
        for (stored, tanh) in [(Storage::F32, true), (Storage::Stream, false)] {
            add(3, Kind::Dense { rows, stored, inputs, outputs, tanh, trained });
            add(3, Kind::DenseBackward { rows, stored, inputs, outputs, tanh, trained, bias, dx });
        }
    }
    for (inputs, outputs) in [(8, 3), (72, 70), (136, 200)] {
        for table in [false, true] {
            add(200, Kind::LabelledDense { inputs, outputs, table });
        }
    }
    cases
}

/// Every use of a product.
pub fn products_of(rows: usize, inputs: usize, outputs: usize, add: &mut impl FnMut(usize, Kind)) {
    for act in [
        None,
        Some((Activation::GeluErf, FULL)),
        Some((Activation::Relu, Keep::Alone(Storage::Activation))),
    ] {
        add(
            rows,
            Kind::Linear {
                inputs,
                outputs,
                rows: Rows::Tokens,
                parts: if outputs == 24 { 3 } else { 1 },
                act,
            },
        );
    }
    for mode in Mode::ALL {
        add(rows, Kind::LinearBackward { inputs, outputs, rows: Rows::Tokens, mode, dbias: true });
    }
}

pub fn products(cases: Vec<Case>) -> Vec<Case> {
    cases
        .into_iter()
        .filter(|c| {
            matches!(
                c.kind,
                Kind::Linear { .. } | Kind::LinearBackward { .. } | Kind::WeightGrad { .. }
            )
        })
        .collect()
}

/// Each operation once or twice, at the shapes with the most edges, to run under many schedules.
pub fn oddest() -> Vec<Case> {
    let mut cases = Vec::new();
    // Sequences too long for one block of attention.
    for dim in [8, 40, 128] {
        let (heads, lse, dbias) = (2, true, true);
        for kind in
            [Kind::Attention { heads, dim, lse }, Kind::AttentionBackward { heads, dim, dbias }]
        {
            cases.push(Case { lens: vec![64, 1, 129], weights: WeightType::F16, p: 0.1, kind });
        }
    }
    for lens in [&[1][..], &[64, 1, 65]] {
        let mut add = |p: f32, kind: Kind| {
            cases.push(Case { lens: lens.to_vec(), weights: WeightType::F16, p, kind });
        };
        let (inputs, outputs, rows) = (136, 72, Rows::Tokens);
        let multiply = Mode::Multiply(Storage::Activation);
        for mode in [Mode::Overwrite, Mode::Accumulate, multiply, Mode::InPlace] {
            let dbias = true;
            add(0.0, Kind::LinearBackward { inputs, outputs, rows, mode, dbias });
        }
        let beside = Keep::Beside(Storage::Activation);
        let activated = |keep| Some((Activation::GeluErf, keep));
        for act in [None, activated(beside), activated(Keep::Alone(Storage::Activation))] {
            let parts = 3;
            add(0.0, Kind::Linear { inputs, outputs, rows, parts, act });
        }
        for dim in [8, 40, 128] {
            let (heads, lse, dbias) = (2, true, true);
            add(0.1, Kind::Attention { heads, dim, lse });
            add(0.1, Kind::AttentionBackward { heads, dim, dbias });
            add(0.1, Kind::FirstAttention { heads, dim, lse });
            add(0.1, Kind::FirstAttentionBackward { heads, dim, dbias });
        }
        let (hidden, vocab, types) = (312, 17, 2);
        let (width, scaled, slope) = (312, 312, Some(Storage::Slope8));
        add(0.1, Kind::TakeColumns { rows, width, from: 208, taken: 104 });
        add(0.1, Kind::AddColumns { rows, width, from: 208, taken: 104 });
        crate::sparse_cases::oddest(&mut add);
        crate::activate_cases::oddest(&mut add);
        add(0.0, Kind::Scale { rows, width, scaled: 208 });
        add(0.0, Kind::ScaleBackward { rows, width, scaled, slope, grad: true });
        add(0.0, Kind::ScaleBackward { rows, width, scaled: 208, slope: None, grad: true });
        add(0.0, Kind::NormRestore { hidden });
        let (sums, branch) = (true, true);
        add(0.1, Kind::Embed { hidden, vocab, types });
        for stored in [Storage::Activation, Storage::XHat8] {
            let saved = Some(stored);
            add(0.1, Kind::ResidualNorm { hidden, saved });
            add(0.1, Kind::ResidualNormBackward { hidden, stored, sums, branch });
        }
        add(0.1, Kind::StreamNorm { hidden });
        add(0.1, Kind::StreamNormBackward { hidden });
        add(0.1, Kind::BiasGrad { width: hidden });
        add(0.0, Kind::FirstTokens { hidden });
        add(0.1, Kind::SequenceNorm { hidden });
        for kind in [PoolKind::Cls, PoolKind::Mean] {
            add(0.0, Kind::Pool { hidden, kind });
            add(0.0, Kind::PoolBackward { hidden, kind });
        }
        let (inputs, outputs, bias, dx) = (33, 5, true, true);
        for (rows, trained) in
            [(Rows::Sequences, false), (Rows::Sequences, true), (Rows::Tokens, true)]
        {
            for (stored, tanh) in [(Storage::F32, true), (Storage::Stream, false)] {
                let back =
                    Kind::DenseBackward { rows, stored, inputs, outputs, tanh, trained, bias, dx };
                add(0.1, Kind::Dense { rows, stored, inputs, outputs, tanh, trained });
                add(0.1, back);
            }
        }
        for (kind, rows, outputs, weighted) in table::losses() {
            add(0.0, Kind::Loss { kind, rows, outputs, gradient: true, weighted });
        }
        classifier_cases::table(&mut |kind| add(0.1, kind));
        table::oddest_labelled().into_iter().for_each(|kind| add(0.0, kind));
    }
    cases
}

/// The products among them with matrices in few bits.
pub fn oddest_products(weights: WeightType) -> Vec<Case> {
    let cases = products(oddest()).into_iter();
    cases.map(|case| Case { weights, ..case }).collect()
}
