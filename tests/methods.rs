//! Each method that freezes matrices, and trains something else than biases, against PyTorch on the parity fixtures.

mod fixture;

use bitfit::backend::{Backend, Slot};
use bitfit::methods::Trains;
use bitfit::model::params::ParamKind;
use bitfit::program::Saving;
use fixture::{Fixture, Setup, close, each_batch};

/// A gradient does not depend on what else trains: every seventh element of each is in the fixtures of full fine-tuning.
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
