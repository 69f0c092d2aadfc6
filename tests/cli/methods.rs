//! Each method beside bitfit from end to end: it learns, resumes to the same bits, is measured, answers, is looked at and
//! merged. And its options go with it alone.
#![cfg(unix)]

use crate::common::*;
use crate::resume::{reaches, same_end};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// A method, its model, its options, and how the names of what trains in the encoder end.
struct Method {
    name: &'static str,
    options: &'static str,
    trains: &'static [&'static str],
}

const METHODS: [Method; 1] = [Method {
    name: "layernorm",
    options: "--lr 1e-2",
    trains: &["LayerNorm.weight", "LayerNorm.bias"],
}];

fn str_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

struct Trained {
    folder: Folder,
    model: PathBuf,
    data: PathBuf,
    run: PathBuf,
    options: String,
}

impl Trained {
    fn new(method: &Method, model: &Path, more: &str) -> Self {
        let folder = Folder::new();
        let data = folder.write("a.tsv", toy_tsv(48, 2));
        let run = folder.path("run");
        let options = format!(
            "--method {} {} --epochs 20 --batch-size 8 --dropout 0.1 --dev {} {more}",
            method.name,
            method.options,
            data.display()
        );
        train(model, &data, &run, &options);
        Self { folder, model: model.to_owned(), data, run, options }
    }

    fn of_run(&self, command: &str, run: &Path, more: &[&str]) -> Finished {
        let mut command = bitfit([command, "--delta"]);
        Finished::of(command.arg(run).args(more)).success()
    }
}

#[test]
fn each_method_learns_and_its_delta_holds_what_trained_and_nothing_else() {
    for method in &METHODS {
        for model in ["bert", "roberta"] {
            let trained = Trained::new(method, &fixture(model), "");
            let result = json(&trained.run.join("result.json"));
            assert!(number(&result["best"], "value") > 0.9, "{} {model}: {result}", method.name);
            let delta = tensors(&trained.run.join("bias.safetensors"));
            let values: usize = delta.values().map(|(_, values)| values.len()).sum();
            assert_eq!(number(&result, "trained_parameters"), values as f64);
            for name in delta.keys().filter(|name| !name.starts_with("classifier")) {
                let known = method.trains.iter().any(|end| name.ends_with(end));
                assert!(known, "{} {model}: {name}", method.name);
            }
            for end in method.trains {
                assert!(delta.keys().any(|name| name.ends_with(end)), "{}: {end}", method.name);
            }
            let about = metadata(&trained.run.join("bias.safetensors"));
            assert_eq!(about["method"], method.name);
        }
    }
}

#[test]
fn each_method_killed_twice_comes_to_the_same_bits() {
    for method in &METHODS {
        let whole = Trained::new(method, &fixture("bert"), "--save-steps 5");
        let output = whole.folder.path("killed");
        let args = train_args(&whole.model, &whole.data, &output, &whole.options);
        let mut child = bitfit(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut killed = 0;
        for lines in [12, 60] {
            if !reaches(&mut child, &output, lines) {
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            killed += 1;
            let mut again = bitfit(["train", "--resume", "--output"]);
            again.arg(&output).stdout(Stdio::null()).stderr(Stdio::null());
            child = again.spawn().unwrap();
        }
        assert!(child.wait().unwrap().success() && killed > 0, "{}", method.name);
        same_end(&whole.run, &output);
    }
}

#[test]
fn each_method_is_measured_answers_and_is_looked_at() {
    for method in &METHODS {
        let trained = Trained::new(method, &fixture("roberta"), "");
        let data = str_of(&trained.data);
        let measured = trained.folder.path("eval.json");
        let more = ["--threads", "1", "--data", data, "--output", str_of(&measured)];
        trained.of_run("eval", &trained.run, &more);
        let best = json(&trained.run.join("result.json"))["best"].clone();
        assert_eq!(number(&json(&measured), "accuracy"), number(&best, "value"), "{}", method.name);
        let answers = trained.of_run("predict", &trained.run, &["--input", data]).stdout;
        assert_eq!(answers.lines().count(), 49, "{answers}");
        let looked = trained.of_run("inspect", &trained.run, &[]).stdout;
        assert!(looked.contains(method.name) && looked.contains("mean |Δ"), "{looked}");
    }
}

#[test]
fn each_method_merged_answers_as_its_run() {
    for method in &METHODS {
        for (model, pooling) in [("bert", "cls"), ("roberta", "cls"), ("bert-mean", "mean")] {
            let more = format!("--weights f32 --precision f32 --pooling {pooling}");
            let trained = Trained::new(method, &fixture(model), &more);
            let merged = trained.folder.path("merged");
            trained.of_run("merge", &trained.run, &["--output", str_of(&merged)]);
            // Frozen but for the head, which starts from the merged one and does not move at a rate of almost 0.
            let head = match pooling {
                "mean" => merged.join("head.safetensors"),
                _ => merged.join("model.safetensors"),
            };
            let again = trained.folder.path("again");
            let options = format!(
                "--steps 1 --lr 1e-30 --method head --weights f32 --precision f32 --pooling {pooling} --init-head {}",
                head.display()
            );
            train(&merged, &trained.data, &again, &options);
            let data = str_of(&trained.data);
            let logits = |run: &Path| -> Vec<f64> {
                let more = ["--output-format", "jsonl", "--input", data];
                let out = trained.of_run("predict", run, &more).stdout;
                let lines = out.lines().map(|line| serde_json::from_str(line).unwrap());
                let all = lines.flat_map(|line: serde_json::Value| {
                    line["logits"].as_array().cloned().unwrap_or_default()
                });
                all.map(|logit| logit.as_f64().unwrap()).collect()
            };
            let (ours, merged) = (logits(&trained.run), logits(&again));
            assert_eq!((ours.len(), merged.len()), (96, 96));
            for (a, b) in ours.iter().zip(&merged) {
                assert!((a - b).abs() < 1e-4, "{} {model}: {a} and {b}", method.name);
            }
        }
    }
}
