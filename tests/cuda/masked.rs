//! The checkpoint's own masked-word head: compared with PyTorch, without a hidden word, and with too many.

use super::*;
use crate::fixture::{Case, Fixture, MASKED, relative, task, with_masked_head};
use bitfit::program::{Storage, What};

/// Forward, loss and gradients of a fixture's batch; `of` says how far off each is.
fn beside_pytorch(half: HalfType, case: &Case, file: &str, check: impl Fn(&str, f64)) {
    let folder = with_masked_head(case.folder);
    let fixture = Fixture::read(&folder.path().join(file));
    let batch = fixture.batch_of_tokens();
    let config = ModelConfig::read(folder.path()).unwrap();
    let mut backend = cuda_with(half, WeightType::F16);
    let spec = task(case, Trains::all_biases(), 0.0);
    let model = load(folder.path(), &config, &spec, &mut backend).unwrap();
    let element = backend.kind().element_bytes();
    let program = model.program(batch.limits(), element, Some(Saving::KEEP));
    model.allocate(&mut backend, &[&program], 1).unwrap();
    backend.set_batch(&batch, DropoutKey::default()).unwrap();
    let labelled = batch.labels.labelled().count();
    let numbers = Numbers { weight: 1.0 / labelled as f32, update: None };
    backend.run(&program, Span::micro_batch(true, false), numbers).unwrap();

    let logits = program.output(What::Logits).unwrap();
    let count = labelled * logits.info.width;
    let read = backend.read(logits.region, Storage::F32, count).unwrap();
    check("logits", relative(&read, fixture.get("logits")));
    let loss = backend.step_report().unwrap().loss;
    check("loss", relative(&[loss], fixture.get("loss")));
    // Together, relative to the longest of them: some are almost nothing.
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for param in model.params.trained() {
        let expected = fixture.get(&format!("grad.{}", param.name));
        let read = backend.read_params(Slot::Gradient, param.range).unwrap();
        if case.folder == RELU && !ABOVE_RELU.contains(&param.name.as_str()) {
            continue;
        }
        ours.extend(read);
        theirs.extend(expected);
    }
    check("gradient", relative(&ours, &theirs));
}

/// With ReLU, a sum that is rounded across 0 turns a whole slope on or off: there only the gradients above it are
/// compared. The operation suite covers those below.
const RELU: &str = "bert-mlm";
const ABOVE_RELU: [&str; 2] = ["cls.predictions.bias", "cls.predictions.transform.LayerNorm.bias"];

#[test]
fn a_head_on_masked_words_matches_pytorch() {
    emulated("masked::a_head_on_masked_words_matches_pytorch", &[], || {
        for (half, bound) in [(HalfType::F16, 4e-3), (HalfType::Bf16, 5e-2)] {
            for case in &MASKED {
                for i in 0..2 {
                    let file = format!("{}_{i}.safetensors", case.files);
                    beside_pytorch(half, case, &file, |what, off| {
                        let at = format!("{}/{file} in {half}, {what}", case.folder);
                        println!("{at}: {off:.1e}");
                        assert!(off < bound, "{at}: relative error {off:.2e}");
                    });
                }
            }
        }
    });
}

/// A batch of texts without a mask, as `predict` has, or with only special tokens.
#[test]
fn a_batch_without_a_labelled_token_adds_nothing() {
    emulated("masked::a_batch_without_a_labelled_token_adds_nothing", &[], || {
        let (model, kind, pooling, outputs) = WORDS;
        let mut run = Run::new(model, kind, pooling, outputs, cuda(HalfType::Bf16));
        let mut none = run.batch(0);
        none.labels = Labels::Tokens(vec![Labels::IGNORED; none.tokens()]);
        let numbers = Numbers { weight: 1.0, update: None };
        let mut gradient = |batches: &[&Batch]| {
            for (i, batch) in batches.iter().enumerate() {
                run.backend.set_batch(batch, DropoutKey::new(5, i as u64)).unwrap();
                run.backend.run(&run.program, Span::micro_batch(i == 0, false), numbers).unwrap();
            }
            let loss = run.backend.step_report().unwrap().loss;
            let range = run.model.params.trained_range();
            (loss, run.backend.read_params(Slot::Gradient, range).unwrap())
        };
        let (loss, nothing) = gradient(&[&none]);
        assert!(loss == 0.0 && nothing.iter().all(|&x| x == 0.0));
        let some = Batch { labels: words(&none), ..none.clone() };
        let (loss, alone) = gradient(&[&some]);
        assert!(loss > 0.0 && alone.iter().any(|&x| x != 0.0));
        let (together, both) = gradient(&[&some, &none]);
        assert_eq!((loss, bits(&alone)), (together, bits(&both)));
    });
}

#[test]
fn more_labelled_tokens_than_there_is_room_for_are_refused_recorded_or_not() {
    let name = "masked::more_labelled_tokens_than_there_is_room_for_are_refused_recorded_or_not";
    emulated(name, &[], || {
        let (model, kind, pooling, outputs) = WORDS;
        let mut run = Run::new(model, kind, pooling, outputs, cuda(HalfType::Bf16));
        // In a smaller size class than the planned memory.
        let good = (0..8).map(|i| run.batch(i)).find(|b| (29..=64).contains(&b.tokens())).unwrap();
        let part = Span::micro_batch(true, false);
        let numbers = Numbers { weight: 1.0, update: None };
        let labelled = |count: usize| {
            let label = |token| if token < count { 7 } else { Labels::IGNORED };
            let labels = Labels::Tokens((0..good.tokens()).map(label).collect());
            Batch { labels, ..good.clone() }
        };
        for _ in 0..2 {
            run.backend.set_batch(&good, DropoutKey::default()).unwrap();
            run.backend.run(&run.program, part, numbers).unwrap();
        }
        let room = LIMITS.rows(bitfit::program::Rows::Labelled(Portion { thousandths: 200 }));
        run.backend.set_batch(&labelled(room), DropoutKey::default()).unwrap();
        let said = format!("{:#}", run.backend.run(&run.program, part, numbers).unwrap_err());
        assert!(said.contains("with room for 21"), "{said}");
        let beyond = run.backend.set_batch(&labelled(room + 1), DropoutKey::default());
        let said = format!("{:#}", beyond.unwrap_err());
        assert!(said.contains(&format!("exceeds the {room} allocated")), "{said}");
    });
}
