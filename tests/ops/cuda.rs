//! The table on the CUDA backend, executed by the emulator with all its checks: bounds, initialisation, races,
//! barriers, asynchronous copies.
//!
//! With `BITFIT_TEST_CUDA=1` the same tests run on the machine's own driver.

use crate::cases::{self, Case, Keep, Kind, Mode, Outcome};
use crate::emulated::emulated;
use crate::{error, optimizer, table};
use bitfit::backend::cuda::launch::GemmTile;
use bitfit::backend::cuda::{CudaBackend, CudaOptions, HalfType, LossScale};
use bitfit::backend::{Activation, DerivativeType, Rows, WeightType};

fn backend(half: HalfType, tile: Option<GemmTile>) -> CudaBackend {
    CudaBackend::new(CudaOptions {
        loss_scale: LossScale::Fixed(1.0),
        tile,
        ..CudaOptions::new(0, half)
    })
    .unwrap_or_else(|e| panic!("{e:#}"))
}

const FULL: Keep = Keep::Beside(DerivativeType::Full);

/// Whether a case keeps or reads derivatives in codes, which these kernels do not.
fn codes(kind: &Kind) -> bool {
    let full = |stored: DerivativeType| stored == DerivativeType::Full;
    match kind {
        Kind::Linear { act, .. } => {
            matches!(act, Some((_, Keep::Beside(stored))) if !full(*stored))
        }
        Kind::LinearBackward { mode, .. } => {
            matches!(mode, Mode::Multiply(stored) if !full(*stored))
        }
        _ => false,
    }
}

fn stored(half: HalfType) -> fn(f32) -> f32 {
    match half {
        HalfType::F16 => |v| half::f16::from_f32(v).to_f32(),
        HalfType::Bf16 => |v| half::bf16::from_f32(v).to_f32(),
    }
}

/// Cases of the common table that fit 16-byte rows, each once, and the edges that matter to these kernels.
fn cases_for_cuda() -> Vec<Case> {
    let mut cases: Vec<Case> = table::table()
        .into_iter()
        .filter(|case| !codes(&case.kind))
        .filter(|case| match case.kind {
            // The table has these for each storage type of the CPU's matrices.
            Kind::Embed { hidden, .. } => case.weights == WeightType::F16 && hidden % 8 == 0,
            Kind::Dense { trained, .. } | Kind::DenseBackward { trained, .. } => {
                trained == (case.weights == WeightType::F32)
            }
            Kind::Linear {
                inputs,
                outputs,
                parts,
                ..
            } => case.weights == WeightType::F16 && inputs % 8 == 0 && outputs / parts % 8 == 0,
            Kind::LinearBackward {
                inputs, outputs, ..
            } => case.weights == WeightType::F16 && inputs % 8 == 0 && outputs % 8 == 0,
            Kind::Attention { dim, .. } | Kind::AttentionBackward { dim, .. } => dim % 8 == 0,
            Kind::ResidualNorm { hidden, .. }
            | Kind::NormRestore { hidden }
            | Kind::ResidualNormBackward { hidden, .. }
            | Kind::Pool { hidden, .. }
            | Kind::PoolBackward { hidden, .. } => hidden % 8 == 0,
            Kind::BiasGrad { width } => width % 8 == 0,
            Kind::Loss { .. } => case.weights == WeightType::F32,
            Kind::WeightGrad { inputs, outputs } => inputs % 8 == 0 && outputs % 8 == 0,
            Kind::GainGrad { width } => width % 8 == 0,
            Kind::EmbedBackward { hidden, .. } => hidden % 8 == 0,
        })
        .collect();
    cases.extend(edges());
    cases
}

fn edges() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |lens: &[usize], p: f32, kind: Kind| {
        cases.push(Case {
            lens: lens.to_vec(),
            weights: WeightType::F16,
            p,
            kind,
        });
    };
    // Row counts around the edges of both tile sizes; widths around those of the operand tiles.
    for rows in [1, 63, 64, 65, 127, 128, 129] {
        for (inputs, outputs) in [(8, 24), (24, 8), (40, 136), (136, 72)] {
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
            for mode in [
                Mode::Overwrite,
                Mode::Accumulate,
                Mode::Multiply(DerivativeType::Full),
                Mode::InPlace,
            ] {
                add(
                    &[rows],
                    0.0,
                    Kind::LinearBackward {
                        inputs,
                        outputs,
                        rows: Rows::Tokens,
                        mode,
                        dbias: true,
                    },
                );
            }
        }
    }
    for kind in [Activation::GeluErf, Activation::GeluTanh, Activation::Relu] {
        for keep in [Keep::Nothing, Keep::Alone, FULL] {
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
    // Every padded head, sequences around the attention tile.
    for p in [0.0, 0.1] {
        for dim in [8, 24, 40, 48, 80, 96, 128] {
            let heads = 2;
            for lens in [&[64, 1, 65][..], &[33, 128, 2]] {
                add(
                    lens,
                    p,
                    Kind::Attention {
                        heads,
                        dim,
                        lse: true,
                    },
                );
                add(
                    lens,
                    p,
                    Kind::AttentionBackward {
                        heads,
                        dim,
                        dbias: true,
                    },
                );
            }
        }
        for hidden in [8, 312, 1024] {
            add(
                &[5, 29],
                p,
                Kind::ResidualNorm {
                    hidden,
                    saved: true,
                },
            );
            add(
                &[5, 29],
                p,
                Kind::ResidualNormBackward {
                    hidden,
                    sums: true,
                    branch: p > 0.0,
                },
            );
            add(
                &[5, 29],
                p,
                Kind::Embed {
                    hidden,
                    vocab: 17,
                    types: 2,
                },
            );
        }
    }
    for kind in [
        bitfit::backend::PoolKind::Cls,
        bitfit::backend::PoolKind::Mean,
    ] {
        for hidden in [8, 264] {
            add(&[1, 40, 7], 0.0, Kind::Pool { hidden, kind });
            add(&[1, 40, 7], 0.0, Kind::PoolBackward { hidden, kind });
        }
    }
    cases
}

/// Largest ‖got - want‖/‖want‖ of a tensor of this case.
///
/// Operands are rounded before the oracle sees them, so a straightforward 16-bit implementation is off by the
/// rounding of its result (about 0.3 units of the last place, u = 2⁻¹¹ or 2⁻⁸) where nothing else is rounded on
/// the way, and by about as much again for the probabilities inside attention. The bounds are twice that.
fn bound(case: &Case, outcome: &Outcome, half: HalfType) -> f64 {
    let u = match half {
        HalfType::F16 => 2f64.powi(-11),
        HalfType::Bf16 => 2f64.powi(-8),
    };
    let attention = matches!(
        case.kind,
        Kind::Attention { .. } | Kind::AttentionBackward { .. }
    );
    // Column sums of a product that is stored as it is read the stored, rounded numbers.
    let of_stored = matches!(
        case.kind,
        Kind::LinearBackward {
            mode: Mode::Overwrite | Mode::Accumulate,
            ..
        }
    );
    // Under dropout the attention's output is rounded before dS = P∘(dP - rowsum(dO∘O)) needs it. With a single
    // key dS is nothing but that rounding, and its column sums are held against what they are added to.
    let dropped = attention && case.p > 0.0;
    if dropped && case.lens.iter().all(|&n| n == 1) && outcome.name == "dbias_query" {
        return 32.0 * u;
    }
    match (outcome.f32, attention) {
        // Sums of f32 numbers that were never rounded to 16 bits.
        (true, false) if !of_stored => 2e-5,
        (true, true) if outcome.name == "lse" => 2e-5,
        (true, false) => 2.0 * u,
        (false, false) => u,
        (_, true) if dropped => 3.0 * u,
        (_, true) => 2.0 * u,
    }
}

/// Runs cases and reports every tensor that is too far off, and the worst of each operation.
fn agree(half: HalfType, tile: Option<GemmTile>, cases: &[Case]) {
    let mut wrong = Vec::new();
    let mut worst = std::collections::BTreeMap::new();
    // The kernels are loaded once; each case has memory of its own.
    let opened = backend(half, tile);
    for case in cases {
        let outcomes = cases::run_stored(case, opened.another(tile), stored(half));
        for outcome in outcomes {
            let error = error(&outcome.got, &outcome.want);
            let operation = format!("{:?}", case.kind);
            let operation = operation.split([' ', '{']).next().unwrap_or_default();
            let most = worst
                .entry(format!("{operation}.{}", outcome.name))
                .or_insert(0.0);
            *most = f64::max(*most, error);
            if error.is_nan() || error >= bound(case, &outcome, half) {
                wrong.push(format!(
                    "{} is off by {error:.2e} in {case:?}",
                    outcome.name
                ));
            }
        }
    }
    println!("{half}, {} cases; largest relative errors:", cases.len());
    for (name, error) in worst {
        println!("  {name:<32} {error:.2e}");
    }
    assert!(
        wrong.is_empty(),
        "{} tensors:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn products(cases: Vec<Case>) -> Vec<Case> {
    cases
        .into_iter()
        .filter(|c| matches!(c.kind, Kind::Linear { .. } | Kind::LinearBackward { .. }))
        .collect()
}

#[test]
fn f16_agrees_with_the_oracle_in_every_case() {
    emulated(
        "cuda::f16_agrees_with_the_oracle_in_every_case",
        &[],
        || {
            agree(HalfType::F16, None, &cases_for_cuda());
        },
    );
}

#[test]
fn bf16_agrees_with_the_oracle_in_every_case() {
    emulated(
        "cuda::bf16_agrees_with_the_oracle_in_every_case",
        &[],
        || {
            agree(HalfType::Bf16, None, &cases_for_cuda());
        },
    );
}

#[test]
fn large_tiles_agree_with_the_oracle_in_every_product() {
    emulated(
        "cuda::large_tiles_agree_with_the_oracle_in_every_product",
        &[],
        || {
            let cases = products(cases_for_cuda());
            agree(HalfType::F16, Some(GemmTile::Large), &cases);
            agree(HalfType::Bf16, Some(GemmTile::Large), &cases);
        },
    );
}

#[test]
fn the_optimizer_follows_the_definition() {
    emulated("cuda::the_optimizer_follows_the_definition", &[], || {
        let opened = backend(HalfType::F16, None);
        let new = || opened.another(None);
        optimizer::ten_steps(new);
        optimizer::refuses_what_is_not_finite(new);
        optimizer::zeroing(new);
    });
}
