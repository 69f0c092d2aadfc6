//! Model cards of merged models and adapters: what a delta and its run say, and never over an existing `README.md`.

use crate::common::*;
use serde_json::{Value, json as value};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn written(command: &str, run: &Path, to: &Path, more: &[&str]) -> Finished {
    let option = if command == "merge" { "--output" } else { "--peft" };
    Finished::of(bitfit([command, "--delta"]).arg(run).arg(option).arg(to).args(more))
}

fn trained(folder: &Folder, model: &str, options: &str) -> PathBuf {
    let (data, run) = (folder.write("a.tsv", toy_tsv(24, 3)), folder.path("run"));
    train(&fixture(model), &data, &run, &format!("--steps 3 --lr 1e-2 {options}"));
    run
}

/// The content between the two lines of dashes, by key.
fn head_of(card: &str) -> Vec<(String, Value)> {
    let (head, _) = card.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap();
    let pair = |line: &str| {
        let (key, value) = line.split_once(": ").unwrap();
        (key.to_owned(), serde_json::from_str(value).unwrap())
    };
    head.lines().map(pair).collect()
}

#[test]
fn a_card_says_what_the_delta_and_its_run_say_and_names_no_place() {
    for (model, options, command, library, pipeline) in [
        ("bert", "", "merge", "transformers", "text-classification"),
        ("bert-mean", "--pooling mean", "merge", "sentence-transformers", "feature-extraction"),
        ("roberta", "--weights f32", "export", "peft", "text-classification"),
    ] {
        let folder = Folder::new();
        let run = trained(&folder, model, &format!("--dev-fraction 0.25 {options}"));
        let made = folder.path("made");
        written(command, &run, &made, &[]).success();
        let card = fs::read_to_string(made.join("README.md")).unwrap();
        let head = head_of(&card);
        let says = |key: &str| head.iter().find(|(k, _)| k == key).map(|(_, value)| value.clone());
        assert_eq!(says("library_name").unwrap(), library);
        assert_eq!(says("pipeline_tag").unwrap(), pipeline);
        assert_eq!(says("metrics").unwrap(), value!(["accuracy", "f1", "matthews_correlation"]));
        // A folder is not a name that a hub knows.
        assert_eq!(says("base_model"), None);
        assert!(card.contains(&format!("`./{model}`")), "{card}");
        let result = json(&run.join("result.json"));
        let accuracy = number(&result["best"]["eval"], "accuracy");
        assert!(card.contains(&format!("| all | accuracy | {accuracy:.4} |")), "{card}");
        assert!(card.contains(r#"["land","people","sea"]"#), "{card}");
        assert!(card.contains("\nseed = 42\n") && card.contains("\ntrain = \"a.tsv\"\n"), "{card}");
        assert!(!card.contains(folder.path("").to_str().unwrap()), "{card}");
    }
}

#[test]
fn results_of_another_delta_are_not_this_ones() {
    let folder = Folder::new();
    let run = trained(&folder, "bert", "--dev-fraction 0.25");
    let mut result = json(&run.join("result.json"));
    result["sha256"] = value!("0".repeat(64));
    fs::write(run.join("result.json"), result.to_string()).unwrap();
    written("merge", &run, &folder.path("made"), &[]).success();
    let card = fs::read_to_string(folder.path("made").join("README.md")).unwrap();
    assert!(!card.contains("accuracy") && card.contains("## Training"), "{card}");
}

#[test]
fn a_card_that_is_there_stays_until_it_is_to_be_replaced() {
    for command in ["merge", "export"] {
        let folder = Folder::new();
        let run = trained(&folder, "bert", "--weights f32");
        let made = folder.path("made");
        fs::create_dir(&made).unwrap();
        let card = made.join("README.md");
        fs::write(&card, "my own").unwrap();
        let done = written(command, &run, &made, &[]).success();
        assert!(
            done.stderr.contains("README.md: this file exists and was kept"),
            "{}",
            done.stderr
        );
        assert_eq!(fs::read_to_string(&card).unwrap(), "my own");
        for name in names(&made).iter().filter(|name| *name != "README.md") {
            fs::remove_file(made.join(name)).unwrap();
        }
        let done = written(command, &run, &made, &["--replace-card"]).success();
        assert!(!done.stderr.contains("was kept"), "{}", done.stderr);
        assert!(fs::read_to_string(&card).unwrap().starts_with("---\n"));
    }
}

#[cfg(unix)]
#[test]
fn no_card_is_written_through_a_link() {
    for command in ["merge", "export"] {
        let folder = Folder::new();
        let run = trained(&folder, "bert", "--weights f32");
        let (made, elsewhere) = (folder.path("made"), folder.write("elsewhere", "theirs"));
        fs::create_dir(&made).unwrap();
        std::os::unix::fs::symlink(&elsewhere, made.join("README.md")).unwrap();
        written(command, &run, &made, &["--replace-card"]).fails(1, &["README.md", "is a link"]);
        assert_eq!(names(&made), ["README.md"]);
        written(command, &run, &made, &[]).success();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "theirs");
    }
}

/// Prints a card's results as the hub's own library reads them.
const READ_RESULTS: &str = "
import json, sys
from huggingface_hub import ModelCard
print(json.dumps([
    [r.task_type, r.dataset_type, r.dataset_name, r.dataset_config, r.dataset_split, r.metric_type, r.metric_name, r.metric_value]
    for r in ModelCard.load(sys.argv[1]).data.eval_results
]))";

#[test]
fn results_on_rows_from_the_hub_are_read_by_the_hubs_own_library() {
    let folder = Folder::new();
    let commit = "a".repeat(40);
    let set = folder.path("hub/datasets--nyu-mll--glue");
    fs::create_dir_all(set.join("refs")).unwrap();
    fs::write(set.join("refs/main"), &commit).unwrap();
    let glue = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/glue");
    let python = python_that("from huggingface_hub import ModelCard");
    for (task, title, splits) in [
        ("cola", "CoLA", &["validation"][..]),
        ("mnli", "MNLI", &["validation_matched", "validation_mismatched"]),
    ] {
        let to = set.join("snapshots").join(&commit).join(task);
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(glue.join(task)).unwrap() {
            let from = entry.unwrap().path();
            fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
        }
        let (run, made) = (folder.path(task), folder.path(&format!("{task}-model")));
        let mut train = bitfit(["train", "--task", task, "--threads", "1", "--epochs", "1"]);
        train.arg("--model").arg(fixture("bert")).arg("--output").arg(&run);
        train.env("HF_HUB_CACHE", folder.path("hub")).env("HF_HUB_OFFLINE", "1");
        Finished::of(&mut train).success();
        written("merge", &run, &made, &[]).success();
        let path = made.join("README.md");
        let card = fs::read_to_string(&path).unwrap();
        let head = head_of(&card);
        let index = &head.iter().find(|(key, _)| key == "model-index").unwrap().1;
        let mut all = Vec::new();
        let results = index[0]["results"].as_array().unwrap();
        assert_eq!(results.len(), splits.len());
        for (result, split) in results.iter().zip(splits) {
            let metrics = result["metrics"].as_array().unwrap();
            assert!(metrics.iter().any(|metric| metric["type"] == "accuracy"), "{result}");
            for metric in metrics {
                // The number is the one in the human-readable table.
                let value = metric["value"].as_f64().unwrap();
                assert!(card.contains(&format!("| {value:.4} |\n")), "{metric} in {card}");
                let (kind, name) = (&metric["type"], &metric["name"]);
                all.push(value!([
                    "text-classification",
                    "nyu-mll/glue",
                    title,
                    task,
                    split,
                    kind,
                    name,
                    value
                ]));
            }
        }
        let Some(python) = &python else {
            eprintln!("not read by huggingface_hub: no Python has it; BITFIT_PYTHON names one");
            continue;
        };
        let done = Finished::of(Command::new(python).args(["-c", READ_RESULTS]).arg(&path));
        let read: Value = serde_json::from_str(&done.success().stdout).unwrap();
        assert_eq!(read, Value::Array(all));
    }
}
