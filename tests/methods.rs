//! Each method that freezes matrices and trains something other than biases, against PyTorch on the parity fixtures.

mod fixture;

use bitfit::backend::{Backend, Slot};
use bitfit::batch::Batch;
use bitfit::methods::Trains;
use bitfit::model::params::ParamKind;
use bitfit::program::{AdamW, Saving};
use bitfit::settings::biases::{BiasSelection, Component};
use bitfit::settings::lora::Lora;
use fixture::{CASES, Case, Fixture, Setup, close, each_batch};
use safetensors::SafeTensors;
use std::fs;
use std::path::Path;

/// A gradient does not depend on what else trains: every seventh element of each is in the full fine-tuning fixtures.
#[test]
fn every_gradient_of_layer_norms_matches_pytorch() {
    each_batch(|name, case, folder, i, _, batch| {
        let fixture = Fixture::read(&folder.join(format!("full_{i}.safetensors")));
        let mut s = Setup::training(folder, case, batch, Trains::LayerNorms, 0.0, Saving::KEEP);
        s.gradients(batch);
        let mut kinds = (0, 0);
        for param in s.model.params.trained() {
            match param.kind {
                ParamKind::Gain => kinds.0 += 1,
                ParamKind::Bias(_) => kinds.1 += 1,
                _ => {}
            }
            let ours = s.backend.read_params(Slot::Gradient, param.range).unwrap();
            let ours: Vec<f32> = ours.into_iter().step_by(7).collect();
            let expected = fixture.get(&format!("grad.{}", param.name));
            close(&format!("{name} {}", param.name), &ours, expected, 1e-4);
        }
        let norms = 2 * s.model.config.layers + 1;
        assert_eq!(kinds, (norms, norms), "{name}");
    });
}

/// What PyTorch, or PEFT, gives for a method on a batch: see `scripts/fixture_methods.py`.
struct Reference<'a> {
    fixture: Fixture,
    method: &'a str,
    /// Which of the two batches.
    i: usize,
}

impl Reference<'_> {
    fn get(&self, name: &str) -> &[f64] {
        self.fixture.get(&format!("{}.{name}", self.method))
    }

    /// The initial values of what trains, every gradient, and the losses and norms of twenty steps.
    fn check(&self, name: &str, batch: &Batch, new: impl Fn() -> Setup) {
        let start = || {
            let mut s = new();
            for param in s.model.params.trained() {
                let values: Vec<f32> =
                    self.get(&format!("init.{}", param.name)).iter().map(|&x| x as f32).collect();
                s.backend.write_params(Slot::Value, param.range, &values).unwrap();
            }
            s
        };
        let mut s = start();
        s.gradients(batch);
        let read = |range| s.backend.read_params(Slot::Gradient, range).unwrap();
        let whole = read(s.model.params.trained_range());
        let largest = whole.iter().fold(0f32, |top, x| top.max(x.abs()));
        let mut compared = 0;
        for param in s.model.params.trained() {
            let ours = read(param.range);
            let what = format!("{name} {} {}", self.method, param.name);
            let key = param.kind == ParamKind::Bias(Component::Key)
                || param.name.ends_with("key.bias.sparse_values");
            if key {
                // PyTorch has the rounding noise of a zero gradient.
                let top = ours.iter().fold(0f32, |top, x| top.max(x.abs()));
                assert!(top < 1e-6 * largest, "{what}: {top:e} beside {largest:e}");
            } else if param.kind == ParamKind::Entries {
                // A few values, whose sums may have cancelled, or be zero behind a ReLU.
                let theirs = self.get(&format!("grad.{}", param.name));
                assert_eq!(ours.len(), theirs.len(), "{what}");
                let pairs = ours.iter().zip(theirs).map(|(&a, b)| [f64::from(a) - b, *b]);
                let [error, norm] =
                    [0, 1].map(|i| pairs.clone().map(|pair| pair[i] * pair[i]).sum::<f64>().sqrt());
                let most = 1e-4 * norm.max(0.01 * f64::from(largest));
                assert!(error <= most, "{what}: {error:e} off {norm:e}");
            } else {
                close(&what, &ours, self.get(&format!("grad.{}", param.name)), 1e-4);
            }
            compared += 1;
        }
        let prefix = format!("{}.grad.", self.method);
        let expected = self.fixture.0.keys().filter(|key| key.starts_with(&prefix)).count();
        assert_eq!(compared, expected, "{name}: every gradient is compared");
        let mut s = start();
        let (decay, clip) = [(0.0, 0.0), (0.01, 1.0)][self.i];
        for step in 0..20 {
            let update = AdamW {
                lr: self.get("lr")[step] as f32,
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-6,
                weight_decay: decay,
                clip_norm: clip,
                step: step as u64 + 1,
            };
            s.step(batch, update);
            let report = s.backend.step_report().unwrap();
            let at = format!("{name} {} step {step}", self.method);
            close(&format!("{at} loss"), &[report.loss], &self.get("losses")[step..=step], 1e-5);
            let norms = &self.get("grad_norms")[step..=step];
            close(&format!("{at} norm"), &[report.grad_norm], norms, 1e-4);
        }
    }
}

/// Runs a test on both batches of each fixture, with PyTorch's results for a method.
fn each_reference(method: &str, test: impl Fn(&str, &Case, &Path, &Reference<'_>, &Batch)) {
    for case in &CASES {
        let folder = fixture::fixtures().join(case.folder);
        for i in 0..2 {
            let batch = Fixture::read(&folder.join(format!("batch_{i}.safetensors")));
            let batch = batch.batch(case.task);
            let fixture = Fixture::read(&folder.join(format!("methods_{i}.safetensors")));
            let reference = Reference { fixture, method, i };
            test(&format!("{}/{i}", case.folder), case, &folder, &reference, &batch);
        }
    }
}

#[test]
fn twenty_steps_of_layer_norms_match_pytorch() {
    each_reference("layernorm", |name, case, folder, reference, batch| {
        reference.check(name, batch, || {
            Setup::training(folder, case, batch, Trains::LayerNorms, 0.0, Saving::KEEP)
        });
    });
}

/// Every linear layer of the blocks without its bias.
fn without_biases(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.starts_with("model") || !name.ends_with(".safetensors") {
            fs::copy(&path, to.join(name)).unwrap();
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let stays = |name: &str| {
            let linear = name.contains("encoder.layer.") && !name.contains("LayerNorm");
            !linear || !name.ends_with(".bias")
        };
        let tensors = file.tensors().into_iter().filter(|(name, _)| stays(name));
        fs::write(to.join(name), safetensors::serialize(tensors, None).unwrap()).unwrap();
    }
}

/// PEFT adds a bias to a linear layer by its class for BEFT.
#[test]
fn twenty_steps_of_added_biases_match_peft() {
    each_reference("added-biases", |name, case, folder, reference, batch| {
        let model = tempfile::tempdir().unwrap();
        without_biases(folder, model.path());
        let trains = || Trains::Added(BiasSelection::all());
        reference.check(name, batch, || {
            Setup::training(model.path(), case, batch, trains(), 0.0, Saving::KEEP)
        });
    });
}

#[test]
fn twenty_steps_of_ia3_match_peft() {
    each_reference("ia3", |name, case, folder, reference, batch| {
        reference.check(name, batch, || {
            Setup::training(folder, case, batch, Trains::Factors, 0.0, Saving::KEEP)
        });
    });
}

/// Random single values: which they are, then their gradients and twenty steps.
fn twenty_steps_of_entries(method: &str, trains: impl Fn() -> Trains) {
    each_reference(method, |name, case, folder, reference, batch| {
        let set_up = || Setup::training(folder, case, batch, trains(), 0.0, Saving::KEEP);
        let model = set_up().model;
        for (tensor, places) in &model.chosen {
            let expected = reference.get(&format!("places.{tensor}"));
            let ours: Vec<f64> = places.iter().map(|&place| f64::from(place)).collect();
            assert_eq!(ours, expected, "{name} {method} {tensor}");
        }
        let prefix = format!("{method}.places.");
        let drawn = reference.fixture.0.keys().filter(|key| key.starts_with(&prefix)).count();
        assert_eq!(model.chosen.len(), drawn, "{name} {method}");
        reference.check(name, batch, set_up);
    });
}

#[test]
fn twenty_steps_of_random_values_match_pytorch() {
    twenty_steps_of_entries("random", || Trains::Random(BiasSelection::all()));
}

#[test]
fn twenty_steps_of_rows_and_columns_match_pytorch() {
    twenty_steps_of_entries("rows", || Trains::Rows(BiasSelection::all()));
}

#[test]
fn twenty_steps_of_lora_match_peft() {
    each_reference("lora", |name, case, folder, reference, batch| {
        let on = || "query,key,value,attention-output,output".parse().unwrap();
        let trains = || Trains::LowRank(Lora { rank: 8, alpha: 16.0, dropout: 0.0, on: on() });
        reference.check(name, batch, || {
            Setup::training(folder, case, batch, trains(), 0.0, Saving::KEEP)
        });
    });
}
