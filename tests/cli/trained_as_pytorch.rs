//! Ten steps from the command line against ten steps in PyTorch: the same texts, head, order and settings must give the
//! same loss at every step and the same biases after the last.

use crate::common::{Folder, fixture, json, number, steps, tensors, train};
use std::fs;
use std::path::Path;

/// The rows of one fixture batch as a separate file, in the batch's order.
fn rows_of(model: &Path, batch: &serde_json::Value, folder: &Folder) -> std::path::PathBuf {
    let text = fs::read_to_string(model.join("texts.tsv")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut file = lines[0].to_owned() + "\n";
    for row in batch["rows"].as_array().unwrap() {
        file += lines[1 + row.as_u64().unwrap() as usize];
        file += "\n";
    }
    folder.write("rows.tsv", file)
}

fn check(name: &str) {
    let model = fixture(name);
    let about = json(&model.join("fixture.json"));
    for (i, batch) in about["batches"].as_array().unwrap().iter().enumerate() {
        let folder = Folder::new();
        let data = rows_of(&model, batch, &folder);
        let output = folder.path("run");
        let settings = &batch["train"];
        let options = format!(
            "--task {} --pooling {} --init-head {} --no-shuffle --max-length 60 --batch-size 6 --steps 10 \
             --weights f32 --precision f32 --lr {} --eps {} --weight-decay {} --clip-norm {} --schedule {} --warmup {}",
            about["task"].as_str().unwrap(),
            about["pooling"].as_str().unwrap(),
            model.join("head.safetensors").display(),
            settings["lr"],
            settings["eps"],
            settings["weight_decay"],
            settings["clip_norm"],
            settings["schedule"].as_str().unwrap(),
            settings["warmup_steps"],
        );
        train(&model, &data, &output, &options);

        let expected = tensors(&model.join(format!("batch_{i}.safetensors")));
        let steps = steps(&output);
        assert_eq!(steps.len(), 10);
        for (key, tensor, tolerance) in [
            ("loss", "train.losses", 1e-4),
            ("grad_norm", "train.grad_norms", 1e-3),
            ("lr", "train.lr", 1e-6),
        ] {
            for (step, &theirs) in steps.iter().zip(&expected[tensor].1) {
                let (ours, theirs) = (number(step, key), f64::from(theirs));
                assert!(
                    (ours - theirs).abs() <= tolerance * theirs.abs(),
                    "{name} batch {i}, {key} of {step}: PyTorch has {theirs}"
                );
            }
        }
        let after = tensors(&output.join("bias.safetensors"));
        let theirs = expected.keys().filter(|n| n.starts_with("after10."));
        assert_eq!(after.len(), theirs.count(), "{name}: the same tensors train");
        for (tensor, (shape, ours)) in &after {
            let (their_shape, theirs) = &expected[&format!("after10.{tensor}")];
            assert_eq!(shape, their_shape);
            let norm = |values: &mut dyn Iterator<Item = f32>| -> f64 {
                values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
            };
            let off = norm(&mut ours.iter().zip(theirs).map(|(x, y)| x - y));
            // Adam turns the rounding noise that is a key bias's gradient into steps.
            let tolerance = if tensor.contains(".key.") { 1e-2 } else { 1e-4 };
            assert!(
                off <= tolerance * norm(&mut theirs.iter().copied()),
                "{name} batch {i}: {tensor} is off by {off}"
            );
        }
    }
}

#[test]
fn bert_with_its_pooler_trains_as_in_pytorch() {
    check("bert");
}

#[test]
fn a_sentence_encoder_with_mean_pooling_trains_as_in_pytorch() {
    check("bert-mean");
}

#[test]
fn a_sharded_pretraining_checkpoint_trains_as_in_pytorch() {
    check("bert-mlm");
}

#[test]
fn roberta_trains_as_in_pytorch() {
    check("roberta");
}
