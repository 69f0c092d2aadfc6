//! Input that may not be what it was taken for: reported or refused before anything is trained on it.

use crate::common::*;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// One training step on a model, to see the output.
fn tried(folder: &Folder, model: &Path, data: &Path, more: &str) -> Finished {
    let output = folder.path("run");
    let _ = fs::remove_dir_all(&output);
    let options = format!("--steps 1 {more}");
    Finished::of(&mut bitfit(train_args(model, data, &output, &options)))
}

/// The folder of a merged model with a head for this task.
fn merged(folder: &Folder, data: &Path, name: &str, more: &str) -> PathBuf {
    let run = folder.path(&format!("{name}-run"));
    train(&fixture("bert"), data, &run, &format!("--steps 1 {more}"));
    let to = folder.path(name);
    let mut merge = bitfit(["merge", "--delta"]);
    Finished::of(merge.arg(&run).arg("--output").arg(&to)).success();
    to
}

fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value = json(path);
    edit(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

#[test]
fn a_head_that_was_made_for_something_else_is_said_by_who_says_so() {
    let folder = Folder::new();
    let two = folder.write("two.tsv", toy_tsv(24, 2));
    let classes = merged(&folder, &two, "classes", "--pooling cls");
    let several = merged(&folder, &two, "several", "--pooling cls --task multi-label");
    let mean = merged(&folder, &two, "mean", "--pooling mean");
    let tokens = folder.copy_of("bert");
    fs::rename(&tokens, folder.path("tokens")).unwrap();
    let tokens = folder.path("tokens");
    fs::copy(classes.join("model.safetensors"), tokens.join("model.safetensors")).unwrap();
    edit_json(&tokens.join("config.json"), |config| {
        config["architectures"] = json!(["BertForTokenClassification"]);
    });
    let one = folder.path("one");
    fs::create_dir(&one).unwrap();
    fs::copy(classes.join("model.safetensors"), one.join("model.safetensors")).unwrap();
    fs::copy(classes.join("config.json"), one.join("config.json")).unwrap();
    edit_json(&one.join("config.json"), |config| {
        config["id2label"] = json!({"0": "score"});
        config["problem_type"] = Value::Null;
    });
    let weights = |model: &Path| model.join("model.safetensors");
    let delta = folder.path("classes-run").join("bias.safetensors");
    for (head, more, says) in [
        (
            weights(&classes),
            "--task multi-label",
            "single_label_classification, according to problem_type in",
        ),
        (
            weights(&several),
            "--pooling cls",
            "multi_label_classification, according to problem_type in",
        ),
        (
            weights(&classes),
            "--pooling mean",
            "a BertForSequenceClassification, according to architectures",
        ),
        (
            weights(&tokens),
            "--pooling cls",
            "a BertForTokenClassification, according to architectures in",
        ),
        (weights(&one), "--pooling cls", "regression, according to id2label in"),
        (
            mean.join("head.safetensors"),
            "--pooling cls",
            "the mean of the tokens, according to archi",
        ),
        (delta.clone(), "--task multi-label", "classification, according to the file itself"),
        (delta.clone(), "--pooling mean", "--pooling cls, according to the file itself"),
    ] {
        let more = format!("{more} --quiet --init-head {}", head.display());
        let run = tried(&folder, &fixture("bert"), &two, &more).success();
        let warning = run.stderr.lines().find(|line| line.contains("was made for"));
        let warning = warning.unwrap_or_else(|| panic!("{more}: {}", run.stderr));
        assert!(
            warning.starts_with("warning: --init-head: ") && warning.contains(says),
            "{warning}"
        );
    }
    for (head, more) in [
        (weights(&classes), "--pooling cls"),
        (weights(&several), "--pooling cls --task multi-label"),
        (mean.join("head.safetensors"), "--pooling mean"),
        (delta, "--pooling cls"),
    ] {
        let more = format!("{more} --init-head {}", head.display());
        let run = tried(&folder, &fixture("bert"), &two, &more).success();
        assert!(!run.stderr.contains("was made for"), "{more}: {}", run.stderr);
    }
    // A different number of outputs is refused by tensor, rather than first taken for some order.
    let three = folder.write("three.tsv", toy_tsv(24, 3));
    let more = format!("--pooling cls --init-head {}", weights(&classes).display());
    let run = tried(&folder, &fixture("bert"), &three, &more);
    run.fails(1, &["classifier.weight", "[2, 64]", "[3, 64]"]);
    assert!(run.stderr.contains("are for land, sea, but the task has 3 classes"), "{}", run.stderr);
}

#[test]
fn id2label_against_label2id_names_no_rows() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 3).replace("sea", "negative"));
    let model = folder.copy_of("bert");
    edit_json(&model.join("config.json"), |config| {
        config["label2id"] = json!({"negative": 1, "neutral": 0, "positive": 2});
    });
    let run = tried(&folder, &model, &data, "").success();
    let says = "its id2label says 0 for \"negative\", and its label2id 1";
    assert!(run.stderr.contains(says), "{}", run.stderr);
    let more = format!("--init-head {}", model.join("model.safetensors").display());
    let run = tried(&folder, &model, &data, &more).success();
    assert!(run.stderr.contains(says) && run.stderr.contains("in this order"), "{}", run.stderr);
}

#[test]
fn class_weights_are_shown_and_held_to_what_can_be() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let run = tried(&folder, &fixture("bert"), &data, "--class-weights balanced").success();
    let told = run.stderr.split("class weights:\n").nth(1).unwrap();
    let cells =
        |line: usize| -> Vec<&str> { told.lines().nth(line).unwrap().split_whitespace().collect() };
    assert_eq!(cells(0), ["class", "rows", "weight"]);
    assert_eq!(cells(2), ["land", "12", "1.0000"]);
    for (weights, says) in [
        (r#"{"sea": 1, "sea": 2, "land": 1}"#, "two weights for \"sea\""),
        (r#"{"sea": 1, "land": 1e30}"#, "a number from 0.000001 to 1000000"),
        (r#"{"sea": 1, "land": -1}"#, "a number from 0.000001 to 1000000"),
    ] {
        let file = folder.write("w.json", weights);
        let more = format!("--class-weights {}", file.display());
        tried(&folder, &fixture("bert"), &data, &more).fails(1, &["w.json", says]);
    }
}

#[test]
fn options_that_do_nothing_as_given_are_said() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let model = fixture("bert");
    let run = tried(&folder, &model, &data, "--batch-tokens 3").success();
    let says = "--batch-tokens 3: 24 of 24 texts are longer, up to ";
    assert!(run.stderr.contains(says), "{}", run.stderr);
    let run = tried(&folder, &model, &data, "--batch-tokens 64").success();
    assert!(!run.stderr.contains("are longer"), "{}", run.stderr);
    for metric in ["accuracy", "loss"] {
        let run = tried(&folder, &model, &data, &format!("--metric {metric}"));
        run.fails(2, &["--metric needs rows to evaluate on", "--dev-fraction"]);
        tried(&folder, &model, &data, &format!("--metric {metric} --dev-fraction 0.2")).success();
    }
    // What is kept without dev rows is reported, and its settings can be used again.
    let run = tried(&folder, &model, &data, "").success();
    assert!(run.stdout.contains("the last step's values: there are no dev rows"), "{}", run.stdout);
    let settings = folder.path("run").join("settings.toml");
    let mut again = bitfit(["train", "--quiet", "--config"]);
    again.arg(settings).arg("--output").arg(folder.path("again"));
    Finished::of(&mut again).success();
}

#[test]
fn texts_with_several_labels_and_numbers_as_names_are_said() {
    let folder = Folder::new();
    let model = fixture("bert");
    let said = |name: &str, content: &str, more: &str| {
        let data = folder.write(name, content);
        tried(&folder, &model, &data, more).success().stderr
    };
    let both = "text\tlabel\na cat\t1\na dog\t0\na cat\t0\na dog\t1\nfilm\t1\nfilm\t1\na cat\t1\n";
    let says = "2 texts are there more than once with different labels, the first on lines 2 and 4";
    for task in ["classification", "regression", "multi-label"] {
        let said = said("both.tsv", both, &format!("--task {task}"));
        assert!(said.contains(says), "{task}: {said}");
    }
    let said_of = said("same.tsv", "text\tlabel\na\tx\na\tx\nb\ty\n", "");
    assert!(!said_of.contains("more than once"), "{said_of}");
    let pairs = "sentence1\tsentence2\tlabel\na\tb\tx\na\tc\ty\na\tc\tx\n";
    let said_of = said("pairs.tsv", pairs, "");
    assert!(said_of.contains("1 text is there more than once"), "{said_of}");

    let scores = "text\tlabel\na\t0.5\nb\t1\nc\t1.5\nd\t0.5\n";
    let said_of = said("scores.tsv", scores, "--quiet");
    let says = "warning: the 3 classes are numbers";
    assert!(said_of.contains(says) && said_of.contains("--task regression"), "{said_of}");
    let said_of = said("stars.tsv", "text\tlabel\na\t1\nb\t2\nc\t3.0\n", "--quiet");
    assert!(!said_of.contains("--task regression"), "{said_of}");
}

#[test]
fn a_null_in_a_list_is_no_label_and_one_is_not_many() {
    let folder = Folder::new();
    let model = fixture("bert");
    for (name, content) in [
        (
            "a.jsonl",
            "{\"text\":\"a\",\"label\":[\"x\",null]}\n{\"text\":\"b\",\"label\":[\"y\"]}\n",
        ),
        ("a.tsv", "text\tlabel\na\t[\"x\", null]\nb\t[\"y\"]\n"),
    ] {
        let data = folder.write(name, content);
        let run = tried(&folder, &model, &data, "--task multi-label");
        run.fails(1, &[name, "a null", "which is not a label"]);
    }
    let data = folder.write("one.tsv", "text\tlabel\na\tx\nb\t\nc\tx\n");
    let run = tried(&folder, &model, &data, "--task multi-label").success();
    assert!(run.stderr.contains("1 label and its rows: \"x\" (2)"), "{}", run.stderr);
}

#[test]
fn a_pooling_module_that_pools_in_no_way_is_refused() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let model = folder.copy_of("bert");
    fs::create_dir(model.join("1_Pooling")).unwrap();
    let none = r#"{"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": false}"#;
    fs::write(model.join("1_Pooling/config.json"), none).unwrap();
    let run = tried(&folder, &model, &data, "");
    run.fails(1, &["1_Pooling/config.json switches off every kind of pooling", "--pooling mean"]);
    tried(&folder, &model, &data, "--pooling mean").success();
}

#[test]
fn quotes_behind_a_space_are_named_as_what_they_are_in_a_csv() {
    let folder = Folder::new();
    let model = fixture("bert");
    let fails = |content: &str, parts: &[&str]| {
        let data = folder.write("a.csv", content);
        let run = tried(&folder, &model, &data, "");
        let error = run.fails(1, parts);
        assert!(!error.contains("tsv"), "{error}");
    };
    let behind = "a space comes before one";
    fails("text,label\nfilm,x\ntrain, \"x, y\"\n", &["a.csv:3: 3 fields", behind]);
    fails(
        "text,label\nfilm, \"x\"\ntrain, \"y\"\n",
        &["a.csv:2: the label", "quote after a space"],
    );
    let data = folder.write("b.csv", "label,text\nx, \"film\"\ny,train\n");
    let run = tried(&folder, &model, &data, "").success();
    assert!(run.stderr.contains("1 text has a space and a quote"), "{}", run.stderr);
    let data = folder.write("c.csv", "text,label\nfilm,\"\"\"x\"\"\"\ntrain,y\n");
    tried(&folder, &model, &data, "").success();
}

#[test]
fn a_run_that_has_not_ended_is_said_wherever_its_delta_is_used() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let run = folder.path("whole");
    train(&fixture("bert"), &data, &run, "--steps 3 --batch-size 8 --dev-fraction 0.25");
    // As a kill after the last step leaves it.
    fs::remove_file(run.join("result.json")).unwrap();
    let says = "its run is not finished (step 3 of 3 is saved); continue it with `bitfit train --resume --output";
    let merged = folder.path("merged");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let commands = || {
        [
            vec!["eval".to_owned(), "--quiet".into(), "--data".into(), text(&data)],
            vec!["predict".to_owned(), "--quiet".into(), "--input".into(), text(&data)],
            vec!["merge".to_owned(), "--quiet".into(), "--output".into(), text(&merged)],
            vec!["inspect".to_owned()],
        ]
    };
    for command in commands() {
        let done = Finished::of(bitfit(&command).arg("--delta").arg(&run)).success();
        assert_eq!(done.stderr.matches(says).count(), 1, "{command:?}: {}", done.stderr);
    }
    fs::remove_dir_all(&merged).unwrap();
    // Without dev rows there is no delta before the end.
    let none = folder.path("none");
    fs::create_dir(&none).unwrap();
    fs::copy(run.join("metrics.jsonl"), none.join("metrics.jsonl")).unwrap();
    for command in commands() {
        let done = Finished::of(bitfit(&command).arg("--delta").arg(&none));
        done.fails(1, &["none has no delta or model yet", "no step of it is saved", "--resume"]);
    }
    Finished::of(bitfit(["train", "--resume", "--quiet", "--output"]).arg(&run)).success();
    fs::write(run.join("settings.toml"), "lr = [").unwrap();
    for command in commands() {
        let given = fixture("bert");
        let mut done = bitfit(&command);
        let done = Finished::of(done.arg("--delta").arg(&run).arg("--model").arg(given)).success();
        let says = "settings.toml: ";
        assert_eq!(done.stderr.matches(says).count(), 1, "{command:?}: {}", done.stderr);
        assert!(done.stderr.contains("these settings are not used"), "{}", done.stderr);
    }
    fs::remove_file(run.join("settings.toml")).unwrap();
    let resume = Finished::of(bitfit(["train", "--resume", "--output"]).arg(&run));
    resume.fails(2, &["has no settings.toml"]);
    Finished::of(&mut bitfit(["train", "--resume"])).fails(2, &["with --output"]);
    let resume =
        Finished::of(bitfit(["train", "--resume", "--output"]).arg(folder.path("none-such")));
    resume.fails(2, &["there is no folder", "none-such"]);
}

#[test]
fn a_merged_model_and_a_changed_base_say_what_they_are() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let run = folder.path("run-run");
    let merged = merged(&folder, &data, "run", "");
    for (command, option) in [("eval", "--data"), ("predict", "--input")] {
        let mut done = bitfit([command, option]);
        let done = Finished::of(done.arg(&data).arg("--delta").arg(&merged));
        done.fails(1, &["a merged model", "give the output folder of the run", "transformers"]);
    }
    let base = folder.copy_of("bert");
    edit_json(&base.join("config.json"), |config| config["num_hidden_layers"] = 1.into());
    for command in [
        ["eval".to_owned(), "--data".into(), data.to_str().unwrap().into()],
        ["predict".to_owned(), "--input".into(), data.to_str().unwrap().into()],
        ["merge".to_owned(), "--output".into(), folder.path("m").to_str().unwrap().into()],
    ] {
        let mut done = bitfit(&command);
        let done = Finished::of(done.arg("--delta").arg(&run).arg("--model").arg(&base));
        done.fails(1, &["config.json", "have changed since", "num_hidden_layers was 2 and is 1"]);
    }
    let mut done = bitfit(["inspect", "--delta"]);
    let done = Finished::of(done.arg(&run).arg("--model").arg(&base));
    done.fails(
        1,
        &["does not belong to this model: its config.json, or the settings in the delta"],
    );
}
