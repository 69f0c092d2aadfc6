//! The products that have their own kernels on compute capability 9.0, on an emulator of such a device: its checks see
//! what hardware does not report: an operand overwritten while the tensor cores read it, a missing fence or wait.

use crate::cases::{self, Case, Keep, Kind, Mode};
use crate::cuda::{agree, backend, stored};
use crate::cuda_cases::{cases_for_cuda, cases_of_few_bits, oddest, oddest_products, products};
use crate::emulated::{emulated, emulated_alone};
use crate::rig::Rounding;
use bitfit::backend::WeightType;
use bitfit::backend::cuda::launch::Products;
use bitfit::backend::cuda::ring::{LeftRows, RingSettings};
use bitfit::backend::cuda::tiles::GemmTile;
use bitfit::backend::cuda::{CudaBackend, CudaOptions, HalfType};
use bitfit::error::exit_code;
use bitfit::program::{Activation, Rows, Storage};

const DEVICE: (&str, &str) = ("CUDA_EMULATOR_CAPABILITY", "9.0");
const HALVES: [HalfType; 2] = [HalfType::F16, HalfType::Bf16];

/// Row counts around a tile's; widths around those of tiles and of the copy engine's panels, and depths of less than
/// one stage and of more stages than there are.
fn edges(weights: WeightType) -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, inputs, outputs) in [
        (1, 8, 96),
        (127, 64, 192),
        (128, 72, 256),
        (129, 56, 104),
        (300, 520, 264),
        (260, 136, 448),
        (17, 104, 520),
    ] {
        products_at(rows, inputs, outputs, &mut |kind| {
            cases.push(Case { lens: vec![rows], weights, p: 0.0, kind });
        });
    }
    cases
}

fn products_at(rows: usize, inputs: usize, outputs: usize, add: &mut impl FnMut(Kind)) {
    let of = Rows::Tokens;
    let parts = if outputs.is_multiple_of(24) { 3 } else { 1 };
    let keep = match rows % 3 {
        0 => Keep::Beside(Storage::Activation),
        1 => Keep::Beside(Storage::Slope8),
        _ => Keep::Alone(Storage::Slope4),
    };
    for act in [None, Some((Activation::GeluErf, keep))] {
        let parts = if act.is_none() { parts } else { 1 };
        add(Kind::Linear { inputs, outputs, rows: of, parts, act });
    }
    for mode in Mode::ALL {
        add(Kind::LinearBackward { inputs, outputs, rows: of, mode, dbias: true });
        // The other way round: the width becomes the depth.
        add(Kind::LinearBackward { inputs: outputs, outputs: inputs, rows: of, mode, dbias: true });
    }
}

#[test]
fn products_agree_with_the_oracle_in_every_tile() {
    emulated("hopper::products_agree_with_the_oracle_in_every_tile", &[DEVICE], || {
        let table = products(cases_for_cuda());
        if std::env::var_os(DEVICE.0).is_some() {
            let opened = backend(HalfType::F16, WeightType::F16, None);
            assert_eq!(opened.products(), Products::Hopper);
        }
        let tiles = GemmTile::RING.into_iter().flat_map(|tile| HALVES.map(|half| (tile, half)));
        for (at, (tile, half)) in tiles.enumerate() {
            agree(half, WeightType::F16, Some(tile), &some(&table, at, edges(WeightType::F16)));
        }
    });
}

/// All of `edges`, and every sixth case of a table, starting elsewhere for each tile and half type.
fn some(table: &[Case], at: usize, mut edges: Vec<Case>) -> Vec<Case> {
    edges.extend(table.iter().skip(at).step_by(6).cloned());
    edges
}

fn few_bits_agree(weights: WeightType) {
    let table = products(cases_of_few_bits(weights));
    let tiles =
        GemmTile::RING_OF_CODES.into_iter().flat_map(|tile| HALVES.map(|half| (tile, half)));
    for (at, (tile, half)) in tiles.enumerate() {
        agree(half, weights, Some(tile), &some(&table, at, edges(weights)));
    }
}

#[test]
fn products_of_matrices_in_8_bits_agree_with_the_oracle_in_every_tile() {
    let name = "hopper::products_of_matrices_in_8_bits_agree_with_the_oracle_in_every_tile";
    emulated(name, &[DEVICE], || few_bits_agree(WeightType::Int8));
}

#[test]
fn products_of_matrices_in_4_bits_agree_with_the_oracle_in_every_tile() {
    let name = "hopper::products_of_matrices_in_4_bits_agree_with_the_oracle_in_every_tile";
    emulated(name, &[DEVICE], || few_bits_agree(WeightType::Nf4));
}

/// A tile has 128 rows whatever its width, so even column sums are the same.
#[test]
fn a_product_has_the_same_bits_in_every_tile() {
    emulated("hopper::a_product_has_the_same_bits_in_every_tile", &[DEVICE], || {
        for weights in [WeightType::F16, WeightType::Int8, WeightType::Nf4] {
            let opened = backend(HalfType::Bf16, weights, None);
            for case in edges(weights) {
                let run = |tile: &GemmTile| bits_of(&case, opened.another(Some(*tile)));
                let [first, others @ ..] = tiles(weights) else { panic!("no tile") };
                let first = run(first);
                assert!(others.iter().all(|tile| run(tile) == first), "{case:?}");
            }
        }
    });
}

/// The tiles of products with matrices stored like this.
fn tiles(weights: WeightType) -> &'static [GemmTile] {
    match weights {
        WeightType::F16 => &GemmTile::RING,
        _ => &GemmTile::RING_OF_CODES,
    }
}

/// All that a case writes, in bf16.
fn bits_of(case: &Case, backend: CudaBackend) -> Vec<(&'static str, Vec<u32>)> {
    let stored = stored(HalfType::Bf16);
    let rounding = Rounding { matrix: stored, activation: stored };
    let outcomes = cases::run_rounding(case, backend, rounding);
    let bits = |of: &[f32]| of.iter().map(|v| v.to_bits()).collect();
    outcomes.iter().map(|of| (of.name, bits(&of.got))).collect()
}

/// `BITFIT_HOPPER` affects only the time of a product. Plain maps read rows beyond the batch's, which hold sentinels here.
#[test]
fn a_product_has_the_same_bits_with_any_number_of_stages_and_either_map() {
    let name = "hopper::a_product_has_the_same_bits_with_any_number_of_stages_and_either_map";
    for seed in ["1", "2"] {
        let ran = emulated(name, &[DEVICE, ("CUDA_EMULATOR_SEED", seed)], || {
            for weights in [WeightType::F16, WeightType::Int8, WeightType::Nf4] {
                let opened = backend(HalfType::Bf16, weights, None);
                let every = if weights == WeightType::F16 { 9 } else { 13 };
                for (case, &tile) in edges(weights)
                    .iter()
                    .step_by(every)
                    .flat_map(|case| tiles(weights).iter().map(move |tile| (case, tile)))
                {
                    let run = |ring| bits_of(case, opened.another(Some(tile)).with_ring(ring));
                    let usual = run(RingSettings::USUAL);
                    for stages in 2..tile.stages() {
                        // Each number of stages with one of the maps, and the most with both.
                        let left = match stages % 2 {
                            0 => LeftRows::Plain,
                            _ => LeftRows::Ragged,
                        };
                        let ring = RingSettings { stages, left, ..RingSettings::USUAL };
                        assert!(run(ring) == usual, "{ring:?}, {tile:?}, {case:?}");
                    }
                    let plain = RingSettings { left: LeftRows::Plain, ..RingSettings::USUAL };
                    assert!(run(plain) == usual, "{plain:?}, {tile:?}, {case:?}");
                }
            }
        });
        if ran.is_none() {
            // In the child, which has one order; or on a device.
            return;
        }
    }
}

#[test]
fn settings_for_measuring_that_do_not_exist_or_would_do_nothing_are_refused() {
    let name = "hopper::settings_for_measuring_that_do_not_exist_or_would_do_nothing_are_refused";
    for (told, kernels, said) in [
        ("stages=8", "", "\"stages=8\" is not a setting; there are stages=2 to stages=7"),
        ("maps=plain,maps=plain", "", "maps is set twice"),
        ("maps=plain", "portable", "only compute capability 9.0 has, and others are in use"),
    ] {
        let environment = [DEVICE, ("BITFIT_HOPPER", told), ("BITFIT_KERNELS", kernels)];
        let ran = emulated_alone(name, &environment, || {
            let opened = CudaBackend::new(CudaOptions::new(0, HalfType::Bf16));
            let refused = opened.expect_err("it was opened");
            assert_eq!(exit_code(&refused), 2);
            println!("{refused:#}");
        });
        let Some(printed) = ran else { return };
        assert!(printed.contains(&format!("BITFIT_HOPPER is {told:?}")), "{printed}");
        assert!(printed.contains(said), "{printed}");
    }
}

/// The emulator's seed decides which warp goes next, and when a copy lands.
#[test]
fn twenty_orders_of_the_warps_agree_with_the_oracle() {
    let name = "hopper::twenty_orders_of_the_warps_agree_with_the_oracle";
    for seed in 1..=20 {
        let seed = seed.to_string();
        let environment = [DEVICE, ("CUDA_EMULATOR_SEED", seed.as_str())];
        let ran = emulated_alone(name, &environment, || {
            let mut cases = products(oddest());
            cases.extend(edges(WeightType::F16).into_iter().step_by(5));
            for (at, tile) in GemmTile::RING.into_iter().enumerate() {
                let cases: Vec<_> = cases.iter().skip(at).step_by(2).cloned().collect();
                agree(HalfType::Bf16, WeightType::F16, Some(tile), &cases);
            }
            for weights in [WeightType::Int8, WeightType::Nf4] {
                let mut cases = oddest_products(weights);
                cases.extend(edges(weights).into_iter().step_by(7));
                agree(HalfType::F16, weights, Some(GemmTile::Ring192), &cases);
            }
        });
        if ran.is_none() {
            // In the child, which has one order; or there are no kernels.
            return;
        }
    }
}

/// Both families run on one device, so that a run on hardware can tell which of them is at fault.
#[test]
fn the_portable_kernels_are_there_for_who_asks() {
    let name = "hopper::the_portable_kernels_are_there_for_who_asks";
    emulated_alone(name, &[DEVICE, ("BITFIT_KERNELS", "portable")], || {
        let cases: Vec<_> = edges(WeightType::F16).into_iter().step_by(4).collect();
        let opened = backend(HalfType::Bf16, WeightType::F16, None);
        assert_eq!(opened.products(), Products::Portable);
        agree(HalfType::Bf16, WeightType::F16, Some(GemmTile::Medium), &cases);
    });
}
