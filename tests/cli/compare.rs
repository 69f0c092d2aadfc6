//! `bitfit compare`: the same data in several ways, each in its own process, in one table and one picture.

use crate::common::*;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

fn compare(data: &Path, output: &Path, more: &[&str]) -> Command {
    let args = train_args(&fixture("bert"), data, output, "--epochs 2 --batch-size 8");
    let mut command = bitfit(["compare"]);
    command.args(&args[1..]).args(["--dev-fraction", "0.25"]).args(more);
    command
}

fn rows(output: &Path) -> Vec<Value> {
    json(&output.join("compare.json"))["rows"].as_array().unwrap().clone()
}

#[test]
fn three_methods_stand_side_by_side() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(48, 2));
    let output = folder.path("compare");
    // Under a head on the first tokens bias-only training keeps less of the last block.
    let run =
        Finished::of(&mut compare(&data, &output, &["--pooling", "mean", "--precision", "f32"]))
            .success();
    let rows = rows(&output);
    let names: Vec<_> = rows.iter().map(|row| row["run"].as_str().unwrap()).collect();
    assert_eq!(names, ["bitfit", "head", "full"]);
    let [bitfit, head, full] = [0, 1, 2].map(|i| &rows[i]);
    for key in ["trained_parameters", "allocated_bytes", "saved_bytes_per_token", "result_bytes"] {
        assert!(
            number(full, key) > number(bitfit, key) && number(bitfit, key) > number(head, key),
            "{key}: {rows:?}"
        );
    }
    // The same rows were held back: the accuracy is a share of the same twelve.
    for row in &rows {
        let twelfths = 12.0 * number(row, "dev");
        assert!((twelfths - twelfths.round()).abs() < 1e-9, "{row}");
        assert!(number(row, "seconds_per_step") > 0.0);
        assert_eq!(number(row, "planned_bytes"), number(row, "allocated_bytes"));
        if cfg!(target_os = "linux") {
            assert!(number(row, "peak_rss_bytes") > number(row, "allocated_bytes"));
        }
        let name = row["run"].as_str().unwrap();
        assert!(run.stdout.contains(name), "{}", run.stdout);
        // Each run is a run of its own.
        assert!(output.join(name).join("result.json").exists());
    }
    // What full fine-tuning keeps more is the activation's output: 128 f32 in each of two layers.
    let more = number(full, "saved_bytes_per_token") - number(bitfit, "saved_bytes_per_token");
    assert_eq!(more, 2.0 * 128.0 * 4.0);
    let markdown = fs::read_to_string(output.join("compare.md")).unwrap();
    assert_eq!(markdown.lines().count(), 5, "{markdown}");
    assert!(fs::read_to_string(output.join("compare.svg")).unwrap().contains("full"));
    assert!(fs::read(output.join("compare.png")).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn runs_have_options_of_their_own_and_are_not_repeated() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let output = folder.path("compare");
    let runs = ["--run", "head", "--run", "qi: --biases query,intermediate --lr 2e-3", "--quiet"];
    let first = Finished::of(&mut compare(&data, &output, &runs)).success();
    // So short a run may tell no classes apart, and that is said.
    assert!(first.stderr.lines().all(|line| line.starts_with("warning: ")), "{}", first.stderr);
    let before = fs::read(output.join("compare.json")).unwrap();
    let qi = &rows(&output)[1];
    assert_eq!((qi["biases"].as_str(), number(qi, "lr")), (Some("query,intermediate"), 2e-3));
    // Two layers of 64 + 128, and a head of two outputs.
    assert_eq!(number(qi, "trained_parameters"), 2.0 * (64.0 + 128.0) + 2.0 * 64.0 + 2.0);
    assert!(output.join("qi.toml").exists());

    let again = |more: &[&str]| {
        let more = [&runs[..], more].concat();
        Finished::of(&mut compare(&data, &output, &more))
    };
    again(&[]).fails(1, &["holds something", "--resume"]);
    again(&["--resume"]).success();
    assert_eq!(fs::read(output.join("compare.json")).unwrap(), before);
    again(&["--resume", "--weight-decay", "0.1"]).fails(1, &["head", "other settings"]);
}

#[test]
fn a_run_that_fails_is_named() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", "text\tlabel\na\tx\nb\tx\n");
    let output = folder.path("compare");
    let run = Finished::of(&mut compare(&data, &output, &["--run", "head"]));
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let errors: Vec<_> = run.stderr.lines().filter(|l| l.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 2, "the run's own, and what it means: {}", run.stderr);
    assert!(errors[1].contains("the run head ended with"), "{}", run.stderr);
}

#[test]
fn mistakes_are_found_before_anything_runs() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(12, 2));
    let output = folder.path("compare");
    let wrong = |more: &[&str], parts: &[&str]| {
        Finished::of(&mut compare(&data, &output, more)).fails(2, parts);
        assert!(!output.exists());
    };
    wrong(&["--method", "head"], &["--method belongs to a run"]);
    wrong(&["--biases", "query"], &["--biases belongs to a run"]);
    wrong(&["--run", "a", "--run", "a"], &["two runs are called `a`"]);
    wrong(&["--run", "a: --seed 3"], &["a: --seed must be the same"]);
    wrong(&["--run", "../a"], &["cannot be a run's name"]);
    wrong(&["--run", "full: --biases key"], &["full: --biases"]);
}
