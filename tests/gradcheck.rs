//! The whole model's gradients against finite differences of its own loss, and gradients of a selection against those
//! of all biases.

mod fixture;

use bitfit::backend::{Backend, DropoutKey, Slot};
use bitfit::batch::Batch;
use bitfit::methods::Trains;
use bitfit::model::params::ParamKind;
use bitfit::program::{ParamRange, Saving};
use bitfit::settings::biases::{BiasSelection, Component};
use fixture::{Case, Setup, each_batch};
use std::path::Path;

/// The loss of one forward pass with `delta` added to the values of `range`.
fn loss_at(s: &mut Setup, batch: &Batch, range: ParamRange, delta: &[f64]) -> f64 {
    let before = s.backend.read_params(Slot::Value, range).unwrap();
    let moved: Vec<f32> =
        before.iter().zip(delta).map(|(&b, &d)| (f64::from(b) + d) as f32).collect();
    s.backend.write_params(Slot::Value, range, &moved).unwrap();
    s.gradients(batch);
    let loss = s.backend.step_report().unwrap().loss;
    s.backend.write_params(Slot::Value, range, &before).unwrap();
    f64::from(loss)
}

/// Along its own gradient g, each trained tensor changes the loss by ‖g‖ per unit of length. With dropout on, the masks
/// must be the same in forward and backward for this to hold.
fn agree_with_finite_differences(setup: fn(&Path, &Case, &Batch, f32) -> Setup) {
    for dropout in [0.0, 0.2] {
        each_batch(|name, case, folder, _, _, batch| {
            let mut s = setup(folder, case, batch, dropout);
            s.gradients(batch);
            let tensors: Vec<_> =
                s.model.params.trained().map(|p| (p.name.clone(), p.kind, p.range)).collect();
            let gradients: Vec<_> = tensors
                .iter()
                .map(|&(_, _, range)| s.backend.read_params(Slot::Gradient, range).unwrap())
                .collect();
            let norm = |g: &[f32]| g.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            let largest = gradients.iter().map(|g| norm(g)).fold(0.0, f64::max);
            for ((tensor, kind, range), g) in tensors.iter().zip(&gradients) {
                let length = norm(g);
                if *kind == ParamKind::Bias(Component::Key) {
                    assert_eq!(length, 0.0, "{name} {tensor}");
                    continue;
                }
                // A few values that no text or ReLU reaches, or a shift of all keys.
                if *kind == ParamKind::Entries && length == 0.0 {
                    continue;
                }
                assert!(length > 0.0, "{name} {tensor}: no gradient at all");
                let mut slope = |step: f64| {
                    let along: Vec<f64> = g.iter().map(|&x| step * f64::from(x) / length).collect();
                    let back: Vec<f64> = along.iter().map(|x| -x).collect();
                    let ahead = loss_at(&mut s, batch, *range, &along);
                    (ahead - loss_at(&mut s, batch, *range, &back)) / (2.0 * step)
                };
                // A step across a kink of ReLU has a different slope, and f32 losses leave noise of about 1e-7 / step:
                // if a long step is off, a shorter one decides.
                let bound = 1.5e-2 * length + 2e-4 * largest + 1e-4;
                let mut slopes = Vec::new();
                let agrees = [2e-3, 5e-4, 1e-4].into_iter().any(|step| {
                    let found = slope(step);
                    slopes.push(found);
                    (found - length).abs() < bound
                });
                assert!(
                    agrees,
                    "{name} {tensor} (dropout {dropout}): slopes {slopes:.6?}, gradient {length:.6}"
                );
            }
        });
    }
}

#[test]
fn every_bias_agrees_with_finite_differences() {
    agree_with_finite_differences(|folder, case, batch, dropout| {
        let head = folder.join("head.safetensors");
        Setup::with(folder, case, &head, batch, BiasSelection::all(), dropout)
    });
}

#[test]
fn every_tensor_of_full_fine_tuning_agrees_with_finite_differences() {
    agree_with_finite_differences(Setup::full);
}

#[test]
fn single_values_agree_with_finite_differences() {
    agree_with_finite_differences(|folder, case, batch, dropout| {
        let trains = Trains::Random(BiasSelection::all());
        Setup::training(folder, case, batch, trains, dropout, Saving::RECOMPUTE)
    });
}

#[test]
fn values_of_rows_and_columns_agree_with_finite_differences() {
    agree_with_finite_differences(|folder, case, batch, dropout| {
        let trains = Trains::Rows(BiasSelection::all());
        Setup::training(folder, case, batch, trains, dropout, Saving::KEEP)
    });
}

/// Full fine-tuning runs the bias-only backward with additions: whatever both train has the same bits.
#[test]
fn bias_gradients_are_the_same_where_everything_trains() {
    each_batch(|name, case, folder, _, _, batch| {
        let head = folder.join("head.safetensors");
        let biases = Setup::with(folder, case, &head, batch, BiasSelection::all(), 0.2);
        // Full fine-tuning takes gradients over all tokens.
        let mut biases = biases.of_every_token();
        let mut full = Setup::full(folder, case, batch, 0.2);
        biases.gradients(batch);
        full.gradients(batch);
        for param in biases.model.params.trained() {
            let read = |s: &Setup, range| s.backend.read_params(Slot::Gradient, range).unwrap();
            let ours = read(&full, full.model.params.range(&param.name));
            assert_eq!(ours, read(&biases, param.range), "{name} {}", param.name);
        }
        assert!(full.program.bytes() > biases.program.bytes());
    });
}

/// Nothing below the lowest trained bias is kept or run; what trains still has the same bits.
#[test]
fn a_selection_has_the_same_gradients_as_all_biases_and_keeps_less() {
    each_batch(|name, case, folder, _, _, batch| {
        let head = folder.join("head.safetensors");
        for dropout in [0.0, 0.2] {
            let setup = |biases: &str| {
                let biases = if biases.is_empty() {
                    BiasSelection::none()
                } else {
                    BiasSelection::parse(biases).unwrap()
                };
                let mut s = Setup::with(folder, case, &head, batch, biases, dropout);
                s.gradients(batch);
                s
            };
            let all = setup("all");
            // From the least to the most work for backward.
            let mut bytes = 0;
            for biases in [
                "",
                "output-layernorm@1..",
                "output@1..",
                "intermediate@1..",
                "attention-layernorm@1..",
                "attention-output@1..",
                "query@1..,key",
                "value",
                "embeddings-layernorm,key",
            ] {
                let part = setup(biases);
                for param in part.model.params.trained() {
                    let ours = part.backend.read_params(Slot::Gradient, param.range).unwrap();
                    let range = all.model.params.range(&param.name);
                    let theirs = all.backend.read_params(Slot::Gradient, range).unwrap();
                    assert_eq!(ours, theirs, "{name} --biases {biases:?}: {}", param.name);
                }
                let size = part.program.bytes();
                assert!(size >= bytes, "{name} --biases {biases:?}: {size} after {bytes}");
                assert!(size <= all.program.bytes());
                bytes = size;
            }
            assert!(setup("").program.bytes() < all.program.bytes());
        }
    });
}

#[test]
fn dropout_masks_change_with_the_step_and_the_seed_alone() {
    each_batch(|name, case, folder, _, _, batch| {
        let head = folder.join("head.safetensors");
        let mut s = Setup::with(folder, case, &head, batch, BiasSelection::all(), 0.3);
        let mut logits = |seed, step| {
            s.part(batch, DropoutKey::new(seed, step), None);
            s.logits(batch.sequences())
        };
        let first = logits(1, 1);
        assert_eq!(first, logits(1, 1), "{name}");
        assert_ne!(first, logits(1, 2), "{name}");
        assert_ne!(first, logits(2, 1), "{name}");
    });
}
