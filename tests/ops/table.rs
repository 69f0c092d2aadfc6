//! The cases: every operation at odd shapes, at tile edges and at the shapes of real models.

use crate::cases::{Case, Keep, Kind, Mode};
use bitfit::backend::WeightType;
use bitfit::program::Storage;
use bitfit::program::{Activation, LossKind, PoolKind, Rows};

const HIDDEN: [usize; 4] = [32, 128, 384, 768];

/// Batches: one token, one sequence, many short ones, and the longest next to the shortest.
fn batches() -> [Vec<usize>; 5] {
    [vec![1], vec![25], vec![3, 17, 1, 16, 31, 33], vec![1, 100, 1, 49, 48], vec![1, 512, 1]]
}

pub fn table() -> Vec<Case> {
    let mut cases = Vec::new();
    for (b, lens) in batches().into_iter().enumerate() {
        for weights in [WeightType::F16, WeightType::F32] {
            for p in [0.0, 0.1] {
                let first = weights == WeightType::F32;
                let mut add = |kind: Kind| {
                    cases.push(Case { lens: lens.clone(), weights, p, kind });
                };
                for hidden in HIDDEN {
                    // The full product of sizes would say little more and take minutes.
                    if lens.iter().sum::<usize>() > 200 && hidden > 128 {
                        continue;
                    }
                    add(Kind::Embed { hidden, vocab: 50, types: 1 + b % 2 });
                    if !first {
                        continue;
                    }
                    add(Kind::ResidualNorm {
                        hidden,
                        saved: (b % 2 == 0).then_some(Storage::Activation),
                    });
                    add(Kind::ResidualNorm { hidden, saved: Some(Storage::XHat8) });
                    for tables in [false, true] {
                        add(Kind::EmbedBackward { hidden, vocab: 50, types: 1 + b % 2, tables });
                    }
                    for sums in [false, true] {
                        for stored in [Storage::Activation, Storage::XHat8] {
                            add(Kind::ResidualNormBackward {
                                hidden,
                                stored,
                                sums,
                                branch: p > 0.0 || b == 2,
                            });
                        }
                    }
                    add(Kind::StreamNorm { hidden });
                    add(Kind::StreamNormBackward { hidden });
                    add(Kind::BiasGrad { width: hidden });
                    if p == 0.0 {
                        add(Kind::NormRestore { hidden });
                    }
                    let heads = hidden / 32;
                    add(Kind::Attention { heads, dim: 32, lse: true });
                    add(Kind::AttentionBackward { heads, dim: 32, dbias: true });
                }
                if first {
                    // Heads that are not whole vectors, and odd widths.
                    for (heads, dim) in [(1, 1), (3, 5), (2, 16), (2, 20), (1, 64), (2, 128)] {
                        // One number per sequence may cancel to nearly nothing.
                        let of_first = if dim == 1 { 9 } else { heads };
                        add(Kind::FirstAttention { heads: of_first, dim, lse: dim != 16 });
                        add(Kind::FirstAttentionBackward {
                            heads: of_first,
                            dim,
                            dbias: dim != 16,
                        });
                        add(Kind::Attention { heads, dim, lse: dim != 16 });
                        add(Kind::AttentionBackward { heads, dim, dbias: dim != 16 });
                    }
                    for width in [1, 7, 33] {
                        add(Kind::ResidualNorm { hidden: width, saved: Some(Storage::Activation) });
                        add(Kind::ResidualNorm { hidden: width, saved: Some(Storage::XHat8) });
                        add(Kind::BiasGrad { width });
                    }
                    for hidden in [1, 33, 384] {
                        add(Kind::SequenceNorm { hidden });
                        add(Kind::FirstTokens { hidden });
                    }
                }
                for (inputs, outputs, tanh) in
                    [(384, 384, true), (32, 2, false), (33, 5, true), (1, 1, false)]
                {
                    for trained in [false, true] {
                        for rows in [Rows::Sequences, Rows::Tokens] {
                            // Many rows of many columns take the oracle a long time, and the sum of many may cancel if
                            // it is one number.
                            let sizes = inputs > 100 || outputs == 1;
                            if rows == Rows::Tokens && (sizes || p == 0.0) {
                                continue;
                            }
                            let bias = trained || b % 2 == 0;
                            let dx = b % 2 == 0 || !trained;
                            for stored in [Storage::F32, Storage::Stream] {
                                add(Kind::Dense { rows, stored, inputs, outputs, tanh, trained });
                                add(Kind::DenseBackward {
                                    rows,
                                    stored,
                                    inputs,
                                    outputs,
                                    // Hidden states are no output of a tanh.
                                    tanh: tanh && stored == Storage::F32,
                                    trained,
                                    bias,
                                    dx,
                                });
                            }
                        }
                    }
                }
                if first {
                    crate::columns_cases::table(&mut add);
                    crate::sparse_cases::embeddings(&mut add);
                }
                if first && b % 2 == 0 {
                    crate::classifier_cases::table(&mut add);
                }
                if p > 0.0 {
                    continue;
                }
                linear(&mut add, &lens);
                if first {
                    crate::scale_cases::table(&mut add);
                    crate::sparse_cases::table(&mut add);
                    crate::activate_cases::table(&mut add);
                    full(&mut add, &lens);
                }
                for kind in [PoolKind::Cls, PoolKind::Mean] {
                    add(Kind::Pool { hidden: 33, kind });
                    add(Kind::PoolBackward { hidden: 33, kind });
                    add(Kind::Pool { hidden: 384, kind });
                }
                words(&mut add);
                for gradient in [false, true] {
                    for (kind, rows, outputs, weighted) in losses() {
                        add(Kind::Loss { kind, rows, outputs, gradient, weighted });
                    }
                }
            }
        }
    }
    quantised(&mut cases);
    // Real layers at a few rows.
    for weights in [WeightType::F16, WeightType::F32] {
        let mut add = |kind| cases.push(Case { lens: vec![20, 17], weights, p: 0.0, kind });
        for (inputs, outputs) in [(384, 1152), (384, 1536), (1536, 384), (768, 3072), (3072, 768)] {
            let act = (outputs > inputs)
                .then_some((Activation::GeluErf, Keep::Beside(Storage::Activation)));
            add(Kind::Linear { inputs, outputs, rows: Rows::Tokens, parts: 1, act });
            let mode = if outputs > inputs {
                Mode::Accumulate
            } else {
                Mode::Multiply(Storage::Activation)
            };
            add(Kind::LinearBackward { inputs, outputs, rows: Rows::Tokens, mode, dbias: true });
        }
    }
    // Slopes in codes that are recomputed, without a value next to them.
    for kind in [Activation::GeluErf, Activation::GeluTanh, Activation::Relu] {
        for storage in [Storage::Slope8, Storage::Slope4] {
            for weights in [WeightType::F16, WeightType::F32] {
                cases.push(Case {
                    lens: vec![20, 17],
                    weights,
                    p: 0.0,
                    kind: Kind::Linear {
                        inputs: 24,
                        outputs: 97,
                        rows: Rows::Tokens,
                        parts: 1,
                        act: Some((kind, Keep::Alone(storage))),
                    },
                });
            }
        }
    }
    cases
}

/// Gradients of matrices and gains, which dropout does not affect.
fn full(add: &mut impl FnMut(Kind), lens: &[usize]) {
    for (inputs, outputs) in [(1, 3), (15, 17), (24, 40), (64, 192), (200, 576)] {
        if lens.len() == 3 && inputs == 200 {
            continue;
        }
        add(Kind::WeightGrad { inputs, outputs });
    }
    for hidden in [7, 32, 384] {
        for stored in [Storage::Activation, Storage::XHat8] {
            add(Kind::GainGrad { width: hidden, stored });
        }
    }
}

/// Products: sizes around the vector, panel and row-chunk edges, every activation, every mode.
fn linear(add: &mut impl FnMut(Kind), lens: &[usize]) {
    let rows = Rows::Tokens;
    for (inputs, outputs, parts) in
        [(1, 3, 3), (15, 17, 1), (33, 48, 3), (64, 193, 1), (200, 576, 3)]
    {
        if lens.len() == 3 && inputs == 200 {
            continue;
        }
        add(Kind::Linear { inputs, outputs, rows, parts, act: None });
        for mode in Mode::ALL {
            for dbias in [false, true] {
                add(Kind::LinearBackward { inputs: outputs, outputs: inputs, rows, mode, dbias });
            }
        }
    }
    for kind in [Activation::GeluErf, Activation::GeluTanh, Activation::Relu] {
        for keep in [
            Keep::Nothing,
            Keep::Alone(Storage::Activation),
            Keep::Beside(Storage::Activation),
            Keep::Beside(Storage::Slope8),
            Keep::Beside(Storage::Slope4),
        ] {
            let act = Some((kind, keep));
            add(Kind::Linear { inputs: 24, outputs: 97, rows, parts: 1, act });
        }
    }
    let rows = Rows::Sequences;
    add(Kind::Linear { inputs: 24, outputs: 40, rows, parts: 2, act: None });
    let mode = Mode::Overwrite;
    add(Kind::LinearBackward { inputs: 24, outputs: 40, rows, mode, dbias: true });
}

/// Matrices in 8 and 4 bits: rows of whole and partial blocks, both products, tables, a frozen pooler.
fn quantised(cases: &mut Vec<Case>) {
    for weights in [WeightType::Int8, WeightType::Nf4] {
        let mut add = |lens: &[usize], kind| {
            cases.push(Case { lens: lens.to_vec(), weights, p: 0.0, kind });
        };
        let rows = Rows::Tokens;
        for (inputs, outputs) in [(1, 3), (63, 17), (64, 64), (65, 130), (200, 576), (384, 1536)] {
            let act = (outputs == 130)
                .then_some((Activation::GeluErf, Keep::Beside(Storage::Activation)));
            add(&[3, 17, 5], Kind::Linear { inputs, outputs, rows, parts: 1, act });
            for mode in [Mode::Overwrite, Mode::Accumulate, Mode::InPlace] {
                add(
                    &[3, 17, 5],
                    Kind::LinearBackward {
                        inputs,
                        outputs,
                        rows,
                        mode,
                        dbias: mode == Mode::InPlace,
                    },
                );
            }
        }
        for hidden in [33, 384] {
            let (vocab, types) = (50, 2);
            add(&[9, 1], Kind::Embed { hidden, vocab, types });
            add(&[9, 1], Kind::EmbedBackward { hidden, vocab, types, tables: false });
        }
        let (inputs, outputs, stored) = (100, 100, Storage::F32);
        add(&[2, 3, 4], Kind::Dense { rows, stored, inputs, outputs, tanh: true, trained: false });
        add(
            &[2, 3, 4],
            Kind::DenseBackward {
                rows,
                stored,
                inputs,
                outputs,
                tanh: true,
                trained: false,
                bias: true,
                dx: true,
            },
        );
    }
}

/// The masked-word head, with vocabularies around the pieces in which their exponentials are added up.
fn words(add: &mut impl FnMut(Kind)) {
    for hidden in [1, 33, 384] {
        add(Kind::LabelledRows { hidden });
    }
    for (inputs, outputs) in [(33, 5), (16, 131)] {
        for table in [false, true] {
            add(Kind::LabelledDense { inputs, outputs, table });
        }
    }
    for act in [Activation::GeluErf, Activation::GeluTanh, Activation::Relu] {
        for width in [33, 384] {
            add(Kind::ActNorm { width, act });
            add(Kind::ActNormBackward { width, act, dbeta: width == 33 });
        }
    }
    for gradient in [false, true] {
        for outputs in [3, 512, 1100] {
            add(Kind::LabelledLoss { outputs, gradient });
        }
    }
}

/// The same around the edges of CUDA's tiles, with a label on a third of the tokens.
pub fn labelled_edges(mut add: impl FnMut(Kind)) {
    for hidden in [8, 264] {
        add(Kind::LabelledRows { hidden });
    }
    for (inputs, outputs) in [(8, 3), (24, 64), (72, 130)] {
        for table in [false, true] {
            add(Kind::LabelledDense { inputs, outputs, table });
        }
    }
    for width in [8, 312, 1024] {
        let act = Activation::GeluErf;
        add(Kind::ActNorm { width, act });
        add(Kind::ActNormBackward { width, act, dbeta: true });
    }
    // Around the threads per block.
    for outputs in [255, 257] {
        add(Kind::LabelledLoss { outputs, gradient: true });
    }
}

/// Each of its operations once, at a shape with edges.
pub fn oddest_labelled() -> [Kind; 5] {
    let (width, act) = (312, Activation::GeluTanh);
    [
        Kind::LabelledRows { hidden: 264 },
        Kind::LabelledDense { inputs: 40, outputs: 70, table: true },
        Kind::ActNorm { width, act },
        Kind::ActNormBackward { width, act, dbeta: true },
        Kind::LabelledLoss { outputs: 260, gradient: true },
    ]
}

/// Each loss over the rows it is for, with outputs around the width of a warp.
pub fn losses() -> Vec<(LossKind, Rows, usize, bool)> {
    let (sequences, tokens) = (Rows::Sequences, Rows::Tokens);
    let mut all = vec![(LossKind::Span, tokens, 2, false)];
    for outputs in [1, 3, 40] {
        for weighted in [false, true] {
            all.push((LossKind::CrossEntropy, sequences, outputs, weighted));
            all.push((LossKind::CrossEntropy, tokens, outputs, weighted));
        }
        all.push((LossKind::MeanSquared, sequences, outputs, false));
        all.push((LossKind::Binary, sequences, outputs, false));
    }
    all
}
