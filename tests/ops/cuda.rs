//! The table on the CUDA backend, executed by the emulator with all its checks: bounds, initialisation, races,
//! barriers, asynchronous copies.
//!
//! With `BITFIT_TEST_CUDA=1` the same tests run on the machine's own driver.

use crate::cases::{self, Case, Kind};
use crate::cuda_cases::{
    cases_for_cuda, cases_of_few_bits, oddest, oddest_products, products, products_of,
};
use crate::emulated::{emulated, emulated_alone};
use crate::rig::Rounding;
use crate::{bound, error, optimizer};
use bitfit::backend::WeightType;
use bitfit::backend::cuda::tiles::GemmTile;
use bitfit::backend::cuda::{CudaBackend, CudaOptions, HalfType, LossScale};

pub fn backend(half: HalfType, weights: WeightType, tile: Option<GemmTile>) -> CudaBackend {
    CudaBackend::new(CudaOptions {
        weights,
        loss_scale: LossScale::Fixed(1.0),
        tile,
        ..CudaOptions::new(0, half)
    })
    .unwrap_or_else(|e| panic!("{e:#}"))
}

pub fn stored(half: HalfType) -> fn(f32) -> f32 {
    match half {
        HalfType::F16 => |v| half::f16::from_f32(v).to_f32(),
        HalfType::Bf16 => |v| half::bf16::from_f32(v).to_f32(),
    }
}

/// Runs cases whose matrices are stored as `weights`, and reports every tensor that is too far off, and the worst of
/// each operation.
pub fn agree(half: HalfType, weights: WeightType, tile: Option<GemmTile>, cases: &[Case]) {
    let mut wrong = Vec::new();
    let mut worst = std::collections::BTreeMap::new();
    // The kernels are loaded once; each case has its own memory.
    let opened = backend(half, weights, tile);
    for case in cases {
        let (matrix, activation) = (stored(half), stored(half));
        let rounding = Rounding { matrix, activation };
        let outcomes = cases::run_rounding(case, opened.another(tile), rounding);
        for outcome in outcomes {
            let error = error(&outcome.got, &outcome.want);
            let operation = format!("{:?}", case.kind);
            let operation = operation.split([' ', '{']).next().unwrap_or_default();
            let bound = bound(&outcome);
            let (most, share) =
                worst.entry(format!("{operation}.{}", outcome.name)).or_insert((0.0, 0.0));
            *most = f64::max(*most, error);
            *share = f64::max(*share, error / bound);
            if error.is_nan() || error >= bound {
                wrong.push(format!(
                    "{} is off by {error:.2e}, bound {bound:.2e}, in {case:?}",
                    outcome.name
                ));
            }
        }
    }
    println!(
        "{half}, {weights:?}, {} cases; largest relative errors, and largest share of the bound:",
        cases.len()
    );
    for (name, (error, share)) in worst {
        println!("  {name:<32} {error:.2e} {share:.2}");
    }
    assert!(wrong.is_empty(), "{} tensors:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn f16_agrees_with_the_oracle_in_every_case() {
    emulated("cuda::f16_agrees_with_the_oracle_in_every_case", &[], || {
        agree(HalfType::F16, WeightType::F16, None, &cases_for_cuda());
    });
}

#[test]
fn bf16_agrees_with_the_oracle_in_every_case() {
    emulated("cuda::bf16_agrees_with_the_oracle_in_every_case", &[], || {
        agree(HalfType::Bf16, WeightType::F16, None, &cases_for_cuda());
    });
}

#[test]
fn larger_tiles_agree_with_the_oracle_in_every_product() {
    emulated("cuda::larger_tiles_agree_with_the_oracle_in_every_product", &[], || {
        let cases = products(cases_for_cuda());
        for tile in [GemmTile::Large, GemmTile::Medium] {
            for half in [HalfType::F16, HalfType::Bf16] {
                agree(half, WeightType::F16, Some(tile), &cases);
            }
        }
    });
}

/// Which tile is fastest differs from device to device. Only column sums depend on it: a block sums its own rows first.
#[test]
fn a_product_has_the_same_bits_in_every_tile() {
    emulated("cuda::a_product_has_the_same_bits_in_every_tile", &[], || {
        for weights in [WeightType::F16, WeightType::Int8, WeightType::Nf4] {
            let mut cases = Vec::new();
            products_of(131, 136, 200, &mut |rows, kind| {
                cases.push(Case { lens: vec![rows], weights, p: 0.0, kind });
            });
            let opened = backend(HalfType::Bf16, weights, None);
            let stored = stored(HalfType::Bf16);
            let rounding = Rounding { matrix: stored, activation: stored };
            for case in cases {
                let [first, others @ ..] = GemmTile::PORTABLE
                    .map(|tile| cases::run_rounding(&case, opened.another(Some(tile)), rounding));
                for (a, b) in others.iter().flat_map(|other| first.iter().zip(other)) {
                    let bits = |values: &[f32]| -> Vec<u32> {
                        values.iter().map(|value| value.to_bits()).collect()
                    };
                    let summed = a.name == "dbias";
                    assert!(summed || bits(&a.got) == bits(&b.got), "{} of {case:?}", a.name);
                }
            }
        }
    });
}

/// Hardware does not round each sum.
#[test]
fn tensor_cores_that_truncate_stay_within_the_bounds() {
    let name = "cuda::tensor_cores_that_truncate_stay_within_the_bounds";
    emulated_alone(name, &[("CUDA_EMULATOR_TENSOR_SUMS", "truncated")], || {
        let mut cases = cases_for_cuda();
        cases.retain(|case| {
            let kind = &case.kind;
            matches!(kind, Kind::Attention { .. } | Kind::AttentionBackward { .. })
        });
        cases.extend(products(cases_for_cuda()));
        for (at, half) in [HalfType::F16, HalfType::Bf16].into_iter().enumerate() {
            let cases: Vec<_> = cases.iter().skip(at).step_by(7).cloned().collect();
            agree(half, WeightType::F16, None, &cases);
        }
    });
}

fn few_bits_agree(weights: WeightType) {
    let cases = cases_of_few_bits(weights);
    for half in [HalfType::F16, HalfType::Bf16] {
        agree(half, weights, Some(GemmTile::Small), &cases);
        for tile in [GemmTile::Large, GemmTile::Medium] {
            agree(half, weights, Some(tile), &products(cases.clone()));
        }
    }
}

#[test]
fn matrices_in_8_bits_agree_with_the_oracle_in_every_case() {
    emulated("cuda::matrices_in_8_bits_agree_with_the_oracle_in_every_case", &[], || {
        few_bits_agree(WeightType::Int8)
    });
}

#[test]
fn matrices_in_4_bits_agree_with_the_oracle_in_every_case() {
    emulated("cuda::matrices_in_4_bits_agree_with_the_oracle_in_every_case", &[], || {
        few_bits_agree(WeightType::Nf4)
    });
}

/// The emulator's seed decides which warp goes next; its checks of races and barriers examine each order. Half types and tiles
/// take turns.
#[test]
fn twenty_orders_of_the_warps_agree_with_the_oracle() {
    let name = "cuda::twenty_orders_of_the_warps_agree_with_the_oracle";
    for seed in 1..=20 {
        let half = if seed % 2 == 0 { HalfType::F16 } else { HalfType::Bf16 };
        let tile = if seed % 4 < 2 { "small" } else { "large" };
        let (seed, half) = (seed.to_string(), half.to_string());
        let environment = [("CUDA_EMULATOR_SEED", seed.as_str()), (HALF, &half), (TILE, tile)];
        let ran = emulated_alone(name, &environment, || {
            let is = |name: &str, value: &str| std::env::var(name).as_deref() == Ok(value);
            let half = if is(HALF, "f16") { HalfType::F16 } else { HalfType::Bf16 };
            let tile = if is(TILE, "small") { GemmTile::Small } else { GemmTile::Large };
            agree(half, WeightType::F16, Some(tile), &oddest());
            for weights in [WeightType::Int8, WeightType::Nf4] {
                agree(half, weights, Some(tile), &oddest_products(weights));
            }
            agree(half, WeightType::F16, Some(GemmTile::Medium), &products(oddest()));
            let opened = backend(half, WeightType::F16, None);
            optimizer::zeroing(|| opened.another(None));
        });
        if ran.is_none() {
            // In the child, which has one order; or there are no kernels.
            return;
        }
    }
}

/// Tell a child of the test above which half type and tile it has.
const HALF: &str = "BITFIT_TEST_HALF";
const TILE: &str = "BITFIT_TEST_TILE";

#[test]
fn the_optimizer_follows_the_definition() {
    emulated("cuda::the_optimizer_follows_the_definition", &[], || {
        let opened = backend(HalfType::F16, WeightType::F16, None);
        let new = || opened.another(None);
        optimizer::ten_steps(new);
        optimizer::refuses_what_is_not_finite(new);
        optimizer::zeroing(new);
    });
}
