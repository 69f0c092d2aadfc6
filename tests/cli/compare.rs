//! `bitfit compare`: the same data in several ways, as a sweep whose runs are named individually.

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

#[test]
fn three_methods_stand_side_by_side() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(48, 2));
    let output = folder.path("compare");
    // Under a head on the first tokens, bias-only training keeps less of the last block.
    let run =
        Finished::of(&mut compare(&data, &output, &["--pooling", "mean", "--precision", "f32"]))
            .success();
    let rows = sweep_rows(&output);
    let made: Vec<_> = rows.iter().map(|row| row["run"].as_str().unwrap()).collect();
    assert_eq!(made, ["bitfit", "head", "full"]);
    let [bitfit, head, full] = [0, 1, 2].map(|i| &rows[i]);
    for key in ["trained_parameters", "allocated_bytes", "saved_bytes_per_token", "result_bytes"] {
        assert!(
            number(full, key) > number(bitfit, key) && number(bitfit, key) > number(head, key),
            "{key}: {rows:?}"
        );
    }
    // The same rows were held back: the accuracy is a fraction of the same twelve.
    for row in &rows {
        let twelfths = 12.0 * number(row, "dev");
        assert!((twelfths - twelfths.round()).abs() < 1e-9, "{row}");
        assert!(number(row, "seconds_per_step") > 0.0);
        assert_eq!(number(row, "planned_bytes"), number(row, "allocated_bytes"));
        let name = row["run"].as_str().unwrap();
        assert!(run.stdout.contains(name), "{}", run.stdout);
        // Each run is a complete run.
        assert!(output.join(name).join("result.json").exists());
    }
    // Full fine-tuning additionally keeps the activation's output: 128 f32 in each of two layers.
    let more = number(full, "saved_bytes_per_token") - number(bitfit, "saved_bytes_per_token");
    assert_eq!(more, 2.0 * 128.0 * 4.0);
    let markdown = fs::read_to_string(output.join("sweep.md")).unwrap();
    assert!(markdown.contains("| full | "), "{markdown}");
    assert!(fs::read_to_string(output.join("report.html")).unwrap().contains("<svg"));
    let pictures = crate::common::names(&output.join("pictures"));
    assert!(pictures.iter().any(|name| name.ends_with(".png")));
    if cfg!(target_os = "linux") {
        assert!(run.stderr.contains("the process's peak "), "{}", run.stderr);
    }
}

#[test]
fn runs_have_options_of_their_own_and_are_not_repeated() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let output = folder.path("compare");
    let runs = ["--run", "head", "--run", "qi: --biases query,intermediate --lr 2e-3", "--quiet"];
    let first = Finished::of(&mut compare(&data, &output, &runs)).success();
    // Such a short run may not tell classes apart, which is reported.
    assert!(first.stderr.lines().all(|line| line.starts_with("warning: ")), "{}", first.stderr);
    let before = fs::read(output.join("sweep.jsonl")).unwrap();
    let qi = &sweep_rows(&output)[1];
    assert_eq!((qi["biases"].as_str(), number(qi, "lr")), (Some("query,intermediate"), 2e-3));
    // Two layers of 64 + 128, and a head of two outputs.
    assert_eq!(number(qi, "trained_parameters"), 2.0 * (64.0 + 128.0) + 2.0 * 64.0 + 2.0);
    assert!(output.join("qi.log").exists());

    let again = |more: &[&str]| {
        let more = [&runs[..], more].concat();
        Finished::of(&mut compare(&data, &output, &more))
    };
    again(&[]).fails(1, &["is not empty", "--resume"]);
    again(&["--resume"]).success();
    assert_eq!(fs::read(output.join("sweep.jsonl")).unwrap(), before);
    again(&["--resume", "--weight-decay", "0.1"])
        .fails(1, &["another sweep: in the run `head` ", "weight-decay was 0.0 and is 0.1"]);
}

#[test]
fn a_comparison_goes_on_with_the_runs_and_settings_in_its_folder() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let output = folder.path("compare");
    let runs = ["--run", "z: --method head", "--run", "qi: --biases query --lr 2e-3", "--quiet"];
    Finished::of(&mut compare(&data, &output, &runs)).success();
    let before = sweep_rows(&output);
    // As if it had been stopped before the second run, which is the first by name.
    fs::remove_dir_all(output.join("qi")).unwrap();
    fs::remove_file(output.join("sweep.jsonl")).unwrap();

    let again = |more: &[&str]| {
        Finished::of(bitfit(["compare", "--resume", "--quiet", "--output"]).arg(&output).args(more))
    };
    again(&["--lr", "0.5"]).fails(2, &["sweep.toml:", "the runs differ in `lr`", "leave --lr out"]);
    again(&["--weight-decay", "0.5"])
        .fails(1, &["another sweep", "weight-decay was 0.0 and is 0.5"]);
    again(&[]).success();
    let same = ["run", "lr", "biases", "trained_parameters", "dev"];
    let of = |rows: &[Value]| -> Vec<Vec<Value>> {
        rows.iter().map(|row| same.iter().map(|key| row[key].clone()).collect()).collect()
    };
    assert_eq!(of(&sweep_rows(&output)), of(&before));
    assert_eq!(sweep_rows(&output)[0]["run"], "z");

    again(&["--run", "x: --method head"]).fails(2, &["--run", "replaces both", "leave it"]);
    fs::write(output.join("sweep.toml"), "[[run]]\nname = \"../z\"").unwrap();
    again(&[]).fails(2, &["sweep.toml:1: `../z` cannot be a run's name"]);
    fs::write(output.join("sweep.toml"), "run = 3").unwrap();
    again(&[]).fails(2, &["sweep.toml:"]);
    fs::remove_file(output.join("sweep.toml")).unwrap();
    again(&[]).fails(2, &["has no comparison that records its runs"]);
}

/// Rows from different files must not share a table.
#[test]
fn runs_that_are_done_are_held_to_the_files_that_they_were_on() {
    let folder = Folder::new();
    let model = folder.copy_of("bert");
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let dev = folder.write("d.tsv", toy_tsv(8, 2));
    let weights = folder.write("w.json", r#"{"sea": 1, "land": 2}"#);
    let output = folder.path("compare");
    let args = train_args(&model, &data, &output, "--steps 2 --quiet");
    let mut first = bitfit(["compare"]);
    first.args(&args[1..]).arg("--dev").arg(&dev).args(["--run", "head", "--run"]);
    first.arg(format!("q: --biases query --class-weights {}", weights.display()));
    Finished::of(&mut first).success();
    let again =
        || Finished::of(bitfit(["compare", "--resume", "--quiet", "--output"]).arg(&output));
    again().success();
    let before = fs::read(output.join("sweep.jsonl")).unwrap();
    for (path, content, named) in [
        (&data, toy_tsv(26, 2), "training data was "),
        (&dev, toy_tsv(10, 2), "dev data was "),
        (&weights, r#"{"sea": 2, "land": 1}"#.to_owned(), "file of class weights was "),
    ] {
        let kept = fs::read(path).unwrap();
        fs::write(path, content).unwrap();
        again().fails(1, &["is done, with other files", named]);
        fs::write(path, kept).unwrap();
    }
    edit_tensors(&model.join("model.safetensors"), |tensors, _| {
        let bias = "bert.embeddings.LayerNorm.bias";
        tensors.get_mut(bias).unwrap().bytes[0] ^= 1;
    });
    again().fails(1, &["base weights was "]);
    fs::copy(fixture("bert").join("model.safetensors"), model.join("model.safetensors")).unwrap();
    assert_eq!(fs::read(output.join("sweep.jsonl")).unwrap(), before);
    // Without a checkpoint nothing can tell, which is reported.
    fs::remove_file(output.join("head/checkpoint.safetensors")).unwrap();
    let done = again().success();
    assert!(
        done.stderr.contains("warning: head: checkpoint.safetensors is missing"),
        "{}",
        done.stderr
    );
}

#[test]
fn data_that_no_run_can_use_are_refused_before_the_first() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", "text\tlabel\na\tx\nb\tx\n");
    let output = folder.path("compare");
    let run = Finished::of(&mut compare(&data, &output, &["--run", "head"]));
    run.fails(1, &["the run head: ", "a.tsv"]);
    assert!(!output.exists());
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
    wrong(&["--run", "sweep.jsonl"], &["`sweep.jsonl`", "has files of that name"]);
    wrong(&["--run", "full: --biases key"], &["full: --biases"]);
}
