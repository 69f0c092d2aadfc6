//! The model against PyTorch and `transformers`, tensor by tensor, on the fixtures of `scripts/make_fixtures.py`:
//! hidden states, logits, loss, every bias gradient, ten optimizer steps.

mod fixture;

use bitfit::backend::{Backend, DropoutKey, Slot, WeightType};
use bitfit::batch::Batch;
use bitfit::model::params::{Param, ParamKind};
use bitfit::program::{AdamW, LossKind, Numbers, ParamRange, PoolKind, Saving, Span};
use bitfit::settings::biases::Component;
use fixture::{
    Case, Fixture, MASKED, SPANS, Setup, VALUES, close, each_batch, each_batch_of,
    each_batch_of_tokens, fixtures, head_in, with_masked_head,
};
use std::path::{Path, PathBuf};

/// Whether a softmax ignores it as a shift of everything compared: the key's bias, and under a head on spans the bias
/// of the head and of the LayerNorm before it. The gradient is zero except for rounding, and PyTorch takes steps from
/// it.
fn no_gradient(s: &Setup, param: &Param) -> bool {
    match param.kind {
        ParamKind::Bias(Component::Key) => true,
        ParamKind::Bias(Component::OutputLayerNorm) => {
            s.model.head.loss == LossKind::Span && param.layer == Some(s.model.config.layers - 1)
        }
        _ => param.name == "qa_outputs.bias",
    }
}

/// Checks every trainable's gradient against the fixture's; zero gradients against the largest of all.
fn check_gradients(s: &Setup, name: &str, fixture: &Fixture) {
    let gradient = |range: ParamRange| s.backend.read_params(Slot::Gradient, range).unwrap();
    let largest =
        gradient(s.model.params.trained_range()).iter().fold(0f32, |a, &b| a.max(b.abs()));
    let mut compared = 0;
    for param in s.model.params.trained() {
        let ours = gradient(param.range);
        let what = format!("{name} grad.{}", param.name);
        if no_gradient(s, param) {
            let top = ours.iter().fold(0f32, |a, &b| a.max(b.abs()));
            assert!(top < 1e-6 * largest, "{what}: {top:e} beside {largest:e}");
        } else {
            close(&what, &ours, fixture.get(&format!("grad.{}", param.name)), 1e-4);
        }
        compared += 1;
    }
    let expected = fixture.0.keys().filter(|k| k.starts_with("grad.")).count();
    assert_eq!(compared, expected, "{name}: every gradient of the fixture is compared");
}

/// Hidden states, logits and loss of a batch that ran, `rows` being the rows with logits.
fn check_forward(s: &mut Setup, name: &str, fixture: &Fixture, batch: &Batch, rows: usize) {
    let states = s.hidden_states(batch.tokens());
    assert_eq!(states.len(), s.model.config.layers + 1);
    for (layer, states) in states.iter().enumerate() {
        let what = format!("hidden.{layer}");
        close(&format!("{name} {what}"), states, fixture.get(&what), 1e-5);
    }
    let logits = s.logits(rows);
    close(&format!("{name} logits"), &logits, fixture.get("logits"), 1e-5);
    let loss = s.backend.step_report().unwrap().loss;
    close(&format!("{name} loss"), &[loss], fixture.get("loss"), 1e-5);
}

#[test]
fn hidden_states_logits_and_loss_match_pytorch() {
    each_batch(|name, case, folder, _, fixture, batch| {
        let s = Setup::new(folder, case, &folder.join("head.safetensors"), batch);
        let mut s = s.of_every_token();
        s.gradients(batch);
        check_forward(&mut s, name, fixture, batch, batch.sequences());
    });
}

/// The checkpoint's own masked-word head, whose matrix is the embedding table.
#[test]
fn a_head_on_masked_words_matches_pytorch() {
    for case in &MASKED {
        let folder = with_masked_head(case.folder);
        for i in 0..2 {
            let file = format!("{}_{i}.safetensors", case.files);
            let fixture = Fixture::read(&folder.path().join(&file));
            let name = &format!("{}/{file}", case.folder);
            let batch = &fixture.batch_of_tokens();
            let labelled = batch.labels.weight(&[]) as usize;
            let new =
                || Setup::of_checkpoint(folder.path(), case, batch, WeightType::F32, Saving::KEEP);
            let mut s = new().of_every_token();
            s.gradients(batch);
            check_forward(&mut s, name, &fixture, batch, labelled);
            check_gradients(&s, name, &fixture);
            let mut s = new();
            ten_steps(&mut s, name, batch, i, &fixture);
            check_after_ten(&s, name, &fixture);
        }
    }
}

/// What the head keeps does not depend on the blocks, whatever the word table's storage type.
#[test]
fn gradients_of_masked_words_are_the_same_in_every_exact_way_of_saving() {
    let case = &MASKED[0];
    let folder = with_masked_head(case.folder);
    let fixture = Fixture::read(&folder.path().join("masked_1.safetensors"));
    let batch = &fixture.batch_of_tokens();
    for weights in [WeightType::F32, WeightType::F16, WeightType::Int8, WeightType::Nf4] {
        let gradient = |saving| {
            let mut s = Setup::of_checkpoint(folder.path(), case, batch, weights, saving);
            s.gradients(batch);
            let bits = s.backend.read_params(Slot::Gradient, s.model.params.trained_range());
            bits.unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let keep = gradient(Saving::KEEP);
        for saving in Saving::EXACT {
            assert_eq!(gradient(saving), keep, "{weights:?}, {saving}");
        }
    }
}

/// A head on spans: where an answer starts and ends among the tokens of a text.
#[test]
fn a_head_on_spans_matches_pytorch() {
    each_batch_of(&SPANS, |name, case, folder, i, fixture, batch| {
        let new = || Setup::new(folder, case, &folder.join("spans_head.safetensors"), batch);
        let mut s = new().of_every_token();
        s.gradients(batch);
        check_forward(&mut s, name, fixture, batch, batch.tokens());
        check_gradients(&s, name, fixture);
        let mut s = new();
        ten_steps(&mut s, name, batch, i, fixture);
        check_after_ten(&s, name, fixture);
    });
}

/// `problem_type` `multi_label_classification`, and `regression` with several outputs.
#[test]
fn several_labels_and_several_numbers_match_pytorch() {
    each_batch_of(&VALUES, |name, case, folder, i, fixture, batch| {
        let new = || Setup::new(folder, case, &folder.join("head.safetensors"), batch);
        let mut s = new();
        s.gradients(batch);
        let logits = s.logits(batch.sequences());
        close(&format!("{name} logits"), &logits, fixture.get("logits"), 1e-5);
        let loss = s.backend.step_report().unwrap().loss;
        close(&format!("{name} loss"), &[loss], fixture.get("loss"), 1e-5);
        check_gradients(&s, name, fixture);
        let mut s = new();
        ten_steps(&mut s, name, batch, i, fixture);
        check_after_ten(&s, name, fixture);
    });
}

#[test]
fn every_bias_gradient_matches_pytorch() {
    each_batch(|name, case, folder, _, fixture, batch| {
        let mut s = Setup::new(folder, case, &folder.join("head.safetensors"), batch);
        s.gradients(batch);
        check_gradients(&s, name, fixture);
    });
}

/// A head on the first tokens only needs their rows of the last block and what its attention reads: less work and
/// memory, the same numbers.
#[test]
fn the_first_tokens_alone_give_what_all_tokens_give() {
    each_batch(|name, case, folder, _, _, batch| {
        if case.pooling != PoolKind::Cls {
            return;
        }
        let new = || Setup::new(folder, case, &folder.join("head.safetensors"), batch);
        let [mut first, mut all] = [new(), new().of_every_token()];
        let f64s = |v: Vec<f32>| v.into_iter().map(f64::from).collect::<Vec<_>>();
        let numbers = |s: &mut Setup| {
            s.gradients(batch);
            let whole = s.model.params.trained_range();
            let gradient = s.backend.read_params(Slot::Gradient, whole);
            (s.logits(batch.sequences()), gradient.unwrap())
        };
        let (logits, gradient) = numbers(&mut first);
        let (all_logits, all_gradient) = numbers(&mut all);
        close(&format!("{name} logits"), &logits, &f64s(all_logits), 1e-6);
        close(&format!("{name} gradient"), &gradient, &f64s(all_gradient), 1e-5);
        let [first, all] = [first, all].map(|s| s.program.bytes());
        assert!(first < all, "{name}: {first} and {all} bytes");
    });
}

/// Ten AdamW steps on batch `i`; each loss and gradient norm must be PyTorch's.
fn ten_steps(s: &mut Setup, name: &str, batch: &Batch, i: usize, fixture: &Fixture) {
    let (decay, clip) = [(0.0, 0.0), (0.01, 1.0)][i];
    for step in 0..10 {
        let update = AdamW {
            lr: fixture.get("train.lr")[step] as f32,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-6,
            weight_decay: decay,
            clip_norm: clip,
            step: step as u64 + 1,
        };
        s.step(batch, update);
        let report = s.backend.step_report().unwrap();
        let at = format!("{name} step {step}");
        let losses = &fixture.get("train.losses")[step..=step];
        close(&format!("{at} loss"), &[report.loss], losses, 1e-4);
        let norms = &fixture.get("train.grad_norms")[step..=step];
        close(&format!("{at} norm"), &[report.grad_norm], norms, 1e-4);
    }
}

#[test]
fn ten_optimizer_steps_match_pytorch() {
    each_batch(|name, case, folder, i, fixture, batch| {
        let mut s = Setup::new(folder, case, &folder.join("head.safetensors"), batch);
        ten_steps(&mut s, name, batch, i, fixture);
        check_after_ten(&s, name, fixture);
    });
}

/// `BertForTokenClassification` and `RobertaForTokenClassification`: labels on some of the tokens, with and without
/// class weights.
#[test]
fn a_head_on_tokens_matches_pytorch_in_logits_loss_and_every_gradient() {
    each_batch_of_tokens(|name, _, fixture, batch, new| {
        let mut s = new();
        s.gradients(batch);
        let logits = s.logits(batch.tokens());
        close(&format!("{name} logits"), &logits, fixture.get("logits"), 1e-5);
        let loss = s.backend.step_report().unwrap().loss;
        close(&format!("{name} loss"), &[loss], fixture.get("loss"), 1e-5);
        check_gradients(&s, name, fixture);
    });
}

#[test]
fn ten_steps_of_a_head_on_tokens_match_pytorch() {
    each_batch_of_tokens(|name, i, fixture, batch, new| {
        let mut s = new();
        ten_steps(&mut s, name, batch, i, fixture);
        check_after_ten(&s, name, fixture);
    });
}

fn check_after_ten(s: &Setup, name: &str, fixture: &Fixture) {
    for param in s.model.params.trained() {
        let tolerance = if no_gradient(s, param) { 5e-2 } else { 1e-4 };
        let ours = s.backend.read_params(Slot::Value, param.range).unwrap();
        let expected = fixture.get(&format!("after10.{}", param.name));
        close(&format!("{name} after10.{}", param.name), &ours, expected, tolerance);
    }
}

/// Every seventh element, row-major: what the full fine-tuning fixtures hold of each tensor.
fn sampled(values: Vec<f32>) -> Vec<f32> {
    values.into_iter().step_by(7).collect()
}

/// Full fine-tuning: matrices, tables, gains, biases and head.
#[test]
fn every_gradient_of_full_fine_tuning_matches_pytorch() {
    each_batch(|name, case, folder, i, _, batch| {
        let fixture = Fixture::read(&folder.join(format!("full_{i}.safetensors")));
        let mut s = Setup::full(folder, case, batch, 0.0);
        s.gradients(batch);
        let mut compared = 0;
        for param in s.model.params.list() {
            assert!(param.trains, "{name} {}", param.name);
            compared += 1;
            let expected = fixture.get(&format!("grad.{}", param.name));
            let ours = sampled(s.backend.read_params(Slot::Gradient, param.range).unwrap());
            // PyTorch has the rounding noise of a zero gradient.
            if param.kind == ParamKind::Bias(Component::Key) {
                assert!(ours.iter().all(|&g| g == 0.0), "{name} {}", param.name);
            } else {
                close(&format!("{name} {}", param.name), &ours, expected, 1e-4);
            }
        }
        let expected = fixture.0.keys().filter(|k| k.starts_with("grad.")).count();
        assert_eq!(compared, expected, "{name}: every gradient is compared");
    });
}

#[test]
fn ten_steps_of_full_fine_tuning_match_pytorch() {
    each_batch(|name, case, folder, i, _, batch| {
        let fixture = Fixture::read(&folder.join(format!("full_{i}.safetensors")));
        let mut s = Setup::full(folder, case, batch, 0.0);
        ten_steps(&mut s, name, batch, i, &fixture);
        for param in s.model.params.list() {
            let tolerance = match param.kind {
                // Like in bias-only training.
                ParamKind::Bias(Component::Key) => 5e-2,
                _ => 1e-4,
            };
            let ours = sampled(s.backend.read_params(Slot::Value, param.range).unwrap());
            let expected = fixture.get(&format!("after10.{}", param.name));
            close(&format!("{name} {}", param.name), &ours, expected, tolerance);
        }
    });
}

/// Packing only arranges memory: a sequence's logits do not depend on what it is packed with.
#[test]
fn a_packed_batch_equals_one_sequence_at_a_time() {
    each_batch(|name, case, folder, _, _, batch| {
        let mut s = Setup::new(folder, case, &folder.join("head.safetensors"), batch);
        s.gradients(batch);
        let together = s.logits(batch.sequences());
        let whole = s.model.params.trained_range();
        let packed = s.backend.read_params(Slot::Gradient, whole).unwrap();

        let mut logits = Vec::new();
        for b in 0..batch.sequences() {
            let tokens = batch.cu_seqlens[b] as usize..batch.cu_seqlens[b + 1] as usize;
            let one = Batch {
                ids: batch.ids[tokens.clone()].to_vec(),
                type_ids: batch.type_ids[tokens.clone()].to_vec(),
                positions: batch.positions[tokens.clone()].to_vec(),
                cu_seqlens: vec![0, tokens.len() as u32],
                labels: batch.labels.select(&[b], batch.sequences(), |_| tokens.clone()),
            };
            let span = Span::micro_batch(b == 0, false);
            let numbers = Numbers { weight: 1.0 / batch.sequences() as f32, update: None };
            s.run(&one, DropoutKey::default(), span, numbers);
            logits.extend(s.logits(1));
        }
        let f64s = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        close(&format!("{name} logits"), &logits, &f64s(&together), 1e-5);
        let summed = s.backend.read_params(Slot::Gradient, whole).unwrap();
        close(&format!("{name} gradients"), &summed, &f64s(&packed), 1e-5);
    });
}

/// The identities of bias gradients (design: db_K = 0; db_V = W_Oᵀ·db_O; colsum(dY·W) = Wᵀ·colsum(dY)).
#[test]
fn the_value_gradient_follows_from_that_of_the_attention_output() {
    each_batch(|name, case, folder, _, _, batch| {
        let mut s = Setup::new(folder, case, &folder.join("head.safetensors"), batch);
        s.gradients(batch);
        let config = s.model.config.clone();
        let h = config.hidden;
        let weights =
            bitfit::formats::model_tensors::ModelTensors::open(folder, config.family.prefix())
                .unwrap();
        for layer in 0..config.layers {
            let gradient = |module: &str| {
                let name = format!("{}encoder.layer.{layer}.{module}.bias", config.family.prefix());
                s.backend.read_params(Slot::Gradient, s.model.params.range(&name)).unwrap()
            };
            let w = weights
                .get(&format!("encoder.layer.{layer}.attention.output.dense.weight"), &[h, h])
                .unwrap();
            let db_o = gradient("attention.output.dense");
            let expected: Vec<f64> = (0..h)
                .map(|j| (0..h).map(|i| f64::from(w[i * h + j]) * f64::from(db_o[i])).sum())
                .collect();
            close(
                &format!("{name} layer {layer} db_V"),
                &gradient("attention.self.value"),
                &expected,
                1e-4,
            );
            assert!(
                gradient("attention.self.key").iter().all(|&g| g == 0.0),
                "{name}: db_K is zero"
            );
        }
    });
}

/// Real MiniLM with a head and a batch, if it has been fetched (`scripts/fetch.py`) or `BITFIT_MINILM` names its
/// folder.
struct MiniLm {
    folder: PathBuf,
    fixture: Fixture,
    case: Case,
    head: tempfile::NamedTempFile,
    batch: Batch,
}

fn minilm() -> Option<MiniLm> {
    let folder = match std::env::var_os("BITFIT_MINILM") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/models/minilm"),
    };
    if !folder.join("config.json").exists() {
        eprintln!("skipped: {} is not there; scripts/fetch.py fetches it", folder.display());
        return None;
    }
    let path = fixtures().join("minilm_expected.safetensors");
    let fixture = Fixture::read(&path);
    let case = Case {
        folder: "minilm",
        files: "",
        task: LossKind::CrossEntropy,
        pooling: PoolKind::Cls,
        outputs: 2,
        class_weights: &[],
    };
    let batch = fixture.batch(case.task);

    let head = head_in(&path);
    Some(MiniLm { folder, fixture, case, head, batch })
}

#[test]
fn minilm_matches_pytorch_where_the_model_is_present() {
    let Some(MiniLm { folder, fixture, case, head, batch }) = minilm() else {
        return;
    };
    let mut s = Setup::new(&folder, &case, head.path(), &batch).of_every_token();
    s.gradients(&batch);
    let last = s.model.config.layers;
    close(
        "minilm last hidden states",
        &s.hidden_states(batch.tokens())[last],
        fixture.get(&format!("hidden.{last}")),
        1e-5,
    );
    let logits = s.logits(batch.sequences());
    close("minilm logits", &logits, fixture.get("logits"), 1e-5);
    check_gradients(&s, "minilm", &fixture);
}

/// ‖in bf16 − in f32‖ / ‖in f32‖ of all gradients together.
fn bf16_beside_f32(folder: &Path, case: &Case, head: &Path, batch: &Batch) -> f64 {
    let gradients = |mut s: Setup| {
        s.gradients(batch);
        let range = s.model.params.trained_range();
        s.backend.read_params(Slot::Gradient, range).unwrap()
    };
    let f32 = gradients(Setup::new(folder, case, head, batch));
    let f32: Vec<f64> = f32.iter().map(|&x| f64::from(x)).collect();
    fixture::relative(&gradients(Setup::in_bf16(folder, case, head, batch)), &f32)
}

#[test]
fn gradients_in_bf16_are_within_rounding_of_those_in_f32() {
    each_batch(|name, case, folder, _, _, batch| {
        let error = bf16_beside_f32(folder, case, &folder.join("head.safetensors"), batch);
        println!("{name}: {error:.2e}");
        // In such narrow random matrices, little averages out.
        assert!(error < 5e-2, "{name}: {error:.2e}");
    });
    if let Some(MiniLm { folder, case, head, batch, .. }) = minilm() {
        let error = bf16_beside_f32(&folder, &case, head.path(), &batch);
        println!("minilm: {error:.2e}");
        assert!(error < 5e-3, "minilm: {error:.2e}");
    }
}
